"""Which of a federation's coordinators acts: the machine by which they agree on one. Pure.

                 nobody is there,               our bid is the first
                 or nobody answers              of its generation
    Away ──▶ Asking ────────────────▶ Bidding ─────────────────────▶ Holding
     ▲        │  ▲                      │                               │
     │ link   │  │ another's was first  │       overslept, or           │
     │ lost   │  └──────────────────────┴─── a newer one was seen ──────┘
    (any)     │
              └──▶ somebody answers: Out; a standby asks again later

What is said, and where. A broker can keep a message, but it cannot compare before it sets.

    seat   retained    Seat, taken        a bid; also what a holder sets right there
                       Seat, not taken    the last words of who left in good order
    claim  passed on   Claim              does anybody hold the seat?
                       Seat, taken        I do
                       Seat, not taken    a will; or: somebody has acted in this epoch

*An epoch belongs to one program*, whatever broker and network do. Its upper digits count how often
the seat was taken, its lower ones come from the program's token, as the ballots of Lamport's "The
Part-Time Parliament" (ACM TOCS 16, 1998) are numbers with a name. Clients take no offer of an older
epoch than they have seen since they connected. So a coordinator that was replaced and does not know
it is ignored from its successor's first offer on. All that follows is for the peace: that there is
one, that it does not change without need, and that clients can hear it.

*A bid has to come back* before its bidder acts. The broker gives what it receives one order, and a
bidder has listened since before its bid. Who sees its own bid before any other of that generation
has won; all others see that bid before their own, and yield.

*Our own claim that comes back is a barrier.* A broker sends what it has retained when we subscribe,
and passes on what was said later after that. Where no claim comes back, silence decides.

*Only who bids or holds writes to the seat.* A will may be said minutes after its program's end,
when the broker misses the pings: retained, it would put an old epoch in the successor's place. And
a retained answer would pass for a fresh one with who reconnects. A will makes a standby ask at
once, and no less often: it may be of an old connection of a program that is well.

*Who holds the seat asks again* after each connect, and when its alarm rings much too late: it was
stopped, or busy for so long that others may have found it dead. It must not act until `Confirmed`.
Its alarm is quicker than a claimant's patience.

*An answer in an older epoch than somebody acted in* settles nothing: it may be of a holder that has
not heard of its successor yet. We say what we know. Who does hold the seat takes it again, above
that: clients that have seen the newer epoch would not hear it otherwise.

What can still happen: somebody acts in a newer epoch and is gone for good within the time that an
older word, still on its way, takes to replace its own on the broker. Who comes next may then count
from the older one, and is not heard by clients that have seen the newer until they reconnect.
"""

import zlib
from dataclasses import dataclass, replace

from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import EPOCH_MAX, AmongCoordinators, Claim, Seat
from fedmqtt.topics import CoordinatorSeat, SeatClaim

ASKS = 3
"""Questions in a row that stay without an answer when nobody is there; each of them may be lost."""

STANDING_BY = "standing by"
"""The note about whom a standby waits for."""

NO_EPOCH = "there is no epoch left to act in"

EPOCHS_PER_GENERATION = 1_000_000
"""Two programs that bid at once draw the same epoch once in so many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What this program is."""

    token: str
    """New for each start of a program, and drawn at random."""
    run: str
    where: str
    standby: bool = False
    """Wait for the seat while another has it, instead of ending."""
    owns_run: bool = False
    """We hold the lock of our run's folder: no other program of this run is alive."""
    epoch_known: int = 0
    """The last epoch in which this run was coordinated, by the run's own books."""
    answer_s: Seconds = 3.0
    """How long a holder may take to answer. Three of these outlast a link that has to come back."""
    ask_every_s: Seconds = 10.0
    """A standby's pause between an answer and its next question."""


@dataclass(frozen=True, slots=True)
class Away:
    """Not connected."""


@dataclass(frozen=True, slots=True)
class Asking:
    asked: int
    """Questions since the last answer; 0 for a standby that waits to ask again."""
    wake_at: Seconds


