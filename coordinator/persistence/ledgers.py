"""Where the ledgers of a federation's runs are: each in its run's folder, or all on a server.

A run is known by its folder. Where the ledgers are on a server, by what it is for and the folder's
name alone: on another machine it is the same run in another folder.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from coordinator.config import FederationConfig
from coordinator.persistence import ledger_url, sqlite_storage
from coordinator.persistence.run_errors import RunInUse
from coordinator.persistence.run_place import Place, in_time
from fedmqtt.folder_lock import FolderInUse, FolderLock
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError


class Ledgers(Protocol):
    """Of one federation. What it raises, beside what is said: LedgerError."""

    @property
    def name(self) -> str:
        """Of the server, as it is shown to people; empty where they are in folders."""

    @property
    def lost_hint(self) -> str:
        """What is missing, where a folder has a run and its ledger is gone; and what to do."""

    def facts(self, folder: Path) -> frozenset[str]:
        """The names of those that the run's ledger holds; none where there is no ledger."""

    def newest_first(self, config: FederationConfig) -> Iterator[Path]:
        """The folders of the runs that were begun without --run."""

    def records(self, folder: Path) -> Iterable[bytes]:
        """Of the run's closed rounds, oldest first, each as JSON; none where there is no ledger.
        Raises OSError, also while they are gone through."""

    def take(self, folder: Path) -> Place:
        """Make it ours. Raises RunInUse, and OSError where the folder cannot be made."""

    def may_be_free(self, folder: Path) -> bool:
        """Whether it is worth it to try, who stands by, and take it."""

    def close(self) -> None:
        """Runs that were taken are not touched by it."""


class InFolders:
    """Each in its run's folder: SQLite."""

    name: str = ""
    lost_hint: str = (
        "no ledger.db that knows of it: put back a copy of that file, and of ledger.db-wal where"
        " there was one"
    )

    def facts(self, folder: Path) -> frozenset[str]:
        return sqlite_storage.facts(folder)

    def newest_first(self, config: FederationConfig) -> Iterator[Path]:
        runs = Path(config.runs)
        names = [folder.name for folder in runs.iterdir()] if runs.is_dir() else []
        return (runs / name for name in in_time(names, config.name))

    def records(self, folder: Path) -> Iterator[bytes]:
        try:
            with (folder / "history.jsonl").open("rb") as lines:
                # The last one may not be whole yet.
                yield from (line for line in lines if line.endswith(b"\n"))
        except FileNotFoundError:
            return

    def take(self, folder: Path) -> Place:
        try:
            return Place(FolderLock(folder))
        except FolderInUse as used:
            raise RunInUse(str(used)) from used

    def may_be_free(self, folder: Path) -> bool:
        if not folder.exists():
            # It never began: whoever had it has taken it away.
            return True
        try:
            FolderLock(folder).release()
        except FolderInUse:
            return False
        return True

    def close(self) -> None:
        """Nothing is open."""


IN_FOLDERS = InFolders()


def has_begun(folder: Path, among: Ledgers = IN_FOLDERS) -> bool:
    """Whether there is a run, also one that is finished. Reads, never writes."""
    return "beginning" in among.facts(folder)


def is_unfinished(folder: Path, among: Ledgers = IN_FOLDERS) -> bool:
    """Whether there is a run that can be gone on with. Reads, never writes."""
    found = among.facts(folder)
    return "beginning" in found and not found & {"finished", sqlite_storage.MOVED}


def is_finished(folder: Path, among: Ledgers = IN_FOLDERS) -> bool:
    """Whether there is a run that has come to its end. Reads, never writes."""
    return "finished" in among.facts(folder)


def of(
    config: FederationConfig, gives_up: Callable[[], bool], purpose: Purpose = "train"
) -> Ledgers:
    """Those of runs of one purpose, by the settings. `gives_up` is asked while a server is away:
    whether to wait any longer.

    Raises SettingsError where there can be no way to it, LedgerError where there is none now.
    """
    if config.ledger == ledger_url.IN_FOLDERS:
        return IN_FOLDERS
    try:
        # Here: who has no server need not have what talks to it.
        from coordinator.persistence.postgresql_runs import OnServer
    except ImportError as bad:
        raise SettingsError(
            f"ledger is {ledger_url.shown(config.ledger)!r}, which needs what"
            f" `pip install 'fedmqtt[postgresql]'` brings: {_first_line(bad)}"
        ) from bad
    return OnServer(config, gives_up, purpose)


def _first_line(bad: ImportError) -> str:
    """The others are of what else was tried."""
    return (str(bad).splitlines() or [repr(bad)])[0].rstrip(".")
