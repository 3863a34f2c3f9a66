"""The books of a run, checked from outside: was anything lost, was anything counted twice?

What the coordinator says of itself is held against what clients were told (their receipts), what
they still have (their outboxes), and what the models must be (`reference.py`). Three witnesses say
who was counted in a round: the history's list of names, its sum of samples, in which every client
has a digit of its own, and the bits of the next model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from coordinator.config import FederationConfig
from coordinator.persistence.history import Record
from fedmqtt import settings
from fedmqtt.topics import Digest
from fedmqtt.weights import Array
from tests.faults import small_task
from tests.faults.federation import read_history
from tests.faults.reference import Reference


@dataclass(frozen=True, slots=True)
class Books:
    """What was found. All three lists are empty for a run in which nothing went wrong."""

    records: list[Record]
    model: Array
    """Of `model.safetensors`, flat."""
    lost: list[str] = field(default_factory=list)
    """Answers that were received or finished and are in no round."""
    twice: list[str] = field(default_factory=list)
    """Answers that are in a model more than once."""
    wrong: list[str] = field(default_factory=list)
    """Whatever else does not add up."""

    @property
    def mistakes(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.twice, *self.wrong]

    @property
    def counted(self) -> list[tuple[int, tuple[str, ...]]]:
        """Round and whose answers went into a model, for each round that made one."""
        return [(one.round, tuple(one.answered)) for one in self.records if _made_a_model(one)]


@dataclass(frozen=True, order=True, slots=True)
class Debt:
    """An answer in a client's outbox."""

    run: str
    round: int


def audit(run: Path, receipts: Mapping[str, Sequence[int]], owed: Mapping[str, set[Debt]]) -> Books:
    """The books of the run in this folder.

    `receipts` has the rounds for which each client was told that its answer counts, as it was told;
    `owed` has the answers of which it was told nothing, though there was time to.
    """
    config = settings.read(run / "federation.toml", [], FederationConfig)
    reference = Reference(config)
    books = Books(read_history(run), _flat(run / "model.safetensors", reference))
    _check_numbers(books)
    _check_samples(books)
    _check_models(books, reference)
    heard: dict[int, set[str]] = {
        record.round: {*record.answered, *record.evaluated} for record in books.records
    }
    _check_receipts(books, heard, receipts)
    _check_debts(books, heard, {who: _of_run(run, owed[who]) for who in owed})
    return books


def _made_a_model(record: Record) -> bool:
    return record.outcome == "averaged"


def _flat(path: Path, reference: Reference) -> Array:
    return reference.layout.flatten(load_file(path))


def _check_numbers(books: Books) -> None:
    numbers = [record.round for record in books.records]
    if numbers != list(range(1, len(numbers) + 1)):
        books.wrong.append(f"the history's rounds are {numbers}")


def _check_samples(books: Books) -> None:
    for record in books.records:
        for client, times in _counted_by_samples(record.samples).items():
            where = f"{client} in round {record.round}, by its samples"
            if times > 1:
                books.twice.append(where)
            elif times < (client in record.answered):
                books.lost.append(where)
            elif times > (client in record.answered):
                books.wrong.append(f"counted, not among those who answered: {where}")


def _counted_by_samples(samples: int) -> dict[str, int]:
    """How often each client is in this sum."""
    base = small_task.BASE
    return {
        client: samples // small_task.samples_of(client) % base for client in small_task.NAMES
    } | ({"too many": samples} if samples >= base ** len(small_task.NAMES) else {})


def _check_models(books: Books, reference: Reference) -> None:
    model = reference.initial
    bases = [Digest(record.base) for record in books.records]
    if not bases or bases[0] != reference.digest(model):
        books.wrong.append("round 1 did not start from the initial model")
        return
    # What a round made is what the next one started from, or, after the last, the run's model.
    for record, made in zip(
        books.records, [*bases[1:], reference.digest(books.model)], strict=True
    ):
        following = _explained(books, reference, record, model, made)
        if following is None:
            names = ", ".join(record.answered) or "nobody"
            books.wrong.append(f"round {record.round} made no model of {names}'s answers")
            return
        model = following
    if not np.array_equal(model, books.model):
        books.wrong.append("the run's model is not the one that its last round made")


def _explained(
    books: Books, reference: Reference, record: Record, base: Array, made: Digest
) -> Array | None:
    """The model with this digest, if the round can have made it; notes what that takes."""
    if not _made_a_model(record):
        return base if reference.digest(base) == made else None
    answered: list[str] = list(record.answered)
    for these, where, client in _possibilities(answered, books):
        found = reference.next(base, record.round, these, len(record.invited))
        if reference.digest(found) == made:
            if where is not None:
                where.append(f"{client} in round {record.round}, by the model's bits")
            return found
    return None


def _possibilities(
    answered: Sequence[str], books: Books
) -> list[tuple[list[str], list[str] | None, str]]:
    """As it should be; then with one client twice, or not at all. And where to note that."""
    names = list(answered)
    as_told: list[tuple[list[str], list[str] | None, str]] = [(names, None, "")]
    doubled = [([*names, one], books.twice, one) for one in names]
    missing = [([other for other in names if other != one], books.lost, one) for one in names]
    return as_told + doubled + [each for each in missing if each[0]]


def _check_receipts(
    books: Books, heard: Mapping[int, set[str]], receipts: Mapping[str, Sequence[int]]
) -> None:
    for client, told in receipts.items():
        for number in sorted(set(told)):
            if client not in heard.get(number, set()):
                books.lost.append(f"{client} in round {number}, in spite of its receipt")
            if told.count(number) > 1:
                # It answered a round of this number twice, so one of them is in no model.
                books.lost.append(f"{client} in round {number}, which it had to answer again")


def _check_debts(
    books: Books, heard: Mapping[int, set[str]], owed: Mapping[str, Mapping[Debt, bool]]
) -> None:
    for client, debts in owed.items():
        for debt, is_of_this_run in sorted(debts.items()):
            if not is_of_this_run:
                books.lost.append(f"{client} in round {debt.round} of {debt.run}, owed for ever")
            elif client not in heard.get(debt.round, set()):
                books.lost.append(f"{client} in round {debt.round}, owed for ever")


def _of_run(run: Path, debts: set[Debt]) -> dict[Debt, bool]:
    # A run is named by its folder and something random.
    return {debt: debt.run.rpartition(".")[0] == run.name for debt in debts}
