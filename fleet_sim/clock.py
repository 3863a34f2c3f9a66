"""Virtual time: what will happen lies in a heap, and the clock jumps from one to the next."""

import heapq
import random
from collections.abc import Callable
from typing import Any

from fedmqtt.effects import Seconds


def stream(seed: int, *purpose: object) -> random.Random:
    """A random stream of its own for each purpose, so that one more draw disturbs no other.

    Seeded by text: the same on every machine and with any PYTHONHASHSEED.
    """
    return random.Random(f"{seed}/{'/'.join(map(str, purpose))}")


class Clock:
    def __init__(self) -> None:
        self.now: Seconds = 0.0
        self.happened = 0
        self._scheduled = 0
        self._heap: list[tuple[Seconds, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, delay: Seconds, do: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, do, *args)

    def at(self, moment: Seconds, do: Callable[..., None], *args: Any) -> None:
        # The count decides between equal moments: first scheduled, first happening.
        self._scheduled += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._scheduled, do, args))

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen until `until` or until nothing is left to happen."""
        while self._heap and not until():
            self.now, _, do, args = heapq.heappop(self._heap)
            self.happened += 1
            do(*args)
