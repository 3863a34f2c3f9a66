"""What a strategy remembers between rounds, as a file beside the model it belongs to.

    <run>/memory/<n>.safetensors       with models/<n>.safetensors; only the newest is kept
    <run>/memory/<n>-<r>.safetensors   of round r, which kept that model, where it changed memory

It is written before the ledger names the model, with its digest, and read when the run goes on: so
model and memory are always of the same round.
"""

import hashlib
from pathlib import Path

import safetensors
import safetensors.numpy

from coordinator.aggregation import Memory
from coordinator.persistence.durable import write_whole
from coordinator.persistence.ledger import MemoryFile
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt.topics import Digest


def save(run: Path, name: str, strategy: str, memory: Memory) -> MemoryFile:
    """When this returns, a loss of power would not lose it. Raises OSError."""
    path = run / "memory" / f"{name}.safetensors"
    data = safetensors.numpy.save(dict(memory))
    write_whole(path, data)
    digest = Digest(hashlib.sha256(data).hexdigest())
    return MemoryFile(strategy=strategy, file=str(path.relative_to(run)), digest=digest)


def load(run: Path, named: MemoryFile) -> Memory:
    """Raises LedgerDamaged on any other file than the one that was saved."""
    path = run / named.file
    try:
        data = path.read_bytes()
    except OSError as bad:
        why = f"{path}: {bad.strerror}; what {named.strategy} remembers is in it, by its ledger"
        raise LedgerDamaged(why) from bad
    if hashlib.sha256(data).hexdigest() != named.digest:
        raise LedgerDamaged(f"{path} is not what its ledger tells that {named.strategy} remembers")
    return safetensors.numpy.load(data)
