"""`python -m learning_tasks.initial_model TASK --seed N --out model.safetensors`

Write the weights of a task's untrained model. It is a command of its own so that the coordinator,
which only averages arrays, never loads torch.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError


def write_initial_model(task_name: str, seed: int, path: Path) -> int:
    """Write the untrained model as safetensors; how many numbers it has.

    Raises `TaskError` where the task cannot be loaded, that or OSError where the file cannot be
    written.
    """
    weights = load_task(task_name).initial_weights(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whoever waits for this file never finds half of it.
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        save_file(weights, unfinished)
    except SafetensorError as bad:
        raise TaskError(f"{path} cannot be written: {bad}") from bad
    unfinished.replace(path)
    return sum(array.size for array in weights.values())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m learning_tasks.initial_model",
        description="Write the weights of a task's untrained model.",
    )
    parser.add_argument("task", help="a dotted module, or a file that ends in .py")
    parser.add_argument("--seed", type=int, default=0, help="names the draw (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file to write")
    chosen = parser.parse_args(arguments)
    try:
        count = write_initial_model(chosen.task, chosen.seed, chosen.out)
    except (TaskError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"wrote {count:,} numbers to {chosen.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
