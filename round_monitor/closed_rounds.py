"""What a closed round tells as numbers with names, for tools that keep curves."""

import re

from fedmqtt.status_pages import RoundLine
from fedmqtt.topics import RUN_PATTERN
from round_monitor.board import Board

METRICS_MAX = 100
"""Of one kind, in one round: their names are a task's own."""

_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")
_RUN = re.compile(RUN_PATTERN)


def closed(board: Board) -> tuple[str, list[RoundLine]]:
    """The run's id, fit for a folder's name, and its closed rounds that are told, oldest first.

    None while the pages do not fit together: they come one by one, and when a run begins the
    history of the one before it may still be there.
    """
    page, history = board.round, board.history
    if page is None or history is None:
        return "", []
    last = page.round - 1 if page.open else page.round
    run = page.run or (board.coordinator.run if board.coordinator is not None else "")
    if not run or any(line.round > last for line in history.rounds):
        return "", []
    return (run if _RUN.fullmatch(run) else _plain(run)), history.rounds


def numbers(line: RoundLine) -> dict[str, float]:
    """By name, as `model/accuracy`: what stands before the slash groups them in charts."""
    found: dict[str, float] = {
        "clients/invited": line.invited,
        "clients/answered": line.answered,
        "clients/dropped": line.dropped,
        "clients/declined": line.declined,
        "clients/rejected": line.rejected,
        "round/duration_s": line.duration_s,
        "updates/bytes": sum(count.bytes for count in line.codecs.values()),
    }
    found |= _metrics("train", line.train_metrics)
    if line.figures is not None:
        # Of the model that the round began with: the same step in every round's curve.
        found |= _metrics("model", line.figures.metrics)
    if line.epsilon is not None:
        found["privacy/epsilon"] = line.epsilon
    return found


def _metrics(group: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{group}/{_plain(name)}": metrics[name] for name in sorted(metrics)[:METRICS_MAX]}


def _plain(name: str) -> str:
    return _STRANGE.sub("_", name).strip(".")[:100] or "unnamed"