@dataclass(frozen=True, slots=True)
class Bidding:
    epoch: int
    wake_at: Seconds


@dataclass(frozen=True, slots=True)
class Holding:
    """The one phase in which a coordinator may act; see `may_act`."""

    epoch: int
    wake_at: Seconds


@dataclass(frozen=True, slots=True)
class Out:
    """Another one is the coordinator. The end of this program's part."""


Phase = Away | Asking | Bidding | Holding | Out


@dataclass(frozen=True, slots=True)
class State:
    phase: Phase = Away()
    held: int = 0
    """The epoch in which this program acted last; 0 when it never has."""
    known: int = 0
    """The highest epoch that anybody bid, as far as heard."""
    acted: int = 0
    """The highest epoch that anybody acted in, as far as heard; clients may know it."""
    holder: Seat | None = None
    """Whom this program, a standby, stands by for."""
    seat: Seat | None = None
    """The last word on the seat, as far as heard on this connection."""
    unheard: int = 0
    """Claims made on this connection that have not come back: before, what comes may be old."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Subscribed to seat, claim and offer, before anything that could crowd them out."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class Disconnected:
    at: Seconds


@dataclass(frozen=True, slots=True)
class SeatSeen:
    """On the seat's own topic. None: it was cleared, or holds what nobody can read."""

    at: Seconds
    seat: Seat | None


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """On the topic of claims."""

    at: Seconds
    said: AmongCoordinators


@dataclass(frozen=True, slots=True)
class OfferSeen:
    at: Seconds
    epoch: int


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = Connected | Disconnected | SeatSeen | ClaimSeen | OfferSeen | Woke


@dataclass(frozen=True, slots=True)
class Take:
    """Note this epoch where it survives a crash, and act in it: say all there is to say, anew."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The seat is still ours: go on in the same epoch, and say all there is to say, anew."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Another one coordinates, and we never have: end."""

    by: Seat


@dataclass(frozen=True, slots=True)
class Deposed:
    """Another one coordinates in our place: end. What lies on the broker is the other's now."""

    by: Seat


@dataclass(frozen=True, slots=True)
class RepeatOffer:
    """An older coordinator wrote to the offer board: put our offer back there, or clear it."""


Effect = Publish | WakeAt | Note | Take | Confirmed | Refuse | Deposed | RepeatOffer

_Step = tuple[State, list[Effect]]


def begin() -> State:
    return State()


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what the service must do about it. Never raises on any event."""
    following, effects = _wake_up(state, event, rules)
    following, more = _take_in(following, event, rules)
    effects += more
    wake_at = _wake_at(following)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (isinstance(event, Woke) or wake_at != _wake_at(state)):
        effects.append(WakeAt(wake_at))
    return following, effects


def may_act(state: State, at: Seconds, rules: Rules) -> bool:
    """Whether now is a time to publish anything: the seat is ours, and we have not overslept."""
    return isinstance(state.phase, Holding) and not _has_overslept(state, at, rules)


def generation(epoch: int) -> int:
    """How many times the seat had been taken by then, this one included."""
    return epoch // EPOCHS_PER_GENERATION


def next_epoch(known: int, token: str) -> int:
    """An epoch above all that are known, which is nobody else's."""
    own = zlib.crc32(token.encode()) % EPOCHS_PER_GENERATION
    return (generation(known) + 1) * EPOCHS_PER_GENERATION + own


def will(state: State, rules: Rules) -> Publish:
    """What the broker says for us when the connection that we are about to make breaks."""
    return Publish(SeatClaim(), _seat(state.held, rules, taken=False))


def last_words(state: State, at: Seconds, rules: Rules) -> list[Publish]:
    """To be said behind all other last words: who waits for the seat takes it at once."""
    if not may_act(state, at, rules):
        return []
    return [Publish(CoordinatorSeat(), _seat(state.held, rules, taken=False))]


