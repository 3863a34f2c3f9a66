"""Robust rules find what the reference library ByzFL finds, to 6 decimals."""

import json
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import centered_clipping, geometric_median
from tests.coordinator.aggregation.byzfl_reference import OUT
from tests.coordinator.aggregation.folding import answers, play, strategy_named

KEPT: dict[str, Any] = json.loads(OUT.read_text())

LIKE_BYZFL: dict[str, dict[str, Any]] = {
    "geometric_median": {"nu": 1e-6, "iterations": 32},
    "centered_clipping": {"iterations": 3, "radius": 1.5},
}


@pytest.mark.parametrize("case", KEPT["cases"], ids=lambda case: f"f={case['f']}")
@pytest.mark.parametrize("name", list(KEPT["cases"][0]["found"]))
def test_a_rule_finds_what_byzfl_finds(name: str, case: dict[str, Any]) -> None:
    given = {"f": case["f"], "before": case["before"], **LIKE_BYZFL.get(name, {})}
    # Rounded to float32 by the model, so the model is made of nothing but the change.
    base = np.zeros(len(case["vectors"][0]), np.float32)
    found = play(strategy_named(name), base, answers(case["vectors"]), **given)
    np.testing.assert_allclose(found, case["found"][name], rtol=0, atol=1e-6)


def test_the_rules_settings_are_those_that_are_compared() -> None:
    assert geometric_median.Settings().nu == LIKE_BYZFL["geometric_median"]["nu"]
    assert geometric_median.Settings().iterations == LIKE_BYZFL["geometric_median"]["iterations"]
    # Where no radius is given, ours is another rule than ByzFL's: the median of the distances.
    assert centered_clipping.Settings().radius == 0.0
