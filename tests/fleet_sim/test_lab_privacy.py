"""Differential privacy in the lab: noise, budgets and the end are those of the real coordinator."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.persistence import history
from fedmqtt.weights import Array
from fleet_sim.lab import Lab
from tests.fleet_sim.lab_fleets import fleet, learning

PRIVATE = (
    'differential_privacy = {{ noise = "central", noise_multiplier = {0}, clip_norm = 0.5,'
    " participations_max = {1} }}\n"
)


def ran(folder: Path, federation: str) -> Lab:
    rounds = "count = 6\ncohort = 4\nquorum = 4\nclients_min = 4\n"
    of = fleet(folder, "clients = 6", rounds=rounds, federation=federation)
    with learning(of) as lab:
        lab.run()
    return lab


def test_what_is_spent_of_the_budget_is_told_with_each_round(tmp_path: Path) -> None:
    lab = ran(tmp_path, PRIVATE.format(1.0, 3))
    spent = [one.privacy for one in lab.records if one.outcome == "averaged"]
    told = [(one.epsilon, one.participations) for one in spent if one is not None]
    assert len(told) == len(spent) >= 3
    # Nobody took part before the first one, and the most that anybody did only grows.
    assert told == sorted(told) and (told[0][1], told[-1][1]) == (1, 3)
    (last,) = {one.epsilon_max for one in spent if one is not None}
    assert 0 < told[0][0] < told[-1][0] == pytest.approx(last)
    assert f"epsilon {told[-1][0]:.4g}" in history.sentence(lab.records[len(spent) - 1])


def model(lab: Lab) -> Array:
    assert lab.tensors is not None
    return lab.tensors.flat


def test_a_fleet_stops_when_too_few_may_take_part(tmp_path: Path) -> None:
    lab = ran(tmp_path, PRIVATE.format(1.0, 2))
    assert lab.is_finished
    # Twelve participations are three rounds of four, and who is drawn may leave some over.
    averaged = [record for record in lab.records if record.outcome == "averaged"]
    counts = {
        client: sum(client in record.answered for record in averaged)
        for record in averaged
        for client in record.answered
    }
    assert 2 <= len(averaged) <= 3
    assert max(counts.values()) == 2
    assert sum(count < 2 for count in counts.values()) + 6 - len(counts) < 4


def test_noise_is_added_and_comes_again_with_the_seed(tmp_path: Path) -> None:
    first, again = (model(ran(tmp_path, PRIVATE.format(1.0, 6))) for _ in range(2))
    assert np.array_equal(first, again)
    quiet = model(ran(tmp_path, PRIVATE.format(0.01, 6)))
    loud = model(ran(tmp_path, PRIVATE.format(100.0, 6)))
    assert _distance(first, quiet) > 0.05
    assert _distance(loud, quiet) > 20 * _distance(first, quiet) / 10


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(one - other))
