"""When rounds closed, on the clock of who looks on: the federation's own may be spoilt."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic

from tests.patience import WITHIN_S

_LOOK_EVERY_S = 0.02


class Closings:
    """Made by `watching`."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def longest_stall_s(self, first_took_s: float) -> float:
        """The longest time without a round that closed; the first is known by its duration."""
        moments = [self.at[0] - first_took_s, *self.at] if self.at else []
        return max((b - a for a, b in pairwise(moments)), default=0.0)


@contextmanager
def watching(count: Callable[[], int]) -> Iterator[Closings]:
    """Looks, during the block, how many rounds have closed."""
    closings, over = Closings(), threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_EVERY_S):
            new = count() - len(closings.at)
            closings.at += [monotonic()] * new

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield closings
    finally:
        over.set()
        thread.join(WITHIN_S)
