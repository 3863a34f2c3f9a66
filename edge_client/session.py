"""The client's machine: which offer it takes, what it owes, and when it tries again. Pure.

                     invited, willing            model here
    job:      None ──────────────────▶ Fetching ───────────▶ Working ──▶ None
                ▲                         │ round over, superseded, owner said no │
                └─────────────────────────┴───────────────────────────────────────┘

An answer that is finished is *owed* until its receipt comes, whatever happens to the link: it lies
in the outbox on disk, and is sent at each connect and again when no receipt comes.
"""

from dataclasses import dataclass, field, replace

from fedmqtt.chunks import Ranges
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    WIRE_VERSION,
    Announce,
    Decline,
    Go,
    ModelRef,
    Offer,
    Presence,
    Purpose,
    Receipt,
    TimeLeft,
)
from fedmqtt.topics import ANNOUNCE, ClientId, Digest, PresenceOf, RoundId, UpdatePart, lane_of

_JUST_SENT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the device's owner decided."""

    client: ClientId
    task: str
    purposes: tuple[Purpose, ...] = ("train", "evaluate")
    program: str = ""
    resend_s: Seconds = 20.0
    """Without a receipt, an answer is sent again after this, then after twice as long, ..."""
    resend_max_s: Seconds = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer in the outbox."""

    round: RoundId
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Owed:
    """An answer without a receipt. `lane` is where it goes."""

    answer: Answer
    lane: int
    send_at: Seconds = 0.0
    wait_s: Seconds = 0.0
    run: str = ""
    """Of the offer it answers; unknown for what an earlier life of this program left."""

    def is_for(self, offer: Offer) -> bool:
        return self.answer.round == offer.round and self.run in ("", offer.run)


@dataclass(frozen=True, slots=True)
class Fetching:
    offer: Offer
    purpose: Purpose
    closes_at: Seconds


@dataclass(frozen=True, slots=True)
class Working:
    offer: Offer
    purpose: Purpose
    closes_at: Seconds


Job = Fetching | Working


@dataclass(frozen=True, slots=True)
class Session:
    online: bool = False
    token: str = ""
    """Of this connection, so that the will of an old one is recognised."""
    heard_itself: bool = False
    """Whether the broker has shown us the last birth: what it shows after that came later."""
    chunk_bytes: int = 0
    """What this connection can carry in one message."""
    hindrance: str = ""
    """Why the owner's conditions forbid taking part now; empty when they hold."""
    trouble: str = ""
    """What went wrong last, for people who look at the presence."""
    job: Job | None = None
    seen: tuple[str, RoundId] | None = None
    """Run and round of the last offer that was taken or turned down; each is considered once."""
    owed: tuple[Owed, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Started:
    """The program starts and finds these answers in its outbox."""

    at: Seconds
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    at: Seconds
    token: str
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    at: Seconds


@dataclass(frozen=True, slots=True)
class Offered:
    at: Seconds
    offer: Offer
    expires_in_s: Seconds | None = None
    """What the broker counted down while the offer lay there, where it does (MQTT 5)."""


@dataclass(frozen=True, slots=True)
class OfferWithdrawn:
    at: Seconds


@dataclass(frozen=True, slots=True)
class ModelFetched:
    at: Seconds
    digest: Digest


@dataclass(frozen=True, slots=True)
class Finished:
    """Training or evaluating is done; the answer lies in the outbox."""

    at: Seconds
    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """The model could not be had, or the trainer did not survive, or the task refused."""

    at: Seconds
    round: RoundId
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """The coordinator wrote to this client's inbox."""

    at: Seconds
    message: Receipt | Go | TimeLeft


@dataclass(frozen=True, slots=True)
class PresenceSeen:
    """What the broker keeps as this client's presence."""

    at: Seconds
    presence: Presence


@dataclass(frozen=True, slots=True)
class ConditionsChanged:
    at: Seconds
    hindrance: str


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = (
    Started
    | Connected
    | Disconnected
    | Offered
    | OfferWithdrawn
    | ModelFetched
    | Finished
    | Failed
    | Received
    | PresenceSeen
    | ConditionsChanged
    | Woke
)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get this model to disk; `ModelFetched` or `Failed` follows. Again means: go on."""

    round: RoundId
    model: ModelRef


@dataclass(frozen=True, slots=True)
class Work:
    """Train or evaluate; `Finished` or `Failed` follows."""

    offer: Offer
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up fetching or working on this round; no event follows."""

    round: RoundId


@dataclass(frozen=True, slots=True)
class Send:
    """Send a whole answer in one message."""

    answer: Answer
    lane: int


@dataclass(frozen=True, slots=True)
class SendChunks:
    answer: Answer
    lane: int
    ranges: Ranges
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the answer from the outbox: it has its receipt."""

    answer: Answer


Effect = Publish | WakeAt | Note | Fetch | Work | Stop | Send | SendChunks | Forget


def step(state: Session, event: Event, rules: Rules) -> tuple[Session, list[Effect]]:
    """The next state, and what the agent must do about it. Never raises on any event."""
    following, effects = _decide(state, event, rules)
    wake_at = _wake_at(following)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (isinstance(event, Woke) or wake_at != _wake_at(state)):
        effects.append(WakeAt(wake_at))
    return following, effects


def presence(state: Session, rules: Rules) -> Presence:
    """What this client says of itself while it is connected."""
    return Presence(
        online=True,
        session=state.token,
        task=rules.task,
        purposes=() if state.hindrance else rules.purposes,
        program=rules.program,
        note=state.hindrance or state.trouble,
    )


def _decide(state: Session, event: Event, rules: Rules) -> tuple[Session, list[Effect]]:
    match event:
        case Started(at, answers):
            owed = tuple(Owed(answer, _lane(rules, 1), at) for answer in answers)
            return replace(state, owed=owed), []
        case Connected():
            return _connect(state, event, rules)
        case Disconnected():
            return replace(state, online=False), []
        case Offered():
            return _consider(state, event, rules)
        case OfferWithdrawn():
            return _drop_job(state)
        case ModelFetched(_, digest):
            return _start_work(state, digest)
        case Finished(at, answer):
            return _finish(state, at, answer, rules)
        case Failed(_, round_id, reason):
            return _fail(state, round_id, reason, rules)
        case Received(at, message):
            return _receive(state, at, message)
        case PresenceSeen(_, seen):
            return _correct(state, seen, rules)
        case ConditionsChanged(_, hindrance):
            return _change_conditions(state, hindrance, rules)
        case Woke(at):
            return _wake(state, at, rules)


# Coming and going


def _connect(state: Session, event: Connected, rules: Rules) -> tuple[Session, list[Effect]]:
    state = replace(
        state,
        online=True,
        token=event.token,
        chunk_bytes=event.chunk_bytes,
        heard_itself=False,
    )
    effects: list[Effect] = [_birth(state, rules)]
    if isinstance(state.job, Fetching):
        # Subscriptions of a lost connection may be gone: ask again for what is still missing.
        effects.append(Fetch(state.job.offer.round, state.job.offer.model))
    state, sends = _send_due(_all_due(state, event.at), event.at, rules)
    return state, effects + sends


def _all_due(state: Session, at: Seconds) -> Session:
    owed = tuple(replace(one, send_at=at, wait_s=0.0) for one in state.owed)
    return replace(state, owed=owed)


def _correct(state: Session, seen: Presence, rules: Rules) -> tuple[Session, list[Effect]]:
    if not state.online:
        return state, []
    if seen.session == state.token and seen.online:
        return replace(state, heard_itself=True), []
    if not state.heard_itself:
        # Older than our birth, which is on its way: answering would only multiply the echoes.
        return state, []
    # The broker may publish the will of our last connection after the birth of this one.
    return replace(state, heard_itself=False), [_birth(state, rules)]


def _change_conditions(
    state: Session, hindrance: str, rules: Rules
) -> tuple[Session, list[Effect]]:
    if hindrance == state.hindrance:
        return state, []
    state = replace(state, hindrance=hindrance)
    effects: list[Effect] = [_birth(state, rules)] if state.online else []
    if not hindrance or state.job is None:
        return state, effects
    offer = state.job.offer
    stopped, stops = _drop_job(state)
    return stopped, effects + stops + _decline(stopped, offer, hindrance, rules)


def _birth(state: Session, rules: Rules) -> Effect:
    return Publish(PresenceOf(rules.client), presence(state, rules))


# Offers


def _consider(state: Session, event: Offered, rules: Rules) -> tuple[Session, list[Effect]]:
    offer = event.offer
    # Offers come again at each connect, and QoS 1 may repeat an old one after a newer one. The run
    # tells round 1 of a new beginning from the old one.
    if state.seen is not None and offer.run == state.seen[0] and offer.round <= state.seen[1]:
        return _send_due(_hurry(state, offer.round, event.at), event.at, rules)
    state, effects = _drop_job(replace(state, seen=(offer.run, offer.round)))
    purpose = _purpose(offer, rules)
    if purpose is None or any(one.is_for(offer) for one in state.owed):
        return state, effects
    if reason := _why_not(state, offer, purpose, rules):
        return state, effects + _decline(state, offer, reason, rules)
    left = offer.closes_in_s
    if event.expires_in_s is not None:
        left = min(left, event.expires_in_s)
    if left <= 0:
        return state, [*effects, Note("offer is over", str(offer.round))]
    job = Fetching(offer, purpose, event.at + left)
    return replace(state, job=job), [*effects, Fetch(offer.round, offer.model)]


def _hurry(state: Session, round_id: RoundId, at: Seconds) -> Session:
    # An offer that comes again may mean that the coordinator is back, and what was sent meanwhile
    # is gone. It also comes at each connect of our own, when everything has just been sent.
    owed = tuple(
        replace(one, send_at=at)
        if one.answer.round == round_id and at - (one.send_at - one.wait_s) >= _JUST_SENT_S
        else one
        for one in state.owed
    )
    return replace(state, owed=owed)


def _purpose(offer: Offer, rules: Rules) -> Purpose | None:
    if rules.client in offer.train:
        return "train"
    return "evaluate" if rules.client in offer.evaluate else None


def _why_not(state: Session, offer: Offer, purpose: Purpose, rules: Rules) -> str:
    if offer.wire != WIRE_VERSION:
        return f"this client speaks wire version {WIRE_VERSION}, not {offer.wire}"
    if offer.task != rules.task:
        return f"this client runs task {rules.task!r}, not {offer.task!r}"
    if purpose not in rules.purposes:
        return f"this client's owner does not let it {purpose}"
    return state.hindrance


def _decline(state: Session, offer: Offer, reason: str, rules: Rules) -> list[Effect]:
    if not state.online:
        return []
    where = UpdatePart(_lane(rules, offer.lanes), rules.client, offer.round, "0")
    return [Publish(where, Decline(round=offer.round, reason=reason[:500]))]


def _drop_job(state: Session) -> tuple[Session, list[Effect]]:
    if state.job is None:
        return state, []
    return replace(state, job=None), [Stop(state.job.offer.round)]


# Work


def _start_work(state: Session, digest: Digest) -> tuple[Session, list[Effect]]:
    match state.job:
        case Fetching(offer, purpose, closes_at) if offer.model.digest == digest:
            return replace(state, job=Working(offer, purpose, closes_at)), [Work(offer, purpose)]
        case _:
            return state, []


def _finish(
    state: Session, at: Seconds, answer: Answer, rules: Rules
) -> tuple[Session, list[Effect]]:
    if any(one.answer == answer for one in state.owed):
        return state, []
    if not isinstance(state.job, Working) or state.job.offer.round != answer.round:
        return state, [Forget(answer)]
    offer = state.job.offer
    owed = Owed(answer, _lane(rules, offer.lanes), at, run=offer.run)
    had_trouble = bool(state.trouble)
    state = replace(state, job=None, trouble="", owed=(*state.owed, owed))
    state, sends = _send_due(state, at, rules)
    # The presence still tells of the trouble that is over.
    births = [_birth(state, rules)] if had_trouble and state.online else []
    return state, births + sends


def _fail(
    state: Session, round_id: RoundId, reason: str, rules: Rules
) -> tuple[Session, list[Effect]]:
    if state.job is None or state.job.offer.round != round_id:
        return state, []
    offer = state.job.offer
    state = replace(state, job=None, trouble=f"round {round_id}: {reason}"[:500])
    effects: list[Effect] = [Note("failed", reason)]
    if state.online:
        effects.append(_birth(state, rules))
    return state, effects + _decline(state, offer, reason, rules)


# Answers that are owed


def _send_due(state: Session, at: Seconds, rules: Rules) -> tuple[Session, list[Effect]]:
    if not state.online:
        return state, []
    owed: list[Owed] = []
    effects: list[Effect] = []
    for one in state.owed:
        if one.send_at <= at:
            wait_s = min(max(one.wait_s * 2, rules.resend_s), rules.resend_max_s)
            owed.append(replace(one, send_at=at + wait_s, wait_s=wait_s))
            effects.append(_send(state, one, rules))
        else:
            owed.append(one)
    return replace(state, owed=tuple(owed)), effects


def _send(state: Session, one: Owed, rules: Rules) -> Effect:
    answer = one.answer
    if answer.size_bytes <= state.chunk_bytes:
        return Send(answer, one.lane)
    announce = Announce(
        round=answer.round,
        digest=answer.digest,
        size_bytes=answer.size_bytes,
        chunk_bytes=state.chunk_bytes,
    )
    return Publish(UpdatePart(one.lane, rules.client, answer.round, ANNOUNCE), announce)


def _receive(
    state: Session, at: Seconds, message: Receipt | Go | TimeLeft
) -> tuple[Session, list[Effect]]:
    match message:
        case TimeLeft(round=round_id, closes_in_s=left):
            if state.job is not None and state.job.offer.round == round_id:
                return replace(state, job=replace(state.job, closes_at=at + left)), []
            return state, []
        case Go(digest=digest, ranges=ranges):
            for one in state.owed:
                if one.answer.digest == digest and state.online:
                    send = SendChunks(one.answer, one.lane, ranges, state.chunk_bytes)
                    return _put_off(state, one, at), [send]
            return state, []
        case Receipt():
            return _settle(state, message)


def _put_off(state: Session, one: Owed, at: Seconds) -> Session:
    # The coordinator is taking it: announcing it again would only add to the queue.
    later = replace(one, send_at=at + one.wait_s)
    return replace(state, owed=tuple(later if other is one else other for other in state.owed))


def _settle(state: Session, receipt: Receipt) -> tuple[Session, list[Effect]]:
    settled = [one for one in state.owed if one.answer.round == receipt.round]
    if not settled:
        return state, []
    state = replace(state, owed=tuple(one for one in state.owed if one not in settled))
    outcome = "accepted" if receipt.accepted else f"not counted: {receipt.reason}"
    forgets: list[Effect] = [Forget(one.answer) for one in settled]
    return state, [*forgets, Note("receipt", f"round {receipt.round} {outcome}")]


# Time


def _wake(state: Session, at: Seconds, rules: Rules) -> tuple[Session, list[Effect]]:
    effects: list[Effect] = []
    if state.job is not None and at >= state.job.closes_at:
        round_id = state.job.offer.round
        state, effects = _drop_job(state)
        effects.append(Note("ran out of time", f"round {round_id}"))
    state, sends = _send_due(state, at, rules)
    return state, effects + sends


def _wake_at(state: Session) -> Seconds | None:
    """When something may be due though nobody says anything."""
    times = [one.send_at for one in state.owed] if state.online else []
    if state.job is not None:
        times.append(state.job.closes_at)
    return min(times, default=None)


def _lane(rules: Rules, lanes: int) -> int:
    return lane_of(rules.client, lanes)
