"""A worker's machine: which answers it has asked about, and which are in its sum. Pure.

    Came ──▶ Check ──▶ asked ──Taken──▶ Add ──▶ in the sum ──Collected──▶ HandOver ──▶ forgotten
                         └──Refused──▶ Drop

It remembers nothing for anybody: what is lost with it is sent again by its client. So all that it
holds belongs to a session, which the coordinator names, and goes with it.
"""

from dataclasses import dataclass, replace

from coordinator.rounds import Named
from fedmqtt.topics import ClientId, RoundId, RunId

_NO_RUN, _NO_ROUND = RunId(""), RoundId(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    token: str = ""
    """Of the connection; none: there is none."""
    session: str = ""
    version: int = 0
    lanes: frozenset[int] = frozenset()
    received: int = 0
    """Numbered messages, in this session."""
    run: RunId = _NO_RUN
    round: RoundId = _NO_ROUND
    """Those before it are closed."""
    asked: frozenset[Named] = frozenset()
    taken: tuple[Named, ...] = ()
    """In the sum that is handed over next."""
    handed: frozenset[Named] = frozenset()
    """Handed over, of the open round: what comes of those is a copy."""


@dataclass(frozen=True, slots=True)
class Connected:
    token: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class LanesCame:
    token: str
    session: str
    version: int
    lanes: frozenset[int]
    said: int
    run: RunId
    round: RoundId


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictsCame:
    session: str
    number: int
    round: RoundId
    taken: tuple[ClientId, ...] = ()
    refused: tuple[Named, ...] = ()
    collects: bool = False


@dataclass(frozen=True, slots=True)
class Came:
    """An update, whole."""

    named: Named
    run: RunId


@dataclass(frozen=True, slots=True)
class Full:
    """There is no room for what this update holds: it is as if it had not come."""

    named: Named


Event = Connected | Disconnected | LanesCame | VerdictsCame | Came | Full


@dataclass(frozen=True, slots=True)
class SayHere:
    """Tell the coordinator at once where we are."""


@dataclass(frozen=True, slots=True)
class Listen:
    """To these lanes, and to no others."""

    lanes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Begin:
    """Another session: forget all that is held, and count messages from 1."""


@dataclass(frozen=True, slots=True)
class Check:
    """Look at the numbers of the update that just came, and claim it."""

    named: Named


@dataclass(frozen=True, slots=True)
class ClaimUnseen:
    """Claim it without a look: it cannot count."""

    named: Named


@dataclass(frozen=True, slots=True)
class Add:
    """Add what is held of this update to the sum, and let go of it."""

    named: Named


@dataclass(frozen=True, slots=True)
class Drop:
    """Let go of what is held of this update."""

    named: Named


@dataclass(frozen=True, slots=True)
class HandOver:
    """Send the sum of all that was added since the last time."""

    round: RoundId


@dataclass(frozen=True, slots=True)
class Admit:
    """The Verdicts that just came count, with what else they say."""


Effect = SayHere | Listen | Begin | Check | ClaimUnseen | Add | Drop | HandOver | Admit


def step(state: State, event: Event) -> tuple[State, list[Effect]]:
    """The next state, and what is to be done about it, in this order. Never raises on any event."""
    match event:
        case Connected(token):
            return State(token=token), [Begin(), SayHere()]
        case Disconnected():
            return State(), [Begin()]
        case LanesCame():
            return _take_lanes(state, event)
        case VerdictsCame():
            return _take_verdicts(state, event)
        case Came(named, run):
            return _take_in(state, named, run)
        case Full(named):
            return replace(state, asked=state.asked - {named}), []


def _take_lanes(state: State, event: LanesCame) -> tuple[State, list[Effect]]:
    if not state.token or event.token != state.token:
        # Said to a connection of before.
        return state, []
    effects: list[Effect] = []
    if event.session != state.session:
        state = State(token=state.token, session=event.session, lanes=state.lanes)
        effects.append(Begin())
    elif event.said > state.received:
        return _lose(state)
    if event.lanes != state.lanes:
        effects.append(Listen(event.lanes))
    if event.version != state.version:
        # It waits for our word that we listen.
        effects.append(SayHere())
    is_over = (event.run, event.round) != (state.run, state.round)
    return replace(
        state,
        version=event.version,
        lanes=event.lanes,
        run=event.run,
        round=event.round,
        handed=frozenset() if is_over else state.handed,
    ), effects


def _take_verdicts(state: State, event: VerdictsCame) -> tuple[State, list[Effect]]:
    if not state.session or event.session != state.session or event.number <= state.received:
        return state, []
    if event.number > state.received + 1:
        return _lose(state)
    effects: list[Effect] = [Admit()]
    taken = [Named(client, event.round) for client in event.taken]
    if any(named not in state.asked for named in taken):
        # What is not here cannot be added: the coordinator is to take it back.
        return _lose(state)
    effects += [Add(named) for named in taken]
    effects += [Drop(named) for named in event.refused if named in state.asked]
    state = replace(
        state,
        received=event.number,
        asked=state.asked.difference(taken, event.refused),
        taken=(*state.taken, *taken),
    )
    if event.collects and state.taken:
        effects.append(HandOver(event.round))
        state = replace(state, handed=state.handed.union(state.taken), taken=())
    return state, effects


def _lose(state: State) -> tuple[State, list[Effect]]:
    """A message to us is missing: ask for another session."""
    return State(token=state.token, lanes=state.lanes), [Begin(), SayHere()]


def _take_in(state: State, named: Named, run: RunId) -> tuple[State, list[Effect]]:
    if not state.session or named in state.asked:
        # Nobody would answer a claim; or the answer is on its way.
        return state, []
    is_old = run != state.run or named.round < state.round
    if is_old or named in state.taken or named in state.handed:
        return state, [ClaimUnseen(named)]
    return replace(state, asked=state.asked | {named}), [Check(named)]
