"""The client's machine: which offer it takes, what it owes, and when it tries again. Pure.

                     invited, willing            model here
    job:      None ──────────────────▶ Fetching ───────────▶ Working ──▶ None
                ▲                         │ round over, superseded, owner said no │
                └─────────────────────────┴───────────────────────────────────────┘

Where late answers count (`late_rounds` in the offer), who trains goes on when its round is over,
and an invitation to a newer one waits for so long. Where rounds are asynchronous, so does who
fetches; and an offer that comes again may invite those that it passed over before. An invitation by
sortition waits for the owner's conditions too: nobody else knows of it.

A *quiet* federation listens to nobody but those who answer. There nothing is said of being there:
no birth, no goodbye, no will; and those who are drawn begin one after the other.

Nobody trains in a run to which an answer is owed that changes what the device remembers: what the
next one has to begin with is known when that has its receipt. The invitation waits so long.

An answer that is finished is *owed* until its receipt comes, whatever happens to the link: it lies
in the outbox on disk, and is sent at each connect and again when no receipt comes. So is what a
site's devices finish of a round that an earlier life took up, and that it has no job for any more.
"""

import math
from dataclasses import dataclass, field, replace

from edge_client import disclosed, privacy
from edge_client.disclosed import NOTHING, Disclosed
from edge_client.privacy import Terms
from fedmqtt import namesakes, offered_work, own_presence, sortition
from fedmqtt.chunks import Ranges
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    PURPOSES,
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
from fedmqtt.own_presence import OwnPresence
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    PresenceOf,
    RoundId,
    RunId,
    UpdatePart,
    lane_of,
)

_NOTE_MAX = 500
"""Characters; what a presence or a decline has room for."""
TROUBLE = "trouble"
"""The note about what the owner of the device should look into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the device's owner decided."""

    client: ClientId
    task: str
    purposes: tuple[Purpose, ...] = ("train", "evaluate")
    program: str = ""
    label: str = ""
    """What its owner calls this kind of device."""
    resend_s: Seconds = 20.0
    """Without a receipt, an answer is sent again after this, then after twice as long, ..."""
    resend_max_s: Seconds = 600.0
    outbox_bytes_max: int = 2_000_000_000
    """No new work is begun whose answer might let more than this wait for receipts."""
    leave_from_s: Seconds = 0.0
    """Disconnects when the next round is expected in so long or longer; 0 never does."""
    terms: Terms = field(default_factory=Terms)
    """How answers have to be hidden."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer in the outbox."""

    run: RunId
    round: RoundId
    digest: Digest
    size_bytes: int

    def is_for(self, run: RunId, round_id: RoundId) -> bool:
        return (self.run, self.round) == (run, round_id)


@dataclass(frozen=True, slots=True)
class Owed:
    """An answer without a receipt. `lane` is where it goes."""

    answer: Answer
    lane: int
    send_at: Seconds
    wait_s: Seconds = 0.0
    remembers: bool = False
    """What the device remembers is another once this has counted."""


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
    own: OwnPresence = field(default_factory=OwnPresence)
    connected_at: Seconds = 0.0
    thrown_out: int = 0
    """Times in a row that the broker has ended a young connection."""
    chunk_bytes: int = 0
    """What this connection can carry in one message."""
    hindrance: str = ""
    """Why the owner's conditions forbid taking part now; empty when they hold."""
    trouble: str = ""
    """What went wrong last, for people who look at the presence."""
    job: Job | None = None
    epoch: int = 0
    """Of the newest coordinator whose offer came over this connection."""
    seen: tuple[RunId, RoundId] | None = None
    """Run and round of the last offer that was taken or turned down; each is considered once."""
    passed_over: bool = False
    """That offer asked this client for nothing. One of an asynchronous round may yet."""
    owed: tuple[Owed, ...] = ()
    invitation: "Offered | None" = None
    """To a newer round, while the answer to an older one is being made that counts still; or while
    one is owed with which something is remembered. Or by sortition, while the owner's conditions do
    not hold, or until its turn comes."""
    spread_s: Seconds = 0.0
    """Within how long the coordinator wants its clients to return."""
    known_model: str = ""
    """The fingerprint of the models that this device trains, where it keeps to one."""
    told: Disclosed = NOTHING
    """To this federation so far: on the disk before anything more is begun, or sent."""
    quiet: bool = False
    """The federation listens to nobody but those who answer: nothing is said before."""
    begins_at: Seconds = 0.0
    """When the invitation's turn comes, of those that are drawn in a quiet federation."""

    @property
    def token(self) -> str:
        """Of this connection, or of the last one."""
        return self.own.token


