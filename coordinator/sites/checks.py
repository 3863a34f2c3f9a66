"""What does not go together with sites, which hand up a sum and no single change."""

from coordinator import aggregation
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from coordinator.noise import noise_checks
from coordinator.workers import checks as workers_checks
from fedmqtt import parts
from fedmqtt.settings import SettingsError


def check(config: FederationConfig) -> None:
    """Raises SettingsError, where answers may stand for several devices."""
    if config.sites.clients_max and (fault := _fault(config)):
        raise SettingsError(
            f"sites.clients_max is {config.sites.clients_max}, and {fault}. Change that, or leave"
            " sites.clients_max out: then nobody answers for others"
        )


def _fault(config: FederationConfig) -> str:
    strategy = parts.load(aggregation, config.aggregation)
    if not getattr(strategy, "MEAN_ALONE", False):
        means = ", ".join(sorted(workers_checks.means()))
        return (
            f"aggregation = {config.aggregation!r} goes by more than the sum of all changes, which"
            f" is all that a site hands up: those that go by it alone are {means}"
        )
    if config.rounds.mode == "asynchronous":
        return (
            'rounds.mode is "asynchronous", where a client is asked for its next answer while it'
            " makes one: a site is at one round at a time"
        )
    if config.sites.clients_max == 1 and masked_round.is_masked(config):
        return (
            f"privacy.aggregation is {config.privacy.aggregation!r}, where each answer is of one"
            " device anyway: say for how many it may be, 2 or more"
        )
    if config.sites.weight_max and masked_round.is_masked(config):
        return (
            f"sites.weight_max is {config.sites.weight_max}, and privacy.aggregation is"
            f" {config.privacy.aggregation!r}: nobody sees under a mask what one site weighs. Each"
            " of its devices counts for privacy.weight_max at most, as any client"
        )
    if noise_checks.plan(config) is not None:
        return (
            "differential_privacy bounds what each device changes, and a site hands up no single"
            " change that could be clipped"
        )
    if config.workers.lanes:
        return (
            f"workers.lanes is {config.workers.lanes}: workers add up changes of clients, and do"
            " not read the sums of sites"
        )
    return ""
