"""What rounds show widens or narrows the next: by hand, as properties, and on made-up fleets."""

from collections.abc import Sequence
from dataclasses import replace
from math import comb
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.pacing import (
    AS_CONFIGURED,
    CHANGE_SHARE,
    COMPLETE_SHARE,
    DRIFT_SHARE,
    FIRST_BELIEF,
    RATES,
    SHORTER,
    Bounds,
    Pace,
    Seen,
    begin,
    invite_count,
    invite_limit,
    learn,
    resume,
)

WIDE = Bounds(
    over_selection=1.3,
    over_selection_min=1.0,
    over_selection_max=3.0,
    deadline_s=60.0,
    deadline_min_s=5.0,
    deadline_max_s=3600.0,
)
EVERYBODY = replace(WIDE, over_selection=1.0, over_selection_max=1.0)
"""Nobody to spare: each round needs all whom it invites."""

NOTHING = Seen(
    cohort=10,
    invited=0,
    answered=0,
    at_work=0,
    took_s=(),
    deadline_s=60.0,
    reached_deadline=False,
    kept=False,
)


def complete(invited: int = 13, cohort: int = 10, took_s: float = 20.0) -> Seen:
    """The rest is still at work, and not needed."""
    return replace(
        NOTHING,
        cohort=cohort,
        invited=invited,
        answered=cohort,
        at_work=invited - cohort,
        took_s=(took_s,) * cohort,
    )


def cut_off(answered: int, invited: int = 13, took_s: float = 20.0) -> Seen:
    """The rest is still at work, and too slow."""
    return replace(
        NOTHING,
        invited=invited,
        answered=answered,
        at_work=invited - answered,
        took_s=(took_s,) * answered,
        reached_deadline=True,
    )


def after(rounds: Sequence[Seen], bounds: Bounds = WIDE) -> Pace:
    pace = begin(bounds)
    for seen in rounds:
        pace = learn(pace, bounds, seen)
    return pace


# Where it starts, and what is set


def test_the_first_round_is_as_configured() -> None:
    pace = begin(WIDE)
    assert (pace.over_selection, pace.deadline_s) == (1.3, 60.0)
    assert pace.over_selection_reason == pace.deadline_reason == AS_CONFIGURED


def test_what_has_no_room_is_not_learned() -> None:
    fixed = replace(WIDE, over_selection_min=1.3, over_selection_max=1.3)
    pace = after([replace(cut_off(1), kept=True)] * 5, fixed)
    assert (pace.over_selection, pace.over_selection_reason) == (1.3, AS_CONFIGURED)
    assert pace.deadline_s > 60.0, "the other goes its way"
    fixed = replace(WIDE, deadline_min_s=60.0, deadline_max_s=60.0)
    pace = after([replace(cut_off(1), kept=True)] * 5, fixed)
    assert (pace.deadline_s, pace.deadline_reason) == (60.0, AS_CONFIGURED)
    assert pace.over_selection > 1.3, "the other goes its way"


def test_what_was_learned_is_taken_up_within_new_bounds() -> None:
    pace = after([replace(cut_off(1), kept=True)] * 5)
    assert resume(pace, WIDE) == pace
    tight = replace(WIDE, over_selection_max=1.5, deadline_max_s=70.0)
    resumed = resume(pace, tight)
    assert (resumed.over_selection, resumed.deadline_s) == (1.5, 70.0)
    assert resumed.over_selection_reason == resumed.deadline_reason == AS_CONFIGURED
    assert (resumed.belief, resumed.times) == (pace.belief, pace.times)


def test_a_belief_about_other_shares_is_not_taken_up() -> None:
    foreign = replace(begin(WIDE), belief=(0.5, 0.5))
    assert resume(foreign, WIDE).belief == FIRST_BELIEF


