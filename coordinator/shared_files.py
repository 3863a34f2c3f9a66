"""The files of a run that who goes on with it elsewhere needs: models, and what belongs to them.

    write the file ──▶ put: the ledger has its bytes ──▶ the ledger names it as the newest model

They lie in the run's folder as ever. Where a program in another folder may go on with the run, the
ledger holds them as well, under their names below that folder; who comes makes its own folder so.
"""

from collections.abc import Iterable
from pathlib import Path

from coordinator import file_pieces
from coordinator.ledger import Ledger

_MODELS, _KEPT, _BASES = "models", "kept", "bases"
_NEWEST = (_MODELS, "memory", "published")
"""Folders of what belongs to the newest model, or to one that one can go back to."""


class SharedFiles:
    """Does nothing where the run's folder is all there is. Raises LedgerError, and OSError."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder

    def put(self, path: Path) -> None:
        """When this returns, who goes on with the run elsewhere finds it."""
        if self._ledger.is_elsewhere:
            self._ledger.put_file(self._name(path), path)

    def fetch_all(self, newest: Path) -> None:
        """Make the folder hold what was put, whatever lay there. `newest` is the newest model's."""
        for name, file in self._ledger.files().items():
            path = self._folder / name
            kept = self._folder / _KEPT / path.name
            # One that one can go back to was moved there, and may be the newest again.
            is_kept = _is_in(name, _MODELS) and (
                kept == newest or file_pieces.is_here(kept, file.digest)
            )
            if _is_in(name, *_NEWEST, _BASES):
                self._ledger.fetch_file(name, kept if is_kept else path)

    def fetch_secret(self, path: Path) -> None:
        """One that was put, to be read by nobody else. Raises LedgerDamaged where it was not."""
        if self._ledger.is_elsewhere:
            self._ledger.fetch_file(self._name(path), path, mode=0o600)

    def keep_only(self, paths: Iterable[Path]) -> None:
        """Forget all others of models, and of what belongs to them."""
        names = {self._name(path) for path in paths}
        self._forget(
            name for name in self._ledger.files() if _is_in(name, *_NEWEST) and name not in names
        )

    def drop(self, paths: Iterable[Path]) -> None:
        self._forget(self._name(path) for path in paths)

    def _forget(self, names: Iterable[str]) -> None:
        if self._ledger.is_elsewhere:
            self._ledger.forget_files(sorted(names))

    def _name(self, path: Path) -> str:
        name = path.relative_to(self._folder)
        return str(Path(_MODELS) / name.name if name.parts[0] == _KEPT else name)


def _is_in(name: str, *folders: str) -> bool:
    return name.partition("/")[0] in folders
