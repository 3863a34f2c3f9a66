"""A client's control in one round, as `scaffold` asks: what corrects each step, and what follows.

    correction of each gradient     (published - own) / learning rate: the paper's c - c_i
    own, afterwards                 own - published + (base - trained) / steps

In units of a local step (`fedmqtt/control.py`). Source: Karimireddy et al., "SCAFFOLD", ICML 2020,
eq. 3 and option II of eq. 4.
"""

from dataclasses import dataclass

import numpy as np

from edge_client import local_methods
from edge_client.remembered import Remembered
from edge_client.training_job import Job
from fedmqtt.messages import PLAIN
from fedmqtt.personal import Division
from fedmqtt.weights import Array, Weights
from learning_tasks.seam import TaskError, Trained


@dataclass(frozen=True, slots=True)
class Control:
    """As of when training begins. Both have shape (division.size,)."""

    published: Array
    own: Array

    def correction(self, division: Division, learning_rate: float) -> Weights:
        """To be added to each gradient, by the names of all weights: 0 in personal layers."""
        shared = (self.published - self.own) / np.float32(learning_rate)
        zeros = np.zeros(division.layout.size, np.float32)
        return division.layout.unflatten(division.with_shared(zeros, shared))

    def after(self, division: Division, change: Array, trained: Trained) -> Array:
        """The client's own, after training changed what is shared by `change`."""
        corrected = division.layout.unflatten(np.zeros(division.layout.size, np.float32))
        for name in trained.corrected:
            corrected[name][...] = 1
        # What no step moves, as running statistics, has no gradient, and nothing corrects it.
        mask = division.shared_of(division.layout.flatten(corrected))
        moved = change / np.float32(trained.steps)
        found: Array = mask * (self.own - self.published - moved)
        return found


def begin(
    job: Job, division: Division, published: Array | None, before: Remembered
) -> Control | None:
    """By the control that came with the model and what is remembered; None where none is asked for.

    Raises TaskError where none came, or one of another size.
    """
    if job.method.control == PLAIN.control:
        return None
    if published is None or published.size != division.size:
        raise TaskError("the model came without the control that the federation asks to train by")
    own = local_methods.control(job, before, division.size)
    if own is None:
        is_mean = job.method.control == "from_mean"
        own = published if is_mean else np.zeros(division.size, np.float32)
    return Control(published, own)
