"""Simulated fleets: one storm, told round by round, or many, each with a seed of its own.

python -m fleet_sim --seed 7 --clients 500 --rounds 20
python -m fleet_sim --storms 2000
"""

import argparse
import sys
from collections.abc import Sequence

from coordinator import rounds
from fedmqtt.effects import Seconds
from fleet_sim.promises import Broken
from fleet_sim.weather import Weather, options_of
from fleet_sim.world import Plan, World


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fleet_sim", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0, help="what everything is drawn from")
    parser.add_argument("--clients", type=_count, help="instead of the number the seed gives")
    parser.add_argument("--rounds", type=_count, help="instead of the number the seed gives")
    parser.add_argument("--storms", type=_count, help="this many seeds, from --seed on")
    given = parser.parse_args(arguments)
    if given.storms:
        return storms(range(given.seed, given.seed + given.storms), given.clients, given.rounds)
    return storm(given.seed, given.clients, given.rounds)


def storm(seed: int, clients: int | None, rounds_count: int | None) -> int:
    plan, weather = Plan.from_seed(seed, clients, rounds_count), Weather.from_seed(seed)
    tell(describe(plan, weather))
    world = World(plan, weather, told=_tell_round)
    try:
        world.run()
    except Broken as broken:
        tell(failure(world, broken))
        return 1
    tell(
        f"finished at {world.clock.now:.0f} s after {world.clock.happened} events;"
        f" {world.broker.dropped_count} messages were lost\ntrace {world.trace}"
    )
    return 0


def storms(seeds: range, clients: int | None, rounds_count: int | None) -> int:
    on_screen = sys.stdout.isatty()
    for done, seed in enumerate(seeds, start=1):
        world = World(Plan.from_seed(seed, clients, rounds_count), Weather.from_seed(seed))
        try:
            world.run()
        except Broken as broken:
            tell("\n" + describe(world.plan, Weather.from_seed(seed)))
            tell(failure(world, broken))
            return 1
        if on_screen or done == len(seeds) or done % 100 == 0:
            sys.stdout.write(f"{done} of {len(seeds)} storms" + ("\r" if on_screen else "\n"))
            sys.stdout.flush()
    tell("\nevery promise held" if on_screen else "every promise held")
    return 0


def describe(plan: Plan, weather: Weather) -> str:
    """The seed and every option that was drawn from it."""
    return "\n".join([*options_of(plan), *options_of(weather)])


def failure(world: World, broken: Broken) -> str:
    """What broke, when, and the command that repeats it."""
    return f"broken at {world.clock.now:.3f} s: {broken}\nrepeat with: {repeat(world.plan)}"


def repeat(plan: Plan) -> str:
    return f"python -m fleet_sim --seed {plan.seed} --clients {plan.clients} --rounds {plan.rounds}"


def _tell_round(at: Seconds, close: rounds.Close) -> None:
    asked, answered = len(close.invited), len(close.answered)
    tell(
        f"round {close.round} {close.outcome}, {close.reason}: {answered} of {asked} trained,"
        f" {len(close.evaluated)} evaluated, {len(close.declined)} declined,"
        f" {len(close.rejected)} rejected, in {close.duration_s:.1f} s, at {at:.1f} s"
    )


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count")
    return number


if __name__ == "__main__":
    sys.exit(main())
