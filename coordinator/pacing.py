"""How many clients to invite and how long to wait for them, learned from the rounds so far.

    a round closes ──Seen──▶ learn ──Pace──▶ the next round opens with it

*Over-selection.* Some of those invited never answer. In the system of Bonawitz et al. ("Towards
Federated Learning at Scale: System Design", MLSys 2019, section 9) it is 6 to 10% of them, and
130% of the clients wanted are invited. Here the share that answers is inferred, and as few are
invited as make the cohort complete in most rounds. That is more than 1 / share, as chance costs
a cohort of 3 more spare clients per answer than one of 300.

What a round tells depends on how it closed. If it fell short, we know how many of those invited
answered. If its cohort was complete, we know only that no fewer did: nobody waited to see who
of the others would have. They cannot be counted as lost (more would be invited each round) nor as
answers (fewer), nor be left out, as who fails in silence is unseen in just the rounds that go
well. So a round is taken for exactly what it shows: the chance of k answers, or of at least so
many (Tobin, "Estimation of Relationships for Limited Dependent Variables", Econometrica 1958). A
belief over possible shares is multiplied by that. The share also changes, at a moment nobody
announces: after each round the belief spreads a little, and a little of it goes back to where it
began. That is the forward step of a hidden Markov model (Rabiner, "A Tutorial on Hidden Markov
Models", Proc. IEEE 1989). An outage moves the belief within a round or two, and is forgotten after
some tens of good ones.

*Deadline.* A multiple of the time within which nearly all clients answer. Of who is at work when
a round closes we know only that it takes longer than that. Without them the fast alone would
count, the deadline would follow them down, cut more off, and so on. With them, the share that is
done by a time is the product-limit estimate (Kaplan and Meier, "Nonparametric Estimation from
Incomplete Observations", JASA 1958). Where rounds never wait for their slowest it ends early; from
there on, those at work are taken to halve when the time doubles. That is slower than in fleets we
know, so the deadline is long where little is known.

An estimate can be wrong, outcomes cannot. Each round that was cut off while clients were at work
lengthens the deadline by half, and one that had too few answers for a model doubles it. All others
shorten it by so little that it comes to rest where a tenth of the rounds are cut off, or fewer,
whatever the times look like (the weighted up-down method: Kaernbach, "Simple adaptive testing with
the weighted up-down method", Perception & Psychophysics 1991). So slow devices that a cohort needs
are waited for. There are two limits. Past `STUCK` times the slowest answer, who is at work is taken
to be stuck, unless the quorum needs it. And a round that is complete with the fast does not wait
for the slow: that is over-selection, at any deadline.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from fedmqtt.effects import Seconds

COMPLETE_SHARE = 0.95
"""Of the rounds, in which the cohort should come together by what is believed. It will be a little
less, as beliefs are late; nine of ten is what we are after."""

RATES = tuple(1 / (1 + math.exp(-0.15 * (i - 31.5))) for i in range(64))
"""Shares of those invited that may answer, 0.9 to 99.1%: even steps of log-odds."""

CHANGE_SHARE = 0.03
"""How likely the share that answers is to be quite another one in the next round."""

DRIFT_SHARE = 0.15
"""How likely it is to be the next lower of RATES, and as likely the next higher. Without that,
rounds of thousands would settle on one of them though the truth lies between two."""

IN_TIME_SHARE = 0.95
"""Of the clients, the time of which the deadline is a multiple of."""

SAFETY = 1.5
"""How many times that time. A long deadline costs nothing in rounds that go well."""

LONGER = 1.5
"""The deadline's largest step up, and the one after a round that was cut off."""

SHORTER = LONGER ** (-1 / 9)
"""Its largest step down, 4.4%: nine of them undo one step up."""

KEPT_LONGER = 2.0
"""Its step after a round that was cut off with too few answers for a model."""

STUCK = 10.0
"""A small board takes ten times as long as a laptop. Who takes longer than that hangs."""

