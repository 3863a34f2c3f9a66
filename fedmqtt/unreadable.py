"""What parsers raise on bytes that they cannot read: more than errors of their own."""

import msgspec

MESSAGE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Of msgspec, for MessagePack and JSON. Text that is no UTF-8 it leaves to Python, and a few
kilobytes of nested lists are enough for a RecursionError."""

TOML = (ValueError, RecursionError)
"""Of tomllib. A number with more digits than Python reads is no TOMLDecodeError."""
