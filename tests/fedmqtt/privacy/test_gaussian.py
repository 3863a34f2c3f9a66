"""What Gaussian noise guarantees: against published values, another program, and itself."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt.privacy import gaussian

ORACLES = json.loads(Path(__file__).with_name("oracles.json").read_text())
DELTA = 1e-5


@pytest.mark.parametrize(
    ("sigma", "participations", "wanted"),
    [
        (1, 1, 4.3772),
        (1, 5, 11.4800),
        (1, 50, 54.3766),
        (4, 1, 0.9263),
        (4, 20, 4.9833),
        (8, 10, 1.5347),
        (16, 1, 0.2041),
        (16, 50, 1.7370),
    ],
)
def test_the_table_of_the_documentation_is_reached(
    sigma: float, participations: int, wanted: float
) -> None:
    assert gaussian.epsilon(sigma, participations, DELTA) == pytest.approx(wanted, abs=5e-5)


def test_a_zero_concentrated_promise_of_a_published_keyboard_is_less_than_it_said() -> None:
    # rho = 0.81 at delta 1e-10 was published as 8.9, by a looser conversion.
    sigma = 1 / math.sqrt(2 * 0.81)
    assert gaussian.epsilon(sigma, 1, 1e-10) == pytest.approx(8.549, abs=5e-4)


@pytest.mark.parametrize("oracle", ORACLES["gaussian"])
def test_it_is_what_a_privacy_loss_distribution_says(oracle: dict[str, float]) -> None:
    found = gaussian.epsilon(oracle["sigma"], oracle["participations"], oracle["delta"])
    # That one is computed on a grid of losses, and rounded up.
    assert found == pytest.approx(oracle["dp_accounting_pld"], rel=1e-6, abs=1e-6)


def test_one_value_is_what_it_is_by_hand() -> None:
    # mu = 1, epsilon = 1: Phi(-1/2) - e Phi(-3/2).
    assert gaussian.delta(1.0, 1.0) == pytest.approx(0.3085375 - math.e * 0.0668072, abs=1e-6)


def test_without_noise_nothing_is_hidden_and_without_taking_part_all_is() -> None:
    assert gaussian.epsilon(0.0, 1, DELTA) == math.inf
    assert gaussian.epsilon(1.0, 0, DELTA) == 0.0
    assert gaussian.epsilon(0.0, 0, DELTA) == 0.0
    assert gaussian.sigma(1.0, 0, DELTA) == 0.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaussian.epsilon(1.0, 1, delta)
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaussian.sigma(1.0, 1, delta)


def test_it_stays_finite_and_in_order_where_tails_underflow() -> None:
    found = [gaussian.epsilon(sigma, 100, 1e-15) for sigma in (1e-4, 1e-2, 1.0, 1e2, 1e4)]
    assert all(math.isfinite(one) for one in found)
    assert found == sorted(found, reverse=True)
    # mu^2 / 2 is most of it where mu is large: 1e5^2 / 2, and about 8 mu more for delta.
    assert found[0] == pytest.approx(5e9 + 7.94e5, rel=1e-6)


@given(
    sigma=st.floats(0.05, 500),
    participations=st.integers(1, 10_000),
    delta=st.floats(1e-12, 0.4),
)
def test_the_noise_for_an_epsilon_gives_that_epsilon(
    sigma: float, participations: int, delta: float
) -> None:
    epsilon = gaussian.epsilon(sigma, participations, delta)
    if epsilon == 0:
        return
    back = gaussian.sigma(epsilon, participations, delta)
    assert back == pytest.approx(sigma, rel=1e-6)
    # Rounded so that no promise is broken.
    assert gaussian.delta(back, epsilon, participations) <= delta
    assert gaussian.delta(sigma, epsilon, participations) <= delta