@pytest.mark.parametrize(
    ("over_selection", "cohort", "willing", "invited"),
    [
        (1.3, 10, 100, 13),
        (1.25, 10, 100, 13),  # 12.5, rounded up
        (1.1, 10, 100, 11),  # though 1.1 * 10 > 11 in floating point
        (1.0, 10, 100, 10),
        (1.3, 10, 12, 12),
        (1.3, 10, 10, 10),
        (1.3, 10, 4, 4),
        (1.3, 1, 100, 2),
        (1.3, 10, 0, 0),
    ],
)
def test_as_many_are_invited(
    over_selection: float, cohort: int, willing: int, invited: int
) -> None:
    pace = replace(begin(WIDE), over_selection=over_selection)
    assert invite_count(pace, cohort, willing) == invited


# How many answer


def chance_of_at_least(answers: int, invited: int, rate: float) -> float:
    ways = range(answers, invited + 1)
    return sum(comb(invited, k) * rate**k * (1 - rate) ** (invited - k) for k in ways)


@given(
    cohort=st.integers(1, 12),
    invited=st.integers(1, 30),
    answered=st.integers(0, 30),
    before=st.integers(0, 3),
)
def test_belief_follows_bayes_rule_on_what_the_round_shows(
    cohort: int, invited: int, answered: int, before: int
) -> None:
    wanted = min(cohort, invited)
    answered = min(answered, wanted)
    believed = after([cut_off(7)] * before)
    found = learn(
        believed, WIDE, replace(NOTHING, cohort=cohort, invited=invited, answered=answered)
    )
    weights = [
        share
        # A complete round shows that so many answered or more, another that so many did.
        * (
            chance_of_at_least(wanted, invited, rate)
            if answered == wanted
            else comb(invited, answered) * rate**answered * (1 - rate) ** (invited - answered)
        )
        for share, rate in zip(believed.belief, RATES, strict=True)
    ]
    shares = [weight / sum(weights) for weight in weights]
    last = len(shares) - 1
    for here, first in enumerate(FIRST_BELIEF):
        beside = shares[max(0, here - 1)] + shares[min(last, here + 1)]
        drifted = (1 - 2 * DRIFT_SHARE) * shares[here] + DRIFT_SHARE * beside
        expected = (1 - CHANGE_SHARE) * drifted + CHANGE_SHARE * first
        assert found.belief[here] == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(
    cohort=st.integers(1, 40), answers=st.lists(st.integers(0, 12), max_size=4), kept=st.booleans()
)
def test_as_few_are_invited_as_are_enough(cohort: int, answers: list[int], kept: bool) -> None:
    believed = after([replace(cut_off(answered), kept=kept) for answered in answers])
    found = learn(believed, WIDE, replace(NOTHING, cohort=cohort))

    def complete_share(invited: int) -> float:
        return sum(
            share * chance_of_at_least(cohort, invited, rate)
            for share, rate in zip(found.belief, RATES, strict=True)
        )

    invited = invite_limit(found.over_selection, cohort)
    # The machine leaves out shares that it hardly believes in.
    assert invited == 3 * cohort or complete_share(invited) >= COMPLETE_SHARE
    assert invited == cohort or complete_share(invited - 1) < COMPLETE_SHARE + 0.001


def test_thirteen_are_invited_for_ten_of_whom_nine_in_ten_answer() -> None:
    # Of 13, ten or more answer in 97% of the rounds; of 12, in 89%.
    pace = after([complete(invited=13)] * 8)
    assert invite_count(pace, 10, 100) == 13
    assert pace.over_selection_reason == (
        "invites 13 for 10: about 93% of those invited answer, seldom under 85%"
    )


def test_a_small_cohort_has_more_clients_to_spare_for_each_answer() -> None:
    believed = after([cut_off(16, invited=20)] * 20)
    ratios = [
        learn(believed, WIDE, replace(NOTHING, cohort=cohort)).over_selection
        for cohort in (1, 3, 10, 100)
    ]
    # Four in five answer. Of 2, at least one does in 96% of the rounds; of 5, three in 94%.
    assert ratios == [2.0, pytest.approx(5 / 3), 1.5, 1.37]


def test_the_bounds_are_named_where_they_are_reached() -> None:
    pace = after([cut_off(2)] * 5)
    assert pace.over_selection_reason.startswith("invites 30 for 10, the most allowed: about ")
    pace = after([complete()] * 5, replace(WIDE, over_selection_min=1.4))
    assert pace.over_selection_reason.startswith("invites 14 for 10, the fewest allowed: about 9")


