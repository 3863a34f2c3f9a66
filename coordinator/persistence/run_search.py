"""Which run's folder a coordinator works in: the one that was chosen, the newest unfinished one, or
a new one. Looks, and writes nothing.
"""

from datetime import UTC, datetime
from pathlib import Path

from coordinator.config import FederationConfig
from coordinator.persistence import ledger_url, ledgers
from coordinator.persistence.ledgers import IN_FOLDERS, Ledgers
from fedmqtt.settings import SettingsError

_SIGNS = ("model.safetensors", "history.jsonl")
"""Written only when the ledger knows of the run. (The first file in `models` is older.)"""


def choose(
    config: FederationConfig, among: Ledgers, chosen: Path | None, *, new: bool
) -> tuple[Path, bool]:
    """Which folder, and whether the run in it goes on. Raises SettingsError."""
    if chosen is not None:
        return chosen, _goes_on_in(chosen, among, new=new)
    if not new:
        _refuse_lost(config, among)
        if (newest := newest_unfinished(config, among)) is not None:
            return newest, True
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name, number = f"{config.name}-{stamp}", 1
    while _is_used(
        folder := Path(config.runs) / (name if number == 1 else f"{name}-{number}"), among
    ):
        number += 1
    return folder, False


def newest_unfinished(config: FederationConfig, among: Ledgers) -> Path | None:
    found = among.newest_first(config)
    return next((folder for folder in found if ledgers.is_unfinished(folder, among)), None)


def _goes_on_in(chosen: Path, among: Ledgers, *, new: bool) -> bool:
    if ledgers.is_unfinished(chosen, among):
        if new:
            raise SettingsError(f"{chosen} holds an unfinished run; --new needs another folder")
        return True
    if _is_lost(chosen, among):
        raise SettingsError(f"{_lost(chosen, among)}, or choose another folder with --run")
    if (chosen / "federation.toml").exists() or ledgers.has_begun(chosen, among):
        raise SettingsError(
            f"{chosen} holds a finished run, or settings; choose another folder with --run"
        )
    return False


def _refuse_lost(config: FederationConfig, among: Ledgers) -> None:
    """Not to begin anew, in silence, where a run would have gone on."""
    for folder in IN_FOLDERS.newest_first(config):
        if ledgers.has_begun(folder, among) or ledgers.is_finished(folder):
            # Whatever came before it, somebody has gone on from there.
            return
        if ledgers.is_unfinished(folder):
            raise SettingsError(
                f"{folder} holds an unfinished run with a ledger of its own: go on with it by"
                f" ledger = {ledger_url.IN_FOLDERS!r}, or begin another run with --new (and"
                f" initial_model = '{folder}/model.safetensors', to start from its model)"
            )
        if _is_lost(folder, among):
            raise SettingsError(f"{_lost(folder, among)}, or begin another run with --new")


def _is_used(folder: Path, among: Ledgers) -> bool:
    return folder.exists() or ledgers.has_begun(folder, among)


def _is_lost(folder: Path, among: Ledgers) -> bool:
    """Whether a run began here, and its ledger is gone or empty."""
    has_signs = any((folder / sign).exists() for sign in _SIGNS)
    return has_signs and not ledgers.has_begun(folder, among)


def _lost(folder: Path, among: Ledgers) -> str:
    return f"{folder} holds a run, and {among.lost_hint}"
