"""The lab makes models by the strategies of the real coordinator."""

from pathlib import Path

import numpy as np
import pytest

from coordinator import aggregation
from coordinator.sums.answers import Answers
from fedmqtt import parts
from fleet_sim.lab import Lab
from fleet_sim.lab_tensors import Tensors
from tests.fleet_sim.lab_fleets import fleet, learning

ROUNDS = "count = 3\ncohort = {0}\nquorum = {0}\nclients_min = {0}\n"


def ran(folder: Path, strategy: str, clients: int, settings: str = "") -> Lab:
    alone = getattr(parts.load(aggregation, strategy), "ONE_AT_A_TIME", False)
    of = fleet(
        folder,
        f"clients = {clients}",
        rounds="count = 3\n" if alone else ROUNDS.format(clients),
        federation=f'aggregation = "{strategy}"\naggregation_settings = {{ {settings} }}\n',
    )
    with learning(of) as lab:
        lab.run()
    return lab


def tensors_of(lab: Lab) -> Tensors:
    assert lab.tensors is not None
    return lab.tensors


@pytest.mark.parametrize("strategy", parts.names(aggregation))
def test_every_strategy_learns_in_the_lab(tmp_path: Path, strategy: str) -> None:
    lab = ran(tmp_path, strategy, 7)
    assert [record.outcome for record in lab.records] == ["averaged"] * 3
    tensors = tensors_of(lab)
    assert tensors.trained_rounds == 3
    initial = ran(tmp_path, strategy, 7)
    # Twice the same, to the last bit.
    np.testing.assert_array_equal(tensors_of(initial).flat, tensors.flat)
    assert np.isfinite(tensors.flat).all() and tensors.newest != tensors.initial


def test_in_sequence_each_is_visited_in_turn(tmp_path: Path) -> None:
    lab = ran(tmp_path, "sequential", 3)
    visited = [record.answered for record in lab.records]
    assert sorted(visited) == [["client-0"], ["client-1"], ["client-2"]]
    assert [record.invited for record in lab.records] == visited


def test_what_a_strategy_remembers_goes_from_round_to_round(tmp_path: Path) -> None:
    lab = ran(tmp_path, "fedadam", 3)
    answers: Answers = tensors_of(lab).answers
    assert set(answers.memory) == {"m", "v"}
    other = ran(tmp_path, "fedadam", 3, "momentum = 0.0, squares = 0.0")
    assert not np.array_equal(tensors_of(lab).flat, tensors_of(other).flat)


def test_a_round_with_too_few_answers_for_its_rule_keeps_the_model(tmp_path: Path) -> None:
    lab = ran(tmp_path, "bulyan", 5)
    assert lab.is_finished
    why = "bulyan needs 7 answers to withstand 1 hostile, and there were 5"
    assert [(record.outcome, record.reason) for record in lab.records] == [("kept", why)] * 3
    tensors = tensors_of(lab)
    assert tensors.newest == tensors.initial and tensors.trained_rounds == 0
