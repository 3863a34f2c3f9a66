"""How many would answer, inferred from how many of those that were drawn did."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet_size
from coordinator.fleet_size import Belief, Seen

COHORT = 1000
MOST = 2000


def _cut_off(share: float, answered: int) -> Seen:
    return Seen(share=share, answered=answered, was_cut_off=True)


def test_at_first_no_more_are_drawn_than_would_be_too_many_if_all_answered() -> None:
    share = fleet_size.share_to_draw(fleet_size.begin(1_000_000), COHORT, MOST)
    assert COHORT < share * 1_000_000 < 2 * MOST


def test_a_round_that_was_cut_off_tells_the_number_as_well_as_chance_lets_it() -> None:
    before = fleet_size.begin(1_000_000)
    found = fleet_size.estimate(fleet_size.learn(before, 1_000_000, _cut_off(0.01, 500)))
    # 500 answers of one in a hundred: 50,000, with a standard deviation of 1 / sqrt(500) = 4.5%.
    assert found.size == pytest.approx(50_000, rel=0.1)
    assert found.low > 0.85 * 50_000 and found.high < 1.2 * 50_000
    assert found.is_sure


def test_a_complete_cohort_tells_that_no_fewer_would_answer_and_not_how_many_more() -> None:
    before = fleet_size.begin(1_000_000)
    seen = Seen(
        share=0.01, answered=500, was_cut_off=False, turns=tuple(i / 500 for i in range(500))
    )
    found = fleet_size.estimate(fleet_size.learn(before, 1_000_000, seen))
    assert found.low > 0.85 * 50_000 and found.high > 500_000


def test_a_cohort_of_those_whose_turn_came_first_tells_of_a_far_larger_fleet() -> None:
    before = fleet_size.learn(fleet_size.begin(1_000_000), 1_000_000, _cut_off(0.02, 1000))
    assert fleet_size.estimate(before).size == pytest.approx(50_000, rel=0.1)
    # A tenth of those drawn had begun when the cohort was complete.
    turns = tuple(i / 10_000 for i in range(1000))
    seen = Seen(share=0.02, answered=1000, was_cut_off=False, turns=turns)
    after = fleet_size.estimate(fleet_size.learn(before, 1_000_000, seen))
    assert after.low > 350_000


def test_nobody_at_all_makes_it_draw_far_more_and_nothing_fails() -> None:
    belief, shares = fleet_size.begin(1_000_000), []
    for _ in range(5):
        share = fleet_size.share_to_draw(belief, COHORT, MOST)
        shares.append(share)
        belief = fleet_size.learn(belief, 1_000_000, _cut_off(share, 0))
    assert shares == sorted(shares) and shares[-1] > 20 * shares[0] and shares[-1] <= 1


@pytest.mark.parametrize("there", [0.01, 0.3, 1.0, 30.0])
def test_within_a_few_rounds_about_a_cohort_answers_whatever_was_declared(there: float) -> None:
    declared, chance = 100_000, Random(f"{there}")
    true = round(there * declared)
    belief = fleet_size.begin(declared)
    drawn: list[float] = []
    for _ in range(12):
        share = fleet_size.share_to_draw(belief, 200, 400)
        drawn.append(share * true)
        belief = fleet_size.learn(belief, declared, _round(share, true, 200, chance))
    late = drawn[4:]
    assert 170 < sum(late) / len(late) < 280, drawn
    assert fleet_size.estimate(belief).low / 1.3 < true < fleet_size.estimate(belief).high * 1.3


def _round(share: float, true: int, cohort: int, chance: Random) -> Seen:
    mean = share * true
    count = max(0, round(chance.gauss(mean, math.sqrt(mean))))
    if count < cohort:
        return _cut_off(share, count)
    # Work takes two thirds of the time over which turns are spread.
    done = sorted((turn + 0.7, turn) for turn in (chance.random() for _ in range(count)))
    turns = tuple(turn for _, turn in done[:cohort])
    return Seen(share=share, answered=cohort, was_cut_off=False, turns=turns)


@settings(deadline=None)
@given(
    declared=st.integers(1, 2**30),
    seen=st.lists(
        st.builds(
            Seen,
            share=st.floats(0, 1),
            answered=st.integers(0, 10**6),
            was_cut_off=st.booleans(),
            turns=st.lists(st.floats(0, 1), max_size=5).map(tuple),
        ),
        max_size=4,
    ),
)
def test_whatever_is_seen_a_belief_is_one(declared: int, seen: list[Seen]) -> None:
    belief: Belief = fleet_size.begin(declared)
    for one in seen:
        belief = fleet_size.learn(belief, declared, one)
        assert sum(weight for _, weight in belief) == pytest.approx(1.0)
        found = fleet_size.estimate(belief)
        assert 1 <= found.low <= found.size <= found.high
        assert 0 < fleet_size.share_to_draw(belief, 10, 20) <= 1
