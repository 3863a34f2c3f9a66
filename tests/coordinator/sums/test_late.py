"""What a late answer counts for: a whole number of samples, the fewer the older it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.sums import late


@pytest.mark.parametrize(
    ("staleness", "of_100_samples"),
    # 100 / sqrt(1 + s): 70.71, 57.74, 50, 44.72, 33.33, 25.
    [(0, 100), (1, 71), (2, 58), (3, 50), (4, 45), (8, 33), (15, 25)],
)
def test_an_answer_counts_for_less_the_more_rounds_lie_between(
    staleness: int, of_100_samples: int
) -> None:
    assert late.weight(100, staleness) == of_100_samples


def test_an_answer_that_was_accepted_counts_for_something() -> None:
    assert [late.weight(1, staleness) for staleness in range(16)] == [1] * 16


@given(st.integers(1, 2**28), st.integers(0, 15))
def test_a_late_weight_is_a_count_that_the_exact_sum_has_room_for(
    samples: int, staleness: int
) -> None:
    weight = late.weight(samples, staleness)
    assert type(weight) is int and 1 <= weight <= samples
    assert late.weight(samples, staleness + 1) <= weight <= late.weight(samples + 1, staleness)
    # 0.5 more or less is rounding; in float arithmetic a little more.
    assert abs(weight - samples / (1 + staleness) ** 0.5) <= 0.5 + 1e-6 or weight == 1
