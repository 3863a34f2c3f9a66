"""What a keyholder has said to the coordinator and holds until its receipt. Pure.

As a device's answer it is sent in one message, or announced and sent in chunks when the coordinator
says `Go`; at once, at each connect, and again when no receipt comes.
"""

from dataclasses import dataclass, replace

from fedmqtt.chunks import Ranges
from fedmqtt.effects import Seconds, WakeAt
from fedmqtt.messages import Announce, Go, Receipt
from fedmqtt.topics import Digest, RoundId, RunId

RESEND_S, _RESEND_MAX_S = 20.0, 600.0


@dataclass(frozen=True, slots=True)
class Sums:
    """An encoded answer."""

    run: RunId
    round: RoundId
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Owed:
    sums: Sums
    send_at: Seconds
    wait_s: Seconds = 0.0


@dataclass(frozen=True, slots=True)
class State:
    chunk_bytes: int = 0
    """What this connection carries in one message; 0: there is none."""
    owed: tuple[Owed, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    at: Seconds
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    pass


@dataclass(frozen=True, slots=True)
class Ready:
    """In the place of what was said in this round before."""

    at: Seconds
    sums: Sums


@dataclass(frozen=True, slots=True)
class Received:
    at: Seconds
    message: Go | Receipt


@dataclass(frozen=True, slots=True)
class Gone:
    """It cannot be sent any more."""

    sums: Sums


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = Connected | Disconnected | Ready | Received | Gone | Woke


@dataclass(frozen=True, slots=True)
class Send:
    """In one message."""

    sums: Sums


@dataclass(frozen=True, slots=True)
class Tell:
    """That there is one, which is too large for one message."""

    announce: Announce


@dataclass(frozen=True, slots=True)
class SendChunks:
    sums: Sums
    ranges: Ranges
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The coordinator has it, or wants none of it."""

    sums: Sums
    receipt: Receipt


Effect = WakeAt | Send | Tell | SendChunks | Settled


def step(state: State, event: Event) -> tuple[State, list[Effect]]:
    """The next state, and what the program must do about it. Never raises on any event."""
    following, effects = _decide(state, event)
    wake_at = _wake_at(following)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (isinstance(event, Woke) or wake_at != _wake_at(state)):
        effects.append(WakeAt(wake_at))
    return following, effects


def _decide(state: State, event: Event) -> tuple[State, list[Effect]]:
    match event:
        case Connected(at, chunk_bytes):
            owed = tuple(replace(one, send_at=at, wait_s=0.0) for one in state.owed)
            return _send_due(State(chunk_bytes, owed), at)
        case Disconnected():
            return replace(state, chunk_bytes=0), []
        case Ready(at, sums):
            others = tuple(one for one in state.owed if not _is_for(one, sums.run, sums.round))
            return _send_due(replace(state, owed=(*others, Owed(sums, at))), at)
        case Received(at, message):
            return _go(state, at, message) if isinstance(message, Go) else _settle(state, message)
        case Gone(sums):
            return replace(state, owed=tuple(one for one in state.owed if one.sums != sums)), []
        case Woke(at):
            return _send_due(state, at)


def _go(state: State, at: Seconds, go: Go) -> tuple[State, list[Effect]]:
    asked = [
        one for one in state.owed if _is_for(one, go.run, go.round) and one.sums.digest == go.digest
    ]
    if not asked or not state.chunk_bytes:
        return state, []
    # It is being taken: announcing it again would only add to the queue.
    owed = tuple(
        replace(one, send_at=at + one.wait_s) if one in asked else one for one in state.owed
    )
    sends: list[Effect] = [SendChunks(one.sums, go.ranges, state.chunk_bytes) for one in asked]
    return replace(state, owed=owed), sends


def _settle(state: State, receipt: Receipt) -> tuple[State, list[Effect]]:
    settled = [one for one in state.owed if _is_for(one, receipt.run, receipt.round)]
    left = tuple(one for one in state.owed if one not in settled)
    return replace(state, owed=left), [Settled(one.sums, receipt) for one in settled]


def _send_due(state: State, at: Seconds) -> tuple[State, list[Effect]]:
    if not state.chunk_bytes:
        return state, []
    owed: list[Owed] = []
    effects: list[Effect] = []
    for one in state.owed:
        if one.send_at <= at:
            wait_s = min(max(one.wait_s * 2, RESEND_S), _RESEND_MAX_S)
            owed.append(replace(one, send_at=at + wait_s, wait_s=wait_s))
            effects.append(_send(state, one.sums))
        else:
            owed.append(one)
    return replace(state, owed=tuple(owed)), effects


def _send(state: State, sums: Sums) -> Effect:
    if sums.size_bytes <= state.chunk_bytes:
        return Send(sums)
    announce = Announce(
        run=sums.run,
        round=sums.round,
        digest=sums.digest,
        size_bytes=sums.size_bytes,
        chunk_bytes=state.chunk_bytes,
    )
    return Tell(announce)


def _is_for(owed: Owed, run: RunId, round_id: RoundId) -> bool:
    return (owed.sums.run, owed.sums.round) == (run, round_id)


def _wake_at(state: State) -> Seconds | None:
    """When something is due though nobody says anything."""
    return min((one.send_at for one in state.owed), default=None) if state.chunk_bytes else None
