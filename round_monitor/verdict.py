"""The three answers that every view begins with: is it healthy, who is missing, does the model
still improve? Pure.

The same rule, told in the same words, as in a browser (`web/health.js`):
`tests/round_monitor/test_same_answers.py` compares them. Health, and whether the model improves,
are the coordinator's own verdict (`coordinator/pages/health.py`, `fedmqtt/improvement.py`), unless
it has been silent for so long that it is gone, and its last words stand there still.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fedmqtt import improvement
from fedmqtt.status_pages import Better, CoordinatorPage, Health
from round_monitor import client_rows, units
from round_monitor.board import Board
from round_monitor.events import count

SILENT_S = 150.0
"""It says each minute that it still works."""
OVERDUE_S = 10.0
"""After so much time over the deadline, the coordinator may be gone."""
RECENT = 5
"""Of a coordinator that does not tell its health: so many rounds without a model are trouble."""

UNREADABLE = "The coordinator's page cannot be read (a newer version?)"

WORDS: dict[Health, str] = {"ok": "Healthy", "waiting": "Waiting", "trouble": "Trouble"}

_OF_BETTER: dict[Better, Health] = {
    "yes": "ok",
    "early": "ok",
    "no": "waiting",
    "unknown": "waiting",
}

_NAMED = 3


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
    if lost and board.is_empty:
        return Answer("waiting", lost)
    if lost:
        return Answer("trouble", lost)
    told = _of_pages(board, now)
    return Answer(told.state, f"{told.sentence}{_unreadable(board)}")


def _of_pages(board: Board, now: str) -> Answer:
    page = board.coordinator
    if "coordinator" in board.unreadable:
        return Answer("trouble", UNREADABLE)
    if page is None:
        return Answer("waiting", "Nothing is known of a coordinator so far")
    if gone := _gone(board, page, now):
        return Answer("trouble", gone)
    if not page.health_why:
        # One of before says nothing of its health, and that is read as "ok".
        return _of_before(board, page) if page.health == "ok" else Answer(page.health, page.says)
    # After what it does it says who is missing and how good the model is: the other two answers.
    is_all_told = page.health_why.startswith(f"{page.says}; ")
    return Answer(page.health, page.says if is_all_told else page.health_why)


def _unreadable(board: Board) -> str:
    others = sorted(page for page in board.unreadable if page != "coordinator")
    if not others:
        return ""
    return f"; {count(len(others), 'page')} cannot be read: {_names(others)}"


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
    return Answer("ok", f"Finished: {page.says}" if page.state == "finished" else page.says)


def missing(board: Board) -> Answer:
    """Who of those that are known does not take part, and why."""
    page = board.coordinator
    if page is None:
        return Answer("waiting", "Nobody is known so far")
    rows = client_rows.rows(board)

    def those(state: client_rows.State) -> list[str]:
        return [row.client for row in rows if row.state == state]

    # Who has answered and left is both; and who was refused something need be on no list.
    listed = board.clients.away if board.clients is not None else []
    ended = {client for client in those("revoked") if client in listed}
    gone = [one for one in dict.fromkeys([*listed, *those("away")]) if one not in ended]
    away = max(len(gone), page.clients_known - page.clients_online - len(ended))
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
    # Who was let go of for good is not waited for.
    few = page.clients_online * 2 < page.clients_known - len(ended)
    return Answer("trouble" if few else "waiting", f"{', '.join(told)}; {there}")


def trend(board: Board) -> Answer:
    """Whether what clients measure still becomes better: as the coordinator says."""
    page = board.coordinator
    if page is not None and page.better_why:
        return Answer(_OF_BETTER[page.better], page.better_why)
    told = improvement.trend(board.history.rounds if board.history is not None else [])
    return Answer(_OF_BETTER[told.better], told.why)


def _names(clients: Sequence[str], all_of_them: int = 0) -> str:
    """`ann, bob, cat and 4 more`"""
    more = max(len(clients), all_of_them) - len(clients[:_NAMED])
    told = ", ".join(clients[:_NAMED])
    return f"{told} and {more} more" if more else told
