"""What hostile clients send, and trainers among whom some are hostile.

They know what the honest ones of their round send (the worst case), and act together. d_k is the
change of an honest client, mean and sd of all of them are taken for each parameter.

    sign     -3 mean                    the opposite of what was learned
    alie     mean - z sd                as far off as hides among honest clients (Baruch et al.,
                                        "A Little Is Enough", NeurIPS 2019)
    ipm      -0.5 mean, -10 mean        inner-product manipulation (Xie, Koyejo and Gupta, "Fall of
                                        Empires", UAI 2019)
    labels   trained on data whose class c is called class C - 1 - c
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fedmqtt.messages import PLAIN, Method, Training
from fedmqtt.weights import Weights
from fleet_sim.training.orders import TrainJob
from fleet_sim.training.trainers import Progress, Trainers
from learning_tasks.seam import Trained

Values = NDArray[np.float64]
Forge = Callable[[Values, Values, int, int], Values]
"""(mean and sd of the honest changes, answers in all, hostile ones) -> what a hostile one sends."""

FORGED: dict[str, Forge] = {
    "sign": lambda mean, sd, count, hostile: -3.0 * mean,
    "alie": lambda mean, sd, count, hostile: mean - little(count, hostile) * sd,
    "ipm": lambda mean, sd, count, hostile: -0.5 * mean,
    "ipm10": lambda mean, sd, count, hostile: -10.0 * mean,
}
LABELS = "labels"
ATTACKS = (*FORGED, LABELS)


def little(count: int, hostile: int) -> float:
    """ALIE's z: beyond it lie so few honest clients that a majority is on the attackers' side."""
    needed = math.floor(count / 2 + 1) - hostile
    honest = count - hostile
    # Where they need nobody, or nearly everybody, it is not defined: as near as it can be.
    share = min(max((honest - needed) / honest, 0.5), 1 - 1 / (2 * honest))
    return NormalDist().inv_cdf(share)


class AttackedTrainers(Trainers):
    def __init__(
        self,
        task: str,
        data_dir: Path,
        attack: str,
        hostile: frozenset[str],
        mislabelled: Trainers | None = None,
    ) -> None:
        """`attack` is one of ATTACKS, or "none". `mislabelled` trains with the wrong labels."""
        super().__init__(task, data_dir, processes=0)
        self._attack = attack
        self._hostile = hostile
        self._mislabelled = mislabelled

    def train(
        self,
        base: Weights,
        jobs: Sequence[TrainJob],
        training: Training,
        progress: Progress = lambda fraction: None,
        method: Method = PLAIN,
    ) -> list[Trained | str]:
        found = super().train(base, jobs, training, progress, method)
        bad = [n for n, job in enumerate(jobs) if job.client in self._hostile]
        if self._attack == "none" or not bad:
            return found
        if self._attack == LABELS:
            assert self._mislabelled is not None
            theirs = self._mislabelled.train(base, [jobs[n] for n in bad], training, method=method)
        else:
            honest = [one for n, one in enumerate(found) if n not in bad]
            forged = _forged(FORGED[self._attack], base, honest, len(jobs), len(bad))
            theirs = [_with(found[n], forged) for n in bad]
        for n, one in zip(bad, theirs, strict=True):
            found[n] = one
        return found


def _forged(
    forge: Forge, base: Weights, honest: Sequence[Trained | str], count: int, hostile: int
) -> Weights:
    made: Weights = {}
    for name, start in base.items():
        changes = [
            one.weights[name].astype(np.float64) - start
            for one in honest
            if isinstance(one, Trained)
        ]
        assert changes, "nobody honest is there to learn from"
        change = forge(np.mean(changes, axis=0), np.std(changes, axis=0), count, hostile)
        made[name] = (start + change).astype(np.float32)
    return made


def _with(one: Trained | str, weights: Weights) -> Trained | str:
    return one if isinstance(one, str) else Trained(weights, one.sample_count, one.metrics)
