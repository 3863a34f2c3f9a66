"""What the agent and a trainer's process say to each other, as a stream of MessagePack.

    agent ──▶ trainer    Job, Stop
    trainer ──▶ agent    Progress, Done, Failed

The pipe has no frames of its own: MessagePack values follow one another, and msgpack's Unpacker
finds where each ends.
"""

from collections.abc import Iterator

import msgpack
import msgspec
from msgspec import Struct

from fedmqtt.messages import Purpose, Training
from fedmqtt.topics import ClientId, Digest, RoundId, RunId


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
    training: Training
    codec: str
    seed: int
    label: str = ""
    """What the owner calls this kind of device."""


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """Give up the job; `Failed` with `STOPPED` follows, unless it was done already."""


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    fraction: float


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The answer lies in the outbox."""

    run: RunId
    round: RoundId
    digest: Digest
    size_bytes: int


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    reason: str


STOPPED = "stopped"

ToTrainer = Job | Stop
FromTrainer = Progress | Done | Failed


def pack(message: ToTrainer | FromTrainer) -> bytes:
    return msgspec.msgpack.encode(message)


class Reader:
    """Bytes in, messages out, whole ones only. The other end is our own program: it is trusted."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker()

    def feed(self, data: bytes) -> None:
        self._unpacker.feed(data)

    def to_trainer(self) -> Iterator[ToTrainer]:
        for value in self._unpacker:
            yield msgspec.convert(value, ToTrainer)

    def from_trainer(self) -> Iterator[FromTrainer]:
        for value in self._unpacker:
            yield msgspec.convert(value, FromTrainer)
