"""The round machine: who was invited, who answered, when the round closes.

`step` reads no clock, draws no chance and touches no tensor; the service folds an update when it
sees `Accept`, writes it down and says `Stored`, and makes the next model when it sees `Close`. The
roster is the one thing that `step` changes in place.

    UpdateCame ──▶ Accept ──▶ (folded, on its way to the disk) ──▶ Stored ──▶ Receipt
                                                               └─▶ Lost: it is owed again

A receipt lets the client forget its answer, so it is said only when a loss of power would not lose
the answer, and no round closes while an answer that counts is still on its way there.

               enough clients                cohort complete, or nobody left to wait for,
               are willing                   or the deadline
    Waiting ───────────────────▶ Collecting ───────────────────────────┬──▶ Averaging
       ▲                                                               │        │
       │◀──────────────── fewer answers than the quorum: model kept ───┘        │ ModelReady
       │◀───────────────────────────────────────────────────────────────────────┘
       └──▶ Finished, after the last round and a last evaluation

Where rounds are asynchronous (`Rules.concurrency`), a round is a version of the model: it is over
with its cohort of answers to any version, `coordinator/concurrency.py` tells who is at work, and a
place that is free is given to another at once, by `Invite`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, TypeVar

from msgspec import structs

from coordinator import concurrency, fleet_size, orders, pacing
from coordinator.concurrency import Places
from coordinator.known import Known, Learned, Report
from coordinator.orders import NO_ORDERS, Control, Obeyed, Order, Situation
from coordinator.pacing import Bounds, Pace, Seen
from coordinator.roster import Roster
from fedmqtt import offered_work, sortition
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    PLAIN,
    PURPOSES,
    Masking,
    Method,
    ModelRef,
    Offer,
    Presence,
    Purpose,
    Receipt,
    SlowLinks,
    Sortition,
    TimeLeft,
    Training,
)
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId, RunId

Clients = frozenset[ClientId]
NOBODY: Clients = frozenset()

REFUSED = "refused"
"""The note about an answer that does not count: who sent it, and why not."""

SPREAD_MAX_S: Seconds = 600.0
"""However large the fleet: the last to return should not miss many rounds."""

COMPLETE = "cohort complete"
"""Why a round closes when all goes well."""

DEADLINE = "deadline"

GIVEN_UP = "the model goes back to an older one"
"""Why a round closes without a model when an operator says so."""

SETTLED_ROUNDS = 16
"""How many closed rounds are remembered, for clients that ask again about an old answer."""

HELD_PER_COHORT = 4
"""Late answers that may wait to be folded, in cohorts: each takes a little from what the exact sum
can resolve."""

UNSAID_MAX = 1000
"""Refusals that wait for a model; names can be made up without end."""

ROOM_FACTOR = 2
"""With sortition: for as many as were invited when the round opened there is room again."""

BEGIN_SHARE = 0.25
"""Of the time that rounds took lately, in which those begin who are drawn in a quiet federation."""

UNSURE_BEGIN_SHARE = 0.25
"""Of its deadline, in which those begin who are drawn in a quiet federation of unknown size."""

Late = Literal["discard", "weigh", "buffer"]
"""What becomes of a good answer whose round has closed.

`discard`: it is refused. `weigh`: it counts in the round that closes next, for less (see
`coordinator/sums/late.py`). `buffer`: so too, but only when `late_batch` of them are together.
"""

Select = Callable[
    [Sequence[ClientId], int, RoundId, Purpose, Mapping[ClientId, Known]], tuple[ClientId, ...]
]
"""(sorted candidates, how many, round, for what, what is known of clients) -> whom to invite; the
same each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Knobs of a federation's rounds, and what its offers say."""

    select: Select
    by_sortition: bool = False
    """Clients see for themselves whether they are invited; `select` is not asked."""
    fleet: int = 0
    """How many clients there may be of which none says that it is there: the federation is quiet.
    With sortition; 0: each says so."""
    purpose: Purpose = "train"
    """What the run is for: whom its rounds invite to do what. With evaluate, there is the last
    evaluation alone."""
    rounds: int
    """How many to run; 0 runs until stopped."""
    cohort: int
    """Answers that complete a round."""
    pace: Bounds
    """How many are invited per answer wanted, and until when: learned, within these."""
    quorum: int = 1
    """Fewest answers that make a new model."""
    clients_min: int = 1
    """Fewest willing clients to open a round with."""
    pause_s: Seconds = 0.0
    """Between rounds."""
    retry_s: Seconds = 5.0
    """Before another try, after a round that kept the old model."""
    away_grace_s: Seconds = 10.0
    """How long an invited client may be gone before a round with a quorum stops waiting for it."""
    evaluate_every: int = 1
    """Evaluate the model on clients' own data each so many rounds and at the end; 0 never."""
    evaluators: int = 0
    """How many clients evaluate; 0 is all. Who trains too, evaluates before it trains."""
    final_deadline_s: Seconds = 60.0
    """How long the last evaluation waits for clients that are away."""
    greet_s: Seconds = 0.0
    """After a restart: how long it takes until whoever is there has been heard of."""
    late: Late = "discard"
    late_batch: int = 1
    """With `buffer`: how many are folded at a time."""
    late_rounds_max: int = 5
    """An answer that is older by more rounds is refused."""
    returns_per_s: float = 200.0
    """How many clients should come back in a second after a broker's restart; see `spread_s`."""
    run: RunId
    epoch: int = 0
    task: str = ""
    training: Training = field(default_factory=Training)
    method: Method = PLAIN
    codec: str = "full"
    slow_links: SlowLinks | None = None
    lanes: int = 1
    seed: int = 0
    participations_max: int = 0
    """In how many rounds' sums a device may be; 0: in all."""
    concurrency: int = 0
    """How many clients are at work at any time, whatever version they began with; 0: rounds are
    synchronous, and what is begun in one is waited for."""
    masked: bool = False
    """Answers are masked: a round opens only with keyholders' keys, which `KeysCame` brings."""
    is_led: bool = False
    """At a site: no round opens until `LeadCame` tells from which model, and when none of its own
    is meant any more."""
    tells_measures: bool = True
    """Clients may be invited to measure a model and tell what they found as it is: not where
    answers are masked."""

    @property
    def is_asynchronous(self) -> bool:
        return self.concurrency > 0

    @property
    def is_quiet(self) -> bool:
        """Whether nobody is known of but by its answers."""
        return self.fleet > 0

    @property
    def mixes_masks(self) -> bool:
        """Whether masked answers to several rounds come into one sum."""
        return self.masked and self.is_asynchronous

    @property
    def held_max(self) -> int:
        """Late answers that may wait to be folded."""
        return HELD_PER_COHORT * max(self.cohort, self.concurrency)

    @property
    def remembered_rounds(self) -> int:
        """Closed rounds that are remembered."""
        # Versions are small, and many of them may pass until a slow client answers.
        return remembered_rounds(self.late_rounds_max if self.is_asynchronous else 0)


def remembered_rounds(late_rounds_max: int) -> int:
    return max(SETTLED_ROUNDS, late_rounds_max + 1)


@dataclass(frozen=True, slots=True)
class Settled:
    """A closed round: whose answers counted in it, or will although they came late."""

    round: RoundId
    answered: Clients
    model: ModelRef
    train: Clients
    sortition: Sortition | None = None
    is_shut: bool = False
    """As it was in the end: see `Shut`."""
    masking: Masking | None = None
    """How its answers are masked, and by whose keys."""

    @property
    def is_for_training(self) -> bool:
        """Whether anybody was invited to train; in a quiet federation, perhaps nobody came."""
        return bool(self.train) or sortition.trains_quietly(self.sortition)


