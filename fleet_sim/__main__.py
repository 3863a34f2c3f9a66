"""Simulated fleets: one storm, told round by round, or many, each with a seed of its own.

python -m fleet_sim --seed 7 --clients 500 --rounds 20
python -m fleet_sim --storms 2000 --processes 2
"""

import argparse
import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from coordinator import rounds
from fedmqtt.effects import Seconds
from fleet_sim.plan import Plan
from fleet_sim.promises import Broken
from fleet_sim.weather import Weather, options_of
from fleet_sim.world import World


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fleet_sim", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=0, help="what everything is drawn from")
    parser.add_argument("--clients", type=_count, help="instead of the number the seed gives")
    parser.add_argument("--rounds", type=_count, help="instead of the number the seed gives")
    parser.add_argument("--storms", type=_count, help="this many seeds, from --seed on")
    parser.add_argument("--processes", type=_count, default=1, help="that share the storms")
    given = parser.parse_args(arguments)
    if given.storms:
        seeds = range(given.seed, given.seed + given.storms)
        return storms(seeds, given.clients, given.rounds, given.processes)
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
        f" {world.broker.dropped_count} messages were lost, {world.server.deaths} times the"
        " coordinator was killed"
    )
    if world.left_over:
        tell(f"accepted late, and taken up by no round: {world.left_over}")
    tell(f"trace {world.trace}")
    return 0


def storms(seeds: range, clients: int | None, rounds_count: int | None, processes: int = 1) -> int:
    on_screen = sys.stdout.isatty()
    crashes = left_over = 0
    with _results(partial(_weather, clients, rounds_count), seeds, processes) as results:
        for done, result in enumerate(results, start=1):
            if result.failure:
                tell("\n" + result.failure)
                return 1
            crashes += result.crashes
            left_over += result.left_over
            if on_screen or done == len(seeds) or done % 100 == 0:
                sys.stdout.write(f"{done} of {len(seeds)} storms" + ("\r" if on_screen else "\n"))
                sys.stdout.flush()
    tell("\n" * on_screen + f"every promise held, through {crashes} crashes of the coordinator")
    if left_over:
        tell(f"{left_over} late answers were accepted that no round took up: it kept its model")
    return 0


@dataclass(frozen=True, slots=True)
class _Result:
    failure: str = ""
    crashes: int = 0
    left_over: int = 0


def _weather(clients: int | None, rounds_count: int | None, seed: int) -> _Result:
    weather = Weather.from_seed(seed)
    world = World(Plan.from_seed(seed, clients, rounds_count), weather)
    try:
        world.run()
    except Broken as broken:
        return _Result(f"{describe(world.plan, weather)}\n{failure(world, broken)}")
    return _Result(crashes=world.server.deaths, left_over=len(world.left_over))


@contextlib.contextmanager
def _results(
    run: Callable[[int], _Result], seeds: range, processes: int
) -> Iterator[Iterable[_Result]]:
    """In the order of the seeds, so that the first failure is always the same."""
    if processes == 1:
        yield map(run, seeds)
        return
    with multiprocessing.Pool(processes) as pool:
        yield pool.imap(run, seeds, chunksize=10)


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
    late = f", {len(close.held)} late counted" if close.held else ""
    tell(
        f"round {close.round} {close.outcome}, {close.reason}: {answered} of {asked} trained{late},"
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
