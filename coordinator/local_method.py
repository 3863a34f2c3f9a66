"""What a federation's clients are asked for beyond local SGD: its strategy says, its limits bound.

A strategy's file may define `method(settings) -> Method`.
"""

from msgspec import Struct, structs

from coordinator import aggregation
from coordinator.config import FederationConfig
from fedmqtt import codec_chain, fixed_point, parts, settings
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
    subset = codec_chain.read(config.codec).subset
    if getattr(subset, "scaled", False):
        raise SettingsError(
            f"codec: {config.codec!r} multiplies what it sends, and with aggregation ="
            f" {config.aggregation!r}, which adds up differences, errors would grow without bound;"
            " write part(share=..., scaled=false)"
        )
    bits = fixed_point.remembered_bits(config.limits.change_max)
    return structs.replace(method, fraction_bits=bits)