def _take_in(state: State, event: Event, rules: Rules) -> _Step:
    if isinstance(state.phase, Out):
        return state, []
    match event:
        case Connected(at):
            return _ask(replace(state, seat=None, unheard=0), at, rules)
        case Disconnected():
            return replace(state, phase=Away()), []
        case SeatSeen(at, seat):
            if seat is None:
                return _see_it_cleared(state, at, rules)
            return _see_seat(_noting(state, seat), at, seat, rules)
        case ClaimSeen(at, said):
            if isinstance(said, Claim):
                return _hear_claim(state, at, said.token, rules)
            return _hear_seat(_knowing(state, said.epoch), at, said, rules)
        case OfferSeen(at, epoch):
            return _see_offer(_knowing(state, epoch), at, epoch, rules)
        case Woke(at):
            return _on_alarm(state, at, rules)


# Asking


def _ask(state: State, at: Seconds, rules: Rules, asked: int = 1) -> _Step:
    """`asked` of the questions that make a silence, this one included."""
    claim = Publish(SeatClaim(), Claim(token=rules.token))
    asking = Asking(asked, at + rules.answer_s)
    return replace(state, phase=asking, unheard=state.unheard + 1), [claim]


def _settle(state: State, at: Seconds, rules: Rules) -> _Step:
    """All that the broker has retained has come."""
    assert isinstance(state.phase, Asking)
    if _is_free(state, rules):
        return _bid(state, at, rules)
    if _is_still_ours(state, rules):
        return _confirm(state, at, rules)
    if state.phase.asked == 1 and state.seat is not None and state.holder is None:
        return state, [Note("asking whether anybody is there", f"{_whose(state.seat)} was last")]
    return state, []


def _end_of_silence(state: State, at: Seconds, rules: Rules) -> _Step:
    if _is_still_ours(state, rules):
        return _confirm(state, at, rules)
    following, effects = _bid(state, at, rules)
    return following, [Note("nobody answers", "taking the seat"), *effects]


def _is_free(state: State, rules: Rules) -> bool:
    seat = state.seat
    if seat is None:
        # For whom we stand by has lost the same broker, and must have time to come back.
        return state.holder is None
    if seat.taken and rules.owns_run and seat.run == rules.run:
        # The lock that we hold proves that who took it is dead; unless that was we.
        return seat.token != rules.token and not state.held
    return not seat.taken


def _is_still_ours(state: State, rules: Rules) -> bool:
    seat = state.seat
    if seat is None or not seat.taken or seat.token != rules.token:
        return False
    # When somebody acted in a newer one, clients would not hear us in ours.
    return seat.epoch == state.held >= _acted(state, rules)


def _confirm(state: State, at: Seconds, rules: Rules) -> _Step:
    # Said to all: somebody may have asked while we were away, and be about to lose patience.
    here = Publish(SeatClaim(), _seat(state.held, rules))
    return replace(state, phase=Holding(state.held, at + rules.answer_s)), [here, Confirmed()]


def _answered(state: State, at: Seconds, holder: Seat, rules: Rules) -> _Step:
    assert isinstance(state.phase, Asking)
    if state.unheard:
        # An answer to this question comes behind it. But for a silence it is too loud.
        return replace(state, phase=replace(state.phase, asked=1)), []
    acted = _acted(state, rules)
    if holder.epoch < acted:
        return state, [Publish(SeatClaim(), _seat(acted, rules, taken=False))]
    if state.held:
        return replace(state, phase=Out()), [Deposed(holder)]
    if not rules.standby:
        return replace(state, phase=Out()), [Refuse(holder)]
    is_news = state.holder is None or state.holder.token != holder.token
    notes: list[Effect] = [Note(STANDING_BY, _whose(holder))] if is_news else []
    waiting = Asking(0, at + rules.ask_every_s)
    return replace(state, phase=waiting, holder=holder), notes


# Bidding


