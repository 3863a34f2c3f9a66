"""A client comes by the offered model: by deltas of what it holds where they lead there, or whole.

The models are made by a real trainer's process. The link was never opened: what the broker would
bring is handed over by the test.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_client import models
from edge_client.models import Models
from edge_client.trainer_pool import TrainerPool
from fedmqtt import chunks, codec_chain, deltas, weights
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import BASE_BYTES, DeltaRef, ModelRef
from fedmqtt.mqtt_link import LinkOptions, MqttLink, parse_broker_url
from fedmqtt.topics import Digest, ModelChunk, Topics
from fedmqtt.weights import Layout
from tests.fedmqtt.peer import until

SIZE = 2000
LAYOUT = Layout((("w", (SIZE,)),))
CHUNK = 1024


_SEVEN = np.zeros(7, np.float32)
OF_ANOTHER, _ = deltas.write(codec_chain.read("full"), Digest("ab" * 32), 1, _SEVEN, _SEVEN)


@dataclass(frozen=True)
class Published:
    """A coordinator's models, each a change of the one before it."""

    files: list[bytes]
    changes: list[bytes]
    """That lead to each but the first."""

    def ref(self, number: int, steps: int = 3) -> ModelRef:
        """What an offer says of a model, with so many of the deltas that lead to it."""
        first = max(0, number - steps)
        refs = tuple(_delta_ref(self.files[n], self.changes[n]) for n in range(first, number))
        return ModelRef(
            digest=weights.digest(self.files[number]),
            size_bytes=len(self.files[number]),
            chunk_bytes=CHUNK,
            fingerprint=LAYOUT.fingerprint,
            deltas=refs,
        )


def _delta_ref(base: bytes, change: bytes) -> DeltaRef:
    start = bytes.fromhex(weights.digest(base))[:BASE_BYTES]
    return DeltaRef(start, bytes.fromhex(weights.digest(change)), len(change))


def publish(count: int, *, wrong: bool = False) -> Published:
    """`wrong`: each delta makes another model than the one that is offered."""
    chance, chain = np.random.default_rng(1), codec_chain.read("int4")
    flat = chance.normal(size=SIZE).astype(np.float32)
    files, changes = [weights.write(LAYOUT, flat)], []
    for number in range(1, count):
        new = flat + chance.normal(size=SIZE).astype(np.float32)
        file, flat = deltas.write(chain, weights.digest(files[-1]), number, flat, new)
        flat = flat + np.float32(wrong)
        changes.append(file)
        files.append(weights.write(LAYOUT, flat))
    return Published(files, changes)


class Device:
    def __init__(self, loop: EventLoop, pool: TrainerPool, folder: Path, size_max: int) -> None:
        self.loop = loop
        self.folder = folder
        self.outcomes: list[str] = []
        link = MqttLink(
            loop,
            parse_broker_url("mqtt://127.0.0.1:1"),
            Topics("f"),
            LinkOptions(client_id="ann", subscribe=()),
            lambda event: None,
        )
        log = logging.getLogger("client.ann")
        self.models = Models(loop, link, folder, size_max, pool, log)

    def start(self, model: ModelRef) -> None:
        self.models.start(model, self.outcomes.append)

    def bring(self, *files: bytes) -> None:
        """What the broker keeps: those that were not asked for are not taken."""
        for file in files:
            digest = weights.digest(file)
            for index in range(chunks.count(len(file), CHUNK)):
                start, stop = chunks.span(index, len(file), CHUNK)
                self.models.take(ModelChunk(digest, index), file[start:stop])
            self.settle()

    def settle(self) -> None:
        """Do what was posted."""
        done: list[bool] = []
        self.loop.post(lambda: done.append(True))
        until(self.loop, lambda: bool(done))

    def wait(self, count: int = 1) -> None:
        until(self.loop, lambda: len(self.outcomes) == count)

    def has(self, file: bytes) -> bool:
        """And nothing else."""
        path = self.models.path(weights.digest(file))
        return [*self.folder.iterdir()] == [path] and path.read_bytes() == file

    def holds(self, file: bytes) -> None:
        """Have it fetch this model whole."""
        digest = weights.digest(file)
        before = len(self.outcomes)
        self.start(
            ModelRef(digest=digest, size_bytes=len(file), chunk_bytes=CHUNK, fingerprint="f")
        )
        self.bring(file)
        self.wait(before + 1)
        self.outcomes.clear()


Make = Callable[..., Device]


@pytest.fixture
def pool(loop: EventLoop) -> Iterator[TrainerPool]:
    pool = TrainerPool(loop)
    yield pool
    pool.close()


@pytest.fixture
def make(loop: EventLoop, pool: TrainerPool, tmp_path: Path) -> Make:
    def build(size_max: int = 10**9) -> Device:
        return Device(loop, pool, tmp_path / "models", size_max)

    return build


def test_who_holds_the_model_before_needs_the_delta_alone(make: Make) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    device.start(of.ref(1))
    device.bring(of.changes[0])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


def test_who_missed_rounds_takes_all_deltas_since(make: Make) -> None:
    device, of = make(), publish(4)
    device.holds(of.files[0])
    device.start(of.ref(3))
    device.bring(*of.changes)
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[3])


def test_a_newcomer_and_who_missed_too_much_fetch_the_model_whole(make: Make) -> None:
    device, of = make(), publish(4)
    device.start(of.ref(3))
    device.bring(*of.changes, of.files[3])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[3])
    device.holds(of.files[0])
    device.start(of.ref(3, steps=2))
    device.bring(*of.changes)
    assert device.outcomes == []
    device.bring(of.files[3])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[3])


