"""Numbers that arrive exactly as float32, and digits that may be added."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.whole_numbers import DIGIT_MAX, are_digits, digits, numbers, whole_numbers, words


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_a_double_arrives_to_the_last_bit(doubles: list[float]) -> None:
    assert numbers(words(doubles)) == doubles


def test_what_are_no_words_are_no_numbers() -> None:
    for wrong in ([[0.5, 0, 0, 0]], [[-1, 0, 0, 0]], [[2**16, 0, 0, 0]], [[np.nan, 0, 0, 0]]):
        with pytest.raises(ValueError, match="not written as words"):
            numbers(np.array(wrong, np.float32))
    with pytest.raises(ValueError, match="not written as words"):
        numbers(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        numbers(words([float("inf")]))


@given(st.lists(st.integers(-(2**150), 2**150), max_size=5))
def test_a_whole_number_is_its_digits(whole: list[int]) -> None:
    found = digits(whole, 8)
    assert are_digits(found)
    assert whole_numbers(found) == whole


def test_a_number_is_written_as_the_docstring_has_it() -> None:
    whole = 771_707 + 2**20 * (763_548 + 2**20 * 2)
    assert digits([whole], 3).tolist() == [[771_707, 763_548, 2]]


@given(st.lists(st.integers(0, 2**58), min_size=1, max_size=16))
def test_sums_of_digits_are_the_digits_of_sums(whole: list[int]) -> None:
    total = sum(digits([one], 3).astype(np.int64) for one in whole)
    assert whole_numbers(np.asarray(total)) == [sum(whole)]
    long = sum(digits([-one], 8).astype(np.int64) for one in whole)
    assert whole_numbers(np.asarray(long)) == [-sum(whole)]


def test_no_digit_is_larger_or_broken() -> None:
    assert are_digits(np.array([DIGIT_MAX, -DIGIT_MAX, 0], np.float32))
    for wrong in (DIGIT_MAX + 1, -DIGIT_MAX - 1, 0.5, np.nan, np.inf):
        assert not are_digits(np.array([0, wrong], np.float32))