KEEP = 0.95
"""What times weigh after one more round: half after 14."""

FORGOTTEN = 1e-3
"""Times that weigh less are dropped."""

NEGLIGIBLE = 1e-9
"""What is left out of sums of chances, relative to their largest part."""

STEPS_PER_DOUBLING = 8
"""Times are rounded up to steps of 9%."""

SHORTEST_S, LONGEST_S = 2.0**-4, 2.0**27
"""Shorter or longer times count as these, so that a few hundred steps hold all."""

AS_CONFIGURED = "as configured"

Belief = tuple[float, ...]
"""How likely each of RATES is to be the share of those invited that answer; sums to 1."""

Times = tuple[tuple[int, float, float], ...]
"""(step, weight of those who answered within it, weight of those who were at work when their round
closed in it), in order of steps. See `_step`."""


def _first_belief() -> Belief:
    # A beta distribution: nine of ten answer, as in Bonawitz et al., weighing as much as ten
    # clients that were seen. By its tail, an outage is thought possible from the first round on.
    return _normalised([rate**9 * (1 - rate) for rate in RATES])


def _normalised(weights: Sequence[float]) -> Belief:
    total = sum(weights)
    return tuple(weight / total for weight in weights)


FIRST_BELIEF = _first_belief()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where pacing starts, and how far it may go. Least and most the same: nothing is learned."""

    over_selection: float
    """Invited per answer wanted."""
    over_selection_min: float
    over_selection_max: float
    deadline_s: Seconds
    deadline_min_s: Seconds
    deadline_max_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one closed round of training showed."""

    cohort: int
    """Answers that complete a round to which enough are invited."""
    invited: int
    answered: int
    at_work: int
    """There and without an answer when it closed: not needed any more, or too slow."""
    took_s: tuple[Seconds, ...]
    """From opening to acceptance, of those that answered, in any order."""
    deadline_s: Seconds
    """That it had."""
    reached_deadline: bool
    """Whether that is why it closed."""
    kept: bool
    """Too few answers for a new model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the next round opens with, why, and all that is remembered. JSON keeps every bit."""

    over_selection: float
    deadline_s: Seconds
    over_selection_reason: str = AS_CONFIGURED
    """For people, as is the next."""
    deadline_reason: str = AS_CONFIGURED
    belief: Belief = FIRST_BELIEF
    times: Times = ()


def begin(bounds: Bounds) -> Pace:
    """Of a federation's first round."""
    return resume(Pace(over_selection=bounds.over_selection, deadline_s=bounds.deadline_s), bounds)


def resume(pace: Pace, bounds: Bounds) -> Pace:
    """What was learned, within bounds that may have changed since."""
    over_selection = _within(
        pace.over_selection, bounds.over_selection_min, bounds.over_selection_max
    )
    deadline_s = _within(pace.deadline_s, bounds.deadline_min_s, bounds.deadline_max_s)
    is_free = bounds.over_selection_min < bounds.over_selection_max
    is_deadline_free = bounds.deadline_min_s < bounds.deadline_max_s
    return Pace(
        over_selection=over_selection,
        over_selection_reason=pace.over_selection_reason
        if is_free and over_selection == pace.over_selection
        else AS_CONFIGURED,
        deadline_s=deadline_s,
        deadline_reason=pace.deadline_reason
        if is_deadline_free and deadline_s == pace.deadline_s
        else AS_CONFIGURED,
        # Another release may think other shares possible.
        belief=pace.belief if len(pace.belief) == len(RATES) else FIRST_BELIEF,
        times=pace.times,
    )


def learn(pace: Pace, bounds: Bounds, seen: Seen) -> Pace:
    """The next round's pace. Never raises, whatever was seen."""
    pace = replace(pace, belief=_revise(pace.belief, seen), times=_add_times(pace.times, seen))
    over_selection, reason = _choose_over_selection(pace, bounds, seen)
    deadline_s, deadline_reason = _choose_deadline(pace, bounds, seen)
    chosen = replace(
        pace,
        over_selection=over_selection,
        over_selection_reason=reason,
        deadline_s=deadline_s,
        deadline_reason=deadline_reason,
    )
    return resume(chosen, bounds)