@dataclass(frozen=True, slots=True)
class Started:
    """The program starts and finds these answers in its outbox."""

    at: Seconds
    answers: tuple[Answer, ...]
    remembering: tuple[Answer, ...] = ()
    """Those of them with which something is to be remembered."""
    known_model: str = ""
    """The fingerprint of the models that an earlier life trained, where it keeps to one."""
    told: Disclosed = NOTHING
    """By an earlier life to this federation."""
    quiet: bool = False
    """The federation was, when an earlier life heard of it last; or its owner says so."""
    goes_on: tuple[RunId, RoundId] | None = None
    """What an earlier life took up and is worked on still, at a site: `Found` may follow."""


@dataclass(frozen=True, slots=True)
class Connected:
    at: Seconds
    token: str
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    at: Seconds
    thrown_out: bool = False
    """It was the broker that ended it, or something on the way."""
    taken_over: bool = False
    """The broker says that somebody else has connected by this client's name."""


@dataclass(frozen=True, slots=True)
class Offered:
    at: Seconds
    offer: Offer
    expires_in_s: Seconds | None = None
    """What the broker counted down while the offer lay there, where it does (MQTT 5)."""
    retained: bool = False
    """It lay there already when this connection was made."""


@dataclass(frozen=True, slots=True)
class OfferWithdrawn:
    at: Seconds
    unseen: bool = False
    """The coordinator may be one that has come after us, to a broker that did not show us to it."""


@dataclass(frozen=True, slots=True)
class ModelFetched:
    at: Seconds
    digest: Digest


@dataclass(frozen=True, slots=True)
class Finished:
    """Training or evaluating is done; the answer lies in the outbox."""

    at: Seconds
    answer: Answer
    remembers: bool = False
    """Something is to be remembered with it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an earlier life took up is done only now, at a site; the answer lies in the outbox."""

    at: Seconds
    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """The model could not be had, or the trainer did not survive, or the task refused."""

    at: Seconds
    run: RunId
    round: RoundId
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerGone:
    """The outbox no longer has it, whole: it cannot be sent ever again."""

    at: Seconds
    answer: Answer
    reason: str


@dataclass(frozen=True, slots=True)
class Troubled:
    """Something went wrong that decides nothing here, and that people should see."""

    at: Seconds
    what: str


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
    | Found
    | Failed
    | AnswerGone
    | Troubled
    | Received
    | PresenceSeen
    | ConditionsChanged
    | Woke
)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get this model to disk; `ModelFetched` or `Failed` follows. Again means: go on."""

    run: RunId
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

    run: RunId
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
    """Remove the answer from the outbox: it has its receipt, or nobody waits for it."""

    answer: Answer
    accepted: bool = False
    """What was to be remembered with it is remembered from now on."""
    counted: RoundId | None = None
    """The round of this client's that the coordinator counted last, where it tells."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Say goodbye and disconnect; be back a little before this moment, when a round may open."""

    back_at: Seconds


Effect = Publish | WakeAt | Note | Fetch | Work | Stop | Send | SendChunks | Forget | Leave


def step(state: Session, event: Event, rules: Rules) -> tuple[Session, list[Effect]]:
    """The next state, and what the agent must do about it. Never raises on any event."""
    following, effects = _decide(state, event, rules)
    if following.quiet:
        effects = [one for one in effects if not _is_presence(one)]
    wake_at = _wake_at(following)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (isinstance(event, Woke) or wake_at != _wake_at(state)):
        effects.append(WakeAt(wake_at))
    return following, effects


def is_past(state: Session, offer: Offer) -> bool:
    """Whether a later round of the run, or a later coordinator, has been heard of."""
    if offer.epoch < state.epoch:
        return True
    return state.seen is not None and offer.run == state.seen[0] and offer.round < state.seen[1]


def outlives(job: Job | None, offer: Offer, *, is_asked: bool = False) -> bool:
    """Whether work is gone on with although this offer is about a newer round, to train in which
    the client `is_asked`."""
    return (
        job is not None
        and _may_be_late(job)
        # What has not begun had better begin with the newer model.
        and not (is_asked and isinstance(job, Fetching))
        and offer.run == job.offer.run
        and 0 < offer.round - job.offer.round <= job.offer.late_rounds
    )


def owes_memory(state: Session, run: RunId) -> bool:
    """Whether it is open what the device remembers of the run: an answer without a receipt says."""
    return any(one.remembers and one.answer.run == run for one in state.owed)


