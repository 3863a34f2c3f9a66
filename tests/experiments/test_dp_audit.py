"""An attack on the noise stays below what is claimed, and catches noise too small by half."""

from dataclasses import replace

import pytest

from experiments import dp_audit
from experiments.dp_audit import Case

CANARIES = 60_000


@pytest.mark.parametrize(
    "case",
    [
        Case("one round", 1.0, 1),
        Case("adaptive", 1.0, 1, adaptive=True),
        Case("tree", 2.0, 8, mechanism="tree"),
    ],
    ids=lambda case: case.name,
)
def test_the_promise_holds_under_attack_and_half_of_the_noise_is_caught(case: Case) -> None:
    found = dp_audit.audit(case, CANARIES, seed=1)
    assert found.claimed == pytest.approx(4.3772, abs=1e-4)
    assert found.is_honest and found.is_caught
    # The attack is a good one: it shows at least a third of what is claimed.
    assert found.found > found.claimed / 3


def test_a_keyholder_helps_the_coordinator_to_no_more_than_is_claimed() -> None:
    case = Case("keyholders", 1.0, 1, masked="coalition")
    found = dp_audit.audit(case, CANARIES, seed=1)
    assert found.claimed == pytest.approx(4.3772, abs=1e-4)
    assert found.is_honest and found.is_caught
    assert found.found > found.claimed / 3
    # Who knows none of the three noises sees less, and is told so.
    alone = dp_audit.audit(replace(case, masked="models"), CANARIES, seed=1)
    assert alone.is_honest and alone.claimed == pytest.approx(2.3414, abs=1e-4)
    assert alone.found < found.found


def test_coins_that_change_nothing_are_guessed_by_nobody() -> None:
    case = Case("one round", 1.0, 1)
    scores, coins = dp_audit.attack(case, dp_audit.plan(case), 10_000, seed=2)
    assert dp_audit.lower_bound(scores, coins) > 0
    # Scores of other devices' coins.
    assert dp_audit.lower_bound(scores, coins[::-1]) < 0.2


def test_rates_are_bounded_as_by_clopper_and_pearson() -> None:
    # None of n: 1 - 0.025^(1/n). Three of ten: 0.6525, from their table.
    assert dp_audit.highest(0, 100) == pytest.approx(1 - 0.025**0.01, abs=1e-9)
    assert dp_audit.highest(3, 10) == pytest.approx(0.6525, abs=1e-4)
    assert dp_audit.highest(10, 10) == 1.0
