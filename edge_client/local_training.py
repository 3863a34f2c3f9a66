"""What a client does with a task in one round, as it was asked: `Training` and `Method` say what.

The real trainer and the lab's clients both come here.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import structs

from fedmqtt.messages import PLAIN, Method, Training
from fedmqtt.weights import Weights
from learning_tasks.seam import Evaluated, Progress, Task, TaskError, Trained

BEFORE = "_before"
"""Ends the names of metrics of a model as it came, where it was fine-tuned."""

_LOSS = "loss"


def train(
    task: Task,
    weights: Weights,
    data: Any,
    training: Training,
    method: Method,
    seed: int,
    progress: Progress,
    correction: Weights | None = None,
) -> Trained:
    """What the client sends: weights after training, or a gradient where that is asked for.
    `correction`: to be added to each gradient of local SGD, where that is asked for.

    Raises TaskError, also where the task does not know what is asked.
    """
    if lacking := _lacking(task, training, method):
        raise TaskError(lacking)
    loss = base_loss(task, weights, data) if method.tells_loss else None
    if method.sends == "gradient":
        # Not in the seam's protocol, as few tasks need one: `_lacking` saw that it is there.
        gradient: Callable[..., Trained] = task.gradient  # type: ignore[attr-defined]
        trained = gradient(weights, data, training, seed, progress)
    elif correction is not None:
        # Nor is the keyword.
        correcting: Callable[..., Trained] = task.train
        trained = correcting(weights, data, training, seed, progress, correction=correction)
    else:
        trained = task.train(weights, data, training, seed, progress)
    if (method.partial or correction is not None) and not trained.steps:
        raise TaskError("the task's train does not tell how many steps it made: Trained.steps")
    return replace(trained, base_loss=loss)


def evaluate(
    task: Task,
    weights: Weights,
    data: Any,
    training: Training,
    method: Method,
    seed: int,
    load_training_data: Callable[[], Any],
    progress: Progress,
) -> Evaluated:
    """How good the model is on the client's data; where it is fine-tuned first, how good that is,
    and beside it how good the model was, in metrics that end in `_before`.

    `progress` may stop the fine-tuning, and hears nothing of how far it is. Raises TaskError, also
    where there is nothing to fine-tune on.
    """
    found = _measured(task, weights, data)
    if not method.fine_tune_epochs:
        return found
    training = structs.replace(training, epochs=method.fine_tune_epochs)
    if lacking := _lacking(task, training, Method()):
        raise TaskError(lacking)
    tuned = task.train(
        weights, load_training_data(), training, seed, lambda fraction: _ask(progress)
    )
    after = _measured(task, tuned.weights, data)
    before = {name + BEFORE: value for name, value in found.metrics.items()}
    return replace(after, metrics={**after.metrics, **before})


def base_loss(task: Task, weights: Weights, data: Any) -> float:
    """The mean loss of a model over the samples that it is about to be trained on."""
    metrics = _measured(task, weights, data).metrics
    if _LOSS not in metrics:
        raise TaskError(
            "the federation asks for the loss before training, and the task's evaluate measures no"
            f" {_LOSS!r}"
        )
    return metrics[_LOSS]


def _measured(task: Task, weights: Weights, data: Any) -> Evaluated:
    """Raises TaskError also where a metric is no finite number: the coordinator would take that for
    nonsense, and shut out a device whose data have a gap."""
    found = task.evaluate(weights, data)
    for name, value in found.metrics.items():
        try:
            is_finite = math.isfinite(value)
        except TypeError as bad:
            raise TaskError(f"the task's evaluate gives {name} as {value!r}: no number") from bad
        if not is_finite:
            raise TaskError(
                f"the {name} of the model on this device's data is {value}: look for values there"
                " that are not finite; where all clients say so, the model has grown out of bounds"
            )
    return found


def until(stop_at: float, progress: Progress) -> Progress:
    """`progress`, that has enough from this moment on, on the clock of `time.monotonic`."""

    def heard(fraction: float) -> bool:
        enough = progress(fraction)
        return bool(enough) or time.monotonic() >= stop_at

    return heard


def for_steps(count: int, progress: Progress) -> Progress:
    """`progress`, that has enough when it has been called so often: once for each step."""
    made = 0

    def heard(fraction: float) -> bool:
        nonlocal made
        made += 1
        return bool(progress(fraction)) or made >= count

    return heard


def _lacking(task: Task, training: Training, method: Method) -> str:
    """What was asked of the task and it does not know, for its owner; nothing if it knows all."""
    knows = getattr(task, "LOCAL_METHODS", ())
    if method.sends == "gradient":
        if callable(getattr(task, "gradient", None)):
            return ""
        return (
            "the federation asks for a gradient, and the task has none: define gradient(weights,"
            " data, training, seed, progress)"
        )
    is_corrected = method.control != PLAIN.control
    asked = {
        "proximal": ("a proximal term", training.proximal > 0),
        "correction": ("steps that are corrected", is_corrected),
        "steps": ("the number of steps that were made", method.partial or is_corrected),
    }
    for name, (what, is_asked) in asked.items():
        if is_asked and name not in knows:
            return (
                f"the federation asks for {what}, and the task's train does not say that it knows"
                f" that: let it, and name {name!r} in its LOCAL_METHODS"
            )
    return ""


def _ask(progress: Progress) -> None:
    # Whether it has enough is about training.
    progress(0.0)