def willing(state: Session, rules: Rules) -> tuple[Purpose, ...]:
    """What this client takes part in, when nothing hinders it."""
    return privacy.allowed(rules.purposes, rules.terms, state.told)


def presence(state: Session, rules: Rules) -> Presence:
    """What this client says of itself while it is connected."""
    would = () if state.hindrance else willing(state, rules)
    return Presence(
        online=True,
        session=state.token,
        task=rules.task,
        purposes=tuple(purpose for purpose in would if purpose != "describe"),
        describes="describe" in would,
        program=rules.program,
        label=rules.label,
        draws=True,
        note=state.hindrance or state.trouble,
    )


def _is_presence(effect: Effect) -> bool:
    match effect:
        case Publish(PresenceOf(), Presence()):
            return True
        case _:
            return False


def has_namesake(state: Session, rules: Rules) -> bool:
    """Whether its trouble is, or may be, that another client has its name."""
    return namesakes.is_another_client(rules.client) in state.trouble


def _decide(state: Session, event: Event, rules: Rules) -> tuple[Session, list[Effect]]:
    match event:
        case Started():
            return _start(state, event, rules)
        case Connected():
            return _connect(state, event, rules)
        case Disconnected():
            return _disconnect(state, event, rules)
        case Offered():
            return _consider(state, event, rules)
        case OfferWithdrawn(_, unseen):
            state, effects = _forget_offer(_forget_invitation(state))
            return state, [*effects, *([_birth(state, rules)] if unseen and state.online else [])]
        case ModelFetched(_, digest):
            return _start_work(state, digest, rules)
        case Finished():
            return _finish(state, event, rules)
        case Found():
            return _find(state, event, rules)
        case Failed():
            return _fail(state, event, rules)
        case AnswerGone():
            return _give_up(state, event, rules)
        case Troubled(_, what):
            return _trouble(state, what, rules)
        case Received(at, message):
            return _receive(state, at, message, rules)
        case PresenceSeen(_, seen):
            return _correct(state, seen, rules)
        case ConditionsChanged(at, hindrance):
            return _change_conditions(state, at, hindrance, rules)
        case Woke(at):
            return _wake(state, at, rules)


# Coming and going


def _start(state: Session, event: Started, rules: Rules) -> tuple[Session, list[Effect]]:
    told = event.told
    answers: list[Answer] = []
    forgets: list[Effect] = []
    for answer in event.answers:
        before = told
        told = disclosed.finish(told, answer.run, answer.round)
        # It was finished as its round was given up, or as the program ended, and others were made
        # since. That it was sent is not known: so it counts, and is not sent again.
        if told is not before and privacy.is_above(rules.terms.asked, told.spent):
            forgets.append(Forget(answer))
        else:
            answers.append(answer)
    owed = tuple(
        Owed(answer, _lane(rules, 1), event.at, remembers=answer in event.remembering)
        for answer in answers
    )
    told = disclosed.start(told, event.goes_on)
    state = replace(state, owed=owed, known_model=event.known_model, told=told, quiet=event.quiet)
    return state, forgets


def _connect(state: Session, event: Connected, rules: Rules) -> tuple[Session, list[Effect]]:
    state = replace(
        state,
        online=True,
        own=own_presence.connected(state.own, event.token),
        connected_at=event.at,
        chunk_bytes=event.chunk_bytes,
        # A broker that has lost everything may come back with a coordinator that counts from 1.
        epoch=0,
    )
    effects: list[Effect] = [_birth(state, rules)]
    if isinstance(state.job, Fetching):
        # Subscriptions of a lost connection may be gone: ask again for what is still missing.
        effects.append(_fetch(state.job.offer))
    state, sends = _send_due(_all_due(state, event.at), event.at, rules)
    return state, effects + sends


def _disconnect(state: Session, event: Disconnected, rules: Rules) -> tuple[Session, list[Effect]]:
    times, namesake = state.thrown_out, namesakes.is_another_client(rules.client)
    if state.online:
        lasted_s = event.at - state.connected_at
        times = namesakes.thrown_out(times, lasted_s, by_broker=event.thrown_out)
    state = replace(state, online=False, thrown_out=times)
    if event.taken_over:
        return _suspect(state, namesake, rules)
    if told := namesakes.suspicion(times, namesake):
        return _suspect(state, told, rules)
    return state, []


def _all_due(state: Session, at: Seconds) -> Session:
    owed = tuple(replace(one, send_at=at, wait_s=0.0) for one in state.owed)
    return replace(state, owed=owed)


