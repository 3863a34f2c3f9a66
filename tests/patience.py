"""How long tests wait: generous, as it ends what hangs and does not judge speed."""

from typing import Final

WITHIN_S: Final = 120.0
"""For another thread, or a word of another process."""
ENDS_WITHIN_S: Final = 240.0
"""For a program to do all its work, and end."""
