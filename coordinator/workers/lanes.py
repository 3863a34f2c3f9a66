"""The coordinator's machine of workers: whose lanes are whose, and what each holds. Pure.

    comes ──▶ gets lanes ──▶ listens ──▶ claims ──▶ some are taken ──▶ collected ──▶ handed over
                                                      └── it is gone, or silent, or a message of
                                                          its is missing: they are lost

A lane has an owner, or none; the coordinator listens to it itself until the owner says that it
does. So whoever a lane moves to, somebody hears what comes in it, and sometimes two do.

What was taken and not handed over is nowhere but with its worker. So each worker is in a *session*:
when anything between it and the coordinator may have gone missing, the session is over, all that it
held is `Lose`d, and the next one begins with nothing. Sessions are named by who starts them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from coordinator.rounds import Named
from fedmqtt.effects import Note, Seconds, WakeAt
from fedmqtt.topics import ClientId

SAID_EVERY_S: Seconds = 5.0
"""How often a worker says that it is there."""

SILENT_S: Seconds = 4 * SAID_EVERY_S
"""A worker of which nothing was heard for so long is gone."""

WORKERS_MAX = 256
"""More are not taken note of: where nothing is signed anybody can make names up."""

STUCK_S: Seconds = 60.0
"""One that was asked for a sum, and has sent nothing for so long, begins anew."""

OWED_MAX_S: Seconds = 900.0
"""And one that has not sent that sum for so long, whatever else it says: the round waits for it. A
sum of 100 million numbers, 0.8 GB, takes 640 s at 10 Mbit/s."""

_GAP = "a message of its is missing"

_WHY_MAX = 500
"""Characters, in what a worker is told."""

SPOILT_MAX = 3
"""Times in a row that a worker was of no use: it gets no lanes for a while."""

SET_ASIDE_S: Seconds = 600.0
"""For so long, unless it connects anew. What was amiss may have been the way to it; the next time
is then one too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    lanes: int
    terms: int
    """So many answers are collected at once."""
    hand_over_s: Seconds
    """Or those that have waited for so long."""
    at_once: int
    """So many workers may be handing over at a time."""
    name: str
    """Of this start of the coordinator: sessions are named after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    token: str
    """Of its connection."""
    before: str = ""
    """Of the connection under this name before that, where it began with this session."""
    session: str
    version: int = 0
    """Of the lanes that it was told of last."""
    holds: frozenset[int] = frozenset()
    """Those that it has said it listens to."""
    heard_at: Seconds
    received: int = 0
    """Numbered messages, in this session."""
    taken: tuple[Named, ...] = ()
    """Not collected yet."""
    taken_since: Seconds = 0.0
    """The first of those."""
    asked: tuple[Named, ...] = ()
    """Collected, and not handed over yet."""
    asked_at: Seconds = 0.0
    """For those."""
    moved_at: Seconds = 0.0
    """When that was asked for, or something came of this worker since."""
    refused: str = ""
    """Why it gets no lanes."""
    back_at: Seconds = math.inf
    """When it gets lanes again all the same."""
    spoilt: int = 0
    """Times that it was of no use, since a sum of its was taken."""


@dataclass(frozen=True, slots=True)
class State:
    owners: tuple[ClientId | None, ...]
    """By lane."""
    workers: Mapping[ClientId, Worker] = field(default_factory=dict)
    sessions: int = 0
    """That were ever begun."""
    tokens: Mapping[ClientId, str] = field(default_factory=dict)
    """Of the newest connection under each name, also where that broke since; newest last."""
    is_hurried: bool = False
    """The round waits for nothing but what is to be handed over."""

    def own(self) -> frozenset[int]:
        """Lanes that the coordinator listens to."""
        return frozenset(
            lane
            for lane, owner in enumerate(self.owners)
            if owner is None or lane not in self.workers[owner].holds
        )

    def of(self, worker: ClientId) -> tuple[int, ...]:
        """Lanes that this worker is to listen to."""
        return tuple(lane for lane, owner in enumerate(self.owners) if owner == worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A worker has said that it is there."""

    at: Seconds
    worker: ClientId
    token: str
    session: str
    version: int
    said: int
    refused: str = ""
    """Why it is to get no lanes."""


