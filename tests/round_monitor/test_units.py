"""Numbers as people read them."""

import pytest

from round_monitor import units


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (5_000_000_000, "5.0 GB"),
        (4_321_000_000_000_000, "4,321 TB"),
    ],
)
def test_sizes_have_three_digits(size_bytes: int, text: str) -> None:
    assert units.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7805, "2 h 10 min")],
)
def test_durations_grow_coarser(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "< 0.1 s"),
        (0.06, "0.1 s"),
        (2.5, "2.5 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (65, "1 min 05 s"),
    ],
)
def test_what_takes_a_moment_takes_not_nothing(seconds: float, text: str) -> None:
    assert units.took(seconds) == text


def test_moments_are_compared_across_time_zones() -> None:
    assert units.seconds_between("2026-03-01T10:00:00Z", "2026-03-01T11:00:12+01:00") == 12.0


@pytest.mark.parametrize("moment", ["", "soon", "2026-03-01T10:00:00"])
def test_a_moment_that_is_none_gives_no_time(moment: str) -> None:
    assert units.seconds_between("2026-03-01T10:00:00Z", moment) is None


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [(0, 4, "...."), (2, 4, "##.."), (4, 4, "####"), (9, 4, "####"), (0, 0, "....")],
)
def test_a_bar_is_as_full_as_the_share(part: int, whole: int, drawn: str) -> None:
    assert "".join(units.bar(part, whole, 4, ascii_only=True)) == drawn


def test_a_bar_is_full_only_when_all_is_there() -> None:
    assert units.bar(99, 100, 10) == ("█" * 9, "░")


@pytest.mark.parametrize(
    ("values", "drawn"),
    [([], ""), ([0.5], "▄"), ([0.5, 0.5], "▄▄"), ([0, 1, 2, 7], "▁▂▃█"), ([9, 0, 7], "▁█")],
)
def test_a_sparkline_spans_from_smallest_to_largest(values: list[float], drawn: str) -> None:
    width = 2 if len(values) == 3 else 10
    assert units.sparkline(values, width) == drawn


def test_values_that_lie_as_far_apart_as_can_be_are_drawn() -> None:
    # Their difference is infinite.
    assert units.sparkline([-1.7e308, 0.0, 1.7e308], 10) == "▁▅█"
