"""What the agent and a trainer's process say to each other, as a stream of MessagePack.

    agent ──▶ trainer    Job, Rebuild, Stop
    trainer ──▶ agent    Progress, Done, Rebuilt, Failed

The pipe has no frames of its own: MessagePack values follow one another, and msgpack's Unpacker
finds where each ends.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec
from msgspec import Struct

from fedmqtt.messages import PLAIN, Method, Purpose, SiteTerms, Training
from fedmqtt.topics import ClientId, Digest, RoundId, RunId


class Mask(Struct, frozen=True, kw_only=True):
    """How an answer is masked before it leaves the trainer, and by whose keys it is signed."""

    masking: bytes
    """The offer's, as it is encoded: it may have longer lists than the pipe lets through."""
    federation: str
    signing_key: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"<mask of {len(self.masking)} bytes>"


class Job(Struct, frozen=True, kw_only=True, tag="job"):
    """One round's work for one client: the model at `model_path`, the answer to `outbox`."""

    client: ClientId
    purpose: Purpose
    task: str
    data_dir: str
    model_path: str
    outbox: str
    run: RunId
    round: RoundId
    base: Digest
    measure_base: bool
    """Evaluate the base too, before training."""
    fingerprint: str
    """Of the model, as it was offered: another one is not trained."""
    training: Training
    codec: str
    seed: int
    method: Method = PLAIN
    memory: str = ""
    """The folder of what is kept from one round for the next."""
    stop_at: float = math.inf
    """When training ends with what it has, on the clock of `time.monotonic`, which both processes
    share."""
    steps_max: int = 0
    """After so many steps too; 0: as many as it takes. For devices that are played."""
    label: str = ""
    tells_device: bool = False
    """Its answer says what it is: in a quiet federation its presence does not."""
    """What the owner calls this kind of device."""
    mask: Mask | None = None
    """None: the answer can be read by the coordinator."""
    closes_at: float = math.inf
    """When nobody waits for the answer any more, as far as that is known, on the same clock."""
    sites: SiteTerms | None = None
    """By what an answer may stand for several devices: for sites."""
    report_s: float = math.inf
    """How far it is, is told after so long too, and not in steps of the whole alone."""


class Rebuild(Struct, frozen=True, kw_only=True, tag="rebuild"):
    """Make the model at `model_path` of the one at `base_path`, by deltas in their order."""

    base_path: str
    delta_paths: list[str]
    model_path: str
    digest: Digest
    """Of the model's file."""


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """Give up the job; `Failed` with `STOPPED` follows, unless it was done already."""


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the training is; batches as they were counted, 0 where they cannot be."""

    fraction: float
    epoch: int = 0
    """The one that it is in, from 1."""
    epochs: int = 0
    batch: int = 0
    """Of that epoch, the last that is done."""
    batches: int = 0
    """Of one epoch."""


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The answer lies in the outbox."""

    run: RunId
    round: RoundId
    digest: Digest
    size_bytes: int


class Rebuilt(Struct, frozen=True, kw_only=True, tag="rebuilt"):
    """The model lies there, and is the one that was wanted."""


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    reason: str


STOPPED = "stopped"

ToTrainer = Job | Rebuild | Stop
FromTrainer = Progress | Done | Rebuilt | Failed


_MESSAGE_BYTES_MAX = 1024 * 1024
"""Far above what either side says."""
_LENGTH_MAX = 200
"""Of a list: more than there are deltas, or patterns of layers."""
_BUFFER_BYTES = 4096


class PipeError(ValueError):
    """What came is no message: a task has written into a pipe that is not its own."""


def pack(message: ToTrainer | FromTrainer) -> bytes:
    return msgspec.msgpack.encode(message)


class Reader:
    """Bytes in, messages out, whole ones only.

    Raises PipeError on bytes that are none, and is of no use then: where the next message begins
    cannot be known.
    """

    def __init__(self) -> None:
        # Its own choice for a first buffer is a megabyte, which an idle device would carry.
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=_MESSAGE_BYTES_MAX,
            read_size=_BUFFER_BYTES,
            # It makes room for as many as are told, at each of 512 levels.
            max_array_len=_LENGTH_MAX,
            max_map_len=_LENGTH_MAX,
        )

    def feed(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
        except msgpack.BufferFull as bad:
            raise PipeError(f"more than {_MESSAGE_BYTES_MAX} bytes and no end") from bad

    def to_trainer(self) -> Iterator[ToTrainer]:
        while (message := self._next(ToTrainer)) is not None:
            yield message

    def from_trainer(self) -> Iterator[FromTrainer]:
        while (message := self._next(FromTrainer)) is not None:
            yield message

    def _next(self, kind: Any) -> Any:
        """None: the rest of it has not come yet."""
        try:
            return msgspec.convert(self._unpacker.unpack(), kind)
        except msgpack.OutOfData:
            return None
        # ValueError: what msgpack and msgspec say of bytes that they cannot read.
        except (ValueError, msgpack.UnpackException, RecursionError) as bad:
            raise PipeError(f"no message: {bad or type(bad).__name__}") from bad
