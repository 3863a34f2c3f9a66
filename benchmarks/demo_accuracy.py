"""How well the demonstration's model does on people whose devices never trained, over seeds.

Runs `fedmqtt demo --json` once for each seed and prints one JSON line: accuracy (mean, worst, each
seed's), mean macro-F1, wall seconds (median, longest), and the share of invited clients whose
answers counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
from tempfile import TemporaryDirectory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to this")
    parser.add_argument("--rounds", type=int, help="as `fedmqtt demo` has it by default")
    parser.add_argument("--broker", default="auto", help="mosquitto, embedded or mqtt://...")
    arguments = parser.parse_args()
    results = []
    with TemporaryDirectory() as runs:
        for seed in range(1, arguments.seeds + 1):
            results.append(_demo(arguments, seed, runs))
            sys.stderr.write(f"seed {seed}: {results[-1]['accuracy']:.4f}\n")
    accuracies = [result["accuracy"] for result in results]
    walls = [result["wall_s"] for result in results]
    figures = {
        "seeds": arguments.seeds,
        "rounds": results[0]["rounds"],
        "accuracy_mean": round(statistics.mean(accuracies), 4),
        "accuracy_worst": round(min(accuracies), 4),
        "accuracies": [round(accuracy, 4) for accuracy in accuracies],
        "macro_f1_mean": round(statistics.mean(result["macro_f1"] for result in results), 4),
        "wall_s_median": statistics.median(walls),
        "wall_s_longest": max(walls),
        "answered_share": round(
            sum(result["answered"] for result in results)
            / sum(result["invited"] for result in results),
            3,
        ),
        "broker": results[0]["broker"],
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _demo(arguments: argparse.Namespace, seed: int, runs: str) -> dict[str, float]:
    command = [sys.executable, "-m", "fedmqtt", "demo", "--json", "--seed", str(seed)]
    command += ["--broker", arguments.broker, "--runs", runs]
    if arguments.rounds is not None:
        command += ["--rounds", str(arguments.rounds)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
