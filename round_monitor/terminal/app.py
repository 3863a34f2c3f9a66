"""`fedmqtt watch` on a terminal.

    small                                       large
     fedmqtt · ward-7 · run 20260301            title
     Health   Healthy: round 38 ...             the three answers
     Missing  5 away (...)                      ┌─ 1 Round ─────┐┌─ 3 Curves ─────┐
     Better   Yes: accuracy 0.842 ...           │               ││                │
     1 Round  2 Clients  3 Curves  4 Events     └───────────────┘└────────────────┘
     one panel                                  ┌─ 2 Clients ───┐┌─ 4 Events ─────┐
     ...                                        │               ││                │
     keys                                       └───────────────┘└────────────────┘

It takes a sight (`sights.py`) whenever there is a newer one, and draws what changed of it.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.filter import LineFilter, NoColor
from textual.geometry import Size
from textual.widgets import Footer, Input

from round_monitor.feed import clock_time, utc_time
from round_monitor.sights import Sight
from round_monitor.terminal.client_table import ClientTable
from round_monitor.terminal.lines import Lines
from round_monitor.terminal.panels import (
    ClientsPanel,
    CurvesPanel,
    EventsPanel,
    Panel,
    RoundPanel,
)
from round_monitor.terminal.plain import Ascii
from round_monitor.terminal.screens import ClientScreen, HelpScreen
from round_monitor.view import answer_lines

_LOOKS_EVERY_S = 0.25
_PANELS = ("round", "clients", "curves", "events")


class WatchApp(App[str]):
    """Runs until a person ends it. Its return value: why the broker does not let us in, if so."""

    CSS_PATH = "watch.tcss"
    ENABLE_COMMAND_PALETTE = False
    # From so many columns and lines on, all panels are shown beside each other.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012
    # Where to look is decided before all else, so that keys that follow fast go there.
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(place), f"look_at('{name}')", name, show=False, priority=True)
            for place, name in enumerate(_PANELS, 1)
        ),
        Binding("tab", "look_at_next(1)", "Next", show=False, priority=True),
        Binding("shift+tab", "look_at_next(-1)", "Before", show=False, priority=True),
        Binding("p,space", "freeze", "Pause"),
        Binding("slash", "find", "Find", priority=True),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse", show=False),
        Binding("m", "next_curve", "Next curve", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("question_mark,h,f1", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("escape", "stop_finding", "Stop finding", show=False),
    ]

    def __init__(
        self,
        newest: Callable[[], Sight],
        heading: str,
        *,
        colour: bool = True,
        ascii_only: bool = False,
        now: Callable[[], str] = utc_time,
        is_over: Callable[[], bool] = lambda: False,
        quitting: str = "end: the federation goes on",
    ) -> None:
        """`heading` names the broker, `quitting` what q does; it ends by itself when it `is_over`,
        which is asked several times a second."""
        # Before the first style is made, as it decides whether filters see the terminal's colours.
        self._plain: list[LineFilter] = []
        if not colour:
            self._plain.append(NoColor())
        if ascii_only:
            self._plain.append(Ascii())
        super().__init__(ansi_color=True)
        # The terminal's own colours, so that light ones stay light.
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self._newest, self._heading, self._now = newest, heading, now
        self._is_over, self._quitting = is_over, quitting
        self._ascii_only = ascii_only
        self._shown: Sight | None = None
        self._shown_at = ""
        self._frozen: tuple[Sight, str, str] | None = None
        """The sight, its time, and since when by the clock on the wall."""
        self._panel = "round"

    def get_line_filters(self) -> Sequence[LineFilter]:
        return self._plain

    def compose(self) -> ComposeResult:
        yield Lines(id="title")
        yield Lines(id="answers")
        yield Lines(id="tabs")
        with Container(id="panels"):
            yield RoundPanel(self._ascii_only)
            yield CurvesPanel(self._ascii_only)
            yield ClientsPanel()
            yield EventsPanel(self._ascii_only)
        yield Footer()

    def on_mount(self) -> None:
        for panel in self._panels():
            panel.border_title = panel.TITLE
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.action_look_at("round")
        self.look()
        self.set_interval(_LOOKS_EVERY_S, self.look)

    def on_resize(self) -> None:
        # Answers and title; panels see to themselves.
        self.call_after_refresh(self._draw)

    # What is shown

    @property
    def sight(self) -> Sight:
        """As it is shown: of now, or frozen."""
        return self._newest() if self._frozen is None else self._frozen[0]

    @property
    def is_frozen(self) -> bool:
        return self._frozen is not None

    def look(self) -> None:
        """Takes what is newest, and draws it unless that is what is shown."""
        newest = self._newest()
        if newest.denied or self._is_over():
            self.exit(newest.denied)
        self._follow_size()
        # All that is behind the keys would be drawn again each time.
        if isinstance(self.screen, HelpScreen):
            return
        # Times that run are told to the second.
        if newest is not self._shown or self._now()[:19] != self._shown_at:
            self._shown, self._shown_at = newest, self._now()[:19]
            self._draw()

    def _follow_size(self) -> None:
        """A new size is told by a signal, and can get lost on the way to the screen."""
        if self.is_headless:
            return
        size = Size(*os.get_terminal_size())
        if any(screen.size != size for screen in self.screen_stack):
            self.post_message(events.Resize(size, size))

    def _draw(self) -> None:
        now = self._now() if self._frozen is None else self._frozen[1]
        stack = self.screen_stack
        if isinstance(top := stack[-1], ClientScreen) and top.is_mounted:
            top.show(self.sight, now)
        base = stack[0]
        width = self.size.width
        base.query_one("#title", Lines).tell([self._title(width)])
        lines = answer_lines(self.sight.board, now, self.sight.lost, width)
        base.query_one("#answers", Lines).tell(lines)
        base.query_one("#tabs", Lines).tell([self._tabs()])
        for panel in self._panels():
            if panel.display and panel.content_size.width:
                panel.show(self.sight, now)

    def _title(self, width: int) -> Text:
        page = self.sight.board.coordinator
        where = [] if page is None else [page.federation, f"run {page.run}"]
        left = Text(" " + " · ".join(["fedmqtt", *where]), style="bold")
        if self._frozen is not None:
            missed = self._newest().board.event_count - self._frozen[0].board.event_count
            told = f"PAUSED at {self._frozen[2]}, {missed} events since: p goes on "
            right = Text(told, style="bold reverse")
        else:
            right = Text(f"{self._heading} ", style="dim")
        left.truncate(max(0, width - right.cell_len - 1), overflow="ellipsis")
        gap = max(1, width - left.cell_len - right.cell_len)
        return Text.assemble(left, " " * gap, right)

    def _tabs(self) -> Text:
        told = Text()
        for panel in sorted(self._panels(), key=lambda one: one.TITLE):
            style = "bold reverse" if panel.id == self._panel else ""
            told.append(" ").append(f" {panel.TITLE} ", style=style)
        return told

    def _panels(self) -> list[Panel]:
        base = self.screen_stack[0]
        return [
            base.query_one(RoundPanel),
            base.query_one(CurvesPanel),
            base.query_one(ClientsPanel),
            base.query_one(EventsPanel),
        ]

    @property
    def _clients(self) -> ClientsPanel:
        return self.screen_stack[0].query_one(ClientsPanel)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Over another screen, only what makes sense there."""
        covered = len(self.screen_stack) > 1
        here = ("look_at", "look_at_next", "find", "sort", "reverse", "next_curve", "zoom", "help")
        if action in ("find", "look_at") and isinstance(self.focused, Input):
            # A letter among others.
            return False
        return not (covered and action in here)

    def action_look_at(self, name: str) -> None:
        self._panel = name
        for panel in self._panels():
            panel.set_class(panel.id == name, "looked-at")
        looked_at = self.screen_stack[0].query_one(f"#{name}")
        target = self._clients.table if name == "clients" else looked_at
        # At once, as the next key may have come already.
        self.screen_stack[0].set_focus(target)
        self.call_after_refresh(self._draw)

    def action_look_at_next(self, by: int) -> None:
        self.action_look_at(_PANELS[(_PANELS.index(self._panel) + by) % len(_PANELS)])

    def action_freeze(self) -> None:
        if self._frozen is None:
            self._frozen = (self._newest(), self._now(), clock_time())
        else:
            self._frozen = None
        self._draw()

    def action_find(self) -> None:
        self.action_look_at("clients")
        self._clients.find.display = True
        self.screen_stack[0].set_focus(self._clients.find)

    def action_stop_finding(self) -> None:
        self._clients.find.value = ""
        self.action_look_at(self._panel)

    def action_sort(self) -> None:
        self._clients.sort_by_next()
        self.action_look_at("clients")

    def action_reverse(self) -> None:
        self._clients.turn_around()
        self.action_look_at("clients")

    def action_next_curve(self) -> None:
        self.screen_stack[0].query_one(CurvesPanel).show_next()
        self.action_look_at("curves")

    def action_zoom(self) -> None:
        self.screen_stack[0].toggle_class("zoomed")
        self.call_after_refresh(self._draw)

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self._quitting))

    @on(Input.Changed, "#find")
    def _found(self) -> None:
        self._draw()

    @on(Input.Submitted, "#find")
    def _find_is_done(self) -> None:
        self.action_look_at("clients")

    @on(ClientTable.HeadClicked)
    def _sort_by(self, event: ClientTable.HeadClicked) -> None:
        self._clients.sort_by(event.column)
        self._draw()

    @on(ClientTable.Chosen)
    def _look_at_client(self, event: ClientTable.Chosen) -> None:
        screen = ClientScreen(event.client, self._clients.table.clients, self._ascii_only)
        self.push_screen(
            screen, callback=lambda _: self._clients.table.put_cursor_on(screen.client)
        )
        self.call_after_refresh(self._draw)
