"""Renyi accounting against the programs that others trust, on the same settings."""

import json
import math
from functools import lru_cache
from pathlib import Path

import pytest

from fedmqtt.privacy import gaussian, rdp
from fedmqtt.privacy.rdp import Rounds

CASES = json.loads(Path(__file__).with_name("oracles.json").read_text())["cases"]


@lru_cache
def _computed(rounds: Rounds, delta: float) -> float:
    return rdp.epsilon([rounds], delta)


def _epsilon(case: dict[str, float]) -> float:
    return _computed(Rounds(case["sigma"], case["share"], int(case["rounds"])), case["delta"])


def _named(case: dict[str, float]) -> str:
    return f"{case['sigma']}-{case['share']:.3g}-{case['rounds']}"


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_it_is_never_below_the_privacy_loss_distribution(case: dict[str, float]) -> None:
    assert _epsilon(case) >= case["dp_accounting_pld"]


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_it_is_as_tight_as_other_renyi_accountants(case: dict[str, float]) -> None:
    assert _epsilon(case) == pytest.approx(case["dp_accounting_rdp"], rel=0.02)
    assert _epsilon(case) == pytest.approx(case["opacus_rdp"], rel=0.02)


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_others_lie_below_it_by_no_more_than_renyi_loses(case: dict[str, float]) -> None:
    # PRV is an upper bound too, and a tighter one.
    assert case["dp_accounting_pld"] <= case["opacus_prv"] <= _epsilon(case)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 10.0])
def test_without_sampling_it_is_above_the_exact_value(sigma: float) -> None:
    exact = gaussian.epsilon(sigma, 30, 1e-6)
    found = rdp.epsilon([Rounds(sigma, 1.0, 30)], 1e-6)
    assert exact <= found <= 1.12 * exact


@pytest.mark.parametrize(("sigma", "share"), [(1.0, 0.1), (0.6, 0.001), (3.0, 0.5)])
def test_whole_orders_and_those_between_lie_on_one_curve(sigma: float, share: float) -> None:
    """(a - 1) times the divergence is convex in a: what is between two orders is no more."""
    one = Rounds(sigma, share, 1)

    def log_moment(order: float) -> float:
        return (order - 1) * rdp.divergence(one, order)

    for order in (2, 3, 5, 9, 20):
        between = log_moment(order + 0.5)
        assert between <= (log_moment(order) + log_moment(order + 1)) / 2 + 1e-12
        assert log_moment(order) <= between
        # And the series of the others meets the sum of the whole ones.
        assert log_moment(order + 1e-9) == pytest.approx(log_moment(order), rel=1e-6)


def test_order_two_is_what_it_is_by_hand() -> None:
    # A(2) = 1 + q^2 (e^(1 / sigma^2) - 1).
    found = rdp.divergence(Rounds(1.5, 0.2, 1), 2.0)
    assert found == pytest.approx(math.log(1 + 0.04 * math.expm1(1 / 1.5**2)), rel=1e-12)


def test_rounds_of_different_kinds_add_up() -> None:
    many, few = Rounds(2.0, 0.1, 100), Rounds(1.0, 0.01, 10)
    both = rdp.epsilon([many, few], 1e-5)
    assert both > max(rdp.epsilon([many], 1e-5), rdp.epsilon([few], 1e-5))
    assert rdp.epsilon([many, Rounds(1.0, 0.01, 0)], 1e-5) == rdp.epsilon([many], 1e-5)
    halves = [Rounds(2.0, 0.1, 50), Rounds(2.0, 0.1, 50)]
    assert rdp.epsilon(halves, 1e-5) == pytest.approx(rdp.epsilon([many], 1e-5), rel=1e-12)


def test_nobody_in_a_round_costs_nothing_and_no_noise_everything() -> None:
    assert rdp.divergence(Rounds(1.0, 0.0, 1), 2.0) == 0.0
    assert rdp.epsilon([Rounds(0.0, 0.5, 1)], 1e-5) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        rdp.epsilon([Rounds(1.0, 0.5, 1)], 0.0)
