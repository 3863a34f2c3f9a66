"""A whole federation by sortition: a real coordinator and real clients over a real broker."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from tests.programs import running

pytestmark = pytest.mark.broker

LINEAR = "learning_tasks.linear"
NAMES = ("ann", "bob", "cat", "dan")
ROUNDS = 6


def test_clients_see_for_themselves_whether_they_are_invited(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, name, run = mosquitto_broker.url, federation_name, tmp_path / "run"
    config = tmp_path / "federation.toml"
    config.write_text(
        f'name = "{name}"\ntask = "{LINEAR}"\nseed = 3\nselection = "sortition"\n'
        "evaluation = { every = 1, clients = 2, final_deadline_s = 100 }\n"
        "tuning = { enabled = false }\n"
        f"rounds = {{ count = {ROUNDS}, cohort = 2, clients_min = 4, over_selection = 1.0,"
        " deadline_s = 100 }\n"
    )
    with ExitStack() as stack:
        for client in NAMES:
            words = ("--broker", url, "--federation", name, "--id", client, "--task", LINEAR)
            state = ("--state", str(tmp_path / client))
            stack.enter_context(running(tmp_path, "fedmqtt", "client", *words, *state))
        command = ("fedmqtt", "coordinator", str(config), "--broker", url, "--run", str(run))
        coordinator = stack.enter_context(running(tmp_path, *command))
        assert coordinator.wait() == 0, coordinator.log
    *rounds, last = history.read(run / "history.jsonl")
    for record in rounds:
        assert record.outcome == "averaged" and not record.declined and not record.rejected
        assert len(record.invited) == 2 and record.answered == record.invited
    assert len(rounds) == ROUNDS and len({tuple(record.invited) for record in rounds}) > 1
    assert last.outcome == "evaluated" and len(last.evaluated) == 2
