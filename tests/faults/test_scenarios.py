"""The quick ones of the fault benchmark's scenarios; `make faults` plays all of them."""

import pytest

from broker_config.mosquitto import find_mosquitto
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
