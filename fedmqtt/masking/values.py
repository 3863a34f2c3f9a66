"""A change to whole numbers that add up without wrapping round, and their sum to a mean change.

    d      a number that is sent, clipped to its range r (`change_max`, or `ranges`)
    w      what the client counts for, 1 to weight_max
    q = round(w * d / step)      step = weight_max * r / L,  L = 2^(value_bits - 1) - 1
    mean = step * sum q / sum w

So |q| <= L, and `bits` of the modulus are chosen so that the sum of all clients' L, each taken as
often as it may be, fits (`bits_needed`): no sum wraps, as long as clients do as they are told. With
more than 8 bits for a value it is rounded to the nearest, and the mean of n values is off by
step / 2 * n / sum w at most; with fewer it is rounded at random, right on average, and off by less
than twice that. What was clipped is counted, and comes on top.

Behind the body stands the tail, masked modulo 2^32: the weight, how many numbers were clipped, and
whether the norm was; where an answer may stand for several devices, for how many; then, where it is
asked for, how large values are (`block_norms.py`), and at its end what the client measured
(`measured.py`).

All of these add up: a site's answer is the sum of its devices' words (`clients_max`), and the sum
of all answers the same, word for word, as if each device had answered for itself. `bits` leave room
for so many devices behind each answer.

Where keyholders add noise, the norm of the whole numbers is bounded exactly (`bounded.py`), all
answers weigh 1, and the tail tells nothing but, where it is asked for, whether the norm was within
`norm_max`: so many steps up, or down, under the same noise (`noise_promise.py`).

`share`: those that `part` draws, the same for all (`codecs/part.py`). They are sent as they are,
and the mean is multiplied by the length of the run that each was drawn from, so that clipping and
norms are those of the change itself. `rotate`: then rotated (`rotation.py`) with signs that are
the same for all, before they are clipped. Taking that back is exact, as every sum is a whole number
below 2^53: it is done in float64.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmqtt import codec_blocks as blocks
from fedmqtt import fixed_point, noise_promise, rotation
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.codec_chance import Chance, Chances
from fedmqtt.codecs import LARGEST, part
from fedmqtt.masking import block_norms, bounded, measured
from fedmqtt.masking.measured import MeasuredSum
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Masking, Measures
from fedmqtt.weights import Array

Doubles = NDArray[np.float64]

COUNTS = 3
"""Whole numbers that each tail begins with: the weight, how many were clipped, whether the norm
was."""

_NORMS_AT, _CLIENTS_AT = 2, 3
"""In a tail: what is told of norms; and for how many devices it is, where it may be several."""

NUMBERS = (
    *("value_bits", "weight_max", "samples_max", "change_max", "norm_max", "noise", "norm_steps"),
    *("indicator", "share", "rotate", "ranges", "block_norms", "metrics", "classes", "clients_max"),
)
"""Of a masking: all that decides to which words a change becomes."""

BITS_MIN, BITS_MAX = 4, 32
CLIPPED_MAX = 2**16
"""As many as a client tells of: the sum of 65,535 clients fits 32 bits."""
_AT_RANDOM_BITS = 8
"""Values of more bits are rounded to the nearest: that is off by far less than what is learned."""


_CHUNK = 64 * BLOCK  # numbers; what is worked on stays in the second-level cache


class NotASum(ValueError):
    """The tail is none that these clients can have sent; a sentence."""


@dataclass(frozen=True, slots=True)
class MeanChange:
    """What a sum of answers comes to."""

    change: Doubles
    """The weighted mean, shape (size,)."""
    weight: int
    """Of all answers in it."""
    clipped: int
    """Numbers, of all answers: each tells of `CLIPPED_MAX` at most."""
    norms_clipped: int
    """Devices whose norm was above `norm_max`."""
    clients: int
    """Devices that it is of: more than answers, where some stand for several."""
    balance: float = 0.0
    """Where norms are told under noise: the mean of +1 for each within `norm_max` and -1 for each
    above."""
    block_norms: Doubles = field(default_factory=lambda: np.empty(0))
    """Root mean squares of the values that were sent, mean over the devices, by block."""
    measured: MeasuredSum | None = None
    """Of the base, where clients measured it."""
    words: Words | None = None
    """The sum itself, where it is handed up: of a site."""


def level_max(value_bits: int) -> int:
    """L: the largest value, of either sign."""
    return (1 << (value_bits - 1)) - 1


def is_rounded_at_random(value_bits: int) -> bool:
    return value_bits <= _AT_RANDOM_BITS


def bits_needed(value_bits: int, terms: int, times_max: int = 1, room: int = 0) -> int:
    """Of a modulus that the sum of so many values, each `times_max` times, does not wrap at, nor
    with a number up to `room` beside it, of either sign.

    Raises ValueError where that is more than 32.
    """
    bits = (2 * (level_max(value_bits) * terms * times_max + room)).bit_length()
    if bits > BITS_MAX:
        raise ValueError(
            f"sums of {terms} values of {value_bits} bits, each {times_max} times, take {bits}"
            f" bits, more than {BITS_MAX}"
        )
    return max(BITS_MIN, bits)


def weight(masking: Masking, samples: int) -> int:
    """What a client with so many samples counts for: 1 to `weight_max`."""
    if masking.weight_max == 1:
        return 1
    counted = min(samples, masking.samples_max)
    return max(1, round(masking.weight_max * counted / masking.samples_max))


def body_size(masking: Masking, size: int) -> int:
    """How many values a change of `size` numbers becomes."""
    kept = _part(masking).kept(size)
    return rotation.padded(kept) if masking.rotate else kept


def tail_size(masking: Masking, body: int) -> int:
    """How many whole numbers stand behind a body of so many values."""
    return _counts(masking) + block_norms.count(masking, body) + measured.size(masking)


def to_words(
    masking: Masking,
    change: Array,
    samples: int,
    chances: Chances,
    measures: Measures | None = None,
) -> Words:
    """Body and tail, modulo 2^32, shape (body + tail,), of a float32 change of shape (n,), and of
    what its client measured, if it did.

    Raises ValueError where a number is none, or above `codecs.LARGEST`.
    """
    return of_mean(masking, change, weight(masking, samples), 1, chances, measures)


def of_mean(
    masking: Masking,
    change: Array,
    weight_: int,
    clients: int,
    chances: Chances,
    measures: Measures | None = None,
) -> Words:
    """The same, of a mean change that counts for so much, and stands for so many devices: each for
    `weight_max` at most. Raises ValueError."""
    assert clients <= weight_ <= clients * masking.weight_max
    # Written so that "not a number" fails it too.
    if not (change.min(initial=0) >= -LARGEST and change.max(initial=0) <= LARGEST):
        raise ValueError(f"the change has numbers that are not finite, or above {LARGEST:g}")
    sent = change
    if masking.share < 1:
        sent = sent[_part(masking).places(change.size, chances.shared)]
    sent, is_long = _bounded(sent, masking.norm_max)
    if masking.rotate:
        sent = rotation.forward(sent, chances.shared)
    if masking.noise:
        return _for_noise(masking, sent, is_long, chances.own)
    words = np.empty(sent.size + tail_size(masking, sent.size), np.uint32)
    clipped = _round(masking, sent, weight_, chances.own, words)
    # All that is told of one device is told of each that the mean stands for.
    told = weight_, clients * min(clipped, CLIPPED_MAX), clients * is_long
    words[sent.size : sent.size + COUNTS] = told
    if masking.clients_max > 1:
        words[sent.size + _CLIENTS_AT] = clients
    words[_of_norms(masking, sent.size)] = block_norms.words(masking, sent) * np.uint32(clients)
    words[words.size - measured.size(masking) :] = measured.to_words(masking, measures)
    return words


def told_by(masking: Masking, words: Words, size: int) -> tuple[int, int]:
    """Of words of a change of so many numbers: what they count for, and for how many devices they
    stand."""
    body = body_size(masking, size)
    clients = int(words[body + _CLIENTS_AT]) if masking.clients_max > 1 else 1
    return int(words[body]), clients


def handed_up(masking: Masking, words: Words, size: int, clients: int) -> Words:
    """A sum that was opened, of answers of one device each, as one answer: body and tail where it
    may stand for several (`clients_max`). `masking`: of those that are in it."""
    assert masking.clients_max == 1
    body = body_size(masking, size)
    numbers = np.insert(words, body + _CLIENTS_AT, np.uint32(clients))
    numbers[:body] = centred(words[:body], masking.bits).view(np.uint32)
    return numbers


def without_measures(masking: Masking, words: Words) -> Words:
    """The same, as of devices that have measured nothing."""
    numbers = words.copy()
    numbers[numbers.size - measured.size(masking) :] = 0
    return numbers


def from_sum(
    masking: Masking, words: Words, size: int, terms: int, shared: Chance, scaled: bool = True
) -> MeanChange:
    """What a sum of `terms` answers comes to: each client as often as it was taken. `words`: body
    and tail, the body modulo 2^bits; `size`: of the change; `scaled`: see `codecs/part.py`.

    Raises NotASum.
    """
    body = body_size(masking, size)
    assert words.shape == (body + tail_size(masking, body),)
    total, clipped, norms_clipped = (int(word) for word in words[body : body + COUNTS])
    balance = 0.0
    if masking.noise:
        balance = _balance(masking, words[body + _NORMS_AT :], terms)
        # There is noise on all three, and nobody weighs more than another.
        total, clipped, norms_clipped = terms, 0, 0
    clients = int(words[body + _CLIENTS_AT]) if masking.clients_max > 1 else terms
    if not terms <= clients <= terms * masking.clients_max:
        raise NotASum(
            f"a sum of {terms} answers that stand for {clients} devices, not {terms} to"
            f" {terms * masking.clients_max}"
        )
    if not clients <= total <= clients * masking.weight_max:
        raise NotASum(
            f"a sum of {terms} answers that weighs {total}, not {clients} to"
            f" {clients * masking.weight_max}"
        )
    if clipped > clients * min(CLIPPED_MAX, body) or norms_clipped > clients:
        raise NotASum(f"a sum of {terms} answers that tells of more than they have")
    try:
        norms = block_norms.means(masking, body, words[_of_norms(masking, body)], clients)
    except ValueError as bad:
        raise NotASum(f"a sum of {terms} answers that {bad}") from bad
    sums = centred(words[:body], masking.bits).astype(np.float64)
    steps = _steps(masking, body) / total
    if masking.rotate:
        rotation.inverse(sums, steps, shared)
    else:
        blocks.scale(sums, steps)
    drawn = _part(masking)
    mean = sums[: drawn.kept(size)]
    if masking.share < 1:
        mean = _spread(drawn, mean, size, shared, scaled)
    told = measured.from_sum(masking, words)
    return MeanChange(mean, total, clipped, norms_clipped, clients, balance, norms, told)


def centred(words: Words, bits: int) -> NDArray[np.int32]:
    """The whole numbers from -2^(bits - 1) to 2^(bits - 1) - 1 that these are modulo 2^bits."""
    shift = np.uint32(32 - bits)
    return (words << shift).view(np.int32) >> shift.astype(np.int32)


def _counts(masking: Masking) -> int:
    """How many whole numbers the tail begins with."""
    return COUNTS + (masking.clients_max > 1)


def _of_norms(masking: Masking, body: int) -> slice:
    """Where in the words it stands how large values are."""
    start = body + _counts(masking)
    return slice(start, start + block_norms.count(masking, body))


def _spread(drawn: part.Stage, mean: Doubles, size: int, shared: Chance, scaled: bool) -> Doubles:
    """Each at the place that it was drawn at, and zeros elsewhere; shape (size,)."""
    spread = np.zeros(size)
    places = drawn.places(size, shared)
    spread[places] = mean * drawn.lengths(size, shared) if scaled else mean
    return spread


def _part(masking: Masking) -> part.Stage:
    return part.Stage(share=masking.share, scaled=False)


def _bounded(sent: Array, norm_max: float) -> tuple[Array, bool]:
    """Made as long as `norm_max` where it is longer, and whether it was."""
    if not norm_max:
        return sent, False
    norm = fixed_point.squared_norm(sent) ** 0.5
    if norm <= norm_max:
        return sent, False
    return sent * np.float32(norm_max / norm), True


def _steps(masking: Masking, body: int) -> Doubles:
    """Between two levels, of each block."""
    steps = block_norms.ranges(masking, body)
    steps *= masking.weight_max / level_max(masking.value_bits)
    return steps


def _round(masking: Masking, sent: Array, weight_: int, own: Chance, words: Words) -> int:
    """Write each number in steps, times its weight, as a whole one; how many were clipped."""
    highest = level_max(masking.value_bits) * weight_ / masking.weight_max
    factors = weight_ / _steps(masking, sent.size)
    is_random = is_rounded_at_random(masking.value_bits)
    chance = own.uniform("rounding", sent.size) if is_random else None
    scaled = np.empty(min(sent.size, _CHUNK))
    clipped = 0
    for start in range(0, sent.size, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, sent.size))
        numbers = scaled[: chunk.stop - start]
        np.copyto(numbers, sent[chunk])
        blocks.scale(numbers, factors[start // BLOCK :])
        clipped += _clip(numbers, highest)
        if chance is None:
            np.rint(numbers, out=numbers)
        else:
            numbers += chance[chunk]
            np.floor(numbers, out=numbers)
        np.copyto(words[chunk].view(np.int32), numbers, casting="unsafe")
    return clipped


def _for_noise(masking: Masking, sent: Array, is_long: bool, own: Chance) -> Words:
    """Body and tail, where the norm of what is sent bounds what noise has to hide."""
    numbers = sent.astype(np.float64)
    blocks.scale(numbers, 1 / _steps(masking, sent.size))
    _clip(numbers, level_max(masking.value_bits))
    is_random = is_rounded_at_random(masking.value_bits)
    found = bounded.whole(numbers, masking.norm_steps, own if is_random else None)
    words = np.zeros(sent.size + tail_size(masking, sent.size), np.uint32)
    words[: sent.size] = found.astype(np.uint32)
    told = noise_promise.indicator_steps(masking)
    words[sent.size] = 1
    words[sent.size + _NORMS_AT] = (-told if is_long else told) % 2**32
    return words


def _balance(masking: Masking, norms: Words, terms: int) -> float:
    """`norms`: of the tail's words the one, at the front, that tells of them."""
    most = noise_promise.indicator_steps(masking) * terms
    return int(norms[:1].view(np.int32)[0]) / most if most else 0.0


def _clip(numbers: Doubles, highest: float) -> int:
    """In place; how many were above, of either sign."""
    # To look takes a third of the time, and mostly none is.
    if numbers.min() >= -highest and numbers.max() <= highest:
        return 0
    above = int(np.count_nonzero(np.abs(numbers) > highest))
    np.clip(numbers, -highest, highest, out=numbers)
    return above
