"""What hostile clients send, on numbers small enough to check by hand."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from experiments.attacks import ATTACKS, FORGED, LABELS, AttackedTrainers, little
from fedmqtt.messages import Training
from fedmqtt.weights import Weights
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.trainers import Trainers
from learning_tasks.loading import load_task
from learning_tasks.seam import Trained

LINEAR = "learning_tasks.linear"
MEAN, SD = np.array([1.0, -2.0]), np.array([0.5, 0.0])


def test_each_attack_is_what_its_paper_says() -> None:
    assert FORGED["sign"](MEAN, SD, 20, 4).tolist() == [-3.0, 6.0]
    assert FORGED["ipm"](MEAN, SD, 20, 4).tolist() == [-0.5, 1.0]
    assert FORGED["ipm10"](MEAN, SD, 20, 4).tolist() == [-10.0, 20.0]
    # 20 answers, 4 hostile: 11 are a majority, so 7 of 16 honest ones are to look worse; 9 of 16.
    z = NormalDist().inv_cdf(9 / 16)
    assert little(20, 4) == pytest.approx(z)
    np.testing.assert_allclose(FORGED["alie"](MEAN, SD, 20, 4), [1 - 0.5 * z, -2.0])


@pytest.mark.parametrize("count", range(1, 30))
def test_alies_z_is_finite_however_many_there_are(count: int) -> None:
    for hostile in range(count):
        assert 0 <= little(count, hostile) < 5


def test_hostile_clients_replace_their_own_answers_and_nobody_elses(tmp_path: Path) -> None:
    base = load_task(LINEAR).initial_weights(0)
    jobs = [TrainJob(f"client-{n}", n) for n in range(4)]
    training = Training(epochs=1, batch_size=10, learning_rate=0.1)

    def changes(attack: str) -> list[Weights]:
        hostile = frozenset(["client-2"])
        with (
            Trainers(LINEAR, tmp_path, processes=0) as others,
            AttackedTrainers(LINEAR, tmp_path, attack, hostile, others) as trainers,
        ):
            found = trainers.train(base, jobs, training)
        trained = [one for one in found if isinstance(one, Trained)]
        return [
            {name: one.weights[name] - start for name, start in base.items()} for one in trained
        ]

    honest = changes("none")
    for attack in ATTACKS:
        attacked = changes(attack)
        for n in (0, 1, 3):
            for name, array in honest[n].items():
                np.testing.assert_array_equal(attacked[n][name], array)
    for name, array in changes("ipm10")[2].items():
        mean = np.mean([honest[n][name] for n in (0, 1, 3)], axis=0)
        np.testing.assert_allclose(array, -10 * mean, rtol=1e-3, atol=1e-5)
    # Its own training, by the trainers that have the wrong labels: here they have the right ones.
    for name, array in changes(LABELS)[2].items():
        np.testing.assert_array_equal(array, honest[2][name])
