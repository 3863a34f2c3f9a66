"""What clients have, where it is not the coordinator's own model: as files beside that one.

    <run>/published/<digest>.model, <digest>.delta     only those of the newest model are kept

They are written before the ledger names the model, with their digests, and read when the run goes
on: so the next delta is of what clients really hold, and the deltas that an offer names are there.
"""

from collections.abc import Iterable
from pathlib import Path

from coordinator.persistence.durable import write_whole
from coordinator.persistence.ledger import PublishedFiles
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt import control, weights
from fedmqtt.deltas import Delta
from fedmqtt.messages import DeltaRef
from fedmqtt.topics import Digest
from fedmqtt.weights import Array, Layout, WeightsError


def save(run: Path, digest: Digest, file: bytes, deltas: Iterable[Delta]) -> PublishedFiles:
    """The model's file, and the deltas that lead to it. Raises OSError.

    When this returns, a loss of power would not lose it.
    """
    _write(_model_path(run, digest), file)
    refs: list[DeltaRef] = []
    for delta in deltas:
        _write(_delta_path(run, delta.ref.digest), delta.file)
        refs.append(delta.ref)
    return PublishedFiles(digest=digest, deltas=refs)


def load(run: Path, named: PublishedFiles, layout: Layout) -> tuple[Array, tuple[Delta, ...]]:
    """The published numbers, shape (size,), where there is one with their control behind them, and
    the deltas that lead to them.

    Raises LedgerDamaged on any other files than those that were saved.
    """
    path = _model_path(run, named.digest)
    try:
        found, published = weights.read(_read(path, named.digest))
    except WeightsError as bad:
        raise LedgerDamaged(f"{path}: {bad}") from bad
    own, _, _ = control.split(found, published)
    if own != layout:
        raise LedgerDamaged(f"{path} is of another layout than its ledger tells of")
    deltas = [Delta(ref, _read(_delta_path(run, ref.digest), ref.digest)) for ref in named.deltas]
    return published, tuple(deltas)


def paths(run: Path, named: PublishedFiles | None) -> set[Path]:
    """The files that it consists of."""
    if named is None:
        return set()
    return {
        _model_path(run, named.digest),
        *(_delta_path(run, delta.digest) for delta in named.deltas),
    }


def folder(run: Path) -> Path:
    return run / "published"


def _model_path(run: Path, digest: Digest) -> Path:
    return folder(run) / f"{digest}.model"


def _delta_path(run: Path, digest: Digest) -> Path:
    return folder(run) / f"{digest}.delta"


def _write(path: Path, data: bytes) -> None:
    # By name it has the same content, if it is whole: what was written with an earlier model.
    if not path.exists():
        write_whole(path, data)


def _read(path: Path, digest: Digest) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as bad:
        why = f"{path}: {bad.strerror}; what clients were given is in it, by its ledger"
        raise LedgerDamaged(why) from bad
    if weights.digest(data) != digest:
        raise LedgerDamaged(f"{path} is not what its ledger tells that clients were given")
    return data
