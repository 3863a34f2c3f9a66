"""The live screen: what `view` renders, on the terminal's other screen, which leaves no trace."""

from rich.console import Console
from rich.live import Live

from round_monitor.board import Board
from round_monitor.view import render


class Screen:
    def __init__(self, heading: str) -> None:
        self._heading = heading
        # No thread of rich's own: it is drawn when it is shown, in one write over the last one.
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def show(self, board: Board, now: str, trouble: str) -> None:
        height = self._console.height
        self._live.update(render(board, self._heading, now, trouble, height), refresh=True)

    def stop(self) -> None:
        self._live.stop()


def print_once(board: Board, heading: str, now: str, colour: bool) -> None:
    console = Console(highlight=False, no_color=not colour)
    # What is in a pipe is read by a program, or looked at later on another screen.
    cuts = console.is_terminal
    console.print(render(board, heading, now, cuts=cuts), soft_wrap=not cuts)
