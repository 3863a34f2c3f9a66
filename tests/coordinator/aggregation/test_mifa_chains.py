"""What MIFA has of each client is what it gave, however its answers were delayed, folded and lost.

Beside it, naively: the answers of each client in the order in which it made them; of those that
were folded, a whole one stands for all before it, and a difference is added.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import Memory
from coordinator.config import FederationConfig
from coordinator.rounds import Named
from coordinator.sums import counted
from coordinator.sums.answers import Answers
from coordinator.sums.client_parts import ClientParts
from coordinator.sums.client_store import ClientStore
from fedmqtt.fixed_point import on_grid, remembered_bits
from fedmqtt.messages import Update
from fedmqtt.topics import ClientId, RoundId
from tests.updates import update

ANN, BOB = ClientId("ann"), ClientId("bob")
SIZE, TERMS_MAX = 2, 50
CONFIG, WITHOUT_PARTS = (
    FederationConfig(
        name="x", task="t", aggregation="mifa", aggregation_settings={"expire_rounds": rounds}
    )
    for rounds in (1000, 0)
)
BITS = remembered_bits(CONFIG.limits.change_max)
NOWHERE_YET = np.zeros(SIZE, np.float32)


@dataclass(frozen=True, slots=True)
class Gave:
    named: Named
    update: Update
    values: Any

    @property
    def on_grid(self) -> Any:
        return on_grid(self.values, BITS)


def gave(client: ClientId, number: int, value: float, since: int, *, whole: bool = False) -> Gave:
    values = np.array([value, -value / 3], np.float32)
    told = update(number, values, since=RoundId(since), whole=whole)
    return Gave(Named(client, RoundId(number)), told, values)


@dataclass
class Run:
    """A coordinator's data plane, its disk, and what it must come to."""

    folder: Path
    config: FederationConfig = CONFIG
    answers: Answers = field(init=False)
    remembered: Memory = field(default_factory=dict)
    """As on the disk."""
    chain: dict[ClientId, list[Gave]] = field(default_factory=lambda: defaultdict(list))
    folded: set[Named] = field(default_factory=set)
    waiting: list[Gave] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers = self.begun()

    def begun(self) -> Answers:
        return Answers(self.config, SIZE, TERMS_MAX, self.folder, dict(self.remembered))

    def kill(self) -> None:
        """What was not on the disk is gone."""
        self.answers = self.begun()
        for one in self.waiting:
            self.answers.take(one.named)

    def begin(self, number: int) -> None:
        self.answers.begin(TERMS_MAX, RoundId(number))

    def accept(self, one: Gave) -> None:
        """It is held: `fold` decides when it is folded."""
        assert self.answers.check(one.named.client, one.update) == ""
        self.answers.take(one.named)
        self.waiting.append(one)
        self.chain[one.named.client].append(one)

    def fold(self, several: Iterable[Gave]) -> None:
        for one in several:
            assert self.answers.check(one.named.client, one.update) == ""
            self.answers.fold(one.named.client, one.update, evaluates=False)

    def finish(self) -> None:
        """All but the ledger's word for it."""
        self.answers.finish(NOWHERE_YET)
        self.answers.end()

    def commit(self, several: Iterable[Gave]) -> None:
        self.remembered = dict(self.answers.memory)
        for one in several:
            self.folded.add(one.named)
            self.waiting.remove(one)

    def round(self, number: int, *several: Gave) -> None:
        """In time, each at once."""
        self.begin(number)
        for one in several:
            self.accept(one)
        self.fold(several)
        self.finish()
        self.commit(several)

    def wanted(self) -> dict[ClientId, list[int]]:
        """Of each client, naively."""
        parts = {}
        for client, chain in self.chain.items():
            there = [one for one in chain if one.named in self.folded]
            part = np.zeros(SIZE, np.int64)
            for one in there:
                part = one.on_grid if one.update.whole else part + one.on_grid
            if there:
                parts[client] = part.tolist()
        return parts

    def parts(self) -> dict[ClientId, list[int]]:
        """Of each client, as it lies on the disk."""
        last = counted.read(self.remembered)
        store = ClientStore(self.folder / "clients", SIZE)
        parts = ClientParts(self.remembered, last, store, SIZE, RoundId(0))
        found = {client: parts.of(client) for client in last}
        return {client: part.tolist() for client, part in found.items() if part is not None}

    def holds(self) -> None:
        wanted = self.wanted()
        assert self.parts() == wanted
        total = np.sum([*wanted.values(), [0] * SIZE], axis=0)
        np.testing.assert_array_equal(self.remembered.get("sum", np.zeros(SIZE)), total)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_late_whole_change_does_not_take_out_what_came_after_it(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    run = Run(tmp_path)
    run.round(1, gave(ANN, 1, 1.0, 0), gave(BOB, 1, 10.0, 0))
    three = [
        gave(ANN, 5, 2.0, 1, whole=True),
        gave(ANN, 6, 0.5, 5),
        gave(ANN, 7, 0.25, 6),
    ]
    run.begin(7)
    for one in three:
        run.accept(one)
    run.fold(three[n] for n in order)
    run.finish()
    run.commit(three)
    assert run.wanted()[ANN][0] == 2.75 * 2**BITS
    run.holds()


def test_nor_what_was_added_up_in_the_rounds_before_it_was(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.round(1, gave(ANN, 1, 1.0, 0))
    whole = gave(ANN, 5, 2.0, 1, whole=True)
    run.accept(whole)
    run.round(6, gave(ANN, 6, 0.5, 5))
    run.holds()
    run.kill()
    run.round(7, gave(ANN, 7, 0.25, 6))
    run.holds()
    run.begin(8)
    run.fold([whole])
    run.finish()
    run.commit([whole])
    assert run.wanted()[ANN][0] == 2.75 * 2**BITS
    run.holds()
    # And what it is now is what the next one replaces.
    run.round(9, gave(ANN, 9, 3.0, 7, whole=True))
    assert run.wanted()[ANN][0] == 3 * 2**BITS
    run.holds()


@pytest.mark.parametrize("again", [True, False], ids=["folded again", "not folded"])
def test_killed_before_the_ledger_names_it_the_part_is_what_the_ledger_names(
    tmp_path: Path, again: bool
) -> None:
    run = Run(tmp_path)
    run.round(1, gave(ANN, 1, 1.0, 0), gave(BOB, 1, 10.0, 0))
    late = gave(ANN, 5, 2.0, 1)
    run.accept(late)
    run.round(6, gave(ANN, 6, 4.0, 5))
    # A late answer changes her part, and not which of her answers is the newest.
    run.begin(7)
    run.fold([late])
    run.finish()
    run.kill()
    run.holds()
    run.begin(7)
    if again:
        run.fold([late])
    other = gave(BOB, 7, 1.0, 1)
    run.accept(other)
    run.fold([other])
    run.finish()
    run.commit([other, late] if again else [other])
    run.holds()


def test_a_round_that_made_no_model_leaves_the_parts_as_they_were(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.round(1, gave(ANN, 1, 1.0, 0))
    late = gave(ANN, 5, 2.0, 1)
    run.accept(late)
    run.round(6, gave(ANN, 6, 4.0, 5))
    run.begin(7)
    run.fold([late])
    # No model was made of it, and it is used up.
    run.answers.end()
    run.waiting.remove(late)
    run.round(8, gave(BOB, 8, 1.0, 0))
    run.holds()


@pytest.mark.parametrize("ahead", [True, False], ids=["with one ahead of it", "alone"])
def test_who_begins_anew_is_known_from_then_on_where_all_since_is(
    tmp_path: Path, ahead: bool
) -> None:
    run = Run(tmp_path, WITHOUT_PARTS)
    run.round(1, gave(ANN, 1, 1.0, 0))
    run.config = CONFIG
    run.kill()
    whole = gave(ANN, 5, 2.0, 1, whole=True)
    run.accept(whole)
    if ahead:
        # Added to something that nobody knows.
        run.round(6, gave(ANN, 6, 0.5, 5))
    run.begin(7)
    run.fold([whole])
    run.finish()
    run.commit([whole])
    # What she gave while no parts were kept counts for ever.
    total = 3.5 if ahead else 3.0
    assert run.remembered["sum"][0] == total * 2**BITS
    assert run.parts() == ({} if ahead else {ANN: whole.on_grid.tolist()})
    # The next time it is known.
    run.round(8, gave(ANN, 8, 4.0, 6 if ahead else 5, whole=True))
    run.round(9, gave(ANN, 9, 0.25, 8))
    assert run.parts() == {ANN: run.wanted()[ANN]}
    left = 3.5 if ahead else 1.0
    assert run.remembered["sum"][0] == (left + 4.25) * 2**BITS


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_late_lost_and_killed_the_sum_is_that_of_what_clients_gave(
    tmp_path: Path, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    run = Run(tmp_path)
    clients = [ANN, BOB, ClientId("cat")]
    began_anew = ahead = 0
    for number in range(1, 40):
        run.begin(number)
        fresh = []
        for client in clients:
            if chance.random() < 0.3:
                continue
            last = run.answers.counted_last(client)
            assert last is not None
            whole = last > 0 and chance.random() < 0.3
            one = gave(client, number, float(chance.uniform(-9, 9)), last, whole=whole)
            if whole and run.answers.check(client, one.update):
                # The one before it is not added up yet.
                continue
            run.accept(one)
            began_anew += whole
            fresh.append(one)
        folded = [one for one in run.waiting if chance.random() < 0.5]
        ahead += any(
            one.named.client == other.named.client
            for one in folded
            for other in run.waiting
            if other.named.round < one.named.round and other not in folded
        )
        while True:
            run.fold(folded[n] for n in chance.permutation(len(folded)))
            run.finish()
            if chance.random() < 0.7:
                break
            run.kill()
            # This time others are in it too.
            folded += [one for one in run.waiting if one not in folded and chance.random() < 0.5]
            run.begin(number)
        run.commit(folded)
        run.holds()
    assert began_anew and ahead
