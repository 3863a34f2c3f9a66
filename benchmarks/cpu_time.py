"""How long a piece of work takes on a processor that others use too."""

import time
from collections.abc import Callable


def least_s(work: Callable[[], object], repeats: int) -> float:
    """The least CPU seconds of so many calls, after one that warms the caches."""
    work()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
