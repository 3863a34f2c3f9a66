"""Clients of the lab remember what a codec left out of their answers, as real ones do."""

from pathlib import Path

import numpy as np
import pytest

from coordinator.rounds import Named
from edge_client.remembered import Remembered
from fedmqtt import codec_chain, codec_chance
from fedmqtt.messages import Evaluation, Update
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from fleet_sim.lab import Lab
from fleet_sim.lab_tensors import Cohort
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


class Heard:
    """What a lab's coordinator counted of each client: by round, the numbers that arrived."""

    def __init__(self, lab: Lab, codec: str, size: int) -> None:
        self.of: dict[ClientId, dict[RoundId, Array]] = {}
        tensors, chain = lab.tensors, codec_chain.read(codec)
        assert tensors is not None
        accept, hold = tensors.accept, tensors.hold

        def hear(client: ClientId, answer: Update | Evaluation) -> None:
            assert isinstance(answer, Update)
            chances = codec_chance.of_answer(0, answer.round, client)
            mine = self.of.setdefault(client, {})
            assert answer.round not in mine
            mine[answer.round] = chain.decode(answer.payload, size, chances)

        def accepted(client: ClientId, answer: Update | Evaluation, *, evaluates: bool) -> None:
            hear(client, answer)
            accept(client, answer, evaluates=evaluates)

        def held(named: Named, answer: Update) -> None:
            hear(named.client, answer)
            hold(named, answer)

        tensors.accept, tensors.hold = accepted, held  # type: ignore[method-assign]


@pytest.mark.parametrize("strategy", ["fedavg", "fedau", "mifa"])
def test_all_of_it_counts_once_though_the_next_invitation_comes_before_the_receipt(
    tmp_path: Path, strategy: str
) -> None:
    # An answer takes some ten seconds up; others' answers make a new version each second or two,
    # and who is silent for three is invited again.
    codec = "topk(share=0.3)+full"
    of = fleet(
        tmp_path,
        "clients = 3\n[link]\nup = { kbps = 1.0, spread = 0.5 }\n[device]\nms_per_sample = 10.0",
        rounds="count = 25\nmode = 'asynchronous'\ncohort = 1\nconcurrency = 3\nquorum = 1\n"
        "clients_min = 3\ndeadline_s = 3.0\n",
        task=large_task(tmp_path, 1_000),
        federation=f"aggregation = '{strategy}'\ncodec = '{codec}'\n"
        "late = { rounds_max = 100 }\n",
    )
    with learning(of) as lab:
        heard = Heard(lab, codec, 1_000)
        lab.run()
        assert isinstance(lab._work, Cohort)
        memories = {client: kept.committed for client, kept in lab._work._memories.items()}
    assert lab.is_finished and len(memories) == 3
    for client, memory in memories.items():
        # Those whose receipt was not there when it ended are in neither.
        came = [one for number, one in heard.of[client].items() if number <= memory.round]
        assert len(came) > 3
        if strategy == "mifa":
            np.testing.assert_allclose(sum(came), _known(memory), atol=1e-6)
        else:
            # Each training adds 1 to each number.
            whole = sum(came) + memory.arrays["left out"]
            np.testing.assert_allclose(whole, len(came), rtol=1e-5)


def _known(memory: Remembered) -> Array:
    found: Array = np.ldexp(memory.arrays["counted"], -int(memory.facts["fraction_bits"]))
    return found
