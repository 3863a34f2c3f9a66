"""A model's file is fetched whole or not at all, whatever chunks arrive and however often."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.model_fetch import ModelFetch
from fedmqtt import chunks
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import ModelRef
from fedmqtt.mqtt_link import (
    Arrived,
    LinkEvent,
    LinkOptions,
    MqttLink,
    Part,
    parse_broker_url,
)
from fedmqtt.topics import ClientId, Digest, Inbox, ModelChunk, Topics
from tests.edge_client.little_disk import little_disk
from tests.fedmqtt.peer import Peer, until

CHUNK = 1024
MODEL = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * 3 + b"tail"
ANN = ClientId("ann")


def ref(model: bytes = MODEL, chunk_bytes: int = CHUNK) -> ModelRef:
    digest = Digest(hashlib.sha256(model).hexdigest())
    return ModelRef(digest=digest, size_bytes=len(model), chunk_bytes=chunk_bytes, fingerprint="f")


def parts(model: bytes = MODEL) -> list[Part]:
    of = ref(model)
    spans = [chunks.span(n, len(model), CHUNK) for n in range(chunks.count(len(model), CHUNK))]
    return [Part(ModelChunk(of.digest, n), model[a:b]) for n, (a, b) in enumerate(spans)]


class Device:
    """A client that only fetches: every chunk that arrives is counted and taken."""

    def __init__(self, loop: EventLoop, url: str, federation: str, folder: Path, size_max: int):
        topics = Topics(federation)
        inbox = topics.path(Inbox(ANN))
        options = LinkOptions(client_id=f"{federation}.ann", subscribe=(inbox,))
        self.link = MqttLink(loop, parse_broker_url(url), topics, options, self._handle)
        self.fetch = ModelFetch(self.link, folder, size_max)
        self.outcomes: list[str] = []
        self.arrived: list[int] = []
        self.marks = 0

    def start(self, model: ModelRef) -> None:
        self.fetch.start(model, self.outcomes.append)

    def _handle(self, event: LinkEvent) -> None:
        match event:
            case Arrived(ModelChunk(_, index) as address, payload) if payload:
                self.arrived.append(index)
                self.fetch.take(address, payload)
            case Arrived(Inbox()):
                self.marks += 1
            case _:
                pass


Make = Callable[..., Device]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def offline(loop: EventLoop, folder: Path) -> Make:
    """A device whose link was never opened: chunks are handed to it by the test."""

    def make(size_max: int = 10**9) -> Device:
        return Device(loop, "mqtt://127.0.0.1:1", "f", folder, size_max)

    return make


# A small model that comes with its offer


def test_a_model_that_came_with_its_offer_is_not_fetched(offline: Make, folder: Path) -> None:
    device = offline()
    device.fetch.put(ref(), MODEL)
    device.start(ref())
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL
    assert [path.name for path in folder.iterdir()] == [f"{ref().digest}.model"]


def test_a_file_that_is_not_the_offered_model_is_not_taken_for_it(
    offline: Make, folder: Path
) -> None:
    device = offline()
    device.fetch.put(ref(), b"something else")
    assert list(folder.iterdir()) == []
    device.start(ref())
    assert device.outcomes == []
    for address, data in parts():
        device.fetch.take(address, data)  # type: ignore[arg-type]
    assert device.outcomes == [""]


def test_it_takes_the_place_of_a_fetch_that_had_begun(offline: Make, folder: Path) -> None:
    device = offline()
    device.start(ref())
    first = parts()[0]
    device.fetch.take(first.address, first.payload)  # type: ignore[arg-type]
    device.fetch.put(ref(), MODEL)
    device.start(ref())
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL


# Whatever arrives


def test_chunks_may_come_in_any_order_and_twice(offline: Make, folder: Path) -> None:
    device = offline()
    device.start(ref())
    for part in [*reversed(parts()[3:]), *parts()]:
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL
    assert [path.name for path in folder.iterdir()] == [f"{ref().digest}.model"]


def _take(device: Device, index: int, payload: bytes, of: ModelRef | None = None) -> None:
    device.fetch.take(ModelChunk((of or ref()).digest, index), payload)


def test_chunks_that_do_not_fit_are_not_taken(offline: Make) -> None:
    device = offline()
    device.start(ref())
    first, last = parts()[0].payload, parts()[-1].payload
    _take(device, 0, first[:-1])
    _take(device, 0, first + b"x")
    _take(device, len(parts()) - 1, last + b"x")
    _take(device, len(parts()), first)
    _take(device, 2**31, first)
    _take(device, 0, first, ref(b"another model"))
    assert device.outcomes == []
    for part in parts():
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL


def test_a_model_that_arrived_damaged_is_reported_and_fetched_anew(
    offline: Make, folder: Path
) -> None:
    device = offline()
    for attempt in range(2):
        device.start(ref())
        _take(device, 0, bytes(CHUNK) if attempt == 0 else parts()[0].payload)
        for part in parts()[1:]:
            device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
        if attempt == 0:
            assert list(folder.iterdir()) == []
    fault = "the model arrived damaged: its SHA-256 is not the offered one"
    assert device.outcomes == [fault, ""]


def test_a_model_that_is_here_is_not_fetched_again(offline: Make) -> None:
    device = offline()
    _fetch_all(device)
    device.start(ref())
    assert device.outcomes == ["", ""]
    # Nor in the next life.
    later = offline()
    later.start(ref())
    assert later.outcomes == [""]


def test_a_file_that_lost_its_power_is_fetched_again(offline: Make) -> None:
    device = offline()
    _fetch_all(device)
    path = device.fetch.path(ref().digest)
    path.write_bytes(bytes(len(MODEL)))
    later = offline()
    _fetch_all(later)
    assert later.outcomes == [""]
    assert path.read_bytes() == MODEL


def test_only_the_newest_model_is_kept(offline: Make, folder: Path) -> None:
    device = offline()
    _fetch_all(device)
    _fetch_all(device, b"the next model")
    assert [path.read_bytes() for path in folder.iterdir()] == [b"the next model"]


def test_an_older_model_is_kept_until_the_next_is_whole(offline: Make) -> None:
    device = offline()
    _fetch_all(device)
    device.start(ref(b"the next model"))
    device.start(ref())
    assert device.outcomes == ["", ""]


def test_a_fetch_that_is_closed_takes_no_more_and_leaves_what_it_had(
    offline: Make, folder: Path
) -> None:
    device = offline()
    device.start(ref())
    for part in parts()[:10]:
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    device.fetch.close()
    device.fetch.close()
    for part in parts()[10:]:
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert device.outcomes == []
    assert [path.suffix for path in folder.iterdir()] == [".part"]


def test_leftovers_of_a_crash_are_swept_away(offline: Make, folder: Path) -> None:
    folder.mkdir()
    (folder / "0123.part").write_bytes(b"half")
    offline()
    assert list(folder.iterdir()) == []


def test_a_leftover_that_cannot_be_removed_hinders_no_other_model(
    offline: Make, folder: Path
) -> None:
    folder.mkdir()
    (folder / "0123.part").mkdir()
    device = offline()
    assert device.fetch.stuck == [f"{folder / '0123.part'}: Is a directory"]
    _fetch_all(device)
    assert device.outcomes == [""]


def test_a_model_that_is_too_large_is_not_fetched(offline: Make, folder: Path) -> None:
    device = offline(size_max=1000)
    device.start(ref())
    assert device.outcomes == [
        f"the model has {len(MODEL)} bytes, more than this client's model_bytes_max = 1000"
    ]
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_reported_and_the_next_attempt_may_succeed(
    offline: Make, folder: Path
) -> None:
    device = offline()
    with little_disk(2000):
        _fetch_all(device)
    assert device.outcomes == [f"the model cannot be kept in {folder}: File too large"]
    assert list(folder.iterdir()) == []
    _fetch_all(device)
    assert device.outcomes[1:] == [""]


def test_a_disk_that_takes_nothing_and_lets_nothing_go_is_reported(
    offline: Make, folder: Path
) -> None:
    """As an SD card that has become read-only in the middle of a fetch."""
    device = offline()
    device.start(ref())
    part = folder / f"{ref().digest}.part"
    part.unlink()
    part.mkdir()
    with little_disk(0):
        _take(device, 0, MODEL[:CHUNK])
    assert device.outcomes == [f"the model cannot be kept in {folder}: File too large"]
    device.start(ref())
    assert device.outcomes[1:] == [f"the model cannot be kept in {folder}: Is a directory"]


def test_what_is_here_when_a_round_ends_serves_the_next(offline: Make) -> None:
    device = offline()
    device.start(ref())
    for part in parts()[:10]:
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    device.fetch.stop()
    # Of a stopped fetch nothing is heard.
    for part in parts():
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert device.outcomes == []
    outcomes: list[str] = []
    device.fetch.start(ref(), outcomes.append)
    for part in parts()[10:]:
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert (device.outcomes, outcomes) == ([], [""])


def test_the_same_model_in_other_chunks_begins_anew(offline: Make) -> None:
    """As when the coordinator came back behind a broker with a lower limit."""
    device = offline()
    device.start(ref(chunk_bytes=2048))
    _take(device, 0, MODEL[:2048])
    device.start(ref())
    for part in parts():
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]
    assert device.outcomes == [""]


def _fetch_all(device: Device, model: bytes = MODEL) -> None:
    device.start(ref(model))
    for part in parts(model):
        device.fetch.take(part.address, part.payload)  # type: ignore[arg-type]


# Over a broker


@pytest.fixture
def coordinator(loop: EventLoop, broker: RunningBroker, federation_name: str) -> Iterator[Peer]:
    peer = Peer(loop, broker.url, federation_name, "coordinator")
    peer.connect()
    yield peer
    peer.link.close()


@pytest.fixture
def device(
    loop: EventLoop, broker: RunningBroker, federation_name: str, folder: Path
) -> Iterator[Device]:
    device = Device(loop, broker.url, federation_name, folder, 10**9)
    device.link.open()
    until(loop, lambda: device.link.is_up)
    yield device
    device.link.close()


@pytest.mark.broker
def test_retained_chunks_are_fetched_without_a_coordinator(
    loop: EventLoop, coordinator: Peer, device: Device
) -> None:
    _publish(loop, coordinator, device, parts())
    coordinator.link.close()
    device.start(ref())
    until(loop, lambda: bool(device.outcomes))
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL
    assert sorted(device.arrived) == list(range(len(parts())))


@pytest.mark.broker
def test_after_a_cut_only_what_is_missing_is_asked_for(
    loop: EventLoop, coordinator: Peer, device: Device
) -> None:
    _publish(loop, coordinator, device, parts()[:10])
    device.start(ref())
    until(loop, lambda: len(device.arrived) == 10)
    device.link.cut(back_in_s=0.01)
    until(loop, lambda: device.link.is_up)
    _publish(loop, coordinator, device, parts()[10:])
    device.start(ref())
    until(loop, lambda: bool(device.outcomes))
    assert device.outcomes == [""]
    assert sorted(device.arrived) == list(range(len(parts())))


@pytest.mark.broker
def test_what_a_broker_did_not_bring_is_brought_when_it_is_asked_again(
    loop: EventLoop, coordinator: Peer, device: Device
) -> None:
    device.start(ref())
    # The broker has lost what was asked for, and the chunks come after that.
    device.link.unsubscribe([ModelChunk(ref().digest, index) for index in range(len(parts()))])
    _mark(loop, device.link, device)
    _publish(loop, coordinator, device, parts())
    assert not device.arrived
    device.fetch.ask_again()
    until(loop, lambda: bool(device.outcomes))
    assert device.outcomes == [""]
    assert device.fetch.path(ref().digest).read_bytes() == MODEL


@pytest.mark.broker
def test_nothing_more_is_heard_of_a_model_that_is_here_or_given_up(
    loop: EventLoop, coordinator: Peer, device: Device
) -> None:
    _publish(loop, coordinator, device, parts())
    device.start(ref())
    until(loop, lambda: bool(device.outcomes))
    given_up = ref(b"of another coordinator")
    device.start(given_up)
    device.fetch.stop()
    _mark(loop, device.link, device)
    before = len(device.arrived)
    _publish(loop, coordinator, device, [*parts(), *parts(b"of another coordinator")])
    assert len(device.arrived) == before


@pytest.mark.broker
def test_a_chunk_that_a_forgotten_subscription_brings_ends_it(
    loop: EventLoop, coordinator: Peer, device: Device
) -> None:
    device.link.subscribe([ModelChunk(ref().digest, 0)])
    _publish(loop, coordinator, device, parts()[:1])
    assert device.arrived == [0]
    _mark(loop, device.link, device)
    _publish(loop, coordinator, device, parts()[:1])
    assert device.arrived == [0]


def _publish(loop: EventLoop, coordinator: Peer, device: Device, some: list[Part]) -> None:
    """Until the broker has them, and the device what it asked for of them."""
    for part in some:
        coordinator.link.publish(part.address, part.payload)
    _mark(loop, coordinator.link, device)


def _mark(loop: EventLoop, sender: MqttLink, device: Device) -> None:
    """Until all that `sender` has asked of the broker until now is done."""
    before = device.marks
    sender.publish(Inbox(ANN), b"mark")
    until(loop, lambda: device.marks > before)