@dataclass(frozen=True, slots=True)
class Named:
    """An answer, of this run."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is remembered from one round to the next."""

    pace: Pace
    settled: tuple[Settled, ...] = ()
    late: int = 0
    """Updates that came after their round had closed."""
    held: tuple[Named, ...] = ()
    """Late answers that will be folded when a round closes."""
    storing: frozenset[Named] = frozenset()
    """Accepted, and on their way to the disk."""
    typical_s: Seconds = 0.0
    """How long rounds took lately; 0 before the first has closed."""
    deaf_since: Seconds | None = None
    """Without a link nobody can be heard: what waits for clients waits for the link."""
    greets_until: Seconds = 0.0
    """Who has just got a link opens no round before: it would invite the first few it hears of."""
    at_work: Places = field(default_factory=dict)
    """Where rounds are asynchronous."""
    masking: Masking | None = None
    """How answers to the next round will be masked; None while keyholders are waited for."""
    control: Control = NO_ORDERS
    """What operators have ordered."""
    sizes: fleet_size.Belief = ()
    """Of a quiet federation: how many would answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """What the next round is to be, where somebody else says so: at a site."""

    round: RoundId
    """Its number, unless there was one as high before."""
    closes_by: Seconds = math.inf
    """After that nobody waits for what it comes to."""
    trains: bool = True
    """Else its clients measure the model alone."""
    measures: bool = False
    """Who trains measures it first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Between rounds: for a first model, for clients, for a pause to end, for an operator, or at a
    site to be led."""

    round: RoundId
    """The next one."""
    past: Past
    model: ModelRef | None = None
    not_before: Seconds = 0.0
    lead: Lead | None = None
    """Of the next round, once there is one."""

    @property
    def opens_from(self) -> Seconds:
        return max(self.not_before, self.past.greets_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """A round is open."""

    round: RoundId
    model: ModelRef
    train: Clients
    """With sortition: as far as the coordinator has heard of them. So is the next."""
    evaluate: Clients
    sortition: Sortition | None = None
    train_max: int = 0
    """With sortition: so many may come to be invited. So says the next of those that evaluate."""
    evaluate_max: int = 0
    is_shut: bool = False
    """Who is to train is written down, and nobody else will be: see `Shut`."""
    opened_at: Seconds
    """Moved on by the time in which there was no link, as `closes_at`."""
    closes_at: Seconds
    terms_max: int
    """How many answers its sum has room for."""
    masking: Masking | None = None
    called_off: str = ""
    """Why nobody wants it any more, at a site."""
    closing: str = ""
    """Why it closed, of a round of which keyholders may have been told already whose answers
    counted: it closes with just those."""
    answered: Clients = NOBODY
    evaluated: Clients = NOBODY
    declined: Mapping[ClientId, str] = field(default_factory=dict)
    rejected: Mapping[ClientId, str] = field(default_factory=dict)
    away: Mapping[ClientId, Seconds] = field(default_factory=dict)
    """Since when an invited client that owes an answer has been gone."""
    past: Past

    @property
    def is_last_evaluation(self) -> bool:
        return not self.train and not sortition.trains_quietly(self.sortition)

    @property
    def is_quiet(self) -> bool:
        """Whether more may be invited than anybody here knows of."""
        return self.sortition is not None and self.sortition.quiet

    @property
    def outstanding(self) -> Clients:
        """Invited to train and not heard of."""
        return self.train - self.answered - self.declined.keys() - self.rejected.keys()

    def is_surely_missing_more_than(self, count: int) -> bool:
        """A bound on how many are outstanding, for less than it costs to find out who.

        Each message of a large cohort asks; nearly always, many more are missing.
        """
        heard_at_most = len(self.answered) + len(self.declined) + len(self.rejected)
        return len(self.train) - heard_at_most > count

    @property
    def evaluations_outstanding(self) -> Clients:
        """Invited to evaluate alone and not heard of; who trains sends both in one answer."""
        heard = self.evaluated | self.declined.keys() | self.rejected.keys()
        return self.evaluate - self.train - heard

    def owes(self, client: ClientId) -> bool:
        """Whether this client was invited to either and has not been heard of."""
        invited = client in self.train or client in self.evaluate
        done = client in self.answered or client in self.evaluated
        return invited and not done and client not in self.declined and client not in self.rejected


@dataclass(frozen=True, slots=True)
class Averaging:
    """The round is closed and the service is making the next model, or going back to an old one."""

    round: RoundId
    """The next one."""
    past: Past
    unsaid: Mapping[ClientId, "tuple[Effect, ...]"] = field(default_factory=dict)
    """Refusals of who came too late for the round that has just closed, until that is written down:
    were we killed before, it would be open again, and a copy of what was refused could count."""
    goes_back_to: RoundId | None = None
    """The closed round whose model is to be the current one; None where a new one is made."""


@dataclass(frozen=True, slots=True)
class Finished:
    past: Past


State = Waiting | Collecting | Averaging | Finished
S = TypeVar("S", bound=State)
OpenSoon = TypeVar("OpenSoon", Waiting, Collecting)


@dataclass(frozen=True, slots=True)
class ClientCame:
    at: Seconds
    client: ClientId
    presence: Presence


@dataclass(frozen=True, slots=True)
class ClientLeft:
    at: Seconds
    client: ClientId
    session: str


@dataclass(frozen=True, slots=True)
class AnnounceCame:
    """A client has an answer too large for one message, and asks when to send it."""

    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    fault: str = ""
    excused: bool = False
    """The fault is not its sender's."""


@dataclass(frozen=True, slots=True)
class UpdateCame:
    """A whole update, and what the service found wrong with its numbers, if anything."""

    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    base: str
    fingerprint: str
    fault: str = ""
    samples: int = 1
    loss: float | None = None
    """As its sender reports them."""
    excused: bool = False
    """The fault is not its sender's."""


@dataclass(frozen=True, slots=True)
class EvaluationCame:
    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    base: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    reason: str


@dataclass(frozen=True, slots=True)
class Barred:
    """The client is not to be invited nor waited for until `Unbarred`, and why."""

    at: Seconds
    client: ClientId
    why: str


@dataclass(frozen=True, slots=True)
class Unbarred:
    at: Seconds
    client: ClientId


@dataclass(frozen=True, slots=True)
class Stored:
    """These accepted answers would survive a loss of power now."""

    at: Seconds
    answers: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """These accepted answers will not be stored, since the program that held them is gone."""

    at: Seconds
    answers: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The model that the next round starts from can be fetched."""

    at: Seconds
    model: ModelRef
    fault: str = ""
    """Why it is the one of before, where that of another round was to come back."""


@dataclass(frozen=True, slots=True)
class LeadCame:
    """At a site: a round is to open from this model, which can be fetched."""

    at: Seconds
    model: ModelRef
    lead: Lead


@dataclass(frozen=True, slots=True)
class CalledOff:
    """At a site: the round that was led is wanted no more, be it open or not."""

    at: Seconds
    why: str


@dataclass(frozen=True, slots=True)
class KeysCame:
    """Where answers are masked: by which keys in the next round. None: there are too few."""

    at: Seconds
    masking: Masking | None


@dataclass(frozen=True, slots=True)
class OrderCame:
    """An operator's order, proven to be one."""

    at: Seconds
    order: Order
    models: tuple[RoundId, ...] = ()
    """The rounds whose models are kept, oldest first."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Nobody can be heard from now on."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Who is there will be heard."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = (
    ClientCame
    | ClientLeft
    | AnnounceCame
    | UpdateCame
    | EvaluationCame
    | Declined
    | Barred
    | Unbarred
    | Stored
    | Lost
    | ModelReady
    | LeadCame
    | CalledOff
    | KeysCame
    | OrderCame
    | LinkDown
    | LinkUp
    | Woke
)


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the client send the answer it announced, when there is room for it."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Accept:
    """Fold the update that just came into the running sum, and store it; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class AcceptEvaluation:
    """Count the evaluation that just came, and store it; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Hold:
    """Store the late update that just came, to be folded with a later round; `Stored` follows."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Blame:
    """What the client sent was refused for what it is: not for being late, or not asked for."""

    client: ClientId
    reason: str


@dataclass(frozen=True, slots=True)
class Invite:
    """More clients are invited to train in the open round: write down who was, and say its offer
    again."""

    round: RoundId
    clients: Clients
    """The new ones."""


@dataclass(frozen=True, slots=True)
class Shut:
    """By sortition, somebody is to be refused for want of room, for the first time in this round.
    Before that, write down who has come in: were some of them forgotten, there would be room again,
    and a copy of what was refused would count."""

    round: RoundId
    clients: Clients
    """All that are to train."""


