"""What a client reads of itself on the broker: its own words, late ones, or those of another. Pure.

Its presence is retained, so whoever wrote last is believed. Each connection has a token of its own,
and by the tokens a client tells who that was:

    this connection's         its last birth came through: what follows is newer
    an earlier connection's   late: say the birth again, or everyone thinks it is gone
    nobody's that it knows    a second client of this name
"""

from dataclasses import dataclass, replace
from typing import Literal

from fedmqtt.messages import Presence

Verdict = Literal["fine", "late", "stranger"]

_TOKENS_MAX = 32


@dataclass(frozen=True, slots=True)
class OwnPresence:
    token: str = ""
    """Of this connection, so that the will of an old one is recognised."""
    is_heard: bool = False
    """Whether the broker has shown us the last birth: what it shows after that came later."""
    was_heard: bool = False
    """Whether it ever has since this program started: earlier words may be of an earlier life."""
    earlier: tuple[str, ...] = ()
    """Tokens of this life's earlier connections, oldest first."""
    from_before: tuple[str, ...] = ()
    """Tokens that were there when this life began."""


def connected(own: OwnPresence, token: str) -> OwnPresence:
    earlier = (*own.earlier, own.token) if own.token else ()
    return replace(own, token=token, is_heard=False, earlier=earlier[-_TOKENS_MAX:])


def born_again(own: OwnPresence) -> OwnPresence:
    """The birth has been said once more: what the broker shows until it shows that is older."""
    return replace(own, is_heard=False)


def seen(own: OwnPresence, presence: Presence) -> tuple[OwnPresence, Verdict]:
    """What to make of what the broker shows as this client's presence."""
    token = presence.session
    if token == own.token and presence.online:
        return replace(own, is_heard=True, was_heard=True), "fine"
    is_ours = token in (own.token, *own.earlier)
    if own.is_heard:
        if is_ours:
            return own, "late"
        if presence.online:
            return own, "stranger"
        # The will of an earlier life of this program may come as late as that of a connection, and
        # twice.
        return _was_before(own, token), "late"
    # Older than our birth, which is on its way: answering would only multiply the echoes.
    if is_ours or token in own.from_before:
        return own, "fine"
    if own.was_heard and presence.online:
        # We were here before, and somebody else has been since. A goodbye proves nothing: it may be
        # of a connection of ours that we never knew was made.
        return own, "stranger"
    return _was_before(own, token), "fine"


def _was_before(own: OwnPresence, token: str) -> OwnPresence:
    return replace(own, from_before=(*own.from_before, token)[-_TOKENS_MAX:])
