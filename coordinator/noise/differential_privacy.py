"""What a run promises to each device, and what that takes: from the settings to a plan.

    noise_multiplier, participations_max ──▶ epsilon          any two of the three tell the third
    epsilon, participations_max          ──▶ noise_multiplier
    epsilon, noise_multiplier            ──▶ participations_max

Two runs are neighbours that differ in all that one device sent: its vectors, in each round it took
part in, are zeros in one of them. That it took part, and when, is no secret. docs/privacy.md tells
what else is outside.

Where keyholders add the noise, a sum has one Gaussian for each seed of a mask, each with the whole
deviation. A coordinator that works with `tolerated` of them knows all but one and can subtract what
it knows: that leaves the Gaussian mechanism of `epsilon`. Who has the models alone faces all.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from fedmqtt.privacy import clipping, gaussian, noise, tree
from fedmqtt.settings import SettingsError

SIGMA = noise.SIGMA_MAX
"""Of each number's noise, in steps of the grid on which the sums of such a run lie."""

_PARTICIPATIONS_MAX = 1_000_000


class DifferentialPrivacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    noise: Annotated[
        Literal["none", "central", "keyholders"],
        Meta(
            description="central: each update is clipped, all count alike, and the coordinator\n"
            "adds Gaussian noise to each round's sum. keyholders: where answers are masked,\n"
            "devices clip, and keyholders add the noise: nobody sees a sum without. Of epsilon,\n"
            "noise_multiplier and participations_max give two: the third follows.\n"
            "docs/privacy.md tells how to choose."
        ),
    ] = "none"
    epsilon: Annotated[
        float, Meta(ge=0, le=1e4, description="What a device's data may show at most; 0: follows.")
    ] = 0.0
    delta: Annotated[
        float,
        Meta(gt=0, lt=1, description="At which delta; well below one over the count of devices."),
    ] = 1e-5
    noise_multiplier: Annotated[
        float,
        Meta(
            ge=0, le=1000, description="The noise's deviation on a sum, in clip norms; 0: follows."
        ),
    ] = 0.0
    participations_max: Annotated[
        int,
        Meta(
            ge=0,
            le=_PARTICIPATIONS_MAX,
            description="In so many rounds may a device be, and in none after that; 0: follows.\n"
            "When too few are left that may, the run is over.",
        ),
    ] = 0
    clip_norm: Annotated[
        float,
        Meta(gt=0, le=1e9, description="Updates of a larger norm (L2) are made that short."),
    ] = 1.0
    adaptive: Annotated[
        bool, Meta(description="Let the clip norm follow the norms that come, from clip_norm on.")
    ] = False
    quantile: Annotated[
        float, Meta(ge=0, le=1, description="With adaptive: which share is to be left unclipped.")
    ] = 0.5
    mechanism: Annotated[
        Literal["independent", "tree"],
        Meta(
            description="independent: each round has noise of its own. tree: noise that cancels\n"
            "over many rounds (DP-FTRL), for hundreds of rounds in which each device is in few."
        ),
    ] = "independent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adders:
    """Keyholders that add noise."""

    tolerated: int
    """So many of them may work with the coordinator."""
    noises: int
    """On each sum, of which those know all but one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Of whole numbers, in which noise is drawn."""

    deviation: int = SIGMA
    """Of one noise, in steps."""
    numbers: int = 0
    """Of a sum; 0: as many as the model has."""
    coarseness: float = 1.0
    """What a device can change, in clip norms: more than 1 where numbers are rounded at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run's promise."""

    sigma: float
    """Noise multiplier of all that a round tells together."""
    delta: float
    participations_max: int
    clip_norm: float
    adaptive: bool = False
    quantile: float = 0.5
    tree_rounds: int = 0
    """So many rounds has the tree; 0: noise is independent."""
    chosen: str = ""
    """The settings that it follows from, as the ledger keeps them: a run goes on under no others.
    (What follows from them may differ in a last digit on another machine.)"""
    adders: Adders | None = None
    """None: the coordinator adds the noise."""
    grid: Grid = field(default_factory=Grid)

    @property
    def epsilon_max(self) -> float:
        """When a device has taken part as often as it may."""
        most = self.participations_max
        if self.grid.numbers:
            # Coarse ones, perhaps: what is told at the start is what is told at the end.
            return self.epsilon_at_end(0)
        return self._epsilon(self._sensitivity(self.tree_rounds, most))

    def epsilon_at_end(self, size: int) -> float:
        """The same for a model of so many numbers, with what whole numbers cost: what `epsilon`
        never exceeds."""
        most = self.participations_max
        return self.epsilon(most, self.tree_rounds or most, size)

    def epsilon(self, participations: int, number: int, size: int) -> float:
        """As of round `number`, of the device that took part most often, for a model of so many
        numbers."""
        if not participations:
            return 0.0
        slack = noise.grid_slack(self.grid.deviation, self._numbers(participations, number, size))
        return self._epsilon(self._sensitivity(number, participations)) + slack

    def epsilon_of_models(self, participations: int, number: int, size: int) -> float:
        """The same for who has the models and nothing else: all noise of a sum is before them."""
        if self.adders is None or not participations:
            return self.epsilon(participations, number, size)
        count, numbers = self.adders.noises, self._numbers(participations, number, size)
        slack = noise.sum_slack(self.grid.deviation, count, numbers)
        slack += noise.grid_slack(math.sqrt(count) * self.grid.deviation, numbers)
        total = math.sqrt(count) * self.sigma
        return gaussian.epsilon(total, participations, self.delta) + slack

    def _numbers(self, participations: int, number: int, size: int) -> int:
        """In all sums that a device can have changed, its indicators among them."""
        # The last evaluation has a number behind those of the tree.
        rounds = min(number, self.tree_rounds or participations)
        return rounds * ((self.grid.numbers or size) + self.adaptive)

    @property
    def noise_on_sums(self) -> float:
        """Deviation of all noise on a sum's vectors together, in clip norms."""
        count = self.adders.noises if self.adders else 1
        return math.sqrt(count) * self.multipliers[0] * self.grid.coarseness

    @property
    def clip_units(self) -> int:
        """The clip norm in steps of the grid."""
        return math.floor(SIGMA / self.multipliers[0])

    @property
    def indicator_units(self) -> int:
        """What a device's indicator is, up or down; 0 where there is none. Half of what a device
        can change: a vector of zeros counts up, and one that is clipped down."""
        return math.floor(SIGMA / (2 * self.multipliers[1])) if self.adaptive else 0

    @property
    def multipliers(self) -> tuple[float, float]:
        """Of the noise on vectors, and of that on indicators: infinite where there are none."""
        return clipping.split(self.sigma) if self.adaptive else (self.sigma, math.inf)

    def _epsilon(self, sensitivity: float) -> float:
        return gaussian.epsilon(self.sigma, sensitivity, self.delta)

    def _sensitivity(self, rounds: int, participations: int) -> int:
        if not self.tree_rounds:
            return participations
        return tree.sensitivity(min(rounds, self.tree_rounds), participations)

    def sentence(self) -> str:
        """The promise, for people."""
        kind = f"noise from a tree of {self.tree_rounds} rounds" if self.tree_rounds else "noise"
        clip = f"{self.clip_norm:g}" + (", following the norms" if self.adaptive else "")
        return (
            f"differential privacy: epsilon {self.epsilon_max:.4g} at delta {self.delta:g} for each"
            f" device{self._against()}, in {self.participations_max} rounds at most ({kind}"
            f" multiplier {self.sigma:.4g}, clip norm {clip}); not in it: who took part and when,"
            " counts of samples, clients' measurements, refusals"
        )

    def _against(self) -> str:
        if self.adders is None:
            return ""
        most = self.participations_max
        of_models = self.epsilon_of_models(most, most, 0)
        together = (
            f" together with {self.adders.tolerated} of the keyholders"
            if self.adders.tolerated
            else ""
        )
        return (
            f" against the coordinator{together} too, and {of_models:.4g} for whoever has the"
            " models alone"
        )


