"""What lies on the broker while models go down as deltas, and after: a real coordinator's."""

import signal
from pathlib import Path

import numpy as np
import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt import deltas, weights
from fedmqtt.fixed_point import ExactSum, fraction_bits
from fedmqtt.messages import Offer
from fedmqtt.topics import Digest, ModelChunk
from fedmqtt.weights import Array
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import Federation, back, come, kill
from tests.programs import Program

pytestmark = pytest.mark.broker

SIZE = 3000
CHUNK = "transfer.chunk_bytes=2048"


@pytest.fixture
def url(mosquitto_broker: RunningBroker) -> str:
    return mosquitto_broker.url


def words(codec: str = "int4", rounds: int = 4, chunk: str = CHUNK) -> list[str]:
    said = [f"downlink_codec={codec}", f"rounds.count={rounds}", chunk]
    return [word for one in said for word in ("--set", one)]


def retained(room: Room) -> dict[Digest, bytes]:
    """The files that lie on the broker now, whole or in part."""
    now: dict[ModelChunk, bytes] = {}
    for one in room.model_chunks():
        assert isinstance(one.address, ModelChunk)
        now[one.address] = one.payload
    files: dict[Digest, bytes] = {}
    for address in sorted(now, key=lambda chunk: chunk.index):
        if now[address]:
            files[address.digest] = files.get(address.digest, b"") + now[address]
    return files


def lie_there(room: Room, offer: Offer) -> dict[Digest, bytes]:
    """What the offer names, and nothing else, once that is so."""
    named = {offer.model.digest, *(delta.digest for delta in offer.model.deltas)}

    def is_so() -> bool:
        files = retained(room)
        return files.keys() == named and all(weights.digest(files[one]) == one for one in named)

    room.wait(is_so)
    return retained(room)


def change(guest: Guest, number: int) -> Array:
    seed = [number, *str(guest.client).encode()]
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def answer(guest: Guest, offer: Offer) -> None:
    numbers = change(guest, offer.round)
    guest.say(update(offer, [], payload=memoryview(numbers.tobytes())), number=offer.round)
    assert guest.receipt().accepted


def ended(room: Room, program: Program) -> None:
    room.wait(lambda: program.process.poll() is not None)
    assert program.wait() == 0, program.log


def stopped(room: Room, program: Program) -> None:
    """In good order, in the middle of its run."""
    program.process.send_signal(signal.SIGTERM)
    room.wait(lambda: program.process.poll() is not None)


def test_each_model_is_there_whole_and_as_what_changed_since_the_last_ones(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, SIZE)
    own = np.linspace(-1, 1, SIZE, dtype=np.float32)
    with Room(url, federation_name) as room:
        guests = come(room, "ann", "bob", "cat")
        held: dict[int, Array] = {}
        with federation.coordinating(*words()) as program:
            for number in range(1, 5):
                offer = guests[0].offered(number)
                files = lie_there(room, offer)
                held[number] = weights.read(files[offer.model.digest])[1]
                assert len(offer.model.deltas) == min(number - 1, 3)
                for steps, delta in enumerate(reversed(offer.model.deltas), 1):
                    assert delta.size_bytes == len(files[delta.digest])
                    made = held[number - steps]
                    for one in offer.model.deltas[-steps:]:
                        made = deltas.apply(made, files[one.digest])
                    assert made.tobytes() == held[number].tobytes()
                assert (held[number].tobytes() == own.tobytes()) == (number == 1)
                average = ExactSum(SIZE, fraction_bits(64.0, 1_000_000, 3))
                for guest in guests:
                    average.add(change(guest, number), 10)
                    answer(guest, offer)
                # What clients changed is added to the coordinator's own numbers.
                own = (own + average.mean()).astype(np.float32)
            ended(room, program)
        room.wait(lambda: room.retained_model_bytes == 0)
    assert federation.model == own.tobytes()
    assert not list((federation.run / "memory").iterdir())


def test_a_coordinator_that_was_killed_goes_on_with_what_clients_hold(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    models: list[list[Digest]] = []
    for number, is_killed in enumerate((False, True)):
        (tmp_path / str(number)).mkdir()
        name = f"{federation_name}.{number}"
        federation = Federation(url, name, tmp_path / str(number), SIZE)
        offered: list[Digest] = []
        with Room(url, name) as room:
            ann, bob, cat = guests = come(room, "ann", "bob", "cat")
            with federation.coordinating(*words()) as program:
                for of_round in (1, 2):
                    offer = ann.offered(of_round)
                    offered.append(offer.model.digest)
                    for guest in guests:
                        answer(guest, offer)
                third = ann.offered(3)
                answer(ann, third)
                if is_killed:
                    kill(room, program)
                else:
                    answer(bob, third)
                    answer(cat, third)
                    offered += [third.model.digest, ann.offered(4).model.digest]
                    stopped(room, program)
            if is_killed:
                with federation.coordinating(*words()) as program:
                    again = back(room, bob, third)
                    assert again.model == third.model and len(again.model.deltas) == 2
                    lie_there(room, again)
                    answer(bob, third)
                    answer(cat, third)
                    fourth = ann.offered(4)
                    offered += [again.model.digest, fourth.model.digest]
                    lie_there(room, fourth)
                    kill(room, program)
                # A smaller packet size is another cut of the same files.
                with federation.coordinating(*words(chunk="transfer.chunk_bytes=1024")) as program:
                    back(room, ann, fourth)
                    lie_there(room, fourth)
                    stopped(room, program)
            room.wait(lambda: room.retained_model_bytes == 0)
        models.append(offered)
    assert models[0] == models[1]


def test_what_another_codec_publishes_follows_on_the_same_model(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    federation = Federation(url, federation_name, tmp_path, SIZE)
    with Room(url, federation_name) as room:
        guests = come(room, "ann", "bob", "cat")
        with federation.coordinating(*words("int4")) as program:
            first = guests[0].offered(1)
            for guest in guests:
                answer(guest, first)
            second = guests[0].offered(2)
            kill(room, program)
        with federation.coordinating(*words("full")) as program:
            assert back(room, guests[0], second).model == second.model
            for guest in guests:
                answer(guest, second)
            third = guests[0].offered(3)
            assert third.model.deltas == ()
            lie_there(room, third)
            kill(room, program)
        with federation.coordinating(*words("eden")) as program:
            back(room, guests[0], third)
            for guest in guests:
                answer(guest, third)
            fourth = guests[0].offered(4)
            (delta,) = fourth.model.deltas
            assert delta.changes(third.model.digest)
            for guest in guests:
                answer(guest, fourth)
            ended(room, program)


def test_deltas_that_a_coordinator_left_that_is_gone_are_cleared(
    url: str, federation_name: str, tmp_path: Path
) -> None:
    runs: list[Federation] = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        runs.append(Federation(url, federation_name, tmp_path / str(number), SIZE))
    first, second = runs
    with Room(url, federation_name) as room:
        guests = come(room, "ann", "bob", "cat")
        with first.coordinating(*words()) as program:
            offer = guests[0].offered(1)
            for guest in guests:
                answer(guest, offer)
            lie_there(room, guests[0].offered(2))
            kill(room, program)
        # On another machine: it knows nothing of the first one's run.
        with second.coordinating(*words()) as program:
            room.wait(lambda: any(one and one.run != offer.run for one in guests[0].offers))
            (new,) = {
                one.run: one for one in guests[0].offers if one and one.run != offer.run
            }.values()
            lie_there(room, new)
            stopped(room, program)
