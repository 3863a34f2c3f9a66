"""Streams of intervals: joined, moved and measured without losing or adding a moment."""

import math
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_sim.intervals import (
    Interval,
    merged,
    seconds_of,
    share,
    share_of_the_first,
    since,
    within,
)

MOMENTS = st.integers(0, 30)
SOME = st.lists(st.tuples(MOMENTS, MOMENTS).map(lambda pair: (float(pair[0]), float(pair[1]))))


def moments_of(intervals: list[Interval]) -> set[int]:
    return {n for begin, end in intervals for n in range(int(begin), int(end))}


@given(SOME)
def test_merging_keeps_every_moment_and_leaves_gaps(intervals: list[Interval]) -> None:
    found = merged(intervals)
    assert moments_of(found) == moments_of(intervals)
    assert all(begin < end for begin, end in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(SOME, MOMENTS, MOMENTS)
def test_what_is_cut_out_is_what_lies_between(
    intervals: list[Interval], begin: int, length: int
) -> None:
    found = list(within(since(merged(intervals), begin), length))
    expected = {n - begin for n in moments_of(intervals) if begin <= n < begin + length}
    assert moments_of(found) == expected


def test_a_share_is_of_the_time_asked_for() -> None:
    assert share([(1.0, 2.0), (3.0, math.inf)], 4.0) == 0.5
    assert share([], 4.0) == 0.0


def test_a_share_of_the_first_few_leaves_out_what_comes_after() -> None:
    turns = [(0.0, 1.0), (4.0, 6.0), (10.0, 20.0)]
    assert share_of_the_first(3, turns, 40.0) == (13 / 40, True)
    assert share_of_the_first(2, turns, 8.0) == (3 / 8, True), "the third is after the end"
    assert share_of_the_first(2, turns, 40.0) == (3 / 10, False), "until the third begins"


def test_a_share_of_the_first_few_ends_where_the_stream_does_not() -> None:
    endless = ((float(n), n + 0.25) for n in count())
    assert share_of_the_first(100, endless, 1e15) == (0.25, False)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:00", 0), ("14:30", 52_200), ("Mon 00:01", 60), ("Sun 23:59", 6 * 86_400 + 86_340)],
)
def test_a_time_of_the_week_is_seconds_since_its_first_midnight(time: str, seconds: int) -> None:
    assert seconds_of(time) == seconds
