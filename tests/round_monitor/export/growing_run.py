"""A run that closes one round after another, as its pages tell it."""

from collections.abc import Iterable

from msgspec import structs

from fedmqtt.status_pages import HistoryPage, Page, RoundLine
from fedmqtt.topics import RoundId
from round_monitor import closed_rounds
from tests.round_monitor import pages

Points = dict[str, list[tuple[int, float]]]
"""By name: step and value, in order of steps."""


def lines(first: int, last: int) -> list[RoundLine]:
    """Rounds `first` to `last`, each with an accuracy and a loss of its own."""
    return [
        structs.replace(
            pages.line(number, accuracy=number / 128), train_metrics={"loss": 1 / number}
        )
        for number in range(first, last + 1)
    ]


def told(run: str, last: int) -> dict[str, Page]:
    """Pages of a run whose rounds 1 to `last` are closed."""
    return {
        "coordinator": structs.replace(pages.coordinator(), round=RoundId(last + 1), run=run),
        "round": structs.replace(pages.open_round(last + 1), run=run),
        "history": HistoryPage(rounds=lines(1, last)),
    }


def points(rounds: Iterable[RoundLine]) -> Points:
    """What a tool should have of these rounds."""
    found: Points = {}
    for line in rounds:
        for name, value in closed_rounds.numbers(line).items():
            found.setdefault(name, []).append((line.round, value))
    return found
