"""What noise under masks promises to a client, from what its offer says of masks. Pure.

The sum under each seed gets a discrete Gaussian of its own, of `deviation` steps, and a client's
whole numbers have a norm of at most `norm_steps`. Who lacks a seed does not know its noise, so that
it sees one Gaussian of `noise` clip norms at least, whatever other noise it can subtract.

With an indicator a client tells, beside its vector, one number: up where its norm was within the
clip norm, and down where it was not. Both together are as good as `multiplier`.
"""

import math

from fedmqtt.messages import Masking

DEVIATION_MAX = 2**24
"""In steps: as much as is drawn exactly (`privacy/noise.py`)."""

DEVIATION_MIN = 16
"""In steps: a Gaussian on whole numbers can tell more than a smooth one, of which epsilon is said.
Of 1 step epsilon is 4.43 where 4.38 is said; of so many it is larger by less than 0.01."""

LEAST = 1e-6
"""Of a deviation, in clip norms."""

NORM_STEPS_MAX = 2**32
"""As a message has it."""


def deviation(masking: Masking) -> int:
    """Of the noise of each seed, in steps; 0 where there is none."""
    return math.ceil(masking.noise * masking.norm_steps)


def indicator_steps(masking: Masking) -> int:
    """What is told of a norm, up or down: half of what a client can change of it."""
    if not masking.indicator:
        return 0
    return math.floor(deviation(masking) / (2 * masking.indicator))


def multiplier(masking: Masking) -> float:
    """Of the noise on all that a client tells in a round, in what it can change of it; 0 where
    there is no noise. By `privacy/gaussian.py` it tells epsilon."""
    if not masking.noise:
        return 0.0
    told = 1 / masking.noise
    return 1 / (math.hypot(told, 1 / masking.indicator) if masking.indicator else told)


def fault(masking: Masking) -> str:
    """Why it promises nothing though it says so, in a sentence; empty where nothing is wrong."""
    if not masking.noise:
        if masking.norm_steps or masking.indicator:
            return "a norm in steps, or an indicator of it, is of noise, and there is none"
        return ""
    if masking.noise < LEAST or 0 < masking.indicator < LEAST:
        return f"noise of less than {LEAST:g} clip norms hides nothing"
    if not DEVIATION_MIN <= deviation(masking) <= DEVIATION_MAX:
        return (
            f"noise of {deviation(masking)} steps is not {DEVIATION_MIN} to {DEVIATION_MAX}: fewer"
            " are too coarse, and more cannot be drawn"
        )
    if masking.weight_max != 1 or masking.ranges:
        return "with noise all answers count the same, and all their numbers have one range"
    if masking.is_measured or masking.block_norms:
        return "what clients measure, or tell of blocks, has no noise, and here all has"
    if masking.mixes_rounds:
        return "with noise a key is for one list, and each answer on it counts once"
    if masking.clients_max > 1:
        return (
            "with noise each answer is of one device: a sum of several is not bounded by its norm"
        )
    if masking.indicator and not indicator_steps(masking):
        return "an indicator of no steps tells nothing"
    return ""
