"""Strategies in a real coordinator: what they remember outlives it; hostile answers do not win."""

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import Offer
from fedmqtt.weights import Array
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    SAMPLES,
    SIZE,
    Federation,
    answer,
    answer_all,
    back,
    come,
    kill,
    undisturbed,
)

pytestmark = pytest.mark.broker

PAUSE = ["--set", "rounds.pause_s=1000"]
NEWEST_ALONE = ["--set", "checkpoint.keep=0"]
MOMENTS = ["fedadam", "centered_clipping", "qfedavg"]
START = np.linspace(-1, 1, SIZE, dtype=np.float32)


@pytest.mark.parametrize("strategy", MOMENTS)
def test_killed_between_rounds_and_within_one_it_ends_with_the_same_bits(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, strategy: str
) -> None:
    url = mosquitto_broker.url
    words = ["--set", f"aggregation={strategy}", "--set", "rounds.count=3", *NEWEST_ALONE]
    (tmp_path / "killed").mkdir()
    federation = Federation(url, federation_name, tmp_path / "killed")
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*words, *PAUSE) as program:
            answer_all([ann, bob, cat], ann.offered(1))
            room.page("model", lambda page: page.trained_rounds == 1)
            kill(room, program)
        assert [one.name for one in (federation.run / "memory").iterdir()] == ["1.safetensors"]
        with federation.coordinating(*words) as program:
            second = bob.offered(2)
            answer(bob, second)
            kill(room, program)
        with federation.coordinating(*words) as program:
            back(room, cat, second)
            answer_all([cat, ann], second)
            answer_all([bob, cat, ann], ann.offered(3))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
        assert [one.name for one in (federation.run / "memory").iterdir()] == ["3.safetensors"]
    name, folder = f"{federation_name}-u", tmp_path / "undisturbed"
    wanted = undisturbed(url, name, folder, *words, count=3)
    assert federation.model == wanted


def test_a_client_that_sends_ten_times_the_opposite_is_trimmed_away(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    more = ["--set", "rounds.cohort=5", "--set", "rounds.clients_min=5", "--set", "rounds.count=1"]
    federation = Federation(url, federation_name, tmp_path)
    changes = dict(zip("abcde", [-10.0, 0.75, 1.0, 1.25, 1.5], strict=True))
    with Room(url, federation_name) as room:
        guests = come(room, *changes)
        with federation.coordinating(*more, "--set", "aggregation=trimmed_mean") as program:
            say_all(guests, guests[0].offered(1), changes)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    # Of five a fifth is one: without -10 and 1.5 they say 1.
    np.testing.assert_array_equal(model(federation), START + 1)
    left = {one.name for one in federation.run.iterdir()}
    assert not {name for name in left if name.startswith("updates-")}


def test_too_few_answers_for_a_rule_keep_the_model_and_the_record_says_why(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating("--set", "aggregation=krum", *PAUSE) as program:
            first = guests[0].offered(1)
            answer_all(guests, first)
            why = "krum needs 5 answers to withstand 1 hostile, and there were 3"
            page = room.page("round", lambda page: not page.open)
            assert page.outcome == f"kept: {why}"
            kill(room, program)
        # With nobody hostile to withstand, the next round has enough: from the same model.
        with federation.coordinating(
            "--set", "aggregation=krum", "--set", "aggregation_settings.f=0"
        ) as program:
            second = guests[0].offered(2)
            assert second.model.digest == first.model.digest
            say_all(guests, second, dict.fromkeys(CHANGES, 0.5))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    one, two = history.read(federation.run / "history.jsonl")
    assert (one.outcome, one.reason, one.answered) == ("kept", why, ["ann", "bob", "cat"])
    assert two.outcome == "averaged"
    np.testing.assert_array_equal(model(federation), START + 0.5)


def test_late_answers_of_a_round_that_its_strategy_kept_are_used_up_with_it(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path, more='[late]\npolicy = "weigh"\n')
    words = ["--set", "rounds.cohort=2", "--set", "rounds.over_selection=1.5"]
    words += ["--set", "rounds.count=3"]
    krum = ["--set", "aggregation=krum"]
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*words, *krum) as program:
            first = ann.offered(1)
            answer_all([ann, bob], first)
            second = ann.offered(2)
            answer(cat, first)
            answer_all([ann, bob], second)
            third = ann.offered(3)
            answer_all([ann, bob], third)
            room.wait(lambda: program.process.poll() is not None)
    records = history.read(federation.run / "history.jsonl")
    assert [one.outcome for one in records] == ["kept"] * 3
    # With the late one of cat, the second had three.
    assert [one.reason.rpartition(" ")[2] for one in records] == ["2", "3", "2"]
    assert not any(one.late_counted for one in records)
    np.testing.assert_array_equal(model(federation), START)


def test_another_strategy_begins_without_what_the_first_remembered(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating("--set", "aggregation=fedavgm", *PAUSE) as program:
            say_all(guests, guests[0].offered(1), dict.fromkeys(CHANGES, 5.0))
            room.page("model", lambda page: page.trained_rounds == 1)
            kill(room, program)
        with federation.coordinating("--set", "aggregation=fedavg", *NEWEST_ALONE) as program:
            say_all(guests, guests[0].offered(2), dict.fromkeys(CHANGES, 1.0))
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    np.testing.assert_allclose(model(federation), START + 0.5 + 1.0, atol=1e-6)
    assert list((federation.run / "memory").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.unlink(), "1.safetensors: No such file or directory; what fedadam"),
        (lambda path: path.write_bytes(b"noise"), "1.safetensors is not what its ledger tells"),
    ],
    ids=["gone", "noise"],
)
def test_a_damaged_memory_is_refused_by_name(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    damage: Callable[[Path], object],
    complaint: str,
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    words = ["--set", "aggregation=fedadam"]
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*words, *PAUSE) as program:
            answer_all(guests, guests[0].offered(1))
            room.page("model", lambda page: page.trained_rounds == 1)
            program.process.send_signal(signal.SIGTERM)
            room.wait(lambda: program.process.poll() is not None)
        damage(federation.run / "memory" / "1.safetensors")
        with federation.coordinating(*words) as program:
            assert program.wait() == 2
    assert complaint in program.log and "put back a copy" in program.log


