"""What a federation's clients are asked for: by the operator, by its strategy; its limits bound it.

A strategy's file may define

    method(settings) -> Method                   what it asks beyond plain local SGD
    training(settings, training) -> Training     how clients train, from what federation.toml says

which raise SettingsError where it cannot work with what was set.
"""

from msgspec import Struct, structs

from coordinator import aggregation, codec_choice
from coordinator.config import FederationConfig
from fedmqtt import fixed_point, parts, settings
from fedmqtt.messages import PLAIN, Method, Training
from fedmqtt.settings import SettingsError


def strategy_settings(config: FederationConfig) -> Struct:
    """What the strategy takes, checked. Raises UnknownPart, SettingsError."""
    kind: type[Struct] = parts.load(aggregation, config.aggregation).Settings
    return settings.convert(config.aggregation_settings, kind, "aggregation_settings")


def training(config: FederationConfig) -> Training:
    """How clients train in a round. Raises UnknownPart, SettingsError."""
    # What is in the file beside it does not travel.
    fields = {name: getattr(config.training, name) for name in Training.__struct_fields__}
    strategy = parts.load(aggregation, config.aggregation)
    if not hasattr(strategy, "training"):
        return Training(**fields)
    asked_by_it: Training = strategy.training(strategy_settings(config), Training(**fields))
    return asked_by_it


def asked(config: FederationConfig) -> Method:
    """What else they do. Raises UnknownPart, SettingsError."""
    strategy = parts.load(aggregation, config.aggregation)
    method: Method = PLAIN
    if hasattr(strategy, "method"):
        method = strategy.method(strategy_settings(config))
    method = structs.replace(
        method,
        personal=config.training.personal,
        fine_tune_epochs=config.evaluation.fine_tune_epochs,
    )
    return _with_differences(config, method) if method.is_chained else method


def remembering(config: FederationConfig) -> str:
    """Whose memory it is that a strategy leaves: of another strategy, or where other layers travel,
    it means nothing; nor do controls at another learning rate, in whose steps they are."""
    whose = " without ".join([config.aggregation, *config.training.personal])
    if asked(config).control == PLAIN.control:
        return whose
    return f"{whose} at {training(config).learning_rate!r}"


def _with_differences(config: FederationConfig, method: Method) -> Method:
    for codec, chain in codec_choice.chains(config).items():
        if method.control != PLAIN.control and chain.front is not None:
            raise SettingsError(
                f"codec: {codec!r} leaves numbers out, and aggregation = {config.aggregation!r}"
                " needs all of a change and of a control: write a codec without part and topk"
            )
        if not getattr(chain.front, "scaled", False):
            continue
        raise SettingsError(
            f"codec: {codec!r} multiplies what it sends, and with aggregation ="
            f" {config.aggregation!r}, which adds up differences, errors would grow without bound;"
            " write part(share=..., scaled=false)"
        )
    bits = fixed_point.remembered_bits(config.limits.change_max)
    return structs.replace(method, fraction_bits=bits)
