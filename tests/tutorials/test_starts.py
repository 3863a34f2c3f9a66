"""What the third and the fourth tutorial say of 300 random starts, and show one of.

All of it is linear: a step takes the distance to the best line times a matrix.
"""

import numpy as np
import torch

BOB = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
ALICE = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
ALL = np.vstack([BOB, ALICE])
BEST = np.array([1.0, 0.0, 0.0])


def step(rows: np.ndarray) -> np.ndarray:
    """Of SGD with 0.1, on the summed squared error of these rows."""
    return np.asarray(np.eye(3) - 0.1 * 2 * rows.T @ rows)


def starts() -> np.ndarray:
    """Three numbers for each seed: how far w1, w2 and b are from the best ones."""
    found = []
    for seed in range(300):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            line = torch.nn.Linear(2, 1)
        found.append([*line.weight[0].tolist(), line.bias.item()])
    return np.asarray(np.array(found) - BEST)


def errors(one_round: np.ndarray, rounds: int) -> np.ndarray:
    """Squared errors on all four points, one for each seed."""
    left = starts() @ np.linalg.matrix_power(one_round, rounds).T @ ALL.T
    return np.asarray((left**2).sum(axis=1))


def test_what_the_pages_say_of_other_starts() -> None:
    weights = errors(
        (np.linalg.matrix_power(step(BOB), 5) + np.linalg.matrix_power(step(ALICE), 5)) / 2, 10
    )
    gradients = errors(step(ALL), 10)
    assert round(weights[69], 4) == 0.0026
    assert round(float((weights < 0.01).mean()), 2) == 0.12
    assert round(float(np.median(weights)), 3) == 0.048
    assert round(float((gradients < weights).mean()), 2) == 0.94
    assert gradients[69] > weights[69]
    assert (errors(step(ALL), 50) < weights).all()