@dataclass(frozen=True, slots=True)
class Left:
    """Its goodbye, or its will."""

    at: Seconds
    worker: ClientId
    token: str
    is_goodbye: bool = False
    """It has ended, and is no namesake of who comes next."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """One of its numbered messages has come."""

    at: Seconds
    worker: ClientId
    session: str
    number: int


@dataclass(frozen=True, slots=True)
class Took:
    """An answer that it claimed counts: it is to add it to its sum."""

    at: Seconds
    worker: ClientId
    named: Named


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Its sum is here, and is of what was asked for."""

    at: Seconds
    worker: ClientId


@dataclass(frozen=True, slots=True)
class Spoilt:
    """What it sent is not what was asked for."""

    at: Seconds
    worker: ClientId
    why: str


@dataclass(frozen=True, slots=True)
class Hurry:
    """Whether the round waits for nothing else has changed."""

    at: Seconds
    is_so: bool


@dataclass(frozen=True, slots=True)
class Deaf:
    """The coordinator's link is down, or the seat is another's."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = Said | Left | Numbered | Took | HandedOver | Spoilt | Hurry | Deaf | Woke


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen to these lanes, and to no others."""

    lanes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the worker its session and its lanes."""

    worker: ClientId


@dataclass(frozen=True, slots=True)
class Read:
    """The message that just came is the next one of its session."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Ask the worker for the sum of all that was taken from it up to now."""

    worker: ClientId


@dataclass(frozen=True, slots=True)
class Lose:
    """These were taken, and are gone with their worker."""

    answers: tuple[Named, ...]


Effect = Listen | Tell | Read | Collect | Lose | Note | WakeAt


