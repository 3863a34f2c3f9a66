"""What becomes of an answer: whether it counts, now or in a later round, and what it waits for."""

from dataclasses import replace

from coordinator import concurrency
from coordinator.known import Report
from coordinator.roster import Roster
from coordinator.rounds.effects import Accept, AcceptEvaluation, Admit, Effect, Hold
from coordinator.rounds.events import AnnounceCame, Declined, EvaluationCame, UpdateCame
from coordinator.rounds.names import Named
from coordinator.rounds.replies import (
    blame,
    confirm,
    is_told_of,
    pardon,
    put_off,
    receipt_to,
    refuse,
    refuse_foreign,
    reject,
    turn_away,
)
from coordinator.rounds.state import (
    REFUSED,
    Averaging,
    Collecting,
    Finished,
    Rules,
    S,
    State,
    Waiting,
    has_counted,
    is_drawn,
    masking_in_use,
    no_room,
    not_open,
    settled_round,
    with_at_work,
)
from fedmqtt.effects import Note, Seconds
from fedmqtt.messages import PURPOSES, ModelRef, Purpose
from fedmqtt.topics import ClientId, RoundId, RunId


def may_count(state: State, client: ClientId, run: RunId, round_id: RoundId, rules: Rules) -> bool:
    """Whether an update could count if nothing were wrong with it. Else to look at its numbers is
    in vain."""
    if run != rules.run or has_counted(state, client, round_id):
        return False
    if isinstance(state, Collecting) and round_id == state.round:
        return not _why_uninvited(state, client, "train")
    return not _late_fault(state, client, round_id, rules) and _has_room_for_late(state, rules)


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


# Sortition: who was not known to be there when the round opened, and sees that it is invited


def join(state: State, client: ClientId, roster: Roster) -> State:
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
    if not is_drawn(state, client, purpose):
        return f"not invited to {purpose} in round {state.round}"
    if len(invited) >= (state.train_max if train else state.evaluate_max):
        return no_room(state.round)
    return ""


def _let_in(state: Collecting, client: ClientId, purpose: Purpose) -> Collecting:
    if purpose == "evaluate":
        return replace(state, evaluate=state.evaluate | {client})
    if client in state.train:
        return state
    train = state.train | {client}
    if state.is_quiet and is_drawn(state, client, "evaluate"):
        # Who trains measures too where it is drawn, as it sees itself.
        return replace(state, train=train, evaluate=state.evaluate | {client})
    # By its update alone nobody could tell, after a restart, that it was to evaluate.
    return replace(state, train=train, evaluate=state.evaluate - {client})


def done_with(state: S, client: ClientId, run: RunId, number: RoundId, rules: Rules) -> S:
    """The client has said its last word on this round."""
    if run != rules.run:
        return state
    return with_at_work(state, concurrency.left(state.past.at_work, client, number))


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


# Answers


