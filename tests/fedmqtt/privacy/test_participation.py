"""How often each device may take part."""

from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.privacy.participation import Participations
from fedmqtt.topics import ClientId

ANN, BOB = ClientId("ann"), ClientId("bob")


def test_who_has_taken_part_often_enough_is_spent() -> None:
    counted = Participations(most=2)
    assert counted.took_part([ANN, BOB]) == {ANN: 1, BOB: 1}
    assert not counted.is_spent(ANN)
    assert counted.took_part([ANN]) == {ANN: 2}
    assert counted.is_spent(ANN) and not counted.is_spent(BOB)
    assert counted.largest == 2


def test_without_an_end_nobody_is_counted() -> None:
    counted = Participations()
    assert counted.took_part([ANN]) == {}
    assert not counted.is_spent(ANN)
    assert counted.largest == 0


def test_two_answers_in_one_sum_count_as_four() -> None:
    counted = Participations(most=5)
    assert counted.took_part([ANN, BOB, ANN]) == {ANN: 4, BOB: 1}


def test_answers_that_wait_count_as_if_they_came_into_one_sum() -> None:
    counted = Participations(most=5)
    assert not counted.is_spent(ANN, waiting=1)
    assert counted.is_spent(ANN, waiting=2)
    counted.took_part([ANN])
    assert not counted.is_spent(ANN, waiting=1)
    counted.took_part([ANN])
    assert counted.is_spent(ANN, waiting=1)


@given(
    most=st.integers(1, 30),
    actions=st.lists(st.integers(0, 3), max_size=60),
)
def test_no_order_of_waiting_and_folding_exceeds_what_is_allowed(
    most: int, actions: list[int]
) -> None:
    """An answer comes (0), or so many of those that wait go into a sum."""
    counted, waiting = Participations(most), 0
    for action in actions:
        if not action and not counted.is_spent(ANN, waiting):
            waiting += 1
        elif action:
            folded = min(action, waiting)
            counted.took_part([ANN] * folded)
            waiting -= folded
        assert counted.counts.get(ANN, 0) <= most
