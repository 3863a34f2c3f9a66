"""The machine itself: one event, one step."""

from dataclasses import replace
from itertools import chain

from coordinator import concurrency, orders
from coordinator.orders import Situation
from coordinator.roster import Roster
from coordinator.rounds.answers import (
    done_with,
    join,
    take_announce,
    take_decline,
    take_evaluation,
    take_lost,
    take_stored,
    take_update,
)
from coordinator.rounds.closing import close_if_due, patience_ends_at
from coordinator.rounds.effects import Admit, Answer, Effect
from coordinator.rounds.events import (
    AnnounceCame,
    Barred,
    CalledOff,
    ClientCame,
    ClientLeft,
    Declined,
    EvaluationCame,
    Event,
    KeysCame,
    LeadCame,
    LinkDown,
    LinkUp,
    Lost,
    ModelReady,
    OrderCame,
    Stored,
    Unbarred,
    UpdateCame,
    Woke,
)
from coordinator.rounds.opening import clear_places, invite_more, open_if_ready
from coordinator.rounds.reminding import came_back, remind_at, remind_if_due
from coordinator.rounds.replies import confirm, hold_back, pardon
from coordinator.rounds.state import (
    Averaging,
    Collecting,
    Finished,
    Past,
    Rules,
    State,
    Waiting,
    has_cohort,
    has_counted,
    trained_last,
    with_at_work,
    with_control,
)
from fedmqtt.effects import Publish, Seconds, WakeAt
from fedmqtt.messages import Sortition, TimeLeft
from fedmqtt.topics import ClientId, Inbox, OfferBoard, RoundId


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


def resume(open_round: Collecting, at: Seconds) -> Collecting:
    """An open round after the coordinator was gone, with all that the ledger knew of it.

    Whoever owes an answer is away until the broker tells otherwise: it may have gone meanwhile, and
    its will with it.
    """
    owing = open_round.outstanding | open_round.evaluations_outstanding
    # A good answer may have been written down, and not that it made up for a refusal before.
    for client in open_round.answered | open_round.evaluated:
        open_round = pardon(open_round, client)
    return replace(open_round, away=dict.fromkeys(sorted(owing), at), said_at=at)


def is_used_up(state: State, rules: Rules, roster: Roster) -> bool:
    """Whether rounds ended before all were done, as too few may take part in another."""
    is_over = isinstance(state, Finished) or (
        isinstance(state, Collecting) and state.is_last_evaluation
    )
    is_early = not rules.rounds or trained_last(state) < rules.rounds
    return is_over and is_early and roster.is_used_up(max(1, rules.clients_min))


def _decide(state: State, event: Event, rules: Rules, roster: Roster) -> tuple[State, list[Effect]]:
    before = state
    state, effects = hold_back(*_take_in(state, event, rules, roster), event, rules)
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
            state = join(_forget_away(state, client), client, roster)
            if is_new and isinstance(state, Collecting):
                state = came_back(state, at, client)
            return _welcome(state, at, client, rules, is_new=is_new)
        case ClientLeft(at, client, session):
            return (
                _mark_away(state, at, client) if roster.left(at, client, session) else state
            ), []
        case AnnounceCame(at, client):
            roster.heard(at, client)
            state, effects = take_announce(_forget_away(state, client), event, rules, roster)
            if Admit(client, event.round) not in effects:
                state = done_with(state, client, event.run, event.round, rules)
            return state, effects
        case UpdateCame(at, client):
            roster.heard(at, client)
            state, effects = take_update(_forget_away(state, client), event, rules, roster)
            return done_with(state, client, event.run, event.round, rules), effects
        case EvaluationCame(at, client):
            roster.heard(at, client)
            return take_evaluation(_forget_away(state, client), event, rules)
        case Declined(at, client):
            roster.heard(at, client)
            state = take_decline(_forget_away(state, client), event, rules)
            return done_with(state, client, event.run, event.round, rules), []
        case Barred(at, client, why):
            roster.bar(client, why)
            return _give_up_on(state, client, why), []
        case Unbarred(at, client):
            roster.unbar(client)
            return state, []
        case Stored(at, answers):
            return take_stored(state, at, answers, rules)
        case Lost(at, answers):
            return take_lost(state, at, answers, roster), []
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
            return open_if_ready(clear_places(state, at, rules, roster), at, rules, roster)
        case Collecting():
            state, invites = invite_more(clear_places(state, at, rules, roster), at, rules, roster)
            following, effects = close_if_due(state, at, rules, roster)
            reminds: list[Effect] = []
            if isinstance(following, Collecting):
                following, reminds = remind_if_due(following, at, rules, roster)
            return following, [*invites, *effects, *reminds]
        case Averaging() | Finished():
            return state, []


# Clients that come and go


def _welcome(
    state: State, at: Seconds, client: ClientId, rules: Rules, *, is_new: bool
) -> tuple[State, list[Effect]]:
    match state:
        case Collecting(sortition=Sortition()) if is_new and has_counted(
            state, client, state.round
        ):
            # A phone after a reboot, which has forgotten its answer, sees that it is invited.
            return state, confirm(state, at, client, state.round, rules)
        case Collecting() if state.owes(client):
            # It may have read the retained offer long after it was published, by a wrong clock.
            left_s = max(0.0, state.closes_at - at)
            left = TimeLeft(run=rules.run, round=state.round, closes_in_s=left_s)
            return state, [Publish(Inbox(client), left)]
        case _:
            return state, []


def _mark_away(state: State, at: Seconds, client: ClientId) -> State:
    # A client that leaves may still deliver: the broker can hold its update, or it comes back.
    state = with_at_work(state, concurrency.away(state.past.at_work, client, at))
    if isinstance(state, Collecting) and state.owes(client):
        return replace(state, away={**state.away, client: at})
    return state


def _forget_away(state: State, client: ClientId) -> State:
    state = with_at_work(state, concurrency.away(state.past.at_work, client, None))
    if isinstance(state, Collecting) and client in state.away:
        return replace(state, away={c: at for c, at in state.away.items() if c != client})
    return state


def _give_up_on(state: State, client: ClientId, why: str) -> State:
    """Nobody waits for it any more."""
    if client in (places := state.past.at_work):
        state = with_at_work(state, {one: its for one, its in places.items() if one != client})
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
    following = replace(state, past=with_control(state.past, changed))
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
                past = with_control(past, orders.gone_back(past.control, number, event.fault))
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
        # To all, as to who has just come.
        said_at=at,
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
            moments = [patience_ends_at(state, rules), remind_at(state, rules, roster) or 0.0]
            return min([state.closes_at, *(one for one in moments if one > now)])
        case _:
            return None


def _wake_version_at(
    state: Collecting, now: Seconds, rules: Rules, roster: Roster
) -> Seconds | None:
    if state.past.storing and (state.closes_at <= now or has_cohort(state, rules)):
        # It closes as soon as what counts is stored.
        return state.closes_at if state.closes_at > now else None
    if has_cohort(state, rules):
        # Late answers that waited were enough when it opened.
        return now
    next_free_at = _next_free_at(state, rules, roster)
    reminds_at = remind_at(state, rules, roster)
    return min(one for one in (state.closes_at, next_free_at, reminds_at) if one is not None)


def _next_free_at(state: State, rules: Rules, roster: Roster) -> Seconds | None:
    """When there may be somebody to invite though nobody says anything: a rest is over, or a
    client that is at work has been silent for too long."""
    moments = [
        roster.rest_ends_at(),
        concurrency.next_end(state.past.at_work, rules.away_grace_s),
    ]
    return min((one for one in moments if one is not None), default=None)
