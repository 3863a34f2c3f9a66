"""How much room errors are given, and which offers promise nothing."""

from typing import Any

import pytest
from msgspec import structs

from fedmqtt import committee_promise
from fedmqtt.committee_promise import GUARD_MAX, SHORT_MAX, TERMS_MAX
from tests.fedmqtt.masking import cohort

HOW = cohort.masking(mode="committee", bits=20, guard=10)


def test_guard_bits_are_more_than_the_errors_of_all_can_come_to_and_no_more_than_need_be() -> None:
    for terms in range(1, TERMS_MAX + 1):
        guard = committee_promise.guard_bits(terms)
        assert SHORT_MAX * terms < 2 ** (guard - 1) <= 2 * SHORT_MAX * terms


def test_bytes_of_as_many_as_there_may_be_fit_above_the_guard() -> None:
    assert 255 * TERMS_MAX * 2**GUARD_MAX < 2**32
    one_more = TERMS_MAX + 1
    assert 255 * one_more * 2 ** committee_promise.guard_bits(one_more) > 2**32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"mode": "keyholders", "guard": 0}, ""),
        ({"mode": "keyholders"}, "guard bits are of a committee's masks, and there is none"),
        ({"guard": 0}, "with a committee there are 7 to 15 guard bits, not 0"),
        ({"guard": 16}, "with a committee there are 7 to 15 guard bits, not 16"),
        ({"bits": 23}, "33 bits, 10 of them to guard sums: 32 are the most"),
        ({"noise": 1.0, "norm_max": 1.0}, "with a committee there is no noise by keyholders"),
        ({"lists_max": 2}, "with a committee there is no noise by keyholders, and a key opens"),
        ({"times_max": 2}, "with a committee there is no noise by keyholders, and a key opens"),
    ],
)
def test_what_promises_nothing_is_told(changes: dict[str, Any], said: str) -> None:
    found = committee_promise.fault(structs.replace(HOW, **changes))
    assert found.startswith(said) and bool(found) == bool(said)
