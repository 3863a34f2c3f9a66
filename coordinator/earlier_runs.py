"""What earlier runs of a federation told of one device, where they had noise.

A budget is of one run, and the next run begins another: also one that nobody meant to begin, as
after a reboot, where the run before had come to its end. What runs tell adds up.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from coordinator import history


def warning(folders: Iterable[Path]) -> str:
    """What the runs in these folders spent, newest first; empty where none had noise."""
    spent: list[float] = []
    unread: list[Path] = []
    for folder in folders:
        try:
            records = history.read_whole(folder / "history.jsonl")
        except FileNotFoundError:
            # Before its first round, or on another machine.
            continue
        except (OSError, msgspec.MsgspecError):
            unread.append(folder)
            continue
        told = [one.privacy.epsilon for one in records if one.privacy is not None]
        if told and max(told) > 0:
            spent.append(max(told))
    said = []
    if spent:
        runs = "1 run" if len(spent) == 1 else f"{len(spent)} runs"
        said = [
            f"before this run {runs} told up to epsilon {sum(spent):.4g} of one device in all; this"
            " one has a budget of its own, and comes on top of that (deltas add up, too)"
        ]
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        said += [
            "what an earlier run told is not known, as its history cannot be read:"
            f" {unread[0] / 'history.jsonl'}{more}"
        ]
    return "; ".join(said)