def _correct(state: Session, seen: Presence, rules: Rules) -> tuple[Session, list[Effect]]:
    if not state.online:
        return state, []
    if state.quiet:
        return state, _take_back(state, seen, rules)
    own, verdict = own_presence.seen(state.own, seen)
    state = replace(state, own=own)
    match verdict:
        case "fine":
            return state, []
        case "late":
            # The broker may publish the will of our last connection after the birth of this one.
            return replace(state, own=own_presence.born_again(own)), [_birth(state, rules)]
        case "stranger":
            return _suspect(state, namesakes.is_another_client(rules.client), rules)


def _take_back(state: Session, seen: Presence, rules: Rules) -> list[Effect]:
    """What lies on the broker as its presence, by an earlier life or a will, helps nobody."""
    is_echo = seen.online and seen.session == state.token
    return [] if is_echo else [Publish(PresenceOf(rules.client), None)]


def _suspect(state: Session, told: str, rules: Rules) -> tuple[Session, list[Effect]]:
    if has_namesake(state, rules):
        # To correct each other's presence would keep two clients busy for ever.
        return state, []
    return _trouble(state, told, rules)


def _trouble(state: Session, what: str, rules: Rules) -> tuple[Session, list[Effect]]:
    what = what[:_NOTE_MAX]
    if what == state.trouble:
        return state, []
    state = replace(state, trouble=what)
    return state, [_birth(state, rules)] if state.online else []


def _change_conditions(
    state: Session, at: Seconds, hindrance: str, rules: Rules
) -> tuple[Session, list[Effect]]:
    if hindrance == state.hindrance:
        return state, []
    state = replace(state, hindrance=hindrance)
    effects: list[Effect] = [_birth(state, rules)] if state.online else []
    if state.job is None:
        # As always when there was a hindrance before.
        state, next_work = _take_invitation(state, at, rules)
        return state, effects + next_work
    offer = state.job.offer
    state, stops = _drop_job(state)
    declines = _decline(state, offer, hindrance, rules)
    state, more_declines = _take_invitation(state, at, rules)
    return state, effects + stops + declines + more_declines


def _birth(state: Session, rules: Rules) -> Effect:
    return Publish(PresenceOf(rules.client), presence(state, rules))


# Offers


def _consider(state: Session, event: Offered, rules: Rules) -> tuple[Session, list[Effect]]:
    offer = event.offer
    if offer.epoch < state.epoch:
        # Of a coordinator that another one has replaced, and that does not know it yet.
        return state, [Note("offer of an older coordinator ignored", f"round {offer.round}")]
    notes = _tell_of_another_task(state, offer, rules)
    is_of_a_new_one = 0 < state.epoch < offer.epoch
    # (An asynchronous round's comes again whenever more are invited.)
    is_said_now = not event.retained and not offer.asynchronous and _owes(state, offer)
    state = replace(state, epoch=offer.epoch, spread_s=offer.spread_s)
    state, presences = _fall_silent(state, offer, rules)
    if is_of_a_new_one or is_said_now:
        # A coordinator has just come, or come back: what was sent while there was none, and what
        # another had taken in and not yet stored, is gone.
        state = _all_due(state, event.at)
    state, effects = _take_up(state, event, rules)
    state, sends = _send_due(state, event.at, rules)
    return state, notes + presences + effects + sends


def _tell_of_another_task(state: Session, offer: Offer, rules: Rules) -> list[Effect]:
    """Once in each run: who has another task is not invited, and would wait without a word."""
    is_known = state.seen is not None and state.seen[0] == offer.run
    if is_known or offer.task == rules.task:
        return []
    told = (
        f"the federation's task is {offer.task!r}, and here it is {rules.task!r}, so that no round"
        " asks for this client: set `task` to the federation's, and start it again"
    )
    return [Note(TROUBLE, told)]


def _fall_silent(state: Session, offer: Offer, rules: Rules) -> tuple[Session, list[Effect]]:
    """Or be heard again, as the federation is. The next connection has a will, or has none."""
    quiet = offer.sortition is not None and offer.sortition.quiet
    if quiet == state.quiet:
        return state, []
    state = replace(state, quiet=quiet)
    return state, [Publish(PresenceOf(rules.client), None) if quiet else _birth(state, rules)]


