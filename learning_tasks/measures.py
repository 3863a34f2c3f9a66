"""What a task measures of a model, as far as can be told without data: its metrics and classes.

A task file says it by two names, of which it may leave out either:

    CLASS_NAMES = ("idle", "working")     the classes of its confusion matrix: accuracy and macro-F1
    METRIC_NAMES = ("top5", "ece")        metrics of its own, beside `loss`

`python -m learning_tasks.measures TASK` writes both as JSON: the coordinator, which has no data and
may have no torch, asks that way where answers are masked.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from learning_tasks.loading import load_task
from learning_tasks.seam import Task, TaskError


@dataclass(frozen=True, slots=True)
class Measured:
    metrics: tuple[str, ...]
    classes: int
    """Of the confusion matrix; 0: it has none, or does not say."""


def measured(task: Task) -> Measured:
    """Raises TaskError where the task does not name them as it should."""
    # A torch task's file stands behind its adapter.
    source = getattr(task, "file", task)
    own = _names(source, "METRIC_NAMES")
    return Measured(tuple(dict.fromkeys(("loss", *own))), len(_names(source, "CLASS_NAMES")))


def _names(source: object, attribute: str) -> tuple[str, ...]:
    found = getattr(source, attribute, ())
    if isinstance(found, str) or not all(isinstance(one, str) for one in found):
        raise TaskError(f"{attribute} must be names, such as ('one', 'other')")
    return tuple(found)


def main(arguments: Sequence[str]) -> int:
    (task,) = arguments
    try:
        found = measured(load_task(task))
    except TaskError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
