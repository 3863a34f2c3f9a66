"""Watch a federation: its round, its clients, its model, live from its broker's status topics.

Ctrl-C ends the watching and nothing else.
"""

import argparse
import os
import sys
import threading
from typing import TYPE_CHECKING

from fedmqtt import federation_flags
from fedmqtt.command_line import EXIT_DENIED

if TYPE_CHECKING:
    from fedmqtt.mqtt_link import BrokerUrl
    from round_monitor.feed import Feed

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
        "--once", action="store_true", help="print how things stand, and end; 1 if nothing is known"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 after Ctrl-C; 1 if there is nothing to see with --once, 2 if it cannot be asked for, 3 if
    the broker does not let us in."""
    try:
        federation, broker = federation_flags.find(arguments, ("monitor", "coordinator"))
        if arguments.once:
            return _once(federation, broker, arguments)
        return _live(federation, broker, arguments)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "rich":
            raise
        return _fail("The screen needs rich: pip install 'fedmqtt[monitor]', or use --plain.", 2)
    except ValueError as wrong:
        return _fail(f"fedmqtt watch: {wrong}", 2)
    except BrokenPipeError:
        # `| head` has seen enough. What is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _live(federation: str, broker: "BrokerUrl", arguments: argparse.Namespace) -> int:
    from fedmqtt.event_loop import EventLoop
    from round_monitor.live import LiveView

    loop = EventLoop()
    plain = arguments.plain or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb"
    view = LiveView(loop, broker, federation, str(broker), plain)
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
    from round_monitor.feed import Feed, utc_time
    from round_monitor.screen import print_once

    loop = EventLoop()
    feed = Feed(loop, broker, federation, on_change=lambda: None)
    loop.stop_on_signals()
    # In a thread: connecting blocks while a host does not answer.
    saying = threading.Timer(_SILENT_S, lambda: _say_what_is_missing(feed))
    saying.daemon = True
    try:
        saying.start()
        feed.open()
        feed.wait_for_pages(_PAGES_WITHIN_S)
        if feed.is_hopeless:
            return _fail(f"fedmqtt watch: {feed.lost}", EXIT_DENIED)
        if feed.board.is_empty:
            return _fail(_why_nothing(feed, federation, str(broker)), 1)
    finally:
        saying.cancel()
        feed.close()
        loop.close()
    print_once(feed.board, str(broker), utc_time(), colour=not arguments.plain)
    return 0


def _say_what_is_missing(feed: "Feed") -> None:
    if feed.board.is_empty:
        sys.stderr.write(f"{feed.trouble}; waiting a few seconds\n")


def _why_nothing(feed: "Feed", federation: str, broker: str) -> str:
    if not feed.is_connected:
        return f"No connection: {feed.lost}."
    return (
        f"Nothing is published for federation {federation!r} at {broker}:"
        " it has another name, or its coordinator has never run."
    )


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"{sentence}\n")
    return code
