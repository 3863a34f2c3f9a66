"""Strategies for clients that are seldom there, against values worked out by hand or naively."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import Memory, Round
from coordinator.rounds import Named
from fedmqtt import settings
from fedmqtt.fixed_point import on_grid, remembered_bits
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.aggregation.folding import (
    TERMS_MAX,
    bits_for,
    play,
    store_for,
    strategy_named,
)
from tests.updates import update

ANN, BOB, CAT = ClientId("ann"), ClientId("bob"), ClientId("cat")
SIZE = 4
REMEMBERED = remembered_bits(10.0)


def of(client: ClientId, number: int, *change: float) -> tuple[Any, int, Named]:
    return np.array(change, np.float32), 1, Named(client, RoundId(number))


class Running:
    """One strategy's rounds, with what it remembers in between."""

    def __init__(self, name: str, size: int = 1, **given: Any) -> None:
        self.strategy = strategy_named(name)
        self.given = given
        self.memory: Memory = {}
        chosen = settings.convert(given, self.strategy.Settings, "settings")
        self.store = store_for(self.strategy, chosen, size)
        self.model = np.zeros(size, np.float32)
        self.number = 0
        self.awaited: set[ClientId] = set()

    def round(self, *answers: tuple[Any, int, Named]) -> list[float]:
        """How far the model moved."""
        self.number += 1
        before = self.model
        self.model = play(
            self.strategy,
            before,
            answers,
            self.memory,
            store=self.store,
            number=self.number,
            is_awaited=lambda client: client in self.awaited,
            **self.given,
        )
        moved: list[float] = (self.model - before).tolist()
        return moved

    def opened(self) -> Any:
        chosen = settings.convert(self.given, self.strategy.Settings, "settings")
        round_ = Round(
            size=self.model.size,
            bits=bits_for(self.strategy, chosen),
            remembered_bits=REMEMBERED,
            terms_max=TERMS_MAX,
            memory=self.memory,
            store=self.store,
            number=RoundId(self.number + 1),
        )
        return self.strategy.build(chosen, round_)


# MIFA: what is folded are differences


def test_mifa_moves_by_the_mean_of_what_all_clients_gave_last() -> None:
    running = Running("mifa")
    assert running.round(of(ANN, 1, 4.0)) == [4.0]
    # Ann is away, and counts all the same: (4 + 2) / 2.
    assert running.round(of(BOB, 2, 2.0)) == [3.0]
    # Ann would give 1 now, which is 3 less: (1 + 2) / 2.
    assert running.round(of(ANN, 3, -3.0)) == [1.5]
    assert Running("mifa", rate=0.5).round(of(ANN, 1, 4.0)) == [2.0]


def test_mifa_by_differences_is_mifa() -> None:
    """The paper's server keeps every client's newest change; clients here answer by chance."""
    chance = np.random.default_rng(5)
    running = Running("mifa", SIZE)
    newest: dict[ClientId, Any] = {}
    remembered: dict[ClientId, Any] = defaultdict(lambda: np.zeros(SIZE, np.int64))
    clients = [ClientId(f"c{n}") for n in range(12)]
    for number in range(1, 300):
        folded = []
        for client in chance.choice(clients, 4, replace=False):
            newest[client] = chance.normal(0, 1, SIZE).astype(np.float32)
            so_far = np.ldexp(remembered[client].astype(np.float64), -REMEMBERED)
            difference = (newest[client] - so_far).astype(np.float32)
            remembered[client] += on_grid(difference, REMEMBERED)
            folded.append((difference, 1, Named(client, RoundId(number))))
        moved = running.round(*folded)
        np.testing.assert_allclose(moved, np.mean(list(newest.values()), axis=0), atol=1e-5)
    # Nothing has drifted apart, after any number of rounds.
    np.testing.assert_array_equal(running.memory["sum"], sum(remembered.values()))


def test_mifa_takes_out_who_has_not_answered_for_long() -> None:
    running = Running("mifa", expire_rounds=3)
    running.round(of(ANN, 1, 4.0))
    assert [running.round(of(BOB, n, 2.0 if n == 2 else 0.0)) for n in (2, 3, 4)] == [[3.0]] * 3
    running.awaited = {ANN}
    # An answer of hers is accepted, and is a difference to what is remembered.
    assert running.round(of(BOB, 5, 0.0)) == [3.0]
    running.awaited = set()
    assert running.round(of(BOB, 6, 0.0)) == [2.0]
    # She begins anew, and is told so when she goes by what was counted before.
    assert running.round(of(ANN, 7, 6.0)) == [4.0]


def test_mifa_keeps_who_has_just_answered_a_round_of_long_ago() -> None:
    running = Running("mifa", expire_rounds=1)
    running.round()
    running.round()
    running.round()
    # Nobody else is there: without her there would be no mean.
    assert running.round(of(ANN, 1, 4.0)) == [4.0]


def test_mifa_without_expiry_keeps_everybody_and_nothing_on_the_disk() -> None:
    running = Running("mifa", expire_rounds=0)
    running.round(of(ANN, 1, 4.0))
    for number in range(2, 300):
        moved = running.round(of(BOB, number, 2.0 if number == 2 else 0.0))
    assert moved == [3.0] and running.store is None


def test_mifa_replaces_the_part_of_who_has_lost_its_memory() -> None:
    running = Running("mifa")
    running.round(of(ANN, 1, 4.0), of(BOB, 1, 2.0))
    built = running.opened()
    change, samples, named = of(ANN, 2, 1.0)
    built.hear(named, update(2, since=RoundId(1), whole=True))
    built.fold(change, samples, named)
    assert built.finish(np.zeros(1, np.float32)).tolist() == [1.5]


