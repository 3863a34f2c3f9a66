"""Who runs out of time makes as many steps as there is time for, and one at least."""

import math

import pytest
from msgspec import structs

from edge_client.time_budget import ends_with_round, steps_within, stop_at
from fedmqtt.messages import PLAIN, Method
from tests.offers import offer


@pytest.mark.parametrize(
    ("closes_at", "ends_at"),
    [(1100.0, 1090.0), (1004.0, 1003.0), (1000.5, 1000.0), (999.0, 1000.0), (math.inf, math.inf)],
)
def test_training_ends_before_the_round_does(closes_at: float, ends_at: float) -> None:
    assert stop_at(1000.0, closes_at) == ends_at


@pytest.mark.parametrize(
    ("count", "takes_s", "has_s", "made"),
    [
        (10, 5.0, 5.0, 10),
        (10, 5.0, 2.6, 5),
        (10, 5.0, 0.1, 1),
        (10, 5.0, -3.0, 1),
        (10, 0.0, -3.0, 10),
        (0, 0.0, 1.0, 0),
    ],
)
def test_steps_are_whole(count: int, takes_s: float, has_s: float, made: int) -> None:
    assert steps_within(count, takes_s, has_s) == made


def test_only_partial_work_ends_with_its_round_and_only_where_rounds_are_waited_for() -> None:
    partial = offer(method=Method(partial=True))
    assert ends_with_round(partial)
    assert not ends_with_round(structs.replace(partial, asynchronous=True, late_rounds=5))
    assert not ends_with_round(offer(method=PLAIN))
