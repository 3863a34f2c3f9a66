"""The round machine: who was invited, who answered, when the round closes.

`step` reads no clock, draws no chance and touches no tensor; the service folds an update when it
sees `Accept` and makes the next model when it sees `Close`. The roster is the one thing that
`step` changes in place.

               enough clients                cohort complete, or nobody left to wait for,
               are willing                   or the deadline
    Waiting ───────────────────▶ Collecting ───────────────────────────┬──▶ Averaging
       ▲                                                               │        │
       │◀──────────────── fewer answers than the quorum: model kept ───┘        │ ModelReady
       │◀───────────────────────────────────────────────────────────────────────┘
       └──▶ Finished, after the last round and a last evaluation
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from coordinator.roster import Roster
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import ModelRef, Offer, Presence, Purpose, Receipt, TimeLeft, Training
from fedmqtt.topics import ClientId, Inbox, OfferBoard, RoundId

Clients = frozenset[ClientId]
NOBODY: Clients = frozenset()

REFUSED = "refused"
"""The note about an answer that does not count: who sent it, and why not."""

COMPLETE = "cohort complete"
"""Why a round closes when all goes well."""

SETTLED_ROUNDS = 16
"""How many closed rounds are remembered, for clients that ask again about an old answer."""

Select = Callable[[Sequence[ClientId], int, RoundId, Purpose], tuple[ClientId, ...]]
"""(sorted candidates, how many, round, for what) -> whom to invite; the same each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Knobs of a federation's rounds, and what its offers say."""

    select: Select
    rounds: int
    """How many to run; 0 runs until stopped."""
    cohort: int
    """Answers that complete a round."""
    over_selection: float = 1.3
    """Invited per answer wanted, since some never answer."""
    quorum: int = 1
    """Fewest answers that make a new model."""
    clients_min: int = 1
    """Fewest willing clients to open a round with."""
    deadline_s: Seconds = 60.0
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
    run: str = ""
    task: str = ""
    training: Training = field(default_factory=Training)
    codec: str = "full"
    lanes: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A closed round and whose answers counted in it."""

    round: RoundId
    answered: Clients


@dataclass(frozen=True, slots=True)
class Waiting:
    """Between rounds: for a first model, for clients, or for a pause to end."""

    round: RoundId
    """The next one."""
    model: ModelRef | None = None
    not_before: Seconds = 0.0
    settled: tuple[Settled, ...] = ()
    late: int = 0
    """Updates that came after their round had closed, since this program started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """A round is open."""

    round: RoundId
    model: ModelRef
    train: Clients
    evaluate: Clients
    opened_at: Seconds
    closes_at: Seconds
    answered: Clients = NOBODY
    evaluated: Clients = NOBODY
    declined: Mapping[ClientId, str] = field(default_factory=dict)
    rejected: Mapping[ClientId, str] = field(default_factory=dict)
    away: Mapping[ClientId, Seconds] = field(default_factory=dict)
    """Since when an invited client that owes an answer has been gone."""
    settled: tuple[Settled, ...] = ()
    late: int = 0

    @property
    def is_last_evaluation(self) -> bool:
        return not self.train

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
    """The round is closed and the service is making the next model."""

    round: RoundId
    """The next one."""
    settled: tuple[Settled, ...]
    late: int


@dataclass(frozen=True, slots=True)
class Finished:
    settled: tuple[Settled, ...]
    late: int


State = Waiting | Collecting | Averaging | Finished


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
    round: RoundId
    fault: str = ""


@dataclass(frozen=True, slots=True)
class UpdateCame:
    """A whole update, and what the service found wrong with its numbers, if anything."""

    at: Seconds
    client: ClientId
    round: RoundId
    base: str
    fingerprint: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationCame:
    at: Seconds
    client: ClientId
    round: RoundId
    base: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    at: Seconds
    client: ClientId
    round: RoundId
    reason: str


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The model that the next round starts from can be fetched."""

    at: Seconds
    model: ModelRef


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
    | ModelReady
    | Woke
)


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the client send the answer it announced, when there is room for it."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class Accept:
    """Fold the update that just came into the running sum."""

    client: ClientId
    round: RoundId


@dataclass(frozen=True, slots=True)
class AcceptEvaluation:
    """Count the evaluation that just came."""

    client: ClientId
    round: RoundId


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
    """There and at work when the round was complete without them: over-selection's price."""
    duration_s: Seconds

    @property
    def dropped(self) -> Clients:
        """Invited to train, and lost: gone, too slow for the deadline, or declined."""
        return self.invited - self.answered - self.rejected.keys() - self.surplus


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more will happen: withdraw what is retained, and end."""


Effect = Publish | WakeAt | Note | Admit | Accept | AcceptEvaluation | Close | Finish


def step(state: State, event: Event, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    """The next state, and what the service must do about it. Never raises on any event."""
    following, effects = _decide(state, event, rules, roster)
    wake_at = _wake_at(following, event.at, rules, roster)
    # After a Woke the alarm is spent, so it is set again even if nothing has changed.
    if wake_at is not None and (
        isinstance(event, Woke) or wake_at != _wake_at(state, event.at, rules, roster)
    ):
        effects.append(WakeAt(wake_at))
    return following, effects


def has_counted(state: State, client: ClientId, round_id: RoundId) -> bool:
    """Whether this client's answer to this round has been accepted already."""
    if isinstance(state, Collecting) and round_id == state.round:
        return client in state.answered or client in state.evaluated
    return any(past.round == round_id and client in past.answered for past in state.settled)


