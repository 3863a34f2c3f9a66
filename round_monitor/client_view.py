"""All that the pages tell of one client, as lines. Pure."""

from rich.text import Text

from fedmqtt.status_pages import ClientPage
from fedmqtt.topics import ClientId
from round_monitor import client_rows, units
from round_monitor.board import Board
from round_monitor.client_rows import MARKS, Row

FATES = {
    "a": "answered",
    "l": "late",
    "d": "dropped",
    "n": "declined",
    "r": "rejected",
    "s": "not needed",
    "q": "in quarantine",
}
"""What the letters of the page `participation` say; a dot: not invited."""

_LABEL_WIDTH = 12
_ROUNDS_IN_A_ROW = 60


def client_lines(board: Board, client: str, now: str, ascii_only: bool = False) -> list[Text]:
    """At least one line, also of a client that is not known any more."""
    row = next((one for one in client_rows.rows(board) if one.client == client), None)
    if row is None:
        return [Text("No page names this client any more.", style="bold yellow")]
    mark = MARKS[row.state]
    state = Text.assemble(
        (mark.plain if ascii_only else mark.symbol, mark.style), " ", (row.state, "bold")
    )
    told = [("State", state), *_of_row(row), *_of_page(row.page, now, ascii_only)]
    lines = [Text.assemble((f"{label:{_LABEL_WIDTH}}", "dim"), what) for label, what in told]
    return lines + _took_part(board, row.client)


def _of_row(row: Row) -> list[tuple[str, Text]]:
    said = row.page.says if row.page is not None else ""
    found = [("Says", said), ("Why not", row.note), ("Label", row.label)]
    return [(label, Text(text)) for label, text in found if text and text != "waiting"]


def _of_page(page: ClientPage | None, now: str, ascii_only: bool) -> list[tuple[str, Text]]:
    if page is None:
        return [("Page", Text("it has none of its own so far", style="dim"))]
    found: list[tuple[str, Text]] = []
    if page.doing not in ("", "waiting"):
        full, empty = units.bar(page.progress, 1.0, 24, ascii_only)
        epoch = f"  epoch {page.epoch} of {page.epochs}" if page.epochs else ""
        share = f"  {round(100 * min(1.0, max(0.0, page.progress)))}%{epoch}"
        found.append((f"Round {page.round}", Text.assemble((full, "green"), (empty, "dim"), share)))
    texts = [
        ("Since", _moment(page.since, now)),
        ("Last seen", _moment(page.last_seen, now)),
        ("Answered", _answered(page)),
        ("Takes", "" if page.duration_s is None else units.took(page.duration_s)),
        ("Uplink", "" if page.uplink_kbps is None else units.rate(page.uplink_kbps)),
        ("Devices", f"{page.devices:,} that it stands for" if page.devices else ""),
        ("Program", page.program),
        ("As of", _moment(page.as_of, now)),
    ]
    return found + [(label, Text(text)) for label, text in texts if text]


def _answered(page: ClientPage) -> str:
    if not page.rounds_invited:
        return "not invited to a round that has closed so far"
    last = f", last round {page.answered_last}" if page.answered_last else ""
    return f"{page.rounds_answered:,} of {page.rounds_invited:,} rounds it was invited to{last}"


def _moment(at: str, now: str) -> str:
    passed = units.seconds_between(at, now)
    if passed is None:
        return ""
    return f"{at[:10]} {at[11:19]} UTC, {units.duration(passed)} ago"


def _took_part(board: Board, client: ClientId) -> list[Text]:
    """A letter for each of the last rounds, and what the letters mean."""
    page = board.participation
    letters = page.clients.get(client, "") if page is not None else ""
    if page is None or not letters or not page.rounds:
        return []
    letters, rounds = letters[-_ROUNDS_IN_A_ROW:], page.rounds[-_ROUNDS_IN_A_ROW:]
    met = [f"{letter} {says}" for letter, says in FATES.items() if letter in letters]
    return [
        Text(),
        Text.assemble((f"{'Rounds':{_LABEL_WIDTH}}", "dim"), f"{rounds[0]} to {rounds[-1]}"),
        Text.assemble(" " * _LABEL_WIDTH, (letters, "bold")),
        Text.assemble(" " * _LABEL_WIDTH, ("   ".join([*met, ". not invited"]), "dim")),
    ]
