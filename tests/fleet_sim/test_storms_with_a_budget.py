"""The storms of some seeds, where each client may be in a few sums alone: no weather makes it more.

That nobody is in more, and that what is counted is what came to be in sums, is a promise.
"""

from dataclasses import replace

import pytest

from fleet_sim.plan import Plan
from fleet_sim.weather import Weather
from fleet_sim.world import World

pytestmark = pytest.mark.storm

SEEDS = range(30)


def _world(seed: int) -> World:
    plan = Plan.from_seed(seed)
    # As the real program has it: a round that fewer are in could make no model.
    needed = max(plan.clients_min, plan.quorum)
    budget = replace(plan, participations_max=1 + seed % 5, clients_min=needed)
    return World(budget, Weather.from_seed(seed))


def test_no_weather_lets_anybody_take_part_too_often_and_the_run_ends() -> None:
    early = late = crashes = 0
    for seed in SEEDS:
        world = _world(seed)
        world.run()
        early += len(world.closed) < world.plan.rounds
        late += any(close.held for close in world.closed)
        crashes += world.server.deaths
    # So much did these seeds see of what matters: runs that ended at the budget, late answers, and
    # coordinators that were killed.
    assert early >= 3 and late >= 3 and crashes >= 10
