"""How finely a round's exact sum resolves: as the limits on what clients may send leave room.

An answer weighs by its samples. A strategy that gives weights of its own has in its file

    WEIGHT_KEYS                                the settings that they follow from
    weight_max(settings, samples_max) -> int   the largest, where an answer has so many samples

so that 64 bits hold the sum whatever the clients send.
"""

from types import ModuleType

from msgspec import Struct

from coordinator.config import Limits
from fedmqtt import fixed_point
from fedmqtt.settings import SettingsError


def fraction_bits(
    strategy: ModuleType, settings: Struct, limits: Limits, terms_max: int, behind_each: int = 1
) -> int:
    """Of a sum of so many answers, each of which may stand for so many devices. Raises
    SettingsError where nothing is left for a fraction."""
    largest: int = limits.samples_max
    keys: tuple[str, ...] = ("limits.samples_max",)
    if hasattr(strategy, "weight_max"):
        largest, keys = strategy.weight_max(settings, limits.samples_max), strategy.WEIGHT_KEYS
    try:
        return fixed_point.fraction_bits(limits.change_max, largest, terms_max * behind_each)
    except ValueError as bad:
        if behind_each > 1:
            keys = (*keys, "sites.clients_max")
        raise SettingsError(f"{bad}; lower limits.change_max or {' or '.join(keys)}") from bad