def _bid(state: State, at: Seconds, rules: Rules) -> _Step:
    known = max(state.known, _acted(state, rules))
    epoch = next_epoch(known, rules.token)
    if epoch > EPOCH_MAX:
        # Nobody could read it. Millions of starts do not get there: it was written on purpose.
        stuck = Note(NO_EPOCH, f"clear seat and offer, where somebody wrote {known}; start again")
        return replace(state, phase=Asking(0, at + rules.ask_every_s)), [stuck]
    bid = Publish(CoordinatorSeat(), _seat(epoch, rules))
    return replace(state, phase=Bidding(epoch, at + rules.answer_s)), [bid]


def _win(state: State, epoch: int, at: Seconds, rules: Rules) -> _Step:
    if _acted(state, rules) > epoch:
        return _bid(state, at, rules)
    holding = Holding(epoch, at + rules.answer_s)
    return replace(state, phase=holding, held=epoch, acted=epoch, holder=None), [Take(epoch)]


# The seat's own topic


def _see_it_cleared(state: State, at: Seconds, rules: Rules) -> _Step:
    match state.phase:
        case Holding(epoch):
            return state, [Publish(CoordinatorSeat(), _seat(epoch, rules))]
        case Asking(asked=0):
            # By whom, nobody knows. Who holds the seat answers; nobody else need wait.
            return _ask(state, at, rules)
        case _:
            return state, []


def _see_seat(state: State, at: Seconds, seat: Seat, rules: Rules) -> _Step:
    match state.phase:
        # Before our claim is back, it may have lain there for years.
        case Asking() if not state.unheard:
            return _see_while_asking(state, at, seat, rules)
        case Bidding(epoch):
            return _see_while_bidding(state, at, seat, epoch, rules)
        case Holding(epoch):
            return _see_while_holding(state, at, seat, epoch, rules)
        case _:
            return state, []


def _see_while_asking(state: State, at: Seconds, seat: Seat, rules: Rules) -> _Step:
    if not seat.taken:
        return _bid(state, at, rules)
    if seat.token != rules.token:
        # Somebody has just taken it, or sees to it. Whoever that is will answer.
        return _ask(state, at, rules)
    return state, []


def _see_while_bidding(state: State, at: Seconds, seat: Seat, epoch: int, rules: Rules) -> _Step:
    if seat.token == rules.token:
        return _win(state, epoch, at, rules) if seat.epoch == epoch else (state, [])
    if generation(seat.epoch) < generation(epoch):
        return state, []
    return _ask(state, at, rules) if seat.taken else _bid(state, at, rules)


def _see_while_holding(state: State, at: Seconds, seat: Seat, epoch: int, rules: Rules) -> _Step:
    if seat.token == rules.token:
        is_right = seat.taken and seat.epoch == epoch
        return state, [] if is_right else [Publish(CoordinatorSeat(), _seat(epoch, rules))]
    if not seat.taken and seat.epoch > epoch:
        return _bid(state, at, rules)
    if generation(seat.epoch) > generation(epoch) or _is_a_better_twin(seat, epoch, rules):
        return _ask(state, at, rules)
    # It is older, or yields to us: its bid was behind ours.
    return state, [Publish(CoordinatorSeat(), _seat(epoch, rules, reply_to=seat.token))]


def _is_a_better_twin(seat: Seat, epoch: int, rules: Rules) -> bool:
    """Whether this is said by one that holds the seat in our generation, and has a higher epoch.

    Two can win in one generation when the broker has forgotten a bid. Only a holder replies.
    """
    return seat.reply_to == rules.token and (seat.epoch, seat.token) > (epoch, rules.token)


# The topic of claims


def _hear_claim(state: State, at: Seconds, token: str, rules: Rules) -> _Step:
    if token != rules.token:
        if not isinstance(state.phase, Holding):
            return state, []
        answer = _seat(state.phase.epoch, rules, reply_to=token)
        return state, [Publish(SeatClaim(), answer)]
    state = replace(state, unheard=max(0, state.unheard - 1))
    if isinstance(state.phase, Asking) and not state.unheard:
        return _settle(state, at, rules)
    return state, []


