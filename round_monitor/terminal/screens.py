"""What covers the panels: all of one client, and the keys."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer

from round_monitor.client_view import client_lines
from round_monitor.sights import Sight
from round_monitor.terminal.lines import Lines

_KEYS = (
    ("1 2 3 4", "round, clients, curves, events"),
    ("Tab", "the next of them"),
    ("z", "one of them on all of the screen, and back"),
    ("arrows, Page, Home", "up and down; j and k too"),
    ("/", "find clients by name, state, reason, label"),
    ("s   r", "sort by the next column; the other way around"),
    ("Enter", "all of one client; arrows: the next one"),
    ("m", "the next curve, where there is no room for all"),
    ("p or space", "freeze what is shown, and go on"),
)


class ClientScreen(Screen[None]):
    """All of one client; the arrows go through those that the table has."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "dismiss", "Back", key_display="Esc"),
        Binding("down,right,j", "step(1)", "Next client", key_display="↓"),
        Binding("up,left,k", "step(-1)", "The one before", key_display="↑"),
    ]

    def __init__(self, client: str, clients: list[str], ascii_only: bool) -> None:
        super().__init__()
        self.client = client
        self._clients = clients
        self._ascii_only = ascii_only
        self._last: tuple[Sight, str] | None = None

    def compose(self) -> ComposeResult:
        yield Lines(id="client-name")
        with VerticalScroll():
            yield Lines(id="client")
        yield Footer()

    def show(self, sight: Sight, now: str) -> None:
        self._last = (sight, now)
        self.query_one("#client-name", Lines).tell([Text(f" {self.client}", style="bold")])
        lines = client_lines(sight.board, self.client, now, self._ascii_only)
        self.query_one("#client", Lines).tell(lines)

    def action_step(self, by: int) -> None:
        if self.client in self._clients and self._last is not None:
            place = (self._clients.index(self.client) + by) % len(self._clients)
            self.client = self._clients[place]
            self.show(*self._last)


class HelpScreen(ModalScreen[None]):
    """Which key does what."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,h,f1,enter,space,q", "dismiss", "Back"),
    ]

    def __init__(self, quitting: str) -> None:
        """`quitting`: what q does here."""
        super().__init__()
        self._keys = (*_KEYS, ("q, Ctrl-C", quitting))

    def compose(self) -> ComposeResult:
        lines = [Text("Keys", style="bold"), Text()]
        lines += [Text.assemble((f"{key:20}", "bold"), what) for key, what in self._keys]
        lines += [Text(), Text("Esc: back", style="dim")]
        yield Lines(lines, id="keys")
