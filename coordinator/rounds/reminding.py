"""Who is told of the open round again: what was said to all can be lost to some.

    offer ── pause ──▶ Remind ── 2 pauses ──▶ Remind ── 4 pauses ──▶ Remind, and no more,
                                                        but to who comes back after that

A broker owes a subscriber each offer, and does not always pay: a node of a cluster that has just
been away shows what was retained before, or none at all; a subscription may begin a moment after an
offer was passed on. On MQTT 3.1.1 a client looks at the board when it connects, and never after: a
round would wait for it until its deadline.

The coordinator knows who is missing. It says the offer again to those alone, in their inboxes, so
that a fleet that is well costs nothing, and no idle client has to ask. A client takes an offer up
once, however often it comes.
"""

from dataclasses import replace

from coordinator.roster import Roster
from coordinator.rounds.effects import Effect, Remind
from coordinator.rounds.names import NOBODY
from coordinator.rounds.opening import spread_s
from coordinator.rounds.state import Collecting, Rules
from fedmqtt import pace
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId

REMINDERS = 3
"""Of all who are silent, in one round."""

_PATIENCE = 2
"""A pause lasts so many times as long as a client at work may take to say that it is."""


def came_back(state: Collecting, at: Seconds, client: ClientId) -> Collecting:
    """The client has connected anew. It has looked at the board by that, and may have been shown an
    old one; and nobody is to be told any more."""
    if state.reminders < REMINDERS or not state.owes(client):
        return state
    said_at = state.said_at if state.came_since else at
    return replace(state, said_at=said_at, came_since=state.came_since | {client})


def remind_at(state: Collecting, rules: Rules, roster: Roster) -> Seconds | None:
    """When somebody is to be told again, should nothing be heard until then."""
    # In a quiet federation nobody knows who is missing.
    if not rules.remind_s or state.is_quiet or state.closing:
        return None
    pause_s = max(rules.remind_s, _PATIENCE * pace.told_after_s(spread_s(rules, roster)))
    if state.reminders < REMINDERS:
        due_at = state.said_at + pause_s * 2**state.reminders
    elif state.came_since:
        due_at = state.said_at + pause_s
    else:
        return None
    return due_at if due_at < state.closes_at else None


def remind_if_due(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[Collecting, list[Effect]]:
    due_at = remind_at(state, rules, roster)
    if due_at is None or at < due_at:
        return state, []
    owing = state.outstanding | state.evaluations_outstanding
    if state.reminders >= REMINDERS:
        owing &= state.came_since
    silent = tuple(sorted(one for one in owing - state.away.keys() if roster.is_online(one)))
    reminders = min(REMINDERS, state.reminders + 1)
    state = replace(state, said_at=at, reminders=reminders, came_since=NOBODY)
    return state, [Remind(state.round, silent)] if silent else []