def _hear_seat(state: State, at: Seconds, said: Seat, rules: Rules) -> _Step:
    if said.token == rules.token:
        # Among them the will of an old connection of ours.
        return state, []
    if said.taken:
        return _hear_holder(state, at, said, rules)
    return _hear_of_an_end(state, at, said, rules)


def _hear_holder(state: State, at: Seconds, said: Seat, rules: Rules) -> _Step:
    match state.phase:
        case Asking():
            return _answered(state, at, said, rules)
        case Bidding(epoch) if generation(said.epoch) >= generation(epoch):
            return _ask(state, at, rules)
        case Holding(epoch) if generation(said.epoch) > generation(epoch):
            return _ask(state, at, rules)
        case Holding(epoch):
            # It has missed our bid.
            return state, [Publish(CoordinatorSeat(), _seat(epoch, rules, reply_to=said.token))]
        case _:
            return state, []


def _hear_of_an_end(state: State, at: Seconds, said: Seat, rules: Rules) -> _Step:
    match state.phase:
        case Asking(asked=0) if state.holder and said.token == state.holder.token:
            return _ask(state, at, rules)
        case Holding(epoch) if said.epoch > epoch:
            return _bid(state, at, rules)
        case _:
            return state, []


# Offers and alarms


def _see_offer(state: State, at: Seconds, epoch: int, rules: Rules) -> _Step:
    if not isinstance(state.phase, Holding) or epoch == state.phase.epoch:
        return state, []
    if epoch < state.phase.epoch:
        return state, [RepeatOffer()]
    if generation(epoch) == generation(state.phase.epoch):
        # Of a twin (see `_is_a_better_twin`). Clients that have seen it do not hear us any more.
        return _bid(state, at, rules)
    return _ask(state, at, rules)


def _on_alarm(state: State, at: Seconds, rules: Rules) -> _Step:
    wake_at = _wake_at(state)
    if wake_at is None or at < wake_at:
        return state, []
    match state.phase:
        case Asking(asked) if asked < ASKS:
            return _ask(state, at, rules, asked + 1)
        case Asking():
            return _end_of_silence(state, at, rules)
        case Bidding():
            following, effects = _bid(state, at, rules)
            why = "may this user write and read there? Saying it again"
            return following, [Note("the broker does not pass on our seat", why), *effects]
        case Holding(epoch):
            return replace(state, phase=Holding(epoch, at + rules.answer_s)), []
        case _:
            return state, []


def _wake_up(state: State, event: Event, rules: Rules) -> _Step:
    """Ask again from the start when we were stopped: what we knew may be long past."""
    if isinstance(event, Connected | Disconnected) or not _has_overslept(state, event.at, rules):
        return state, []
    return _ask(state, event.at, rules)


def _has_overslept(state: State, at: Seconds, rules: Rules) -> bool:
    # Less than a claimant's patience: three answers, of which our alarm keeps one short.
    wake_at = _wake_at(state)
    return wake_at is not None and at > wake_at + rules.answer_s


def _wake_at(state: State) -> Seconds | None:
    return None if isinstance(state.phase, Away | Out) else state.phase.wake_at


# What is said


def _seat(epoch: int, rules: Rules, *, taken: bool = True, reply_to: str = "") -> Seat:
    return Seat(
        epoch=epoch,
        token=rules.token,
        taken=taken,
        run=rules.run,
        where=rules.where,
        reply_to=reply_to,
    )


def _noting(state: State, seat: Seat) -> State:
    state = replace(state, seat=seat, known=max(state.known, seat.epoch))
    # Last words, and what holders set right. All else may be a bid that did not win.
    return _knowing(state, seat.epoch) if seat.reply_to or not seat.taken else state


def _knowing(state: State, acted: int) -> State:
    return replace(state, acted=max(state.acted, acted))


def _acted(state: State, rules: Rules) -> int:
    return max(state.acted, rules.epoch_known)


def _whose(seat: Seat) -> str:
    return f"run {seat.run} at {seat.where}"
