"""Noise of a tree: what it adds up to, and what one device can change of it."""

import json
import math
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmqtt.privacy import chance, gaussian, noise, tree
from fedmqtt.privacy.tree import Node

TREES = json.loads(Path(__file__).with_name("oracles.json").read_text())["trees"]


def _noise(node: Node) -> NDArray[np.int64]:
    bits = chance.keyed(b"known to anybody, as it is a test", repr(node).encode())
    return noise.discrete_gaussian(100, 3, bits)


def _rounds(node: Node) -> range:
    width = 1 << node.level
    return range(node.place * width + 1, (node.place + 1) * width + 1)


@pytest.mark.parametrize("rounds", range(1, 70))
def test_the_nodes_cover_each_round_once(rounds: int) -> None:
    covered = [number for node in tree.covering(rounds) for number in _rounds(node)]
    assert covered == list(range(1, rounds + 1))
    assert len(tree.covering(rounds)) == rounds.bit_count()


def test_all_rounds_up_to_one_have_the_noise_of_their_nodes_alone() -> None:
    total = np.zeros(3, np.int64)
    for number in range(1, 40):
        total += tree.increment(number, 3, _noise)
        nodes = np.sum([_noise(node) for node in tree.covering(number)], axis=0)
        assert np.array_equal(total, nodes)


def test_a_round_has_the_same_noise_whoever_asks_and_whenever() -> None:
    """As after a restart in the middle: nothing is carried from round to round."""
    assert np.array_equal(tree.increment(24, 3, _noise), tree.increment(24, 3, _noise))


def _by_trying(rounds: int, participations: int, apart: int) -> int:
    nodes = [
        range(place << level, (place + 1) << level)
        for level in range(rounds.bit_length())
        for place in range(rounds >> level)
    ]
    chosen = (
        one
        for one in combinations(range(rounds), participations)
        if all(later - before >= apart for before, later in pairwise(one))
    )
    return max(
        (sum(sum(t in node for t in one) ** 2 for node in nodes) for one in chosen), default=0
    )


@pytest.mark.parametrize("rounds", range(1, 11))
def test_the_sensitivity_is_the_worst_there_is(rounds: int) -> None:
    for participations in range(1, rounds + 1):
        found = tree.sensitivity(rounds, participations)
        assert found == _by_trying(rounds, participations, apart=1)


@pytest.mark.parametrize("apart", [2, 3, 4])
def test_rounds_apart_from_each_other_cost_less_and_never_more_than_is_said(apart: int) -> None:
    for rounds in range(1, 13):
        for participations in range(1, 5):
            found = tree.sensitivity(rounds, participations, apart)
            assert _by_trying(rounds, participations, apart) <= found
            assert found <= tree.sensitivity(rounds, participations)
    assert tree.sensitivity(64, 4, 16) < tree.sensitivity(64, 4)


def test_one_participation_is_in_each_level_once() -> None:
    assert [tree.sensitivity(rounds, 1) for rounds in (1, 2, 7, 8, 100, 1000)] == [
        1,
        2,
        3,
        4,
        7,
        10,
    ]


@pytest.mark.parametrize("oracle", TREES)
def test_it_agrees_with_another_program(oracle: dict[str, float]) -> None:
    sensitivity = tree.sensitivity(int(oracle["rounds"]), 1)
    exact = gaussian.epsilon(oracle["sigma"], sensitivity, oracle["delta"])
    # Renyi accounting of the same sensitivity is a little above.
    assert exact <= oracle["dp_accounting_rdp"] <= 1.15 * exact


def test_in_long_runs_it_takes_less_noise_than_rounds_of_their_own() -> None:
    """Of the sum of 1000 rounds, with each device in one, at the same epsilon."""
    rounds = 1000
    independent = math.sqrt(rounds)
    of_tree = math.sqrt(rounds.bit_count() * tree.sensitivity(rounds, 1))
    assert of_tree < independent / 3
