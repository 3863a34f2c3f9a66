"""A client's own estimate of how seldom it takes part, from the rounds of its answers."""

from collections.abc import Sequence

import pytest

from edge_client import participation
from fedmqtt.topics import RoundId


def estimates(answered: Sequence[int], interval_max: int = 50) -> list[float]:
    facts: dict[str, float] = {}
    found: list[float] = []
    for number in answered:
        estimate, facts = participation.answered(facts, RoundId(number), interval_max)
        found.append(estimate)
    return found


@pytest.mark.parametrize(
    ("answered", "wanted"),
    [
        # The first answer begins, the second ends the first interval, the third knows of it.
        ([5, 6, 7, 8], [1, 1, 1, 1]),
        ([1, 5, 9, 13], [1, 1, 4, 4]),
        ([1, 3, 9, 10], [1, 1, 2, 4]),
        # 3, 6 and 1 rounds lie between: 10 / 3 on average.
        ([1, 4, 10, 11, 12], [1, 1, 3, 4.5, 10 / 3]),
    ],
)
def test_it_is_the_mean_of_the_intervals_before_this_answer(
    answered: list[int], wanted: list[float]
) -> None:
    assert estimates(answered) == pytest.approx(wanted)


def test_a_long_absence_counts_as_several_of_the_longest() -> None:
    # From 1 to 26 at most 10 at a time: 10, 10, and the 5 that end with this answer.
    assert estimates([1, 26, 27], 10) == pytest.approx([1, 10, 25 / 3])
    assert all(1 <= one <= 10 for one in estimates([1, 500, 501, 2000, 9000], 10))


def test_exactly_the_longest_is_one_interval() -> None:
    assert estimates([1, 11, 12], 10) == pytest.approx([1, 1, 10])


def test_a_round_that_comes_again_is_one_after_the_other() -> None:
    """A coordinator that was restored from a backup counts some rounds twice."""
    assert estimates([9, 4, 5]) == [1, 1, 1]
