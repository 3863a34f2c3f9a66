"""Do virtual time and a live run say the same about a fleet?

Runs the same fleet in both modes over several seeds and compares, round by round: how many were
invited, answered and were lost, and the model's accuracy. Prints one line of JSON: for each, the
mean over rounds in both modes and the largest difference of a seed's mean. With a calm fleet
everything must be equal, the model to the last bit (`--calm`).
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from coordinator import history
from coordinator.history import Record
from fleet_sim import fleet
from fleet_sim.simulate_command import simulate, simulate_live


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--preset", default="commuters")
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--calm", action="store_true", help="no weather: the same to the last bit")
    arguments = parser.parse_args()
    preset = "calm" if arguments.calm else arguments.preset
    seeds = [_compare(preset, seed, arguments) for seed in range(1, arguments.seeds + 1)]
    figures: dict[str, Any] = {"preset": preset, "seeds": arguments.seeds}
    for name in ("invited", "answered", "dropped", "accuracy"):
        virtual, live = ([one[mode][name] for one in seeds] for mode in ("virtual", "live"))
        figures[name] = {
            "virtual": round(mean(virtual), 4),
            "live": round(mean(live), 4),
            "largest_difference": round(
                max(abs(a - b) for a, b in zip(virtual, live, strict=True)), 4
            ),
        }
    if arguments.calm:
        figures["same_rounds"] = all(one["same_rounds"] for one in seeds)
        figures["same_model"] = all(one["same_model"] for one in seeds)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _compare(preset: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        f"seed={seed}",
        f"federation.seed={seed}",
        f"federation.rounds.count={arguments.rounds}",
    ]
    planned = fleet.read(fleet.preset(preset), overrides)
    with TemporaryDirectory(prefix="fedmqtt-agreement-") as scratch:
        virtual, live = Path(scratch) / "virtual", Path(scratch) / "live"
        simulate(planned, virtual, repeat="", alone=True, processes=2)
        speed = 1.0 if arguments.calm else arguments.speed
        simulate_live(planned, live, repeat="", broker="auto", speed=speed, processes=2)
        rounds = {
            name: history.read(folder / "history.jsonl")
            for name, folder in (("virtual", virtual), ("live", live))
        }
        models = [load_file(folder / "model.safetensors") for folder in (virtual, live)]
    found: dict[str, Any] = {name: _means(records) for name, records in rounds.items()}
    found["same_rounds"] = _who(rounds["virtual"]) == _who(rounds["live"])
    found["same_model"] = all(
        np.array_equal(models[0][name], models[1][name]) for name in models[0]
    )
    return found


def _means(records: list[Record]) -> dict[str, float]:
    trained = [record for record in records if record.outcome != "evaluated"]
    measured = [record.figures.metrics["accuracy"] for record in records if record.figures]
    return {
        "invited": mean(len(record.invited) for record in trained),
        "answered": mean(len(record.answered) for record in trained),
        "dropped": mean(len(record.dropped) for record in trained),
        # Of the later half: the first rounds are those of a model that has learned nothing.
        "accuracy": mean(measured[len(measured) // 2 :]),
    }


def _who(records: list[Record]) -> list[tuple[list[str], list[str]]]:
    return [(list(record.invited), list(record.answered)) for record in records]


if __name__ == "__main__":
    sys.exit(main())
