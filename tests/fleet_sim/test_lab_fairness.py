"""q-FedAvg in the lab: who has data unlike all others' is served better than by averaging."""

from pathlib import Path
from statistics import mean

import numpy as np
import pytest

from fleet_sim import fleet as fleets
from learning_tasks import linear
from tests.fleet_sim.lab_fleets import fleet, learning, names

ROUNDS = "count = 80\ncohort = 10\nquorum = 10\nclients_min = 10\n"
CLIENTS = names(10)


def write_data(folder: Path) -> None:
    """Nine clients as the task draws them, and one whose measurements come in another order."""
    for client in CLIENTS:
        found = linear.load_data(Path("none"), client, "train")
        inputs = found.inputs[:, [2, 0, 1, 3]] if client == CLIENTS[0] else found.inputs
        rows = np.column_stack([inputs, found.classes])
        np.savetxt(folder / f"{client}.csv", rows, "%.6f", delimiter=",")


def losses(folder: Path, *words: str) -> list[float]:
    """Of the last model on each client's own data, the odd one's first."""
    write_data(folder)
    fleet(folder, "clients = 10", rounds=ROUNDS)
    sets = ["training.batch_size=1000", "training.learning_rate=0.5", *words]
    of = fleets.read(folder / "fleet.toml", [f"federation.{word}" for word in sets])
    with learning(of) as lab:
        lab.run()
    assert lab.tensors is not None
    model = lab.tensors.layout.unflatten(lab.tensors.flat)
    return [
        linear.evaluate(model, linear.load_data(folder, client, "train")).metrics["loss"]
        for client in CLIENTS
    ]


@pytest.mark.parametrize("q", [1.0, 4.0])
def test_the_worst_off_gains_and_the_others_pay_for_it(tmp_path: Path, q: float) -> None:
    plain = losses(tmp_path)
    fair = losses(tmp_path, "aggregation=qfedavg", f"aggregation_settings.q={q}")
    assert max(plain) == plain[0] > fair[0]
    assert mean(fair[1:]) > mean(plain[1:])
    assert np.std(fair) < np.std(plain)
