"""What clients say to a worker that is not for workers: the coordinator hears all of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from coordinator.config import Evaluation as EvaluationSettings
from coordinator.config import FederationConfig, Workers
from coordinator.workers.program import Worker
from fedmqtt import chunks, messages, weights
from fedmqtt.messages import Announce, Chunk, Claims, Evaluation, Lanes, Measures, Offer, Passed
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import (
    ANNOUNCE,
    ROUND_MAX,
    ClientId,
    Inbox,
    LanesOf,
    RoundId,
    Topics,
    UpdatePart,
    lane_of,
)
from tests.coordinator.guests import Room, federation_config, zeros
from tests.coordinator.workers.world import ANSWER_BYTES_MAX, MODEL, ROUND, RUN, World
from tests.own_broker import free_port, mosquitto_at

ANN, W0 = ClientId("ann"), ClientId("w0")
_PACKET_BYTES_MAX = 20_000
_CHUNK_BYTES = 1024
_LANES = 8
NUMBERS = st.one_of(st.integers(0, 10**11), st.integers(ROUND_MAX - 1, ROUND_MAX + 1))


def config() -> FederationConfig:
    return FederationConfig(name="ward-7", task="t", workers=Workers(lanes=_LANES))


def evaluation(classes: int) -> Evaluation:
    """A byte for each pair of classes, and little else."""
    confusion = ((1,) * classes,) * classes
    measures = Measures(sample_count=classes**2, metrics={"loss": 0.5}, confusion=confusion)
    return Evaluation(run=RUN, round=ROUND, base=MODEL.digest, measures=measures)


def announcing(encoded: bytes, offer: Offer | None = None) -> Announce:
    return Announce(
        run=RUN if offer is None else offer.run,
        round=ROUND,
        digest=weights.digest(encoded),
        size_bytes=len(encoded),
        chunk_bytes=_CHUNK_BYTES,
    )


def pieces(encoded: bytes) -> list[bytes]:
    digest, size = weights.digest(encoded), len(encoded)
    count = chunks.count(size, _CHUNK_BYTES)
    ends = [chunks.span(index, size, _CHUNK_BYTES) for index in range(count)]
    return [
        messages.encode(Chunk(digest=digest, data=memoryview(encoded)[start:end]))
        for start, end in ends
    ]


def there(folder: Path, packet_bytes_max: int | None = None) -> World:
    world = World(folder, config(), [ANN])
    world.start(W0)
    world.connect(W0, packet_bytes_max)
    world.settle()
    assert not world.desk.own
    return world


def passed_on(world: World, *, goes_on: bool) -> Passed:
    """The next message of the worker's session."""
    world.shout(ANN, b"\xc1")
    wire = world.wires[W0]
    passed = messages.read_from_worker(wire.up.pop())
    assert isinstance(passed, Passed) and not wire.up
    return structs.replace(passed, goes_on=goes_on)


def send_in_pieces(world: World, encoded: bytes) -> None:
    world.desk.admit(W0, ANN, announcing(encoded))
    world.settle()
    assert [said.to for said in world.told] == [Inbox(ANN)], "it was told to go"
    for index, piece in enumerate(pieces(encoded)):
        world.shout(ANN, piece, str(index))
    world.settle()


@pytest.mark.parametrize("packet_bytes_max", [None, 3000])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_evaluation_is_passed_on_whole(
    packet_bytes_max: int | None, in_pieces: bool, tmp_path: Path
) -> None:
    world = there(tmp_path, packet_bytes_max)
    said = evaluation(classes=60)
    encoded = messages.encode(said)
    assert 3000 < len(encoded) < ANSWER_BYTES_MAX
    if in_pieces:
        send_in_pieces(world, encoded)
    else:
        world.shout(ANN, encoded)
        world.settle()
    ((worker, passed),) = world.passed
    assert (worker, passed.client, passed.round, passed.part) == (W0, ANN, ROUND, "0")
    assert messages.read_from_client(passed.payload) == said
    assert world.wires[W0].largest < (packet_bytes_max or 10_000)


def test_what_is_no_answer_once_it_is_whole_is_told_of(tmp_path: Path) -> None:
    world = there(tmp_path)
    send_in_pieces(world, b"\xc1" * 900)
    ((_, passed),) = world.passed
    # Where the coordinator reads it, and tells its sender what it is.
    assert (passed.client, passed.round, bytes(passed.payload)) == (ANN, ROUND, b"\xc1" * 900)


