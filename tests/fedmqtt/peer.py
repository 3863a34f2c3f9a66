"""A link of the test's own: events are kept, and the test drives the loop until they come."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import (
    Arrived,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    parse_broker_url,
)
from fedmqtt.topics import Address, Topics
from tests.patience import WITHIN_S

_E = TypeVar("_E", bound=LinkEvent)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def until(loop: EventLoop, is_so: Callable[[], bool], what: str = "what was awaited") -> None:
    """Run the loop until `is_so`; fails the test when that takes too long."""
    give_up_at = loop.now() + WITHIN_S
    while not is_so():
        if loop.now() > give_up_at:
            pytest.fail(f"not within {WITHIN_S:.0f} s: {what}")
        loop.run_once(wait_max_s=0.5)


class Peer:
    def __init__(self, loop: EventLoop, url: str, federation: str, client: str, **options: Any):
        self.topics = Topics(federation)
        self.events: list[LinkEvent] = []
        self._seen = 0
        self._loop = loop
        options.setdefault("retry_base_s", 0.05)
        options.setdefault("retry_max_s", 0.2)
        self.link = MqttLink(
            loop,
            parse_broker_url(url),
            self.topics,
            LinkOptions(client_id=f"{federation}.{client}", **options),
            self.events.append,
        )

    def connect(self) -> LinkUp:
        self.link.open()
        return self.next(LinkUp)

    def next(self, kind: type[_E], matches: Callable[[_E], bool] = lambda event: True) -> _E:
        """The first such event behind the one that was returned last."""
        found: list[_E] = []

        def has_come() -> bool:
            while not found and self._seen < len(self.events):
                event = self.events[self._seen]
                self._seen += 1
                if isinstance(event, kind) and matches(event):
                    found.append(event)
            return bool(found)

        until(self._loop, has_come, f"a {kind.__name__}")
        return found[0]

    def arrival(self, address: Address) -> Arrived:
        return self.next(Arrived, lambda arrived: arrived.address == address)

    def all(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]
