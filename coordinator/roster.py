"""Every client the federation has seen: who is online, and what each is willing to do.

The one large and mutable thing the round machine works on. Each change touches one client, so
that a fleet of many thousands costs no more per message than one of ten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from coordinator.known import Knowledge
from fedmqtt.effects import Seconds
from fedmqtt.messages import ALL_PURPOSES, WIRE_VERSION, Presence, Purpose
from fedmqtt.privacy.participation import Participations
from fedmqtt.topics import ClientId

_NAMED = 10
"""Of more clients, so many are named to a person."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one client."""

    presence: Presence
    online: bool
    since: Seconds
    hindrance: str = ""
    """Why it cannot be invited at all: another task, another wire version, a quarantine."""


@dataclass(slots=True)
class Roster:
    task: str
    clients: dict[ClientId, Entry] = field(default_factory=dict)
    online_count: int = 0
    changes: int = 0
    """How often something else was known of one of them than before."""
    took_s: list[Seconds] = field(default_factory=list)
    """How long each answer of the open round took, from its opening."""
    knowledge: Knowledge = field(default_factory=Knowledge)
    """Of each client's earlier rounds, for who selects."""
    by_sortition: bool = False
    """Whether clients must see for themselves if they are invited."""
    others: frozenset[ClientId] = frozenset()
    """Who is heard and never invited: keyholders, of whom nothing else is known here."""
    participations: Participations = field(default_factory=Participations)
    """How often each has taken part, where that has an end."""
    _misses: dict[ClientId, int] = field(default_factory=dict)
    """Rounds in a row that a client let pass in silence, up to their deadline."""
    _refusals: dict[ClientId, int] = field(default_factory=dict)
    """Rounds in a row that a client declined and nobody answered."""
    _resting: dict[ClientId, Seconds] = field(default_factory=dict)
    """Until when such a client is not invited."""
    _barred: dict[ClientId, str] = field(default_factory=dict)
    """Who must not be invited, whatever it would, and why."""
    _able_yet: dict[ClientId, None] = field(default_factory=dict)
    """Of all that were ever heard of, who may train again, where that has an end."""
    _willing: Mapping[Purpose, dict[ClientId, None]] = field(
        default_factory=lambda: {purpose: {} for purpose in ALL_PURPOSES}
    )

    def came(self, at: Seconds, client: ClientId, presence: Presence) -> None:
        """The client says that it is there. Also how it tells that its willingness changed."""
        before = self.clients.get(client)
        if client not in self._refusals or before is None or _is_another(presence, before.presence):
            self._resting.pop(client, None)
        self.knowledge.said(client, presence.label)
        since = before.since if before and before.online else at
        self._put(client, Entry(presence, True, since, self._hindrance(client, presence)))

    def left(self, at: Seconds, client: ClientId, session: str) -> bool:
        """The client's connection of this session ended. False if it has a newer one already."""
        before = self.clients.get(client)
        if before is None or not before.online or before.presence.session != session:
            # A broker may deliver the will of an old connection after the birth of the new one.
            return False
        self._put(client, replace(before, online=False, since=at))
        return True

    def heard(self, at: Seconds, client: ClientId) -> None:
        """Any sign of life makes a client active again, whatever its will said."""
        self._misses.pop(client, None)
        was_resting = self._resting.pop(client, None) is not None
        before = self.clients.get(client)
        if before is not None and not before.online:
            self._put(client, replace(before, online=True, since=at))
        elif was_resting:
            self._sort_in(client)

    def missed(self, at: Seconds, client: ClientId, round_s: Seconds) -> None:
        """The client was waited for until the deadline, and was silent.

        It may be gone for good though it seems online: a broker that crashed with it has lost its
        will. From the second time in a row on it is invited again only after 1, 2, 4, ... rounds'
        time, or at its next word.
        """
        self._rest(at, client, round_s, self._misses)

    def declined(self, at: Seconds, client: ClientId, round_s: Seconds) -> None:
        """The client declined a round that nobody answered.

        What for may be so in each round. From the second time in a row on it is invited again only
        after 1, 2, 4, ... times `round_s`, or when it connects anew or is willing to do other
        things: while it rests it goes on telling what it does, and that it declined.
        """
        self._rest(at, client, round_s, self._refusals)

    def answered(self, clients: Iterable[ClientId]) -> None:
        """These do take part."""
        for client in clients:
            self._refusals.pop(client, None)

    def bar(self, client: ClientId, why: str) -> None:
        """It is not invited until `unbar`."""
        self._barred[client] = why
        self._judge_again(client)

    def unbar(self, client: ClientId) -> None:
        self._barred.pop(client, None)
        self._judge_again(client)

    def took_part(self, clients: Iterable[ClientId]) -> dict[ClientId, int]:
        """These are in a round's sum, once for each time they are named. What is counted of each
        from now on, where anything is."""
        changed = self.participations.took_part(clients)
        for client in changed:
            self._able_yet.pop(client, None)
            if client in self.clients:
                self._sort_in(client)
            elif not self.participations.is_spent(client):
                self._able_yet[client] = None
        return changed

    def recall(self, counts: Mapping[ClientId, int]) -> None:
        """How often each took part before the coordinator was gone, and what was known of whom."""
        self.participations.counts.update(counts)
        if self.participations.most:
            known = {*self.knowledge.clients, *counts}
            spent = self.participations.is_spent
            self._able_yet = dict.fromkeys(one for one in sorted(known) if not spent(one))

    def is_used_up(self, needed: int) -> bool:
        """Whether so few may train again, of all that were ever heard of, that no round can open
        any more; never before anybody has taken part."""
        return bool(self.participations.counts) and len(self._able_yet) < needed

    def spent_why(self, client: ClientId) -> str:
        """Why no answer of it may count any more; empty where one may."""
        if not self.participations.is_spent(client):
            return ""
        count = self.participations.counts[client]
        return f"has taken part {count} times, and no more is within the privacy budget"

    def is_resting(self, client: ClientId) -> bool:
        return client in self._resting

    def end_rests(self, at: Seconds) -> None:
        """Let those be invited again whose rest is over."""
        for client in [one for one, until in self._resting.items() if until <= at]:
            del self._resting[client]
            self._sort_in(client)

    def end_rest(self, client: ClientId) -> None:
        """Let this one be invited again now."""
        if self._resting.pop(client, None) is not None:
            self._sort_in(client)

    def why_unwilling(self, client: ClientId, purpose: Purpose) -> str:
        """Why it would not do this if it were asked now; nothing if it would."""
        entry = self.clients.get(client)
        if entry is None:
            some = sorted(self.clients)[:_NAMED]
            more = len(self.clients) - len(some)
            told = ", ".join(some) + (f" and {more} more" if more else "")
            return f"no such client has been heard of; known are {told or 'none yet'}"
        if entry.hindrance:
            return entry.hindrance
        if not entry.online:
            return "it is away"
        if not entry.presence.would(purpose):
            return entry.presence.note or "its owner does not let it train now"
        return ""

    @property
    def resting_count(self) -> int:
        return len(self._resting)

    def rest_ends_at(self) -> Seconds | None:
        return min(self._resting.values(), default=None)

    def willing(self, purpose: Purpose) -> list[ClientId]:
        """Who is online and would do this, sorted: a set has no order that a seed could repeat."""
        return sorted(self._willing[purpose])

    def willing_count(self, purpose: Purpose) -> int:
        return len(self._willing[purpose])

    def is_willing(self, client: ClientId, purpose: Purpose) -> bool:
        return client in self._willing[purpose]

    def able(self, purpose: Purpose) -> list[ClientId]:
        """Who said it would do this when last seen, online or not, sorted."""
        return sorted(
            client
            for client, entry in self.clients.items()
            if not entry.hindrance and entry.presence.would(purpose)
        )

    def names(self) -> set[ClientId]:
        """Of all clients that were ever heard of, and are not forgotten."""
        reporting = {client for client, _ in self.knowledge.reports}
        return {*self.clients, *self.knowledge.clients, *reporting, *self.others}

    def is_online(self, client: ClientId) -> bool:
        entry = self.clients.get(client)
        return entry is not None and entry.online

    def _put(self, client: ClientId, entry: Entry) -> None:
        before = self.clients.get(client)
        self.online_count += entry.online - (before is not None and before.online)
        self.clients[client] = entry
        self.changes += entry != before
        self._sort_in(client)

    def _sort_in(self, client: ClientId) -> None:
        entry = self.clients[client]
        usable = entry.online and not entry.hindrance and client not in self._resting
        is_spent = self.participations.is_spent(client)
        if self.participations.most and not is_spent and entry.presence.would("train"):
            self._able_yet[client] = None
        else:
            self._able_yet.pop(client, None)
        for purpose, clients in self._willing.items():
            if usable and entry.presence.would(purpose) and not (is_spent and purpose == "train"):
                clients[client] = None
            else:
                clients.pop(client, None)

    def _rest(
        self, at: Seconds, client: ClientId, round_s: Seconds, counts: dict[ClientId, int]
    ) -> None:
        count = counts[client] = counts.get(client, 0) + 1
        if count > 1 and client in self.clients:
            self._resting[client] = at + round_s * 2.0 ** min(count - 2, 10)
            self._sort_in(client)

    def _judge_again(self, client: ClientId) -> None:
        if (entry := self.clients.get(client)) is not None:
            self._put(client, replace(entry, hindrance=self._hindrance(client, entry.presence)))

    def _hindrance(self, client: ClientId, presence: Presence) -> str:
        if client in self._barred:
            return self._barred[client]
        if presence.wire != WIRE_VERSION:
            return f"speaks wire version {presence.wire}, not {WIRE_VERSION}"
        if presence.task != self.task:
            return f"runs task {presence.task!r}, not {self.task!r}"
        if self.by_sortition and not presence.draws:
            return "is of a version that knows no sortition"
        return ""


def _is_another(presence: Presence, before: Presence) -> bool:
    """Whether what kept a client from taking part may be over."""
    return (presence.session, presence.purposes, presence.describes) != (
        before.session,
        before.purposes,
        before.describes,
    )
