"""How much less a stale change counts, by hand."""

import pytest

from coordinator.sums.staleness import Curve, StalenessSettings, weight


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        (StalenessSettings(staleness="constant"), [1, 1, 1, 1]),
        # 1 / sqrt(1 + u)
        (StalenessSettings(), [1, 0.70710678, 0.57735027, 0.5]),
        (StalenessSettings(decay=1.0), [1, 1 / 2, 1 / 3, 1 / 4]),
        # Fresh up to 1, then 1 / (3 (u - 1) + 1).
        (StalenessSettings(staleness="hinge", decay=3.0, fresh=1), [1, 1, 1 / 4, 1 / 7]),
    ],
)
def test_weights_by_hand(settings: StalenessSettings, weights: list[float]) -> None:
    assert [weight(settings, u) for u in range(4)] == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("curve", ["hinge", "polynomial"])
def test_nothing_counts_for_nothing_however_old(curve: Curve) -> None:
    settings = StalenessSettings(staleness=curve, decay=100.0)
    weights = [weight(settings, u) for u in (0, 4, 10, 1000)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == 1.0 and weights[-1] > 0


def test_it_is_the_same_on_a_machine_whose_powers_differ_in_their_last_bit() -> None:
    assert (weight(StalenessSettings(), 2) * 2**20).is_integer()
