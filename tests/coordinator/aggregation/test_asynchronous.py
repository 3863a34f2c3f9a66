"""FedBuff and FedAsync beside naive ones, which make each client's model and mix all of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.aggregation import Round
from coordinator.rounds import Named
from fedmqtt import settings
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from tests.coordinator.aggregation.folding import bits_for, strategy_named

SIZE = 40
NOW = 9
CURVES: list[dict[str, Any]] = [
    {},
    {"staleness": "constant"},
    {"staleness": "hinge", "decay": 2.0, "fresh": 1},
    {"staleness": "polynomial", "decay": 0.9},
]


@dataclass(frozen=True)
class Answer:
    change: Array
    samples: int
    number: int
    """Of the round whose model it began with."""


def model_of(number: int) -> Array:
    return np.random.default_rng(number).uniform(-1, 1, SIZE).astype(np.float32)


def some_answers(*numbers: int) -> list[Answer]:
    chance = np.random.default_rng(5)
    return [
        Answer(chance.uniform(-1, 1, SIZE).astype(np.float32), int(chance.integers(1, 100)), number)
        for number in numbers
    ]


def played(name: str, answers: Sequence[Answer], given: dict[str, Any]) -> Array:
    strategy = strategy_named(name)
    chosen = settings.convert(given, strategy.Settings, "settings")
    round_ = Round(
        size=SIZE,
        bits=bits_for(strategy, chosen),
        number=RoundId(NOW),
        base_of=lambda number: earlier(number),
    )
    built = strategy.build(chosen, round_)
    for n, answer in enumerate(answers):
        named = Named(ClientId(f"client-{n}"), RoundId(answer.number))
        built.fold(answer.change, answer.samples, named)
    model: Array = built.finish(model_of(NOW))
    return model


def earlier(number: RoundId) -> Array:
    assert number < NOW, "the newest is at hand"
    return model_of(number)


def share(staleness: int, given: dict[str, Any]) -> float:
    decay = given.get("decay", 0.5)
    match given.get("staleness", "polynomial"):
        case "constant":
            return 1.0
        case "hinge":
            fresh = given["fresh"]
            return 1.0 if staleness <= fresh else 1 / (decay * (staleness - fresh) + 1)
        case _:
            return float((1 + staleness) ** -decay)


def naive_fedbuff(answers: Sequence[Answer], given: dict[str, Any]) -> NDArray[np.float64]:
    model = model_of(NOW).astype(np.float64)
    total = sum(one.samples for one in answers)
    for one in answers:
        weight = one.samples / total * share(NOW - one.number, given)
        model += given.get("rate", 1.0) * weight * one.change
    return model


def naive_fedasync(answers: Sequence[Answer], given: dict[str, Any]) -> NDArray[np.float64]:
    before = model_of(NOW).astype(np.float64)
    total = sum(one.samples for one in answers)
    after = np.zeros(SIZE)
    for one in answers:
        mixing = given.get("alpha", 0.6) * share(NOW - one.number, given)
        clients = model_of(one.number) + one.change.astype(np.float64)
        after += one.samples / total * ((1 - mixing) * before + mixing * clients)
    return after


@pytest.mark.parametrize("given", CURVES, ids=str)
@pytest.mark.parametrize("rounds", [(9,), (4,), (9, 9, 8, 8, 5, 1), (2, 2, 2)])
def test_fedbuff_is_what_the_paper_says(rounds: tuple[int, ...], given: dict[str, Any]) -> None:
    given = given | {"rate": 0.7}
    answers = some_answers(*rounds)
    wanted = naive_fedbuff(answers, given)
    np.testing.assert_allclose(played("fedbuff", answers, given), wanted, atol=2e-6)


@pytest.mark.parametrize("given", CURVES, ids=str)
@pytest.mark.parametrize("rounds", [(9,), (4,), (9, 9, 8, 8, 5, 1), (2, 2, 2)])
def test_fedasync_is_what_the_paper_says(rounds: tuple[int, ...], given: dict[str, Any]) -> None:
    given = given | {"alpha": 0.9}
    answers = some_answers(*rounds)
    wanted = naive_fedasync(answers, given)
    np.testing.assert_allclose(played("fedasync", answers, given), wanted, atol=2e-6)


@pytest.mark.parametrize("name", ["fedbuff", "fedasync"])
def test_the_order_of_stale_answers_does_not_matter_for_a_single_bit(name: str) -> None:
    answers = some_answers(9, 3, 8, 5)
    orders = itertools.permutations(answers)
    assert len({played(name, order, {}).tobytes() for order in orders}) == 1


def test_fedbuff_of_stale_changes_moves_less() -> None:
    # By hand: four rounds ago halves it (1 / sqrt(4)), and nothing makes up for that.
    change = np.full(SIZE, 0.5, np.float32)
    base = model_of(NOW)
    stale = played("fedbuff", [Answer(change, 3, NOW - 3)] * 2, {})
    np.testing.assert_allclose(stale - base, 0.25, atol=1e-6)


def test_fedasync_of_a_client_that_changed_nothing_goes_back_to_where_it_began() -> None:
    nothing = np.zeros(SIZE, np.float32)
    given = {"alpha": 0.5, "staleness": "constant"}
    after = played("fedasync", [Answer(nothing, 7, 2)], given)
    np.testing.assert_allclose(after, (model_of(NOW) + model_of(2)) / 2, atol=1e-6)
