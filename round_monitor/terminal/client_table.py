"""The table of clients: it draws those lines that are on the screen, so a thousand cost no more.

client      state         does, or why not                        answered  takes
watch-09    ⊘ in quara…   until 2026-03-01 11:04 UTC: 3 updates…  12 of 19  21 s
"""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from round_monitor.client_columns import NEED, Column, fitting
from round_monitor.client_rows import MARKS, Row

_HEADER = 1
_PLAIN = Style.null()
_BOLD, _CURSOR = Style(bold=True), Style(reverse=True)


class ClientTable(ScrollView, can_focus=True):
    """`show` it rows; it keeps its cursor on the same client when their order changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "All of it", key_display="Enter"),
    ]

    class Chosen(Message):
        """A person wants to know all of this client."""

        def __init__(self, client: str) -> None:
            super().__init__()
            self.client = client

    class HeadClicked(Message):
        """A person wants to sort by this column."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = ()
        self._columns: list[tuple[Column, int]] = []
        self._now = ""
        self._order, self._reverse = NEED, False
        self._cursor = 0
        self._drawn: dict[int, Strip] = {}
        """What the terminal has, by line."""

    @property
    def client(self) -> str:
        """Under the cursor; empty where there is none."""
        return self._rows[self._cursor].client if self._rows else ""

    @property
    def clients(self) -> list[str]:
        """In the order in which they are shown."""
        return [row.client for row in self._rows]

    def show(self, rows: Sequence[Row], now: str, order: str, reverse: bool) -> None:
        was = self.client
        self._rows, self._now, self._order, self._reverse = rows, now, order, reverse
        places: dict[str, int] = {row.client: place for place, row in enumerate(rows)}
        self._cursor = places.get(was, min(self._cursor, max(0, len(rows) - 1)))
        self._lay_out()

    def put_cursor_on(self, client: str) -> None:
        for place, row in enumerate(self._rows):
            if row.client == client:
                self._go_to(place)

    def render_line(self, y: int) -> Strip:
        strip = self._drawn[y] = self._strip(y)
        return strip

    def _strip(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._head(width)
        place = self.scroll_offset.y + y - _HEADER
        if place >= len(self._rows):
            return Strip.blank(width)
        return self._line(self._rows[place], width, place == self._cursor)

    def on_resize(self, _event: events.Resize) -> None:
        self._drawn.clear()
        self._lay_out()
        self._go_to(self._cursor)

    def on_click(self, event: events.Click) -> None:
        place = self.scroll_offset.y + event.y - _HEADER
        if event.y == 0:
            left = 0
            for column, width in self._columns:
                left += width + 2
                if event.x < left:
                    self.post_message(self.HeadClicked(column.name))
                    return
        elif place < len(self._rows):
            if place == self._cursor and event.chain > 1:
                self.action_choose()
            self._go_to(place)

    def action_move(self, by: int) -> None:
        self._go_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        self._go_to(self._cursor + by * max(1, self.size.height - _HEADER - 1))

    def action_choose(self) -> None:
        if self.client:
            self.post_message(self.Chosen(self.client))

    def _lay_out(self) -> None:
        self._columns = fitting(self._rows, self.size.width, self._now)
        self.virtual_size = Size(self.size.width, len(self._rows) + _HEADER)
        self._refresh_changed()

    def _refresh_changed(self) -> None:
        """Once a second times go on, and most lines stay: little to send over a slow link."""
        width, height = self.size
        changed = [y for y in range(height) if self._drawn.get(y) != self._strip(y)]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def _go_to(self, place: int) -> None:
        self._cursor = max(0, min(place, len(self._rows) - 1))
        # The head covers the first line that is scrolled to.
        self.scroll_to_region(
            Region(0, self._cursor, 1, 1 + _HEADER), animate=False, force=True, immediate=True
        )
        self.refresh()

    def _head(self, width: int) -> Strip:
        arrow = "▼" if self._reverse else "▲"
        cells = []
        for column, room in self._columns:
            name = f"{column.name} {arrow}" if column.name == self._order else column.name
            cells.append(Segment(_cell(name, room, column.is_number) + "  ", _BOLD))
        return Strip(cells).adjust_cell_length(width, _PLAIN)

    def _line(self, row: Row, width: int, is_under_cursor: bool) -> Strip:
        mark = MARKS[row.state]
        at_cursor = _CURSOR if is_under_cursor else _PLAIN
        cells = []
        for column, room in self._columns:
            text = column.cell(row, self._now)
            if column.name == "state":
                cells.append(Segment(mark.symbol + " ", Style.parse(mark.style) + at_cursor))
                room -= 2
            cells.append(Segment(_cell(text, room, column.is_number) + "  ", at_cursor))
        return Strip(cells).adjust_cell_length(width, at_cursor)


def _cell(text: str, width: int, is_number: bool) -> str:
    """Exactly `width` cells wide."""
    cut = set_cell_size(text, width)
    if cut.rstrip() != text.rstrip() and width > 0:
        cut = set_cell_size(text, width - 1) + "…"
    return cut.rstrip().rjust(width) if is_number else cut
