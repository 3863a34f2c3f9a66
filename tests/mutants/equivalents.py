"""Mutants that no test can tell from the file, because they do the same.

`equivalents.txt` holds them, by their text and not by their lines' numbers. A reason comes first,
and may be one for several:

    # Whoever has counted is in one of the two anyway.
    coordinator/rounds/state.py Collecting.owes
    - before
    + after
"""

from pathlib import Path

EQUIVALENTS = Path(__file__).with_name("equivalents.txt")


def read(path: Path = EQUIVALENTS) -> dict[str, str]:
    """The reason for each, by `Mutant.text`. Raises ValueError where one has none."""
    reasons = {}
    for paragraph in path.read_text().strip().split("\n\n"):
        lines = paragraph.splitlines()
        reason = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        mutants = [line for line in lines if not line.startswith("#")]
        if not reason or len(mutants) % 3:
            raise ValueError(f"expected a reason, and a place, a - and a + for each:\n{paragraph}")
        for first in range(0, len(mutants), 3):
            reasons["\n".join(mutants[first : first + 3])] = reason
    return reasons
