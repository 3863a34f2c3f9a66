"""Clients of the lab remember what a codec left out of their answers, as real ones do."""

from pathlib import Path

import numpy as np
import pytest

from tests.fleet_sim.lab_fleets import fleet, large_task, learning


def test_what_was_left_out_of_one_answer_is_in_the_next(tmp_path: Path) -> None:
    # Each training adds 1 to all of 1,000 numbers, of which half are sent.
    of = fleet(
        tmp_path,
        "clients = 2",
        rounds="count = 3\ncohort = 2\nquorum = 2\nclients_min = 2\n",
        task=large_task(tmp_path, 1_000),
        federation="codec = 'topk(share=0.5)+full'",
    )
    with learning(of) as lab:
        lab.run()
        assert lab.is_finished and lab.tensors is not None
        model = lab.tensors.flat
    # First one half by 1, then the other by 2, then the first by 2 again.
    values, counts = np.unique(model, return_counts=True)
    assert values.tolist() == [2.0, 3.0]
    assert counts.tolist() == [500, 500]


# 4 of one direction and 1 of another at right angles to it are added, once; to biases always 1.
_TWO_DIRECTIONS = """
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {"bias": np.zeros(3, np.float32), "w": np.zeros((12, 10), np.float32)}

def load_data(data_dir, client, purpose):
    return None

def train(weights, data, training, seed, progress):
    matrix = weights["w"].copy()
    if not matrix.any():
        matrix[:4, :4], matrix[4:8, 4:8] = 4 / 4, 1 / 4
    return Trained({"bias": weights["bias"] + 1, "w": matrix}, 10, {})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


@pytest.mark.parametrize(("rounds", "second"), [(1, 0), (2, 1 / 4)])
def test_a_layers_second_direction_comes_after_the_first(
    tmp_path: Path, rounds: int, second: float
) -> None:
    task = tmp_path / "two_directions.py"
    task.write_text(_TWO_DIRECTIONS)
    of = fleet(
        tmp_path,
        "clients = 2",
        rounds=f"count = {rounds}\ncohort = 2\nquorum = 2\nclients_min = 2\n",
        task=str(task),
        federation="codec = 'lowrank(rank=1)+full'",
    )
    with learning(of) as lab:
        lab.run()
        assert lab.is_finished and lab.tensors is not None
        model = lab.tensors.layout.unflatten(lab.tensors.flat)
    wanted = np.zeros((12, 10))
    wanted[:4, :4], wanted[4:8, 4:8] = 1, second
    np.testing.assert_allclose(model["w"], wanted, atol=0.01)
    assert model["bias"].tolist() == [rounds] * 3
