"""Run a program whose wall clock is wrong, and jumps while it runs.

    python -m tests.faults.shifted_clock offset_s fedmqtt client ...

The file `offset_s` holds the seconds by which the clock is wrong; none: the clock is right. It is
read whenever the program asks what time it is. Only the clock of the day is changed, as a person
does, NTP, or an empty battery: time that is measured (`time.monotonic`) has no such jumps.
"""

import datetime
import runpy  # noqa: TID251
import sys
import time
from pathlib import Path

_true_time = time.time  # noqa: TID251
_true_time_ns = time.time_ns
_true_gmtime = time.gmtime
_true_localtime = time.localtime


class _Clock:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._last_s = 0.0

    def offset_s(self) -> float:
        try:
            offset_s = float(self._file.read_text())
        except FileNotFoundError:
            offset_s = 0.0
        if offset_s != self._last_s:
            self._last_s = offset_s
            # For whoever set it: from here on the program has seen it.
            sys.stderr.write(f"shifted clock: {offset_s:+.0f} s\n")
        return offset_s


def _shift(clock: _Clock) -> None:
    def now() -> float:
        return _true_time() + clock.offset_s()

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Shifted":
            return cls.fromtimestamp(now(), tz)

        @classmethod
        def utcnow(cls) -> "Shifted":
            return cls.now(datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> "Shifted":
            return cls.now()

    time.time = now  # noqa: TID251
    time.time_ns = lambda: _true_time_ns() + round(clock.offset_s() * 1e9)
    time.gmtime = lambda seconds=None: _true_gmtime(now() if seconds is None else seconds)
    time.localtime = lambda seconds=None: _true_localtime(now() if seconds is None else seconds)
    datetime.datetime = Shifted  # type: ignore[misc]


def main() -> None:
    file, module, *words = sys.argv[1:]
    # Before the program imports anything that keeps these under a name of its own.
    _shift(_Clock(Path(file)))
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
