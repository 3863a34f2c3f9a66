"""The three answers that every view begins with: is it healthy, who is missing, does the model
still improve? Pure.

The same rule, told in the same words, as in a browser (`web/health.js`):
`tests/round_monitor/test_same_answers.py` compares them. Health is the coordinator's own verdict
(`coordinator/health.py`), unless it has been silent for so long that it is gone, and its last words
stand there still.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from fedmqtt.status_pages import CoordinatorPage, Health
from round_monitor import client_rows, units
from round_monitor.board import Board
from round_monitor.events import count

SILENT_S = 150.0
"""It says each minute that it still works."""
OVERDUE_S = 10.0
"""After so much time over the deadline, the coordinator may be gone."""
RECENT = 5
BETTER_BY = 0.002
"""What the best of the last `RECENT` measured rounds must add, to count as better."""

WORDS: dict[Health, str] = {"ok": "Healthy", "waiting": "Waiting", "trouble": "Trouble"}

_NAMED = 3
LEADING = ("accuracy", "macro_f1", "loss")
"""The first of them that is measured tells whether the model improves."""


class Answer(NamedTuple):
    state: Health
    sentence: str


class Answers(NamedTuple):
    health: Answer
    missing: Answer
    trend: Answer


def answers(board: Board, now: str, lost: str = "") -> Answers:
    """`now` is ISO 8601; `lost` says why nothing comes from the broker, if nothing does."""
    return Answers(health(board, now, lost), missing(board), trend(board))


def health(board: Board, now: str, lost: str = "") -> Answer:
    page = board.coordinator
    if lost and board.is_empty:
        return Answer("waiting", lost)
    if lost:
        return Answer("trouble", lost)
    if page is None:
        return Answer("waiting", "Nothing is known of a coordinator so far")
    if gone := _gone(board, page, now):
        return Answer("trouble", gone)
    if not page.health_why:
        return _of_before(board, page)
    # After what it does it says who is missing and how good the model is: the other two answers.
    is_all_told = page.health_why.startswith(f"{page.says}; ")
    return Answer(page.health, page.says if is_all_told else page.health_why)


def overdue_s(board: Board, now: str) -> float | None:
    """Since when an open round should have closed; below 0: that is how long it has."""
    page = board.round
    return units.seconds_between(page.closes, now) if page is not None and page.open else None


def _gone(board: Board, page: CoordinatorPage, now: str) -> str:
    if page.state == "stopped":
        return f"The coordinator has stopped: {page.says}"
    late_s = overdue_s(board, now)
    if board.round is not None and late_s is not None and late_s > OVERDUE_S:
        return (
            f"Round {board.round.round} should have closed {units.duration(late_s)} ago: its"
            " coordinator is gone, or cut off from the broker"
        )
    # By our own clock, once we have heard it: the two may differ.
    silent_s = units.seconds_between(board.heard_at or page.as_of, now) if page.as_of else None
    if silent_s is not None and silent_s > SILENT_S and page.state != "finished":
        return (
            f"Nothing from the coordinator for {units.duration(silent_s)}: it is gone, or cut off"
            " from the broker"
        )
    return ""


def _of_before(board: Board, page: CoordinatorPage) -> Answer:
    """Of a coordinator that says nothing of its health."""
    if page.state == "waiting" and page.says.startswith("waiting"):
        return Answer("waiting", page.says)
    last = board.history.rounds[-RECENT:] if board.history is not None else []
    if len(last) == RECENT and all(line.outcome == "kept" for line in last):
        why = last[-1].reason
        return Answer("trouble", f"None of the last {RECENT} rounds made a new model: {why}")
    return Answer(page.health, f"Finished: {page.says}" if page.state == "finished" else page.says)


def missing(board: Board) -> Answer:
    """Who of those that are known does not take part, and why."""
    page = board.coordinator
    if page is None:
        return Answer("waiting", "Nobody is known so far")
    rows = client_rows.rows(board)

    def those(state: client_rows.State) -> list[str]:
        return [row.client for row in rows if row.state == state]

    # Who has answered and left is both.
    gone = list(board.clients.away) if board.clients is not None else those("away")
    away = max(len(gone), page.clients_known - page.clients_online)
    told = []
    if away:
        told.append(f"{away} away ({_names(gone, away)})" if gone else f"{away} away")
    words: dict[client_rows.State, str] = {
        "unable": "cannot take part",
        "rejected": "rejected",
        "in quarantine": "in quarantine",
        "revoked": "revoked",
    }
    for state, word in words.items():
        if found := those(state):
            told.append(f"{len(found)} {word} ({_names(found)})")
    there = f"{page.clients_online} of {count(page.clients_known, 'client')} online"
    if not told:
        return Answer("ok", f"Nobody: {there}")
    few = page.clients_online * 2 < page.clients_known
    return Answer("trouble" if few else "waiting", f"{', '.join(told)}; {there}")


def trend(board: Board) -> Answer:
    """Whether what clients measure still becomes better."""
    lines = board.history.rounds if board.history is not None else []
    measured = [(line.round, line.figures.metrics) for line in lines if line.figures is not None]
    measured = [(number, metrics) for number, metrics in measured if metrics]
    if not measured:
        return Answer("waiting", "Not measured so far")
    metric = _leading(measured[-1][1])
    sign = -1 if "loss" in metric else 1
    of_metric = [(number, found[metric]) for number, found in measured if metric in found]
    values = [value for _, value in of_metric]
    now = f"{units.spelled(metric)} {units.figure(values[-1])}"
    if len(values) <= RECENT:
        return Answer("ok", f"{now}, after {count(measured[-1][0] - 1, 'round')}")
    before = max(sign * value for value in values[:-RECENT])
    lately = max(sign * value for value in values[-RECENT:])
    if lately - before > BETTER_BY * (1 if sign > 0 else abs(before)):
        change = f"{'+' if sign > 0 else '−'}{units.figure(lately - before)}"
        told = f"the best of the last {RECENT} measured rounds is {change} on all before"
        return Answer("ok", f"Yes: {now}; {told}")
    at = next(number for number, value in of_metric if sign * value == before)
    return Answer("waiting", f"No: {now}; the best was {units.figure(sign * before)} at round {at}")


def _leading(metrics: Collection[str]) -> str:
    return next((name for name in LEADING if name in metrics), min(metrics))


def _names(clients: Sequence[str], all_of_them: int = 0) -> str:
    """`ann, bob, cat and 4 more`"""
    more = max(len(clients), all_of_them) - len(clients[:_NAMED])
    told = ", ".join(clients[:_NAMED])
    return f"{told} and {more} more" if more else told