Outcome = Literal["averaged", "kept", "evaluated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The round is over. `averaged`: make the next model from the running sum; else keep it."""

    round: RoundId
    outcome: Outcome
    reason: str
    invited: Clients
    answered: Clients
    evaluated: Clients
    declined: Mapping[ClientId, str]
    rejected: Mapping[ClientId, str]
    surplus: Clients
    """There and at work when the round was complete without them: over-selection's price. Where
    rounds are asynchronous, they go on."""
    duration_s: Seconds
    held: tuple[Named, ...] = ()
    """Late answers to fold into this round's sum before the model is made."""
    pace: Pace
    """What the next round will go by, and why."""
    sizes: fleet_size.Belief = ()
    """So, too, in a quiet federation."""
    learned: Learned = field(default_factory=dict)
    """Of those that took part: written down with the round."""
    participations: Mapping[ClientId, int] = field(default_factory=dict)
    """What is counted of those whose answers its sum has, where that has an end: written down with
    the round too, whatever comes of the sum."""

    @property
    def counted(self) -> list[tuple[ClientId, RoundId]]:
        """The answers that went into it: whose, and to which round; in an order that is fixed."""
        in_time = [(client, self.round) for client in sorted(self.answered)]
        return [*((one.client, one.round) for one in self.held), *in_time]

    @property
    def dropped(self) -> Clients:
        """Invited to train, and lost: gone, too slow for the deadline, or declined."""
        return self.invited - self.answered - self.rejected.keys() - self.surplus


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the operator what came of its order. Where the order `is_new`, `control` is written down
    before: an operator that was told is not contradicted after a kill."""

    obeyed: Obeyed
    is_new: bool
    control: Control
    """Before anything follows from the order: who is wanted by it is invited yet."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """Make the model of this closed round the current one, and say `ModelReady`."""

    round: RoundId
    dropped: tuple[Named, ...]
    """Late answers that were to be folded, and count in no round now."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more will happen: withdraw what is retained, and end."""


Effect = (
    Publish
    | WakeAt
    | Note
    | Admit
    | Accept
    | AcceptEvaluation
    | Hold
    | Invite
    | Shut
    | Blame
    | Close
    | Answer
    | GoBack
    | Finish
)


def step(state: State, event: Event, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    """The next state, and what the service must do about it. Never raises on any event."""
    # Before the roster changes: who rests from now on needs an alarm that was not set yet.
    was_at = _wake_at(state, event.at, rules, roster)
    following, effects = _decide(state, event, rules, roster)
    wake_at = _wake_at(following, event.at, rules, roster)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (isinstance(event, Woke) or wake_at != was_at):
        effects.append(WakeAt(wake_at))
    return following, effects


def terms_max(invited: int, rules: Rules) -> int:
    """How many answers may be folded into a round that invites so many."""
    if rules.is_asynchronous:
        # More are invited while it is open.
        invited = max(invited, rules.held_max)
    return invited + (0 if rules.late == "discard" else rules.held_max)


def room(invited: int) -> int:
    """With sortition: how many may be invited to a round that opened with so many."""
    return ROOM_FACTOR * invited


def places(rules: Rules) -> int:
    """In a quiet federation: for how many of those who are drawn to train there is room."""
    return room(pacing.invite_limit(rules.pace.over_selection_max, rules.cohort))


def begin(rules: Rules) -> Waiting:
    """Before the first round of a run, and before its first model."""
    sizes = fleet_size.begin(rules.fleet) if rules.is_quiet else ()
    return Waiting(RoundId(1), Past(pace=pacing.begin(rules.pace), sizes=sizes))


def resume(open_round: Collecting, at: Seconds) -> Collecting:
    """An open round after the coordinator was gone, with all that the ledger knew of it.

    Whoever owes an answer is away until the broker tells otherwise: it may have gone meanwhile, and
    its will with it.
    """
    owing = open_round.outstanding | open_round.evaluations_outstanding
    # A good answer may have been written down, and not that it made up for a refusal before.
    for client in open_round.answered | open_round.evaluated:
        open_round = _pardon(open_round, client)
    return replace(open_round, away=dict.fromkeys(sorted(owing), at))


def has_counted(state: State, client: ClientId, round_id: RoundId) -> bool:
    """Whether this client's answer to this round has been accepted already."""
    if isinstance(state, Collecting) and round_id == state.round:
        return client in state.answered or client in state.evaluated
    settled = _settled(state, round_id)
    return settled is not None and client in settled.answered


def may_count(state: State, client: ClientId, run: RunId, round_id: RoundId, rules: Rules) -> bool:
    """Whether an update could count if nothing were wrong with it. Else to look at its numbers is
    in vain."""
    if run != rules.run or has_counted(state, client, round_id):
        return False
    if isinstance(state, Collecting) and round_id == state.round:
        return not _why_uninvited(state, client, "train")
    return not _late_fault(state, client, round_id, rules) and _has_room_for_late(state, rules)


def waits_for_storing_alone(state: State, at: Seconds, rules: Rules) -> bool:
    """Whether the open round is over as soon as all that was accepted is stored."""
    if not isinstance(state, Collecting) or not state.past.storing:
        return False
    return bool(_why_close(state, at, rules))


def is_to_come(state: State, round_id: RoundId) -> bool:
    """Whether there may be an answer to this round one day, and can be none yet."""
    return not isinstance(state, Finished) and round_id > state.round


def may_yet_count(state: State, round_id: RoundId, rules: Rules) -> bool:
    """Whether any answer to this round may be accepted from now on. Else it is refused for good."""
    if isinstance(state, Finished):
        return False
    if round_id >= state.round:
        return True
    if isinstance(state, Averaging) and round_id == state.round - 1:
        # Until it is written that it has closed: after a kill it is open again.
        return True
    is_remembered = state.round - round_id <= rules.late_rounds_max
    return rules.late != "discard" and _more_to_come(state, rules) and is_remembered


def trained_last(state: State) -> RoundId:
    """The newest closed round that clients trained in; 0 before the first."""
    trained = (one.round for one in state.past.settled if one.is_for_training)
    return max(trained, default=RoundId(0))


def is_used_up(state: State, rules: Rules, roster: Roster) -> bool:
    """Whether rounds ended before all were done, as too few may take part in another."""
    is_over = isinstance(state, Finished) or (
        isinstance(state, Collecting) and state.is_last_evaluation
    )
    is_early = not rules.rounds or trained_last(state) < rules.rounds
    return is_over and is_early and roster.is_used_up(max(1, rules.clients_min))


def masking_in_use(state: State) -> tuple[Masking | None, int]:
    """How answers are masked that still count, and how many rounds have been offered with those
    keys."""
    offered = [one.masking for one in state.past.settled]
    if isinstance(state, Collecting):
        offered.append(state.masking)
    newest = offered[-1] if offered else None
    return newest, sum(one == newest for one in offered)


def older_models(state: State) -> tuple[ModelRef, ...]:
    """Those from which somebody who is at work began, or may be fetching, oldest first."""
    if isinstance(state, Finished):
        return ()
    numbers = {place.round for place in state.past.at_work.values()}
    return tuple(one.model for one in state.past.settled if one.round in numbers)


def _settled(state: State, round_id: RoundId) -> Settled | None:
    return next((one for one in state.past.settled if one.round == round_id), None)


def _decide(state: State, event: Event, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    before = state
    state, effects = _hold_back(*_take_in(state, event, rules, roster), event, rules)
    if state.past.deaf_since is not None:
        return state, effects
    # Always: an old answer, a decline or a will can bring in the client that a round waited for.
    following, more = _advance(state, event.at, rules, roster)
    if _is_idle(following) and not _is_idle(before):
        # Nobody should train for a round that is over, until the next one takes its place.
        more.append(Publish(OfferBoard(), None))
    return following, effects + more


def _is_idle(state: State) -> bool:
    return isinstance(state, Waiting)


def _take_in(
    state: State, event: Event, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    match event:
        case ClientCame(at, client, presence):
            before = roster.clients.get(client)
            is_new = before is None or before.presence.session != presence.session
            roster.came(at, client, presence)
            state = _join(_forget_away(state, client), client, roster)
            return _welcome(state, at, client, rules, is_new=is_new)
        case ClientLeft(at, client, session):
            return (
                _mark_away(state, at, client) if roster.left(at, client, session) else state
            ), []
        case AnnounceCame(at, client):
            roster.heard(at, client)
            state, effects = _take_announce(_forget_away(state, client), event, rules, roster)
            if Admit(client, event.round) not in effects:
                state = _done(state, client, event.run, event.round, rules)
            return state, effects
        case UpdateCame(at, client):
            roster.heard(at, client)
            state, effects = _take_update(_forget_away(state, client), event, rules, roster)
            return _done(state, client, event.run, event.round, rules), effects
        case EvaluationCame(at, client):
            roster.heard(at, client)
            return _take_evaluation(_forget_away(state, client), event, rules)
        case Declined(at, client):
            roster.heard(at, client)
            state = _take_decline(_forget_away(state, client), event, rules)
            return _done(state, client, event.run, event.round, rules), []
        case Barred(at, client, why):
            roster.bar(client, why)
            return _give_up_on(state, client, why), []
        case Unbarred(at, client):
            roster.unbar(client)
            return state, []
        case Stored(at, answers):
            return _take_stored(state, at, answers, rules)
        case Lost(at, answers):
            return _take_lost(state, at, answers, roster), []
        case ModelReady():
            unsaid = state.unsaid.values() if isinstance(state, Averaging) else ()
            return _take_model(state, event, rules), [*chain(*unsaid)]
        case OrderCame():
            return _take_order(state, event, rules, roster)
        case LeadCame():
            return _follow_lead(state, event), []
        case CalledOff(_, why):
            return _call_off(state, why), []
        case KeysCame(_, masking):
            return replace(state, past=replace(state.past, masking=masking)), []
        case LinkDown(at):
            return _go_deaf(state, at), []
        case LinkUp(at):
            return _hear_again(state, at, rules), []
        case Woke():
            return state, []


def _advance(state: State, at: Seconds, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    """Open or close a round if the time has come; invite more to an asynchronous one."""
    match state:
        case Waiting():
            return _open_if_ready(_clear_places(state, at, rules, roster), at, rules, roster)
        case Collecting():
            state, invites = _invite_more(
                _clear_places(state, at, rules, roster), at, rules, roster
            )
            following, effects = _close_if_due(state, at, rules, roster)
            return following, [*invites, *effects]
        case Averaging() | Finished():
            return state, []


# Opening


def _open_if_ready(
    state: Waiting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    if state.model is None:
        return state, []
    control = state.past.control
    if control.rollback is not None:
        return _go_back(state, control.rollback)
    if at < state.opens_from:
        return state, []
    roster.end_rests(at)
    if control.paused_by and not control.stopped_by:
        return state, []
    if rules.is_led and state.lead is None and not control.stopped_by:
        return state, []
    is_over = bool(control.stopped_by) or (bool(rules.rounds) and state.round > rules.rounds)
    needed = max(1, rules.clients_min) if state.lead is None or state.lead.trains else 0
    # Counted first: sorting a large fleet at each birth would be all the coordinator does.
    if not is_over and not rules.is_quiet and roster.willing_count(rules.purpose) < needed:
        if not roster.is_used_up(needed):
            return state, []
        is_over = True
    if rules.masked and not is_over and state.past.masking is None:
        return state, []
    if not is_over and state.lead is not None and not state.lead.trains:
        return _open_measuring(state, state.model, state.lead, at, rules, roster)
    if is_over or rules.purpose == "evaluate":
        return _open_last_evaluation(state, state.model, at, rules, roster)
    pace, model = state.past.pace, state.model
    if rules.is_quiet:
        at_most = pacing.invite_limit(rules.pace.over_selection_max, rules.cohort)
        train = _draw(rules.cohort, at_most, state.past)
        measures = rules.tells_measures and _is_measured(state, rules)
        evaluate = _draw_to_evaluate(state.past, rules) if measures else _NO_INVITATION
        deadline_s = _in_time(state, pace.deadline_s, at)
        return _open(state, model, train, evaluate, at, deadline_s, rules, roster)
    salt = _salt(model, rules)
    if rules.is_asynchronous:
        train = _Invited(_for_free_places(state, NOBODY, rules.concurrency, rules, roster))
        if not train.clients:
            # All who would are at work: the first of them to be done is the first to be invited.
            return state, []
        # They have the next places that are free.
        there = (one for one in control.wanted if roster.is_willing(one, "train"))
        unmet = tuple(one for one in there if one not in train.clients)
        state = replace(state, past=_with_places(state.past, train.clients, state.round, at))
    else:
        willing = roster.willing(rules.purpose)
        wanted = pacing.invite_count(pace, rules.cohort, len(willing))
        forced = tuple(one for one in control.wanted if roster.is_willing(one, rules.purpose))
        unmet = forced[wanted:]
        train = _invite(
            willing, wanted, state.round, rules.purpose, salt, rules, roster, forced[:wanted]
        )
    evaluate = _evaluators(state, train.clients, salt, rules, roster)
    state = replace(state, past=_with_control(state.past, orders.with_wanted(control, unmet)))
    deadline_s = _in_time(state, pace.deadline_s, at)
    return _open(state, model, train, evaluate, at, deadline_s, rules, roster)


def _in_time(state: Waiting, deadline_s: Seconds, at: Seconds) -> Seconds:
    """So that what the round comes to is of use to who has led it."""
    if state.lead is None:
        return deadline_s
    return max(0.0, min(deadline_s, state.lead.closes_by - at))


def _open_measuring(
    state: Waiting, model: ModelRef, lead: Lead, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    """At a site: a round in which nobody trains."""
    if rules.is_quiet:
        evaluate = _draw_to_evaluate(state.past, rules)
    else:
        willing = roster.willing("evaluate") if rules.tells_measures else []
        if not willing:
            return state, []
        count = min(len(willing), rules.evaluators or len(willing))
        salt = _salt(model, rules)
        evaluate = _invite(willing, count, state.round, "evaluate", salt, rules, roster)
    deadline_s = _in_time(state, rules.final_deadline_s, at)
    return _open(state, model, _NO_INVITATION, evaluate, at, deadline_s, rules, roster)


def _open_last_evaluation(
    state: Waiting, model: ModelRef, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    # Nothing that is late counts any more.
    state = replace(state, past=replace(state.past, at_work={}))
    if rules.is_quiet and rules.evaluate_every and rules.tells_measures:
        evaluate, deadline_s = _draw_to_evaluate(state.past, rules), rules.final_deadline_s
        return _open(state, model, _NO_INVITATION, evaluate, at, deadline_s, rules, roster)
    # Who measures alone would be read.
    able = roster.able("evaluate") if rules.evaluate_every and rules.tells_measures else []
    if not able:
        return Finished(state.past), [Publish(OfferBoard(), None), Finish()]
    # Clients that are away are invited too: the offer is retained, and there is time to return.
    count = min(len(able), rules.evaluators or len(able))
    salt = _salt(model, rules)
    evaluate = _invite(able, count, state.round, "evaluate", salt, rules, roster)
    deadline_s = rules.final_deadline_s
    return _open(state, model, _NO_INVITATION, evaluate, at, deadline_s, rules, roster)


def _evaluators(
    state: Waiting, train: Clients, salt: str, rules: Rules, roster: Roster
) -> "_Invited":
    # Where answers are masked, who trains measures too, and nobody else (`_masking`).
    if not rules.tells_measures or not _is_measured(state, rules):
        return _NO_INVITATION
    willing = roster.willing("evaluate")
    if rules.is_asynchronous:
        # Whoever measures a version and was not invited to train in it cannot be any more, since an
        # answer is named by its round: in a small fleet nobody would be left to invite.
        willing = [one for one in willing if one in train or not roster.is_willing(one, "train")]
    count = min(len(willing), rules.evaluators or len(willing))
    return _invite(willing, count, state.round, "evaluate", salt, rules, roster)


def _is_measured(state: Waiting, rules: Rules) -> bool:
    if state.lead is not None:
        return state.lead.measures
    # The first round's model is the initial one: its figures are the line everything starts from.
    return bool(rules.evaluate_every) and (state.round - 1) % rules.evaluate_every == 0


def _masking(state: Waiting, rules: Rules) -> Masking | None:
    """Of the next round: asks what clients measure where that is due."""
    masking = state.past.masking
    if masking is None or _is_measured(state, rules):
        return masking
    return structs.replace(masking, metrics=(), classes=0)


@dataclass(frozen=True, slots=True)
class _Invited:
    """To one thing."""

    clients: Clients = NOBODY
    threshold: int = 0
    """With sortition."""


_NO_INVITATION = _Invited()


def _draw(count: int, at_most: int, past: Past) -> _Invited:
    """In a quiet federation: as many as make that many answers, by what is believed of its size."""
    share = fleet_size.share_to_draw(past.sizes, count, at_most)
    return _Invited(threshold=sortition.threshold_of(share))


def _draw_to_evaluate(past: Past, rules: Rules) -> _Invited:
    return _draw(rules.evaluators, room(rules.evaluators), past)


def _invite(
    candidates: list[ClientId],
    count: int,
    round_id: RoundId,
    purpose: Purpose,
    salt: str,
    rules: Rules,
    roster: Roster,
    forced: tuple[ClientId, ...] = (),
) -> _Invited:
    """`forced` are invited whoever else is; no more than `count`, and of the candidates."""
    if not rules.by_sortition:
        chosen = _select(candidates, count, round_id, purpose, rules, roster, forced)
        return _Invited(frozenset(chosen))
    drawn = sortition.draws(salt, round_id, purpose, candidates)
    threshold = sortition.threshold(drawn, count)
    below = (one for one, its in zip(candidates, drawn, strict=True) if its < threshold)
    return _Invited(frozenset(below), threshold)


def _select(
    candidates: list[ClientId],
    count: int,
    round_id: RoundId,
    purpose: Purpose,
    rules: Rules,
    roster: Roster,
    forced: tuple[ClientId, ...],
) -> tuple[ClientId, ...]:
    others = [one for one in candidates if one not in forced] if forced else candidates
    if (more := count - len(forced)) <= 0:
        return forced
    return (*forced, *rules.select(others, more, round_id, purpose, roster.knowledge.clients))


def _salt(model: ModelRef, rules: Rules) -> str:
    # Nobody foretells it: the model is made of others' answers too.
    return f"{rules.seed}-{model.digest[:16]}"


def _open(
    state: Waiting,
    model: ModelRef,
    train: _Invited,
    evaluate: _Invited,
    at: Seconds,
    deadline_s: Seconds,
    rules: Rules,
    roster: Roster,
) -> tuple[State, list[Effect]]:
    roster.took_s.clear()
    drawn = None
    train_max, evaluate_max = len(train.clients), len(evaluate.clients)
    if rules.by_sortition:
        salt = _salt(model, rules)
        drawn = Sortition(salt=salt, train=train.threshold, evaluate=evaluate.threshold)
        train_max, evaluate_max = room(train_max), room(evaluate_max)
    if drawn is not None and rules.is_quiet:
        begin_s = _begin_s(state.past, deadline_s, rules)
        drawn = structs.replace(drawn, quiet=True, begin_s=begin_s)
        train_max = places(rules) if drawn.train else 0
        evaluate_max = room(rules.evaluators) if drawn.evaluate else 0
    opened = Collecting(
        round=state.round,
        model=model,
        train=train.clients,
        evaluate=evaluate.clients,
        sortition=drawn,
        train_max=train_max,
        evaluate_max=evaluate_max,
        opened_at=at,
        closes_at=at + deadline_s,
        # Those that wait already find room, also when fewer may wait from now on.
        terms_max=max(terms_max(train_max, rules), train_max + len(state.past.held)),
        masking=_masking(state, rules),
        past=state.past,
    )
    said = offered_work.stamped(offer(opened, at, rules, roster))
    opened = replace(opened, masking=said.masking, past=_once_masked(state.past, said.masking))
    return opened, [Publish(OfferBoard(), said)]


def _begin_s(past: Past, deadline_s: Seconds, rules: Rules) -> Seconds:
    """As many begin in a second as may come back in one, and over a share of a round's time: where
    far more answer than was thought, a cohort is complete before all have begun, and shows it.
    While little is known of the fleet they take longer yet."""
    spread_s = max(places(rules) / rules.returns_per_s, past.typical_s * BEGIN_SHARE)
    if not fleet_size.estimate(past.sizes).is_sure:
        spread_s = max(spread_s, deadline_s * UNSURE_BEGIN_SHARE)
    return min(spread_s, deadline_s / 2, SPREAD_MAX_S)


def _once_masked(past: Past, masking: Masking | None) -> Past:
    """Once a round is open whose answers are masked so: how those of the next one will be is not
    known yet. What waits and was masked by other keys does not count any more."""
    if masking is None:
        return past
    before = {one.round: one.masking for one in past.settled}
    held = tuple(named for named in past.held if before.get(named.round) == masking)
    return replace(past, masking=None, held=held)


def offer(state: Collecting, at: Seconds, rules: Rules, roster: Roster) -> Offer:
    """What stands on the offer board while the round is open.

    Said again, it invites only who still owes an answer: a client that forgot that it gave one, as
    a phone after a reboot, must not train in vain. Sortition leaves
    nobody out: who has answered is told so when it comes (see `_welcome`).
    """
    owing: Clients = NOBODY
    if state.sortition is None:
        invited = state.train | state.evaluate
        owing = frozenset(client for client in invited if state.owes(client))
    return structs.replace(
        _offer_of_all(rules, state.model),
        round=state.round,
        train=tuple(sorted(state.train & owing)),
        evaluate=tuple(sorted(state.evaluate & owing)),
        closes_in_s=max(0.0, state.closes_at - at),
        spread_s=min(SPREAD_MAX_S, (rules.fleet or len(roster.clients)) / rules.returns_per_s),
        sortition=state.sortition,
        masking=state.masking,
    )


def _offer_of_all(rules: Rules, model: ModelRef) -> Offer:
    """What the offers of all rounds say."""
    return Offer(
        epoch=rules.epoch,
        run=rules.run,
        round=RoundId(0),
        task=rules.task,
        model=model,
        train=(),
        evaluate=(),
        closes_in_s=0.0,
        training=rules.training,
        codec=rules.codec,
        lanes=rules.lanes,
        seed=rules.seed,
        late_rounds=0 if rules.late == "discard" else rules.late_rounds_max,
        slow_links=rules.slow_links,
        method=rules.method,
        describes=rules.purpose == "describe",
        asynchronous=rules.is_asynchronous,
    )


def work(rules: Rules) -> bytes:
    """Digest of what each round asks of those who train, as its masking has it once it is open;
    see `offered_work.py`."""
    # From which model is no part of it.
    no_model = ModelRef(digest=Digest(""), size_bytes=1, chunk_bytes=1, fingerprint="")
    return offered_work.digest(_offer_of_all(rules, no_model))


# Sortition: who was not known to be there when the round opened, and sees that it is invited


def _join(state: State, client: ClientId, roster: Roster) -> State:
    """From now on the round waits for it too, for one thing: nobody need do both."""
    if not isinstance(state, Collecting) or client in state.train or client in state.evaluate:
        return state
    for purpose in PURPOSES:
        if roster.is_willing(client, purpose) and not _why_uninvited(state, client, purpose):
            return _let_in(state, client, purpose)
    return state


def _why_uninvited(state: Collecting, client: ClientId, purpose: Purpose) -> str:
    """Nothing of who is invited to this, or may be from now on."""
    train = purpose == "train"
    invited = state.train if train else state.evaluate
    if client in invited:
        return ""
    if not _is_drawn(state, client, purpose):
        return f"not invited to {purpose} in round {state.round}"
    if len(invited) >= (state.train_max if train else state.evaluate_max):
        return _no_room(state.round)
    return ""


def _no_room(round_id: RoundId) -> str:
    return f"round {round_id} has no room for more clients"


def _turn_away(
    state: Collecting, event: AnnounceCame | UpdateCame, reason: str, rules: Rules
) -> tuple[State, list[Effect]]:
    """Who is not to train in the open round. For good, also who came too late to find room."""
    state, effects = _reject(state, event, reason, rules)
    if state.is_shut or not _is_drawn(state, event.client, "train"):
        return state, effects
    return replace(state, is_shut=True), [Shut(state.round, state.train), *effects]


def _is_drawn(state: Collecting | Settled, client: ClientId, purpose: Purpose) -> bool:
    drawn = state.sortition
    return drawn is not None and sortition.is_drawn(drawn, state.round, client, purpose)


def _let_in(state: Collecting, client: ClientId, purpose: Purpose) -> Collecting:
    if purpose == "evaluate":
        return replace(state, evaluate=state.evaluate | {client})
    if client in state.train:
        return state
    train = state.train | {client}
    if state.is_quiet and _is_drawn(state, client, "evaluate"):
        # Who trains measures too where it is drawn, as it sees itself.
        return replace(state, train=train, evaluate=state.evaluate | {client})
    # By its update alone nobody could tell, after a restart, that it was to evaluate.
    return replace(state, train=train, evaluate=state.evaluate - {client})


# Places at work, where rounds are asynchronous


def _invite_more(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[Collecting, list[Effect]]:
    """Fill the places that have become free."""
    is_over = state.is_last_evaluation or at >= state.closes_at or _has_cohort(state, rules)
    if not rules.is_asynchronous or is_over:
        return state, []
    roster.end_rests(at)
    # An answer is named by its round and client: nobody is asked twice for one.
    asked = state.train | state.evaluate
    room = state.terms_max - rules.held_max - len(state.train)
    more = _for_free_places(state, asked, room, rules, roster)
    if not more:
        return state, []
    past = _with_places(state.past, more, state.round, at)
    left = tuple(one for one in past.control.wanted if one not in more)
    past = _with_control(past, orders.with_wanted(past.control, left))
    state = replace(state, train=state.train | more, past=past)
    return state, [Invite(state.round, more)]


def _for_free_places(
    state: Waiting | Collecting, asked: Clients, room: int, rules: Rules, roster: Roster
) -> Clients:
    places = state.past.at_work
    free = min(room, rules.concurrency - len(places))
    if free <= 0:
        return NOBODY
    candidates = [one for one in roster.willing("train") if one not in places and one not in asked]
    if not candidates:
        return NOBODY
    count = min(free, len(candidates))
    forced = tuple(one for one in state.past.control.wanted if one in candidates)[:count]
    return frozenset(_select(candidates, count, state.round, "train", rules, roster, forced))


def _with_places(past: Past, clients: Clients, number: RoundId, at: Seconds) -> Past:
    places = concurrency.taken(past.at_work, clients, number, at, past.pace.deadline_s)
    return replace(past, at_work=places)


def _clear_places(state: OpenSoon, at: Seconds, rules: Rules, roster: Roster) -> OpenSoon:
    """Who was silent or away for too long is waited for no more."""
    oldest = state.round - rules.late_rounds_max
    places, silent = concurrency.cleared(state.past.at_work, at, rules.away_grace_s, oldest)
    for client in silent:
        roster.missed(at, client, state.past.pace.deadline_s)
    return _with_at_work(state, places)


def _done(state: S, client: ClientId, run: RunId, number: RoundId, rules: Rules) -> S:
    """The client has said its last word on this round."""
    if run != rules.run:
        return state
    return _with_at_work(state, concurrency.left(state.past.at_work, client, number))


def _with_at_work(state: S, places: Places) -> S:
    if places is state.past.at_work:
        return state
    return replace(state, past=replace(state.past, at_work=places))


def _worked_s(
    state: State, client: ClientId, number: RoundId, at: Seconds, rules: Rules
) -> Seconds | None:
    """How long the client took for its answer; None where that is not known."""
    if isinstance(state, Collecting) and number == state.round and not rules.is_asynchronous:
        return at - state.opened_at
    place = state.past.at_work.get(client)
    if place is None or place.round != number or place.invited_at is None:
        return None
    return at - place.invited_at


# Clients that come and go


def _welcome(
    state: State, at: Seconds, client: ClientId, rules: Rules, *, is_new: bool
) -> tuple[State, list[Effect]]:
    match state:
        case Collecting(sortition=Sortition()) if is_new and has_counted(
            state, client, state.round
        ):
            # A phone after a reboot, which has forgotten its answer, sees that it is invited.
            return state, _confirm(state, at, client, state.round, rules)
        case Collecting() if state.owes(client):
            # It may have read the retained offer long after it was published, by a wrong clock.
            left_s = max(0.0, state.closes_at - at)
            left = TimeLeft(run=rules.run, round=state.round, closes_in_s=left_s)
            return state, [Publish(Inbox(client), left)]
        case _:
            return state, []


def _mark_away(state: State, at: Seconds, client: ClientId) -> State:
    # A client that leaves may still deliver: the broker can hold its update, or it comes back.
    state = _with_at_work(state, concurrency.away(state.past.at_work, client, at))
    if isinstance(state, Collecting) and state.owes(client):
        return replace(state, away={**state.away, client: at})
    return state


def _forget_away(state: State, client: ClientId) -> State:
    state = _with_at_work(state, concurrency.away(state.past.at_work, client, None))
    if isinstance(state, Collecting) and client in state.away:
        return replace(state, away={c: at for c, at in state.away.items() if c != client})
    return state


def _give_up_on(state: State, client: ClientId, why: str) -> State:
    """Nobody waits for it any more."""
    if client in (places := state.past.at_work):
        state = _with_at_work(state, {one: its for one, its in places.items() if one != client})
    if isinstance(state, Collecting) and state.owes(client):
        return replace(state, rejected={**state.rejected, client: why})
    return state


# Operators' orders


def _take_order(
    state: State, event: OrderCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    control, order = state.past.control, event.order
    if (before := control.answer(order.token)) is not None:
        # QoS 1 delivers at least once, and the answer can be lost.
        return state, [Answer(before, is_new=False, control=control)]
    changed, obeyed = orders.obey(control, order, _situation(state, event, rules, roster))
    if obeyed.done and order.what == "invite":
        # Whoever was silent for long is invited all the same.
        roster.end_rest(order.client)
    following = replace(state, past=_with_control(state.past, changed))
    return following, [Answer(obeyed, is_new=True, control=changed)]


def _situation(state: State, event: OrderCame, rules: Rules, roster: Roster) -> Situation:
    is_last = isinstance(state, Collecting) and state.is_last_evaluation
    is_ending = is_last or isinstance(state, Finished)
    number = RoundId(0) if isinstance(state, Finished) else state.round
    is_open = isinstance(state, Collecting) and not is_last
    following = RoundId(number + is_open)
    is_done = bool(rules.rounds) and following > rules.rounds
    hindrance = ""
    if event.order.what == "invite":
        hindrance = _hindrance(state, event.order.client, rules, roster)
        if not hindrance and is_done:
            hindrance = "no round is left in which clients train"
    return Situation(
        round=number,
        next_named="the last evaluation" if is_done else f"round {following}",
        is_open=is_open,
        is_ending=is_ending,
        trains=rules.purpose == "train",
        models=event.models,
        hindrance=hindrance,
    )


def _hindrance(state: State, client: ClientId, rules: Rules, roster: Roster) -> str:
    """Why this client cannot be invited to train in the next round; nothing if it can."""
    if rules.purpose != "train":
        return "nobody trains in this run"
    if rules.by_sortition:
        return "clients see by sortition whether they are invited (selection = sortition)"
    place = state.past.at_work.get(client)
    if place is not None:
        return f"it is at work for round {place.round} already"
    return roster.spent_why(client) or roster.why_unwilling(client, rules.purpose)


def _with_control(past: Past, control: Control) -> Past:
    return past if control is past.control else replace(past, control=control)


def _go_back(state: Waiting, number: RoundId) -> tuple[State, list[Effect]]:
    """To the model of that round. What was trained from those after it counts no more."""
    past = state.past
    if past.storing:
        # Until then nobody knows what is to be set aside.
        return state, []
    control = orders.giving_up(past.control, state.round)
    back = replace(past, control=control, held=(), at_work={})
    return Averaging(state.round, back, goes_back_to=number), [GoBack(number, past.held)]


# Answers


def _take_announce(
    state: State, event: AnnounceCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, _refuse_foreign(event)
    if has_counted(state, client, round_id):
        return state, _confirm(state, event.at, client, round_id, rules)
    if _is_listed(state, rules):
        return _put_off(state, event)
    # What cannot count is refused before it is sent: it may have hundreds of megabytes.
    spent = roster.spent_why(client)
    if not isinstance(state, Collecting) or round_id != state.round:
        if reason := _late_fault(state, client, round_id, rules) or spent:
            return _refuse(state, event, reason, rules)
        if not _has_room_for_late(state, rules) or _would_exceed(state, client, roster):
            return _put_off(state, event)
        if event.fault:
            return _blame(_refuse(state, event, event.fault, rules), event, event.fault)
        return state, [Admit(client, round_id)]
    if all(_why_uninvited(state, client, purpose) for purpose in PURPOSES):
        return _turn_away(state, event, f"not invited to round {round_id}", rules)
    if spent:
        return _reject(state, event, spent, rules)
    if _would_exceed(state, client, roster):
        return _put_off(state, event)
    if event.fault:
        return _blame(_reject(state, event, event.fault, rules), event, event.fault)
    return state, [Admit(client, round_id)]


def _take_update(
    state: State, event: UpdateCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, _refuse_foreign(event)
    if has_counted(state, client, round_id):
        # QoS 1 delivers at least once, and a receipt can be lost: say it again, count it once.
        return state, _confirm(state, event.at, client, round_id, rules)
    if _is_listed(state, rules):
        return _put_off(state, event)
    if not isinstance(state, Collecting) or round_id != state.round:
        return _take_late(state, event, rules, roster)
    if reason := _why_uninvited(state, client, "train"):
        return _turn_away(state, event, reason, rules)
    if reason := roster.spent_why(client):
        return _reject(state, event, reason, rules)
    if _would_exceed(state, client, roster):
        return _put_off(state, event)
    if reason := _content_fault(state.model, event):
        return _blame(_reject(state, event, reason, rules), event, reason)
    took_s = _worked_s(state, client, round_id, event.at, rules)
    roster.took_s.append(event.at - state.opened_at)
    roster.knowledge.reports[client, round_id] = Report(event.samples, event.loss, took_s)
    state = _let_in(_pardon(state, client), client, "train")
    state = replace(
        state,
        answered=state.answered | {client},
        evaluated=state.evaluated | (state.evaluate & {client}),
    )
    return _await_storing(state, client, round_id), [Accept(client, round_id)]


def _is_listed(state: State, rules: Rules) -> bool:
    """Whether keyholders are asked for a sum of all that has come. What comes meanwhile is sent
    again: after a kill nobody could tell that it came too late for their list."""
    return rules.mixes_masks and (
        isinstance(state, Averaging) or (isinstance(state, Collecting) and bool(state.closing))
    )


def _would_exceed(state: State, client: ClientId, roster: Roster) -> bool:
    """Whether one more is too much, should it come into one sum with all that wait. There may be
    room for it again, when those have come into several."""
    if not roster.participations.most:
        return False
    waiting = sum(named.client == client for named in state.past.held)
    if isinstance(state, Collecting) and client in state.answered:
        waiting += 1
    return roster.participations.is_spent(client, waiting)


def _content_fault(model: ModelRef, event: UpdateCame) -> str:
    if event.base != model.digest:
        return f"trained from model {event.base[:12]}, not {model.digest[:12]}"
    if event.fingerprint != model.fingerprint:
        wanted = model.fingerprint
        return f"tensors of another task: fingerprint {event.fingerprint}, not {wanted}"
    return event.fault


def _take_evaluation(
    state: State, event: EvaluationCame, rules: Rules
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, _refuse_foreign(event)
    if has_counted(state, client, round_id):
        return state, _confirm(state, event.at, client, round_id, rules)
    if not isinstance(state, Collecting) or round_id != state.round:
        # What a model was worth rounds ago is of no use: evaluations are never late, but over.
        reason = _not_open(state, round_id)
        receipt = _receipt(state, event.at, client, round_id, rules, reason)
        return state, [receipt, Note(REFUSED, f"{client}: {reason}")]
    if reason := _why_not_asked_to_evaluate(state, client):
        return _reject(state, event, reason, rules)
    if reason := _evaluation_fault(state, event):
        return _blame(_reject(state, event, reason, rules), event, reason)
    state = _let_in(_pardon(state, client), client, "evaluate")
    state = replace(state, evaluated=state.evaluated | {client})
    return _await_storing(state, client, round_id), [AcceptEvaluation(client, round_id)]


def _why_not_asked_to_evaluate(state: Collecting, client: ClientId) -> str:
    if client in state.train:
        return f"not invited to evaluate in round {state.round}"
    return _why_uninvited(state, client, "evaluate")


def _evaluation_fault(state: Collecting, event: EvaluationCame) -> str:
    if event.base != state.model.digest:
        return f"evaluated model {event.base[:12]}, not {state.model.digest[:12]}"
    return event.fault


def _take_decline(state: State, event: Declined, rules: Rules) -> State:
    if not isinstance(state, Collecting) or (event.run, event.round) != (rules.run, state.round):
        return state
    client = event.client
    is_known = client in state.train | state.evaluate | state.rejected.keys()
    if not state.owes(client) and (is_known or not _is_told_of(state, client)):
        return state
    return replace(state, declined={**state.declined, event.client: event.reason})


# Answers that count: on their way to the disk, and receipted when they are there


def _await_storing(state: Collecting, client: ClientId, round_id: RoundId) -> Collecting:
    storing = state.past.storing | {Named(client, round_id)}
    return replace(state, past=replace(state.past, storing=storing))


def _take_stored(
    state: State, at: Seconds, answers: tuple[Named, ...], rules: Rules
) -> tuple[State, list[Effect]]:
    stored = [named for named in answers if named in state.past.storing]
    past = replace(state.past, storing=state.past.storing.difference(stored))
    receipts: list[Effect] = [
        _receipt(state, at, named.client, named.round, rules) for named in stored
    ]
    return replace(state, past=past), receipts


def _take_lost(state: S, at: Seconds, answers: tuple[Named, ...], roster: Roster) -> S:
    lost = state.past.storing.intersection(answers)
    past = replace(state.past, storing=state.past.storing - lost)
    for named in lost:
        roster.knowledge.reports.pop((named.client, named.round), None)
    if not isinstance(state, Collecting):
        return replace(state, past=past)
    clients = frozenset(named.client for named in lost if named.round == state.round)
    # Who has gone since has not been waited for.
    gone = {client: at for client in sorted(clients) if not roster.is_online(client)}
    return replace(
        state,
        answered=state.answered - clients,
        evaluated=state.evaluated - clients,
        away={**state.away, **gone},
        past=past,
    )


def _confirm(
    state: State, at: Seconds, client: ClientId, round_id: RoundId, rules: Rules
) -> list[Effect]:
    again: list[Effect] = [Note("said again", f"{client}, round {round_id}")]
    if Named(client, round_id) in state.past.storing:
        # The receipt comes when it is stored.
        return again
    return [_receipt(state, at, client, round_id, rules), *again]


# Answers whose round has closed


def _take_late(
    state: State, event: UpdateCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    settled = _settled(state, round_id)
    reason = _late_fault(state, client, round_id, rules) or roster.spent_why(client)
    if settled is None or reason:
        return _refuse(state, event, reason, rules)
    if not _has_room_for_late(state, rules) or _would_exceed(state, client, roster):
        return _put_off(state, event)
    if reason := _content_fault(settled.model, event):
        return _blame(_refuse(state, event, reason, rules), event, reason)
    took_s = _worked_s(state, client, round_id, event.at, rules)
    roster.knowledge.reports[client, round_id] = Report(event.samples, event.loss, took_s)
    counted = replace(settled, answered=settled.answered | {client})
    past = replace(
        state.past,
        late=state.past.late + 1,
        settled=tuple(counted if one is settled else one for one in state.past.settled),
        held=(*state.past.held, Named(client, round_id)),
        storing=state.past.storing | {Named(client, round_id)},
    )
    return replace(state, past=past), [Hold(client, round_id)]


def _late_fault(state: State, client: ClientId, round_id: RoundId, rules: Rules) -> str:
    """Why an answer to a round that is not open cannot count, whatever is in it; nor later."""
    settled = _settled(state, round_id)
    if isinstance(state, Finished) or round_id >= state.round or rules.late == "discard":
        return _not_open(state, round_id)
    if not _more_to_come(state, rules):
        return _not_open(state, round_id)
    if settled is None or state.round - round_id > rules.late_rounds_max:
        return f"late: round {round_id} closed too long ago"
    if round_id < state.past.control.valid_from:
        return f"late: an operator has given up the model of round {round_id}"
    if rules.mixes_masks and settled.masking != masking_in_use(state)[0]:
        return f"late: round {round_id} was masked by keys that open no sum any more"
    if client not in settled.train and not _is_drawn(settled, client, "train"):
        return f"not invited to train in round {round_id}"
    if client not in settled.train and settled.is_shut:
        return _no_room(round_id)
    return ""


def _has_room_for_late(state: State, rules: Rules) -> bool:
    return len(state.past.held) < rules.held_max


def _put_off(state: S, event: AnnounceCame | UpdateCame) -> tuple[S, list[Effect]]:
    """Nothing is said: a receipt would let its sender forget what may count when there is room. It
    sends it again."""
    named = f"{event.client}, round {event.round}"
    return state, [Note("put off", f"{named}: too many late answers wait already")]


def _more_to_come(state: Waiting | Collecting | Averaging, rules: Rules) -> bool:
    """Whether a round will yet close that could take up what is late."""
    if isinstance(state, Collecting) and state.is_last_evaluation:
        return False
    if state.past.control.stopped_by:
        return isinstance(state, Collecting)
    return not rules.rounds or state.round <= rules.rounds


def _pardon(state: Collecting, client: ClientId) -> Collecting:
    # It declined, or sent nonsense, and now it answers well.
    if client not in state.rejected and client not in state.declined:
        return state
    return replace(
        state,
        rejected={c: why for c, why in state.rejected.items() if c != client},
        declined={c: why for c, why in state.declined.items() if c != client},
    )


def _refuse(
    state: State, event: AnnounceCame | UpdateCame, reason: str, rules: Rules
) -> tuple[State, list[Effect]]:
    """Of a round that is not open: nothing of the open one changes."""
    effects: list[Effect] = [
        _receipt(state, event.at, event.client, event.round, rules, reason),
        Note(REFUSED, f"{event.client}: {reason}"),
    ]
    if not _is_over(state, event.round):
        return state, effects
    return replace(state, past=replace(state.past, late=state.past.late + 1)), effects


def _blame(
    refused: tuple[S, list[Effect]],
    event: AnnounceCame | UpdateCame | EvaluationCame,
    reason: str,
) -> tuple[S, list[Effect]]:
    """It was refused for what it is, where that is its sender's fault."""
    state, effects = refused
    if not isinstance(event, EvaluationCame) and event.excused and reason == event.fault:
        return refused
    return state, [*map(_blaming, effects), Blame(event.client, reason)]


def _blaming(effect: Effect) -> Effect:
    match effect:
        case Publish(Inbox(), Receipt() as receipt):
            return replace(effect, message=structs.replace(receipt, blamed=True))
        case _:
            return effect


def _hold_back(
    state: State, effects: list[Effect], event: Event, rules: Rules
) -> tuple[State, list[Effect]]:
    """Nobody is refused for the closing of a round that may be open again, should we be killed."""
    if not isinstance(state, Averaging) or not isinstance(
        event, AnnounceCame | UpdateCame | EvaluationCame
    ):
        return state, effects
    is_just_closed = (event.run, event.round) == (rules.run, state.round - 1)
    if not is_just_closed or not _is_refused(effects, _not_open(state, event.round)):
        return state, effects
    if event.client in state.unsaid or len(state.unsaid) < UNSAID_MAX:
        # One more gets no word at all, and sends it again.
        state = replace(state, unsaid={**state.unsaid, event.client: tuple(effects)})
    return state, []


def _is_refused(effects: list[Effect], reason: str) -> bool:
    """Whether somebody is, for that."""
    said = (effect.message for effect in effects if isinstance(effect, Publish))
    return any(isinstance(one, Receipt) and one.reason == reason for one in said)


def _refuse_foreign(event: AnnounceCame | UpdateCame | EvaluationCame) -> list[Effect]:
    reason = f"run {event.run} is over"
    receipt = Receipt(run=event.run, round=event.round, accepted=False, reason=reason)
    return [Publish(Inbox(event.client), receipt), Note(REFUSED, f"{event.client}: {reason}")]


def _not_open(state: State, round_id: RoundId) -> str:
    if _is_over(state, round_id):
        return f"late: round {round_id} is closed"
    return f"round {round_id} has not been opened"


def _is_over(state: State, round_id: RoundId) -> bool:
    return isinstance(state, Finished) or round_id < state.round


def _reject(
    state: Collecting, event: AnnounceCame | UpdateCame | EvaluationCame, reason: str, rules: Rules
) -> tuple[Collecting, list[Effect]]:
    """Of the open round: told to its sender, and shown until it sends a better one."""
    effects: list[Effect] = [
        _receipt(state, event.at, event.client, event.round, rules, reason),
        Note(REFUSED, f"{event.client}: {reason}"),
    ]
    if not _is_told_of(state, event.client):
        return state, effects
    return replace(state, rejected={**state.rejected, event.client: reason}), effects


def _is_told_of(state: Collecting, client: ClientId) -> bool:
    """Whether people are told why its answer does not count, or comes not. For others nobody waits,
    and names can be made up without end."""
    if client in state.train | state.evaluate:
        return True
    told = state.rejected.keys() | state.declined.keys()
    # In a quiet federation nobody is known of before: of who is drawn, as many as may answer.
    has_room = client in told or len(told) < state.train_max + state.evaluate_max
    return state.is_quiet and has_room and any(_is_drawn(state, client, one) for one in PURPOSES)


def _receipt(
    state: State, at: Seconds, client: ClientId, round_id: RoundId, rules: Rules, reason: str = ""
) -> Publish:
    receipt = Receipt(
        run=rules.run,
        round=round_id,
        accepted=not reason,
        # Cut to what a receipt may carry: one that cannot be read would be asked for without end.
        reason=reason[:500],
        next_round_in_s=_next_round_in_s(state, at, rules),
    )
    return Publish(Inbox(client), receipt)


def _next_round_in_s(state: State, at: Seconds, rules: Rules) -> Seconds:
    """A guess, from how long rounds took lately; 0 where none will come."""
    match state:
        case Collecting() if state.is_last_evaluation:
            return 0.0
        case Collecting(past=past, opened_at=opened_at, closes_at=closes_at):
            ends_at = min(closes_at, opened_at + past.typical_s)
            return max(0.0, ends_at - at) + rules.pause_s
        case Waiting(opens_from=opens_from, model=model):
            return max(0.0, opens_from - at) if model else 0.0
        case Averaging():
            return rules.pause_s
        case Finished():
            return 0.0


# Closing


def _close_if_due(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    reason = _why_close(state, at, rules)
    if not reason or state.past.storing:
        return state, []
    if reason == DEADLINE and not state.is_quiet:
        # At work on a version, a client has its own time.
        waited_for = NOBODY if rules.is_asynchronous else state.outstanding
        for client in sorted(waited_for | state.evaluations_outstanding):
            if client not in state.away:
                roster.missed(at, client, state.closes_at - state.opened_at)
    outcome = _outcome(state, rules)
    # Nor is it theirs that the round was given up.
    was_called_off = bool(state.called_off) or reason == GIVEN_UP
    was_cut_short = reason == COMPLETE or was_called_off
    surplus = state.outstanding - state.away.keys() if was_cut_short else NOBODY
    if rules.is_asynchronous:
        surplus = state.outstanding & state.past.at_work.keys()
    pace, sizes = state.past.pace, state.past.sizes
    shows = not state.is_last_evaluation and not was_called_off
    if shows and state.is_quiet:
        sizes = fleet_size.learn(sizes, rules.fleet, _seen_of_size(state, reason))
    elif shows and not rules.is_asynchronous:
        pace = pacing.learn(pace, rules.pace, _seen(state, reason, outcome, rules, roster))
    close = Close(
        round=state.round,
        outcome=outcome,
        reason=reason,
        invited=state.train,
        answered=state.answered,
        evaluated=state.evaluated,
        declined=state.declined,
        rejected=state.rejected,
        surplus=surplus,
        duration_s=at - state.opened_at,
        held=_due_late(state, rules) if outcome == "averaged" else (),
        pace=pace,
        sizes=sizes,
    )
    if not state.is_last_evaluation and not state.is_quiet:
        _let_rest(close, at, rules, roster)
    # Before the next round opens, which may be at once.
    if state.is_quiet:
        # Nothing goes by what is known of one client, and there may be millions.
        learned: Learned = roster.knowledge.let_go(close.counted)
    else:
        learned = roster.knowledge.closed(
            state.round, close.invited, close.counted, roster.is_online
        )
    in_sum = [client for client, _ in close.counted] if outcome == "averaged" else []
    close = replace(close, learned=learned, participations=roster.took_part(in_sum))
    following, effects = _after_close(state, close, at, rules, roster)
    return following, [close, *effects]


def _let_rest(close: Close, at: Seconds, rules: Rules, roster: Roster) -> None:
    """Whoever declined a round that nobody answered will decline the next one too, where its owner
    does not agree to the run's terms, or its data is not there: rounds of nothing, until they are
    used up."""
    roster.answered(close.answered)
    if not close.answered:
        for client in sorted(close.declined):
            roster.declined(at, client, max(close.duration_s, rules.retry_s))


def _seen(state: Collecting, reason: str, outcome: Outcome, rules: Rules, roster: Roster) -> Seen:
    """What the round showed of the fleet."""
    return Seen(
        cohort=rules.cohort,
        invited=len(state.train),
        answered=len(state.answered),
        at_work=len(state.outstanding - state.away.keys()),
        took_s=tuple(roster.took_s),
        deadline_s=state.closes_at - state.opened_at,
        reached_deadline=reason == DEADLINE,
        kept=outcome == "kept",
    )


def _seen_of_size(state: Collecting, reason: str) -> fleet_size.Seen:
    drawn = state.sortition
    assert drawn is not None
    # Who was refused for what it sent has answered too.
    refused = {one for one in state.rejected if _is_drawn(state, one, "train")}
    answered = sorted(state.answered | refused)
    return fleet_size.Seen(
        share=sortition.share(drawn.train),
        answered=len(answered),
        was_cut_off=reason == DEADLINE,
        turns=tuple(sortition.turn(drawn, state.round, client) for client in answered),
    )


def _due_late(state: Collecting, rules: Rules) -> tuple[Named, ...]:
    """The late answers that this round takes up: once enough are together, and all at the end."""
    # There are more than there is room for when the operator has changed the rules meanwhile.
    room = state.terms_max - len(state.answered)
    held = state.past.held[:room]
    is_last = (rules.rounds and state.round >= rules.rounds) or state.past.control.stopped_by
    enough = 1
    if rules.late == "buffer" and not is_last:
        # No more than that are held: a larger batch would never come together.
        enough = min(rules.late_batch, rules.held_max, room)
    return held if len(held) >= enough else ()


def _why_close(state: Collecting, at: Seconds, rules: Rules) -> str:
    if state.closing:
        # Keyholders may have opened its sum, and it is the same again when it is given up.
        return state.closing
    if state.past.control.rollback is not None and not state.is_last_evaluation:
        return GIVEN_UP
    if state.called_off:
        return state.called_off
    # Before the deadline, which may pass while the last answer is on its way to the disk.
    if rules.is_asynchronous and not state.is_last_evaluation:
        return _why_over(state, at, rules)
    if reason := _why_complete(state, rules):
        return reason
    if at >= state.closes_at:
        return DEADLINE
    gone = at >= _patience_ends_at(state, rules)
    return "the rest is away" if gone and len(state.answered) >= rules.quorum else ""


def _why_complete(state: Collecting, rules: Rules) -> str:
    if state.is_quiet:
        return _why_enough_came(state, rules)
    if state.is_last_evaluation:
        return "" if state.evaluations_outstanding else "all answered"
    if len(state.answered) >= min(rules.cohort, len(state.train)):
        return COMPLETE
    return _why_nobody_is_left(state)


def _why_enough_came(state: Collecting, rules: Rules) -> str:
    """In a quiet federation, where nobody knows who else would come."""
    if state.is_last_evaluation:
        return "all answered" if len(state.evaluated) >= max(1, rules.evaluators) else ""
    return COMPLETE if len(state.answered) >= rules.cohort else ""


def _why_nobody_is_left(state: Collecting) -> str:
    if state.is_surely_missing_more_than(0) or state.outstanding:
        return ""
    if state.answered or not state.train <= state.declined.keys():
        return "nobody left to answer"
    whys = Counter(state.declined[client] for client in sorted(state.train))
    why, count = whys.most_common(1)[0]
    share = "" if len(whys) == 1 else f", {count} of {len(state.train)} for this"
    return f"all declined{share}: {why}"


def _why_over(state: Collecting, at: Seconds, rules: Rules) -> str:
    """Why an asynchronous round closes. Its free places have been filled."""
    if _has_cohort(state, rules):
        return COMPLETE
    if at >= state.closes_at:
        return DEADLINE
    if state.past.at_work:
        return ""
    if _has_quorum(state, rules):
        return "nobody left to answer"
    return _why_nobody_is_left(state)


def _has_cohort(state: Collecting, rules: Rules) -> bool:
    if rules.mixes_masks:
        return len(_in_sum(state, state.past.held)) >= rules.cohort
    return len(state.answered) + len(state.past.held) >= rules.cohort


def _in_sum(state: Collecting, held: Sequence[Named]) -> Clients:
    """Of whom a masked sum is: each is in it by its newest answer alone."""
    return state.answered.union(named.client for named in held)


def _has_quorum(state: Collecting, rules: Rules) -> bool:
    if rules.mixes_masks:
        return len(_in_sum(state, _due_late(state, rules))) >= max(1, rules.quorum)
    late = len(_due_late(state, rules)) if rules.is_asynchronous else 0
    return len(state.answered) + late >= max(1, rules.quorum)


def _patience_ends_at(state: Collecting, rules: Rules) -> Seconds:
    """When the last of the missing has been gone for long enough; never while one is there."""
    if state.is_quiet:
        return math.inf
    if state.is_surely_missing_more_than(len(state.away)):
        return math.inf
    gone_since = [state.away.get(client, math.inf) for client in state.outstanding]
    return max(gone_since, default=math.inf) + rules.away_grace_s


def _outcome(state: Collecting, rules: Rules) -> Outcome:
    if state.is_last_evaluation:
        # A site goes on when it has measured.
        is_last = not rules.is_led or bool(state.past.control.stopped_by)
        return "evaluated" if is_last else "kept"
    if state.closing:
        # Keyholders may have opened its sum, with as many answers as were enough then.
        return "averaged"
    if state.past.control.rollback is not None:
        return "kept"
    return "averaged" if _has_quorum(state, rules) else "kept"


def _after_close(
    state: Collecting, close: Close, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    answered = state.answered | state.evaluated
    closed = Settled(
        state.round,
        answered,
        state.model,
        state.train,
        state.sortition,
        state.is_shut,
        state.masking,
    )
    past = replace(
        state.past,
        pace=close.pace,
        sizes=close.sizes,
        settled=(*state.past.settled[1 - rules.remembered_rounds :], closed),
        held=state.past.held[len(close.held) :],
        typical_s=_smoothed(state.past.typical_s, close.duration_s),
    )
    next_round = RoundId(state.round + 1)
    match close.outcome:
        case "averaged":
            return Averaging(next_round, past), []
        case "kept":
            # At once would be a tight loop when, say, every client answers nonsense.
            waiting = Waiting(next_round, past, state.model, at + rules.retry_s)
            return _open_if_ready(waiting, at, rules, roster)
        case "evaluated":
            return Finished(past), [Publish(OfferBoard(), None), Finish()]


def _smoothed(before: Seconds, now: Seconds) -> Seconds:
    return now if before == 0 else 0.7 * before + 0.3 * now


def _take_model(state: State, event: ModelReady, rules: Rules) -> State:
    model = event.model
    match state:
        case Waiting(model=None):
            return replace(state, model=model)
        case Waiting() | Collecting() if state.model and state.model.digest == model.digest:
            # The same model in other chunks: the broker that came back has another limit.
            return replace(state, model=model)
        case Averaging(round_id, past, goes_back_to=number):
            if number is not None:
                past = _with_control(past, orders.gone_back(past.control, number, event.fault))
            return Waiting(round_id, past, model, event.at + rules.pause_s)
        case _:
            return state


# At a site, which somebody leads


def _follow_lead(state: State, event: LeadCame) -> State:
    if not isinstance(state, Waiting):
        return state
    number = max(state.round, event.lead.round)
    return replace(state, round=number, model=event.model, not_before=event.at, lead=event.lead)


def _call_off(state: State, why: str) -> State:
    match state:
        case Waiting():
            return replace(state, lead=None)
        case Collecting():
            return replace(state, called_off=why)
        case _:
            return state


# The coordinator's own link


def _go_deaf(state: State, at: Seconds) -> State:
    if state.past.deaf_since is not None:
        return state
    return replace(state, past=replace(state.past, deaf_since=at))


def _hear_again(state: State, at: Seconds, rules: Rules) -> State:
    """From now on it can be heard who is there. Nobody is too late because nobody could be heard:
    the round is given the time back, and who was away has this long to come."""
    since = state.past.deaf_since
    if since is None:
        return state
    until = at + rules.greet_s
    at_work = concurrency.heard_again(state.past.at_work, at - since, until)
    past = replace(state.past, deaf_since=None, greets_until=until, at_work=at_work)
    state = replace(state, past=past)
    if not isinstance(state, Collecting):
        return state
    opened_at, closes_at = state.opened_at + at - since, state.closes_at + at - since
    return replace(
        state,
        opened_at=opened_at,
        closes_at=max(closes_at, min(until, at + closes_at - opened_at)),
        away=dict.fromkeys(state.away, until),
    )


def _wake_at(state: State, now: Seconds, rules: Rules, roster: Roster) -> Seconds | None:
    """When something may be due though nobody says anything."""
    if state.past.deaf_since is not None:
        return None
    match state:
        case Waiting(opens_from=opens_from, model=model) if model and opens_from > now:
            return opens_from
        case Waiting():
            return _next_free_at(state, rules, roster)
        case Collecting() if rules.is_asynchronous and not state.is_last_evaluation:
            return _wake_version_at(state, now, rules, roster)
        case Collecting(past=Past(storing=storing), closes_at=closes_at) if (
            storing and closes_at <= now
        ):
            # It closes as soon as what counts is stored.
            return None
        case Collecting():
            # Earlier changes nothing: the round waits for all of the missing or for none.
            patience_ends_at = _patience_ends_at(state, rules)
            if patience_ends_at > now:
                return min(state.closes_at, patience_ends_at)
            return state.closes_at
        case _:
            return None


def _wake_version_at(
    state: Collecting, now: Seconds, rules: Rules, roster: Roster
) -> Seconds | None:
    if state.past.storing and (state.closes_at <= now or _has_cohort(state, rules)):
        # It closes as soon as what counts is stored.
        return state.closes_at if state.closes_at > now else None
    if _has_cohort(state, rules):
        # Late answers that waited were enough when it opened.
        return now
    next_free_at = _next_free_at(state, rules, roster)
    return state.closes_at if next_free_at is None else min(state.closes_at, next_free_at)


def _next_free_at(state: State, rules: Rules, roster: Roster) -> Seconds | None:
    """When there may be somebody to invite though nobody says anything: a rest is over, or a
    client that is at work has been silent for too long."""
    moments = [
        roster.rest_ends_at(),
        concurrency.next_end(state.past.at_work, rules.away_grace_s),
    ]
    return min((one for one in moments if one is not None), default=None)
