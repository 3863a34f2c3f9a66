"""What coordinators left on the broker is cleared, and nothing that is another's."""

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from broker_config.local_broker import RunningBroker
from coordinator.config import Transfer
from coordinator.models.old_models import STRANGE_CHUNKS_MAX, OldModels
from fedmqtt import weights
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import LinkDown, LinkUp, Part
from fedmqtt.topics import Digest, ModelChunk, OfferBoard, StatusPage
from tests.coordinator.guests import Room, federation_config, update, zeros
from tests.coordinator.persistence.test_restart import Federation, come, kill
from tests.fedmqtt.peer import Peer, loop, until
from tests.fedmqtt.stub_broker import CONNACK_5, CONNECT, StubBroker, stub, suback

__all__ = ["loop", "stub"]

STRANGE = Digest("ab" * 32)


@pytest.mark.broker
def test_one_that_was_replaced_in_its_sleep_leaves_its_successors_model_alone(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, more = mosquitto_broker.url, "[transfer]\nchunk_bytes = 1024\n"
    federations: list[Federation] = []
    for number, size in enumerate((5000, 3000)):
        # On two machines: they share the broker, and nothing else.
        (tmp_path / str(number)).mkdir()
        federations.append(Federation(url, federation_name, tmp_path / str(number), size, more))
    first, second = federations
    with Room(url, federation_name) as room, first.coordinating() as sleeper:
        room.wait(lambda: room.retained_model_bytes > 4 * 5000)
        sleeper.process.send_signal(signal.SIGSTOP)
        with second.coordinating() as successor:
            room.wait(lambda: 4 * 3000 < room.retained_model_bytes < 4 * 3100)
            sleeper.process.send_signal(signal.SIGCONT)
            assert sleeper.wait() == 2
            assert successor.process.poll() is None
            # Who comes now sees what the broker has.
            with Room(url, federation_name) as later:
                later.wait(lambda: 4 * 3000 < later.retained_model_bytes < 4 * 3100)


@pytest.mark.broker
def test_a_model_that_lay_there_in_more_chunks_is_cleared_in_all_of_them(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 5000
    federation = Federation(mosquitto_broker.url, federation_name, tmp_path, size)
    small, large = (f"transfer.chunk_bytes={size_bytes}" for size_bytes in (1024, 8192))
    with Room(mosquitto_broker.url, federation_name) as room:
        # Too few for a round: its offer would name the size of the chunks.
        come(room, "ann")
        with federation.coordinating("--set", small) as program:
            room.wait(lambda: room.retained_model_bytes > 4 * size)
            kill(room, program)
        with federation.coordinating("--set", large) as program:
            room.wait(lambda: any(len(one.payload) == 8192 for one in room.model_chunks()))
            room.page("model")
            program.process.send_signal(signal.SIGTERM)
            room.wait(lambda: program.process.poll() is not None)
        room.wait(lambda: room.retained_model_bytes == 0)


@pytest.mark.broker
def test_a_header_alone_makes_nobody_clear_a_million_chunks(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    header = {"format": weights.FORMAT, "tensors": [["w", [250_000_000]]]}
    # Eve's are headers of a gigabyte: as short as they come, and as long as a chunk.
    short = msgpack.packb(header)
    lies = {STRANGE: short, Digest("cd" * 32): short.ljust(1024, b"\0")}
    config = federation_config(mosquitto_broker.url, federation_name, {"cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, eve = room.guests("ann", "eve")
        for name, lie in lies.items():
            eve.link.publish(ModelChunk(name, 0), lie)
        room.wait(lambda: len(room.model_chunks()) == len(lies))
        with room.coordinating(config, zeros(4), tmp_path) as running:
            ann.offered(1)
            for name in lies:
                room.wait(lambda name=name: any(name in line for line in caplog.messages))  # type: ignore[misc]
            running.stop()
            room.ended(running)
        room.wait(lambda: ann.offers[-1] is None)
        about = [one for one in room.model_chunks() if one.address.digest in lies]  # type: ignore[union-attr]
        assert len(about) == len(lies)
        for name in lies:
            eve.link.publish(ModelChunk(name, 0), b"")
        room.wait(lambda: room.retained_model_bytes == 0)


def test_as_many_chunks_as_are_cleared_are_more_than_any_model_of_ours_has() -> None:
    assert STRANGE_CHUNKS_MAX * Transfer().chunk_bytes > 10**9


@pytest.mark.broker
def test_models_do_not_wait_for_what_is_cleared(
    mosquitto_broker: RunningBroker, federation_name: str, loop: EventLoop
) -> None:
    peer = Peer(loop, mosquitto_broker.url, federation_name, "ann")
    peer.connect()
    taken: list[int] = []

    def clearing() -> Iterator[Part]:
        for index in reversed(range(200)):
            taken.append(index)
            yield Part(ModelChunk(STRANGE, index), b"")

    is_published: list[int] = []

    def publishing() -> Iterator[Part]:
        for index in range(20):
            yield Part(ModelChunk(Digest("cd" * 32), index), b"")
        is_published.append(len(taken))

    peer.link.stream(clearing(), behind=True)
    begun = len(taken)
    peer.link.stream(publishing())
    until(loop, lambda: len(taken) == 200, "the end of both")
    assert is_published == [begun], "none was cleared while there was a model to publish"
    peer.link.close()


def test_a_broker_that_does_not_let_us_look_is_no_reason_to_leave_it(
    loop: EventLoop, stub: StubBroker, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = stub.accept(lambda: loop.run_once(wait_max_s=0.05))
    until(loop, broker.has_more, "CONNECT")
    assert broker.receive().kind == CONNECT
    broker.send(CONNACK_5)
    peer.next(LinkUp)
    OldModels(loop, peer.link, peer.topics, lambda: True).look([])
    until(loop, broker.has_more, "SUBSCRIBE")
    broker.send(suback(broker.receive().mid, 0x87))
    until(loop, lambda: "does not let us read fed/v1/f/model/+/0" in caplog.text, "a warning")
    peer.link.publish(StatusPage("round"), b"still here")
    until(loop, broker.has_more, "PUBLISH")
    assert broker.receive().body.endswith(b"still here")
    assert peer.all(LinkDown) == []
    peer.link.close()


@pytest.mark.broker
def test_a_model_that_is_published_again_is_not_published_twice_at_a_time(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    size = 16_000
    transfer = Transfer(chunk_bytes=1024)
    config = federation_config(
        mosquitto_broker.url, federation_name, {"cohort": 2}, transfer=transfer
    )
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, _ = room.guests("ann", "bob")
        with room.coordinating(config, zeros(size), tmp_path) as running:
            model = ann.offered(1).model
            room.wait(lambda: room.retained_model_bytes == model.size_bytes)
            room.forget()
            service, end = running.service, Part(ModelChunk(STRANGE, 0), b"")

            def again() -> None:
                # As when it has been asleep, and finds twice that its seat is still its own.
                service._publish_model()
                service._publish_model()
                service.link.stream(iter([end]))

            running.loop.post_from_thread(again)
            room.wait(lambda: any(one.address == end.address for one in room.model_chunks()))
            assert room.retained_model_bytes == model.size_bytes
            running.stop()
            room.ended(running)
        room.wait(lambda: room.retained_model_bytes == 0)
        last = -(-model.size_bytes // 1024) - 1
        said = [one for one in room.model_chunks() if one.address == ModelChunk(model.digest, last)]
        assert [bool(one.payload) for one in said] == [True, False]


@pytest.mark.broker
def test_an_offer_that_an_older_coordinator_clears_is_said_again(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = federation_config(mosquitto_broker.url, federation_name, {"cohort": 2})
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob = room.guests("ann", "bob")
        with room.coordinating(config, zeros(4), tmp_path) as running:
            first = ann.offered(1)
            seen = len(ann.offers)
            bob.link.publish(OfferBoard(), b"")
            room.wait(lambda: len(ann.offers) >= seen + 2)
            cleared, again = ann.offers[seen : seen + 2]
            assert cleared is None
            assert again is not None and (again.run, again.round) == (first.run, 1)
            for guest in (ann, bob):
                guest.say(update(first, [1.0] * 4))
            room.ended(running)
        room.wait(lambda: ann.offers[-1] is None)
        # Our own clearing, at the end, was no reason to say anything again.
        assert [bool(offer) for offer in ann.offers[seen:]].count(True) == 1