def plan(chosen: DifferentialPrivacy, rounds: int, adders: Adders | None = None) -> Plan | None:
    """Of a run of so many rounds, 0 for one without end; None where nothing is promised.
    `adders`: with noise by keyholders.

    Raises SettingsError.
    """
    if chosen.noise == "none":
        if chosen != (plain := DifferentialPrivacy()):
            set_ = [key for key in chosen.__struct_fields__ if _differs(chosen, plain, key)]
            raise SettingsError(
                f"differential_privacy.{set_[0]} is set, and differential_privacy.noise is"
                ' "none": no noise is added. Set it to "central" (or "keyholders", where answers'
                " are masked), or leave the others out"
            )
        return None
    tree_rounds = _tree_rounds(chosen, rounds)
    given = (chosen.epsilon > 0, chosen.noise_multiplier > 0, chosen.participations_max > 0)
    if sum(given) != 2:
        raise SettingsError(
            "of differential_privacy.epsilon, .noise_multiplier and .participations_max two must be"
            f" given, and the third follows: {sum(given)} are"
        )
    most, sigma = chosen.participations_max, chosen.noise_multiplier
    if not most:
        most = _participations(chosen, rounds, tree_rounds)
    if not sigma:
        sensitivity = tree.sensitivity(tree_rounds, most) if tree_rounds else most
        sigma = gaussian.sigma(chosen.epsilon, sensitivity, chosen.delta)
    return Plan(
        sigma=sigma,
        delta=chosen.delta,
        participations_max=most,
        clip_norm=chosen.clip_norm,
        adaptive=chosen.adaptive,
        quantile=chosen.quantile,
        tree_rounds=tree_rounds,
        chosen=_written(chosen, tree_rounds, adders),
        adders=adders,
    )


