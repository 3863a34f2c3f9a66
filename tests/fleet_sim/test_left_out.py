"""A late answer that is no good when it is to be folded is left out, as by the real coordinator."""

from collections.abc import Callable

import numpy as np
import pytest

from coordinator.config import FederationConfig
from coordinator.pacing import Pace
from coordinator.rounds import Close, Named
from coordinator.sums.answers import Answers
from fedmqtt.fixed_point import on_grid, remembered_bits
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Layout
from fleet_sim.lab_tensors import Tensors
from fleet_sim.storm_numbers import SIZE, Differences, federation
from tests.updates import update

ANN, BOB = ClientId("ann"), ClientId("bob")
TERMS = 10
CHANGE_MAX = FederationConfig(name="x", task="t").limits.change_max


def gave(client: ClientId, number: int, share: float, since: int) -> Update:
    """By so much of the largest change."""
    values = np.full(SIZE, share * CHANGE_MAX, np.float32)
    return update(number, values, since=RoundId(since))


def closed(number: int, *held: Named) -> Close:
    return Close(
        round=RoundId(number),
        outcome="averaged",
        reason="",
        invited=frozenset(),
        answered=frozenset(),
        evaluated=frozenset(),
        declined={},
        rejected={},
        surplus=frozenset(),
        duration_s=1.0,
        held=held,
        pace=Pace(over_selection=1.0, deadline_s=1.0),
    )


def lab() -> Tensors:
    config = FederationConfig(name="x", task="t", aggregation="mifa")
    return Tensors(config, Layout((("w", (SIZE,)),)), np.zeros(SIZE, np.float32), TERMS)


def storm() -> Differences:
    return Differences(federation("mifa"))


def total(answers: Answers) -> float:
    (one,) = set(answers.memory["sum"].tolist())
    return float(one)


@pytest.mark.parametrize("make", [lab, storm], ids=["lab", "storm"])
def test_what_was_folded_since_may_have_made_it_too_much(
    make: Callable[[], Tensors | Differences],
) -> None:
    plane = make()
    plane.begin(RoundId(1), TERMS)
    first = gave(ANN, 1, 0.5, 0)
    assert plane.check(ANN, first) == ""
    plane.accept(ANN, first, evaluates=False)
    base = plane.next_model(plane.initial, closed(1))
    late, other = gave(ANN, 2, 0.9, 1), gave(BOB, 2, 0.25, 0)
    for client, answer in ((ANN, late), (BOB, other)):
        assert plane.check(client, answer) == ""
        plane.hold(Named(client, RoundId(2)), answer)
    plane.begin(RoundId(3), TERMS)
    newer = gave(ANN, 3, 0.9, 2)
    assert plane.check(ANN, newer) == ""
    plane.accept(ANN, newer, evaluates=False)
    held = (Named(ANN, RoundId(2)), Named(BOB, RoundId(2)))
    plane.next_model(base, closed(3, *held))
    if isinstance(plane, Tensors):
        assert plane.left_out == {held[0]}
        assert plane.kept_because == ""
    bits = remembered_bits(CHANGE_MAX)
    shares = np.array([0.5, 0.9, 0.25], np.float32) * np.float32(CHANGE_MAX)
    assert total(plane.answers) == on_grid(shares, bits).sum()
    assert plane.counted_last(ANN) == 3
    # The next round begins with nothing left out.
    plane.begin(RoundId(4), TERMS)
    assert not getattr(plane, "left_out", None)
