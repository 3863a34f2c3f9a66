"""When a round opens, from which model, and who is invited: then, and while it is open."""

from dataclasses import dataclass, replace

from msgspec import structs

from coordinator import concurrency, fleet_size, orders, pacing
from coordinator.roster import Roster
from coordinator.rounds.effects import Effect, Finish, GoBack, Invite
from coordinator.rounds.names import NOBODY, Clients
from coordinator.rounds.state import (
    BEGIN_SHARE,
    SPREAD_MAX_S,
    UNSURE_BEGIN_SHARE,
    Averaging,
    Collecting,
    Finished,
    Lead,
    OpenSoon,
    Past,
    Rules,
    State,
    Waiting,
    has_cohort,
    places,
    room,
    terms_max,
    with_at_work,
    with_control,
)
from fedmqtt import offered_work, sortition
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import Masking, ModelRef, Offer, Purpose, Sortition
from fedmqtt.topics import ClientId, Digest, OfferBoard, RoundId


def open_if_ready(
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
    state = replace(state, past=with_control(state.past, orders.with_wanted(control, unmet)))
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
        said_at=at,
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
        spread_s=spread_s(rules, roster),
        sortition=state.sortition,
        masking=state.masking,
    )


def to_one(offer: Offer, client: ClientId) -> Offer:
    """The same, as it is said to this client alone: with no other name in it."""
    return structs.replace(
        offer,
        train=tuple(one for one in offer.train if one == client),
        evaluate=tuple(one for one in offer.evaluate if one == client),
    )


def spread_s(rules: Rules, roster: Roster) -> Seconds:
    """Within how long clients that lost their link are to return."""
    return min(SPREAD_MAX_S, (rules.fleet or len(roster.clients)) / rules.returns_per_s)


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


# Places at work, where rounds are asynchronous


def invite_more(
    state: Collecting, at: Seconds, rules: Rules, roster: Roster
) -> tuple[Collecting, list[Effect]]:
    """Fill the places that have become free."""
    is_over = state.is_last_evaluation or at >= state.closes_at or has_cohort(state, rules)
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
    past = with_control(past, orders.with_wanted(past.control, left))
    # The offer is said again to all for that, and reminders are of this offer.
    state = replace(
        state,
        train=state.train | more,
        past=past,
        said_at=at,
        reminders=0,
        came_since=NOBODY,
    )
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


def clear_places(state: OpenSoon, at: Seconds, rules: Rules, roster: Roster) -> OpenSoon:
    """Who was silent or away for too long is waited for no more."""
    oldest = state.round - rules.late_rounds_max
    places, silent = concurrency.cleared(state.past.at_work, at, rules.away_grace_s, oldest)
    for client in silent:
        roster.missed(at, client, state.past.pace.deadline_s)
    return with_at_work(state, places)


def _go_back(state: Waiting, number: RoundId) -> tuple[State, list[Effect]]:
    """To the model of that round. What was trained from those after it counts no more."""
    past = state.past
    if past.storing:
        # Until then nobody knows what is to be set aside.
        return state, []
    control = orders.giving_up(past.control, state.round)
    back = replace(past, control=control, held=(), at_work={})
    return Averaging(state.round, back, goes_back_to=number), [GoBack(number, past.held)]
