"""Virtual seconds on a real event loop: a day of weather in minutes."""

import math
from collections.abc import Callable

from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer


class LiveClock:
    """Begins at 0 when it is made, and runs `speed` times as fast as the loop's."""

    def __init__(self, loop: EventLoop, speed: float = 1.0) -> None:
        self._loop = loop
        self._speed = speed
        self._began = loop.now()

    def now(self) -> Seconds:
        return (self._loop.now() - self._began) * self._speed

    def call_at(self, at: Seconds, action: Callable[[], None]) -> Timer:
        """Not before `at`, in virtual seconds. With inf it never happens."""
        if at == math.inf:
            return Timer(at, 0, None)
        return self._loop.call_at(self._began + at / self._speed, action)

    def call_in(self, delay_s: Seconds, action: Callable[[], None]) -> Timer:
        return self.call_at(self.now() + delay_s, action)
