"""What a device does, for its owner: a line that is drawn anew, lines one below the other, or one
quiet line for each round.

    10:15:02 client.pi-3: connected (MQTT 5)
    round 4: training, epoch 2 of 5, batch 3 of 7  ██████████░░░░░░░░░░░░░░░░░░  37%

Plain ANSI: a carriage return and "erase to the end of the line" (ECMA-48), and nothing where the
terminal is none, or dumb.
"""

import logging
import os
import sys
from collections.abc import Callable
from typing import IO, Literal

from edge_client import session
from edge_client.activity import Now
from fedmqtt.effects import Seconds
from fedmqtt.logs import printable
from fedmqtt.messages import Receipt
from fedmqtt.topics import RoundId

Style = Literal["line", "changes", "rounds", "log"]

_log = logging.getLogger("rounds")

_ERASE = "\r\x1b[K"
_BAR = 28
_DRAWN_EVERY_S: Seconds = 0.1
_WIDTH = 80
_ROUNDS_MAX = 10
"""Offers of so many rounds are remembered; most are for others."""


def style(asked: str, stream: IO[str], term: str) -> Style:
    """How it is shown, where the owner leaves it to us: `auto`."""
    match asked:
        case "line" | "changes" | "rounds":
            return asked
        case _ if not stream.isatty():
            return "log"
        case _:
            return "changes" if term in ("", "dumb") else "line"


def told(now: Now) -> str:
    """In words, without how far it is."""
    named = f"round {now.round}: {now.what}"
    match now.what:
        case "waiting" if not now.is_online:
            return "waiting for the broker"
        case "waiting" if now.hindrance:
            return f"waiting; may not train now: {printable(now.hindrance)}"
        case "waiting":
            return "waiting for a round"
        case "sending" if now.fraction >= 1.0:
            return f"round {now.round}: waiting for the receipt"
        case "downloading" | "sending":
            done = round(now.fraction * now.size_bytes)
            return f"{named} {_size(done)} of {_size(now.size_bytes)}"
        case _:
            work = now.work
            epoch = f", epoch {work.epoch} of {work.epochs}" if work and work.epoch else ""
            batch = f", batch {work.batch} of {work.batches}" if work and work.batches else ""
            return f"{named}{epoch}{batch}"


def line(now: Now, width: int, *, ascii_only: bool) -> str:
    """With a bar where there is something to wait for; no longer than the terminal is wide."""
    words = told(now)
    if now.what != "waiting" and (now.fraction or now.what == "training"):
        full = int(now.fraction * _BAR)
        done, left = ("#", ".") if ascii_only else ("█", "░")
        words += f"  {done * full}{left * (_BAR - full)} {now.fraction:4.0%}"
    # The last column stays free: to write there may begin a new line.
    return words[: max(0, width - 1)]


class ProgressLine:
    """The stream of the log too, so that a line of the log comes above the one that is drawn."""

    def __init__(self, stream: IO[str], now: Callable[[], Seconds]) -> None:
        self._stream = stream
        self._now = now
        self._shown: Now | None = None
        self._drawn_at: Seconds = 0.0
        self._ascii_only = "utf" not in (getattr(stream, "encoding", "") or "").lower()

    def show(self, doing: Now) -> None:
        before, self._shown = self._shown, doing
        is_other = before is None or _phase(before) != _phase(doing)
        if is_other or self._now() - self._drawn_at >= _DRAWN_EVERY_S:
            self._draw()

    def end(self) -> None:
        """Leave an empty line to whoever writes next."""
        self._shown = None
        self._write(_ERASE)

    def write(self, text: str) -> int:
        """Of the log."""
        self._write(f"{_ERASE}{text}")
        if self._shown is not None and text.endswith("\n"):
            self._draw()
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def _draw(self) -> None:
        assert self._shown is not None
        self._drawn_at = self._now()
        self._write(_ERASE + line(self._shown, _width(self._stream), ascii_only=self._ascii_only))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class ChangeLines:
    """One line for each thing that it does, and for each epoch."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._shown: Now | None = None

    def show(self, doing: Now) -> None:
        before, self._shown = self._shown, doing
        if before is None or _phase(before) != _phase(doing):
            work = doing.work
            epoch = f", epoch {work.epoch} of {work.epochs}" if work and work.epoch else ""
            is_waiting = doing.what == "waiting"
            self._say(told(doing) if is_waiting else f"round {doing.round}: {doing.what}{epoch}")


class RoundLines:
    """One line for each round that it took part in, once it has its receipt."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._heard_of: dict[RoundId, Seconds] = {}

    def hear(self, event: session.Event) -> None:
        match event:
            case session.Offered(at, offer):
                self._heard_of.setdefault(offer.round, at)
                for old in sorted(self._heard_of)[:-_ROUNDS_MAX]:
                    del self._heard_of[old]
            case session.Received(at, Receipt(round=number) as receipt):
                outcome = "counted" if receipt.accepted else f"not counted: {receipt.reason}"
                began = self._heard_of.pop(number, None)
                took = "" if began is None else f", {at - began:.0f} s after it was offered"
                self._say(f"round {number}: {printable(outcome)}{took}")
            case _:
                pass


class Owner:
    """Shows all this on stderr, as it was `asked` for: beside the log, or in its place."""

    show: Callable[[Now], None] | None = None
    """None: nobody looks, and the trainer need not tell more than the broker is told."""

    def __init__(self, asked: str, now: Callable[[], Seconds]) -> None:
        self._rounds: RoundLines | None = None
        self._line: ProgressLine | None = None
        match style(asked, sys.stderr, os.environ.get("TERM", "")):
            case "line":
                self._line = ProgressLine(sys.stderr, now)
                self.show = self._line.show
                self._put_log_above(self._line)
            case "changes":
                self.show = ChangeLines(_log.info).show
            case "rounds":
                self._rounds = RoundLines(_log.info)
                logging.getLogger("client").setLevel(logging.WARNING)
            case "log":
                pass

    def hear(self, event: session.Event) -> None:
        if self._rounds is not None:
            self._rounds.hear(event)

    def end(self) -> None:
        if self._line is not None:
            self._line.end()

    def _put_log_above(self, line: ProgressLine) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setStream(line)


def _phase(now: Now) -> tuple[str, int, int, str, bool]:
    return (
        now.what,
        now.round,
        now.work.epoch if now.work is not None else 0,
        now.hindrance,
        now.is_online,
    )


def _width(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
