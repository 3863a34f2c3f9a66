"""What the round machine knows: its rules and its states, and what follows from a state alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from coordinator import fleet_size, pacing
from coordinator.concurrency import Places
from coordinator.known import Known
from coordinator.orders import NO_ORDERS, Control
from coordinator.pacing import Bounds, Pace
from coordinator.rounds.effects import Effect
from coordinator.rounds.names import NOBODY, Clients, Named
from fedmqtt import sortition
from fedmqtt.effects import Seconds
from fedmqtt.messages import (
    PLAIN,
    Masking,
    Method,
    ModelRef,
    Purpose,
    SlowLinks,
    Sortition,
    Training,
)
from fedmqtt.topics import ClientId, RoundId, RunId

REFUSED = "refused"
"""The note about an answer that does not count: who sent it, and why not."""

SPREAD_MAX_S: Seconds = 600.0
"""However large the fleet: the last to return should not miss many rounds."""

COMPLETE = "cohort complete"
"""Why a round closes when all goes well."""

DEADLINE = "deadline"

GIVEN_UP = "the model goes back to an older one"
"""Why a round closes without a model when an operator says so."""

MEASURED = "as the centre asked"
"""Why a round at a site closes in which nobody was to train: all have measured."""

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

UNHURRIED_SHARE = 0.8
"""Of the time that rounds took lately: a round that had less and was cut off does not show how many
would answer."""


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
    remind_s: Seconds = 0.0
    """After so long, or longer in a large fleet, an open round's offer is said again to who is
    there and silent; 0 never. See `reminding.py`."""
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
    said_at: Seconds = 0.0
    """When its offer was said last: to all, or again to some."""
    reminders: int = 0
    """How often it was said again to all who were silent."""
    came_since: Clients = NOBODY
    """Who has come back since the last of these, and owes an answer: it is told alone."""
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
    unsaid: Mapping[ClientId, tuple[Effect, ...]] = field(default_factory=dict)
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


def has_counted(state: State, client: ClientId, round_id: RoundId) -> bool:
    """Whether this client's answer to this round has been accepted already."""
    if isinstance(state, Collecting) and round_id == state.round:
        return client in state.answered or client in state.evaluated
    settled = settled_round(state, round_id)
    return settled is not None and client in settled.answered


def is_to_come(state: State, round_id: RoundId) -> bool:
    """Whether there may be an answer to this round one day, and can be none yet."""
    return not isinstance(state, Finished) and round_id > state.round


def trained_last(state: State) -> RoundId:
    """The newest closed round that clients trained in; 0 before the first."""
    trained = (one.round for one in state.past.settled if one.is_for_training)
    return max(trained, default=RoundId(0))


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


def settled_round(state: State, round_id: RoundId) -> Settled | None:
    return next((one for one in state.past.settled if one.round == round_id), None)


def no_room(round_id: RoundId) -> str:
    return f"round {round_id} has no room for more clients"


def is_drawn(state: Collecting | Settled, client: ClientId, purpose: Purpose) -> bool:
    drawn = state.sortition
    return drawn is not None and sortition.is_drawn(drawn, state.round, client, purpose)


def with_at_work(state: S, places: Places) -> S:
    if places is state.past.at_work:
        return state
    return replace(state, past=replace(state.past, at_work=places))


def with_control(past: Past, control: Control) -> Past:
    return past if control is past.control else replace(past, control=control)


def not_open(state: State, round_id: RoundId) -> str:
    if is_round_over(state, round_id):
        return f"late: round {round_id} is closed"
    return f"round {round_id} has not been opened"


def is_round_over(state: State, round_id: RoundId) -> bool:
    return isinstance(state, Finished) or round_id < state.round


def has_cohort(state: Collecting, rules: Rules) -> bool:
    if rules.mixes_masks:
        return len(clients_in_sum(state, state.past.held)) >= rules.cohort
    return len(state.answered) + len(state.past.held) >= rules.cohort


def clients_in_sum(state: Collecting, held: Sequence[Named]) -> Clients:
    """Of whom a masked sum is: each is in it by its newest answer alone."""
    return state.answered.union(named.client for named in held)
