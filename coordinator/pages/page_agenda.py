"""Which clients have a page of their own, and whose is to be said next. Pure.

    a sign of life, a change ──▶ due, oldest first ──▶ said: each at most every `EACH_S`
    it came, left or is out  ──▶ due before all others
    no sign for long, or so many others since then ──▶ its page is taken away

Of a fleet of thousands, those who were active last have one. What is remembered here is bounded by
that, whoever makes up names on the broker.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId

EACH_S: Seconds = 2.0

Moment = float
"""Seconds of the clock of the day: it outlives the program."""


@dataclass(slots=True)
class PageAgenda:
    listed_max: int
    forget_s: Seconds
    _seen: dict[ClientId, Moment] = field(default_factory=dict)
    """Of those that have a page, when they were seen last; oldest first while `_is_sorted`."""
    _guessed: set[ClientId] = field(default_factory=set)
    _is_sorted: bool = True
    _due: dict[ClientId, None] = field(default_factory=dict)
    _urgent: dict[ClientId, None] = field(default_factory=dict)
    _said_at: dict[ClientId, Seconds] = field(default_factory=dict)
    _gone: dict[ClientId, None] = field(default_factory=dict)
    """Whose pages are to be taken away."""

    def sign(self, client: ClientId, seen: Moment) -> None:
        """It has just said something."""
        self._seen.pop(client, None)
        self._seen[client] = seen
        self._guessed.discard(client)
        self._gone.pop(client, None)
        self._due[client] = None
        self._keep_few()

    def known(self, client: ClientId, seen: Moment) -> None:
        """It was seen then at the latest: what lies of it on the broker does not tell when."""
        if client not in self._seen:
            self._seen[client] = seen
            self._guessed.add(client)
            self._is_sorted = False
            self._due[client] = None
            self._keep_few()

    def page_says(self, client: ClientId, seen: Moment) -> None:
        """It was seen then, as a page of before says."""
        if client in self._guessed:
            del self._seen[client]
        self.known(client, seen)
        self._guessed.discard(client)

    def stranger(self, client: ClientId) -> None:
        """A page of it lies there, and it shall have none."""
        if client not in self._seen:
            self._gone[client] = None

    def changed(self, clients: Collection[ClientId], *, urgently: bool = False) -> None:
        """What is to be said of those of them that have a page."""
        due = self._urgent if urgently else self._due
        for client in clients:
            if client in self._seen:
                due[client] = None

    def all_changed(self) -> None:
        self.changed(tuple(self._seen))

    def seen(self, client: ClientId) -> Moment | None:
        """None: it has no page."""
        return self._seen.get(client)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be said or taken away."""
        return not self._due and not self._urgent and not self._gone

    def take(
        self, at: Seconds, count: int, urgent_count: int = 0
    ) -> tuple[list[ClientId], list[ClientId]]:
        """Whose pages to say and whose to take away now, so many in all; the others stay due.
        `urgent_count`, where it is more: so many, if those beyond `count` are urgent."""
        gone = list(self._gone)[:count]
        for client in gone:
            del self._gone[client]
        said: dict[ClientId, None] = {}
        for queue, most in ((self._urgent, max(count, urgent_count)), (self._due, count)):
            for client in queue:
                if len(gone) + len(said) >= most:
                    break
                if at - self._said_at.get(client, -EACH_S) >= EACH_S:
                    said[client] = None
        for client in said:
            self._urgent.pop(client, None)
            self._due.pop(client, None)
            self._said_at[client] = at
        return list(said), gone

    def forget_old(self, now: Moment, is_there: Callable[[ClientId], bool]) -> None:
        """Who has given no sign for long, and is not connected either, is gone for good."""
        for client, seen in list(self._seen.items()):
            if now - seen > self.forget_s and not is_there(client):
                self._let_go(client)

    def _keep_few(self) -> None:
        if len(self._seen) <= self.listed_max:
            return
        if not self._is_sorted:
            self._seen = dict(sorted(self._seen.items(), key=lambda one: (one[1], one[0])))
            self._is_sorted = True
        self._let_go(next(iter(self._seen)))

    def _let_go(self, client: ClientId) -> None:
        del self._seen[client]
        self._guessed.discard(client)
        self._urgent.pop(client, None)
        self._due.pop(client, None)
        self._said_at.pop(client, None)
        self._gone[client] = None
