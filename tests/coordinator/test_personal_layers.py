"""A coordinator whose clients keep layers to themselves: its model, its restarts, its mistakes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from broker_config.local_broker import RunningBroker
from fedmqtt.messages import Offer
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import CHANGES, Federation, back, come, kill
from tests.programs import Program

pytestmark = pytest.mark.broker

W = np.linspace(-1, 1, 4, dtype=np.float32)
OWN = np.array([7.0, 8.0], np.float32)
ADAM = ["--set", "aggregation=fedadam", "--set", "rounds.count=3"]
PERSONAL = ["--set", 'training.personal=["bn.*"]']


def federation(url: str, name: str, folder: Path) -> tuple[Federation, list[str]]:
    """With a model of two layers, of which one may stay on the devices."""
    folder.mkdir()
    start = folder / "two.safetensors"
    save_file({"bn.scale": OWN, "w": W}, start)
    return Federation(url, name, folder), [*ADAM, "--set", f"initial_model={start}"]


def say(guest: Guest, offer: Offer, more: Sequence[float] = ()) -> None:
    change = [*more, *CHANGES[str(guest.client)]]
    guest.say(update(offer, change), number=offer.round)
    assert guest.receipt().accepted


def model(of: Federation) -> dict[str, list[float]]:
    found = load_file(of.run / "model.safetensors")
    return {name: array.tolist() for name, array in found.items()}


def test_killed_in_the_middle_it_goes_on_to_the_same_bits_and_leaves_them_as_they_were(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, found = mosquitto_broker.url, []
    for is_killed in (True, False):
        name = f"{federation_name}-{is_killed}"
        of, words = federation(url, name, tmp_path / name)
        with Room(url, name) as room:
            ann, bob, cat = come(room, *CHANGES)
            with of.coordinating(*words, *PERSONAL) as program:
                for guest in (ann, bob, cat):
                    say(guest, ann.offered(1))
                second = ann.offered(2)
                say(ann, second)
                if is_killed:
                    kill(room, program)
                else:
                    finish(room, program, [bob, cat, ann], second)
            if is_killed:
                with of.coordinating(*words, *PERSONAL) as program:
                    back(room, cat, second)
                    finish(room, program, [cat, bob, ann], second)
        found.append(model(of))
    assert found[0] == found[1]
    assert found[0]["bn.scale"] == OWN.tolist() and found[0]["w"] != W.tolist()


def finish(room: Room, program: Program, guests: list[Guest], second: Offer) -> None:
    for guest in guests[:2]:
        say(guest, second)
    third = guests[0].offered(3)
    for guest in guests:
        say(guest, third)
    room.wait(lambda: program.process.poll() is not None)


def test_where_other_layers_travel_a_strategy_begins_without_its_memory(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    of, words = federation(url, federation_name, tmp_path / "one")
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with of.coordinating(*words, "--set", "rounds.pause_s=1000") as program:
            for guest in guests:
                say(guest, guests[0].offered(1), [0.5, 0.5])
            room.page("model", lambda page: page.trained_rounds == 1)
            kill(room, program)
        with of.coordinating(*words, *PERSONAL) as program:
            for number in (2, 3):
                for guest in guests:
                    say(guest, guests[0].offered(number))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0, program.log
    assert np.isfinite(model(of)["w"]).all()


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ('["bm.*"]', "'bm.*' matches no layer of the model; it has: bn.scale, w"),
        ('["*"]', "every layer stays on its device"),
    ],
)
def test_patterns_that_cannot_be_end_the_program_before_anybody_is_invited(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    patterns: str,
    said: str,
) -> None:
    url = mosquitto_broker.url
    of, words = federation(url, federation_name, tmp_path / "one")
    with of.coordinating(*words, "--set", f"training.personal={patterns}") as program:
        assert program.wait() == 2
    assert said in program.log
