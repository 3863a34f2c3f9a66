"""Late answers are many at once: whoever folds them must not be deaf meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.config import LateAnswers
from tests.coordinator.guests import Room, federation_config, update, zeros

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