def _decide(state: State, event: Event, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    before = state
    state, effects = _take_in(state, event, rules, roster)
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
            roster.came(at, client, presence)
            return _welcome(_forget_away(state, client), at, client)
        case ClientLeft(at, client, session):
            return (
                _mark_away(state, at, client) if roster.left(at, client, session) else state
            ), []
        case AnnounceCame(at, client):
            roster.heard(at, client)
            return _take_announce(_forget_away(state, client), event)
        case UpdateCame(at, client):
            roster.heard(at, client)
            return _take_update(_forget_away(state, client), event)
        case EvaluationCame(at, client):
            roster.heard(at, client)
            return _take_evaluation(_forget_away(state, client), event)
        case Declined(at, client, round_id, reason):
            roster.heard(at, client)
            return _take_decline(_forget_away(state, client), client, round_id, reason), []
        case ModelReady(at, model):
            return _take_model(state, at, model, rules), []
        case Woke():
            return state, []


def _advance(state: State, at: Seconds, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    """Open or close a round if the time has come."""
    match state:
        case Waiting():
            return _open_if_ready(state, at, rules, roster)
        case Collecting():
            return _close_if_due(state, at, rules, roster)
        case Averaging() | Finished():
            return state, []


# Opening


def _open_if_ready(
    state: Waiting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    if state.model is None or at < state.not_before:
        return state, []
    roster.end_rests(at)
    if rules.rounds and state.round > rules.rounds:
        return _open_last_evaluation(state, state.model, at, rules, roster)
    # Counted first: sorting a large fleet at each birth would be all the coordinator does.
    if roster.willing_count("train") < max(1, rules.clients_min):
        return state, []
    willing = roster.willing("train")
    wanted = min(len(willing), math.ceil(rules.cohort * rules.over_selection))
    train = frozenset(rules.select(willing, wanted, state.round, "train"))
    evaluate = _evaluators(state.round, roster.willing("evaluate"), rules)
    return _open(state, state.model, train, evaluate, at, rules.deadline_s, rules)


def _open_last_evaluation(
    state: Waiting, model: ModelRef, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    able = roster.able("evaluate") if rules.evaluate_every else []
    if not able:
        return Finished(state.settled, state.late), [Publish(OfferBoard(), None), Finish()]
    # Clients that are away are invited too: the offer is retained, and there is time to return.
    count = min(len(able), rules.evaluators or len(able))
    evaluate = frozenset(rules.select(able, count, state.round, "evaluate"))
    return _open(state, model, NOBODY, evaluate, at, rules.final_deadline_s, rules)


def _evaluators(round_id: RoundId, willing: Sequence[ClientId], rules: Rules) -> Clients:
    # The first round's model is the initial one: its figures are the line everything starts from.
    if not rules.evaluate_every or (round_id - 1) % rules.evaluate_every:
        return NOBODY
    count = min(len(willing), rules.evaluators or len(willing))
    return frozenset(rules.select(willing, count, round_id, "evaluate"))


def _open(
    state: Waiting,
    model: ModelRef,
    train: Clients,
    evaluate: Clients,
    at: Seconds,
    deadline_s: Seconds,
    rules: Rules,
) -> tuple[State, list[Effect]]:
    opened = Collecting(
        round=state.round,
        model=model,
        train=train,
        evaluate=evaluate,
        opened_at=at,
        closes_at=at + deadline_s,
        settled=state.settled,
        late=state.late,
    )
    return opened, [Publish(OfferBoard(), offer(opened, at, rules))]


def offer(state: Collecting, at: Seconds, rules: Rules) -> Offer:
    """What stands on the offer board while the round is open."""
    return Offer(
        run=rules.run,
        round=state.round,
        task=rules.task,
        model=state.model,
        train=tuple(sorted(state.train)),
        evaluate=tuple(sorted(state.evaluate)),
        closes_in_s=max(0.0, state.closes_at - at),
        training=rules.training,
        codec=rules.codec,
        lanes=rules.lanes,
        seed=rules.seed,
    )


# Clients that come and go


def _welcome(state: State, at: Seconds, client: ClientId) -> tuple[State, list[Effect]]:
    match state:
        case Collecting() if state.owes(client):
            # It may have read the retained offer long after it was published, by a wrong clock.
            left = TimeLeft(round=state.round, closes_in_s=max(0.0, state.closes_at - at))
            return state, [Publish(Inbox(client), left)]
        case _:
            return state, []


def _mark_away(state: State, at: Seconds, client: ClientId) -> State:
    # A client that leaves may still deliver: the broker can hold its update, or it comes back.
    if isinstance(state, Collecting) and state.owes(client):
        return replace(state, away={**state.away, client: at})
    return state


def _forget_away(state: State, client: ClientId) -> State:
    if isinstance(state, Collecting) and client in state.away:
        return replace(state, away={c: at for c, at in state.away.items() if c != client})
    return state


# Answers


def _take_announce(state: State, event: AnnounceCame) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if has_counted(state, client, round_id):
        return state, [_receipt(client, round_id), Note("duplicate announcement", client)]
    if not isinstance(state, Collecting) or round_id != state.round:
        return _refuse_update(state, client, round_id)
    # What cannot count is refused before it is sent: it may have hundreds of megabytes.
    if client not in state.train and client not in state.evaluate:
        return _reject(state, client, f"not invited to round {round_id}")
    if event.fault:
        return _reject(state, client, event.fault)
    return state, [Admit(client, round_id)]


def _take_update(state: State, event: UpdateCame) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if has_counted(state, client, round_id):
        # QoS 1 delivers at least once, and a receipt can be lost: say it again, count it once.
        return state, [_receipt(client, round_id), Note("duplicate update", client)]
    if not isinstance(state, Collecting) or round_id != state.round:
        return _refuse_update(state, client, round_id)
    if reason := _update_fault(state, event):
        return _reject(state, client, reason)
    state = replace(
        _pardon(state, client),
        answered=state.answered | {client},
        evaluated=state.evaluated | (state.evaluate & {client}),
    )
    return state, [Accept(client, round_id), _receipt(client, round_id)]


def _update_fault(state: Collecting, event: UpdateCame) -> str:
    if event.client not in state.train:
        return f"not invited to train in round {state.round}"
    if event.base != state.model.digest:
        return f"trained from model {event.base[:12]}, not {state.model.digest[:12]}"
    if event.fingerprint != state.model.fingerprint:
        wanted = state.model.fingerprint
        return f"tensors of another task: fingerprint {event.fingerprint}, not {wanted}"
    return event.fault


def _take_evaluation(state: State, event: EvaluationCame) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if has_counted(state, client, round_id):
        return state, [_receipt(client, round_id), Note("duplicate evaluation", client)]
    if not isinstance(state, Collecting) or round_id != state.round:
        reason = _not_open(state, round_id)
        refused = Note(REFUSED, f"{client}: {reason}")
        return state, [_receipt(client, round_id, reason), refused]
    if reason := _evaluation_fault(state, event):
        return _reject(state, client, reason)
    state = replace(_pardon(state, client), evaluated=state.evaluated | {client})
    return state, [AcceptEvaluation(client, round_id), _receipt(client, round_id)]


def _evaluation_fault(state: Collecting, event: EvaluationCame) -> str:
    if event.client not in state.evaluate or event.client in state.train:
        return f"not invited to evaluate in round {state.round}"
    if event.base != state.model.digest:
        return f"evaluated model {event.base[:12]}, not {state.model.digest[:12]}"
    return event.fault


def _take_decline(state: State, client: ClientId, round_id: RoundId, reason: str) -> State:
    if not isinstance(state, Collecting) or round_id != state.round:
        return state
    if not state.owes(client):
        return state
    return replace(state, declined={**state.declined, client: reason})


def _pardon(state: Collecting, client: ClientId) -> Collecting:
    # It declined, or sent nonsense, and now it answers well.
    if client not in state.rejected and client not in state.declined:
        return state
    return replace(
        state,
        rejected={c: why for c, why in state.rejected.items() if c != client},
        declined={c: why for c, why in state.declined.items() if c != client},
    )


def _refuse_update(state: State, client: ClientId, round_id: RoundId) -> tuple[State, list[Effect]]:
    reason = _not_open(state, round_id)
    receipt = _receipt(client, round_id, reason)
    if not _is_over(state, round_id):
        return state, [receipt, Note(REFUSED, f"{client}: {reason}")]
    late = Note(REFUSED, f"{client}: {reason}")
    return replace(state, late=state.late + 1), [receipt, late]


def _not_open(state: State, round_id: RoundId) -> str:
    if _is_over(state, round_id):
        return f"late: round {round_id} is closed"
    return f"round {round_id} has not been opened"


def _is_over(state: State, round_id: RoundId) -> bool:
    return isinstance(state, Finished) or round_id < state.round


def _reject(state: Collecting, client: ClientId, reason: str) -> tuple[State, list[Effect]]:
    effects: list[Effect] = [
        _receipt(client, state.round, reason),
        Note(REFUSED, f"{client}: {reason}"),
    ]
    return replace(state, rejected={**state.rejected, client: reason}), effects


def _receipt(client: ClientId, round_id: RoundId, reason: str = "") -> Publish:
    # Cut to what a receipt may carry: one that cannot be read would be asked for without end.
    receipt = Receipt(round=round_id, accepted=not reason, reason=reason[:500])
    return Publish(Inbox(client), receipt)


# Closing


def _close_if_due(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    reason = _why_close(state, at, rules)
    if not reason:
        return state, []
    if at >= state.closes_at:
        for client in sorted(state.outstanding | state.evaluations_outstanding):
            if client not in state.away:
                roster.missed(at, client, rules.deadline_s)
    outcome = _outcome(state, rules)
    close = Close(
        round=state.round,
        outcome=outcome,
        reason=reason,
        invited=state.train,
        answered=state.answered,
        evaluated=state.evaluated,
        declined=state.declined,
        rejected=state.rejected,
        surplus=state.outstanding - state.away.keys() if reason == COMPLETE else NOBODY,
        duration_s=at - state.opened_at,
    )
    following, effects = _after_close(state, outcome, at, rules, roster)
    return following, [close, *effects]


def _why_close(state: Collecting, at: Seconds, rules: Rules) -> str:
    if at >= state.closes_at:
        return "deadline"
    if state.is_last_evaluation:
        return "" if state.evaluations_outstanding else "all answered"
    if len(state.answered) >= min(rules.cohort, len(state.train)):
        return COMPLETE
    if not state.is_surely_missing_more_than(0) and not state.outstanding:
        return "nobody left to answer"
    gone = at >= _patience_ends_at(state, rules)
    return "the rest is away" if gone and len(state.answered) >= rules.quorum else ""


def _patience_ends_at(state: Collecting, rules: Rules) -> Seconds:
    """When the last of the missing has been gone for long enough; never while one is there."""
    if state.is_surely_missing_more_than(len(state.away)):
        return math.inf
    gone_since = [state.away.get(client, math.inf) for client in state.outstanding]
    return max(gone_since, default=math.inf) + rules.away_grace_s


def _outcome(state: Collecting, rules: Rules) -> Outcome:
    if state.is_last_evaluation:
        return "evaluated"
    return "averaged" if len(state.answered) >= max(1, rules.quorum) else "kept"


def _after_close(
    state: Collecting, outcome: Outcome, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    settled = (
        *state.settled[1 - SETTLED_ROUNDS :],
        Settled(state.round, state.answered | state.evaluated),
    )
    next_round = RoundId(state.round + 1)
    match outcome:
        case "averaged":
            return Averaging(next_round, settled, state.late), []
        case "kept":
            # At once would be a tight loop when, say, every client answers nonsense.
            waiting = Waiting(next_round, state.model, at + rules.retry_s, settled, state.late)
            return _open_if_ready(waiting, at, rules, roster)
        case "evaluated":
            return Finished(settled, state.late), [Publish(OfferBoard(), None), Finish()]


def _take_model(state: State, at: Seconds, model: ModelRef, rules: Rules) -> State:
    match state:
        case Waiting(model=None):
            return replace(state, model=model)
        case Waiting() | Collecting() if state.model and state.model.digest == model.digest:
            # The same model in other chunks: the broker that came back has another limit.
            return replace(state, model=model)
        case Averaging(round_id, settled, late):
            return Waiting(round_id, model, at + rules.pause_s, settled, late)
        case _:
            return state


def _wake_at(state: State, now: Seconds, rules: Rules, roster: Roster) -> Seconds | None:
    """When something may be due though nobody says anything."""
    match state:
        case Waiting(not_before=not_before) if not_before > now:
            return not_before
        case Waiting():
            return roster.rest_ends_at()
        case Collecting():
            # Earlier changes nothing: the round waits for all of the missing or for none.
            patience_ends_at = _patience_ends_at(state, rules)
            if patience_ends_at > now:
                return min(state.closes_at, patience_ends_at)
            return state.closes_at
        case _:
            return None