def good_rounds(pace: Pace, rounds: int) -> Pace:
    for _ in range(rounds):
        pace = learn(pace, WIDE, complete(invite_count(pace, 10, 100)))
    return pace


def test_an_outage_counts_at_once_and_is_forgotten_after_some_tens_of_good_rounds() -> None:
    calm = good_rounds(begin(WIDE), 30)
    assert calm.over_selection == 1.2
    outage = learn(calm, WIDE, cut_off(4, invited=12))
    assert outage.over_selection >= 2.0
    assert 1.5 <= good_rounds(outage, 15).over_selection < outage.over_selection
    assert good_rounds(outage, 40).over_selection <= 1.3
    # A longer one takes a little longer.
    long = outage
    for _ in range(30):
        long = learn(long, WIDE, cut_off(9, invited=22))
    assert good_rounds(long, 50).over_selection <= 1.3


def test_clients_that_were_not_waited_for_neither_raise_nor_wear_out_the_belief() -> None:
    # 20 of 30 were not waited for. As losses they would be two thirds, as answers there were none.
    pace = after([complete(invited=30)] * 500)
    assert 1.2 <= pace.over_selection <= 1.5


def test_of_ten_thousand_nearly_nobody_answers() -> None:
    huge = replace(cut_off(5, invited=10_000), cohort=10_000)
    assert after([huge]).over_selection == 3.0


def test_a_round_with_too_few_answers_never_invites_fewer() -> None:
    # Three were willing, all answered, and the quorum is five: inviting fewer would not help.
    refused = replace(complete(invited=3, cohort=3), cohort=10, kept=True)
    believed = after([cut_off(7)] * 3)
    pace = learn(believed, WIDE, refused)
    assert pace.over_selection == believed.over_selection
    assert pace.over_selection_reason.endswith(": no fewer after a round with too few answers")
    assert learn(believed, WIDE, replace(refused, kept=False)).over_selection < pace.over_selection


@given(st.integers(1, 20), st.data())
def test_one_answer_less_never_makes_for_fewer_invitations(
    cohort: int, data: st.DataObject
) -> None:
    invited = data.draw(st.integers(cohort, 40))
    answered = data.draw(st.integers(1, cohort))
    better = replace(cut_off(answered, invited), cohort=cohort)
    worse = replace(cut_off(answered - 1, invited), cohort=cohort)
    assert after([worse]).over_selection >= after([better]).over_selection


# How long they take


def test_the_deadline_is_a_multiple_of_the_time_that_nearly_all_need() -> None:
    # 20 s count as 20.7 s, the next step; all answer within it, so the goal is 1.5 times that.
    everybody = complete(invited=10)
    pace = after([everybody])
    assert pace.deadline_s == pytest.approx(60 * SHORTER), "down slowly"
    pace = after([everybody] * 100)
    assert pace.deadline_s == pytest.approx(1.5 * 20.75, abs=0.1)
    assert pace.deadline_reason == "closes after 31 s: 95% are expected to answer within 21 s"


def test_one_slow_client_in_ten_sets_the_deadline() -> None:
    slow = replace(complete(invited=10), took_s=(20.0,) * 9 + (50.0,))
    # 50 s count as 53.8 s.
    assert after([slow] * 100).deadline_s == pytest.approx(1.5 * 53.8, abs=0.1)


def test_clients_that_were_not_waited_for_lengthen_the_deadline() -> None:
    # 3 of 13 were at work after 20.7 s; by halving, 1 of 20 is after 20.7 * 20 * 3/13 = 95.8.
    paces = [after([complete()] * rounds) for rounds in (1, 2, 3, 4, 50)]
    goal_s = 1.5 * 95.8
    assert [pace.deadline_s for pace in paces] == pytest.approx(
        [90.0, 135.0, goal_s, goal_s, goal_s], abs=0.1
    )
    assert paces[-1].deadline_reason == "closes after 144 s: 95% are expected to answer within 96 s"