def invite_count(pace: Pace, cohort: int, willing_count: int) -> int:
    """How many to invite: all who are willing, where those do not even make a cohort."""
    return min(willing_count, invite_limit(pace.over_selection, cohort))


def invite_limit(over_selection: float, cohort: int) -> int:
    """The most that so much over-selection invites."""
    # Without rounding, 1.1 * 10 is 11.000000000000002 and would invite 12.
    return max(cohort, math.ceil(round(cohort * over_selection, 6)))


# Over-selection


def _choose_over_selection(pace: Pace, bounds: Bounds, seen: Seen) -> tuple[float, str]:
    least, most = bounds.over_selection_min, bounds.over_selection_max
    cohort = max(1, seen.cohort)
    needed = _needed(pace.belief, cohort, invite_limit(most, cohort))
    chosen = _within(needed / cohort, least, most)
    mean = sum(share * rate for share, rate in zip(pace.belief, RATES, strict=True))
    low = RATES[bisect_left([*accumulate(pace.belief)], 1 - COMPLETE_SHARE)]
    because = f"about {mean:.0%} of those invited answer, seldom under {low:.0%}"
    if seen.kept and chosen < pace.over_selection:
        chosen = _within(pace.over_selection, least, most)
        because = "no fewer after a round with too few answers"
    limit = {most: ", the most allowed", least: ", the fewest allowed"}.get(chosen, "")
    return chosen, f"invites {invite_limit(chosen, cohort)} for {cohort}{limit}: {because}"


def _needed(belief: Belief, cohort: int, at_most: int) -> int:
    """The fewest to invite for the cohort to be complete in COMPLETE_SHARE of the rounds."""
    # What is hardly believed would take most of the time and change nothing.
    likely = [(share, rate) for share, rate in zip(belief, RATES, strict=True) if share > 1e-5]

    def complete_share(invited: int) -> float:
        return sum(
            share * math.exp(_log_chance_of_at_least(cohort, invited, rate))
            for share, rate in likely
        )

    return cohort + bisect_left(range(cohort, at_most), COMPLETE_SHARE, key=complete_share)


def _revise(belief: Belief, seen: Seen) -> Belief:
    """What is believed of the next round after this one."""
    answered = max(0, seen.answered)
    invited = max(answered, seen.invited)
    wanted = min(max(1, seen.cohort), invited)
    log_chance = _log_chance_of_at_least if answered >= wanted else _log_chance_of
    logs = [log_chance(min(answered, wanted), invited, rate) for rate in RATES]
    likeliest = max(logs)
    # Of a large round each chance on its own may be too small for a float.
    weights = [share * math.exp(log - likeliest) for share, log in zip(belief, logs, strict=True)]
    return _aged(_normalised(weights))


def _aged(belief: Belief) -> Belief:
    """What a belief about one round says of the next."""
    below = (belief[0], *belief[:-1])
    above = (*belief[1:], belief[-1])
    drifted = [
        share + DRIFT_SHARE * (low - 2 * share + high)
        for low, share, high in zip(below, belief, above, strict=True)
    ]
    return tuple(
        (1 - CHANGE_SHARE) * share + CHANGE_SHARE * first
        for share, first in zip(drifted, FIRST_BELIEF, strict=True)
    )


def _log_chance_of(answers: int, invited: int, rate: float) -> float:
    """Binomial."""
    ways = math.lgamma(invited + 1) - math.lgamma(answers + 1) - math.lgamma(invited - answers + 1)
    return ways + answers * math.log(rate) + (invited - answers) * math.log1p(-rate)


