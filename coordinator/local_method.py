"""What a federation's clients are asked for beyond local SGD: its strategy says, its limits bound.

A strategy's file may define `method(settings) -> Method`.
"""

from msgspec import Struct, structs

from coordinator import aggregation, codec_choice
from coordinator.config import FederationConfig
from fedmqtt import fixed_point, parts, settings
from fedmqtt.messages import Method
from fedmqtt.settings import SettingsError


def asked(config: FederationConfig) -> Method:
    """Raises UnknownPart, SettingsError."""
    strategy = parts.load(aggregation, config.aggregation)
    if not hasattr(strategy, "method"):
        return Method()
    chosen: Struct = settings.convert(
        config.aggregation_settings, strategy.Settings, "aggregation_settings"
    )
    method: Method = strategy.method(chosen)
    if not method.difference:
        return method
    for codec, chain in codec_choice.chains(config).items():
        if not getattr(chain.front, "scaled", False):
            continue
        raise SettingsError(
            f"codec: {codec!r} multiplies what it sends, and with aggregation ="
            f" {config.aggregation!r}, which adds up differences, errors would grow without bound;"
            " write part(share=..., scaled=false)"
        )
    bits = fixed_point.remembered_bits(config.limits.change_max)
    return structs.replace(method, fraction_bits=bits)
