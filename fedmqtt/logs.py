"""What the programs write to their log: lines for people, or JSON for machines, on stderr."""

import json
import logging
import math
import sys
from types import TracebackType


class _Lines(logging.Formatter):
    """One event, one line: what a peer wrote can neither begin a line nor command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        record.msg, record.args = printable(record.getMessage()), None
        return super().format(record)


def printable(text: str) -> str:
    """`text` with everything that is no visible character or space spelt out, as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Seldom:
    """What a peer can cause as often as it likes: told at once, and then once in a while."""

    def __init__(self, pause_s: float = 60.0) -> None:
        self._pause_s = pause_s
        self._told_at = -math.inf
        self._untold = 0

    def heard(self, at: float, what: str) -> str:
        """What to tell of it now, with how many were not told of before it; mostly nothing."""
        if at - self._told_at < self._pause_s:
            self._untold += 1
            return ""
        more = f" (and {self._untold} more like it before)" if self._untold else ""
        self._told_at, self._untold = at, 0
        return what + more


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _log_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("fedmqtt").critical("crashed", exc_info=(kind, error, trace))


def set_up(*, verbose: bool, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        handler.setFormatter(_JsonLines())
        sys.excepthook = _log_crash
    else:
        handler.setFormatter(_Lines("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