@pytest.mark.parametrize(
    ("strategy", "is_open"), [("fedvarp", True), ("mifa", True), ("mifa", False)]
)
def test_what_clients_gave_and_is_not_there_any_more_is_told_with_what_can_be_done(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    strategy: str,
    is_open: bool,
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    words = ["--set", f"aggregation={strategy}"]
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*words, *([] if is_open else PAUSE)) as program:
            answer_all(guests, guests[0].offered(1))
            room.page("model", lambda page: page.trained_rounds == 1)
            if is_open:
                guests[0].offered(2)
            kill(room, program)
            (federation.run / "clients").unlink()
        with federation.coordinating(*words) as program:
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 2
        # Where a round is open it is found before there is a link.
        room.wait(lambda: is_open or room.retained_model_bytes == 0)
    wanted = f"{federation.run / 'clients'}: what ann gave is not there any more, nor what 2 others"
    assert wanted in program.log and "put back a copy of what is damaged" in program.log
    assert "None" not in program.log and "Traceback" not in program.log


def test_a_disk_without_room_for_a_rounds_updates_is_said_when_the_round_opens(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # Room for 4 million late answers of 0.4 MB.
    federation = Federation(
        mosquitto_broker.url, federation_name, tmp_path, 100_000, '[late]\npolicy = "weigh"\n'
    )
    words = ["--set", "aggregation=median", "--set", "rounds.cohort=1000000"]
    with Room(mosquitto_broker.url, federation_name) as room:
        come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 1
        room.wait(lambda: room.retained_model_bytes == 0)
    assert "this aggregation keeps all of a round's updates there, up to 4000003 of 0.4 MB" in (
        program.log
    )
    assert str(federation.run) in program.log and "Traceback" not in program.log
    assert "start it again when that is mended" in program.log


def say_all(guests: Sequence[Guest], offer: Offer, changes: Mapping[str, float]) -> None:
    for guest in guests:
        name = str(guest.client)
        # Any count of samples: these rules do not look at it, or all say the same.
        good = update(offer, [changes[name]] * SIZE, SAMPLES.get(name, 7))
        guest.say(good, number=offer.round)
        assert guest.receipt().accepted


def model(federation: Federation) -> Array:
    found: Array = load_file(federation.run / "model.safetensors")["w"]
    return found