def _take_up(state: Session, event: Offered, rules: Rules) -> tuple[Session, list[Effect]]:
    offer = event.offer
    # Offers come again at each connect, and QoS 1 may repeat an old one after a newer one. The run
    # tells round 1 of a new beginning from the old one.
    is_asked = rules.client in offer.train
    if state.seen is not None and offer.run == state.seen[0] and offer.round <= state.seen[1]:
        # What was said of it before was that others are asked.
        is_news = is_asked and offer.asynchronous and offer.round == state.seen[1]
        if not is_news or not (state.passed_over or _fetches_older(state.job, offer)):
            return _renew(state, event, rules)
    state = replace(state, seen=(offer.run, offer.round), passed_over=False)
    state = replace(state, invitation=None, begins_at=0.0)
    if outlives(state.job, offer, is_asked=is_asked):
        # One thing at a time: what is half done first, and then this, if it is open still.
        return replace(state, invitation=event), []
    state, effects = _drop_job(state)
    state, more = _follow(state, event, event.at, rules)
    return state, effects + more


def _follow(
    state: Session, event: Offered, at: Seconds, rules: Rules, *, its_turn: bool = False
) -> tuple[Session, list[Effect]]:
    """Take the offer up or turn it down. It has come at `event.at`, and no other is worked on.
    `its_turn`: those that are drawn to begin before this one have had the time to."""
    offer = event.offer
    purpose = _purpose(state, offer, rules)
    if purpose is None:
        return replace(state, passed_over=True), []
    if _owes(state, offer):
        return state, []
    if offer.sortition is not None and state.hindrance:
        # Nobody counts on it, and it may come in yet. To decline would be a message of each client
        # of a fleet that is drawn, by day when all of them are in use.
        return replace(state, invitation=event), []
    if reason := _why_not(state, offer, purpose, rules):
        return state, _decline(state, offer, reason, rules)
    if reason := privacy.fault(offer, purpose, rules.terms, state.known_model, state.told):
        # Its owner has to know: it will be so in each round.
        state, births = _trouble(state, reason, rules)
        return state, births + _decline(state, offer, reason, rules)
    closes_at = event.at + _left(event)
    if closes_at <= at:
        return state, [Note("offer is over", str(offer.round))]
    if purpose == "train" and owes_memory(state, offer.run):
        return replace(state, invitation=event), []
    if purpose == "train" and not its_turn and (begins_at := _turn_at(event, rules)) > at:
        # Others begin before: it may be that so many answer that it need not.
        return replace(state, invitation=event, begins_at=begins_at), []
    return replace(state, job=Fetching(offer, purpose, closes_at)), [_fetch(offer)]


def _turn_at(event: Offered, rules: Rules) -> Seconds:
    drawn = event.offer.sortition
    if drawn is None or not drawn.begin_s:
        return event.at
    return event.at + drawn.begin_s * sortition.turn(drawn, event.offer.round, rules.client)


def _renew(state: Session, event: Offered, rules: Rules) -> tuple[Session, list[Effect]]:
    """What the offer says of the round that is worked on may have changed since."""
    job, offer = state.job, event.offer
    if state.invitation is not None and offer.round == state.invitation.offer.round:
        # Its turn does not come later for that.
        state = replace(state, invitation=event)
    if job is None or not _is_for(job, offer.run, offer.round):
        return state, []
    if _is_hidden_otherwise(job, offer):
        state, stops = _drop_job(state)
        state, more = _follow(state, event, event.at, rules)
        return state, stops + more
    closes_at = event.at + _left(event)
    if offer.epoch == job.offer.epoch:
        # One that was without a link gives its round the time back. An old copy takes none.
        job = replace(job, closes_at=max(job.closes_at, closes_at))
    elif closes_at > event.at:
        # One that has come back into its round knows how long that will last.
        job = replace(job, closes_at=closes_at)
    cut_anew = isinstance(job, Fetching) and offer.model != job.offer.model
    # The model's chunks lie there in another size: the broker carries other packets than before.
    effects: list[Effect] = [_fetch(offer)] if cut_anew else []
    return replace(state, job=replace(job, offer=offer)), effects


def _is_hidden_otherwise(job: Job, offer: Offer) -> bool:
    """Whether what its owner asks of an offer has to be looked at once more. What is being trained
    is so from the model, as it was asked and for the masks that it began with."""
    if offer.masking != job.offer.masking:
        return True
    if not isinstance(job, Fetching):
        return False
    is_built_otherwise = offer.model.fingerprint != job.offer.model.fingerprint
    # By a digest that is right, as what an offer says of itself is what is to be looked at.
    asks_otherwise = offered_work.digest(offer) != offered_work.digest(job.offer)
    return is_built_otherwise or asks_otherwise


def _owes(state: Session, offer: Offer) -> bool:
    return any(one.answer.is_for(offer.run, offer.round) for one in state.owed)


