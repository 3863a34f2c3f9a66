"""Which run's folder a coordinator works in: the one that was chosen, the newest unfinished one, or
a new one. Looks, and writes nothing but log.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from coordinator.config import FederationConfig
from coordinator.persistence import ledgers, moved_ledger
from coordinator.persistence.ledgers import IN_FOLDERS, Ledgers
from coordinator.persistence.moved_ledger import Move
from coordinator.persistence.run_place import in_time
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError

_log = logging.getLogger("coordinator")

_SIGNS = ("model.safetensors", "history.jsonl")
"""Written only when the ledger knows of the run. (The first file in `models` is older.)"""


def choose(
    config: FederationConfig,
    among: Ledgers,
    chosen: Path | None,
    *,
    new: bool,
    purpose: Purpose = "train",
) -> tuple[Path, bool]:
    """Which folder, and whether the run in it goes on. Raises SettingsError."""
    if chosen is not None:
        return chosen, _goes_on_in(chosen, among, new=new)
    if not new and (found := _to_go_on_with(config, among, purpose)) is not None:
        return found, True
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


def finished_last(config: FederationConfig, among: Ledgers) -> Path | None:
    """The folder of the run that was begun last, where that has come to its end: by `among`, or by
    a ledger in its folder, from before `ledger` named a server."""
    places = (among, IN_FOLDERS)
    names = {folder.name for place in places for folder in place.newest_first(config)}
    for folder in (Path(config.runs) / name for name in in_time(names, config.name)):
        if any(ledgers.has_begun(folder, place) for place in places):
            is_finished = any(ledgers.is_finished(folder, place) for place in places)
            return folder if is_finished else None
    return None


def has_to_move(folder: Path, among: Ledgers) -> bool:
    """Whether the ledger of an unfinished run lies in this folder and belongs on a server from now
    on. Raises SettingsError where it has gone, or was on its way, to another place than `among`."""
    moved = moved_ledger.of(folder)
    if among is IN_FOLDERS:
        if moved is not None:
            raise SettingsError(_elsewhere(folder, moved))
        return False
    if ledgers.has_begun(folder, among):
        return False
    if moved is None:
        return ledgers.is_unfinished(folder)
    if moved.is_done:
        # And that server knows nothing of it: it is lost.
        return False
    if moved.to != among.name:
        raise SettingsError(_elsewhere(folder, moved))
    return True


def _elsewhere(folder: Path, moved: Move) -> str:
    went = "has moved" if moved.is_done else "was on its way, when that was broken off,"
    return (
        f"the ledger of the run in {folder} {went} to {moved.to}: go on with it by that `ledger`,"
        f" or begin another run with --new (and initial_model = '{folder}/model.safetensors', to"
        " start from its model)"
    )


def _goes_on_in(chosen: Path, among: Ledgers, *, new: bool) -> bool:
    if ledgers.is_unfinished(chosen, among) or has_to_move(chosen, among):
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


def _to_go_on_with(config: FederationConfig, among: Ledgers, purpose: Purpose) -> Path | None:
    """The folder of the newest run, where that has to move to `among`, or of the newest that is
    unfinished. Not to begin anew, in silence, where a run would have gone on, raises SettingsError
    where training's is lost."""
    for folder in IN_FOLDERS.newest_first(config):
        if has_to_move(folder, among):
            return folder
        if ledgers.has_begun(folder, among) or ledgers.is_finished(folder):
            # Whatever came before it, somebody has gone on from there.
            break
        if _is_lost(folder, among):
            if purpose != "train":
                # No model is lost with it: its clients are asked once more.
                _log.warning("%s; another is begun", _lost(folder, among))
                return None
            raise SettingsError(f"{_lost(folder, among)}, or begin another run with --new")
    return newest_unfinished(config, among)


def _is_used(folder: Path, among: Ledgers) -> bool:
    return folder.exists() or ledgers.has_begun(folder, among)


def _is_lost(folder: Path, among: Ledgers) -> bool:
    """Whether a run began here, and its ledger is gone or empty."""
    has_signs = any((folder / sign).exists() for sign in _SIGNS)
    return has_signs and not ledgers.has_begun(folder, among)


def _lost(folder: Path, among: Ledgers) -> str:
    return f"{folder} holds a run, and {among.lost_hint}"
