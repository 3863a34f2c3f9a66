"""Which seeds' sums of masks nobody but one keyholder has told of."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from coordinator.masking.confirmation import Confirmation, unconfirmed
from coordinator.pages.status import Facts
from fedmqtt.topics import RoundId
from tests.coordinator.masking.test_opening import FALSE, TRUE, A, B, C, Round, rules


@pytest.mark.parametrize(
    ("told", "left"),
    [([A, B], {0, 1}), ([B, C], {1, 2}), ([A, B, C], set())],
)
def test_of_two_keyholders_each_tells_of_one_seed_alone(told: list[int], left: set[int]) -> None:
    a_round = Round({A, B, C}, rules())
    for place in told:
        a_round.tell(place)
    sums = tuple(TRUE[seed] for seed in range(3))
    assert unconfirmed(a_round.state, sums, a_round.rules) == left


def test_who_says_otherwise_confirms_nothing() -> None:
    a_round = Round({A, B, C}, rules())
    a_round.tell(A, of=FALSE)
    a_round.tell(B)
    a_round.tell(C)
    # A holds 1 and 2, B 0 and 2, C 0 and 1: of 1 and 2 one other says the same as the sum.
    sums = tuple(TRUE[seed] for seed in range(3))
    assert unconfirmed(a_round.state, sums, a_round.rules) == {1, 2}


def test_where_nobody_else_holds_a_seed_nobody_is_missed() -> None:
    alone = Round({A}, rules(places=1, tolerated=0))
    alone.tell(A)
    assert unconfirmed(alone.state, (TRUE[0],), alone.rules) == set()


def test_the_first_of_several_rounds_that_nobody_confirms_is_in_the_log_and_their_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="coordinator")
    facts = Facts("home", "run", "program", datetime.now(UTC))
    confirmation = Confirmation(facts)
    sums = tuple(TRUE[seed] for seed in range(3))
    for number, places in enumerate([{A, B}, {A, B}, {A, B, C}, {B, C}], start=1):
        offered = replace(rules(), names={place: rules().names[place] for place in places})
        a_round = Round(places, offered)
        for place in places:
            a_round.tell(place)
        confirmation.opened(RoundId(number), a_round.state, sums, a_round.rules)
    assert list(facts.unconfirmed) == [1, 2, 4]
    said = [record.getMessage().split()[:5] for record in caplog.records]
    assert said == [
        ["round", "1:", "one", "keyholder", "alone"],
        ["round", "3:", "each", "sum", "of"],
        ["round", "4:", "one", "keyholder", "alone"],
    ]
