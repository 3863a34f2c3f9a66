"""Figures of a classifier from its confusion matrix of counts: row = true, column = predicted."""

from collections.abc import Sequence

Confusion = Sequence[Sequence[int]]


def add(first: Confusion, second: Confusion) -> tuple[tuple[int, ...], ...]:
    """The element-wise sum. Raises ValueError when the shapes differ or are not square."""
    if not is_square(first) or not is_square(second) or len(first) != len(second):
        raise ValueError("confusion matrices of different classes")
    return tuple(
        tuple(a + b for a, b in zip(*rows, strict=True)) for rows in zip(first, second, strict=True)
    )


def is_square(confusion: Confusion) -> bool:
    return all(len(row) == len(confusion) for row in confusion)


def accuracy(confusion: Confusion) -> float:
    """The share of samples on the diagonal; 0 for no samples."""
    total = sum(map(sum, confusion))
    return sum(row[i] for i, row in enumerate(confusion)) / total if total else 0.0


def macro_f1(confusion: Confusion) -> float:
    """The mean over the classes that occur, true or predicted, of 2TP / (2TP + FP + FN)."""
    scores = []
    for i, row in enumerate(confusion):
        true, predicted = sum(row), sum(other[i] for other in confusion)
        if true + predicted:
            scores.append(2 * row[i] / (true + predicted))
    return sum(scores) / len(scores) if scores else 0.0
