"""A run that goes on under other settings counts no answer that was made under the old ones."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import Offer, SlowLinks
from fedmqtt.status_pages import CodecCount
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import CHANGES, SIZE, Federation, come, kill

pytestmark = pytest.mark.broker

ROUNDS = ["--set", "rounds.cohort=2", "--set", "rounds.over_selection=1.5"]
START = np.linspace(-1, 1, SIZE, dtype=np.float32)


def say(guest: Guest, offer: Offer, change: float) -> None:
    guest.say(update(offer, [change] * SIZE, 10), number=offer.round)


def counted(guest: Guest, offer: Offer, change: float) -> None:
    say(guest, offer, change)
    assert guest.receipt().accepted


def end_round(guests: list[Guest], offer: Offer) -> None:
    for guest in guests[:2]:
        counted(guest, offer, 0.5)


@pytest.mark.parametrize("is_open", [True, False])
def test_late_answers_that_wait_are_given_up_with_the_settings_they_were_made_under(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, is_open: bool
) -> None:
    url = mosquitto_broker.url
    more = '[late]\npolicy = "buffer"\nbatch = 3\n'
    federation = Federation(url, federation_name, tmp_path, more=more)
    # The round in which all that waits would be counted.
    last = 3 if is_open else 2
    words = [*ROUNDS, "--set", f"rounds.count={last}"]
    pause = [] if is_open else ["--set", "rounds.pause_s=1000"]
    with Room(url, federation_name) as room:
        ann, _, cat = guests = come(room, *CHANGES)
        with federation.coordinating(*words, *pause) as program:
            first = ann.offered(1)
            end_round(guests, first)
            room.page("model", lambda page: page.trained_rounds == 1)
            if is_open:
                ann.offered(2)
            # Good when it comes, and more than the limit that is to be.
            counted(cat, first, 1.0)
            kill(room, program)
        with federation.coordinating(*words, "--set", "limits.change_max=0.75") as program:
            program.wait_for("late answers that were made with other settings count in no round: 1")
            offer = ann.offered(last)
            # It was told that it counts, and is told no other thing.
            counted(cat, first, 1.0)
            end_round(guests, offer)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    records = history.read(federation.run / "history.jsonl")
    outcomes = ["averaged", "kept", "averaged"] if is_open else ["averaged", "averaged"]
    assert [one.outcome for one in records] == outcomes
    assert not any(one.late_counted for one in records)
    model = load_file(federation.run / "model.safetensors")["w"]
    np.testing.assert_allclose(model, START + 1.0, atol=1e-6)


def test_an_answer_to_a_round_of_other_settings_is_refused_as_late(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    more = '[late]\npolicy = "weigh"\n'
    federation = Federation(url, federation_name, tmp_path, more=more)
    with Room(url, federation_name) as room:
        ann, _, cat = guests = come(room, *CHANGES)
        rounds = [*ROUNDS, "--set", "rounds.count=4"]
        with federation.coordinating(*rounds) as program:
            first = ann.offered(1)
            end_round(guests, first)
            second = ann.offered(2)
            kill(room, program)
        other = ["--set", "training.learning_rate=0.5"]
        with federation.coordinating(*rounds, *other):
            third = ann.offered(3)
            for offer in (first, second):
                say(cat, offer, 0.5)
                receipt = cat.receipt()
                assert receipt.reason == f"late: round {offer.round} had other settings"
            counted(cat, third, 0.5)


def test_who_was_at_work_on_a_round_of_other_settings_is_invited_anew(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    """Also where clients are invited only as they become free."""
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    rounds = ["--set", "rounds.cohort=2", "--set", "rounds.count=2"]
    with Room(url, federation_name) as room:
        ann, *_ = guests = come(room, *CHANGES)
        with federation.coordinating(*rounds, "--set", "rounds.over_selection=1.5") as program:
            assert set(ann.offered(1).train) == set(CHANGES)
            kill(room, program)
        words = ["rounds.mode=asynchronous", "rounds.concurrency=3", "rounds.quorum=1"]
        words += ["aggregation=fedavgm"]
        others = [word for one in words for word in ("--set", one)]
        with federation.coordinating(*rounds, *others) as program:
            second = ann.offered(2)
            assert set(second.train) == set(CHANGES)
            end_round(guests, second)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    records = history.read(federation.run / "history.jsonl")
    assert [one.outcome for one in records] == ["kept", "averaged"]


def test_a_round_of_other_codecs_is_given_up(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        ann, _, cat = guests = come(room, *CHANGES)
        rounds = [*ROUNDS, "--set", "rounds.count=2"]
        with federation.coordinating(*rounds, "--set", "slow_links.codec=int8") as program:
            first = ann.offered(1)
            assert first.slow_links == SlowLinks(below_kbps=256.0, codec="int8")
            counted(cat, first, 0.5)
            kill(room, program)
        with federation.coordinating(*rounds, "--set", "slow_links.codec=bfloat16") as program:
            program.wait_for("round 1 was opened with other settings")
            second = ann.offered(2)
            assert second.slow_links == SlowLinks(below_kbps=256.0, codec="bfloat16")
            end_round(guests, second)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    records = history.read(federation.run / "history.jsonl")
    assert [one.outcome for one in records] == ["kept", "averaged"]
    assert records[1].codecs == {"full": CodecCount(updates=2, bytes=2 * 4 * SIZE)}
