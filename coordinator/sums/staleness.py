"""How much less a change counts, the more rounds ago the model is that it was trained from.

With u rounds between, s(u) = 1 for `constant`, (1 + u)^-a for `polynomial`, and for `hinge` 1 up to
u = b, then 1 / (a (u - b) + 1).

Source: Xie, Koyejo and Gupta, "Asynchronous Federated Optimization", OPT 2020, section 5.2; their
`a` is `decay` here, and their `b` is `fresh`. They count an answer to the newest model as u = 1,
here it is u = 0: without anybody else at work, nothing is held back.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

_STEPS = 2**20

Curve = Literal["constant", "hinge", "polynomial"]


class StalenessSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What strategies that weigh staleness have in common."""

    staleness: Annotated[
        Curve,
        Meta(
            description="How answers count for less the more rounds ago their model is. constant:\n"
            "not at all. hinge: after `fresh` rounds. polynomial: from the first."
        ),
    ] = "polynomial"
    decay: Annotated[
        float, Meta(gt=0, le=100, description="How fast. With polynomial, its exponent.")
    ] = 0.5
    fresh: Annotated[
        int, Meta(ge=0, le=1000, description="With hinge: up to so many rounds, nothing is lost.")
    ] = 4


def weight(settings: StalenessSettings, staleness: int) -> float:
    """In (0, 1], the same on every machine."""
    match settings.staleness:
        case "constant":
            return 1.0
        case "hinge":
            exact = 1 / (settings.decay * max(0, staleness - settings.fresh) + 1)
        case "polynomial":
            exact = float((1 + staleness) ** -settings.decay)
    # Two machines' powers may differ in their last bit: that is rounded away.
    return max(1, round(exact * _STEPS)) / _STEPS
