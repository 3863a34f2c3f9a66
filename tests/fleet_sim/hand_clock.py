"""An event loop whose time is in the test's hand; its sockets and pipes are real."""

from collections.abc import Callable
from time import monotonic

from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop
from tests.patience import WITHIN_S


class HandLoop(EventLoop):
    def __init__(self) -> None:
        self.at: Seconds = 0.0
        super().__init__()

    def now(self) -> Seconds:
        return self.at

    def until(self, holds: Callable[[], bool]) -> None:
        """Let sockets and pipes speak until it holds; no time passes."""
        give_up_at = monotonic() + WITHIN_S
        while not holds():
            assert monotonic() < give_up_at, "it did not happen"
            self.run_once(wait_max_s=0.01)

    def settle(self) -> None:
        """Do what is due now, and what that posts."""
        for _ in range(20):
            self.run_once(wait_max_s=0.0)

    def pass_until(self, at: Seconds) -> None:
        self.at = at
        self.settle()