def test_clients_count_as_at_work_until_their_own_round_closed_and_no_longer() -> None:
    # Half of all were done after 20 s; of the five that went on being waited for, all after 40 s.
    surplus = complete(invited=20)
    waited_for = replace(complete(invited=10), took_s=(20.0,) * 5 + (40.0,) * 5)
    assert after([surplus, waited_for] + [NOTHING] * 50).deadline_s == pytest.approx(
        1.5 * 41.5, 1e-3
    )


def test_a_round_that_was_cut_off_lengthens_the_deadline_by_half() -> None:
    calm = [complete(invited=10)] * 100
    before = after(calm)
    pace = learn(before, WIDE, cut_off(9, invited=10))
    assert pace.deadline_s == pytest.approx(1.5 * before.deadline_s)
    assert pace.deadline_reason == "closes after 47 s: 1 still at work when the last round closed"
    for _ in range(9):
        pace = learn(pace, WIDE, complete(invited=10))
    assert pace.deadline_s == pytest.approx(before.deadline_s), "nine good rounds undo it"


def test_too_few_answers_in_time_double_the_deadline() -> None:
    pace = after([replace(cut_off(1), kept=True)])
    assert pace.deadline_s == 120.0
    assert pace.deadline_reason == "closes after 120 s: too few answers came within 60 s"
    silence = replace(cut_off(0), kept=True)
    assert after([silence] * 3).deadline_s == 480.0


def test_a_round_that_failed_before_its_deadline_leaves_the_deadline_alone() -> None:
    declined = replace(NOTHING, invited=13, kept=True)
    pace = after([declined])
    assert (pace.deadline_s, pace.deadline_reason) == (60.0, AS_CONFIGURED)
    assert pace.over_selection > 1.3


def test_clients_that_are_gone_do_not_lengthen_the_deadline() -> None:
    gone = replace(cut_off(9, invited=10), at_work=0)
    assert after([gone]).deadline_s == pytest.approx(60 * SHORTER)


def test_who_takes_ten_times_as_long_as_the_slowest_is_stuck() -> None:
    # 4 s count as 4; ten times that is less than the deadline already.
    assert after([cut_off(99, 100, took_s=4.0)]).deadline_s == pytest.approx(60 * SHORTER)
    # 8 s, and half the step up is as far as it goes.
    assert after([cut_off(99, 100, took_s=8.0)]).deadline_s == pytest.approx(80.0)
    # Where most are missing, it is the one that answered who is the exception: the deadline goes
    # up as far as it may, and not just to ten times the time of that one.
    for took_s in (4.0, 8.0):
        pace = after([cut_off(1, took_s=took_s)])
        assert pace.deadline_s == 90.0
        assert "95% are expected to answer within" in pace.deadline_reason
    # And where the quorum is missed, who is missing is needed.
    needed = replace(cut_off(9, took_s=4.0), kept=True)
    assert after([needed]).deadline_s == 120.0


def test_times_are_forgotten() -> None:
    slow, fast = complete(invited=10, took_s=20.0), complete(invited=10, took_s=1.0)
    # 0.95^58 is 5%: from then on 20 s are rarer than 1 in 20. Down to the least takes 20 more.
    assert after([slow] * 100 + [fast] * 50).deadline_s == pytest.approx(1.5 * 20.75, abs=0.1)
    assert after([slow] * 100 + [fast] * 120).deadline_s == 5.0
    assert after([slow] + [NOTHING] * 200).times == ()


# Always

