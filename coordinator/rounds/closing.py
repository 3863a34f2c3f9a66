"""When a round closes, what comes of it, and what is learned from it."""

import math
from collections import Counter
from dataclasses import replace

from coordinator import fleet_size, pacing
from coordinator.known import Learned
from coordinator.pacing import Seen
from coordinator.roster import Roster
from coordinator.rounds.effects import Close, Effect, Finish, Outcome
from coordinator.rounds.names import NOBODY, Named
from coordinator.rounds.opening import open_if_ready
from coordinator.rounds.state import (
    COMPLETE,
    DEADLINE,
    GIVEN_UP,
    MEASURED,
    UNHURRIED_SHARE,
    Averaging,
    Collecting,
    Finished,
    Rules,
    Settled,
    State,
    Waiting,
    clients_in_sum,
    has_cohort,
    is_drawn,
)
from fedmqtt import sortition
from fedmqtt.effects import Publish, Seconds
from fedmqtt.topics import OfferBoard, RoundId


def waits_for_storing_alone(state: State, at: Seconds, rules: Rules) -> bool:
    """Whether the open round is over as soon as all that was accepted is stored."""
    if not isinstance(state, Collecting) or not state.past.storing:
        return False
    return bool(_why_close(state, at, rules))


def close_if_due(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[State, list[Effect]]:
    reason = _why_close(state, at, rules)
    if not reason or state.past.storing:
        return state, []
    # Nothing is learned of who had no time.
    was_in_vain = reason == DEADLINE and _was_hurried(state)
    if reason == DEADLINE and not state.is_quiet and not was_in_vain:
        # At work on a version, a client has its own time.
        waited_for = NOBODY if rules.is_asynchronous else state.outstanding
        for client in sorted(waited_for | state.evaluations_outstanding):
            if client not in state.away:
                roster.missed(at, client, state.closes_at - state.opened_at)
    outcome = _outcome(state, rules)
    has_measured = state.is_last_evaluation and outcome == "kept"
    # Nor is it theirs that the round was given up.
    was_called_off = _was_called_off(state, reason)
    was_cut_short = reason == COMPLETE or was_called_off
    surplus = state.outstanding - state.away.keys() if was_cut_short else NOBODY
    if rules.is_asynchronous:
        surplus = state.outstanding & state.past.at_work.keys()
    pace, sizes = state.past.pace, state.past.sizes
    shows = not state.is_last_evaluation and not was_called_off
    if shows and state.is_quiet:
        sizes = fleet_size.learn(sizes, rules.fleet, _seen_of_size(state, reason))
    elif shows and not rules.is_asynchronous and not was_in_vain:
        pace = pacing.learn(pace, rules.pace, _seen(state, reason, outcome, rules, roster))
    close = Close(
        round=state.round,
        outcome=outcome,
        reason=MEASURED if has_measured and not was_called_off else reason,
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


def _was_hurried(state: Collecting) -> bool:
    """Whether the round had far less time than rounds have taken lately: at a site, whose centre
    waited no longer. Who would have answered is not known then."""
    given_s, allowed_s = state.closes_at - state.opened_at, state.past.pace.deadline_s
    # A centre that never waits as long as a site would is what rounds take, after the first.
    usual_s = min(allowed_s, state.past.typical_s or allowed_s)
    return given_s < UNHURRIED_SHARE * usual_s


def _seen_of_size(state: Collecting, reason: str) -> fleet_size.Seen:
    drawn = state.sortition
    assert drawn is not None
    # Who was refused for what it sent has answered too.
    refused = {one for one in state.rejected if is_drawn(state, one, "train")}
    answered = sorted(state.answered | refused)
    return fleet_size.Seen(
        share=sortition.share(drawn.train),
        answered=len(answered),
        was_cut_off=reason == DEADLINE and not _was_hurried(state),
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
    gone = at >= patience_ends_at(state, rules)
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
    if has_cohort(state, rules):
        return COMPLETE
    if at >= state.closes_at:
        return DEADLINE
    if state.past.at_work:
        return ""
    if _has_quorum(state, rules):
        return "nobody left to answer"
    return _why_nobody_is_left(state)


def _has_quorum(state: Collecting, rules: Rules) -> bool:
    if rules.mixes_masks:
        return len(clients_in_sum(state, _due_late(state, rules))) >= max(1, rules.quorum)
    late = len(_due_late(state, rules)) if rules.is_asynchronous else 0
    return len(state.answered) + late >= max(1, rules.quorum)


def patience_ends_at(state: Collecting, rules: Rules) -> Seconds:
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
    if state.past.control.rollback is not None or state.called_off:
        # Nobody would use its model, and keyholders would be asked to open its sum.
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
        typical_s=_typical_s(state, close),
    )
    next_round = RoundId(state.round + 1)
    match close.outcome:
        case "averaged":
            return Averaging(next_round, past), []
        case "kept":
            # At once would be a tight loop when, say, every client answers nonsense.
            waiting = Waiting(next_round, past, state.model, at + rules.retry_s)
            return open_if_ready(waiting, at, rules, roster)
        case "evaluated":
            return Finished(past), [Publish(OfferBoard(), None), Finish()]


def _typical_s(state: Collecting, close: Close) -> Seconds:
    before, lasted_s = state.past.typical_s, close.duration_s
    if _was_called_off(state, close.reason):
        # It would have taken longer.
        return before
    return lasted_s if before == 0 else 0.7 * before + 0.3 * lasted_s


def _was_called_off(state: Collecting, reason: str) -> bool:
    """Whether it was closed for what has nothing to do with its clients."""
    return bool(state.called_off) or reason == GIVEN_UP
