"""How the answers to a round are masked: from federation.toml to what its offer tells."""

from coordinator import privacy, round_rules
from coordinator.config import FederationConfig
from fedmqtt import committee_promise, parts
from fedmqtt.messages import BLOCK_NORMS_MAX, TIMES_MAX, Keyholder, Masking
from fedmqtt.settings import SettingsError

FINE_BITS = 16
"""Of a value while no ranges are known: a sum over 65,535 clients still fits. With a committee they
are fewer, where that does not leave room for errors."""

_AS_SET = (
    "floor",
    "weight_max",
    "samples_max",
    "change_max",
    "norm_max",
    "share",
    "rotate",
)

_FORM = 2
"""Of answers as they are kept: 1 had the device's key and ticket in the message."""


def is_masked(config: FederationConfig) -> bool:
    """Raises UnknownPart."""
    return bool(parts.load(privacy, config.privacy.aggregation).MASKS)


def places(config: FederationConfig) -> tuple[int, int]:
    """How many keyholders there are, and how many of them learn nothing. Raises SettingsError."""
    mode = parts.load(privacy, config.privacy.aggregation)
    found: tuple[int, int] = mode.places(config.privacy)
    return found


def who_reads(config: FederationConfig) -> str:
    """Who can read one device's answer, or a sum of them, in a sentence. Raises SettingsError."""
    chosen = config.privacy
    if not is_masked(config):
        return f"{chosen.aggregation}: the coordinator can read each device's answer"
    count, tolerated = places(config)
    opens = f"any {tolerated + 1} of {count} keyholders open"
    if count == 1:
        opens = "one aggregator, which everybody trusts, opens"
    return (
        f"{chosen.aggregation}: answers are masked; {opens} a sum of {chosen.floor} or more, and"
        " together with the coordinator could read each"
    )


def mixes_rounds(config: FederationConfig) -> bool:
    """Whether answers to offers of several rounds come into one sum. Raises UnknownPart."""
    return is_masked(config) and config.rounds.mode == "asynchronous"


def counted_max(config: FederationConfig) -> int:
    """Of how many answers a sum is at the most. Raises UnknownPart.

    Not how many may come, by which bits are chosen: `round_rules.answers_max`.
    """
    cohort = config.rounds.cohort
    # More than a cohort may wait where rounds are asynchronous.
    return max(cohort, config.rounds.concurrency) if mixes_rounds(config) else cohort


def times_max(config: FederationConfig) -> int:
    """How often one answer may be in a sum: those to older models are in it less often."""
    return TIMES_MAX if mixes_rounds(config) else 1


def behind_each(config: FederationConfig) -> int:
    """How many devices an answer may stand for."""
    return max(1, config.sites.clients_max)


def has_adaptive_ranges(config: FederationConfig) -> bool:
    has_noise = config.differential_privacy.noise != "none"
    return config.privacy.rotate and config.privacy.ranges == "adaptive" and not has_noise


def masking(
    config: FederationConfig, keyholders: tuple[Keyholder, ...], ranges: tuple[float, ...] = ()
) -> Masking:
    """As the offer of a round tells it; `ranges`: once they are known. Raises SettingsError."""
    of_places, tolerated = places(config)
    value_bits, is_adaptive = config.privacy.value_bits, has_adaptive_ranges(config)
    if is_adaptive and not ranges:
        value_bits = max(value_bits, _most_bits(config, FINE_BITS))
    return Masking(
        mode=config.privacy.aggregation,  # type: ignore[arg-type]
        keyholders=keyholders,
        places=of_places,
        tolerated=tolerated,
        bits=_bits(config, value_bits),
        value_bits=value_bits,
        ranges=ranges if is_adaptive else (),
        block_norms=BLOCK_NORMS_MAX if is_adaptive else 0,
        metrics=config.evaluation.metrics,
        classes=config.evaluation.classes,
        lists_max=config.privacy.key_rounds if mixes_rounds(config) else 1,
        times_max=times_max(config),
        guard=_guard(config),
        clients_max=behind_each(config),
        **{name: getattr(config.privacy, name) for name in _AS_SET},
    )


