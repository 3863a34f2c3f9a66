"""Rounds of a site as one answer to the centre: an Update, or an Evaluation.

One round is handed up as the exact sum that it was:

    sum_k n_k d_k                      whole numbers, on the centre's grid

Several come to the way from the centre's model to the newest, which weighs as the samples of the
last of them: hierarchical averaging. Where answers to the centre are masked, so does a single one.

    n (w_now - w_base)

Source: Liu, Zhang, Song and Letaief, "Client-Edge-Cloud Hierarchical Federated Learning",
ICC 2020, eq. 4, with the site for the edge.
"""

import numpy as np

from coordinator.sites import above, totals
from coordinator.sites.above import CameTo
from edge_client import masked_answer
from edge_client.training_job import Job
from fedmqtt import exact_total
from fedmqtt.fixed_point import Total
from fedmqtt.messages import Evaluation, Measures, SumOf, Update, method_name
from fedmqtt.weights import Array
from learning_tasks.seam import Trained


class NoAnswer(ValueError):
    """Nothing can be handed up of this; why, in a sentence."""


def evaluation(job: Job, what: CameTo) -> Evaluation:
    """Raises NoAnswer."""
    found = above.measures(what.figures)
    if found is None:
        raise NoAnswer(f"no device of the site measured the model: {what.reason}")
    return Evaluation(run=job.run, round=job.round, base=job.base, measures=found)


def one_round(job: Job, what: CameTo, measures: Measures | None) -> Update:
    """Of a round that started from the centre's model. Raises NoAnswer."""
    if job.mask is not None or what.exact is None:
        return several(job, what, what.before, measures)
    assert job.sites is not None
    numbers, weight = what.exact
    return _sum(job, what, numbers, weight, measures)


def several(job: Job, what: CameTo, base: Array, measures: Measures | None) -> Update:
    """Of the rounds from the centre's model, whose shared numbers are `base`, to the one that came
    to this. Raises NoAnswer."""
    change = what.after - base
    if job.mask is not None:
        # All that is told is under the mask: metrics too.
        trained = Trained({}, what.samples, {})
        return masked_answer.update(job, job.mask, job.fingerprint, change, trained, measures)
    assert job.sites is not None
    largest = float(np.abs(change).max(initial=0))
    if largest > job.sites.change_max:
        raise NoAnswer(
            f"a parameter has changed by {largest:.4g} since the centre's model, which takes"
            f" {job.sites.change_max:g} at most"
        )
    scaled = change.astype(np.float64)
    scaled *= np.ldexp(float(what.samples), job.sites.bits)
    return _sum(job, what, np.rint(scaled).astype(np.int64), what.samples, measures)


def _sum(
    job: Job,
    what: CameTo,
    numbers: Total,
    weight: int,
    measures: Measures | None,
) -> Update:
    assert job.sites is not None
    if weight > job.sites.weight_max:
        raise NoAnswer(
            f"this site's {what.clients} devices trained on {weight} samples, and the centre lets"
            f" a site stand for {job.sites.weight_max}: its operator may raise sites.weight_max"
        )
    return Update(
        run=job.run,
        round=job.round,
        base=job.base,
        fingerprint=job.fingerprint,
        sample_count=weight,
        codec=totals.CODEC,
        metrics=dict(what.train_metrics),
        measures=measures,
        method=method_name(job.training, job.method),
        sum_of=SumOf(clients=what.clients, bits=job.sites.bits),
        payload=memoryview(exact_total.encode(numbers)),
    )
