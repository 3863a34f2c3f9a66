"""How many clients' pages may be said now: for a small share of the CPU that is taken anyway. Pure.

    time that passes, CPU that the program takes ──▶ room ──▶ pages, and what saying them took

What a page takes is learned, so that the share is the same on a small machine. The other half of it
is not seen here: the broker's acknowledgement, and the kernel's.
"""

from fedmqtt.effects import Seconds

PER_S = 3.0
"""At least so many, where the program has nothing else to do."""
CPU_SHARE = 0.001
"""And for so much of the CPU of all the program."""
AT_ONCE = 100
"""After a quiet time, and when it starts: saying so many takes 10 ms."""
AHEAD = 100
"""So many that are urgent are said before their turn; then all wait until that is made up for."""

_PAGE_S: Seconds = 100e-6
_LEARNED_FROM = 100
"""Pages: what the last so many took counts."""


class PageBudget:
    """Of one coordinator, from the moment `at` on, when it had taken `cpu_s` of CPU."""

    def __init__(self, at: Seconds, cpu_s: Seconds) -> None:
        self._at, self._cpu_s = at, cpu_s
        self._room = float(AT_ONCE)
        """Below 0: so many were said before their turn."""
        self._page_s = _PAGE_S

    def room(self, at: Seconds, cpu_s: Seconds) -> tuple[int, int]:
        """For so many pages now; and for so many, those among them, where they are urgent."""
        passed_s, taken_s = at - self._at, cpu_s - self._cpu_s
        self._at, self._cpu_s = at, cpu_s
        more = passed_s * PER_S + taken_s * CPU_SHARE / self._page_s
        self._room = min(AT_ONCE, self._room + more)
        count = max(0, int(self._room))
        return count, min(AT_ONCE, max(count, int(self._room + AHEAD)))

    def said(self, pages: int, took_s: Seconds) -> None:
        """So many were, in all that CPU time."""
        self._room -= pages
        if pages:
            share = min(1.0, pages / _LEARNED_FROM)
            self._page_s += share * (max(1e-6, took_s / pages) - self._page_s)
