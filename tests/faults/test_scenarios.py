"""The quick ones of the fault benchmark's scenarios; `make faults` plays all of them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from broker_config.child import BrokerError
from broker_config.mosquitto import find_mosquitto
from tests.brokers import is_required
from tests.faults.arrangement import ON_A_LAPTOP, Arrangement, running
from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Row, Stage, Theatre, play

pytestmark = pytest.mark.broker

QUICK = [
    "all-killed",
    "coordinator-killed",
    "deliveries-disturbed",
    "standby",
]


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Theatre:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    return Theatre(tmp_path_factory.mktemp("faults"), seed=1)


@pytest.mark.parametrize("name", QUICK)
def test_a_run_survives(name: str, theatre: Theatre) -> None:
    scenario = next(each for each in SCENARIOS if each.name == name)
    stage = Stage(theatre, scenario.name, scenario.fault, kills=3, outage_s=1.0)
    row: Row = play(scenario.play, stage)
    assert row.faults == ()
    assert (row.ended, row.lost, row.twice) == (True, 0, 0)


ARRANGED = ["worker-killed", "leader-killed", "server-restarted"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """With all that needs no cluster, which is slow to start."""
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed here")
    arrangement = Arrangement(workers=2, standby=True, postgresql=True)
    with ExitStack() as stack:
        try:
            ground = stack.enter_context(running(arrangement))
        except BrokerError as lacking:
            if is_required("postgresql"):
                pytest.fail(str(lacking))
            pytest.skip(str(lacking))
        yield Theatre(tmp_path_factory.mktemp("grown"), seed=1, ground=ground)


@pytest.mark.parametrize("name", ARRANGED)
def test_a_run_with_workers_and_a_standby_survives(name: str, grown: Theatre) -> None:
    test_a_run_survives(name, grown)


def test_each_scenario_is_played_on_what_it_hurts() -> None:
    plain = [each for each in SCENARIOS if each.fits(ON_A_LAPTOP)]
    workers = [each.name for each in SCENARIOS if each.fits(Arrangement(workers=2))]
    everything = Arrangement(cluster="nats", workers=2, standby=True, postgresql=True)
    assert {"worker-killed", "undisturbed"} <= set(workers)
    assert not {"leader-killed", "broker-killed", "server-killed"} & set(workers)
    # What is not played on a laptop's is played where there is everything.
    rest = [each for each in SCENARIOS if each not in plain]
    assert rest == [each for each in SCENARIOS if each.fits(everything)]
