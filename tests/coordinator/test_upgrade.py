"""A run that goes on after its program was changed, or what is asked of it."""

from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from tests.coordinator.guests import Room
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    TASK,
    Federation,
    answer,
    back,
    come,
    kill,
)
from tests.programs import running

pytestmark = pytest.mark.broker


def test_a_round_of_an_older_wire_version_is_given_up(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    """Its answers are whole, and were made by clients that speak otherwise."""
    url = mosquitto_broker.url
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating() as program:
            answer(guests[0], guests[0].offered(1))
            kill(room, program)
    config = str(tmp_path / "federation.toml")
    words = ["tests.coordinator.next_wire", "coordinator", config, "--broker", url]
    with running(tmp_path, *words) as program:
        program.wait_for("going on before round 2")
        assert "round 1 was opened with other settings" in program.log
    (record,) = history.read(federation.run / "history.jsonl")
    assert (record.outcome, record.reason) == ("kept", "the settings were changed")


def test_a_last_evaluation_is_given_up_where_more_rounds_are_asked_for(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    more = ["--set", "evaluation.every=1000"]
    federation = Federation(url, federation_name, tmp_path)
    with Room(url, federation_name) as room:
        guests = come(room, *CHANGES)
        room.guest("dan").come(task=TASK, purposes=("evaluate",))
        with federation.coordinating("--set", "rounds.count=1", *more) as program:
            for guest in guests:
                answer(guest, guests[0].offered(1))
            last = guests[0].offered(2)
            assert (last.train, last.evaluate) == ((), ("dan",))
            kill(room, program)
        # As many as there were: the evaluation goes on.
        with federation.coordinating("--set", "rounds.count=1", *more) as program:
            again = back(room, guests[0], last)
            assert (again.round, again.evaluate) == (2, ("dan",))
            kill(room, program)
        with federation.coordinating("--set", "rounds.count=3", *more) as program:
            third = guests[0].offered(3)
            assert third.train == ("ann", "bob", "cat")
            for guest in guests:
                answer(guest, third)
            room.page("model", lambda page: page.trained_rounds == 2)
            kill(room, program)
    records = history.read(federation.run / "history.jsonl")
    assert [(one.outcome, one.reason) for one in records] == [
        ("averaged", "cohort complete"),
        ("kept", "more rounds are asked for"),
        ("averaged", "cohort complete"),
    ]
