"""When a curve reaches its target, on numbers small enough to check by hand."""

import pytest

from experiments.curves import crossing, smooth


def test_the_target_is_crossed_on_the_line_between_two_models() -> None:
    assert crossing([(0, 0.1), (10, 0.8), (20, 1.0)], 0.9) == pytest.approx(15)


def test_a_worse_model_does_not_count_against_the_best_so_far() -> None:
    # From 0.8, the best before, and not from 0.5: at x = 2 the curve is still 0.8.
    assert crossing([(1, 0.8), (2, 0.5), (3, 1.0)], 0.9) == pytest.approx(2.5)


def test_a_model_that_hits_the_target_is_where_it_is_reached() -> None:
    assert crossing([(0, 0.1), (7, 0.9), (8, 0.95)], 0.9) == pytest.approx(7)


def test_a_first_model_that_is_good_enough_needed_nothing() -> None:
    assert crossing([(0, 0.95)], 0.9) == 0


def test_a_curve_below_the_target_never_reaches_it() -> None:
    assert crossing([(0, 0.1), (5, 0.89)], 0.9) is None
    assert crossing([], 0.9) is None


def test_a_smooth_curve_has_means_of_the_last_points_and_begins_where_there_are_so_many() -> None:
    assert smooth([(1, 0.25), (2, 0.75), (4, 0.0)], 2) == [(2, 0.5), (4, 0.375)]
    assert smooth([(1, 0.5)], 2) == []
