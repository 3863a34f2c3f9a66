"""Rounds that wait for nobody: real programs, a real broker, and a coordinator that is killed."""

import signal
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.test_late_client import Slow

pytestmark = pytest.mark.broker

# Ann, bob and cat are at work, and a model is made from each answer.
WORDS = ["--set", "rounds.mode=asynchronous", "--set", "rounds.concurrency=3"]
WORDS += ["--set", "rounds.cohort=1", "--set", "rounds.quorum=1"]


def test_nobody_waits_for_the_slow_and_what_they_did_counts(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    federation = Slow(mosquitto_broker.url, federation_name, tmp_path, "rounds_max = 9")
    with federation.clients() as clients:
        with federation.coordinating(*WORDS) as coordinator:
            for who in ("ann", "bob", "cat"):
                clients[who].wait_for("round 1: train")
            # Ann is done twice while the others are at their first.
            for number in (1, 2):
                federation.open_gate("ann", number)
                federation.wait_for_round(number)
                clients["ann"].wait_for(f"round {number + 1}: train")
            coordinator.process.send_signal(signal.SIGKILL)
            coordinator.process.wait()
        with federation.coordinating(*WORDS) as coordinator:
            federation.open_gate("bob", 1)
            federation.wait_for_round(3)
            # He began with the first model; now he has the newest.
            clients["bob"].wait_for("round 4: train")
            federation.open_gate("cat", 1)
            assert coordinator.wait() == 0, coordinator.log
        for who in ("bob", "cat"):
            assert clients[who].log.count("round 1: train") == 1, "begun only once"
            clients[who].wait_for("round 1 accepted")
    records = federation.records
    assert [record.answered for record in records] == [["ann"], ["ann"], [], []]
    assert [record.late_counted for record in records] == [[], [], [("bob", 1)], [("cat", 1)]]
    assert [record.outcome for record in records] == ["averaged"] * 4
