"""The books find every mistake that a coordinator could make: runs that are wrong on purpose.

No processes here: the runs are written by hand, with the models that the answers named really make.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from coordinator.config import FederationConfig, Limits
from coordinator.models import checkpoint
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import settings
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array
from tests.faults import small_task
from tests.faults.accounts import Books, Debt, audit
from tests.faults.reference import Reference

INVITED = ("ann", "bob", "cat")
CONFIG = FederationConfig(
    name="books",
    task=str(small_task.__file__),
    seed=5,
    limits=Limits(change_max=small_task.CHANGE_MAX),
)


@dataclass
class Run:
    """Three rounds; what is said of them, what is in the models, what clients know."""

    said: list[Sequence[str]] = field(default_factory=lambda: [INVITED, INVITED, ("ann", "cat")])
    summed: list[Sequence[str]] | None = None
    """Whose answers are in the models, if not those that are said to be."""
    samples: list[Sequence[str]] | None = None
    numbers: Sequence[int] = (1, 2, 3, 4)
    noise: float = 0.0
    """In a number of the last model."""
    receipts: dict[str, list[int]] = field(
        default_factory=lambda: {"ann": [1, 2, 3, 4], "bob": [1, 2], "cat": [1, 2, 3]}
    )
    owed: dict[str, set[Debt]] = field(default_factory=dict)

    def books(self, folder: Path) -> Books:
        reference = Reference(CONFIG)
        (folder / "federation.toml").write_text(settings.render(CONFIG))
        model = reference.initial
        for at, answered in enumerate(self.said):
            self._close(folder, reference, at, "averaged", model)
            summed = (self.summed or self.said)[at]
            model = reference.next(model, at + 1, summed or answered, len(INVITED))
        self._close(folder, reference, len(self.said), "evaluated", model)
        model[-1] += self.noise
        checkpoint.save(folder / "model.safetensors", reference.layout, model, {})
        return audit(folder, self.receipts, self.owed)

    def _close(
        self, folder: Path, reference: Reference, at: int, outcome: str, model: Array
    ) -> None:
        is_last = at == len(self.said)
        said: Sequence[str] = () if is_last else self.said[at]
        counted: Sequence[str] = () if is_last else (self.samples or self.said)[at]
        record = Record(
            round=RoundId(self.numbers[at]),
            closed="",
            outcome=outcome,
            reason="",
            base=reference.digest(model),
            invited=[] if is_last else [ClientId(who) for who in INVITED],
            answered=[ClientId(who) for who in said],
            dropped=[],
            declined={},
            rejected={},
            evaluated=[ClientId("ann")] if is_last else [],
            late_updates=0,
            duration_s=1.0,
            samples=sum(map(small_task.samples_of, counted)),
            train_metrics={},
            figures=None,
            bytes_received=0,
            bytes_published=0,
        )
        history.append(folder / "history.jsonl", record)


def test_a_run_in_which_nothing_went_wrong_has_clean_books(tmp_path: Path) -> None:
    books = Run().books(tmp_path)
    assert (books.lost, books.twice, books.wrong) == ([], [], [])
    assert books.counted == [(1, INVITED), (2, INVITED), (3, ("ann", "cat"))]


def test_an_answer_that_is_twice_in_a_model_is_found_by_the_models_bits(tmp_path: Path) -> None:
    books = Run(summed=[INVITED, (*INVITED, "bob"), ("ann", "cat")]).books(tmp_path)
    assert books.twice == ["bob in round 2, by the model's bits"]
    assert (books.lost, books.wrong) == ([], [])


def test_an_answer_that_is_twice_in_the_last_model_is_found_too(tmp_path: Path) -> None:
    books = Run(summed=[INVITED, INVITED, ("ann", "cat", "cat")]).books(tmp_path)
    assert books.twice == ["cat in round 3, by the model's bits"]


def test_an_answer_that_is_twice_in_the_samples_is_found(tmp_path: Path) -> None:
    books = Run(samples=[(*INVITED, "ann", "ann"), INVITED, ("ann", "cat")]).books(tmp_path)
    assert books.twice == ["ann in round 1, by its samples"]


def test_an_answer_that_is_named_and_in_no_model_is_found(tmp_path: Path) -> None:
    books = Run(summed=[("ann", "cat"), INVITED, ("ann", "cat")]).books(tmp_path)
    assert books.lost == ["bob in round 1, by the model's bits"]
    books = Run(samples=[INVITED, ("ann", "bob"), ("ann", "cat")]).books(_another(tmp_path))
    assert books.lost == ["cat in round 2, by its samples"]


def test_an_answer_that_is_in_a_model_and_not_named_is_found(tmp_path: Path) -> None:
    books = Run(summed=[INVITED, INVITED, INVITED]).books(tmp_path)
    assert books.wrong == ["round 3 made no model of ann, cat's answers"]
    books = Run(samples=[INVITED, INVITED, INVITED]).books(_another(tmp_path))
    assert books.wrong == ["counted, not among those who answered: bob in round 3, by its samples"]


def test_a_receipt_for_an_answer_that_did_not_count_is_found(tmp_path: Path) -> None:
    receipts = {"ann": [1, 2, 3, 4], "bob": [1, 2, 3], "cat": [1, 5]}
    assert Run(receipts=receipts).books(tmp_path).lost == [
        "bob in round 3, in spite of its receipt",
        "cat in round 5, in spite of its receipt",
    ]


def test_an_answer_that_was_received_twice_is_found(tmp_path: Path) -> None:
    # As when a coordinator comes back, has forgotten everything and begins with round 1.
    receipts = {"ann": [1, 1, 2, 3, 4], "bob": [1, 2], "cat": [1, 2, 3]}
    books = Run(receipts=receipts).books(tmp_path)
    assert books.lost == ["ann in round 1, which it had to answer again"]


def test_a_debt_is_a_loss_unless_the_answer_counted_without_its_receipt(tmp_path: Path) -> None:
    debt = Debt(f"{tmp_path.name}.0a1b2c3d", 3)
    books = Run(owed={"ann": {debt}, "bob": {debt}}).books(tmp_path)
    assert books.lost == ["bob in round 3, owed for ever"]


def test_a_debt_of_another_run_is_a_loss(tmp_path: Path) -> None:
    books = Run(owed={"ann": {Debt("another.0a1b2c3d", 3)}}).books(tmp_path)
    assert books.lost == ["ann in round 3 of another.0a1b2c3d, owed for ever"]


@pytest.mark.parametrize("numbers", [(1, 2, 2, 3), (1, 2, 4, 5), (2, 1, 3, 4)])
def test_rounds_that_come_twice_or_never_are_found(tmp_path: Path, numbers: list[int]) -> None:
    assert f"the history's rounds are {list(numbers)}" in Run(numbers=numbers).books(tmp_path).wrong


def test_a_model_that_is_a_little_off_is_found(tmp_path: Path) -> None:
    books = Run(noise=float(np.spacing(np.float32(1)))).books(tmp_path)
    assert books.wrong == ["round 4 made no model of nobody's answers"]


def _another(folder: Path) -> Path:
    other = folder / "another"
    other.mkdir()
    return other
