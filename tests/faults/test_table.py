"""The table says in numbers what was found, and nothing else."""

import numpy as np

from tests.faults import table
from tests.faults.stage import Row, largest_difference


def _cells(row: Row) -> list[str]:
    *_, line = table.markdown([row]).splitlines()
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_model_that_is_another_says_by_how_much() -> None:
    difference = largest_difference(
        np.array([1.0, -2.0, 3.0], np.float32), np.array([1.0, -1.5, 3.25], np.float32)
    )
    assert difference == 0.5
    row = Row(fault="half killed", ended=True, model="exact", difference=difference)
    assert _cells(row) == ["half killed", "yes", "", "0", "0", "exact, 0.5 off", ""]


def test_a_difference_that_float32_could_not_hold_is_not_rounded_to_nothing() -> None:
    one = np.array([1.0], np.float32)
    assert largest_difference(one, np.nextafter(one, np.float32(2))) == 2.0**-23


def test_models_that_are_identical_have_no_number() -> None:
    row = Row(fault="cut", ended=True, stall_s=1.5, usual_s=1.0, model="identical", note="waits")
    assert _cells(row) == ["cut", "yes", "1.5 s (1.0 s)", "0", "0", "identical", "waits"]


def test_what_failed_is_told_below_the_table() -> None:
    page = table.page([Row(fault="cut", faults=("not within 60 s",))], "make faults", "Python 3")
    assert "- cut: not within 60 s" in page.rpartition("**Failed:**")[2]
