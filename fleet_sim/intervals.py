"""Times from which and until which something holds, and times of the day as people write them.

An interval is a pair (from, until) of seconds, `from` part of it and `until` not. Streams of them
are in order and leave a gap between each and the next; they may be endless, and `until` may be inf.
"""

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from fedmqtt.effects import Seconds

Interval = tuple[Seconds, Seconds]

HOUR_S: Seconds = 3600.0
DAY_S: Seconds = 86_400.0
WEEK_S: Seconds = 7 * DAY_S
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

TIME_OF_DAY_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z"
TIME_OF_WEEK_PATTERN = r"^((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01][0-9]|2[0-3]):[0-5][0-9]\Z"


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times as a stream: sorted, with those that overlap or touch joined."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if end <= begin:
            continue
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def since(intervals: Iterable[Interval], moment: Seconds) -> Iterator[Interval]:
    """What is left of a stream from this moment on, told in seconds after it."""
    for begin, end in intervals:
        if end > moment:
            yield max(begin - moment, 0.0), end - moment


def within(intervals: Iterable[Interval], until: Seconds) -> Iterator[Interval]:
    """A stream's part before `until`. Ends, also where the stream does not."""
    for begin, end in intervals:
        if begin >= until:
            return
        yield begin, min(end, until)


def share(intervals: Iterable[Interval], until: Seconds) -> float:
    """Which part of the time from 0 to `until` a stream covers, from 0 to 1."""
    return math.fsum(end - begin for begin, end in within(intervals, until)) / until


def share_of_the_first(
    count: int, intervals: Iterable[Interval], until: Seconds
) -> tuple[float, bool]:
    """As `share`, by so many intervals at most; and whether those were all before `until`.

    Where there are more, it is the share of the time before the first that is left out, which is
    of whole turns of being there and being away.
    """
    seen = list(islice(within(intervals, until), count + 1))
    if len(seen) <= count:
        return share(seen, until), True
    return share(seen, seen[-1][0]), False


def seconds_of(time: str) -> Seconds:
    """ "14:30", or "Tue 14:30": seconds since midnight, or since that of Monday."""
    found = re.fullmatch(r"(?:(\w{3}) )?(\d\d):(\d\d)", time)
    assert found is not None, "settings are checked against the patterns above"
    day, hours, minutes = found.groups()
    days = WEEKDAYS.index(day) if day else 0
    return days * DAY_S + int(hours) * HOUR_S + int(minutes) * 60.0
