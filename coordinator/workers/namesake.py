"""Whether another worker has this one's name: by what the broker does, and the coordinator. Pure.

The coordinator tells each connection of a worker's whose token it heard under that name before. One
that is of none of this program's, after the coordinator has told this program something already, is
another's (as in `fedmqtt/own_presence.py`). Or it is of an earlier life, and its word came late: a
cluster's nodes may hold back what was said. So it must be seen again and again, which takes as long
as a word of this program's in between.

Both see each other, and one is to go on: a stranger counts for who has the greater token. (NATS
lets both in, at two nodes; they speak in turn, and would have ended in the same second.)
"""

from dataclasses import dataclass, field, replace

from fedmqtt import namesakes, own_presence
from fedmqtt.effects import Seconds
from fedmqtt.messages import Presence
from fedmqtt.own_presence import OwnPresence
from fedmqtt.topics import ClientId

_STRANGERS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    own: OwnPresence = field(default_factory=OwnPresence)
    session: str = ""
    """The newest: the coordinator says the same of all of it, again and again."""
    strangers: int = 0
    """Sessions before which the coordinator had heard another, of a lesser token."""
    up_since: Seconds | None = None
    """The connection; None: there is none."""
    thrown_out: int = 0
    """Times in a row."""


def connected(state: State, at: Seconds, token: str) -> State:
    return replace(state, own=own_presence.connected(state.own, token), up_since=at)


def disconnected(state: State, at: Seconds, *, thrown_out: bool) -> State:
    if state.up_since is None:
        return state
    lasted_s = at - state.up_since
    times = namesakes.thrown_out(state.thrown_out, lasted_s, by_broker=thrown_out)
    return replace(state, up_since=None, thrown_out=times)


def told(state: State, session: str, before: str) -> State:
    """By the coordinator, which had heard a connection of the token `before`, or none, before that
    with which it has this session."""
    own, verdict = state.own, "fine"
    if before and session != state.session:
        own, verdict = own_presence.seen(own, Presence(online=True, session=before))
    own, _ = own_presence.seen(own, Presence(online=True, session=own.token))
    strangers = state.strangers + (verdict == "stranger" and before < own.token)
    return replace(state, own=own, session=session, strangers=strangers)


def is_certain(state: State) -> bool:
    return state.strangers >= _STRANGERS_MAX


def suspicion(state: State, worker: ClientId) -> str:
    """What its owner is told while nothing is certain; or nothing."""
    return namesakes.suspicion(state.thrown_out, namesakes.is_another_worker(worker))