def _left(event: Offered) -> Seconds:
    left = event.offer.closes_in_s
    return left if event.expires_in_s is None else min(left, event.expires_in_s)


def _fetch(offer: Offer) -> Effect:
    return Fetch(offer.run, offer.round, offer.model)


def _is_for(job: Job, run: RunId, round_id: RoundId) -> bool:
    return (job.offer.run, job.offer.round) == (run, round_id)


def _purpose(state: Session, offer: Offer, rules: Rules) -> Purpose | None:
    for purpose in PURPOSES:
        # Whoever is invited by name was willing a moment ago, and tells that it is not any more.
        would = offer.sortition is None or purpose in willing(state, rules)
        if would and sortition.invites(offer, rules.client, purpose):
            return "describe" if purpose == "train" and offer.describes else purpose
    return None


def _why_not(state: Session, offer: Offer, purpose: Purpose, rules: Rules) -> str:
    if offer.wire != WIRE_VERSION:
        return f"this client speaks wire version {WIRE_VERSION}, not {offer.wire}"
    if offer.task != rules.task:
        return f"this client runs task {rules.task!r}, not {offer.task!r}"
    if purpose not in rules.purposes:
        what = "describe its data" if purpose == "describe" else purpose
        return f"this client's owner does not let it {what}"
    return state.hindrance or _no_room(state, offer, purpose, rules)


def _no_room(state: Session, offer: Offer, purpose: Purpose, rules: Rules) -> str:
    # What an update will take is known when it is there; the model's size is close, or more. What
    # was measured takes next to nothing.
    next_bytes = 0 if purpose == "evaluate" else offer.model.size_bytes
    owed_bytes = sum(one.answer.size_bytes for one in state.owed)
    if owed_bytes + next_bytes <= rules.outbox_bytes_max:
        return ""
    return (
        f"the outbox is full: {owed_bytes} bytes wait for their receipts, and {next_bytes} more"
        f" would exceed this client's outbox_bytes_max = {rules.outbox_bytes_max}"
    )


def _decline(state: Session, offer: Offer, reason: str, rules: Rules) -> list[Effect]:
    lane = _lane(rules, offer.lanes)
    return _say_no(state, lane, offer.run, offer.round, reason, rules)


def _say_no(
    state: Session, lane: int, run: RunId, round_id: RoundId, reason: str, rules: Rules
) -> list[Effect]:
    if not state.online:
        return []
    where = UpdatePart(lane, rules.client, round_id, "0")
    return [Publish(where, Decline(run=run, round=round_id, reason=reason[:_NOTE_MAX]))]


def _forget_offer(state: Session) -> tuple[Session, list[Effect]]:
    """It is over, or so it seems: should it be offered again, it is taken up from anew.

    As by a coordinator that was stopped and started.
    """
    job = state.job
    if job is None or _may_be_late(job):
        return state, []
    return _drop_job(replace(state, seen=(job.offer.run, RoundId(job.offer.round - 1))))


def _forget_invitation(state: Session) -> Session:
    """So that it is considered anew, too."""
    if state.invitation is None:
        return state
    offer = state.invitation.offer
    seen = offer.run, RoundId(offer.round - 1)
    return replace(state, invitation=None, begins_at=0.0, seen=seen)


def _may_be_late(job: Job) -> bool:
    goes_on = isinstance(job, Working) or job.offer.asynchronous
    return goes_on and job.purpose == "train" and job.offer.late_rounds > 0


def _fetches_older(job: Job | None, offer: Offer) -> bool:
    return isinstance(job, Fetching) and job.offer.round < offer.round


def _drop_job(state: Session) -> tuple[Session, list[Effect]]:
    if state.job is None:
        return state, []
    return replace(state, job=None), [Stop(state.job.offer.run, state.job.offer.round)]


# Work


def _start_work(state: Session, digest: Digest, rules: Rules) -> tuple[Session, list[Effect]]:
    match state.job:
        case Fetching(offer, purpose, closes_at) if offer.model.digest == digest:
            if purpose == "train" and offer.masking is not None:
                # Whatever it said since it was taken up: that is what is signed.
                assert offer.masking.work == offered_work.digest(offer)
            if purpose == "train" and privacy.pins_model(offer, rules.terms, state.told):
                state = replace(state, known_model=offer.model.fingerprint)
            state = replace(state, told=disclosed.begin(state.told, offer, purpose))
            return replace(state, job=Working(offer, purpose, closes_at)), [Work(offer, purpose)]
        case _:
            return state, []


