"""Which other settings leave differential privacy something to promise."""

from types import ModuleType

from coordinator import aggregation, privacy, selection
from coordinator.config import FederationConfig
from coordinator.noise import differential_privacy
from coordinator.noise.differential_privacy import Adders, Plan
from fedmqtt import parts
from fedmqtt.masking import seeds
from fedmqtt.settings import SettingsError


def plan(config: FederationConfig) -> Plan | None:
    """What the settings promise; None where nothing. Raises SettingsError, UnknownPart."""
    chosen, count = config.differential_privacy, config.rounds.count
    if chosen.noise == "keyholders":
        made = differential_privacy.plan(chosen, count, _adders(config))
        check_parts(config.aggregation, config.selection)
        _check_told(config)
        return made
    made = differential_privacy.plan(chosen, count)
    if made is not None:
        check_parts(config.aggregation, config.selection)
        _check_seen(config)
        _check_late(config, made)
    return made


def of_coordinator(config: FederationConfig) -> Plan | None:
    """The same, where the coordinator adds the noise."""
    return plan(config) if config.differential_privacy.noise == "central" else None


def _adders(config: FederationConfig) -> Adders:
    mode = parts.load(privacy, config.privacy.aggregation)
    if not mode.MASKS:
        raise SettingsError(
            f"privacy.aggregation is {config.privacy.aggregation!r}, with which there are no"
            ' keyholders, and differential_privacy.noise is "keyholders": set it to "central", or'
            ' privacy.aggregation to "keyholders" or "trusted"'
        )
    places, tolerated = mode.places(config.privacy)
    return Adders(tolerated=tolerated, noises=seeds.count(places, tolerated))


def _check_told(config: FederationConfig) -> None:
    """What keyholders add hides no more than one sum of each round, of answers that weigh alike."""
    why = ""
    if config.rounds.mode == "asynchronous":
        why = 'rounds.mode is "asynchronous": noise is on the sum of one round, as is its clipping'
    elif config.evaluation.every:
        why = f"evaluation.every is {config.evaluation.every}: what clients measure has no noise"
    elif config.privacy.weight_max != 1:
        why = f"privacy.weight_max is {config.privacy.weight_max}: all must count alike"
    elif config.privacy.norm_max:
        why = "privacy.norm_max is set: differential_privacy.clip_norm is what counts"
    if why:
        raise SettingsError(f'differential_privacy.noise is "keyholders", and {why}')


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
            ' and differential_privacy.noise is "central", for which it clips each: set it to'
            ' "keyholders", and devices clip and keyholders add the noise'
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
    if selection.goes_by(parts.load(selection, policy_name)) != "nothing":
        raise SettingsError(
            f"selection is {policy_name!r}, which goes by what clients' answers showed of their"
            " data, and everybody sees who is invited: noise does not hide that. Choose one of:"
            f" {', '.join(_blind_policies())}"
        )


def _blind_policies() -> list[str]:
    loaded = ((name, parts.load(selection, name)) for name in parts.names(selection))
    return [name for name, policy in loaded if selection.goes_by(policy) == "nothing"]


def _with(flag: str, folder: ModuleType) -> list[str]:
    return [name for name in parts.names(folder) if getattr(parts.load(folder, name), flag, False)]
