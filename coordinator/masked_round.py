"""How the answers to a round are masked: from federation.toml to what its offer tells."""

from coordinator import privacy, round_rules
from coordinator.config import FederationConfig
from fedmqtt import parts
from fedmqtt.messages import BLOCK_NORMS_MAX, TIMES_MAX, Keyholder, Masking
from fedmqtt.settings import SettingsError

FINE_BITS = 16
"""Of a value while no ranges are known: a sum over 65,535 clients still fits."""

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


def mixes_rounds(config: FederationConfig) -> bool:
    """Whether answers to offers of several rounds come into one sum. Raises UnknownPart."""
    return is_masked(config) and config.rounds.mode == "asynchronous"


def times_max(config: FederationConfig) -> int:
    """How often one answer may be in a sum: those to older models are in it less often."""
    return TIMES_MAX if mixes_rounds(config) else 1


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
        value_bits = max(value_bits, FINE_BITS)
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
        **{name: getattr(config.privacy, name) for name in _AS_SET},
    )


def deciding(config: FederationConfig) -> dict[str, object]:
    """All that decides whether two masked answers add up, but for the keys; and whether they can be
    read, where another version of this program has kept some."""
    names = ("aggregation", "value_bits", *_AS_SET)
    chosen = {name: getattr(config.privacy, name) for name in names}
    return {**chosen, "places": places(config), "form": _FORM}


def bits(config: FederationConfig) -> int:
    """Of the modulus: the sum of all that a round may invite fits. Raises SettingsError."""
    return _bits(config, config.privacy.value_bits)


def _bits(config: FederationConfig, value_bits: int) -> int:
    # Here: numpy and what is asked of it are for those who mask.
    from fedmqtt.masking import values

    invited, often = round_rules.answers_max(config), times_max(config)
    if invited * often >= values.CLIPPED_MAX:
        raise refused(
            config,
            f"a round may invite {invited} clients, and masked sums take {values.CLIPPED_MAX - 1}:"
            " lower rounds.cohort, or tuning.over_selection_max"
            if often == 1
            else f"a sum may have {invited} answers, each {often} times, and masked sums take"
            f" {values.CLIPPED_MAX - 1} in all: lower rounds.concurrency, and rounds.cohort",
        )
    try:
        return values.bits_needed(value_bits, invited, often)
    except ValueError:
        fits = max(bits for bits in range(2, value_bits) if _fits(bits, invited * often))
        raise refused(
            config,
            f"privacy.value_bits is {value_bits}, and the sum of the {invited} clients that a"
            f" round may invite would take more than {values.BITS_MAX} bits: privacy.value_bits ="
            f" {fits} fits, or a smaller rounds.cohort",
        ) from None


def _fits(value_bits: int, invited: int) -> bool:
    from fedmqtt.masking import values

    return (2 * values.level_max(value_bits) * invited).bit_length() <= values.BITS_MAX


def refused(config: FederationConfig, why: str) -> SettingsError:
    return SettingsError(f"privacy.aggregation is {config.privacy.aggregation!r}: {why}")
