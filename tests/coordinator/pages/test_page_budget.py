"""How many pages there is room for: by time, by CPU, and ahead of their turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.pages.page_budget import AHEAD, AT_ONCE, CPU_SHARE, PER_S, PageBudget

PAGE_S = 100e-6


def drained() -> PageBudget:
    """From now on there is no more room than comes."""
    budget = PageBudget(0.0, 0.0)
    budget.said(AT_ONCE, AT_ONCE * PAGE_S)
    return budget


def test_an_idle_program_says_a_few_each_second() -> None:
    budget = drained()
    assert budget.room(1.0, 0.0)[0] == PER_S
    budget.said(3, 3 * PAGE_S)
    assert budget.room(1.1, 0.0)[0] == 0


def test_a_busy_one_says_more_and_the_share_stays() -> None:
    budget = drained()
    # In half a minute all of a core: three a second, and what 60 ms are good for.
    assert budget.room(30.0, 30.0)[0] == min(AT_ONCE, int(30 * PER_S + 30 * CPU_SHARE / PAGE_S))
    slow = drained()
    for second in range(1, 200):
        count, _ = slow.room(float(second), float(second))
        slow.said(count, count * 10 * PAGE_S)
    # On a machine on which a page takes ten times as long, a tenth as many.
    room, _ = slow.room(209.0, 209.0)
    assert room == pytest.approx(10 * (PER_S + CPU_SHARE / (10 * PAGE_S)), abs=1)


def test_after_a_quiet_time_there_is_room_for_so_many_and_no_more() -> None:
    assert PageBudget(0.0, 0.0).room(1e6, 1e6) == (AT_ONCE, AT_ONCE)


def test_what_is_urgent_goes_ahead_and_all_wait_until_that_is_made_up_for() -> None:
    budget = drained()
    ahead = 0
    while (rooms := budget.room(0.0, 0.0))[1]:
        assert rooms[0] == 0
        budget.said(rooms[1], rooms[1] * PAGE_S)
        ahead += rooms[1]
    assert ahead == AHEAD
    assert budget.room(AHEAD / PER_S, 0.0)[0] == 0
    assert budget.room(AHEAD / PER_S + 1.0, 0.0)[0] == PER_S


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 100), st.booleans(), st.floats(0, 0.01)),
        max_size=50,
    )
)
def test_over_any_time_there_are_no_more_than_the_budget_and_what_may_go_ahead(
    moments: list[tuple[float, float, bool, float]],
) -> None:
    budget, at, cpu_s, said, most = PageBudget(0.0, 0.0), 0.0, 0.0, 0, float(AT_ONCE)
    for passed_s, taken_s, is_urgent, page_s in moments:
        at, cpu_s = at + passed_s, cpu_s + taken_s
        # What a page takes is no less than the least that was seen.
        most += passed_s * PER_S + taken_s * CPU_SHARE / 1e-6
        count = budget.room(at, cpu_s)[is_urgent]
        assert 0 <= count <= AT_ONCE
        budget.said(count, count * page_s)
        said += count
    assert said <= most + AHEAD
