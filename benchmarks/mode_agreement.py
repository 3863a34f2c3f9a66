"""Do virtual time and a live run say the same about a fleet?

Runs the same fleet in both modes over several seeds and compares, round by round, how many were
invited, answered and were lost, and the model's accuracy: in the mean over the seeds. Prints one
line of JSON, and ends with 1 where a mode has another number of rounds, or where a difference is
beyond its tolerance:

             each round   mean over rounds
  invited       1.5             1.0
  answered      0.8             0.3
  dropped       1.5             0.5
  accuracy      0.10            0.04

Not equal, since live it is chance who is first at the broker, and from there each run takes its own
way. With the commuters at 10 times their speed the largest differences in a round were 0.4, 0.2,
0.8 and 0.043, and over ten rounds 0.12, 0, 0.08 and 0.002; the tolerances leave room for more.
They are for five seeds. By chance fewer differ by more, and are allowed that (by the square root).
With a calm fleet everything must be equal, the model to the last bit (`--calm`).
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt.topics import ClientId
from fleet_sim import fleet
from fleet_sim.simulate_command import simulate, simulate_live

_TOLERANCES_FOR = 5
"""Seeds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that both modes say of each round."""

    name: str
    of: Callable[[Record], float | None]
    """None: the record tells nothing of it."""
    each_round: float
    over_rounds: float
    """Tolerances, with `_TOLERANCES_FOR` seeds."""


def _accuracy(record: Record) -> float | None:
    return None if record.figures is None else record.figures.metrics["accuracy"]


def _count(members: Callable[[Record], Sequence[str]]) -> Callable[[Record], float | None]:
    # In the last record, of an evaluation, nobody is invited to train.
    return lambda record: None if record.outcome == "evaluated" else len(members(record))


FIGURES = (
    Figure("invited", _count(lambda record: record.invited), 1.5, 1.0),
    Figure("answered", _count(lambda record: record.answered), 0.8, 0.3),
    Figure("dropped", _count(lambda record: record.dropped), 1.5, 0.5),
    Figure("accuracy", _accuracy, 0.10, 0.04),
)

Run = Sequence[Record]


@dataclass(frozen=True, slots=True)
class Pair:
    """One seed's run in both modes."""

    virtual: Run
    live: Run
    same_model: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=_TOLERANCES_FOR)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--preset", default="commuters")
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--calm", action="store_true", help="no weather: the same to the last bit")
    arguments = parser.parse_args()
    preset = "calm" if arguments.calm else arguments.preset
    speed = 1.0 if arguments.calm else arguments.speed
    seeds = range(1, arguments.seeds + 1)
    pairs = [_both(preset, seed, arguments.rounds, speed) for seed in seeds]
    agree, found = compare_exactly(pairs) if arguments.calm else compare(pairs)
    told = {"preset": preset, "seeds": arguments.seeds, "rounds": arguments.rounds, **found}
    sys.stdout.write(json.dumps({**told, "agree": agree}) + "\n")
    return 0 if agree else 1


def compare(pairs: Sequence[Pair]) -> tuple[bool, dict[str, Any]]:
    """Whether all differences are within their tolerances, and what they are."""
    allowed = math.sqrt(_TOLERANCES_FOR / min(len(pairs), _TOLERANCES_FOR))
    same_length = all(len(pair.virtual) == len(pair.live) for pair in pairs)
    found: dict[str, Any] = {"same_number_of_rounds": same_length}
    agree = same_length
    for figure in FIGURES:
        virtual = _by_round([pair.virtual for pair in pairs], figure)
        live = _by_round([pair.live for pair in pairs], figure)
        common = sorted(virtual.keys() & live.keys())
        each = max(abs(virtual[number] - live[number]) for number in common)
        means = mean(virtual[number] for number in common), mean(live[number] for number in common)
        over = abs(means[0] - means[1])
        tolerances = figure.each_round * allowed, figure.over_rounds * allowed
        agree = agree and each <= tolerances[0] and over <= tolerances[1]
        found[figure.name] = {
            "virtual": round(means[0], 4),
            "live": round(means[1], 4),
            "difference": round(over, 4),
            "tolerance": round(tolerances[1], 4),
            "largest_in_a_round": round(each, 4),
            "tolerance_in_a_round": round(tolerances[0], 4),
        }
    return agree, found


def compare_exactly(pairs: Sequence[Pair]) -> tuple[bool, dict[str, Any]]:
    """Whether the same were invited, answered and measured, and the same model came of it."""
    same_rounds = all(_who(pair.virtual) == _who(pair.live) for pair in pairs)
    same_model = all(pair.same_model for pair in pairs)
    return same_rounds and same_model, {"same_rounds": same_rounds, "same_model": same_model}


def _both(preset: str, seed: int, rounds: int, speed: float) -> Pair:
    overrides = [f"seed={seed}", f"federation.seed={seed}", f"federation.rounds.count={rounds}"]
    planned = fleet.read(fleet.preset(preset), overrides)
    with TemporaryDirectory(prefix="fedmqtt-agreement-") as scratch:
        virtual, live = Path(scratch) / "virtual", Path(scratch) / "live"
        simulate(planned, virtual, repeat="", alone=True, processes=2)
        simulate_live(planned, live, repeat="", broker="auto", speed=speed, processes=2)
        records = [history.read(folder / "history.jsonl") for folder in (virtual, live)]
        models = [load_file(folder / "model.safetensors") for folder in (virtual, live)]
    same_model = models[0].keys() == models[1].keys() and all(
        np.array_equal(models[0][name], models[1][name]) for name in models[0]
    )
    return Pair(records[0], records[1], same_model)


def _by_round(runs: Sequence[Run], figure: Figure) -> Mapping[int, float]:
    """The mean over the runs, of the rounds of which any tells."""
    told: dict[int, list[float]] = {}
    for record in (record for run in runs for record in run):
        if (value := figure.of(record)) is not None:
            told.setdefault(record.round, []).append(value)
    return {number: mean(values) for number, values in told.items()}


def _who(records: Run) -> list[tuple[list[ClientId], ...]]:
    return [(one.invited, one.answered, one.dropped, one.evaluated) for one in records]


if __name__ == "__main__":
    sys.exit(main())
