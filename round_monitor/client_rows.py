"""Who does what at this moment, of all clients that the pages name. Pure.

The same as `web/clients.js` tells in a browser.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fedmqtt.status_pages import ClientPage, Quarantined, RoundPage
from fedmqtt.topics import ClientId
from round_monitor.board import Board

State = Literal[
    "rejected",
    "in quarantine",
    "revoked",
    "unable",
    "away",
    "working",
    "answered",
    "evaluated",
    "ready",
]


class Mark(NamedTuple):
    symbol: str
    plain: str
    """The same where only ASCII can be shown."""
    style: str


MARKS: dict[State, Mark] = {
    "rejected": Mark("✗", "x", "bold red"),
    "in quarantine": Mark("⊘", "q", "bold red"),
    "revoked": Mark("⊘", "q", "bold red"),
    "unable": Mark("!", "!", "yellow"),
    "away": Mark("–", "-", "dim"),
    "working": Mark("●", "*", "bold"),
    "answered": Mark("✓", "#", "green"),
    "evaluated": Mark("◆", "e", "cyan"),
    "ready": Mark("○", "o", ""),
}
"""In the order in which somebody may want to look at them."""

_ORDER = {state: place for place, state in enumerate(MARKS)}
_GONE = ("away", "in quarantine", "revoked")


@dataclass(frozen=True, slots=True)
class Row:
    client: ClientId
    state: State
    note: str = ""
    """Why it does not take part, or did not count."""
    label: str = ""
    page: ClientPage | None = None
    """Its own page, where there is one."""

    @property
    def does(self) -> str:
        """What it does now and how far it is, in a sentence; empty if it is gone or waits."""
        # Its page may be older than the news that it is gone.
        if self.page is None or self.state in _GONE or self.page.doing in ("", "waiting"):
            return ""
        return self.page.says or self.page.doing

    @property
    def last_seen(self) -> str:
        """ISO 8601, of those that are away."""
        return self.page.last_seen if self.page is not None and self.state == "away" else ""


def rows(board: Board) -> list[Row]:
    """Who needs to be looked at first, then by name."""
    found: dict[ClientId, Row] = {}
    if (clients := board.clients) is not None:
        _set(found, clients.online, "ready")
        _explain(found, clients.hindered, "unable")
        _set(found, clients.away, "away")
    if (page := board.round) is not None:
        _take_part(found, page)
    if clients is not None:
        _explain(found, {c: _until(one) for c, one in clients.quarantined.items()}, "in quarantine")
        for refused, why in clients.refused.items():
            row = found.get(refused, Row(refused, "away"))
            found[refused] = replace(row, note=f"{row.note}; {why}" if row.note else why)
    for name, own in board.each_client.items():
        client = ClientId(name)
        found[client] = _with_own_page(found.get(client), client, own)
    labels = {} if clients is None else clients.labels
    told = (replace(row, label=row.label or labels.get(row.client, "")) for row in found.values())
    return sorted(told, key=lambda row: (_ORDER[row.state], row.client))


def counts(of: Iterable[Row]) -> dict[State, int]:
    """Of those states that there are, in the order of `MARKS`."""
    found = dict.fromkeys(MARKS, 0)
    for row in of:
        found[row.state] += 1
    return {state: number for state, number in found.items() if number}


def _take_part(found: dict[ClientId, Row], page: RoundPage) -> None:
    if page.open:
        asked = [*page.invited, *page.evaluators]
        _set(found, (c for c in asked if c not in found or found[c].state != "away"), "working")
        _set(found, page.away, "away")
    _explain(found, page.declined, "unable")
    _set(found, page.evaluated, "evaluated")
    _set(found, page.answered, "answered")
    _explain(found, page.rejected, "rejected")


def _with_own_page(row: Row | None, client: ClientId, own: ClientPage) -> Row:
    """It knows more of the client, but not what became of its answer."""
    state: State
    match own.state:
        case "revoked":
            state = "revoked"
        case _ if row is not None:
            state = row.state
        case "online":
            state = "ready"
        case "quarantined":
            state = "in quarantine"
        case _:
            state = "away"
    note = (row.note if row is not None else "") or own.why_not
    return Row(client, state, note, own.label, own)


def _set(found: dict[ClientId, Row], clients: Iterable[ClientId], state: State) -> None:
    for client in list(clients):
        found[client] = Row(client, state)


def _explain(found: dict[ClientId, Row], why: Mapping[ClientId, str], state: State) -> None:
    for client, reason in why.items():
        found[client] = Row(client, state, reason)


def _until(one: Quarantined) -> str:
    return f"until {one.until[:10]} {one.until[11:16]} UTC: {one.why}" if one.until else one.why