def _written(chosen: DifferentialPrivacy, tree_rounds: int, adders: Adders | None) -> str:
    said = {**structs.asdict(chosen), "tree_rounds": tree_rounds}
    if adders is not None:
        said |= {"tolerated": adders.tolerated, "noises": adders.noises}
    return msgspec.json.encode(said, order="sorted").decode()


def _differs(one: Struct, other: Struct, key: str) -> bool:
    return bool(getattr(one, key) != getattr(other, key))


def _tree_rounds(chosen: DifferentialPrivacy, rounds: int) -> int:
    if chosen.mechanism != "tree":
        return 0
    if chosen.noise == "keyholders":
        raise SettingsError(
            'differential_privacy.mechanism is "tree" and .noise is "keyholders": noise that is'
            " taken back in later rounds would need keys that outlive their round, and who has"
            ' those can open it; set mechanism = "independent"'
        )
    if chosen.adaptive:
        raise SettingsError(
            'differential_privacy.adaptive is true and .mechanism is "tree", whose noise cancels'
            " where all rounds have the same clip norm: choose one of them"
        )
    if not rounds:
        raise SettingsError(
            'differential_privacy.mechanism is "tree" and rounds.count is 0: how much a tree tells'
            " depends on how many rounds it has; give a count"
        )
    return rounds


def _participations(chosen: DifferentialPrivacy, rounds: int, tree_rounds: int) -> int:
    low, high = 0, (rounds or _PARTICIPATIONS_MAX) + 1
    while high - low > 1:
        middle = (low + high) // 2
        sensitivity = tree.sensitivity(tree_rounds, middle) if tree_rounds else middle
        if gaussian.delta(chosen.noise_multiplier, chosen.epsilon, sensitivity) <= chosen.delta:
            low = middle
        else:
            high = middle
    if not low:
        once = tree.sensitivity(tree_rounds, 1) if tree_rounds else 1
        needed = gaussian.sigma(chosen.epsilon, once, chosen.delta)
        raise SettingsError(
            f"differential_privacy: epsilon = {chosen.epsilon:g} with noise_multiplier ="
            f" {chosen.noise_multiplier:g} lets no device take part even once; that takes a"
            f" noise_multiplier of {_up(needed)}"
        )
    return low


def _up(value: float) -> str:
    """With three digits, never less than it is."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step) * step:g}"


# What the noise does to the model


def drowning(plan_: Plan, size: int, cohort: int) -> str:
    """Whether the noise is more than the clipped mean itself, in numbers and with what to do; empty
    where it is not."""
    sigma = plan_.noise_on_sums if plan_.adders else plan_.sigma
    share = sigma * math.sqrt(size) / cohort
    if share <= 1:
        return ""
    return (
        f"the noise would drown the model: on the mean of {cohort} answers it has norm"
        f" {share * plan_.clip_norm:.3g} over {size} numbers, and the mean itself at most"
        f" {plan_.clip_norm:.3g}. With rounds.cohort = {cohort} a model of up to"
        f" {math.floor((cohort / sigma) ** 2)} numbers works, and this one from rounds.cohort"
        f" = {math.ceil(sigma * math.sqrt(size))} on; or give less noise"
    )
