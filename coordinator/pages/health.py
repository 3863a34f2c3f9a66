"""Whether a federation is well, in a word and a sentence: what every view shows first. Pure.

    trouble   something does not get better by itself: somebody should look
    waiting   nothing is wrong, and nothing goes on
    ok        all else; the sentence then tells how far it is, and whether the model improves

That a model does not improve any more is a fact and no trouble: that is how training ends. Whether
it does, `fedmqtt/improvement.py` finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.rounds import MEASURED
from fedmqtt.effects import Seconds
from fedmqtt.improvement import NOT_MEASURED, Trend
from fedmqtt.status_pages import Doing, Health, RoundLine
from fedmqtt.topics import ClientId

KEPT_MAX = 3
"""So many rounds in a row without a new model are trouble. Who is lost is counted over so many."""
LOST_MAX = 0.5
"""Of those who were invited: a larger share that drops out, or is rejected, is trouble."""
DEADLINES_MAX = 5
STILL_MIN_S: Seconds = 600.0
"""Nothing has gone on for so many rounds' deadlines, and for so long at least: trouble."""

_NAMED = 3
"""Of more clients that are missing, the first ones are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What the verdict goes by."""

    doing: Doing
    says: str
    """What the coordinator does, in a sentence."""
    lines: Sequence[RoundLine] = ()
    """The last rounds, oldest first."""
    trend: Trend = NOT_MEASURED
    """Whether the model still improves."""
    still_s: Seconds = 0.0
    """How long ago a round opened or closed, or an answer counted."""
    deadline_s: Seconds = 0.0
    """How long a round may take."""
    online: int = 0
    known: int = 0
    fleet: str = ""
    """Of a quiet federation, where nobody is online or known: how many would answer, in words."""
    away: Sequence[ClientId] = ()
    quarantined: Sequence[ClientId] = ()
    revoked: Sequence[ClientId] = ()
    keyholders_missing: str = ""
    """Which ones the next round, or the sum of the last one, waits for, in a sentence."""
    paused: bool = False
    """By an operator, who knows that nothing goes on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    health: Health
    why: str


def verdict(signs: Signs) -> Verdict:
    if signs.doing in ("finished", "stopped"):
        health: Health = "ok" if signs.doing == "finished" else "waiting"
        return Verdict(health, _joined(signs.says, progress(signs.trend)))
    if not signs.paused and (found := _troubles(signs)):
        return Verdict("trouble", _joined(*found, _there(signs)))
    health = "waiting" if signs.doing in ("starting", "waiting") else "ok"
    return Verdict(health, _joined(signs.says, _there(signs), progress(signs.trend)))


def progress(trend: Trend) -> str:
    """Whether the model still improves, as a part of a sentence; empty before it was measured."""
    match trend.better:
        case "yes":
            return trend.why.replace("Yes: ", "the model improves: ", 1)
        case "no":
            return trend.why.replace("No: ", "the model does not improve any more: ", 1)
        case "early":
            return trend.why
        case "unknown":
            return ""


def _troubles(signs: Signs) -> list[str]:
    trained = (line for line in signs.lines if line.outcome != "evaluated")
    lines = [line for line in trained if line.reason != MEASURED]
    found = [_kept(lines), *_lost(lines), _still(signs)]
    if signs.doing in ("waiting", "averaging") and signs.keyholders_missing:
        found.append(signs.keyholders_missing)
    return [one for one in found if one]


def _kept(lines: Sequence[RoundLine]) -> str:
    last = lines[-KEPT_MAX:]
    if len(last) < KEPT_MAX or any(line.outcome != "kept" for line in last):
        return ""
    return f"the last {KEPT_MAX} rounds made no model: {last[-1].reason}"


def _lost(lines: Sequence[RoundLine]) -> list[str]:
    last = lines[-KEPT_MAX:]
    invited = sum(line.invited for line in last)
    if len(last) < KEPT_MAX or not invited:
        return []
    rounds = f"in the last {KEPT_MAX} rounds"
    counted = {
        f"that were invited did not answer {rounds}": sum(line.dropped for line in last),
        f"that were invited had their answers rejected {rounds}": sum(
            line.rejected for line in last
        ),
    }
    return [
        f"{lost} of {invited} {what}" for what, lost in counted.items() if lost > LOST_MAX * invited
    ]


def _still(signs: Signs) -> str:
    most_s = max(STILL_MIN_S, DEADLINES_MAX * signs.deadline_s)
    if signs.still_s <= most_s:
        return ""
    return f"nothing has gone on for {_duration(signs.still_s)}: {signs.says}"


def _there(signs: Signs) -> str:
    if not signs.known and not signs.fleet:
        return "no client has been heard of"
    missing = {
        "away": signs.away,
        "in quarantine": signs.quarantined,
        "revoked": signs.revoked,
    }
    told = [f"{what}: {_names(clients)}" for what, clients in missing.items() if clients]
    there = signs.fleet or f"{signs.online} of {signs.known} clients online"
    return _joined(there, *told)


def _names(clients: Sequence[ClientId]) -> str:
    named = ", ".join(clients[:_NAMED])
    return named if len(clients) <= _NAMED else f"{named} and {len(clients) - _NAMED} more"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _duration(seconds: Seconds) -> str:
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
