"""What there is to describe in clients' data: the features that a task names.

A task file may define both of these; one for torch that defines neither has the features of
`default_features`.

    FEATURE_NAMES = {"temperature": (), "state": ("idle", "working")}     a number; two categories
    def features(data): ...      what load_data gave -> {"temperature": (n,), "state": positions}

`python -m learning_tasks.features TASK` writes a task's features as JSON: the coordinator, which
has no data and may have no torch, asks that way.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from learning_tasks.loading import load_task
from learning_tasks.seam import Task, TaskError

Features = Mapping[str, Sequence[str]]
"""By name: the names of its categories; none for a number."""

_NAME_MAX = 60
FEATURES_MAX = 200


def named(task: Task) -> Features:
    """Raises TaskError for a task that names none, or not as they should be."""
    features = getattr(task, "FEATURE_NAMES", None)
    if not isinstance(features, Mapping) or not features or not hasattr(task, "features"):
        raise TaskError(
            "this task does not say what there is to describe: define FEATURE_NAMES, such as"
            ' {"temperature": ()}, and features(data) in its file'
        )
    if len(features) > FEATURES_MAX:
        raise TaskError(
            f"FEATURE_NAMES has {len(features)} names; at most {FEATURES_MAX} are described"
        )
    for name, categories in features.items():
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_MAX or not name.isprintable():
            raise TaskError(f"FEATURE_NAMES: {name!r} is no name of 1 to {_NAME_MAX} characters")
        if isinstance(categories, str) or not all(isinstance(one, str) for one in categories):
            raise TaskError(f"FEATURE_NAMES[{name!r}] must be () or the names of its categories")
    return features


def values(task: Task, data: Any) -> Mapping[str, Any]:
    """Of one client's data, as its task's `load_data` gave it: one number a sample each."""
    found: Mapping[str, Any] = task.features(data)  # type: ignore[attr-defined]
    return found


def main(arguments: Sequence[str]) -> int:
    (task,) = arguments
    try:
        found = named(load_task(task))
    except TaskError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        json.dumps({name: list(categories) for name, categories in found.items()}) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