SPANS = st.floats(0.0, 1e6) | st.sampled_from([-1.0, float("nan"), float("inf")])
BOUNDS = st.builds(
    lambda over, over_more, deadline, deadline_more, start: Bounds(
        over_selection=start,
        over_selection_min=over,
        over_selection_max=over + over_more,
        deadline_s=start * 10,
        deadline_min_s=deadline,
        deadline_max_s=deadline + deadline_more,
    ),
    st.floats(1.0, 3.0),
    st.sampled_from([0.0, 0.5, 20.0]),
    st.floats(0.1, 100.0),
    st.sampled_from([0.0, 1.0, 1e6]),
    st.floats(1.0, 30.0),
)
ANY_ROUND = st.builds(
    Seen,
    cohort=st.integers(0, 3000),
    invited=st.integers(0, 3000),
    answered=st.integers(0, 3000),
    at_work=st.integers(0, 3000),
    took_s=st.lists(SPANS, max_size=20).map(tuple),
    deadline_s=SPANS,
    reached_deadline=st.booleans(),
    kept=st.booleans(),
)


@given(BOUNDS, st.lists(ANY_ROUND, max_size=8), st.integers(1, 1000), st.integers(0, 2000))
def test_bounds_hold_whatever_rounds_show(
    bounds: Bounds, rounds: list[Seen], cohort: int, willing: int
) -> None:
    pace = begin(bounds)
    for seen in [*rounds, NOTHING]:
        assert bounds.over_selection_min <= pace.over_selection <= bounds.over_selection_max
        assert bounds.deadline_min_s <= pace.deadline_s <= bounds.deadline_max_s
        assert sum(pace.belief) == pytest.approx(1.0)
        assert len(pace.times) <= 250
        invited = invite_count(pace, cohort, willing)
        assert min(cohort, willing) <= invited <= willing
        assert invited <= invite_limit(bounds.over_selection_max, cohort)
        pace = learn(pace, bounds, seen)


@given(st.lists(ANY_ROUND, max_size=8))
def test_a_ledger_gives_back_every_bit(rounds: list[Seen]) -> None:
    pace = after(rounds)
    again = msgspec.json.decode(msgspec.json.encode(pace), type=Pace)
    assert again == pace
    assert learn(again, WIDE, complete()) == learn(pace, WIDE, complete())


@given(st.permutations([3.0, 8.0, 20.0, 21.0, 55.0]))
def test_the_order_of_answers_does_not_matter(took_s: list[float]) -> None:
    seen = replace(complete(cohort=5), took_s=tuple(took_s))
    assert after([seen]) == after([replace(seen, took_s=tuple(sorted(took_s)))])


# Fleets


def play(
    pace: Pace,
    cohort: int,
    clients: Sequence[float],
    chance: Random,
    *,
    lost: float = 0.0,
    is_noticed: bool = False,
    spread: float = 0.5,
    quorum: int = 1,
) -> Seen:
    """One round of a fleet, where each client is given by the seconds it typically takes.

    `spread` is the standard deviation of the logarithm of what it takes. Of those invited, the
    share `lost` never answers; it `is_noticed`, or they seem to be at work.
    """
    invited = chance.sample(clients, invite_count(pace, cohort, len(clients)))
    works_s = [
        typical * chance.lognormvariate(0.0, spread)
        for typical in invited
        if chance.random() >= lost
    ]
    wanted = min(cohort, len(invited))
    took_s = sorted(took for took in works_s if took <= pace.deadline_s)[:wanted]
    gone = len(invited) - len(works_s) if is_noticed else 0
    at_work = len(invited) - len(took_s) - gone
    return Seen(
        cohort=cohort,
        invited=len(invited),
        answered=len(took_s),
        at_work=at_work,
        took_s=tuple(took_s),
        deadline_s=pace.deadline_s,
        reached_deadline=len(took_s) < wanted and at_work > 0,
        kept=len(took_s) < quorum,
    )


