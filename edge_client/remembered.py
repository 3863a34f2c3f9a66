"""What a client remembers, as arrays: for the trainer's process, which has numpy.

Read from the device's memory before an answer is made; what it is to be afterwards is kept with the
answer, and becomes the memory when that is counted (`device_memory.py`).
"""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_client import device_memory
from edge_client.device_memory import Damaged, DeviceMemory, Header
from edge_client.session import Answer
from fedmqtt.topics import RoundId, RunId

Numbers = NDArray[Any]

_NONE = RoundId(0)
_TYPES = ("<f4", "<i4")

_log = logging.getLogger("client.memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """As of the answer that was counted last. The arrays are not to be written to."""

    round: RoundId = _NONE
    """Whose that was; 0: none has been counted."""
    lost: bool = False
    """What was counted is not known here any more."""
    facts: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, Numbers] = field(default_factory=dict)
    """Float32 or int32, of one dimension each."""


NOTHING = Remembered()


def read(memory: DeviceMemory, run: RunId) -> Remembered:
    """What is remembered of this run. A file that is not whole is dropped, and the log tells."""
    path = memory.committed(run)
    try:
        header, data = device_memory.read(path)
        if header.run != run:
            raise Damaged(f"{path} is of run {header.run}")
        return Remembered(
            round=header.round,
            lost=header.lost,
            facts=header.facts,
            arrays=_arrays(header, data),
        )
    except FileNotFoundError:
        return NOTHING
    except ValueError as bad:
        _log.warning("%s; what was remembered is dropped, and learned anew", bad)
        path.unlink(missing_ok=True)
        return NOTHING


def keep(memory: DeviceMemory, answer: Answer, remembered: Remembered) -> None:
    """It is to be remembered when this answer is counted."""
    arrays = {name: np.ascontiguousarray(array) for name, array in remembered.arrays.items()}
    header = Header(
        run=answer.run,
        round=remembered.round,
        facts=remembered.facts,
        arrays=tuple((name, array.dtype.str, array.size) for name, array in arrays.items()),
    )
    memory.keep(answer, header, [array.view(np.uint8).data for array in arrays.values()])


def _arrays(header: Header, data: memoryview) -> dict[str, Numbers]:
    """Raises ValueError where header and data do not fit."""
    arrays: dict[str, Numbers] = {}
    start = 0
    for name, kind, count in header.arrays:
        if kind not in _TYPES:
            raise ValueError(f"an array of type {kind!r}")
        arrays[name] = np.frombuffer(data, np.dtype(kind), count, start)
        start += arrays[name].nbytes
    return arrays
