"""The longest stall, from moments that are chosen by hand."""

from tests.faults.closings import Closings


def test_the_longest_stall_is_the_longest_gap_and_may_be_the_first_round() -> None:
    closings = Closings()
    assert closings.longest_stall_s(first_took_s=7.0) == 0.0
    closings.at = [100.0, 103.0, 104.0]
    assert closings.longest_stall_s(first_took_s=2.0) == 3.0
    assert closings.longest_stall_s(first_took_s=7.0) == 7.0
