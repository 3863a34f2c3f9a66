"""What one worker has added up of a round's answers, as it is handed over: see `messages.Sum`.

The strategy's own file adds the changes, so that each weighs just what it would have weighed with
the coordinator; what is handed over is the one exact sum that it keeps.
"""

from collections.abc import Collection, Mapping

import numpy as np

from coordinator import evaluation
from coordinator.config import Limits
from coordinator.known import LOSS
from coordinator.rounds import Named
from coordinator.sums.answers import Answers, fold_into
from fedmqtt import fixed_point
from fedmqtt.codec_chain import Sent
from fedmqtt.messages import Claimed, Sum, Term
from fedmqtt.topics import RoundId, RunId


class PartialSum:
    """Of one round, with so many bits of fraction."""

    def __init__(self, answers: Answers, run: RunId, number: RoundId, bits: int) -> None:
        self._run, self._round, self._bits = run, number, bits
        self._strategy, self._exact = answers.partial(bits)
        self._terms: list[Term] = []

    def add(self, change: Sent, term: Term) -> None:
        """Count an update that was checked."""
        fold_into(self._strategy, change, term.samples, Named(term.client, self._round))
        self._terms.append(term)

    def message(self) -> Sum:
        """At least one update must have been added."""
        return Sum(
            run=self._run,
            round=self._round,
            bits=self._bits,
            weight=self._exact.weight,
            terms=tuple(self._terms),
            payload=self._exact.total.astype("<i8", copy=False).view(np.uint8).data,
        )


def fault(
    summed: Sum, run: RunId, number: RoundId, bits: int, size: int, asked: Collection[Named]
) -> str:
    """What is wrong with a sum that was asked for of these answers; nothing if it is one."""
    if (summed.run, summed.round, summed.bits) != (run, number, bits):
        return f"it is of round {summed.round} with {summed.bits} bits, not of {number} with {bits}"
    if summed.payload.nbytes != 8 * size:
        return f"it has {summed.payload.nbytes} bytes, not {8 * size}"
    names = [Named(term.client, summed.round) for term in summed.terms]
    if len(names) != len(asked) or set(names) != set(asked):
        return f"it is of {len(names)} answers, and not of the {len(asked)} that were taken"
    if summed.weight != sum(term.samples for term in summed.terms):
        return "its weight is not that of its answers"
    return ""


def excess(summed: Sum, limits: Limits, codecs: Collection[str]) -> str:
    """What is in a sum that no updates within these limits come to; nothing if all of it may be.

    Its worker has looked at each. But who reads the round's record again must find no figure there
    that cannot be read, whatever a worker says.
    """
    for term in summed.terms:
        fault = _fault_of_figures(term.samples, term.metrics, limits)
        if not fault and term.measures is not None:
            fault = evaluation.fault(term.measures, limits.samples_max)
        if not fault and term.codec not in codecs:
            fault = f"codec {term.codec!r}, not {' or '.join(map(repr, codecs))}"
        if fault:
            return f"{term.client}: {fault}"
    terms = len(summed.terms)
    highest = fixed_point.largest_sum(limits.change_max, summed.weight, summed.bits, terms)
    numbers = np.frombuffer(summed.payload, "<i8")
    if max(-int(numbers.min(initial=0)), int(numbers.max(initial=0))) > highest:
        return f"a parameter changes by more than limits.change_max = {limits.change_max:g}"
    return ""


def excess_of_claim(claim: Claimed, limits: Limits) -> str:
    """The same, in what it says of an update with which it has found no fault."""
    if not claim.checked or claim.fault:
        return ""
    metrics = {} if claim.loss is None else {LOSS: claim.loss}
    fault = _fault_of_figures(claim.sample_count, metrics, limits)
    return f"{claim.client}: {fault}" if fault else ""


def _fault_of_figures(samples: int, metrics: Mapping[str, float], limits: Limits) -> str:
    if samples > limits.samples_max:
        return f"claims {samples} samples; limits.samples_max is {limits.samples_max}"
    return evaluation.metrics_fault(metrics)


def bytes_max(size: int, terms: int, answer_bytes_max: int) -> int:
    """Of an encoded sum: what it says of each answer was in that."""
    return 8 * size + (terms + 1) * answer_bytes_max
