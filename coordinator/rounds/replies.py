"""What clients are told: receipts, and why an answer does not count."""

from dataclasses import replace

from msgspec import structs

from coordinator.rounds.effects import Blame, Effect, Shut
from coordinator.rounds.events import AnnounceCame, EvaluationCame, Event, UpdateCame
from coordinator.rounds.names import Named
from coordinator.rounds.state import (
    REFUSED,
    UNSAID_MAX,
    Averaging,
    Collecting,
    Finished,
    Rules,
    S,
    State,
    Waiting,
    is_drawn,
    is_round_over,
    not_open,
)
from fedmqtt.effects import Note, Publish, Seconds
from fedmqtt.messages import PURPOSES, Receipt
from fedmqtt.topics import ClientId, Inbox, RoundId


def turn_away(
    state: Collecting, event: AnnounceCame | UpdateCame, reason: str, rules: Rules
) -> tuple[State, list[Effect]]:
    """Who is not to train in the open round. For good, also who came too late to find room."""
    state, effects = reject(state, event, reason, rules)
    if state.is_shut or not is_drawn(state, event.client, "train"):
        return state, effects
    return replace(state, is_shut=True), [Shut(state.round, state.train), *effects]


def confirm(
    state: State, at: Seconds, client: ClientId, round_id: RoundId, rules: Rules
) -> list[Effect]:
    again: list[Effect] = [Note("said again", f"{client}, round {round_id}")]
    if Named(client, round_id) in state.past.storing:
        # The receipt comes when it is stored.
        return again
    return [receipt_to(state, at, client, round_id, rules), *again]


def put_off(state: S, event: AnnounceCame | UpdateCame) -> tuple[S, list[Effect]]:
    """Nothing is said: a receipt would let its sender forget what may count when there is room. It
    sends it again."""
    named = f"{event.client}, round {event.round}"
    return state, [Note("put off", f"{named}: too many late answers wait already")]


def pardon(state: Collecting, client: ClientId) -> Collecting:
    # It declined, or sent nonsense, and now it answers well.
    if client not in state.rejected and client not in state.declined:
        return state
    return replace(
        state,
        rejected={c: why for c, why in state.rejected.items() if c != client},
        declined={c: why for c, why in state.declined.items() if c != client},
    )


def refuse(
    state: State, event: AnnounceCame | UpdateCame, reason: str, rules: Rules
) -> tuple[State, list[Effect]]:
    """Of a round that is not open: nothing of the open one changes."""
    effects: list[Effect] = [
        receipt_to(state, event.at, event.client, event.round, rules, reason),
        Note(REFUSED, f"{event.client}: {reason}"),
    ]
    if not is_round_over(state, event.round):
        return state, effects
    return replace(state, past=replace(state.past, late=state.past.late + 1)), effects


def blame(
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


def hold_back(
    state: State, effects: list[Effect], event: Event, rules: Rules
) -> tuple[State, list[Effect]]:
    """Nobody is refused for the closing of a round that may be open again, should we be killed."""
    if not isinstance(state, Averaging) or not isinstance(
        event, AnnounceCame | UpdateCame | EvaluationCame
    ):
        return state, effects
    is_just_closed = (event.run, event.round) == (rules.run, state.round - 1)
    if not is_just_closed or not _is_refused(effects, not_open(state, event.round)):
        return state, effects
    if event.client in state.unsaid or len(state.unsaid) < UNSAID_MAX:
        # One more gets no word at all, and sends it again.
        state = replace(state, unsaid={**state.unsaid, event.client: tuple(effects)})
    return state, []


def _is_refused(effects: list[Effect], reason: str) -> bool:
    """Whether somebody is, for that."""
    said = (effect.message for effect in effects if isinstance(effect, Publish))
    return any(isinstance(one, Receipt) and one.reason == reason for one in said)


def refuse_foreign(event: AnnounceCame | UpdateCame | EvaluationCame) -> list[Effect]:
    reason = f"run {event.run} is over"
    receipt = Receipt(run=event.run, round=event.round, accepted=False, reason=reason)
    return [Publish(Inbox(event.client), receipt), Note(REFUSED, f"{event.client}: {reason}")]


def reject(
    state: Collecting, event: AnnounceCame | UpdateCame | EvaluationCame, reason: str, rules: Rules
) -> tuple[Collecting, list[Effect]]:
    """Of the open round: told to its sender, and shown until it sends a better one."""
    effects: list[Effect] = [
        receipt_to(state, event.at, event.client, event.round, rules, reason),
        Note(REFUSED, f"{event.client}: {reason}"),
    ]
    if not is_told_of(state, event.client):
        return state, effects
    return replace(state, rejected={**state.rejected, event.client: reason}), effects


def is_told_of(state: Collecting, client: ClientId) -> bool:
    """Whether people are told why its answer does not count, or comes not. For others nobody waits,
    and names can be made up without end."""
    if client in state.train | state.evaluate:
        return True
    told = state.rejected.keys() | state.declined.keys()
    # In a quiet federation nobody is known of before: of who is drawn, as many as may answer.
    has_room = client in told or len(told) < state.train_max + state.evaluate_max
    return state.is_quiet and has_room and any(is_drawn(state, client, one) for one in PURPOSES)


def receipt_to(
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