def deciding(config: FederationConfig) -> dict[str, object]:
    """All that decides whether two masked answers add up, but for the keys; and whether they can be
    read, where another version of this program has kept some."""
    names = ("aggregation", "value_bits", *_AS_SET)
    chosen = {name: getattr(config.privacy, name) for name in names}
    # Synchronous ones as an older program wrote them down: a round that is open goes on.
    mixed = {"mixes_rounds": True} if mixes_rounds(config) else {}
    return {**chosen, "places": places(config), "form": _FORM, **mixed}


def bits(config: FederationConfig) -> int:
    """Of the modulus: the sum of all that a round may invite fits. Raises SettingsError."""
    return _bits(config, config.privacy.value_bits)


def _bits(config: FederationConfig, value_bits: int) -> int:
    # Here: numpy and what is asked of it are for those who mask.
    from fedmqtt.masking import values

    invited, often = round_rules.answers_max(config), times_max(config)
    behind = behind_each(config)
    _check_terms(config, invited, often, behind)
    if (fits := _most_bits(config, value_bits)) < value_bits:
        guard = f", {_guard(config)} of them for errors" if _by_committee(config) else ""
        each, smaller = "", "rounds.cohort"
        if behind > 1:
            each, smaller = f", each for {behind} devices,", "rounds.cohort or sites.clients_max"
        raise refused(
            config,
            f"privacy.value_bits is {value_bits}, and the sum of the {invited} clients that a"
            f" round may invite{each} would take more than {values.BITS_MAX} bits{guard}:"
            f" privacy.value_bits = {fits} fits, or a smaller {smaller}",
        )
    return values.bits_needed(value_bits, invited * behind, often)


def _check_terms(config: FederationConfig, invited: int, often: int, behind: int) -> None:
    """Of so many answers, each so often in the sum, and for so many devices. Raises
    SettingsError."""
    from fedmqtt.masking import values

    most = committee_promise.TERMS_MAX if _by_committee(config) else values.CLIPPED_MAX - 1
    if invited * often > most:
        raise refused(
            config,
            f"a round may invite {invited} clients, and masked sums take {most}: lower"
            " rounds.cohort, or tuning.over_selection_max"
            if often == 1
            else f"a sum may have {invited} answers, each {often} times, and masked sums take"
            f" {most} in all: lower rounds.concurrency, and rounds.cohort",
        )
    # What a tail tells of each device adds up in 32 bits.
    if invited * behind >= values.CLIPPED_MAX:
        raise refused(
            config,
            f"a round may invite {invited} clients, each of which may stand for {behind} devices"
            f" (sites.clients_max), and masked sums take {values.CLIPPED_MAX - 1} in all: lower"
            " sites.clients_max, rounds.cohort or tuning.over_selection_max",
        )


def _most_bits(config: FederationConfig, value_bits: int) -> int:
    """Of a value, so many or fewer: what leaves the sum room."""
    from fedmqtt.masking import values

    terms = round_rules.answers_max(config) * times_max(config) * behind_each(config)
    room = _guard(config)
    return max(
        bits
        for bits in range(2, value_bits + 1)
        if (2 * values.level_max(bits) * terms).bit_length() <= values.BITS_MAX - room
    )


def _guard(config: FederationConfig) -> int:
    """Bits below each value, for what a committee's clients add to it."""
    if not _by_committee(config):
        return 0
    return committee_promise.guard_bits(round_rules.answers_max(config))


def _by_committee(config: FederationConfig) -> bool:
    return config.privacy.aggregation == "committee"


def refused(config: FederationConfig, why: str) -> SettingsError:
    return SettingsError(f"privacy.aggregation is {config.privacy.aggregation!r}: {why}")
