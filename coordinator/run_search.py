"""Which run's folder a coordinator works in: the one that was chosen, the newest unfinished one, or
a new one. Looks, and writes nothing.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from coordinator import ledger
from coordinator.config import FederationConfig
from fedmqtt.settings import SettingsError

_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?")
_SIGNS = ("model.safetensors", "history.jsonl")
"""Written only when the ledger knows of the run. (The first file in `models` is older.)"""


def choose(config: FederationConfig, chosen: Path | None, *, new: bool) -> tuple[Path, bool]:
    """Which folder, and whether the run in it goes on. Raises SettingsError."""
    if chosen is not None:
        return chosen, _goes_on_in(chosen, new=new)
    if not new:
        _refuse_lost(config)
        if (newest := newest_unfinished(config)) is not None:
            return newest, True
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name, number = f"{config.name}-{stamp}", 1
    while (folder := Path(config.runs) / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder, False


def newest_unfinished(config: FederationConfig) -> Path | None:
    return next(filter(ledger.is_unfinished, _newest_first(config)), None)


def _goes_on_in(chosen: Path, *, new: bool) -> bool:
    if ledger.is_unfinished(chosen):
        if new:
            raise SettingsError(f"{chosen} holds an unfinished run; --new needs another folder")
        return True
    if _is_lost(chosen):
        raise SettingsError(f"{_lost(chosen)}, or choose another folder with --run")
    if (chosen / "federation.toml").exists() or ledger.has_begun(chosen):
        raise SettingsError(
            f"{chosen} holds a finished run, or settings; choose another folder with --run"
        )
    return False


def _refuse_lost(config: FederationConfig) -> None:
    """Not to begin anew, in silence, where a run would have gone on."""
    for folder in _newest_first(config):
        if ledger.has_begun(folder):
            # Whatever came before it, somebody has gone on from there.
            return
        if _is_lost(folder):
            raise SettingsError(f"{_lost(folder)}, or begin another run with --new")


def _newest_first(config: FederationConfig) -> Iterator[Path]:
    found = [
        folder
        for folder in Path(config.runs).glob(f"{config.name}-*")
        # A run of "a-b" is none of "a".
        if _STAMP.fullmatch(folder.name.removeprefix(config.name))
    ]
    yield from sorted(found, key=lambda folder: folder.name, reverse=True)


def _is_lost(folder: Path) -> bool:
    """Whether a run began here, and its ledger is gone or empty."""
    return any((folder / sign).exists() for sign in _SIGNS) and not ledger.has_begun(folder)


def _lost(folder: Path) -> str:
    return (
        f"{folder} holds a run, and no ledger.db that knows of it: put back a copy of that file,"
        " and of ledger.db-wal where there was one"
    )
