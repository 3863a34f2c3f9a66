"""What a strategy needs of other settings that takes one client's answer at a time.

    aggregation = "sequential"      is enough in a file that `fedmqtt init` wrote

A key at its default was chosen by nobody, and takes the value that is needed. Any other value is a
contradiction, which is told.
"""

from msgspec import structs

from coordinator import aggregation, selection
from coordinator.config import FederationConfig
from fedmqtt import parts
from fedmqtt.settings import SettingsError

_NEEDED = (
    ("rounds", "mode", "synchronous"),
    ("rounds", "cohort", 1),
    ("rounds", "quorum", 1),
    ("rounds", "over_selection", 1.0),
    ("tuning", "over_selection_max", 1.0),
    ("late", "policy", "discard"),
)
_IN_TURN = "round_robin"
_DEFAULT = FederationConfig(name="default", task="default")


def is_wanted(config: FederationConfig) -> bool:
    """Whether the strategy asks for it. Raises UnknownPart."""
    return bool(getattr(parts.load(aggregation, config.aggregation), "ONE_AT_A_TIME", False))


def applied(config: FederationConfig) -> FederationConfig:
    """The same with what such a strategy needs; unchanged for others.

    Raises UnknownPart, and SettingsError where somebody chose what contradicts it.
    """
    if not is_wanted(config):
        return config
    for section, key, needed in _NEEDED:
        config = _with(config, section, key, needed)
    if config.rounds.clients_min == _DEFAULT.rounds.clients_min:
        # Whoever is left alone goes on.
        rounds = structs.replace(config.rounds, clients_min=1)
        config = structs.replace(config, rounds=rounds)
    if config.selection == _DEFAULT.selection:
        config = structs.replace(config, selection=_IN_TURN)
    if getattr(parts.load(selection, config.selection), "BY_SORTITION", False):
        raise SettingsError(
            f"selection is {config.selection!r}, by which several clients may be invited, and"
            f" aggregation = {config.aggregation!r} visits one at a time; choose another"
        )
    return config


def _with(config: FederationConfig, section: str, key: str, needed: object) -> FederationConfig:
    found = getattr(getattr(config, section), key)
    if found not in (needed, getattr(getattr(_DEFAULT, section), key)):
        raise SettingsError(
            f"{section}.{key} is {found!r}, and aggregation = {config.aggregation!r} visits one"
            f" client at a time: remove that line, or set it to {needed!r}"
        )
    changed = structs.replace(getattr(config, section), **{key: needed})
    return structs.replace(config, **{section: changed})
