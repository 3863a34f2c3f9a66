"""What stands beside each other on a large screen, and one at a time on a small one."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input

from round_monitor import client_rows, units
from round_monitor.client_columns import ORDERS, arranged
from round_monitor.events import merged
from round_monitor.plot import plot
from round_monitor.sights import Sight
from round_monitor.terminal.client_table import ClientTable
from round_monitor.terminal.lines import Lines
from round_monitor.view import curves, event_line, state_lines

_PLOT_LINES_MIN = 6


class _Panel(Widget):
    """Shows the last sight again when its size changes.

    The second base of its kinds: Textual's style sheets go by the first one's name alone.
    """

    _last: tuple[Sight, str] | None = None

    def show(self, sight: Sight, now: str) -> None:
        self._last = (sight, now)
        self.draw(sight, now)

    def draw(self, sight: Sight, now: str) -> None:
        raise NotImplementedError

    def on_resize(self) -> None:
        if self._last is not None:
            self.draw(*self._last)


class RoundPanel(VerticalScroll, _Panel):
    """The round, and all that the pages tell beside clients' names and curves."""

    TITLE: ClassVar[str] = "1 Round"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__(id="round", classes="panel")
        self._ascii_only = ascii_only

    def compose(self) -> ComposeResult:
        yield Lines()

    def draw(self, sight: Sight, now: str) -> None:
        width, height = self.content_size
        lines = state_lines(sight.board, now, sight.lost, width, height, self._ascii_only)
        self.query_one(Lines).tell(lines)


class ClientsPanel(Vertical, _Panel):
    """Who does what: found by a word, sorted by a column."""

    TITLE: ClassVar[str] = "2 Clients"

    def __init__(self) -> None:
        super().__init__(id="clients", classes="panel")
        self._order_place = 0
        self._reverse = False

    def compose(self) -> ComposeResult:
        yield Input(placeholder="name, state, reason or label", id="find", compact=True)
        yield Lines(id="found")
        yield ClientTable()

    @property
    def table(self) -> ClientTable:
        return self.query_one(ClientTable)

    @property
    def find(self) -> Input:
        return self.query_one("#find", Input)

    @property
    def order(self) -> str:
        return ORDERS[self._order_place]

    def draw(self, sight: Sight, now: str) -> None:
        rows = client_rows.rows(sight.board)
        found = arranged(rows, self.find.value, self.order, self._reverse)
        self.table.show(found, now, self.order, self._reverse)
        self.find.display = self.find.has_focus or bool(self.find.value)
        self.query_one("#found", Lines).tell([self._told(rows, found)])

    def sort_by(self, column: str) -> None:
        """By the same one again: the other way around."""
        if column == self.order:
            self.turn_around()
        else:
            self._order_place, self._reverse = ORDERS.index(column), False

    def sort_by_next(self) -> None:
        self._order_place, self._reverse = (self._order_place + 1) % len(ORDERS), False

    def turn_around(self) -> None:
        self._reverse = not self._reverse

    def _told(self, rows: list[client_rows.Row], found: list[client_rows.Row]) -> Text:
        how_many = f"{len(found):,} of {len(rows):,}" if self.find.value else f"{len(rows):,}"
        states = ", ".join(f"{n:,} {state}" for state, n in client_rows.counts(found).items())
        order = f"by {self.order}" if self.order else "who needs a look first"
        turned = ", reversed" if self._reverse else ""
        text = f"{how_many}, {order}{turned}" + (f": {states}" if states else "")
        return Text(text, style="dim")


class CurvesPanel(Lines, _Panel):
    """What clients measured, round by round."""

    TITLE: ClassVar[str] = "3 Curves"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__(id="curves")
        self.add_class("panel")
        self.can_focus = True
        self._ascii_only = ascii_only
        self._first = 0

    def show_next(self) -> None:
        """Begin with another metric, where there is no room for all."""
        self._first += 1

    def draw(self, sight: Sight, now: str) -> None:
        found = list(curves(sight.board).items())
        width, height = self.content_size
        if not found or width < 20 or height < _PLOT_LINES_MIN:
            self.tell([Text("" if found else "Nothing has been measured so far.")])
            return
        room = max(1, height // _PLOT_LINES_MIN)
        first = self._first % len(found)
        shown = (found[first:] + found[:first])[:room]
        lines: list[Text] = []
        for name, points in shown:
            best = f"{units.figure(points[-1][1])} in round {points[-1][0]}"
            lines.append(Text.assemble((units.spelled(name), "bold"), "  ", best))
            drawn = plot(points, width, height // len(shown) - 1, self._ascii_only)
            for line in drawn.lines:
                at = drawn.label_width
                lines.append(Text.assemble((line[:at], "dim"), (line[at:], "cyan")))
        if len(shown) < len(found):
            lines[0].append(f"   {len(shown)} of {len(found)} curves, m: the next", style="dim")
        self.tell(lines)


class EventsPanel(VerticalScroll, _Panel):
    """What happened since this program began to watch, the newest below."""

    TITLE: ClassVar[str] = "4 Events"

    def __init__(self, ascii_only: bool) -> None:
        super().__init__(id="events", classes="panel")
        self._ascii_only = ascii_only

    def compose(self) -> ComposeResult:
        yield Lines()

    def draw(self, sight: Sight, now: str) -> None:
        told = [event_line(event, self._ascii_only) for event in merged(sight.board.events)]
        width, height = self.content_size
        lines = self._wrapped(told, width)
        is_too_long = len(lines) > height
        if is_too_long:
            lines = self._wrapped(told, width - self.styles.scrollbar_size_vertical)
        self.query_one(Lines).tell(lines or [Text("Nothing has happened so far.")])
        if self.is_anchored != is_too_long:
            # It stays at the newest, until somebody scrolls up, and again when they are back there.
            # (Textual would show at the bottom what is shorter.)
            self.anchor(is_too_long)

    def _wrapped(self, told: list[Text], width: int) -> list[Text]:
        return [line for event in told for line in event.wrap(self.app.console, max(20, width))]


Panel = RoundPanel | ClientsPanel | CurvesPanel | EventsPanel
