"""What does not go together with sites is refused at the start, with the reason and a way out."""

import pytest

from coordinator.config import FederationConfig, Privacy, Rounds, Sites, Workers
from coordinator.noise.differential_privacy import DifferentialPrivacy
from coordinator.sites import checks as sites_checks
from fedmqtt.settings import SettingsError

_NOISE = DifferentialPrivacy(noise="central", epsilon=8.0, participations_max=10)


def config(**more: object) -> FederationConfig:
    return FederationConfig(name="ward-7", task="t", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"aggregation": "median"}, "aggregation = 'median' goes by more than the sum"),
        ({"aggregation": "norm_clipping"}, "aggregation = 'norm_clipping' goes by more than"),
        ({"aggregation": "scaffold"}, "those that go by it alone are fedadagrad, fedadam, fedavg,"),
        ({"aggregation": "mifa"}, "aggregation = 'mifa' goes by more than the sum"),
        ({"rounds": Rounds(mode="asynchronous")}, 'rounds.mode is "asynchronous"'),
        ({"differential_privacy": _NOISE}, "differential_privacy bounds what each device changes"),
        ({"workers": Workers(lanes=4)}, "workers.lanes is 4"),
    ],
)
def test_what_sites_cannot_do_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=r"sites\.clients_max is 50") as refused:
        sites_checks.check(config(sites=Sites(clients_max=50), **more))
    assert said in str(refused.value)
    assert "leave sites.clients_max out" in str(refused.value)
    sites_checks.check(config(**more))


def test_under_masks_nobody_sees_what_one_site_weighs() -> None:
    masked = Privacy(aggregation="keyholders")
    sites_checks.check(config(sites=Sites(clients_max=50), privacy=masked))
    with pytest.raises(SettingsError, match=r"sites\.weight_max is 900, and privacy"):
        sites_checks.check(config(sites=Sites(clients_max=50, weight_max=900), privacy=masked))


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "fedavgm", "fedprox", "fedsgd"])
def test_what_goes_by_the_sum_alone_goes_with_sites(strategy: str) -> None:
    sites_checks.check(config(sites=Sites(clients_max=50), aggregation=strategy))
