"""A fleet comes back spread over the time that its coordinator gave, and nobody too late."""

from collections import Counter
from random import Random

import pytest

from fedmqtt import pace

CLIENTS = 1000
RETURNS_PER_S = 200.0
SPREAD_S = CLIENTS / RETURNS_PER_S


def _draws() -> list[float]:
    chance = Random(1)
    return [chance.random() for _ in range(CLIENTS)]


def _most_in_a_second(returns: list[float]) -> int:
    return max(Counter(int(at) for at in returns).values())


def test_after_an_outage_no_second_sees_many_more_than_the_coordinator_wants() -> None:
    first = [pace.return_in_s(draw, 0, 0.5, 60.0, SPREAD_S) for draw in _draws()]
    assert _most_in_a_second(first) <= 1.3 * RETURNS_PER_S
    assert max(first) < SPREAD_S


def test_a_thousand_that_were_told_nothing_yet_are_spread_all_the_same() -> None:
    untold = pace.UNTOLD_SPREAD_S
    first = [pace.return_in_s(draw, 0, 0.5, 60.0, untold) for draw in _draws()]
    assert _most_in_a_second(first) <= 1.3 * RETURNS_PER_S


@pytest.mark.parametrize("left_s", [30.0, 300.0])
def test_who_left_between_two_rounds_returns_at_that_pace_too(left_s: float) -> None:
    returns = [pace.back_in_s(draw, left_s, SPREAD_S) for draw in _draws()]
    assert _most_in_a_second(returns) <= 1.3 * RETURNS_PER_S
    assert max(returns) < left_s, "who comes after the offer is not invited"
    assert min(returns) > 0.75 * left_s, "to leave must be worth it"


def test_ten_thousand_who_leave_for_little_longer_than_their_return_takes() -> None:
    spread_s = 10 * SPREAD_S
    chance = Random(1)
    returns = [pace.back_in_s(chance.random(), spread_s + 1, spread_s) for _ in range(10 * CLIENTS)]
    assert _most_in_a_second(returns) <= 1.3 * RETURNS_PER_S
    assert min(returns) > 0
    assert max(returns) < spread_s + 1


def test_the_pause_doubles_up_to_its_limit() -> None:
    attempts = range(6)
    pauses = [pace.return_in_s(0.5, attempt, 0.5, 6.0, 0.0) for attempt in attempts]
    assert pauses == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    # Days without a broker: no number grows beyond what a float holds.
    assert pace.return_in_s(0.5, 10**6, 0.5, 6.0, 0.0) == 3.0


def test_the_longer_of_pause_and_spread_holds() -> None:
    assert pace.return_in_s(0.5, 0, 0.5, 6.0, 10.0) == 5.0
    assert pace.return_in_s(0.5, 3, 0.5, 6.0, 2.0) == 2.0


def test_a_window_ends_before_the_round_and_is_as_long_as_it_should_be() -> None:
    # Of 100 s, 20 for the return; of the 80 before it, a twentieth is left to the round.
    assert pace.back_in_s(0.0, 100.0, 20.0) == pytest.approx(76.0)
    assert pace.back_in_s(1.0, 100.0, 20.0) == pytest.approx(96.0)
    # A small fleet's is a twentieth of the time.
    assert pace.back_in_s(0.0, 100.0, 0.0) == pytest.approx(0.95 * 95.0)
    assert pace.back_in_s(1.0, 100.0, 0.0) == pytest.approx(0.95 * 95.0 + 5.0)


@pytest.mark.parametrize("left_s", [10.0, 0.0, -3.0])
def test_a_round_that_opens_sooner_than_all_can_be_back(left_s: float) -> None:
    returns = [pace.back_in_s(draw, left_s, 20.0) for draw in (0.0, 0.5, 0.999)]
    assert returns == pytest.approx([draw * max(0.0, left_s) for draw in (0.0, 0.5, 0.999)])
