"""What clients are asked to do: by the operator, and by the strategy that was chosen.

A strategy may define, beside `Settings` and `build`,

    method(settings) -> Method                   what it asks beyond plain local SGD
    training(settings, training) -> Training     how clients train, from what federation.toml says

which raise SettingsError where it cannot work with what was set.
"""

from msgspec import Struct, structs

from coordinator import aggregation
from coordinator.config import FederationConfig
from fedmqtt import parts, settings
from fedmqtt.messages import PLAIN, Method, Training


def strategy_settings(config: FederationConfig) -> Struct:
    """What the strategy takes, checked. Raises UnknownPart, SettingsError."""
    kind: type[Struct] = parts.load(aggregation, config.aggregation).Settings
    return settings.convert(config.aggregation_settings, kind, "aggregation_settings")


def asked(config: FederationConfig) -> tuple[Training, Method]:
    """How clients train in a round, and what else they do. Raises UnknownPart, SettingsError."""
    strategy = parts.load(aggregation, config.aggregation)
    its_settings = strategy_settings(config)
    # What is in the file beside it does not travel.
    training = Training(
        **{name: getattr(config.training, name) for name in Training.__struct_fields__}
    )
    if hasattr(strategy, "training"):
        training = strategy.training(its_settings, training)
    method: Method = strategy.method(its_settings) if hasattr(strategy, "method") else PLAIN
    method = structs.replace(
        method,
        personal=config.training.personal,
        fine_tune_epochs=config.evaluation.fine_tune_epochs,
    )
    return training, method
