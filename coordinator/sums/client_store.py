"""Of each client a vector, on disk, for strategies that remember what every client gave.

    file:  slot | slot | slot ...
    slot:  sequence, 8 bytes | round, 8 | client's name, 64 | hash, 16 | int32 numbers, 4 x size

    begin(whose vectors are of which round, by the strategy's memory)
        put ──▶ a slot that holds none of these ──▶ force ──▶ the ledger names the new memory

What the memory names is never written over before the ledger names the memory after it. So a crash
at any moment leaves each vector that is named, and whatever else lies there is nobody's. No list of
free slots is kept anywhere: each slot says whose it is.

For that, a client and a round must name one vector for ever. Only of what was never named may there
be several with the same: a round that is folded again, after a kill, writes its own once more.
"""

import hashlib
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from coordinator.persistence import durable
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt.topics import ClientId, RoundId

Vector = NDArray[np.int32]

_NAME_BYTES, _HASH_BYTES = 64, 16
_HEADER_BYTES = 16 + _NAME_BYTES + _HASH_BYTES


_NONE: Mapping[ClientId, RoundId] = MappingProxyType({})


class StoreDamaged(LedgerDamaged):
    """What lies in the store is not what was written; says where."""


@dataclass(frozen=True, slots=True)
class _Slot:
    number: int
    round: RoundId
    sequence: int


class ClientStore:
    """Raises OSError when the disk does, StoreDamaged where it holds something else."""

    def __init__(self, path: Path | None, size: int) -> None:
        """In that file, whatever lies there already; or in one without a name, gone with this."""
        self._path = path
        if path is None:
            self._file = TemporaryFile(prefix="clients-", buffering=0)  # noqa: SIM115
        else:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        weakref.finalize(self, self._file.close)
        self._is_name_forced = path is None
        self._size = size
        self._slot_bytes = _HEADER_BYTES + 4 * size
        self._count = os.fstat(self._descriptor).st_size // self._slot_bytes
        self._named: dict[ClientId, _Slot] = {}
        """As the strategy's memory has it."""
        self._earlier: dict[ClientId, _Slot] = {}
        self._new: dict[ClientId, _Slot] = {}
        """Since."""
        self._found = self._scanned()
        self._sequence = max((slot.sequence for slot in self._found.values()), default=0)
        self._free: list[int] = []

    def begin(
        self, named: Mapping[ClientId, RoundId], earlier: Mapping[ClientId, RoundId] = _NONE
    ) -> None:
        """A round opens. What does not belong to these clients' rounds may be written over.

        Of some clients an `earlier` vector is kept too. Raises StoreDamaged where one is missing.
        """
        there = dict(self._found)
        for slots in (self._new, self._earlier, self._named):
            there |= {(client, one.round): one for client, one in slots.items()}
        self._named = self._among(there, named)
        self._earlier = self._among(there, earlier)
        self._new, self._found = {}, {}
        taken = {slot.number for slot in (*self._named.values(), *self._earlier.values())}
        self._free = [number for number in range(self._count, -1, -1) if number not in taken]

    def _among(
        self, there: Mapping[tuple[ClientId, RoundId], _Slot], named: Mapping[ClientId, RoundId]
    ) -> dict[ClientId, _Slot]:
        if lost := sorted(client for client in named if (client, named[client]) not in there):
            raise StoreDamaged(
                f"{self._path}: what {lost[0]} gave is not there any more"
                + (f", nor what {len(lost) - 1} others did" if len(lost) > 1 else "")
            )
        return {client: there[client, number] for client, number in named.items()}

    def __contains__(self, client: ClientId) -> bool:
        return client in self._new or client in self._named

    def before(self, client: ClientId) -> Vector | None:
        """As it was when the round opened, shape (size,); None where it is not there."""
        slot = self._named.get(client)
        return None if slot is None else self._read(client, slot)

    def earlier(self, client: ClientId) -> Vector | None:
        """The earlier one that was kept too, shape (size,)."""
        slot = self._earlier.get(client)
        return None if slot is None else self._read(client, slot)

    def now(self, client: ClientId) -> Vector | None:
        """The same, with what has been put since."""
        slot = self._new.get(client) or self._named.get(client)
        return None if slot is None else self._read(client, slot)

    def put(self, client: ClientId, number: RoundId, values: Vector) -> None:
        """`values`, shape (size,), as of that round: not one of which one is named already."""
        named = (self._named.get(client), self._earlier.get(client))
        assert all(slot is None or slot.round != number for slot in named), "named already"
        before = self._new.get(client)
        place = before.number if before is not None else self._take_free()
        self._sequence += 1
        self._new[client] = _Slot(place, number, self._sequence)
        data = np.ascontiguousarray(values, "<i4").data.cast("B")
        header = self._sequence.to_bytes(8) + int(number).to_bytes(8)
        header += client.encode().ljust(_NAME_BYTES, b"\0")
        hashed = hashlib.blake2b(header, digest_size=_HASH_BYTES)
        hashed.update(data)
        start = place * self._slot_bytes
        # The header last: a slot of which only a part was written is found to be none by its hash.
        self._write(data, start + _HEADER_BYTES)
        self._write(memoryview(header + hashed.digest()), start)

    def force(self) -> None:
        """When this returns, a loss of power would not lose what was put."""
        os.fsync(self._descriptor)
        if not self._is_name_forced and self._path is not None:
            # An earlier life may have ended before it did.
            durable.force(self._path.parent)
            self._is_name_forced = True

    @property
    def _descriptor(self) -> int:
        return self._file.fileno()

    def _take_free(self) -> int:
        number = self._free.pop()
        if number == self._count:
            self._count += 1
            self._free.insert(0, self._count)
        return number

    def _write(self, data: memoryview, at: int) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, at)
            data, at = data[written:], at + written

    def _read(self, client: ClientId, slot: _Slot) -> Vector:
        data = os.pread(self._descriptor, self._slot_bytes, slot.number * self._slot_bytes)
        header, digest = data[: 16 + _NAME_BYTES], data[16 + _NAME_BYTES : _HEADER_BYTES]
        hashed = hashlib.blake2b(header, digest_size=_HASH_BYTES)
        hashed.update(memoryview(data)[_HEADER_BYTES:])
        if len(data) != self._slot_bytes or hashed.digest() != digest:
            raise StoreDamaged(f"{self._path}: what client {client} gave is not as it was written")
        return np.frombuffer(data, "<i4", offset=_HEADER_BYTES).astype(np.int32, copy=False)

    def _scanned(self) -> dict[tuple[ClientId, RoundId], _Slot]:
        """Whose slots say they are what; of two that say the same, the one that was written last.

        A round that was folded twice, before a kill and after, has written both.
        """
        found: dict[tuple[ClientId, RoundId], _Slot] = {}
        for number in range(self._count):
            header = os.pread(self._descriptor, _HEADER_BYTES, number * self._slot_bytes)
            sequence, round_id = int.from_bytes(header[:8]), RoundId(int.from_bytes(header[8:16]))
            name = header[16 : 16 + _NAME_BYTES].rstrip(b"\0").decode(errors="replace")
            key = (ClientId(name), round_id)
            if key not in found or found[key].sequence < sequence:
                found[key] = _Slot(number, round_id, sequence)
        return found
