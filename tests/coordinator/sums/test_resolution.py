"""Sums have room for the heaviest weights and a fraction: or the federation does not begin."""

from typing import Any

import numpy as np
import pytest

from coordinator.config import FederationConfig, Limits
from coordinator.sums.answers import Answers
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.sums.test_answers import ANN, BOB, update


def federation(aggregation: str, limits: Limits, **given: Any) -> FederationConfig:
    return FederationConfig(
        name="x",
        task="t",
        aggregation=aggregation,
        aggregation_settings=given,
        limits=limits,
    )


WIDE = Limits(change_max=1e6, samples_max=2**28)


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (
            federation("fedau", Limits(change_max=1e9), interval_max=10_000),
            "lower limits.change_max or aggregation_settings.interval_max",
        ),
        (
            federation("inverse_participation", WIDE, ratio_max=1000.0),
            "lower limits.change_max or limits.samples_max or aggregation_settings.ratio_max",
        ),
        (
            federation("fedavg", Limits(change_max=1e9, samples_max=2**28)),
            "lower limits.change_max or limits.samples_max",
        ),
    ],
    ids=["fedau", "inverse_participation", "fedavg"],
)
def test_what_leaves_no_fraction_is_refused_by_the_keys_that_it_follows_from(
    config: FederationConfig, keys: str
) -> None:
    with pytest.raises(SettingsError, match=f"do not fit 64 bits; {keys}$"):
        Answers(config, size=2, terms_max=1000)


def test_a_weight_that_does_not_count_samples_leaves_room_for_a_fraction() -> None:
    """By samples too, nothing would be left of it, and no change would ever move the model."""
    config = federation("fedau", Limits(samples_max=2**28), interval_max=10_000)
    answers = Answers(config, size=1, terms_max=2000)
    answers.begin(2000, RoundId(1))
    for client, change, interval in ((ANN, 1e-3, 1.0), (BOB, 5e-3, 3.0)):
        one = update([change], interval=interval)
        assert answers.check(client, one) == ""
        answers.fold(client, one, evaluates=False)
    moved = answers.finish(np.zeros(1, np.float32))
    np.testing.assert_allclose(moved, [4e-3], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "given"),
    [("fedau", {"interval_max": 300}), ("inverse_participation", {"ratio_max": 8.0})],
)
def test_the_heaviest_answers_of_all_fit(name: str, given: dict[str, Any]) -> None:
    """A total that wrapped around would move the model the other way."""
    terms, rounds = 50, 16
    limits = Limits(change_max=1000.0, samples_max=10_000)
    answers = Answers(federation(name, limits, **given), size=1, terms_max=terms)
    everybody = [ClientId(f"c{n}") for n in range(terms)]
    for number in range(1, rounds + 1):
        answers.begin(terms, RoundId(number))
        # Away for as many rounds as can count.
        for client in everybody if number in (1, rounds) else [ANN]:
            one = update([1000.0], 10_000, interval=float(given.get("interval_max", 1)))
            assert answers.check(client, one) == ""
            answers.fold(client, one, evaluates=False)
        assert answers.finish(np.zeros(1, np.float32)).tolist() == [1000.0]
        answers.end()