def test_a_model_that_is_here_is_not_made_again(make: Make) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[1])
    device.start(of.ref(1))
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


def test_in_its_next_life_it_goes_on_from_what_it_held(make: Make) -> None:
    of = publish(2)
    make().holds(of.files[0])
    device = make()
    device.start(of.ref(1))
    device.bring(of.changes[0])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


def test_what_has_come_before_a_break_is_not_asked_for_again(make: Make) -> None:
    device, of = make(), publish(3)
    device.holds(of.files[0])
    device.start(of.ref(2))
    device.bring(of.changes[0])
    device.models.stop()
    device.bring(of.changes[1])
    assert device.outcomes == []
    device.start(of.ref(2))
    device.settle()
    device.bring(of.changes[1])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[2])


def test_a_delta_that_arrived_damaged_makes_it_fetch_the_model(make: Make) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    device.start(of.ref(1))
    change = bytearray(of.changes[0])
    change[-1] ^= 1
    damaged = ModelChunk(weights.digest(of.changes[0]), 0)
    device.models.take(damaged, bytes(change[:CHUNK]))
    device.models.take(ModelChunk(damaged.digest, 1), bytes(change[CHUNK:]))
    device.settle()
    device.bring(of.files[1])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


@pytest.mark.parametrize("damage", [b"", b"\x80", b"junk" * 500], ids=["empty", "header", "junk"])
def test_a_base_that_was_damaged_on_the_disk_makes_it_fetch_the_model(
    make: Make, damage: bytes
) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    device.models.path(weights.digest(of.files[0])).write_bytes(damage)
    device.start(of.ref(1))
    device.bring(of.changes[0])
    # Once the model cannot be made.
    until(device.loop, lambda: _asked_whole(device, of.ref(1)))
    device.bring(of.files[1])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


def _asked_whole(device: Device, model: ModelRef) -> bool:
    return (device.folder / f"{model.digest}.part").exists()


@pytest.mark.parametrize(
    "hostile",
    [
        b"junk" * 100,
        OF_ANOTHER,
    ],
    ids=["junk", "of another model"],
)
def test_hostile_deltas_are_refused_and_the_model_fetched(make: Make, hostile: bytes) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    lying = Published(of.files, [hostile])
    device.start(lying.ref(1))
    device.bring(hostile)
    until(device.loop, lambda: _asked_whole(device, of.ref(1)))
    device.bring(of.files[1])
    device.wait()
    assert device.outcomes == [""] and device.has(of.files[1])


def test_who_comes_to_other_numbers_again_and_again_asks_for_whole_models_only(make: Make) -> None:
    device, of = make(), publish(models.TRIES + 2, wrong=True)
    device.holds(of.files[0])
    for number in range(1, models.TRIES + 2):
        device.start(of.ref(number))
        if number <= models.TRIES:
            assert not _asked_whole(device, of.ref(number))
            device.bring(of.changes[number - 1])
            until(device.loop, lambda number=number: _asked_whole(device, of.ref(number)))  # type: ignore[misc]
        assert _asked_whole(device, of.ref(number))
        device.bring(of.files[number])
        device.wait(number)
        assert device.has(of.files[number])


def test_one_success_restores_its_trust(make: Make) -> None:
    device, bad, good = make(), publish(models.TRIES, wrong=True), publish(2)
    device.holds(bad.files[0])
    for number in range(1, models.TRIES):
        device.start(bad.ref(number))
        device.bring(bad.changes[number - 1])
        until(device.loop, lambda number=number: _asked_whole(device, bad.ref(number)))  # type: ignore[misc]
        device.bring(bad.files[number])
        device.wait(number)
    device.holds(good.files[0])
    for _ in range(2):
        device.start(good.ref(1))
        device.bring(good.changes[0])
        device.wait()
        assert device.outcomes == [""] and device.has(good.files[1])
        device.holds(good.files[0])


def test_of_what_is_made_when_it_is_stopped_nothing_is_heard(make: Make) -> None:
    device, of = make(), publish(3)
    device.holds(of.files[0])
    device.start(of.ref(1))
    device.bring(of.changes[0])
    device.models.stop()
    device.outcomes.clear()
    # The next round's: the same process, after the one that was stopped.
    device.start(of.ref(2))
    device.bring(of.changes[0], of.changes[1])
    device.wait()
    assert device.outcomes == [""]
    assert device.models.path(of.ref(2).digest).read_bytes() == of.files[2]


def test_a_link_that_comes_back_while_the_model_is_made_changes_nothing(make: Make) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    heard: list[str] = []
    device.models.start(of.ref(1), heard.append)
    device.bring(of.changes[0])
    device.start(of.ref(1))
    device.wait()
    device.settle()
    assert (heard, device.outcomes) == ([], [""]) and device.has(of.files[1])


def test_a_model_that_is_too_large_is_not_made_either(make: Make) -> None:
    of = publish(2)
    make().holds(of.files[0])
    device = make(size_max=1000)
    device.start(of.ref(1))
    device.wait()
    assert "more than this client's model_bytes_max" in device.outcomes[0]
    assert device.has(of.files[0])


def test_a_disk_that_is_full_is_told_of(make: Make) -> None:
    device, of = make(), publish(2)
    device.holds(of.files[0])
    device.start(of.ref(1))
    # Neither the delta's file nor the model's can be made.
    for path in (f"{of.ref(1).deltas[0].digest}.delta", f"{of.ref(1).digest}.part"):
        (device.folder / path).mkdir()
    device.bring(of.changes[0])
    device.wait()
    assert device.outcomes == [f"the model cannot be kept in {device.folder}: Is a directory"]
