"""Statistics over clients against numpy on the pooled data, round by round."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.config import Statistics
from coordinator.statistics import refine, table
from coordinator.statistics.findings import CategoryFindings, Histogram, Withheld
from fedmqtt.fixed_point import ExactSum
from tests.coordinator.statistics.asking import Asking, Fleet, pooled

VALUE = {"value": ()}


def fleet_of(draw: NDArray[np.float64], clients: int = 7) -> Fleet:
    """Dealt out unevenly: the first has hardly any, the last most."""
    cuts = (len(draw) * (np.arange(1, clients) / clients) ** 2).astype(int)
    return {f"client-{i}": {"value": part} for i, part in enumerate(np.split(draw, cuts))}


DRAWS = {
    "normal": np.random.default_rng(1).normal(3.0, 2.0, 5000),
    "far from zero": 1e9 + np.random.default_rng(2).normal(0.0, 1.0, 5000),
    "tiny": np.random.default_rng(3).normal(0.0, 1e-12, 5000),
    "lognormal": np.random.default_rng(4).lognormal(0.0, 4.0, 5000),
    "counts": np.random.default_rng(5).poisson(2.0, 5000).astype(float),
    "both signs, far apart": np.concatenate([np.full(3000, -1e12), np.full(2000, 1e-6)]),
    "constant": np.full(500, 0.1),
    "zeros": np.zeros(500),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_what_is_found_is_what_numpy_finds_in_the_pooled_data(kind: str, tmp_path: Path) -> None:
    draw = DRAWS[kind]
    asking, fleet = Asking(VALUE, Statistics(), tmp_path), fleet_of(draw)
    for _ in range(5):
        asking.round(fleet)
    found = asking.number_of("value")
    values = pooled(fleet, "value")
    assert (found.clients, found.samples, found.outside) == (7, len(draw), 0)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-24)
    # Numpy's own variance of values near 1e9 is good to about ten digits.
    assert found.variance == pytest.approx(values.var(), rel=1e-9, abs=1e-28)
    told = found.histogram
    assert told is not None and told.below == told.above == 0
    ends = told.low + (told.high - told.low) * (np.arange(65) / 64)
    ends[-1] = told.high
    counted, _ = np.histogram(values, bins=ends)
    assert told.counts == counted.tolist()
    assert [one.share for one in found.quantiles] == [0.05, 0.25, 0.5, 0.75, 0.95]
    for one in found.quantiles:
        exact = np.quantile(values, one.share, method="inverted_cdf")
        assert one.low <= exact < one.high
        # Not narrower than ten samples are, and otherwise a millionth of the power of two.
        inside = np.count_nonzero((values >= one.low) & (values < one.high))
        assert inside >= 10
        assert one.high - one.low <= max(1e-5 * abs(exact), 1e-18) or inside <= 40


def test_the_order_of_the_answers_changes_no_bit(tmp_path: Path) -> None:
    fleet = fleet_of(DRAWS["lognormal"])
    forwards, backwards = (Asking(VALUE, Statistics(), tmp_path) for _ in range(2))
    for _ in range(3):
        forwards.round(fleet)
        backwards.round({name: fleet[name] for name in reversed(list(fleet))})
        assert forwards.asked.tobytes() == backwards.asked.tobytes()
    assert forwards.found() == backwards.found()


def test_a_coordinator_that_comes_back_has_what_it_had(tmp_path: Path) -> None:
    fleet = fleet_of(DRAWS["normal"])
    steady, restarted = (Asking(VALUE, Statistics(), tmp_path) for _ in range(2))
    for _ in range(3):
        steady.round(fleet)
        restarted.round(fleet)
        restarted.restart(restarted.sums.memory)
    assert restarted.found() == steady.found()


def test_categories_are_counted(tmp_path: Path) -> None:
    asking = Asking({"state": ("idle", "working", "faulty")}, Statistics(), tmp_path)
    asking.round({"ann": {"state": [0, 0, 1]}, "bob": {"state": [1]}, "cat": {"state": [0]}})
    assert asking.found().features["state"] == CategoryFindings(
        clients=3, samples=5, counts={"idle": 3, "working": 2, "faulty": 0}
    )


def test_a_feature_of_too_few_clients_is_not_told_nor_asked_closer(tmp_path: Path) -> None:
    features = {"value": (), "rare": (), "odd": ("a", "b"), "nowhere": ()}
    asking = Asking(features, Statistics(), tmp_path)
    fleet: Fleet = {
        "ann": {"value": [1.0, 2.0], "rare": [5.0], "odd": [0]},
        "bob": {"value": [3.0], "rare": [6.0]},
        "cat": {"value": [4.0]},
    }
    for _ in range(3):
        asking.round(fleet)
    told = asking.found().features
    fewer = "and nothing is told of fewer than 3 (statistics.clients_min)"
    assert told["rare"] == Withheld(reason=f"only 2 clients have values, {fewer}")
    assert told["odd"] == Withheld(reason=f"only 1 client has values, {fewer}")
    assert told["nowhere"] == Withheld(reason="no client has a value")
    assert asking.number_of("value").mean == 2.5
    # Not even the next question says anything about it.
    after = asking.layout.unflatten(asking.asked)
    assert not after["rare/asks"].any() and after["value/asks"].any()


def test_features_without_a_value_are_told_together(tmp_path: Path) -> None:
    empty = {f"input {n}": () for n in range(16)}
    asking = Asking({"value": (), "rare": (), "none": ("a", "b"), **empty}, Statistics(), tmp_path)
    fleet: Fleet = {
        "ann": {"value": [1.0], "rare": [1.0]},
        "bob": {"value": [3.0]},
        "cat": {"value": [4.0]},
    }
    for _ in range(2):
        asking.round(fleet)
    *_, blank, rare, none = table.lines(asking.found())
    assert blank == ""
    assert rare == (
        "rare: only 1 client has values, and nothing is told of fewer than 3"
        " (statistics.clients_min)"
    )
    assert none == (
        "none, input 0, input 1, input 2, input 3, input 4 and 11 more: no client has a value"
    )


def test_no_bracket_is_narrower_than_so_many_samples(tmp_path: Path) -> None:
    values = np.arange(1.0, 101.0)
    asking = Asking(VALUE, Statistics(samples_min=25, quantiles=(0.5, 0.99)), tmp_path)
    fleet = fleet_of(values)
    for _ in range(6):
        asking.round(fleet)
    for one in asking.number_of("value").quantiles:
        assert np.count_nonzero((values >= one.low) & (values < one.high)) >= 25


def test_quantiles_are_caught_again_when_the_clients_change(tmp_path: Path) -> None:
    chance = np.random.default_rng(9)
    at_first, later = (fleet_of(chance.normal(middle, 1.0, 4000)) for middle in (10.0, 14.0))
    asking = Asking(VALUE, Statistics(), tmp_path)
    for _ in range(4):
        asking.round(at_first)
    asking.round(later)
    # At once by the histogram, where that has them; nothing is told that is not so.
    values = pooled(later, "value")
    for one in asking.number_of("value").quantiles:
        assert one.low <= np.quantile(values, one.share, method="inverted_cdf") < one.high
    for _ in range(5):
        asking.round(later)
    found = asking.number_of("value")
    assert len(found.quantiles) == 5
    for one in found.quantiles:
        exact = np.quantile(values, one.share, method="inverted_cdf")
        assert one.low <= exact < one.high and one.high - one.low < 0.2
    assert found.samples == 4000
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)


def test_samples_that_come_from_far_outside_are_taken_in_with_the_next_round(
    tmp_path: Path,
) -> None:
    near = fleet_of(np.random.default_rng(1).uniform(1.0, 2.0, 1000))
    far = {**near, "far": {"value": [1000.0] * 10}}
    asking = Asking(VALUE, Statistics(), tmp_path)
    asking.round(near)
    asking.round(near)
    asking.round(far)
    found = asking.number_of("value")
    assert (found.samples, found.outside) == (1010, 10)
    assert found.mean == pytest.approx(pooled(near, "value").mean())
    assert any("10 samples are in neither" in line for line in table.lines(asking.found()))
    for _ in range(6):
        asking.round(far)
    found = asking.number_of("value")
    values = pooled(far, "value")
    assert found.outside == 0
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.variance == pytest.approx(values.var(), rel=1e-9)
    assert found.histogram is not None and sum(found.histogram.counts) == 1010


def test_it_is_said_that_clients_have_come_and_gone(tmp_path: Path) -> None:
    fleet = fleet_of(DRAWS["normal"])
    asking = Asking(VALUE, Statistics(), tmp_path)
    asking.round(fleet)
    few = {name: fleet[name] for name in list(fleet)[2:]}
    asking.round({**few, "new": {"value": [1.0]}})
    found = asking.found()
    assert (found.clients, found.answered, found.came, found.left) == (6, [7, 6], 1, 2)
    assert table.lines(found)[:2] == [
        "6 clients, in round 2 of 2: all figures are of these",
        "(since the first round 1 have come and 2 have gone; by round, 7, 6 answered)",
    ]


def test_a_range_that_was_given_stays_and_what_is_beside_it_is_counted(tmp_path: Path) -> None:
    settings = Statistics(bins=4, ranges={"value": (0.0, 4.0)})
    asking = Asking(VALUE, settings, tmp_path)
    fleet = {"ann": {"value": [-1.0, 0.0]}, "bob": {"value": [1.5]}, "cat": {"value": [4.0, 9.0]}}
    for _ in range(4):
        asking.round(fleet)
    found = asking.number_of("value")
    assert found.histogram == Histogram(0.0, 4.0, [1, 1, 0, 0], below=1, above=2)
    # The mean is of all.
    assert found.mean == pytest.approx(13.5 / 5)


@pytest.mark.parametrize(
    ("share", "samples", "expected"),
    [(0.5, 10, 5), (0.5, 11, 6), (0.07, 100, 7), (0.05, 1, 1), (0.999, 10, 10)],
)
def test_a_quantile_is_the_sample_of_that_rank(share: float, samples: int, expected: int) -> None:
    assert refine.rank(share, samples) == expected


def test_a_million_answers_do_not_overflow() -> None:
    from fedmqtt.fixed_point import fraction_bits
    from fedmqtt.whole_numbers import DIGIT_MAX

    bits = fraction_bits(DIGIT_MAX, 1, 1_000_000)
    running = ExactSum(1, bits)
    running.add(np.array([DIGIT_MAX], np.float32), 1)
    # As a million of them would leave it.
    assert int(running.total[0]) * 1_000_000 < 2**63
    assert int(running.total[0] >> bits) == DIGIT_MAX


def test_the_picture_shows_whatever_is_not_empty() -> None:
    told = Histogram(0.0, 1.0, [0, 1, 500, 1000], below=0, above=0)
    assert table.bars(told, ascii_only=False) == " ▁▄█"
    assert table.bars(told, ascii_only=True) == " .=%"
