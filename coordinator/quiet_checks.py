"""What does not go with a quiet federation, in which nobody is known of but by its answers."""

from coordinator import aggregation, round_rules
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from fedmqtt import parts
from fedmqtt.messages import Purpose
from fedmqtt.settings import SettingsError


def check(config: FederationConfig) -> None:
    """Raises SettingsError, where the federation is quiet."""
    if round_rules.fleet(config) and (fault := _fault(config)):
        raise _refused(config, fault)


def check_job(config: FederationConfig, purpose: Purpose) -> None:
    """Raises SettingsError."""
    if not round_rules.fleet(config):
        return
    if purpose == "evaluate" and not config.evaluation.clients:
        raise _refused(
            config, "`fedmqtt evaluate` asks all of them to measure: say how many with --clients"
        )
    if purpose == "describe":
        raise _refused(
            config,
            "statistics wait for `statistics.clients_min` clients that say that they are there:"
            " give `fedmqtt statistics` a federation.toml of its own, with another selection",
        )


def _fault(config: FederationConfig) -> str:
    rounds, fleet = config.rounds, round_rules.fleet(config)
    if rounds.cohort > fleet:
        return f"rounds.cohort is {rounds.cohort}, more than there may be: declare more"
    if rounds.clients_min > rounds.quorum:
        return (
            f"rounds.clients_min is {rounds.clients_min}, and nobody knows how many are there"
            f" before they answer: leave it at rounds.quorum = {rounds.quorum} or below, which says"
            " how many answers a round needs"
        )
    if config.evaluation.every and not config.evaluation.clients:
        return (
            "evaluation.clients is 0, which asks all of them to measure each model: say how many,"
            " or set evaluation.every = 0"
        )
    strategy = parts.load(aggregation, config.aggregation)
    if hasattr(strategy, "stores"):
        return (
            f"aggregation is {config.aggregation!r}, which keeps a vector of each client that has"
            " answered, as many as come: choose another strategy"
        )
    if masked_round.is_masked(config):
        return (
            f"privacy.aggregation is {config.privacy.aggregation!r}: keyholders say by their"
            " presence that they are there and by which keys answers are masked, and presences are"
            " not heard"
        )
    if config.differential_privacy.noise != "none":
        return (
            "differential_privacy counts in how many rounds each device takes part, and how many"
            " devices there are is not known"
        )
    return ""


def _refused(config: FederationConfig, fault: str) -> SettingsError:
    return SettingsError(
        f"selection_settings.fleet is {round_rules.fleet(config)}, by which no client says that it"
        f" is there, and {fault}. Or leave selection_settings.fleet out"
    )
