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

from edge_client import disclosed
from edge_client.disclosed import LEVELS, NOTHING, Disclosed, Level
from fedmqtt import masks_promise, offered_work
from fedmqtt.messages import KEYHOLDERS_MAX, Keyholder, Masking, Offer, Purpose
from fedmqtt.privacy import gaussian
from fedmqtt.topics import ClientId


class Privacy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner asks for. What does not do so is declined, with a sentence."""

    at_least: Annotated[
        Literal["", "plain", "trusted", "committee", "keyholders"],
        Meta(
            description="How answers must be hidden: plain (they need not be), trusted (one\n"
            "aggregator could open them), committee (no one party could, by an experiment that\n"
            "`experiments` must name too), keyholders (no one party could). With more than plain\n"
            "this device measures under the mask alone, and does not describe: that would be told\n"
            "as it is. Empty: as any answer was before; masked at all, if its credentials name\n"
            "keyholders."
        ),
    ] = ""
    experiments: Annotated[
        tuple[Literal["committee"], ...],
        Meta(
            max_length=1,
            description="Ways to hide answers that no cryptographer has reviewed, and that this\n"
            'device answers in all the same: "committee", or none.',
        ),
    ] = ()
    floor_min: Annotated[
        int,
        Meta(
            ge=0,
            le=2**20,
            description="Fewest clients in a sum that may be opened; 0: as many as had to be in\n"
            "any sum that this device answered for.",
        ),
    ] = 0
    tolerated_min: Annotated[
        int,
        Meta(
            ge=0,
            lt=KEYHOLDERS_MAX,
            description="With keyholders: so many of them must learn nothing together; 0: as many\n"
            "as in any round that this device answered.",
        ),
    ] = 0
    mixed_rounds: Annotated[
        Literal["", "no", "yes"],
        Meta(
            description="Whether answers to several models may be in one sum, as in asynchronous\n"
            "rounds: a coordinator that gives out a model of its own can read the answer to it.\n"
            "Empty: unless this device has answered where all are to one model."
        ),
    ] = ""
    change_max: Annotated[
        float,
        Meta(ge=0, description="Masked changes of one number must be clipped to this; 0: to any."),
    ] = 0.0
    norm_max: Annotated[
        float,
        Meta(ge=0, description="Their L2 norm must be clipped to this; 0 does not ask."),
    ] = 0.0
    epsilon_max: Annotated[
        float,
        Meta(
            ge=0,
            description="What all answers of this device together may tell, by their noise. What\n"
            "has none is declined then, measurements too; 0 does not ask.",
        ),
    ] = 0.0
    delta: Annotated[
        float, Meta(gt=0, lt=1, description="For `epsilon_max`: how likely more may be told.")
    ] = 1e-5
    noise_min: Annotated[
        float,
        Meta(
            ge=0,
            description="Each keyholder's noise must have this deviation, in clip norms; 0 does\n"
            "not ask.",
        ),
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


def level(terms: Terms, told: Disclosed) -> Level:
    """The weakest mode that is answered in."""
    if terms.asked.at_least:
        return terms.asked.at_least
    if told.lost:
        return LEVELS[-1]
    # Credentials outlive a state folder. Which of the two modes it is to be, they do not say.
    implied: Level = "trusted" if terms.pinned else "plain"
    return max(implied, told.mode, key=LEVELS.index)


def allowed(purposes: Sequence[Purpose], terms: Terms, told: Disclosed) -> tuple[Purpose, ...]:
    """Those of them that tell nothing of this device alone."""
    is_open = level(terms, told) == "plain" and not terms.asked.epsilon_max
    return tuple(one for one in purposes if one == "train" or is_open)


def pins_model(offer: Offer, terms: Terms, told: Disclosed) -> bool:
    """Whether who trains for this offer trains models of this architecture alone from then on."""
    is_hidden = offer.masking is not None or level(terms, told) != "plain"
    return is_hidden or terms.asked.pin_model


def fault(
    offer: Offer,
    purpose: Purpose,
    terms: Terms,
    known_model: str = "",
    told: Disclosed = NOTHING,
) -> str:
    """Why the device had better not answer, for its owner to read; empty when it may.

    `known_model`: the fingerprint of the models that it trains, if it has trained one.
    """
    if told.lost and not _needs_no_memory(terms.asked):
        return (
            "what this client has told before is not known any more, as"
            f" disclosed-{terms.federation} in its state folder is damaged: remove that file to"
            " begin anew, or set privacy.at_least, privacy.floor_min and privacy.tolerated_min"
        )
    if purpose == "describe" and offer.masking is not None:
        return "what a client tells of its data cannot be masked"
    if purpose != "train":
        return (
            "" if purpose in allowed((purpose,), terms, told) else _told_alone(purpose, terms, told)
        )
    return (
        _too_weak(offer.masking, terms, told)
        or _too_wide(offer.masking, terms.asked)
        or _too_little_noise(offer, terms.asked, told)
        or _cannot_be_masked(offer, terms)
        or (_other_model(offer, terms, known_model) if pins_model(offer, terms, told) else "")
    )


def is_above(asked: Privacy, spent: float) -> bool:
    """Whether so much (mu^2) is more than the owner allows for."""
    if not asked.epsilon_max:
        return False
    return gaussian.delta(1.0, asked.epsilon_max, spent) > asked.delta


def so_far(asked: Privacy, told: Disclosed) -> str:
    """What was told under noise, for people; empty where nothing was."""
    if not told.spent:
        return ""
    epsilon = gaussian.epsilon(1.0, told.spent, asked.delta)
    beside = "; beside it something was told without noise" if told.bare else ""
    return f"epsilon so far: {epsilon:.3g} at delta {asked.delta:g}{beside}"


def _needs_no_memory(asked: Privacy) -> bool:
    is_told = asked.at_least and asked.floor_min and asked.tolerated_min
    return bool(is_told and not asked.epsilon_max)


def _told_alone(purpose: Purpose, terms: Terms, told: Disclosed) -> str:
    what = "measures" if purpose == "evaluate" else "tells of its data"
    if level(terms, told) == "plain":
        return f"what this client {what} has no noise, and {_owner_asks_for_noise(terms.asked)}"
    return f"what this client {what} can be read, and {_why_not_so_weak('plain', terms, told)}"


def _why_not_so_weak(mode: Level, terms: Terms, told: Disclosed) -> str:
    if terms.asked.at_least:
        return f"its owner asks for at least {terms.asked.at_least!r} (privacy.at_least)"
    if told.mode == "plain":
        why = "its credentials name keyholders"
    else:
        why = f"its answers were hidden better before ({told.mode!r})"
    return f"{why}; to allow it, start it with --at-least {mode}"


def _too_weak(masking: Masking | None, terms: Terms, told: Disclosed) -> str:
    mode = disclosed.mode_of(masking)
    if LEVELS.index(mode) < LEVELS.index(level(terms, told)):
        how = {
            "plain": "not be masked",
            "trusted": "be masked for one aggregator",
            "committee": "be hidden by an experiment",
        }[mode]
        return f"this client's answers would {how}, and {_why_not_so_weak(mode, terms, told)}"
    if masking is None:
        return ""
    if mode == "committee" and mode not in terms.asked.experiments:
        return (
            "this client's answers would be hidden by an experiment, which no cryptographer has"
            ' reviewed (privacy.aggregation = "committee"); to allow it, start it with --set'
            " 'privacy.experiments=[\"committee\"]'"
        )
    return (
        _too_few(masking.floor, terms.asked, told)
        or _too_shared(masking, terms.asked, told)
        or _too_mixed(masking, terms.asked, told)
    )


def _too_few(floor: int, asked: Privacy, told: Disclosed) -> str:
    if floor >= (asked.floor_min or told.floor):
        return ""
    opened = f"sums of {floor} clients would be opened"
    if asked.floor_min:
        return f"{opened}, fewer than this client's privacy.floor_min = {asked.floor_min}"
    return (
        f"{opened}, and before this client answered for sums of {told.floor}; to allow it, start it"
        f" with --set privacy.floor_min={floor}"
    )


def _too_shared(masking: Masking, asked: Privacy, told: Disclosed) -> str:
    tolerated = masking.tolerated
    if masking.mode == "trusted" or tolerated >= (asked.tolerated_min or told.tolerated):
        return ""
    known = f"{tolerated + 1} keyholders together could open this client's answer"
    if asked.tolerated_min:
        return f"{known}, and its privacy.tolerated_min = {asked.tolerated_min}"
    return (
        f"{known}, and before {told.tolerated + 1} had to; to allow it, start it with --set"
        f" privacy.tolerated_min={tolerated}"
    )


def _too_mixed(masking: Masking, asked: Privacy, told: Disclosed) -> str:
    if not masking.mixes_rounds or asked.mixed_rounds == "yes":
        return ""
    mixed = (
        "answers to several models would be in one sum, as in asynchronous rounds, and of those a"
        " coordinator that lies can read one"
    )
    if asked.mixed_rounds:
        return f"{mixed}: this client's privacy.mixed_rounds is {asked.mixed_rounds!r}"
    if not (told.one_model or told.lost):
        return ""
    why = (
        "what it answered before is not known any more"
        if told.lost
        else "before this client answered where all are to one"
    )
    return f"{mixed}, and {why}; to allow it, start it with --set privacy.mixed_rounds=yes"


def _too_little_noise(offer: Offer, asked: Privacy, told: Disclosed) -> str:
    noise = disclosed.noise_of(offer.masking)
    if noise < asked.noise_min:
        return (
            f"answers would have noise of {noise:g} clip norms, less than this client's"
            f" privacy.noise_min = {asked.noise_min:g}"
        )
    if not asked.epsilon_max:
        return ""
    if not noise:
        return f"answers would have no noise, and {_owner_asks_for_noise(asked)}"
    spent = disclosed.spent_with(told, offer)
    if not is_above(asked, spent):
        return ""
    then, now = (gaussian.epsilon(1.0, one, asked.delta) for one in (spent, told.spent))
    return (
        f"this answer would bring epsilon from {now:.3g} to {then:.3g} at delta {asked.delta:g},"
        f" above this client's privacy.epsilon_max = {asked.epsilon_max:g}"
    )


def _owner_asks_for_noise(asked: Privacy) -> str:
    return f"its owner allows for an epsilon of {asked.epsilon_max:g} (privacy.epsilon_max)"


def _too_wide(masking: Masking | None, asked: Privacy) -> str:
    if masking is None:
        return ""
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
    if offer.method.partial:
        # How much is done then goes by when a round closes, which is told to each, and not signed.
        return "answers are masked, and this round asks for what is done when time is up"
    if masking.work != offered_work.digest(offer):
        return (
            "the round asks something else of this client than what is signed with its answer: of"
            " others, answers to something else could be in the same sum"
        )
    if terms.lacking:
        return f"answers are masked, which needs {terms.lacking}"
    return masks_promise.fault(masking) or _unknown(masking.keyholders, terms)


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


def _other_model(offer: Offer, terms: Terms, known: str) -> str:
    offered = offer.model.fingerprint
    if not known or offered in (known, terms.asked.accept_model):
        return ""
    return (
        f"the model is built otherwise ({offered}) than the first one that this client trained"
        f" ({known}); if that is right, start it with --accept-model {offered}"
    )
