"""Late answers are many at once: whoever folds them must not be deaf meanwhile. One that is found
to be no good then counts in no record either.
"""

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import LateAnswers
from coordinator.persistence import history
from fedmqtt.messages import encode
from tests.coordinator.guests import Room, federation_config, update, zeros
from tests.coordinator.persistence.test_restart import CHANGES, Federation, answer, back, come, kill

pytestmark = pytest.mark.broker

SIZE = 4


def test_between_two_late_answers_others_have_their_turn(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = federation_config(
        mosquitto_broker.url,
        federation_name,
        {"count": 2, "cohort": 1, "quorum": 1, "over_selection": 3.0, "clients_min": 3},
        late=LateAnswers(policy="weigh"),
    )
    seen: list[str] = []
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob, cat = room.guests("ann", "bob", "cat", purposes=("train",))
        with room.coordinating(config, zeros(SIZE), tmp_path) as running:
            first = ann.offered(1)
            fold = running.service._answers.fold

            def folding(*words: Any, **named: Any) -> None:
                seen.append("fold")
                running.loop.post(lambda: seen.append("turn"))
                fold(*words, **named)

            monkeypatch.setattr(running.service._answers, "fold", folding)
            ann.say(update(first, [1.0] * SIZE))
            assert ann.receipt().accepted
            second = ann.offered(2)
            for guest in (bob, cat):
                guest.say(update(first, [1.0] * SIZE))
                assert guest.receipt().accepted
            ann.say(update(second, [1.0] * SIZE), number=2)
            room.ended(running)
    assert [len(record.late_counted) for record in running.records] == [0, 2]
    assert seen == ["fold", "turn"] * 4
    assert load_file(tmp_path / "model.safetensors")["w"].tolist() == [2.0] * SIZE


def test_who_is_left_out_when_late_answers_are_folded_is_not_recorded_as_counted(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path, more='[late]\npolicy = "weigh"\n')
    words = ["--set", "rounds.cohort=1", "--set", "rounds.quorum=1"]
    words += ["--set", "rounds.over_selection=3.0"]
    with Room(url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            first = ann.offered(1)
            answer(ann, first)
            second = ann.offered(2)
            for guest in (bob, cat):
                answer(guest, first)
            kill(room, program)
        # An older program may have let pass what this one does not.
        bad = encode(update(first, [math.nan] * SIZE))
        with closing(sqlite3.connect(federation.run / "ledger.db")) as db, db:
            db.execute("UPDATE answer SET message = ? WHERE client = 'bob'", (bad,))
        with federation.coordinating(*words) as program:
            back(room, ann, second)
            answer(ann, second)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
            assert "the late answer of bob does not count any more: has values" in program.log
    records = history.read(federation.run / "history.jsonl")
    assert [one.late_counted for one in records] == [[], [("cat", 1)]]
