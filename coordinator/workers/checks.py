"""What does not go together with workers, which add up answers and keep none of them."""

from coordinator import aggregation, privacy
from coordinator.config import FederationConfig
from coordinator.noise import noise_checks
from fedmqtt import parts
from fedmqtt.settings import SettingsError


def check(config: FederationConfig) -> None:
    """Raises SettingsError, where workers are asked for."""
    if config.workers.lanes and (fault := _fault(config)):
        raise SettingsError(
            f"workers.lanes is {config.workers.lanes}, and {fault}. Change that, or leave"
            " workers.lanes out: the coordinator then takes in all answers itself"
        )


def _fault(config: FederationConfig) -> str:
    strategy = parts.load(aggregation, config.aggregation)
    if not getattr(strategy, "MEAN_ALONE", False):
        choices = ", ".join(sorted(means()))
        return (
            f"aggregation = {config.aggregation!r} goes by more than the sum of all changes, which"
            f" is what workers hand over: those that go by it alone are {choices}"
        )
    if config.rounds.mode == "asynchronous":
        return (
            'rounds.mode is "asynchronous", where an answer waits for a later round: workers keep'
            " no single answer"
        )
    if config.late.policy != "discard":
        return (
            f"late.policy is {config.late.policy!r}: a late answer waits for another round, and"
            " workers keep no single answer"
        )
    if parts.load(privacy, config.privacy.aggregation).MASKS:
        return (
            f"privacy.aggregation is {config.privacy.aggregation!r}: whose masks are opened is"
            " known when a round has closed, and workers add answers up before"
        )
    if noise_checks.plan(config) is not None:
        return (
            "differential_privacy asks for noise, which belongs to the whole sum of a round, as its"
            " clip norm does"
        )
    return ""


def means() -> list[str]:
    """Strategies that go by the sum of all changes alone."""
    return [
        name
        for name in parts.names(aggregation)
        if getattr(parts.load(aggregation, name), "MEAN_ALONE", False)
    ]