def begin(rules: Rules) -> State:
    return State((None,) * rules.lanes)


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what is to be done about it, in this order. Never raises on any event."""
    was_at = _wake_at(state, rules)
    following, effects = _decide(state, event, rules)
    following, collects = _collect(following, event.at, rules)
    effects += collects
    # (These come with each answer, and move no lane.)
    if not isinstance(event, Took | HandedOver | Hurry) and following.own() != state.own():
        # First: who hears of new lanes may stop listening to others.
        effects.insert(0, Listen(following.own()))
    wake_at = _wake_at(following, rules)
    if wake_at is not None and (isinstance(event, Woke) or wake_at != was_at):
        effects.append(WakeAt(wake_at))
    return following, effects


def _decide(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    match event:
        case Said(worker=worker):
            return _hear(state, event, rules)
        case Left(_, worker, token, is_goodbye):
            known = state.workers.get(worker)
            if known is None or known.token != token:
                # A will of an old connection.
                return state, []
            if is_goodbye:
                others = {one: its for one, its in state.tokens.items() if one != worker}
                state = replace(state, tokens=others)
            return _without(state, [worker], "has left")
        case Numbered():
            return _count(state, event, rules)
        case Took(at, worker, named):
            if (known := state.workers.get(worker)) is None:
                return state, [Lose((named,))]
            since = known.taken_since if known.taken else at
            return _with(state, worker, taken=(*known.taken, named), taken_since=since), []
        case HandedOver(_, worker):
            done = {"asked": (), "spoilt": 0}
            return (_with(state, worker, **done) if worker in state.workers else state), []
        case Spoilt(at, worker, why):
            return _blame(state, worker, why, at, rules)
        case Hurry(_, is_so):
            return replace(state, is_hurried=is_so), []
        case Deaf():
            # Nor is it known what is said now of what was said when.
            state = replace(state, tokens={})
            following, effects = _without(state, sorted(state.workers), "")
            # Nothing is listened to over a link that is down.
            return following, [one for one in effects if not isinstance(one, Note)]
        case Woke(at):
            silent = [one for one, its in state.workers.items() if its.heard_at + SILENT_S <= at]
            state, effects = _without(state, sorted(silent), "is silent")
            stuck = [
                one for one, its in state.workers.items() if its.asked and _stuck_at(its) <= at
            ]
            for worker in sorted(stuck):
                state, more = _blame(state, worker, "hands over no sum", at, rules)
                effects += more
            state, more = _take_back(state, at)
            return state, [*effects, *more]


# Who is there


def _hear(state: State, event: Said, rules: Rules) -> tuple[State, list[Effect]]:
    worker, known = event.worker, state.workers.get(event.worker)
    if known is not None and event.token != known.token and event.refused != known.refused:
        # Another program of that name, perhaps, and the goodbye of the one before has not come: its
        # lanes are not this one's, nor is what it was refused for.
        state, gone = _without(state, [worker], "begins anew, and is judged anew")
        state, effects = _hear(state, event, rules)
        return state, [*gone, *effects]
    if known is None and len(state.workers) >= WORKERS_MAX:
        return state, []
    if known is None:
        session = _session(state, rules)
        before = state.tokens.get(worker, "")
        new = Worker(
            token=event.token,
            before=before if before != event.token else "",
            session=session,
            heard_at=event.at,
            refused=event.refused,
        )
        state = replace(state, workers={**state.workers, worker: new}, sessions=state.sessions + 1)
        state = _note_token(state, worker)
        dealt, effects = _deal(state)
        told = [] if Tell(worker) in effects else [Tell(worker)]
        return dealt, [Note("worker", f"{worker} is there"), *effects, *told]
    state = _with(state, worker, heard_at=event.at)
    if event.token != known.token:
        return _begin_again(state, worker, "begins anew", rules, token=event.token)
    if not event.session:
        return _lose_place(state, worker, "it has lost its place, and begins anew", event.at, rules)
    if event.session != known.session:
        return state, [Tell(worker)]
    if event.said > known.received:
        return _lose_place(state, worker, _GAP, event.at, rules)
    if event.version == known.version:
        return _with(state, worker, holds=frozenset(state.of(worker))), [Tell(worker)]
    return state, [Tell(worker)]


def _count(state: State, event: Numbered, rules: Rules) -> tuple[State, list[Effect]]:
    known = state.workers.get(event.worker)
    if known is None or event.session != known.session or event.number <= known.received:
        # Of a session that is over; or the copy of one that came.
        return state, []
    if event.number > known.received + 1:
        return _lose_place(state, event.worker, _GAP, event.at, rules)
    moved = {"heard_at": event.at, "moved_at": event.at}
    following = _with(state, event.worker, received=event.number, **moved)
    # Who gets no lanes has nothing to say of clients.
    return following, [] if known.refused else [Read()]


def _lose_place(
    state: State, worker: ClientId, why: str, at: Seconds, rules: Rules
) -> tuple[State, list[Effect]]:
    """A message between it and us is missing."""
    if _lost(state.workers[worker]):
        return _blame(state, worker, why, at, rules)
    # It costs nobody anything.
    return _begin_again(state, worker, why, rules)


def _begin_again(
    state: State, worker: ClientId, why: str, rules: Rules, token: str = ""
) -> tuple[State, list[Effect]]:
    """Another session with this worker, and no lanes that it is sure to listen to."""
    known = state.workers.get(worker)
    if known is None:
        return state, []
    new = Worker(
        token=token or known.token,
        before=known.token if token and token != known.token else "",
        session=_session(state, rules),
        version=known.version + 1,
        heard_at=known.heard_at,
        refused=known.refused,
        back_at=known.back_at,
        spoilt=known.spoilt if not token or token == known.token else 0,
    )
    workers = {**state.workers, worker: new}
    effects: list[Effect] = [Tell(worker), Note("worker", f"{worker}: {why}")]
    following = replace(state, workers=workers, sessions=state.sessions + 1)
    return _note_token(following, worker), [*effects, *_lost(known)]


def _blame(
    state: State, worker: ClientId, why: str, at: Seconds, rules: Rules
) -> tuple[State, list[Effect]]:
    """Another session, and at last no lanes: else its clients would send for nothing for ever."""
    if worker not in state.workers:
        return state, []
    spoilt = state.workers[worker].spoilt + 1
    state, effects = _begin_again(state, worker, why, rules)
    state = _with(state, worker, spoilt=spoilt)
    if spoilt < SPOILT_MAX:
        return state, effects
    told = (
        f"for {SET_ASIDE_S / 60:.0f} minutes, as it was of no use {spoilt} times in a row,"
        f" the last time for this: {why}"
    )
    aside = _with(state, worker, refused=told[:_WHY_MAX], back_at=at + SET_ASIDE_S)
    state, dealt = _deal(aside)
    return state, [*dealt, *effects]


def _take_back(state: State, at: Seconds) -> tuple[State, list[Effect]]:
    """Who was set aside for long enough."""
    back = sorted(one for one, its in state.workers.items() if its.back_at <= at)
    if not back:
        return state, []
    for worker in back:
        state = _with(state, worker, refused="", back_at=math.inf)
    state, dealt = _deal(state)
    # Also who gets none, as there are more workers than lanes.
    told = [*dealt, *(Tell(one) for one in back if Tell(one) not in dealt)]
    return state, [*told, *(Note("worker", f"{one} is tried once more") for one in back)]


def _without(state: State, gone: list[ClientId], why: str) -> tuple[State, list[Effect]]:
    if not gone:
        return state, []
    lost = [effect for one in gone for effect in _lost(state.workers[one])]
    left = {one: its for one, its in state.workers.items() if one not in gone}
    owners = tuple(None if owner in gone else owner for owner in state.owners)
    state, effects = _deal(replace(state, workers=left, owners=owners))
    notes: list[Effect] = [Note("worker", f"{one} {why}") for one in gone]
    return state, [*notes, *effects, *lost]


def _note_token(state: State, worker: ClientId) -> State:
    others = [(one, token) for one, token in state.tokens.items() if one != worker]
    newest = [*others, (worker, state.workers[worker].token)][-WORKERS_MAX:]
    return replace(state, tokens=dict(newest))


def _lost(worker: Worker) -> list[Effect]:
    held = (*worker.asked, *worker.taken)
    return [Lose(held)] if held else []


def _session(state: State, rules: Rules) -> str:
    return f"{rules.name}{state.sessions + 1:08x}"


# Lanes


def _deal(state: State) -> tuple[State, list[Effect]]:
    """Give each worker its share of the lanes. Who has too many loses some, and no others move."""
    able = sorted(one for one, its in state.workers.items() if not its.refused)
    owners = dealt(state.owners, able)
    moved = [one for one in able if _of(owners, one) != state.of(one)]
    workers = dict(state.workers)
    for one in moved:
        keeps = workers[one].holds.intersection(_of(owners, one))
        workers[one] = replace(workers[one], version=workers[one].version + 1, holds=keeps)
    return replace(state, owners=owners, workers=workers), [Tell(one) for one in moved]


def dealt(
    before: tuple[ClientId | None, ...], workers: list[ClientId]
) -> tuple[ClientId | None, ...]:
    """Owners of lanes: of `workers` none has two more than another, and few lanes move."""
    if not workers:
        return (None,) * len(before)
    least, more = divmod(len(before), len(workers))
    # Who has most already has the lanes that are over.
    had = {one: before.count(one) for one in workers}
    in_order = sorted(workers, key=lambda one: (-had[one], one))
    room = {one: least + (place < more) for place, one in enumerate(in_order)}
    owners: list[ClientId | None] = []
    for owner in before:
        keeps = owner is not None and room.get(owner, 0) > 0
        owners.append(owner if keeps else None)
        if keeps and owner is not None:
            room[owner] -= 1
    free = iter([one for one in in_order for _ in range(room[one])])
    return tuple(next(free) if owner is None else owner for owner in owners)


def _of(owners: tuple[ClientId | None, ...], worker: ClientId) -> tuple[int, ...]:
    return tuple(lane for lane, owner in enumerate(owners) if owner == worker)


# What is handed over


def _collect(state: State, at: Seconds, rules: Rules) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for worker in sorted(state.workers, key=lambda one: (state.workers[one].taken_since, one)):
        known = state.workers[worker]
        busy = sum(bool(its.asked) for its in state.workers.values())
        if known.asked or busy >= rules.at_once or not _is_due(state, known, at, rules):
            continue
        state = _with(state, worker, asked=known.taken, taken=(), asked_at=at, moved_at=at)
        effects.append(Collect(worker))
    return state, effects


def _is_due(state: State, worker: Worker, at: Seconds, rules: Rules) -> bool:
    if not worker.taken:
        return False
    is_old = at >= worker.taken_since + rules.hand_over_s
    return is_old or state.is_hurried or len(worker.taken) >= rules.terms


def _stuck_at(worker: Worker) -> Seconds:
    """When it is waited for no more, unless something comes of it."""
    return min(worker.moved_at + STUCK_S, worker.asked_at + OWED_MAX_S)


def _wake_at(state: State, rules: Rules) -> Seconds | None:
    """When something is due though nobody says anything."""
    moments = [its.heard_at + SILENT_S for its in state.workers.values()]
    moments += [_stuck_at(its) for its in state.workers.values() if its.asked]
    moments += [its.back_at for its in state.workers.values()]
    if sum(bool(its.asked) for its in state.workers.values()) < rules.at_once:
        # Else the end of another's sum is waited for.
        moments += [
            its.taken_since + rules.hand_over_s
            for its in state.workers.values()
            if its.taken and not its.asked
        ]
    return min(moments, default=None)


def _with(state: State, worker: ClientId, **changes: object) -> State:
    changed = replace(state.workers[worker], **changes)  # type: ignore[arg-type]
    return replace(state, workers={**state.workers, worker: changed})
