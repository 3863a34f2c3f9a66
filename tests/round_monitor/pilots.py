"""`fedmqtt watch`'s screen without a terminal: keys go in, what is shown comes out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rich.segment import Segment
from textual.pilot import Pilot

from fedmqtt.status_pages import Page
from round_monitor.board import Board
from round_monitor.sights import Sight
from round_monitor.terminal.app import WatchApp
from tests.round_monitor.pages import board_of

NOW = "2026-03-01T10:19:20+00:00"
SMALL, LARGE = (80, 24), (150, 45)


class Watching:
    """One app that is looked at by a test."""

    def __init__(self, board: Board, now: str = NOW, **options: Any) -> None:
        self.sight = Sight(board, "")
        self.app = WatchApp(lambda: self.sight, "mqtt://laptop.local", now=lambda: now, **options)
        self._pilot: Pilot[str] | None = None

    def play(
        self, script: Callable[["Watching"], Awaitable[None]], size: tuple[int, int] = SMALL
    ) -> None:
        """Runs the app while `script` does what a person would."""

        async def run() -> None:
            async with self.app.run_test(size=size) as pilot:
                self._pilot = pilot
                await self.settled()
                await script(self)

        asyncio.run(run())

    @property
    def pilot(self) -> Pilot[str]:
        assert self._pilot is not None
        return self._pilot

    async def settled(self) -> None:
        """When all that is under way is drawn: a draw may ask for another one."""
        for _ in range(3):
            await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settled()

    async def write(self, text: str) -> None:
        await self.press(*("space" if letter == " " else letter for letter in text))

    async def publish(self, pages: Mapping[str, Page], lost: str = "") -> None:
        """As if the broker had brought these, and nothing else, until it is drawn."""
        self.sight = Sight(board_of(pages), lost)
        await self.looked()

    async def looked(self) -> None:
        """The app looks for news by a timer; a test need not wait for it."""
        self.app.look()
        await self.settled()

    @property
    def segments(self) -> list[list[Segment]]:
        """By line, as they go to the terminal."""
        # What the compositor would send; the exported SVG has the same, harder to read.
        return [list(strip) for strip in self.app.screen._compositor.render_strips()]

    @property
    def lines(self) -> list[str]:
        return ["".join(segment.text for segment in line).rstrip() for line in self.segments]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