def _log_chance_of_at_least(answers: int, invited: int, rate: float) -> float:
    """The sum is exact, over the tail that falls: some multiple of sqrt(invited) terms."""
    if answers <= 0:
        return 0.0
    odds = rate / (1 - rate)
    if answers > invited * rate:
        upwards = tail(lambda i: (invited - answers - i) / (answers + i + 1) * odds)
        return _log_chance_of(answers, invited, rate) + math.log(upwards)
    below = answers - 1
    downwards = tail(lambda i: (below - i) / (invited - below + i + 1) / odds)
    return math.log1p(-math.exp(_log_chance_of(below, invited, rate)) * downwards)


def tail(growth: Callable[[int], float]) -> float:
    """The sum of falling terms: 1, growth(0), growth(0) * growth(1), ..."""
    total = term = 1.0
    i = 0
    while (term := term * growth(i)) > NEGLIGIBLE:
        total += term
        i += 1
    return total


# Deadline


def _choose_deadline(pace: Pace, bounds: Bounds, seen: Seen) -> tuple[Seconds, str]:
    before, in_time_s = pace.deadline_s, _in_time_s(pace.times)
    if seen.kept and seen.reached_deadline:
        chosen = before * KEPT_LONGER
        because = f"too few answers came within {_say(seen.deadline_s)}"
    elif in_time_s is None:
        return before, pace.deadline_reason
    else:
        goal_s = SAFETY * in_time_s
        because = f"{IN_TIME_SHARE:.0%} are expected to answer within {_say(in_time_s)}"
        patience_s = min(before * LONGER, STUCK * _slowest_s(pace.times))
        if seen.reached_deadline and seen.at_work and patience_s > max(before, goal_s):
            goal_s = patience_s
            because = f"{seen.at_work} still at work when the last round closed"
        chosen = _within(goal_s, before * SHORTER, before * LONGER)
    chosen = _within(chosen, bounds.deadline_min_s, bounds.deadline_max_s)
    return chosen, f"closes after {_say(chosen)}: {because}"


def _in_time_s(times: Times) -> Seconds | None:
    """Within which IN_TIME_SHARE are done; None before the first answer.

    The product-limit estimate; beyond the slowest answer, half are left when the time doubles.
    """
    at_risk = [*accumulate(answered + cut for _, answered, cut in reversed(times))][::-1]
    missing_share, slowest_s = 1.0, None
    for (step, answered, _), here in zip(times, at_risk, strict=True):
        if answered:
            missing_share *= 1 - answered / here
            slowest_s = _span_s(step)
        if missing_share <= 1 - IN_TIME_SHARE:
            return slowest_s
    return None if slowest_s is None else slowest_s * missing_share / (1 - IN_TIME_SHARE)


def _slowest_s(times: Times) -> Seconds:
    return max((_span_s(step) for step, answered, _ in times if answered), default=0.0)


def _add_times(times: Times, seen: Seen) -> Times:
    answered = {step: weight * KEEP for step, weight, _ in times if weight > FORGOTTEN}
    cut = {step: weight * KEEP for step, _, weight in times if weight > FORGOTTEN}
    for step in map(_step, seen.took_s):
        answered[step] = answered.get(step, 0.0) + 1
    if seen.at_work:
        closed = _step(seen.deadline_s if seen.reached_deadline else max(seen.took_s, default=0.0))
        cut[closed] = cut.get(closed, 0.0) + seen.at_work
    steps = sorted(answered | cut)
    return tuple((step, answered.get(step, 0.0), cut.get(step, 0.0)) for step in steps)


def _step(span_s: Seconds) -> int:
    # Compared so that NaN, too, becomes a time.
    span_s = min(span_s, LONGEST_S) if span_s > SHORTEST_S else SHORTEST_S
    return math.ceil(STEPS_PER_DOUBLING * math.log2(span_s))


def _span_s(step: int) -> Seconds:
    """The longest time that counts as this step."""
    return math.exp2(step / STEPS_PER_DOUBLING)


def _say(span_s: Seconds) -> str:
    return f"{span_s:.0f} s" if span_s >= 10 else f"{span_s:.1f} s"


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