def test_mifa_lets_nobody_pile_up_more_than_a_client_may_remember() -> None:
    running = Running("mifa")
    running.round(of(ANN, 1, 10.0))
    built = running.opened()
    limit = 2.0 ** (31 - REMEMBERED)
    within, beyond = (np.array([limit - less], np.float32) for less in (10.5, 10.0))
    assert built.judge(ANN, update(2), within) == ""
    assert "more than twice limits.change_max" in built.judge(ANN, update(2), beyond)
    assert built.judge(ANN, update(2, since=RoundId(1), whole=True), beyond) == ""
    assert built.judge(BOB, update(2), beyond) == ""


# FedVARP


def test_fedvarp_stands_in_for_who_is_not_there() -> None:
    running = Running("fedvarp")
    assert running.round(of(ANN, 1, 4.0), of(BOB, 1, 2.0)) == [3.0]
    # (4 + 2) / 2, and Ann's change has grown by 1.
    assert running.round(of(ANN, 2, 5.0)) == [4.0]
    # Now 3.5 on average; Cat, who is new, is taken for that, and gave 1.5 more.
    assert running.round(of(CAT, 3, 5.0)) == [5.0]
    # (5 + 2 + 5) / 3.
    assert running.round(of(ANN, 4, 5.0)) == [4.0]


def test_fedvarp_is_algorithm_1() -> None:
    """Where all have answered once: y as an array in memory, and sums of floats."""
    chance = np.random.default_rng(6)
    clients = [ClientId(f"c{n}") for n in range(8)]
    running = Running("fedvarp", SIZE)
    y = chance.normal(0, 1, (8, SIZE)).astype(np.float32)
    running.round(*[of(client, 1, *row) for client, row in zip(clients, y, strict=True)])
    for number in range(2, 100):
        there = chance.choice(8, 3, replace=False)
        changes = chance.normal(0, 1, (3, SIZE)).astype(np.float32)
        wanted = y.mean(axis=0) + (changes - y[there]).mean(axis=0)
        answers = [of(clients[n], number, *row) for n, row in zip(there, changes, strict=True)]
        np.testing.assert_allclose(running.round(*answers), wanted, atol=1e-5)
        y[there] = changes
    np.testing.assert_allclose(
        np.ldexp(running.memory["sum"].astype(float), -REMEMBERED), y.sum(axis=0), atol=1e-5
    )


def test_fedvarp_forgets_who_was_heard_of_least_recently() -> None:
    running = Running("fedvarp", clients_max=2)
    running.round(of(ANN, 1, 4.0))
    running.round(of(BOB, 2, 2.0))
    running.round(of(CAT, 3, 6.0))
    # Of Bob and Cat: (2 + 6) / 2.
    assert running.round(of(BOB, 4, 2.0)) == [4.0]
    assert running.store is not None and ANN not in running.store


def test_fedvarp_takes_the_newer_of_two_answers_in_whatever_order() -> None:
    late, newer = of(ANN, 1, 8.0), of(ANN, 2, 4.0)
    sums = []
    for answers in ((late, newer), (newer, late)):
        running = Running("fedvarp")
        assert running.round(*answers) == [6.0]
        sums.append(running.memory["sum"].tolist())
    assert sums == [[int(4 * 2**REMEMBERED)]] * 2


# FedAU


def test_fedau_weighs_by_what_clients_say_of_themselves() -> None:
    built = Running("fedau").opened()
    for client, change, interval in ((ANN, 1.0, 1.0), (BOB, 5.0, 3.0)):
        folded, samples, named = of(client, 1, change)
        built.hear(named, update(1, interval=interval))
        built.fold(folded, samples, named)
    assert built.finish(np.zeros(1, np.float32)).tolist() == [4.0]


def test_fedau_asks_for_the_cutoff_that_is_set() -> None:
    strategy = strategy_named("fedau")
    assert strategy.method(strategy.Settings(interval_max=7)).interval_max == 7


# Inverse participation


def test_inverse_participation_weighs_by_rounds_per_answer() -> None:
    running = Running("inverse_participation")
    assert running.round(of(ANN, 1, 1.0), of(BOB, 1, 3.0)) == [2.0]
    for number in (2, 3):
        running.round(of(ANN, number, 1.0))
    # Ann has answered 4 times in 4 rounds, and Bob twice: (1 + 2 * 4) / 3.
    assert running.round(of(ANN, 4, 1.0), of(BOB, 4, 4.0)) == [3.0]
    # Cat is new: nothing is known of her. Ann 5 of 5, Bob 3 of 5.
    moved = running.round(of(ANN, 5, 0.0), of(BOB, 5, 0.0), of(CAT, 5, 1.0))
    assert moved == [pytest.approx(1 / (1 + 5 / 3 + 1), rel=1e-3)]


def test_inverse_participation_is_bounded_and_counts_samples() -> None:
    running = Running("inverse_participation", ratio_max=2.0)
    running.round(of(ANN, 1, 1.0), of(BOB, 1, 1.0))
    for number in range(2, 20):
        running.round(of(ANN, number, 1.0))
    bob, _, named = of(BOB, 20, 4.0)
    assert running.round(of(ANN, 20, 0.0), (bob, 3, named)) == [pytest.approx(24 / 7)]
