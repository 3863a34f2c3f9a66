"""What the owner of a device asks of how its answers are hidden, and whether an offer does that.

Asked before anything is trained, and without a tensor: an offer says how answers are masked, and to
whom the masks are given; the device's credentials say whom it knows. What is asked of the model is
that it is built as the first one was: one that is built to leak defeats any sum.

Source of that: Fowl et al., "Robbing the Fed", ICLR 2022: linear layers put before a model leak
single images through sums of many clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fedmqtt.messages import Keyholder, Masking, Offer, Purpose
from fedmqtt.topics import ClientId

Level = Literal["plain", "trusted", "keyholders"]
_LEVELS: tuple[Level, ...] = ("plain", "trusted", "keyholders")
"""From the weakest."""


class Privacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner asks for. What does not do so is declined, with a sentence."""

    at_least: Annotated[
        Level,
        Meta(
            description="How answers must be hidden: plain (they need not be), trusted (one\n"
            "aggregator could open them), keyholders (no one party could). With more than plain\n"
            "this device neither measures nor describes: that would be told as it is."
        ),
    ] = "plain"
    floor_min: Annotated[
        int,
        Meta(ge=2, le=2**20, description="Fewest clients in a sum that may be opened."),
    ] = 2
    change_max: Annotated[
        float,
        Meta(ge=0, description="Masked changes of one number must be clipped to this; 0: to any."),
    ] = 0.0
    norm_max: Annotated[
        float,
        Meta(ge=0, description="Their L2 norm must be clipped to this; 0 does not ask."),
    ] = 0.0
    pin_model: Annotated[
        bool,
        Meta(
            description="Train models of one architecture alone, the first one's, also where\n"
            "answers are not masked. Where they are, this is always so."
        ),
    ] = False
    accept_model: Annotated[
        str,
        Meta(
            max_length=64,
            description="Fingerprint of another architecture to train from now on (a refusal\n"
            "names it).",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an offer is held against."""

    asked: Privacy = field(default_factory=Privacy)
    federation: str = ""
    lacking: str = "this client's own keys: enroll it, and start it with --credentials"
    """What the device lacks to mask an answer, and how to come by it; empty if nothing."""
    pinned: Mapping[ClientId, str] = field(default_factory=dict)
    """Public keys of the keyholders that the device knows, by name."""


def allowed(purposes: Sequence[Purpose], asked: Privacy) -> tuple[Purpose, ...]:
    """Those of them that tell nothing of this device alone."""
    return tuple(one for one in purposes if one == "train" or asked.at_least == "plain")


def pins_model(offer: Offer, asked: Privacy) -> bool:
    """Whether who trains for this offer trains models of this architecture alone from then on."""
    return offer.masking is not None or asked.pin_model or asked.at_least != "plain"


def fault(offer: Offer, purpose: Purpose, terms: Terms, known_model: str = "") -> str:
    """Why the device had better not answer, for its owner to read; empty when it may.

    `known_model`: the fingerprint of the models that it trains, if it has trained one.
    """
    if purpose == "describe" and offer.masking is not None:
        return "what a client tells of its data cannot be masked"
    if purpose != "train":
        return "" if purpose in allowed((purpose,), terms.asked) else _told_alone(purpose, terms)
    return (
        _too_weak(offer.masking, terms.asked)
        or _cannot_be_masked(offer, terms)
        or _other_model(offer, terms.asked, known_model)
    )


def _told_alone(purpose: Purpose, terms: Terms) -> str:
    what = "measures" if purpose == "evaluate" else "tells of its data"
    return f"what this client {what} can be read, and {_owner_asks(terms.asked)}"


def _owner_asks(asked: Privacy) -> str:
    return f"its owner asks for at least {asked.at_least!r} (privacy.at_least)"


def _too_weak(masking: Masking | None, asked: Privacy) -> str:
    mode: Level = "plain" if masking is None else masking.mode
    if _LEVELS.index(mode) < _LEVELS.index(asked.at_least):
        how = {"plain": "not be masked", "trusted": "be masked for one aggregator"}[mode]
        return f"this client's answers would {how}, and {_owner_asks(asked)}"
    if masking is None:
        return ""
    if masking.floor < asked.floor_min:
        return (
            f"sums of {masking.floor} clients would be opened, fewer than this client's"
            f" privacy.floor_min = {asked.floor_min}"
        )
    return _too_wide(masking, asked)


def _too_wide(masking: Masking, asked: Privacy) -> str:
    change_max = max(masking.ranges, default=masking.change_max)
    if asked.change_max and not change_max <= asked.change_max:
        return (
            f"changes of up to {change_max:g} would be sent, and this client's"
            f" privacy.change_max = {asked.change_max:g}"
        )
    if asked.norm_max and not 0 < masking.norm_max <= asked.norm_max:
        norm = f"of a norm of up to {masking.norm_max:g}" if masking.norm_max else "of any norm"
        return (
            f"changes {norm} would be sent, and this client's privacy.norm_max = {asked.norm_max:g}"
        )
    return ""


def _cannot_be_masked(offer: Offer, terms: Terms) -> str:
    masking = offer.masking
    if masking is None:
        return ""
    if offer.method.is_chained or offer.method.interval_max:
        return "answers are masked, and this round asks what goes by a device's earlier ones"
    if terms.lacking:
        return f"answers are masked, which needs {terms.lacking}"
    return _misplaced(masking) or _unknown(masking.keyholders, terms)


def _misplaced(masking: Masking) -> str:
    """Whether the masks would open as their mode promises."""
    given, tolerated, places = masking.keyholders, masking.tolerated, masking.places
    if masking.mode == "trusted":
        fits = (places, tolerated, len(given)) == (1, 0, 1)
    else:
        # Of so many, two sets that open a sum have one in common: it opens one list alone.
        fits = 1 <= tolerated < min(places, len(given)) and len(given) < 2 * (tolerated + 1)
    taken = {holder.place for holder in given}
    if not fits or len(taken) < len(given) or max(taken) >= places:
        return (
            f"masks for {places} keyholders, {tolerated} of which may leak, would be given to those"
            f" in places {', '.join(str(holder.place) for holder in given)}: that is not"
            f" {masking.mode!r}"
        )
    return ""


def _unknown(given: Sequence[Keyholder], terms: Terms) -> str:
    if len({terms.pinned.get(holder.name, holder.name) for holder in given}) < len(given):
        return "the same keyholder would be given two places"
    for holder in given:
        key = terms.pinned.get(holder.name)
        if key is None:
            known = ", ".join(sorted(terms.pinned)) or "none"
            return (
                f"{holder.name} would be given masks and is no keyholder that this client's"
                f" credentials name ({known}): enroll it again if it is to be trusted"
            )
        # Here: who takes part in nothing that is masked is spared libsodium.
        from fedmqtt import signing

        if not signing.is_round_key(key, terms.federation, holder.name, holder.key):
            return f"the key that is said to be of {holder.name} is not signed by it"
    return ""


def _other_model(offer: Offer, asked: Privacy, known: str) -> str:
    offered = offer.model.fingerprint
    if not known or not pins_model(offer, asked) or offered in (known, asked.accept_model):
        return ""
    return (
        f"the model is built otherwise ({offered}) than the first one that this client trained"
        f" ({known}); if that is right, start it with --accept-model {offered}"
    )
