"""To sleep before the next try, and to wake up where there shall be none."""

import time
from collections.abc import Callable

from fedmqtt.effects import Seconds

_LOOK_EVERY_S: Seconds = 0.1


def sleep(wait_s: Seconds, gives_up: Callable[[], bool]) -> bool:
    """Whether all that time has passed. `gives_up` is asked again and again meanwhile."""
    until = time.monotonic() + wait_s
    while (now := time.monotonic()) < until:
        if gives_up():
            return False
        time.sleep(min(_LOOK_EVERY_S, until - now))
    return True
