"""Which other settings leave differential privacy something to promise."""

from types import ModuleType

from coordinator import aggregation, differential_privacy, selection
from coordinator.config import FederationConfig
from coordinator.differential_privacy import Plan
from fedmqtt import parts
from fedmqtt.settings import SettingsError


def plan(config: FederationConfig) -> Plan | None:
    """What the settings promise; None where nothing. Raises SettingsError, UnknownPart."""
    made = differential_privacy.plan(config.differential_privacy, config.rounds.count)
    if made is not None:
        check_parts(config.aggregation, config.selection)
        _check_seen(config)
        _check_late(config, made)
    return made


def _check_late(config: FederationConfig, made: Plan) -> None:
    is_mixed = config.rounds.mode == "asynchronous" or config.late.policy != "discard"
    if made.tree_rounds and is_mixed:
        raise SettingsError(
            'differential_privacy.mechanism is "tree", for which a device is in a round once: it'
            ' takes rounds.mode = "synchronous" and late.policy = "discard"'
        )


def _check_seen(config: FederationConfig) -> None:
    mode = config.privacy.aggregation
    if mode != "plain":
        raise SettingsError(
            f"privacy.aggregation is {mode!r}, under which the coordinator sees no single update,"
            ' and differential_privacy.noise is "central", for which it clips each: choose one'
        )


def check_parts(strategy_name: str, policy_name: str) -> None:
    """Raises SettingsError where what is chosen lets more of single answers out than their mean."""
    if not getattr(parts.load(aggregation, strategy_name), "MEAN_ALONE", False):
        raise SettingsError(
            f"aggregation is {strategy_name!r}, which takes more from single answers than their"
            " plain mean, compares them, or keeps what each client gave: noise on a round's sum"
            f" does not hide that. Choose one of: {', '.join(_with('MEAN_ALONE', aggregation))}; or"
            ' set differential_privacy.noise = "none"'
        )
    if not getattr(parts.load(selection, policy_name), "BLIND_TO_DATA", False):
        raise SettingsError(
            f"selection is {policy_name!r}, which goes by what clients' answers showed of their"
            " data, and everybody sees who is invited: noise does not hide that. Choose one of:"
            f" {', '.join(_with('BLIND_TO_DATA', selection))}"
        )


def _with(flag: str, folder: ModuleType) -> list[str]:
    return [name for name in parts.names(folder) if getattr(parts.load(folder, name), flag, False)]
