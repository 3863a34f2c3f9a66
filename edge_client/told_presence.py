"""When a device says on the broker what it does: seldom, and nothing while it waits.

    downloading│training───────────────────────────────────────│sending│waiting
               │←1 s→ said      │← progress_s →│ said ...              │←1 s→ said

A phase is said when it has lasted: most rounds of a small model are over before. Within one, how
far it is, is said every `progress_s` seconds. In a large fleet both take longer: see
`pace.told_after_s`.
"""

from collections.abc import Callable

from fedmqtt import pace
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import Activity


class ToldPresence:
    def __init__(
        self,
        loop: EventLoop,
        progress_s: Seconds,
        spread_s: Callable[[], Seconds],
        say: Callable[[], None],
    ) -> None:
        """`say` publishes the presence, with `take` in it. `progress_s` of 0: phases alone."""
        self._loop = loop
        self._progress_s = progress_s
        self._spread_s = spread_s
        self._say = say
        self._now = Activity()
        self._said = Activity()
        self._said_at: Seconds = 0.0
        self._timer: Timer | None = None

    def is_now(self, activity: Activity) -> None:
        before, self._now = self._now, activity
        if _phase(activity) == _phase(self._said):
            if self._is_news and self._progress_s > 0:
                self._at(self._said_at + pace.told_after_s(self._spread_s(), self._progress_s))
            else:
                self.stop()
        elif _phase(activity) != _phase(before) or self._timer is None:
            self.stop()
            self._at(self._loop.now() + pace.told_after_s(self._spread_s()))

    def take(self) -> Activity:
        """What a presence that is said now tells of it."""
        self.stop()
        self._said, self._said_at = self._now, self._loop.now()
        return self._now

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    @property
    def _is_news(self) -> bool:
        # While it waits there is no progress: a link's width alone is not worth a message.
        is_other_site = self._now.devices != self._said.devices
        return is_other_site or (bool(self._now.doing) and self._now != self._said)

    def _at(self, at: Seconds) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(max(at, self._loop.now()), self._woke)

    def _woke(self) -> None:
        self._timer = None
        if self._now != self._said:
            self._say()


def _phase(activity: Activity) -> tuple[str, int]:
    return activity.doing, activity.round
