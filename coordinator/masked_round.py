"""How the answers to a round are masked: from federation.toml to what its offer tells."""

from coordinator import privacy, round_rules
from coordinator.config import FederationConfig
from fedmqtt import parts
from fedmqtt.messages import Keyholder, Masking
from fedmqtt.settings import SettingsError

_AS_SET = (
    "floor",
    "value_bits",
    "weight_max",
    "samples_max",
    "change_max",
    "norm_max",
    "share",
    "rotate",
)


def is_masked(config: FederationConfig) -> bool:
    """Raises UnknownPart."""
    return bool(parts.load(privacy, config.privacy.aggregation).MASKS)


def places(config: FederationConfig) -> tuple[int, int]:
    """How many keyholders there are, and how many of them learn nothing. Raises SettingsError."""
    mode = parts.load(privacy, config.privacy.aggregation)
    found: tuple[int, int] = mode.places(config.privacy)
    return found


def masking(config: FederationConfig, keyholders: tuple[Keyholder, ...]) -> Masking:
    """As the offer of a round tells it. Raises SettingsError."""
    of_places, tolerated = places(config)
    return Masking(
        mode=config.privacy.aggregation,  # type: ignore[arg-type]
        keyholders=keyholders,
        places=of_places,
        tolerated=tolerated,
        bits=bits(config),
        **{name: getattr(config.privacy, name) for name in _AS_SET},
    )


def deciding(config: FederationConfig) -> dict[str, object]:
    """All that decides whether two masked answers add up, but for the keys."""
    chosen = {name: getattr(config.privacy, name) for name in ("aggregation", *_AS_SET)}
    return {**chosen, "places": places(config)}


def bits(config: FederationConfig) -> int:
    """Of the modulus: the sum of all that a round may invite fits. Raises SettingsError."""
    # Here: numpy and what is asked of it are for those who mask.
    from fedmqtt.masking import values

    invited, value_bits = round_rules.invited_max(config), config.privacy.value_bits
    if invited >= values.CLIPPED_MAX:
        raise refused(
            config,
            f"a round may invite {invited} clients, and masked sums take {values.CLIPPED_MAX - 1}:"
            " lower rounds.cohort, or tuning.over_selection_max",
        )
    try:
        return values.bits_needed(value_bits, invited)
    except ValueError:
        fits = max(bits for bits in range(2, value_bits) if _fits(bits, invited))
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
