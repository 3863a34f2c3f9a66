"""Watch a federation: its round, its clients, its model, live from its broker's status topics.

The keys are told by ?. q or Ctrl-C ends the watching and nothing else.
"""

import argparse
import os
import sys
import threading
from typing import TYPE_CHECKING

from fedmqtt import federation_flags
from fedmqtt.command_line import EXIT_DENIED
from round_monitor import stdout
from round_monitor.terminal import abilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedmqtt.mqtt_link import BrokerUrl
    from round_monitor.board import Board
    from round_monitor.feed import Feed

    _Tell = Callable[[Board, str, str], None]
    """A board, a federation's name, its broker."""

_PAGES_WITHIN_S = 5.0
_SILENT_S = 1.0
"""So long a person wonders nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    federation_flags.add_arguments(parser, "monitors")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="one line for each event; by itself where the output is no terminal",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print how things stand, and end; 1 if nothing is known, or can be read",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="with --once: all pages as one JSON object, for scripts (docs/watching.md)",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 after Ctrl-C; 1 if there is nothing to see with --once, or no room to write it, 2 if it
    cannot be asked for, 3 if the broker does not let us in."""
    try:
        if arguments.json and not arguments.once:
            raise ValueError("--json is said together with --once")
        federation, broker = federation_flags.find(
            arguments, ("monitor", "coordinator", "operator")
        )
        if arguments.once:
            return _once(federation, broker, arguments)
        if arguments.plain or not abilities.is_screen():
            return _lines(federation, broker)
        return _screen(federation, broker)
    except ModuleNotFoundError as missing:
        needed = (missing.name or "").partition(".")[0]
        if needed not in ("rich", "textual"):
            raise
        lines = "--once --json" if arguments.once else "--plain"
        what = f"The screen needs {needed}: pip install 'fedmqtt[monitor]', or use {lines}."
        return _fail(what, 2)
    except ValueError as wrong:
        return _fail(f"fedmqtt watch: {wrong}", 2)
    except BrokenPipeError:
        # `| head` has seen enough.
        stdout.abandon()
        return 0
    except stdout.Unwritable as why:
        stdout.abandon()
        return _fail(f"fedmqtt watch: {why}", 1)


def _screen(federation: str, broker: "BrokerUrl") -> int:
    from round_monitor.sights import FeedThread
    from round_monitor.terminal.app import WatchApp

    feed = FeedThread(broker, federation)
    app = WatchApp(
        lambda: feed.newest,
        broker.place,
        colour=abilities.has_colour(os.environ),
        ascii_only=abilities.is_ascii(sys.stdout.encoding),
    )
    feed.start()
    try:
        denied = app.run()
    finally:
        feed.stop()
    return _fail(f"fedmqtt watch: {denied}", EXIT_DENIED) if denied else app.return_code or 0


def _lines(federation: str, broker: "BrokerUrl") -> int:
    from fedmqtt.event_loop import EventLoop
    from round_monitor.live import LiveLines

    loop = EventLoop()
    view = LiveLines(loop, broker, federation)
    loop.stop_on_signals()
    try:
        view.start()
        loop.run()
    finally:
        view.stop()
        loop.close()
    return _fail(f"fedmqtt watch: {view.denied}", EXIT_DENIED) if view.denied else 0


def _once(federation: str, broker: "BrokerUrl", arguments: argparse.Namespace) -> int:
    from fedmqtt.event_loop import EventLoop
    from round_monitor.feed import Feed

    # Before anything is waited for: it may not be installed.
    tell = _tell_json if arguments.json else _tell_screen(colour=not arguments.plain)
    loop = EventLoop()
    feed = Feed(loop, broker, federation, on_change=lambda: None)
    loop.stop_on_signals()
    # In a thread: connecting blocks while a host does not answer.
    saying = threading.Timer(_SILENT_S, lambda: _say_what_is_missing(feed))
    saying.daemon = True
    try:
        saying.start()
        feed.open()
        feed.wait_for_pages(_PAGES_WITHIN_S, and_clients=True)
        if feed.is_hopeless:
            return _fail(f"fedmqtt watch: {feed.lost}", EXIT_DENIED)
        if feed.board.is_empty:
            return _fail(_why_nothing(feed, federation, str(broker)), 1)
    finally:
        saying.cancel()
        feed.close()
        loop.close()
    with stdout.printing():
        tell(feed.board, federation, str(broker) if arguments.json else broker.place)
    return 0


def _tell_json(board: "Board", federation: str, broker: str) -> None:
    from round_monitor.feed import utc_time
    from round_monitor.standing import standing, to_json

    print(to_json(standing(board, federation, broker, utc_time())))


def _tell_screen(colour: bool) -> "_Tell":
    from rich.console import Console

    from round_monitor.feed import utc_time
    from round_monitor.view import render

    def tell(board: "Board", _federation: str, broker: str) -> None:
        console = Console(highlight=False, no_color=not colour)
        # What is in a pipe is read by a program, or looked at later on another screen.
        cuts = console.is_terminal
        console.print(render(board, broker, utc_time(), cuts=cuts), soft_wrap=not cuts)

    return tell


def _say_what_is_missing(feed: "Feed") -> None:
    # No trouble: what has come cannot be read.
    if feed.board.is_empty and feed.trouble:
        sys.stderr.write(f"{feed.trouble}; waiting a few seconds\n")


def _why_nothing(feed: "Feed", federation: str, broker: str) -> str:
    if not feed.is_connected:
        return f"No connection: {feed.lost}."
    if unreadable := feed.board.unreadable:
        first = min(unreadable, key=lambda page: (page != "coordinator", page))
        pages = "1 page" if len(unreadable) == 1 else f"{len(unreadable):,} pages"
        return (
            f"{pages} of federation {federation!r} at {broker} cannot be read, and no other is"
            f" there; is this fedmqtt older than the coordinator's? {unreadable[first]}"
        )
    return (
        f"Nothing is published for federation {federation!r} at {broker}:"
        " it has another name, or its coordinator has never run."
    )


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code
