"""What no single setting of a federation can tell: parts that are not there, and contradictions."""

from coordinator import aggregation, codec_choice, local_method, privacy, quiet_checks, selection
from coordinator.config import FederationConfig, Limits, Tuning
from coordinator.masking import masked_noise, privacy_checks
from coordinator.models import downlink, object_store
from coordinator.noise import noise_checks
from coordinator.persistence import ledger_url
from coordinator.robust.rule import RobustSettings
from coordinator.rounds import SETTLED_ROUNDS
from coordinator.sites import checks as sites_checks
from coordinator.workers import checks as workers_checks
from fedmqtt import parts
from fedmqtt.settings import SettingsError

_PARTS = (("selection", selection), ("aggregation", aggregation))
_DEFAULT = Tuning()


def check(config: FederationConfig) -> None:
    """Raises SettingsError; names the keys, their values, and what was expected."""
    check_parts(config)
    rounds = config.rounds
    if rounds.quorum > rounds.cohort:
        raise SettingsError(
            f"rounds.quorum is {rounds.quorum}, more than rounds.cohort ="
            f" {rounds.cohort}: no round could ever make a model"
        )
    if config.tuning.enabled:
        _check_bounds(config)
    _check_quarantine(config.limits)
    _check_slow_links(config)
    _check_memory(config)
    _check_mode(config)
    _check_ledger(config)
    privacy_checks.check(config)
    noise_checks.plan(config)
    masked_noise.check(config)
    workers_checks.check(config)
    quiet_checks.check(config)
    sites_checks.check(config)


def _check_ledger(config: FederationConfig) -> None:
    ledger_url.check(config.ledger)
    object_store.check(config.checkpoint.store)
    strategy = parts.load(aggregation, config.aggregation)
    if config.ledger == ledger_url.IN_FOLDERS or not hasattr(strategy, "stores"):
        return
    if strategy.stores(local_method.strategy_settings(config)):
        raise SettingsError(
            f"aggregation is {config.aggregation!r}, which keeps a vector of each client in the"
            f" run's folder, and ledger is {ledger_url.shown(config.ledger)!r}, for coordinators"
            f" in other folders: choose another strategy, or ledger = {ledger_url.IN_FOLDERS!r}"
        )


def _check_quarantine(limits: Limits) -> None:
    if limits.quarantine_s > limits.quarantine_max_s:
        raise SettingsError(
            f"limits.quarantine_s is {limits.quarantine_s:g}, more than limits.quarantine_max_s ="
            f" {limits.quarantine_max_s:g}: the first would be longer than the longest"
        )


def _check_slow_links(config: FederationConfig) -> None:
    strategy = parts.load(aggregation, config.aggregation)
    if config.slow_links.codec and issubclass(strategy.Settings, RobustSettings):
        raise SettingsError(
            f"slow_links.codec is {config.slow_links.codec!r}, and aggregation ="
            f" {config.aggregation!r} compares updates with each other: those of clients on slow"
            " links would stand out by what their codec loses, and be taken for hostile. Let all"
            " answer by one codec"
        )


def _check_memory(config: FederationConfig) -> None:
    strategy = parts.load(aggregation, config.aggregation)
    for codec, chain in codec_choice.chains(config).items():
        if chain.remembers and issubclass(strategy.Settings, RobustSettings):
            raise SettingsError(
                f"codec {codec!r} sends other numbers of each client, and aggregation ="
                f" {config.aggregation!r} compares updates with each other: most would have"
                " nothing in common but zeros. Choose a codec without topk and lowrank, or a"
                " strategy that is a mean"
            )
        are_mixed = config.rounds.mode == "asynchronous" or config.late.policy != "discard"
        if chain.front is not None and are_mixed and issubclass(strategy.Settings, RobustSettings):
            raise SettingsError(
                f"codec {codec!r} sends other numbers in each round, and aggregation ="
                f" {config.aggregation!r} would compare answers to different rounds, which have few"
                " numbers in common. Choose a codec without part, a strategy that is a mean, or"
                ' synchronous rounds with late.policy = "discard"'
            )


def check_parts(config: FederationConfig) -> None:
    """Whether there is each part that is named. Raises SettingsError."""
    codec_choice.chains(config)
    downlink.read(config.downlink_codec)
    for key, folder in _PARTS:
        if getattr(config, key) not in (known := parts.names(folder)):
            raise SettingsError(
                f"{key}: there is no {getattr(config, key)!r}; choose one of: {', '.join(known)}"
            )
    if (mode := config.privacy.aggregation) not in (known := parts.names(privacy)):
        raise SettingsError(
            f"privacy.aggregation: there is no {mode!r}; choose one of: {', '.join(known)}"
        )


def _check_mode(config: FederationConfig) -> None:
    late = config.late
    if config.rounds.mode == "asynchronous":
        if getattr(parts.load(selection, config.selection), "BY_SORTITION", False):
            raise SettingsError(
                f'selection is {config.selection!r} and rounds.mode is "asynchronous", where'
                " clients are invited one by one, as places become free: choose another selection"
            )
        if late.policy == "buffer":
            raise SettingsError(
                'late.policy is "buffer" and rounds.mode is "asynchronous", where rounds.cohort ='
                f" {config.rounds.cohort} is the buffer: leave late.policy out"
            )
    elif late.rounds_max >= SETTLED_ROUNDS:
        raise SettingsError(
            f"late.rounds_max is {late.rounds_max}: more than {SETTLED_ROUNDS - 1} need"
            ' rounds.mode = "asynchronous"'
        )


def _check_bounds(config: FederationConfig) -> None:
    """A bound that stands at its default gives way to what somebody chose; others contradict it."""
    rounds, tuning = config.rounds, config.tuning
    start, lowest, highest = (
        ("rounds.over_selection", rounds.over_selection),
        ("tuning.over_selection_min", tuning.over_selection_min),
        ("tuning.over_selection_max", tuning.over_selection_max),
    )
    in_order = [(lowest, highest), (lowest, start)]
    if tuning.over_selection_max != _DEFAULT.over_selection_max:
        in_order.append((start, highest))
    if tuning.deadline_min_s != _DEFAULT.deadline_min_s:
        in_order.append(
            (
                ("tuning.deadline_min_s", tuning.deadline_min_s),
                ("rounds.deadline_s", rounds.deadline_s),
            )
        )
    for (smaller, at_least), (larger, at_most) in in_order:
        if at_least > at_most:
            raise SettingsError(
                f"{smaller} is {at_least:g}, more than {larger} = {at_most:g}: nothing lies between"
            )