def _finish(state: Session, event: Finished, rules: Rules) -> tuple[Session, list[Effect]]:
    answer = event.answer
    if any(one.answer == answer for one in state.owed):
        return state, []
    if not isinstance(state.job, Working) or not _is_for(state.job, answer.run, answer.round):
        return state, [Forget(answer)]
    lane = _lane(rules, state.job.offer.lanes)
    owed = Owed(answer, lane, event.at, remembers=event.remembers)
    told_before = presence(state, rules)
    state = replace(state, job=None, trouble="")
    return _owe(state, owed, event.at, told_before, rules)


def _find(state: Session, event: Found, rules: Rules) -> tuple[Session, list[Effect]]:
    answer, told_before = event.answer, presence(state, rules)
    if any(one.answer == answer for one in state.owed):
        return state, []
    stops: list[Effect] = []
    if state.job is not None and _is_for(state.job, answer.run, answer.round):
        # Offered again meanwhile.
        state, stops = _drop_job(state)
    # As with what is found at the start, it is not known how many lanes there are.
    owed = Owed(answer, _lane(rules, 1), event.at)
    state, effects = _owe(state, owed, event.at, told_before, rules)
    state, refusals = _reconsider(state, rules)
    return state, stops + effects + refusals


def _reconsider(state: Session, rules: Rules) -> tuple[Session, list[Effect]]:
    """More has been told since what is worked on was taken up."""
    job = state.job
    if job is None:
        return state, []
    reason = privacy.fault(job.offer, job.purpose, rules.terms, state.known_model, state.told)
    if not reason:
        return state, []
    state, stops = _drop_job(state)
    state, births = _trouble(state, reason, rules)
    return state, stops + births + _decline(state, job.offer, reason, rules)


def _owe(
    state: Session, owed: Owed, at: Seconds, told_before: Presence, rules: Rules
) -> tuple[Session, list[Effect]]:
    told = disclosed.finish(state.told, owed.answer.run, owed.answer.round)
    state = replace(state, owed=(*state.owed, owed), told=told)
    state, sends = _send_due(state, at, rules)
    # The presence still tells of the trouble that is over, and of what is not done any more: who
    # has answered under a mask measures nothing in the open.
    is_other = presence(state, rules) != told_before
    births = [_birth(state, rules)] if is_other and state.online else []
    state, next_work = _take_invitation(state, at, rules)
    return state, births + sends + next_work


def _take_invitation(
    state: Session, at: Seconds, rules: Rules, *, its_turn: bool = False
) -> tuple[Session, list[Effect]]:
    if state.invitation is None or state.job is not None:
        return state, []
    invitation, state = state.invitation, replace(state, invitation=None, begins_at=0.0)
    return _follow(state, invitation, at, rules, its_turn=its_turn)


def _fail(state: Session, event: Failed, rules: Rules) -> tuple[Session, list[Effect]]:
    if state.job is None or not _is_for(state.job, event.run, event.round):
        return state, []
    offer, reason = state.job.offer, event.reason
    notes: list[Effect] = []
    if isinstance(state.job, Working) and offer.masking is not None:
        # A task may say anything at all of its data, and what is told here is read by all.
        notes.append(Note("training failed", f"round {offer.round}: {reason}"))
        reason = "training failed; the log of this device tells why"
    told = f"round {offer.round}: {reason}"
    state, births = _trouble(replace(state, job=None), told, rules)
    declines = _decline(state, offer, reason, rules)
    state, next_work = _take_invitation(state, event.at, rules)
    return state, notes + births + declines + next_work


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
        run=answer.run,
        round=answer.round,
        digest=answer.digest,
        size_bytes=answer.size_bytes,
        chunk_bytes=state.chunk_bytes,
    )
    return Publish(UpdatePart(one.lane, rules.client, answer.round, ANNOUNCE), announce)


def _give_up(state: Session, event: AnswerGone, rules: Rules) -> tuple[Session, list[Effect]]:
    gone = next((one for one in state.owed if one.answer == event.answer), None)
    if gone is None:
        return state, []
    run, round_id, reason = gone.answer.run, gone.answer.round, event.reason
    state = replace(state, owed=tuple(one for one in state.owed if one is not gone))
    told = f"the answer to round {round_id} is lost: {reason}"
    state, births = _trouble(state, told, rules)
    # Its round may be open still, and need not wait for what will not come.
    declines = _say_no(state, gone.lane, run, round_id, reason, rules)
    state, next_work = _take_invitation(state, event.at, rules)
    return state, births + declines + next_work


