"""What strategies ask of clients beyond local SGD: done to the change, before it is sent.

`Method` in the offer says what. The real trainer and the lab's clients both come here.
"""

from dataclasses import dataclass, replace

import numpy as np

from edge_client import participation
from edge_client.remembered import NOTHING, Numbers, Remembered
from edge_client.training_job import Job
from fedmqtt import codec_chain, codec_chance, fixed_point
from fedmqtt.codec_chance import Chances
from fedmqtt.messages import PLAIN, Method
from fedmqtt.topics import RoundId
from fedmqtt.weights import Array, Shapes

_COUNTED = "counted"
"""The sum of what was counted of this client, int32, shape (size,), in multiples of 2^-bits."""
_BITS = "fraction_bits"
_LEARNING_RATE = "learning_rate"
"""In whose steps a control is."""
_LEFT_OUT = "left out"
"""What a codec has left out of all answers that were counted, float32, shape (size,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """How a change travels, and what the client remembers once it is counted."""

    payload: bytes | memoryview
    since: RoundId = NOTHING.round
    whole: bool = False
    interval: float = 1.0
    remembered: Remembered | None = None
    """None: nothing is to be remembered."""


def remembers(method: Method, codec: str) -> bool:
    """Whether clients keep anything from one round for the next."""
    return method.is_chained or method.interval_max > 0 or codec_chain.read(codec).remembers


def encode(
    job: Job,
    change: Array,
    before: Remembered = NOTHING,
    shapes: Shapes = (),
    control: Array | None = None,
) -> Outgoing:
    """`change`: what training changed, float32, shape (size,), of tensors of these `shapes`.
    `before`: what is remembered. `control`: of the same size, what the client's own will be.

    Raises ValueError on numbers that cannot be sent.
    """
    if control is not None:
        return _difference(job, control, before, shapes, ahead=change)
    if job.method.difference:
        # What a codec leaves out of one difference is in the next: it needs no other memory.
        return _difference(job, change, before, shapes)
    chain = codec_chain.read(job.codec)
    if chain.remembers:
        outgoing = _with_feedback(job, change, before, shapes)
    else:
        outgoing = Outgoing(payload=chain.encode(change, _chances(job), shapes))
    return _with_interval(job, outgoing, before) if job.method.interval_max else outgoing


def _with_interval(job: Job, outgoing: Outgoing, before: Remembered) -> Outgoing:
    """With how rarely it takes part, as `fedau` asks."""
    interval, facts = participation.answered(before.facts, job.round, job.method.interval_max)
    # A codec that leaves nothing out has no use for what others have left, and none of it is sent.
    kept = before.arrays if outgoing.remembered is None else outgoing.remembered.arrays
    remembered = Remembered(round=job.round, facts=facts, arrays=kept)
    return replace(outgoing, interval=interval, remembered=remembered)


def control(job: Job, before: Remembered, size: int) -> Array | None:
    """The client's own control, shape (size,), as it was counted; None where it has none."""
    counted = _counted(job, before, size)
    if counted is None:
        return None
    return np.ldexp(counted.astype(np.float64), -job.method.fraction_bits).astype(np.float32)


def _difference(
    job: Job, change: Array, before: Remembered, shapes: Shapes, ahead: Array | None = None
) -> Outgoing:
    """The client's half of a strategy that adds up differences, as `mifa`. What is `ahead`, of
    the same shapes, goes before the difference as it is."""
    bits = job.method.fraction_bits
    counted = _counted(job, before, change.size)
    is_known = counted is not None
    if counted is None:
        counted = np.zeros(change.size, np.int32)
    so_far = np.ldexp(counted.astype(np.float64), -bits)
    chain, chances = codec_chain.read(job.codec), _chances(job)
    numbers = (change - so_far).astype(np.float32)
    if ahead is not None:
        numbers, shapes = np.concatenate([ahead, numbers]), 2 * shapes
    payload = chain.encode(numbers, chances, shapes)
    # Not what was meant, but what has arrived: a codec's errors are made good next time.
    arrived = chain.decode(payload, numbers.size, chances, shapes)[-change.size :]
    total = counted + fixed_point.on_grid(arrived, bits)
    if np.abs(total).max(initial=0) >= fixed_point.REMEMBERED_MAX:
        raise ValueError("is, together with what was counted before, beyond limits.change_max")
    remembered = Remembered(
        round=job.round,
        facts=_facts(job),
        arrays={_COUNTED: total.astype(np.int32)},
    )
    return Outgoing(
        payload=payload,
        since=before.round,
        whole=before.round > 0 and not is_known,
        remembered=remembered,
    )


def _with_feedback(job: Job, change: Array, before: Remembered, shapes: Shapes) -> Outgoing:
    """What was left out of earlier answers goes with this one, or is left out once more.

    Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, algorithm 1.
    """
    left_out = before.arrays.get(_LEFT_OUT)
    if left_out is None or left_out.size != change.size:
        left_out = np.zeros(change.size, np.float32)
    chain, chances = codec_chain.read(job.codec), _chances(job)
    wanted = change + left_out
    payload = chain.encode(wanted, chances, shapes)
    rest = wanted - chain.decode(payload, change.size, chances, shapes)
    remembered = Remembered(round=job.round, arrays={_LEFT_OUT: rest})
    return Outgoing(payload=payload, remembered=remembered)


def _counted(job: Job, before: Remembered, size: int) -> Numbers | None:
    counted = before.arrays.get(_COUNTED)
    fits = counted is not None and counted.size == size and before.facts == _facts(job)
    return counted if fits else None


def _facts(job: Job) -> dict[str, float]:
    """By what it is told whether what was counted still means the same."""
    facts = {_BITS: float(job.method.fraction_bits)}
    if job.method.control != PLAIN.control:
        facts[_LEARNING_RATE] = job.training.learning_rate
    return facts


def _chances(job: Job) -> Chances:
    return codec_chance.of_answer(job.seed, job.round, job.client)