def complete_share(rounds: Sequence[Seen]) -> float:
    return sum(seen.answered >= seen.cohort for seen in rounds) / len(rounds)


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("lost", [0.02, 0.2, 0.4])
@pytest.mark.parametrize("cohort", [1, 3, 10, 100])
def test_the_cohort_comes_together_in_most_rounds_and_few_are_invited_in_vain(
    cohort: int, lost: float, is_noticed: bool
) -> None:
    chance = Random(f"{cohort} {lost} {is_noticed}")
    pace, rounds = begin(WIDE), []
    for _ in range(300):
        rounds.append(
            play(pace, cohort, [20.0] * 4 * cohort, chance, lost=lost, is_noticed=is_noticed)
        )
        pace = learn(pace, WIDE, rounds[-1])
    settled = rounds[50:]
    assert complete_share(settled) >= 0.85
    # As many as would do if the share that answers were known.
    enough = next(n for n in range(cohort, 9999) if chance_of_at_least(cohort, n, 1 - lost) >= 0.9)
    invited = sum(seen.invited for seen in settled) / len(settled)
    assert invited <= 1.1 * enough + 1


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("cohort", [5, 10, 100])
def test_a_network_that_turns_bad_and_good_again(cohort: int, is_noticed: bool) -> None:
    chance = Random(f"{cohort} {is_noticed}")
    pace, rounds, invited = begin(WIDE), [], []
    for number in range(350):
        is_bad = 100 <= number < 200
        rounds.append(
            play(
                pace,
                cohort,
                [60.0 if is_bad else 20.0] * 4 * cohort,
                chance,
                lost=0.4 if is_bad else 0.05,
                is_noticed=is_noticed,
            )
        )
        invited.append(invite_count(pace, cohort, 4 * cohort))
        pace = learn(pace, WIDE, rounds[-1])
    assert complete_share(rounds[20:100]) >= 0.85
    assert complete_share(rounds[120:200]) >= 0.85
    assert complete_share(rounds[200:]) >= 0.85
    calm, bad, again = (sum(invited[at : at + 50]) / 50 for at in (50, 150, 300))
    assert bad > 1.4 * calm
    assert again == pytest.approx(calm, rel=0.1)


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("cohort", [3, 10, 100])
def test_heavy_tails_do_not_draw_the_deadline_down_where_all_are_needed(
    cohort: int, spread: float
) -> None:
    bounds = replace(EVERYBODY, deadline_s=10.0, deadline_max_s=1e6)
    chance = Random(f"{cohort} {spread}")
    pace, rounds = begin(bounds), []
    for _ in range(300):
        rounds.append(play(pace, cohort, [20.0] * cohort, chance, spread=spread))
        pace = learn(pace, bounds, rounds[-1])
    assert complete_share(rounds[50:]) >= 0.85


@pytest.mark.parametrize("quorum", [5, 8])
@pytest.mark.parametrize("deadline_s", [15.0, 60.0, 600.0])
def test_slow_but_steady_clients_are_waited_for_where_they_are_needed(
    deadline_s: float, quorum: int
) -> None:
    bounds = replace(EVERYBODY, deadline_s=deadline_s)
    chance = Random(f"{deadline_s} {quorum}")
    pace, rounds = begin(bounds), []
    for _ in range(200):
        laptops_and_boards = [10.0] * 7 + [80.0] * 3
        rounds.append(play(pace, 10, laptops_and_boards, chance, spread=0.2, quorum=quorum))
        pace = learn(pace, bounds, rounds[-1])
    assert complete_share(rounds[20:]) >= 0.85
    assert pace.deadline_s < 400.0, "nor for ever"


def test_slow_clients_that_were_not_needed_are_waited_for_once_they_are() -> None:
    chance = Random(1)
    pace, rounds = begin(WIDE), []
    for number in range(300):
        # The fast go home for the night.
        fleet = [10.0] * 30 + [80.0] * 10 if number < 200 else [10.0] * 2 + [80.0] * 10
        rounds.append(play(pace, 10, fleet, chance, spread=0.2, quorum=4))
        pace = learn(pace, WIDE, rounds[-1])
    assert complete_share(rounds[20:200]) >= 0.85
    assert complete_share(rounds[210:]) >= 0.85


def test_a_client_that_hangs_for_ever_does_not_draw_the_deadline_up_for_ever() -> None:
    chance = Random(2)
    pace = begin(EVERYBODY)
    for _ in range(200):
        seen = play(pace, 5, [20.0] * 4 + [1e9], chance, spread=0.3, quorum=2)
        pace = learn(pace, EVERYBODY, seen)
        assert pace.deadline_s <= 10 * 1.1 * 20.0 * 3.0, "ten times the slowest answer, see `play`"