def test_what_is_too_large_for_an_answer_is_passed_on_as_what_nobody_can_read(
    tmp_path: Path,
) -> None:
    world = there(tmp_path)
    encoded = messages.encode(evaluation(classes=80))
    assert len(encoded) > ANSWER_BYTES_MAX
    world.shout(ANN, encoded)
    world.settle()
    ((_, passed),) = world.passed
    with pytest.raises(messages.WireError):
        messages.read_from_client(passed.payload)
    # It is no fault of the worker's, which has its lanes still.
    assert not world.desk.own


@pytest.mark.parametrize("broken", ["by another's", "by claims", "by its size"])
def test_what_has_no_end_ends_the_session(broken: str, tmp_path: Path) -> None:
    world = there(tmp_path)
    wire, began = world.wires[W0], passed_on(world, goes_on=True)
    number = began.number + 1
    follows: Passed | Claims = structs.replace(began, number=number)
    match broken:
        case "by another's":
            follows = structs.replace(follows, client=ClientId("bob"))
        case "by claims":
            follows = Claims(session=began.session, number=number, claims=())
        case _:
            follows = structs.replace(follows, payload=memoryview(bytes(ANSWER_BYTES_MAX)))
    wire.up.extend(map(messages.encode, (began, follows)))
    while wire.up:
        world.deliver(wire, wire.up)
    assert world.desk.own, "nobody knows what else is missing"
    world.settle()
    assert not world.desk.own and world.passed == []


def test_more_than_an_answer_is_too_much_in_one_message_too(tmp_path: Path) -> None:
    world = there(tmp_path)
    wire, passed = world.wires[W0], passed_on(world, goes_on=False)
    large = structs.replace(passed, payload=memoryview(bytes(ANSWER_BYTES_MAX + 1)))
    wire.up.append(messages.encode(large))
    world.deliver(wire, wire.up)
    assert world.desk.own and world.passed == []


@given(NUMBERS, NUMBERS)
def test_whatever_place_a_client_chooses_can_be_passed_on(number: int, part: int) -> None:
    topics = Topics("ward-7")
    lane = lane_of(ANN, _LANES)
    for last in (ANNOUNCE, str(part)):
        address = topics.parse(topics.path(UpdatePart(lane, ANN, RoundId(number), last)))
        assert address is None or number <= ROUND_MAX
        if isinstance(address, UpdatePart):
            passed = Passed(
                session="",
                number=1,
                client=ANN,
                round=RoundId(number),
                part=last,
                payload=memoryview(b""),
            )
            assert messages.read_from_worker(messages.encode(passed)) == passed


@pytest.mark.broker
@pytest.mark.parametrize(("classes", "in_pieces"), [(136, False), (200, True)])
def test_a_broker_of_small_packets_loses_no_evaluation_to_a_worker(
    classes: int, in_pieces: bool, federation_name: str, tmp_path: Path
) -> None:
    """One of 19 kB just fits its packet, and no other with what a worker says beside it."""
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    config = federation_config(
        url,
        federation_name,
        {"cohort": 1, "quorum": 1, "clients_min": 1},
        workers=Workers(lanes=_LANES),
        evaluation=EvaluationSettings(every=1),
    )
    with (
        mosquitto_at(port, f"max_packet_size {_PACKET_BYTES_MAX}"),
        Room(url, federation_name) as room,
    ):
        ann, (bob,) = room.guest("ann"), room.guests("bob", purposes=("evaluate",))
        worker = Worker(room.loop, config, parse_broker_url(url), W0, tmp_path / "w0")
        worker.start()
        with room.coordinating(config, zeros(2), tmp_path / "run"):
            room.page("clients", lambda page: page.online == [bob.client])
            ann.come()
            offer = bob.offered(1)
            assert offer.evaluate == ("ann", "bob")
            room.wait(lambda: _is_listening(room))
            lane = lane_of(bob.client, _LANES)
            answer = messages.encode(_measured(offer, classes))
            if in_pieces:
                bob.say(announcing(answer, offer), ANNOUNCE, lane)
                bob.go()
                for index, piece in enumerate(pieces(answer)):
                    bob.shout(bob.to(str(index), lane), piece)
            else:
                bob.shout(bob.to("0", lane), answer)
            receipt = bob.receipt()
            assert receipt.accepted, receipt.reason
            worker.stop()


def _is_listening(room: Room) -> bool:
    """The worker, to all lanes, and the coordinator knows that."""
    told = [
        messages.read_to_worker(one.payload) for one in room.traffic if one.address == LanesOf(W0)
    ]
    full = [one for one in told if isinstance(one, Lanes) and len(one.lanes) == _LANES]
    return len(full) > 1


def _measured(offer: Offer, classes: int) -> Evaluation:
    said = evaluation(classes)
    return structs.replace(said, run=offer.run, round=offer.round, base=offer.model.digest)
