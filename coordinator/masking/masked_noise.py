"""Noise by keyholders: from a promise to what an offer says of it. Pure.

    clip norm, in steps between two values     bound    what an answer's whole numbers may measure
    noise multiplier * bound                            the deviation under each seed, in steps
    all answers at their largest, and the noise of all seeds      bits of the modulus

With an adaptive clip norm the largest change of a number follows it, so that all of these are the
same in every round.
"""

import math
from dataclasses import dataclass, replace

from msgspec import structs

from coordinator import round_rules
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from coordinator.noise import noise_checks
from coordinator.noise.differential_privacy import Grid, Plan
from fedmqtt import noise_promise
from fedmqtt.masking import bounded, values
from fedmqtt.messages import Masking
from fedmqtt.privacy import clipping, noise
from fedmqtt.settings import SettingsError

DEVIATIONS = 13
"""Of the noise, for which the modulus has room: it is above with probability 2^-127 for each
number. What wraps then makes a model worse, and tells nothing."""

SLACK_SHARE = 0.01
"""Of epsilon, what whole numbers may cost at most."""

_EPSILON_SMALL = 0.01
"""Below which nobody looks at shares of epsilon."""

_CLIP_FACTOR_MAX = 64.0
"""By how much an adaptive clip norm may differ from the one that it begins with. Each device tells
under its mask whether it was above, and may tell anything: one that lies moves it to either end."""
_CHANGE_MAX, _NORM_MAX = 1e6, 1e9
"""Of a message."""


@dataclass(frozen=True, slots=True)
class Noised:
    """How answers are masked under noise."""

    plan: Plan
    bound: int
    bits: int
    clip_max: float
    """Of an adaptive clip norm."""

    def masking(self, masking: Masking, clip: float) -> Masking:
        """The same with noise, for a round with this clip norm."""
        vectors, indicators = self.plan.multipliers
        return structs.replace(
            masking,
            bits=self.bits,
            change_max=masking.change_max * (clip / self.plan.clip_norm),
            norm_max=clip,
            norm_steps=self.bound,
            noise=vectors,
            indicator=indicators if self.plan.adaptive else 0.0,
            participations_max=self.plan.participations_max,
        )

    def following(self, clip: float, balance: float) -> float:
        """The clip norm after a round with this one; `balance`: of +1 for each answer that was
        within it, and -1 for each above, with noise."""
        smallest = self.plan.clip_norm / _CLIP_FACTOR_MAX
        share = (1 + balance) / 2
        return clipping.following(clip, share, self.plan.quantile, self.clip_max, smallest)


def check(config: FederationConfig) -> None:
    """What can be said of the settings before the model is known. Raises SettingsError."""
    of(config, 1)


def of(config: FederationConfig, size: int) -> Noised | None:
    """For a model of so many numbers; None where keyholders add no noise. Raises SettingsError."""
    if config.differential_privacy.noise != "keyholders":
        return None
    plan = noise_checks.plan(config)
    assert plan is not None
    value_bits = config.privacy.value_bits
    if not (step := _step(config, value_bits)) <= plan.clip_norm:
        raise SettingsError(
            f"differential_privacy.clip_norm is {plan.clip_norm:g}, less than the step {step:.3g}"
            " between two values: give more privacy.value_bits, or a smaller privacy.change_max"
        )
    made = _made(config, plan, size, value_bits)
    if made is None:
        fits = [one for one in range(2, value_bits) if _made(config, plan, size, one)]
        instead = (
            f"privacy.value_bits = {fits[-1]} fits, or a larger privacy.change_max"
            if fits
            else "fewer clients or less noise would fit"
        )
        raise SettingsError(
            f"privacy.value_bits is {value_bits}: with noise of {plan.sigma:.4g} clip norms under"
            f" each seed, and the {round_rules.invited_max(config)} answers that a round may"
            f" invite, sums would take more than {values.BITS_MAX} bits, or the noise more than"
            f" {noise_promise.DEVIATION_MAX} steps; {instead}"
        )
    _check_fineness(config, made, plan.epsilon_max)
    return made


def _made(config: FederationConfig, plan: Plan, size: int, value_bits: int) -> Noised | None:
    """None where words are too short for it."""
    body = values.body_size(_layout(config), size)
    step = _step(config, value_bits)
    at_random = values.is_rounded_at_random(value_bits)
    bound = bounded.norm_steps(plan.clip_norm / step, body, at_random=at_random)
    vectors, indicators = plan.multipliers
    deviation = math.ceil(vectors * bound)
    if not deviation <= noise_promise.DEVIATION_MAX or bound > noise_promise.NORM_STEPS_MAX:
        return None
    assert plan.adders is not None
    room = math.ceil(DEVIATIONS * math.sqrt(plan.adders.noises) * deviation)
    terms = round_rules.invited_max(config)
    of_norms = terms * math.floor(deviation / (2 * indicators)) + room
    try:
        bits = values.bits_needed(value_bits, terms, room=room)
    except ValueError:
        return None
    if 2 * of_norms >= 2**values.BITS_MAX:
        return None
    clip_max = min(
        _CLIP_FACTOR_MAX * plan.clip_norm,
        plan.clip_norm * _CHANGE_MAX / config.privacy.change_max,
        _NORM_MAX,
    )
    grid = Grid(deviation=deviation, numbers=body, coarseness=bound * step / plan.clip_norm)
    return Noised(replace(plan, grid=grid), bound, bits, clip_max)


def _step(config: FederationConfig, value_bits: int) -> float:
    """Between two values."""
    return config.privacy.change_max / values.level_max(value_bits)


def _layout(config: FederationConfig) -> Masking:
    """As far as it decides how many values a change becomes."""
    return masked_round.masking(config, ())


def _check_fineness(config: FederationConfig, made: Noised, epsilon: float) -> None:
    """`epsilon`: without what whole numbers cost."""
    plan = made.plan
    numbers = plan.grid.numbers * plan.participations_max
    slack = noise.grid_slack(plan.grid.deviation, numbers)
    allowed = SLACK_SHARE * max(epsilon, _EPSILON_SMALL)
    # Devices and keyholders take none that is coarser than that, whatever it adds.
    finer = max(math.sqrt(slack / allowed), noise_promise.DEVIATION_MIN / plan.grid.deviation)
    if finer <= 1:
        return
    chosen = config.privacy
    raise SettingsError(
        f"noise of {plan.grid.deviation} steps on {plan.grid.numbers} numbers is too coarse for"
        f" epsilon {epsilon:.4g}: whole numbers would add {slack:.3g} to it. Steps"
        f" {finer:.3g} times as fine will do: privacy.value_bits ="
        f" {chosen.value_bits + math.ceil(math.log2(finer))}, or privacy.change_max ="
        f" {chosen.change_max / finer:.2g}"
    )
