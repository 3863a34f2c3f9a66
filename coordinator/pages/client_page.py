"""What is told of one client on its page. Pure.

Where answers are masked nothing here is of the client's data: when it took part, how long that
took, and what it does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from coordinator.intake import revoked_devices
from coordinator.intake.quarantine import Term
from coordinator.known import UNKNOWN
from coordinator.roster import Entry, Roster
from fedmqtt.effects import Seconds
from fedmqtt.logs import printable
from fedmqtt.messages import Activity
from fedmqtt.status_pages import ClientPage, ClientState
from fedmqtt.topics import ClientId

_WAITS = "waiting"


@dataclass(frozen=True, slots=True)
class Outs:
    """Who is left out: for how long and why, and whose keys were revoked."""

    quarantined: Mapping[ClientId, Term] = field(default_factory=dict)
    revoked: Collection[ClientId] = frozenset()


def page(
    client: ClientId,
    roster: Roster,
    told: Activity | None,
    outs: Outs,
    *,
    seen: float,
    now: float,
    at: Seconds,
) -> ClientPage:
    """But for when it is said. `told` is what it says that it does, where it says so; `seen` when
    it said something last, and `now` this moment, in seconds of the clock of the day; `at` is the
    same by the other clock."""
    entry, known = roster.clients.get(client), roster.knowledge.clients.get(client, UNKNOWN)
    state = _state(client, entry, outs)
    is_online = entry is not None and entry.online
    why_not = _why_not(client, entry, outs)
    if told is not None and told.round and told.round <= known.answered_last:
        # Phases that are over at once are not told: its answer is here.
        told = Activity(uplink_kbps=told.uplink_kbps, devices=told.devices)
    activity = told if told is not None and is_online else Activity()
    doing = (activity.doing or _WAITS) if told is not None and is_online else ""
    since = seen if entry is None else now - max(0.0, at - entry.since)
    return ClientPage(
        client=client,
        state=state,
        says=_says(state, doing, activity, why_not) + _behind(activity.devices),
        since=moment(since),
        doing=doing,
        round=activity.round,
        # Not a number is none that JSON has.
        progress=max(0.0, activity.progress),
        epoch=activity.epoch,
        epochs=activity.epochs,
        why_not=why_not,
        last_seen=moment(seen),
        rounds_invited=known.invited,
        rounds_answered=known.answered,
        answered_last=known.answered_last,
        duration_s=None if known.duration_s is None else round(known.duration_s, 3),
        uplink_kbps=max(0.0, activity.uplink_kbps) or None,
        devices=activity.devices,
        label=known.label,
        program="" if entry is None else printable(entry.presence.program),
    )


def _behind(devices: int) -> str:
    """Of a site."""
    return f" (for {devices:,} device{'s' if devices > 1 else ''})" if devices else ""


def _state(client: ClientId, entry: Entry | None, outs: Outs) -> ClientState:
    if client in outs.revoked:
        return "revoked"
    if client in outs.quarantined:
        return "quarantined"
    return "online" if entry is not None and entry.online else "away"


def _why_not(client: ClientId, entry: Entry | None, outs: Outs) -> str:
    if client in outs.revoked:
        return revoked_devices.WHY
    if (term := outs.quarantined.get(client)) is not None:
        return printable(term.why)
    if entry is None:
        return ""
    return printable(entry.hindrance or (entry.presence.note if entry.online else ""))


def _says(state: ClientState, doing: str, activity: Activity, why_not: str) -> str:
    because = f": {why_not}" if why_not else ""
    match state:
        case "revoked":
            # Its reason says so.
            return why_not
        case "quarantined":
            return f"{state}{because}"
        case "away":
            return "away"
        case "online" if doing in ("", _WAITS):
            return f"{doing or 'online'}{because}"
        case "online":
            in_epoch = f", epoch {activity.epoch} of {activity.epochs}" if activity.epoch else ""
            share = f", {activity.progress:.0%}" if activity.progress else ""
            return f"{doing} for round {activity.round}{in_epoch}{share}{because}"


def moment(seconds: float) -> str:
    """Of the clock of the day, as pages tell it."""
    return _iso(int(seconds))


@lru_cache(4096)
def _iso(seconds: int) -> str:
    # Those of a page are often those of the pages before it.
    return datetime.fromtimestamp(seconds, UTC).isoformat()
