"""What earlier runs of a federation told of one device.

A budget is of one run, and the next run begins another: also one that nobody meant to begin, as
after a reboot, where the run before had come to its end. What runs tell adds up.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from coordinator.config import FederationConfig
from coordinator.persistence.ledgers import IN_FOLDERS, Ledgers
from fedmqtt.status_pages import Privacy


class _Told(Struct, frozen=True):
    """What matters here of a record: who was invited to each round may be megabytes."""

    outcome: str
    privacy: Privacy | None = None


_DECODER = msgspec.json.Decoder(_Told)


def of(config: FederationConfig, among: Ledgers) -> Iterator[tuple[Path, Ledgers]]:
    """A federation's runs that were begun without --run, newest first, and where each one's ledger
    is: `among` these; or in its folder, where it was begun before `ledger` named a server. Raises
    LedgerError."""
    there = [*among.newest_first(config)]
    names = {folder.name for folder in there}
    yield from ((folder, among) for folder in there)
    here = IN_FOLDERS.newest_first(config)
    yield from ((folder, IN_FOLDERS) for folder in here if folder.name not in names)


def warning(runs: Iterable[tuple[Path, Ledgers]]) -> str:
    """What these told of one device; empty where there is nothing to say. Raises LedgerError."""
    spent: list[float] = []
    plain = 0
    unread: list[Path] = []
    for folder, among in runs:
        try:
            epsilon = _epsilon(among.records(folder))
        # Text that is no UTF-8 is a ValueError of its own.
        except (OSError, ValueError):
            unread.append(folder)
            continue
        if epsilon is None:
            plain += 1
        elif epsilon > 0:
            spent.append(epsilon)
    said = []
    if spent:
        said = [
            f"before this run {_runs(len(spent))} told up to epsilon {sum(spent):.4g} of one device"
            " in all; this one has a budget of its own, and comes on top of that (deltas add up,"
            " too)"
        ]
    if plain:
        said += [f"before this run {_runs(plain)} had no noise: no epsilon bounds what was told"]
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        said += [
            "what an earlier run told is not known, as its history cannot be read:"
            f" {unread[0]}{more}"
        ]
    return "; ".join(said)


def _epsilon(records: Iterable[bytes]) -> float | None:
    """What a run came to; None where it made models without noise. Raises ValueError."""
    most, made_models = None, False
    for told in map(_DECODER.decode, records):
        if told.privacy is not None:
            most = max(most or 0.0, told.privacy.epsilon)
        made_models |= told.outcome == "averaged"
    return most if most is not None or made_models else 0.0


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