def _receive(
    state: Session, at: Seconds, message: Receipt | Go | TimeLeft, rules: Rules
) -> tuple[Session, list[Effect]]:
    match message:
        case TimeLeft(run=run, round=round_id, closes_in_s=left):
            if state.job is not None and _is_for(state.job, run, round_id):
                return replace(state, job=replace(state.job, closes_at=at + left)), []
            return state, []
        case Go(run=run, round=round_id, digest=digest, ranges=ranges):
            for one in state.owed:
                asked_for = one.answer.is_for(run, round_id) and one.answer.digest == digest
                if asked_for and state.online:
                    send = SendChunks(one.answer, one.lane, ranges, state.chunk_bytes)
                    return _put_off(state, one, at), [send]
            return state, []
        case Receipt():
            return _settle(state, at, message, rules)


def _put_off(state: Session, one: Owed, at: Seconds) -> Session:
    # The coordinator is taking it: announcing it again would only add to the queue.
    later = replace(one, send_at=at + one.wait_s)
    return replace(state, owed=tuple(later if other is one else other for other in state.owed))


def _settle(
    state: Session, at: Seconds, receipt: Receipt, rules: Rules
) -> tuple[Session, list[Effect]]:
    settled = [one for one in state.owed if one.answer.is_for(receipt.run, receipt.round)]
    if not settled:
        return _stop_what_counts(state, at, receipt, rules)
    state = replace(state, owed=tuple(one for one in state.owed if one not in settled))
    outcome = "accepted" if receipt.accepted else f"not counted: {receipt.reason}"
    if receipt.next_round_in_s >= 1:
        outcome += f"; next round in about {receipt.next_round_in_s:.0f} s"
    told = Note("receipt", f"round {receipt.round} {outcome}")
    forgets: list[Effect] = [
        Forget(one.answer, receipt.accepted, receipt.counted) for one in settled
    ]
    births: list[Effect] = []
    if receipt.blamed:
        what = f"the coordinator refuses the answer to round {receipt.round}: {receipt.reason}"
        told = Note(TROUBLE, what)
        state, births = _trouble(state, what, rules)
    state, next_work = _take_invitation(state, at, rules)
    state, leaves = _leave_if_idle(state, at + receipt.next_round_in_s, at, rules)
    return state, [*forgets, told, *births, *next_work, *leaves]


def _stop_what_counts(
    state: Session, at: Seconds, receipt: Receipt, rules: Rules
) -> tuple[Session, list[Effect]]:
    """With sortition: it has answered this round and forgotten it, as a phone after a reboot."""
    job = state.job
    if job is None or job.offer.sortition is None or not receipt.accepted:
        return state, []
    if not _is_for(job, receipt.run, receipt.round):
        return state, []
    state, stops = _drop_job(state)
    state, next_work = _take_invitation(state, at, rules)
    told = Note("answered before", f"round {receipt.round}")
    return state, [*stops, told, *next_work]


def _leave_if_idle(
    state: Session, back_at: Seconds, at: Seconds, rules: Rules
) -> tuple[Session, list[Effect]]:
    # Who would be back at once, with all the others, had better stay.
    is_long = 0 < rules.leave_from_s <= back_at - at - state.spread_s
    if not is_long or not state.online or state.owed or state.job is not None:
        return state, []
    return replace(state, online=False), [Leave(back_at)]


# Time


def _wake(state: Session, at: Seconds, rules: Rules) -> tuple[Session, list[Effect]]:
    effects: list[Effect] = []
    if state.job is not None and at >= state.job.closes_at:
        round_id = state.job.offer.round
        if _may_be_late(state.job):
            state = replace(state, job=replace(state.job, closes_at=math.inf))
            effects.append(Note("late, and goes on", f"round {round_id}"))
        else:
            state, effects = _forget_offer(state)
            effects.append(Note("ran out of time", f"round {round_id}"))
    state, sends = _send_due(state, at, rules)
    effects += sends
    if state.begins_at and at >= state.begins_at:
        state = replace(state, begins_at=0.0)
        state, begins = _take_invitation(state, at, rules, its_turn=True)
        effects += begins
    return state, effects


def _wake_at(state: Session) -> Seconds | None:
    """When something may be due though nobody says anything."""
    times = [one.send_at for one in state.owed] if state.online else []
    if state.job is not None and state.job.closes_at < math.inf:
        times.append(state.job.closes_at)
    if state.begins_at:
        times.append(state.begins_at)
    return min(times, default=None)


def _lane(rules: Rules, lanes: int) -> int:
    return lane_of(rules.client, lanes)
