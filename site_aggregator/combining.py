"""Rounds of a site as one answer to the centre: an Update, or an Evaluation.

One round is handed up as the exact sum that it was:

    sum_k n_k d_k                      whole numbers, on the centre's grid

or, where answers to the centre are masked and may stand for several devices, as the exact sum of
what each device would mask (`coordinator/sites/words.py`), under one mask.

Several come to the way from the centre's model to the newest, which weighs as the samples of the
last of them: hierarchical averaging. So does a single one, where answers to the centre are masked
and each counts as one client's.

    n (w_now - w_base)

Source: Liu, Zhang, Song and Letaief, "Client-Edge-Cloud Hierarchical Federated Learning",
ICC 2020, eq. 4, with the site for the edge.
"""

import numpy as np
from numpy.typing import NDArray

from coordinator.sites import above, totals, words
from coordinator.sites.above import CameTo, Words
from edge_client import masked_answer
from edge_client.training_job import Job, Mask
from fedmqtt import codec_chance, exact_total
from fedmqtt.fixed_point import Total
from fedmqtt.masking import values
from fedmqtt.messages import Evaluation, Measures, SumOf, Update, method_name
from fedmqtt.weights import Array
from learning_tasks.seam import TaskError
from site_aggregator import terms


class NoAnswer(ValueError):
    """Nothing can be handed up of this; why, in a sentence."""


def evaluation(job: Job, what: CameTo) -> Evaluation:
    """Raises NoAnswer."""
    found = above.measures(what.figures)
    if found is None:
        raise NoAnswer(f"no device of the site measured the model: {what.reason}")
    return Evaluation(run=job.run, round=job.round, base=job.base, measures=found)


def one_round(job: Job, what: CameTo, measures: Measures | None, *, tells: bool = True) -> Update:
    """Of a round that started from the centre's model. Raises NoAnswer.

    Unless it `tells`, nothing of what devices measured under masks of their own goes up."""
    if job.mask is not None:
        found = _exact_words(job, what)
        if found is None:
            return several(job, what, what.before, measures)
        if tells:
            # They are masked in place, and what the round came to may be told again.
            summed = found.numbers.copy()
        else:
            summed = values.without_measures(masked_answer.masking_of(job.mask), found.numbers)
        return _masked(job, job.mask, summed, what.before.size)
    if what.exact is None:
        return several(job, what, what.before, measures)
    assert job.sites is not None
    numbers, weight = what.exact
    return _sum(job, what, numbers, weight, measures)


def several(job: Job, what: CameTo, base: Array, measures: Measures | None) -> Update:
    """Of the rounds from the centre's model, whose shared numbers are `base`, to the one that came
    to this. Raises NoAnswer."""
    change = what.after - base
    if job.mask is not None:
        return _masked_mean(job, job.mask, what, change, measures)
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


def is_mean_of_devices(job: Job, what: CameTo) -> bool:
    """Whether the answer is a mean where it might have been the sum of what each would mask."""
    return terms.as_masked(job) is not None and _exact_words(job, what) is None


def _exact_words(job: Job, what: CameTo) -> Words | None:
    """What each device would mask, added up: where the centre's answers may be of several."""
    how, found = terms.as_masked(job), what.words
    return found if how is not None and found is not None and words.are_for(found, how) else None


def _masked_mean(
    job: Job, mask: Mask, what: CameTo, change: Array, measures: Measures | None
) -> Update:
    """Raises NoAnswer."""
    masking, found = masked_answer.masking_of(mask), _exact_words(job, what)
    if found is not None:
        weight, clients = values.told_by(masking, found.numbers, change.size)
    elif masking.clients_max > 1:
        # What each counts for nobody has told: then it is one.
        weight = clients = min(what.clients, masking.clients_max)
    else:
        weight, clients = values.weight(masking, what.samples), 1
    chances = codec_chance.of_answer(job.seed, job.round, job.client)
    try:
        numbers = values.of_mean(masking, change, weight, clients, chances, measures)
    except ValueError as bad:
        raise NoAnswer(f"what the site's rounds changed cannot be masked: {bad}") from bad
    return _masked(job, mask, numbers, change.size)


def _masked(job: Job, mask: Mask, numbers: NDArray[np.uint32], size: int) -> Update:
    # All that is told is under the mask: metrics too.
    try:
        return masked_answer.of_words(job, mask, job.fingerprint, numbers, size)
    except TaskError as bad:
        raise NoAnswer(str(bad)) from bad


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
