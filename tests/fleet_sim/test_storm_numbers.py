"""What clients remember is what the coordinator has added up, to the bit, whatever the weather."""

import os
from dataclasses import replace

import numpy as np
import pytest

from coordinator import counted
from fedmqtt.topics import ClientId
from fleet_sim.plan import Plan
from fleet_sim.storm_numbers import SIZE, Differences, federation
from fleet_sim.weather import Weather
from fleet_sim.world import World

pytestmark = pytest.mark.storm

SEEDS = int(os.environ.get("FEDMQTT_STORM_SEEDS", "200"))
BATCH = 20


def stormed(seed: int, weather: Weather) -> tuple[World, Differences]:
    data = Differences(federation("mifa"))
    plan = replace(Plan.from_seed(seed), method=data.method)
    world = World(plan, weather, data=data)
    world.run()
    return world, data


def agree(world: World, data: Differences) -> int:
    """How many clients are in the sum, once it is seen that it is the sum of what they remember."""
    last = counted.read(data.remembered)
    left_over = {named.client for named in world.left_over}
    total = np.zeros(SIZE, np.int64)
    for device in world.devices:
        memory = device.memory.committed
        assert not memory.lost, device.name
        if device.name in left_over:
            # An answer that was accepted when no round was to come any more: what it was a
            # difference to is not remembered.
            return 0
        assert memory.round == last.get(device.name, 0), device.name
        if memory.round:
            total += memory.arrays["counted"]
    np.testing.assert_array_equal(total, data.remembered.get("sum", np.zeros(SIZE, np.int64)))
    return len(last)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_the_sum_is_what_all_clients_remember(first: int) -> None:
    seeds = range(first, min(first + BATCH, SEEDS))
    # Who lies is told so, and takes it for what became of an answer that it meant.
    weathers = {seed: replace(Weather.from_seed(seed), liars=0.0) for seed in seeds}
    assert sum(agree(*stormed(seed, weather)) for seed, weather in weathers.items()) > 0


def test_what_an_answer_goes_by_is_always_the_one_before_it() -> None:
    """In fine weather every answer counts: none is made from what was remembered before."""
    data = Differences(federation("mifa"))
    plan = replace(Plan.from_seed(3, 5, 8), method=data.method, late="discard", cohort=5, quorum=5)
    world = World(plan, Weather(), data=data)
    world.run()
    assert counted.read(data.remembered) == {ClientId(f"c{n:05}"): 8 for n in range(5)}
    assert agree(world, data) == 5
