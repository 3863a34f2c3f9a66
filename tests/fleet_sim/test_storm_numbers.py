"""What clients remember is what the coordinator has added up, to the bit, whatever the weather."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator import rounds
from coordinator.sums import counted
from edge_client.remembered import NOTHING
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId
from fleet_sim.clock import stream
from fleet_sim.plan import Plan
from fleet_sim.storm_numbers import SIZE, Differences, federation
from fleet_sim.weather import Weather
from fleet_sim.world import World

pytestmark = pytest.mark.storm

SEEDS = int(os.environ.get("FEDMQTT_STORM_SEEDS", "200"))
BATCH = 20
BATCHES = [range(first, min(first + BATCH, SEEDS)) for first in range(0, SEEDS, BATCH)]


def storm(
    seed: int,
    data: Differences,
    told: Callable[[World, int], None] | None = None,
    **changed: Any,
) -> World:
    """`told` hears of each round that has closed; `changed` is what the seed does not draw."""

    def closed(at: Seconds, close: rounds.Close) -> None:
        if told is not None:
            told(world, close.round)

    # Who lies is told so, and takes it for what became of an answer that it meant.
    weather = replace(Weather.from_seed(seed), liars=0.0)
    plan = replace(Plan.from_seed(seed), method=data.method, **changed)
    if plan.selection == "sortition":
        # Who was refused for lack of room may be counted after all, should the coordinator be
        # killed and a copy of the answer come afterwards (ARCHITECTURE.md, "Not there yet").
        plan = replace(plan, selection="uniform")
    world = World(plan, weather, data=data, told=closed)
    world.run()
    return world


def mifa(**settings: Any) -> Differences:
    return Differences(federation("mifa", **settings))


def total_of(data: Differences) -> Any:
    return data.remembered.get("sum", np.zeros(SIZE, np.int64))


def whose_answer_is_left_over(world: World) -> set[ClientId]:
    """Accepted when no round was to come any more: what it was a difference to is forgotten."""
    return {named.client for named in world.left_over}


@pytest.mark.parametrize("seeds", BATCHES, ids=str)
def test_the_sum_is_what_all_clients_remember(seeds: range) -> None:
    """Without a store: nothing but the sum and the devices knows it."""
    clients = 0
    for seed in seeds:
        data = mifa(expire_rounds=0)
        world = storm(seed, data)
        last = counted.read(data.remembered)
        if whose_answer_is_left_over(world):
            continue
        for device in world.devices:
            memory = device.memory.committed
            assert memory.round == last.get(device.name, 0) and not memory.lost, (seed, device.name)
        parts = [
            one.memory.committed.arrays["counted"] for one in world.devices if one.name in last
        ]
        np.testing.assert_array_equal(sum(parts, np.zeros(SIZE, np.int64)), total_of(data))
        clients += len(last)
    assert clients > BATCH


@pytest.mark.parametrize("expire_rounds", [2, 200])
@pytest.mark.parametrize("seeds", BATCHES[:5], ids=str)
def test_who_forgets_and_who_is_forgotten_counts_once_all_the_same(
    seeds: range, expire_rounds: int
) -> None:
    """Devices lose what they remember, and parts expire: the sum is what lies in the store."""
    clients = agreed = 0
    for seed in seeds:
        data, chance = mifa(expire_rounds=expire_rounds), stream(seed, "forgetful")

        def forget_some(world: World, number: int, chance: Any = chance) -> None:
            for device in world.devices:
                if chance.random() < 0.1:
                    device.memory.committed = NOTHING
                    device.memory.pending.clear()

        # Whoever has forgotten is refused once: no calm weather makes a cohort complete for that.
        world = storm(seed, data, forget_some, quorum=1)
        last, parts = counted.read(data.remembered), data.parts()
        np.testing.assert_array_equal(sum(parts.values(), np.zeros(SIZE, np.int64)), total_of(data))
        assert parts.keys() == last.keys()
        if world.plan.late == "discard" and last:
            # A late one is old when it comes.
            assert min(last.values()) >= max(last.values()) - expire_rounds
        left_over = whose_answer_is_left_over(world)
        for device in world.devices:
            memory = device.memory.committed
            if device.name in left_over:
                continue
            if memory.round == last.get(device.name) and not memory.lost:
                np.testing.assert_array_equal(memory.arrays["counted"], parts[device.name])
                agreed += 1
        clients += len(last)
    assert agreed > clients / 2 > 0


def test_in_fine_weather_every_answer_counts() -> None:
    """None is made from what was remembered before the one before it."""
    data = mifa()
    plan = replace(Plan.from_seed(3, 5, 8), method=data.method, late="discard", cohort=5, quorum=5)
    World(plan, Weather(), data=data).run()
    assert counted.read(data.remembered) == {ClientId(f"c{n:05}"): 8 for n in range(5)}
