"""What clients measure where answers are masked: known before a round opens, since its numbers have
the same places in all answers.

By the task's own word (`learning_tasks/measures.py`), unless `[evaluation]` says otherwise.
"""

import logging

from msgspec import structs

from coordinator import task_process
from coordinator.config import FederationConfig
from coordinator.masking import masked_round
from fedmqtt.messages import MASKED_CLASSES_MAX, MASKED_METRICS_MAX
from fedmqtt.settings import SettingsError

_LOSS, _ACCURACY = "loss", "accuracy"

_log = logging.getLogger("coordinator")


def settle(config: FederationConfig) -> FederationConfig:
    """The same, with the metrics and classes that clients measure under the mask, if they do."""
    asked = config.evaluation
    if not asked.every or not masked_round.is_masked(config):
        return config
    metrics, classes = asked.metrics, asked.classes
    if not metrics or not classes:
        own_metrics, own_classes = _of_task(config.task)
        classes = classes or own_classes
        if classes > MASKED_CLASSES_MAX:
            classes = 0
        # Without a matrix there is nothing else to tell it by.
        metrics = metrics or (own_metrics if classes else (_ACCURACY, *own_metrics))
    metrics = tuple(dict.fromkeys(metrics))[:MASKED_METRICS_MAX]
    matrix = f", and a confusion matrix of {classes} classes" if classes else ""
    _log.info("clients measure under their masks: %s%s", ", ".join(metrics), matrix)
    return structs.replace(
        config, evaluation=structs.replace(asked, metrics=metrics, classes=classes)
    )


def _of_task(task: str) -> tuple[tuple[str, ...], int]:
    try:
        told = task_process.ask("learning_tasks.measures", task)
    except SettingsError as bad:
        _log.warning(
            "what the task measures is not known here, so clients are asked for loss and accuracy:"
            " set evaluation.metrics and evaluation.classes (%s)",
            bad,
        )
        return (_LOSS,), 0
    return tuple(told["metrics"]), int(told["classes"])
