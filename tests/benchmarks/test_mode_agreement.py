"""The comparison of the two modes tells agreement from disagreement."""

import pytest
from msgspec import structs

from benchmarks.mode_agreement import FIGURES, Pair, compare, compare_exactly
from coordinator.persistence.history import Record
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, RoundId
from tests.benchmarks.test_benchmarks import figures

CLIENTS = [ClientId(f"client-{n}") for n in range(12)]


def record(number: int, *, answered: int = 8, accuracy: float = 0.5) -> Record:
    """Of twelve who were invited; who did not answer was lost."""
    return Record(
        round=RoundId(number),
        closed="2024-01-01T00:00:00.000+00:00",
        outcome="averaged",
        reason="complete",
        base="",
        invited=CLIENTS,
        answered=CLIENTS[:answered],
        dropped=CLIENTS[answered:],
        declined={},
        rejected={},
        evaluated=[],
        late_updates=0,
        duration_s=3.0,
        samples=0,
        train_metrics={},
        figures=Figures(metrics={"accuracy": accuracy}, clients=1, samples=1),
        bytes_received=0,
        bytes_published=0,
    )


def run(*answered: int) -> list[Record]:
    return [record(number, answered=count) for number, count in enumerate(answered, start=1)]


def pairs(virtual: list[Record], live: list[Record], seeds: int = 5) -> list[Pair]:
    return [Pair(virtual, live)] * seeds


def test_the_same_in_both_modes_agrees() -> None:
    agree, found = compare(pairs(run(8, 6, 7), run(8, 6, 7)))
    assert agree
    assert (found["answered"]["virtual"], found["answered"]["live"]) == (7, 7)
    assert all(found[figure.name]["largest_in_a_round"] == 0 for figure in FIGURES)


def test_a_difference_in_the_mean_over_rounds_is_found() -> None:
    # One less in three of five runs, and always to the same side.
    agree, found = compare(pairs(run(8, 8), run(7, 7), 3) + pairs(run(8, 8), run(8, 8), 2))
    assert not agree
    answered = found["answered"]
    assert answered["tolerance"] < answered["difference"] == 0.6
    assert answered["largest_in_a_round"] == 0.6 < answered["tolerance_in_a_round"]


def test_a_difference_in_one_round_is_found() -> None:
    # Four more once, four less another time: in the mean over rounds that is nothing.
    agree, found = compare(pairs(run(8, 4, 6, 6), run(4, 8, 6, 6)))
    assert not agree
    assert (found["answered"]["difference"], found["answered"]["largest_in_a_round"]) == (0, 4)


def test_the_mean_over_seeds_counts() -> None:
    # Chance of one seed that another makes good.
    up, down = Pair(run(8, 6), run(6, 8)), Pair(run(6, 8), run(8, 6))
    agree, found = compare([up, down])
    assert agree and found["answered"]["largest_in_a_round"] == 0


def test_fewer_seeds_are_allowed_more() -> None:
    few, many = (
        compare(pairs(run(8), run(8), seeds))[1]["answered"]["tolerance"] for seeds in (1, 5)
    )
    assert few == pytest.approx(many * 5**0.5, abs=1e-3)


def test_another_accuracy_is_found() -> None:
    virtual, live = [record(1, accuracy=0.9)], [record(1, accuracy=0.7)]
    assert not compare(pairs(virtual, live))[0]


def test_another_number_of_rounds_is_found() -> None:
    agree, found = compare(pairs(run(8, 8), run(8)))
    assert not agree and not found["same_number_of_rounds"]


def test_who_only_measures_is_not_counted_as_invited() -> None:
    last = structs.replace(record(2), outcome="evaluated", invited=[], answered=[], dropped=[])
    _, found = compare(pairs([record(1), last], [record(1), last]))
    assert found["invited"]["virtual"] == 12


def test_in_no_weather_all_must_be_equal() -> None:
    same = run(8, 8)
    assert compare_exactly([Pair(same, run(8, 8), same_model=True)])[0]
    assert not compare_exactly([Pair(same, run(8, 7), same_model=True)])[0]
    assert not compare_exactly([Pair(same, run(8, 8), same_model=False)])[0]


@pytest.mark.broker
def test_a_calm_fleet_is_compared_as_it_runs() -> None:
    found = figures("mode_agreement.py", "--calm", "--seeds", "1", "--rounds", "1")
    assert found == {
        "preset": "calm",
        "seeds": 1,
        "rounds": 1,
        "same_rounds": True,
        "same_model": True,
        "agree": True,
    }
