"""Many seeds, each its own weather: promises hold in the storm, and rounds flow when it calms."""

import os

import pytest

from fleet_sim.__main__ import describe, failure
from fleet_sim.plan import Plan
from fleet_sim.promises import Broken
from fleet_sim.weather import Weather
from fleet_sim.world import World

pytestmark = pytest.mark.storm

SEEDS = int(os.environ.get("FEDMQTT_STORM_SEEDS", "200"))
BATCH = 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_promises_hold_in_any_weather_and_the_run_ends_when_it_calms(first: int) -> None:
    for seed in range(first, min(first + BATCH, SEEDS)):
        world = World(Plan.from_seed(seed), Weather.from_seed(seed))
        try:
            world.run()
        except Broken as broken:
            pytest.fail(
                f"{failure(world, broken)}\n{describe(world.plan, Weather.from_seed(seed))}"
            )


def test_a_crowd_of_two_thousand() -> None:
    world = World(Plan.from_seed(2, 2000, 3), Weather.from_seed(2))
    world.run()
    assert [close.round for close in world.closed[:3]] == [1, 2, 3]