def take_announce(
    state: State, event: AnnounceCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, refuse_foreign(event)
    if has_counted(state, client, round_id):
        return state, confirm(state, event.at, client, round_id, rules)
    if _is_listed(state, rules):
        return put_off(state, event)
    # What cannot count is refused before it is sent: it may have hundreds of megabytes.
    spent = roster.spent_why(client)
    if not isinstance(state, Collecting) or round_id != state.round:
        if reason := _late_fault(state, client, round_id, rules) or spent:
            return refuse(state, event, reason, rules)
        if not _has_room_for_late(state, rules) or _would_exceed(state, client, roster):
            return put_off(state, event)
        if event.fault:
            return blame(refuse(state, event, event.fault, rules), event, event.fault)
        return state, [Admit(client, round_id)]
    if all(_why_uninvited(state, client, purpose) for purpose in PURPOSES):
        return turn_away(state, event, f"not invited to round {round_id}", rules)
    if spent:
        return reject(state, event, spent, rules)
    if _would_exceed(state, client, roster):
        return put_off(state, event)
    if event.fault:
        return blame(reject(state, event, event.fault, rules), event, event.fault)
    return state, [Admit(client, round_id)]


def take_update(
    state: State, event: UpdateCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, refuse_foreign(event)
    if has_counted(state, client, round_id):
        # QoS 1 delivers at least once, and a receipt can be lost: say it again, count it once.
        return state, confirm(state, event.at, client, round_id, rules)
    if _is_listed(state, rules):
        return put_off(state, event)
    if not isinstance(state, Collecting) or round_id != state.round:
        return _take_late(state, event, rules, roster)
    if reason := _why_uninvited(state, client, "train"):
        return turn_away(state, event, reason, rules)
    if reason := roster.spent_why(client):
        return reject(state, event, reason, rules)
    if _would_exceed(state, client, roster):
        return put_off(state, event)
    if reason := _content_fault(state.model, event):
        return blame(reject(state, event, reason, rules), event, reason)
    took_s = _worked_s(state, client, round_id, event.at, rules)
    roster.took_s.append(event.at - state.opened_at)
    roster.knowledge.reports[client, round_id] = Report(event.samples, event.loss, took_s)
    state = _let_in(pardon(state, client), client, "train")
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


def take_evaluation(
    state: State, event: EvaluationCame, rules: Rules
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    if event.run != rules.run:
        return state, refuse_foreign(event)
    if has_counted(state, client, round_id):
        return state, confirm(state, event.at, client, round_id, rules)
    if not isinstance(state, Collecting) or round_id != state.round:
        # What a model was worth rounds ago is of no use: evaluations are never late, but over.
        reason = not_open(state, round_id)
        receipt = receipt_to(state, event.at, client, round_id, rules, reason)
        return state, [receipt, Note(REFUSED, f"{client}: {reason}")]
    if reason := _why_not_asked_to_evaluate(state, client):
        return reject(state, event, reason, rules)
    if reason := _evaluation_fault(state, event):
        return blame(reject(state, event, reason, rules), event, reason)
    state = _let_in(pardon(state, client), client, "evaluate")
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


def take_decline(state: State, event: Declined, rules: Rules) -> State:
    if not isinstance(state, Collecting) or (event.run, event.round) != (rules.run, state.round):
        return state
    client = event.client
    is_known = client in state.train | state.evaluate | state.rejected.keys()
    if not state.owes(client) and (is_known or not is_told_of(state, client)):
        return state
    return replace(state, declined={**state.declined, event.client: event.reason})


# Answers that count: on their way to the disk, and receipted when they are there


def _await_storing(state: Collecting, client: ClientId, round_id: RoundId) -> Collecting:
    storing = state.past.storing | {Named(client, round_id)}
    return replace(state, past=replace(state.past, storing=storing))


def take_stored(
    state: State, at: Seconds, answers: tuple[Named, ...], rules: Rules
) -> tuple[State, list[Effect]]:
    stored = [named for named in answers if named in state.past.storing]
    past = replace(state.past, storing=state.past.storing.difference(stored))
    receipts: list[Effect] = [
        receipt_to(state, at, named.client, named.round, rules) for named in stored
    ]
    return replace(state, past=past), receipts


def take_lost(state: S, at: Seconds, answers: tuple[Named, ...], roster: Roster) -> S:
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


# Answers whose round has closed


def _take_late(
    state: State, event: UpdateCame, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    client, round_id = event.client, event.round
    settled = settled_round(state, round_id)
    reason = _late_fault(state, client, round_id, rules) or roster.spent_why(client)
    if settled is None or reason:
        return refuse(state, event, reason, rules)
    if not _has_room_for_late(state, rules) or _would_exceed(state, client, roster):
        return put_off(state, event)
    if reason := _content_fault(settled.model, event):
        return blame(refuse(state, event, reason, rules), event, reason)
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
    settled = settled_round(state, round_id)
    if isinstance(state, Finished) or round_id >= state.round or rules.late == "discard":
        return not_open(state, round_id)
    if not _more_to_come(state, rules):
        return not_open(state, round_id)
    if settled is None or state.round - round_id > rules.late_rounds_max:
        return f"late: round {round_id} closed too long ago"
    if round_id < state.past.control.valid_from:
        return f"late: an operator has given up the model of round {round_id}"
    if rules.mixes_masks and settled.masking != masking_in_use(state)[0]:
        return f"late: round {round_id} was masked by keys that open no sum any more"
    if client not in settled.train and not is_drawn(settled, client, "train"):
        return f"not invited to train in round {round_id}"
    if client not in settled.train and settled.is_shut:
        return no_room(round_id)
    return ""


def _has_room_for_late(state: State, rules: Rules) -> bool:
    return len(state.past.held) < rules.held_max


def _more_to_come(state: Waiting | Collecting | Averaging, rules: Rules) -> bool:
    """Whether a round will yet close that could take up what is late."""
    if isinstance(state, Collecting) and state.is_last_evaluation:
        return False
    if state.past.control.stopped_by:
        return isinstance(state, Collecting)
    return not rules.rounds or state.round <= rules.rounds
