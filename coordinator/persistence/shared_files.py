"""The files of a run that who goes on with it elsewhere needs: models, and what belongs to them.

    write the file ──▶ put: it lies elsewhere too ──▶ the ledger names it as the newest model

They lie in the run's folder as ever. Beside it, in an object store where there is one; else in the
ledger, where a program in another folder may go on with the run. Who comes makes its own folder so.
"""

from collections.abc import Iterable
from pathlib import Path

from coordinator.models.object_store import ObjectStore
from coordinator.persistence import file_pieces
from coordinator.persistence.file_pieces import FileDamaged
from coordinator.persistence.ledger import Ledger, SharedFile
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt.topics import RunId

_MODELS, _KEPT, _BASES = "models", "kept", "bases"
_NEWEST = (_MODELS, "memory", "published")
"""Folders of what belongs to the newest model, or to one that one can go back to."""
NOISE_KEY = "noise.key"
"""A secret."""


class SharedFiles:
    """Does nothing where the run's folder is all there is. Raises LedgerError, and OSError."""

    def __init__(self, ledger: Ledger, folder: Path, objects: ObjectStore | None) -> None:
        self._ledger = ledger
        self._folder = folder
        self._objects = objects
        self._begun: RunId | None = None

    def begin(self, run: RunId) -> None:
        """Files of this run are put from now on. The ledger does not know of it yet: it names the
        first of them as it begins."""
        self._begun = run

    def put(self, path: Path) -> None:
        """When this returns, who goes on with the run elsewhere finds it."""
        name = name_of(self._folder, path)
        if self._objects is None:
            self.put_secret(path)
            return
        before = self._ledger.files().get(name)
        address = self._objects.put(self._run, name, path)
        self._ledger.name_file(name, file_pieces.digest_of(path), address)
        self._delete([before] if before is not None else [])

    def put_secret(self, path: Path) -> None:
        """The same, and never in an object store."""
        if self._ledger.is_elsewhere:
            self._ledger.put_file(name_of(self._folder, path), path)

    def fetch_all(self, newest: Path) -> None:
        """Make the folder hold what was put, whatever lay there. `newest` is the newest model's."""
        files = self._ledger.files()
        for name, file in files.items():
            path = self._folder / name
            kept = self._folder / _KEPT / path.name
            # One that one can go back to was moved there, and may be the newest again.
            is_kept = _is_in(name, _MODELS) and (
                kept == newest or file_pieces.is_here(kept, file.digest)
            )
            if _is_in(name, *_NEWEST, _BASES):
                self._fetch(name, file, kept if is_kept else path)
        if self._objects is not None:
            named = {file.address for file in files.values()}
            lying = self._objects.left_behind(self._run)
            self._objects.delete(address for address in lying if address not in named)

    def fetch_secret(self, path: Path) -> None:
        """One that was put, to be read by nobody else. Raises LedgerDamaged where it was not."""
        if self._ledger.is_elsewhere:
            self._ledger.fetch_file(name_of(self._folder, path), path, mode=0o600)

    def keep_only(self, paths: Iterable[Path]) -> None:
        """Forget all others of models, and of what belongs to them."""
        names = {name_of(self._folder, path) for path in paths}
        self._forget(
            name for name in self._ledger.files() if _is_in(name, *_NEWEST) and name not in names
        )

    def drop(self, paths: Iterable[Path]) -> None:
        self._forget(name_of(self._folder, path) for path in paths)

    @property
    def _run(self) -> RunId:
        if self._begun is None:
            beginning = self._ledger.beginning()
            assert beginning is not None
            self._begun = beginning.run
        return self._begun

    def _fetch(self, name: str, file: SharedFile, path: Path) -> None:
        if file.address is None:
            self._ledger.fetch_file(name, path)
            return
        if file_pieces.is_here(path, file.digest):
            return
        if self._objects is None:
            raise LedgerDamaged(f"{path}: it lies in {file.address}, and checkpoint.store is empty")
        try:
            pieces = self._objects.pieces(file.address)
            file_pieces.fetch(path, pieces, file.digest, file.address)
        except FileDamaged as bad:
            raise LedgerDamaged(str(bad)) from bad

    def _forget(self, names: Iterable[str]) -> None:
        files = self._ledger.files()
        gone = sorted(set(names) & files.keys())
        self._ledger.forget_files(gone)
        # Only now: who could not write to the ledger any more must delete nothing.
        self._delete(files[name] for name in gone)

    def _delete(self, files: Iterable[SharedFile]) -> None:
        addresses = [file.address for file in files if file.address is not None]
        if self._objects is not None and addresses:
            self._objects.delete(addresses)


def name_of(run: Path, path: Path) -> str:
    """By which one of the files in this run's folder is put. Kept for going back or the newest, a
    model has one name."""
    name = path.relative_to(run)
    return str(Path(_MODELS) / name.name if name.parts[0] == _KEPT else name)


def _is_in(name: str, *folders: str) -> bool:
    return name.partition("/")[0] in folders
