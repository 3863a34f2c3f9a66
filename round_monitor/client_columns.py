"""The client table: which columns there are, how its rows are found and in which order. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from round_monitor import units
from round_monitor.client_rows import MARKS, Row

_NAME_WIDTH = (8, 24)
"""At least and at most, whatever clients are called."""
_GAP = 2
_WHY_MIN = 28
"""Fewer characters say nothing of why; other columns go first."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    width: int
    """At most. 0: what the others leave."""
    cell: Callable[[Row, str], str]
    """Of one row, now (ISO 8601)."""
    order: Callable[[Row], Any]
    """By what rows are sorted; None where there is nothing: such rows are last."""
    rank: int
    """The larger, the sooner it goes where there is no room."""
    is_number: bool = False


def _answered(row: Row, _now: str) -> str:
    page = row.page
    if page is None or not page.rounds_invited:
        return ""
    return f"{page.rounds_answered:,} of {page.rounds_invited:,}"


def _share(row: Row) -> float | None:
    page = row.page
    return None if page is None or not page.rounds_invited else _ratio(page)


def _ratio(page: Any) -> float:
    return float(page.rounds_answered / page.rounds_invited)


def _takes(row: Row, _now: str) -> str:
    return "" if (seconds := _duration(row)) is None else units.took(seconds)


def _duration(row: Row) -> float | None:
    return None if row.page is None else row.page.duration_s


def _uplink(row: Row, _now: str) -> str:
    return "" if (kbps := _kbps(row)) is None else units.rate(kbps)


def _kbps(row: Row) -> float | None:
    return None if row.page is None else row.page.uplink_kbps


def _seen(row: Row, now: str) -> str:
    passed = units.seconds_between(row.last_seen, now)
    return "" if passed is None else f"{units.duration(passed)} ago"


def _why(row: Row, _now: str) -> str:
    if row.page is None or not row.does or not row.page.progress:
        return row.does or row.note
    # First how far it is, as the end is cut where there is no room.
    share = f"{min(1.0, max(0.0, row.page.progress)):.0%}"
    return f"{share} {row.does.removesuffix(f', {share}')}"


COLUMNS = (
    Column("client", 0, lambda row, _: row.client, lambda row: row.client, 0),
    Column("state", 15, lambda row, _: row.state, lambda row: list(MARKS).index(row.state), 0),
    Column("does, or why not", 0, _why, lambda row: _why(row, "") or None, 1),
    Column("answered", 10, _answered, _share, 2, is_number=True),
    Column("takes", 12, _takes, _duration, 3, is_number=True),
    Column("uplink", 12, _uplink, _kbps, 5, is_number=True),
    Column("last seen", 14, _seen, lambda row: row.last_seen or None, 6),
    Column("label", 10, lambda row, _: row.label, lambda row: row.label or None, 4),
)
"""The first is the name; the third takes what the others leave."""

NEED = ""
"""The order that `client_rows.rows` has: who needs to be looked at first."""

ORDERS = (NEED, *(column.name for column in COLUMNS))
"""All that a table can be sorted by."""


def arranged(rows: Sequence[Row], find: str, order: str, reverse: bool) -> list[Row]:
    """Those rows that have `find` in one of their texts, sorted by one of `ORDERS`."""
    wanted = find.strip().casefold()
    found = [row for row in rows if any(wanted in text.casefold() for text in _texts(row))]
    if order == NEED:
        return found[::-1] if reverse else found
    key = next(column.order for column in COLUMNS if column.name == order)
    told = [(key(row), row) for row in found]
    known = sorted(
        ((value, row) for value, row in told if value is not None),
        key=lambda pair: pair[0],
        reverse=reverse,
    )
    return [row for _, row in known] + [row for value, row in told if value is None]


def fitting(rows: Sequence[Row], width: int, now: str) -> list[tuple[Column, int]]:
    """The columns that have room in `width` and something to tell, and how wide each is."""
    name = min(_NAME_WIDTH[1], max([_NAME_WIDTH[0], *(cell_len(row.client) for row in rows)]))
    widths = {column.name: _width(column, rows, now) for column in COLUMNS}
    widths[COLUMNS[0].name] = name
    shown = [column for column in COLUMNS if column.rank < 2 or widths[column.name]]
    while True:
        taken = sum(widths[column.name] for column in shown)
        left = width - taken - _GAP * len(shown)
        if left >= _WHY_MIN or all(column.rank < 2 for column in shown):
            break
        shown.remove(max(shown, key=lambda column: column.rank))
    widths[COLUMNS[2].name] = max(0, left)
    return [(column, widths[column.name]) for column in shown]


def _width(column: Column, rows: Sequence[Row], now: str) -> int:
    """As the widest cell, with its head; 0 where no row has anything to tell."""
    if not column.width:
        return 0
    widest = max((cell_len(column.cell(row, now)) for row in rows), default=0)
    # The head's arrow stands there, too; the mark of a state as well.
    head = len(column.name) + 2
    return min(column.width, max(head, widest + 2 * (column.name == "state"))) if widest else 0


def _texts(row: Row) -> tuple[str, ...]:
    return (row.client, row.state, row.note, row.does, row.label)
