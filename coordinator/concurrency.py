"""Who is at work where no round waits for anybody: so many clients at any time, on any version.

    invited ──▶ a place ──┬── its answer came, or it declined ──▶ the place is free, and filled
                          ├── silent for as long as a round may take
                          ├── gone for longer than the grace
                          └── at work on what is too old to count by now

An answer still counts that comes when its sender's place is another's: a place only says for whom
no other is invited instead. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, RoundId

Mode = Literal["synchronous", "asynchronous"]
"""Whether a round waits for its cohort, or clients are at work on any version of the model."""


@dataclass(frozen=True, slots=True)
class Place:
    """One client's, from its invitation on."""

    round: RoundId
    """The version it was invited to begin with."""
    invited_at: Seconds | None
    """None where an earlier life of the coordinator invited it."""
    until: Seconds
    """When its silence has lasted too long."""
    away_since: Seconds | None = None


Places = Mapping[ClientId, Place]

Clients = frozenset[ClientId]


def taken(
    places: Places, clients: Iterable[ClientId], number: RoundId, at: Seconds, patience_s: Seconds
) -> Places:
    """With these, who were invited to version `number` just now."""
    return {**places, **{one: Place(number, at, at + patience_s) for one in sorted(clients)}}


def left(places: Places, client: ClientId, number: RoundId) -> Places:
    """Without the client, which is done with version `number` and was not invited to a newer one
    meanwhile."""
    place = places.get(client)
    if place is None or place.round > number:
        return places
    return {one: place for one, place in places.items() if one != client}


def away(places: Places, client: ClientId, since: Seconds | None) -> Places:
    """The client has gone, or (None) is there."""
    place = places.get(client)
    if place is None or (place.away_since is None) == (since is None):
        return places
    return {**places, client: replace(place, away_since=since)}


def ends_at(place: Place, grace_s: Seconds) -> Seconds:
    """When the place is free, should nothing be heard of who has it."""
    if place.away_since is None:
        return place.until
    return min(place.until, place.away_since + grace_s)


def next_end(places: Places, grace_s: Seconds) -> Seconds | None:
    return min((ends_at(place, grace_s) for place in places.values()), default=None)


def cleared(
    places: Places, at: Seconds, grace_s: Seconds, oldest: int
) -> tuple[Places, list[ClientId]]:
    """Without those whose place has ended, and who of them was silent though it seemed there.

    Who began with a version before the `oldest` gives up, as its answer would not count.
    """

    def is_over(place: Place) -> bool:
        return place.round < oldest or ends_at(place, grace_s) <= at

    over = sorted(one for one, place in places.items() if is_over(place))
    if not over:
        return places, []
    silent = [one for one in over if places[one].away_since is None and places[one].round >= oldest]
    return {one: place for one, place in places.items() if not is_over(place)}, silent


def heard_again(places: Places, deaf_s: Seconds, until: Seconds) -> Places:
    """Nobody could be heard for `deaf_s`: all get the time back, and who was away has until then to
    come."""
    return {
        one: replace(
            place,
            invited_at=None if place.invited_at is None else place.invited_at + deaf_s,
            until=place.until + deaf_s,
            away_since=None if place.away_since is None else until,
        )
        for one, place in places.items()
    }


def recovered(
    invitations: Iterable[tuple[RoundId, Clients, Clients]],
    concurrency: int,
    at: Seconds,
    patience_s: Seconds,
) -> Places:
    """Of a coordinator that comes back, from (version, who was invited, whose answer came), newest
    first: those who owe an answer to the newest version they were invited to.

    They are away until the broker tells otherwise, and who is there has a whole round's time: since
    when each was at work, nobody knows any more.
    """
    places: dict[ClientId, Place] = {}
    seen: set[ClientId] = set()
    for number, clients, answered in invitations:
        for client in sorted(clients - seen - answered):
            if len(places) < concurrency:
                places[client] = Place(number, None, at + patience_s, away_since=at)
        seen |= clients
    return places
