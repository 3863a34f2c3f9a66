"""Robust rules against naive ones that are written here, and numbers worked out by hand."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coordinator.aggregation import KeepModel, Memory
from coordinator.robust.rule import hostile
from fedmqtt.settings import SettingsError
from tests.coordinator.aggregation.folding import answers, play, strategy_named

RULES = [
    "bulyan",
    "centered_clipping",
    "geometric_median",
    "krum",
    "median",
    "multi_krum",
    "norm_clipping",
    "spectral_filter",
    "trimmed_mean",
]


def result(name: str, changes: Any, memory: Memory | None = None, **given: Any) -> Any:
    samples = given.pop("samples", ())
    base = np.zeros(len(changes[0]), np.float32)
    return play(strategy_named(name), base, answers(changes, samples), memory, **given)


# By hand


def test_the_median_and_the_trimmed_mean_of_each_parameter() -> None:
    changes = [[1, 50], [2, 10], [3, 30], [4, 20], [100, -70]]
    assert result("median", changes).tolist() == [3, 20]
    assert result("median", changes[:4]).tolist() == [2.5, 25]
    # Without 1 and 100, and without -70 and 50.
    assert result("trimmed_mean", changes, f=1).tolist() == [3, 20]
    assert result("trimmed_mean", changes, f=0).tolist() == [22, 8]


def test_krum_takes_one_and_multi_krum_all_but_the_farthest() -> None:
    # Squared, to the three nearest: 1 + 4 + 16, 1 + 1 + 9, 1 + 4 + 4, 4 + 9 + 16; 40 is far off.
    changes = [[0], [1], [2], [4], [40]]
    assert result("krum", changes, f=1).tolist() == [2]
    assert result("multi_krum", changes, f=1).tolist() == [1.75]


def test_norm_clipping_cuts_to_the_median_length() -> None:
    # Lengths 5, 1, 10: cut to 5. (3, 4), (0, 1) and (5, 0), averaged.
    changes = [[3, 4], [0, 1], [10, 0]]
    np.testing.assert_allclose(result("norm_clipping", changes), [8 / 3, 5 / 3], rtol=1e-6)
    weighed = result("norm_clipping", changes, by_samples=True, samples=[2, 1, 1])
    np.testing.assert_allclose(weighed, [11 / 4, 9 / 4], rtol=1e-6)


def test_the_geometric_median_of_three_is_the_one_in_the_middle() -> None:
    np.testing.assert_allclose(result("geometric_median", [[0.0], [1.0], [9.0]]), [1.0], atol=1e-4)
    # By samples the first has more than half of them.
    weighed = result("geometric_median", [[-2.0], [1.0], [9.0]], by_samples=True, samples=[5, 2, 1])
    np.testing.assert_allclose(weighed, [-2.0], atol=1e-4)


def test_centered_clipping_starts_from_where_the_last_round_was() -> None:
    memory: Memory = {}
    # From 0, cut to 2: 2, 2 and -1; their mean.
    assert result("centered_clipping", [[5], [3], [-1]], memory, radius=2.0).tolist() == [1.0]
    # From 1, cut to 2: +2, +1 and -2 on top of 1.
    found = result("centered_clipping", [[5], [2], [-9]], memory, radius=2.0)
    np.testing.assert_allclose(found, [1 + 1 / 3], rtol=1e-6)
    # Distances from 0 are 5, 3 and 1: cut to 3.
    np.testing.assert_allclose(result("centered_clipping", [[5], [3], [-1]]), [5 / 3], rtol=1e-6)


def test_the_spectral_filter_leaves_out_who_stands_out_and_nobody_where_none_does() -> None:
    # Two that are hostile pull the same way, far off; the others are cut to length 2 and cancel.
    honest = [[2, 0], [-2, 0], [0, 2], [0, -6], [0, 0]]
    assert result("spectral_filter", [*honest, [9, 9], [9, 9]], f=2, cut=1.0).tolist() == [0, 0]
    # Variances 5 and 4.5: nobody is left out. Lengths 2, 2, 1 and 1 are cut to 3, or to 1.5.
    alike = [[2.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -1.0]]
    assert result("spectral_filter", alike, f=1).tolist() == [0.25, 0.25]
    assert result("spectral_filter", alike, f=1, cut=1.0).tolist() == [0.125, 0.125]
    # Where the gap asks for less, the one that lies farthest along the diagonal goes.
    alike[0] = [2.5, 0.0]
    np.testing.assert_allclose(
        result("spectral_filter", alike, f=1, gap=1.0, cut=1.0), [-1 / 3, 0.5 / 3], rtol=1e-6
    )


# Naive ones


def naive_krum(rows: Any, f: int) -> int:
    scores = []
    for i, one in enumerate(rows):
        others = [float(((one - other) ** 2).sum()) for j, other in enumerate(rows) if j != i]
        scores.append(sum(sorted(others)[: len(rows) - f - 1]))
    return scores.index(min(scores))


def naive_bulyan(rows: Any, f: int, **given: Any) -> Any:
    left, chosen = list(rows), []
    for _ in range(len(rows) - 2 * f):
        chosen.append(left.pop(naive_krum(left, f)))
    found = []
    for column in np.transpose(chosen):
        middle = float(np.median(column))
        nearest = sorted(column, key=lambda value: abs(value - middle))[: len(column) - 2 * f]
        found.append(np.mean(nearest))
    return found


def naive_geometric_median(rows: Any, f: int, **given: Any) -> Any:
    here = np.zeros(rows.shape[1])
    for _ in range(32):
        pulls = [1 / max(1e-6, float(np.linalg.norm(row - here))) for row in rows]
        here = sum(pull * row for pull, row in zip(pulls, rows, strict=True)) / sum(pulls)
    return here


def naive_centered_clipping(rows: Any, f: int, **given: Any) -> Any:
    here = np.zeros(rows.shape[1])
    for _ in range(given["iterations"]):
        lengths = [float(np.linalg.norm(row - here)) for row in rows]
        radius = float(np.median(lengths))
        cuts = [min(1.0, radius / length) for length in lengths]
        here = here + sum(c * (row - here) for c, row in zip(cuts, rows, strict=True)) / len(rows)
    return here


def naive_norm_clipping(rows: Any, f: int, **given: Any) -> Any:
    lengths = [float(np.linalg.norm(row)) for row in rows]
    radius = float(np.median(lengths))
    return np.mean([row * min(1, radius / n) for row, n in zip(rows, lengths, strict=True)], axis=0)


def naive_spectral_filter(rows: Any, f: int, *, cut: float) -> Any:
    centred = rows - rows.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    away = np.abs(centred @ axes[0])
    stands_out = lengths[0] ** 2 >= 1.8 * lengths[1] ** 2
    kept = np.argsort(away)[: len(rows) - f] if stands_out else range(len(rows))
    radius = cut * float(np.median(np.linalg.norm(rows, axis=1)))
    return np.mean([rows[k] * min(1, radius / np.linalg.norm(rows[k])) for k in kept], axis=0)


def naive_trimmed_mean(rows: Any, f: int, **given: Any) -> Any:
    return [np.mean(sorted(column)[f : len(column) - f]) for column in np.transpose(rows)]


def naive_mixing(rows: Any, f: int) -> Any:
    mixed = []
    for one in rows:
        near = sorted(rows, key=lambda other: float(np.linalg.norm(one - other)))
        mixed.append(np.mean(near[: len(rows) - f], axis=0))
    return np.array(mixed)


NAIVE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "bulyan": (naive_bulyan, {}),
    "geometric_median": (naive_geometric_median, {}),
    "centered_clipping": (naive_centered_clipping, {"iterations": 4}),
    "norm_clipping": (naive_norm_clipping, {}),
    "spectral_filter": (naive_spectral_filter, {"cut": 0.9}),
    "trimmed_mean": (naive_trimmed_mean, {}),
}


@pytest.mark.parametrize("mixes", [False, True], ids=["alone", "behind-nnm"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAIVE)
def test_a_rule_is_what_its_paper_says(name: str, seed: int, mixes: bool) -> None:
    rule, given = NAIVE[name]
    chance = np.random.default_rng(seed)
    rows = chance.normal(0.3, 1.0, (17, 300)).astype(np.float32)
    rows[:3] *= -7
    f = 3
    wanted = rule(naive_mixing(rows.astype(np.float64), f) if mixes else rows, f, **given)
    found = result(name, rows, f=f, before=["nnm"] if mixes else [], **given)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_many_blocks_are_one_matrix() -> None:
    """More numbers than are looked at in one go."""
    chance = np.random.default_rng(0)
    rows = chance.normal(0.0, 1.0, (9, 300_000)).astype(np.float32)
    rows[4] *= 3
    np.testing.assert_allclose(
        result("norm_clipping", rows), naive_norm_clipping(rows.astype(np.float64), 0), atol=1e-6
    )
    np.testing.assert_allclose(result("median", rows), np.median(rows, axis=0), atol=1e-6)


# Buckets


def bucket_order(seed: int, count: int) -> list[int]:
    return sorted(
        range(count),
        key=lambda n: hashlib.sha256(f"{seed}/bucket/client-{n:04}/1".encode()).digest(),
    )


def test_buckets_are_means_of_clients_drawn_by_the_rounds_seed() -> None:
    changes = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    seen = set()
    for seed in range(20):
        order = bucket_order(seed, 5)
        means = [changes[order[0:2]].mean(), changes[order[2:4]].mean(), changes[order[4]].mean()]
        found = result("median", changes, before=["bucketing"], f=0, seed=seed)
        assert found.tolist() == [np.float32(np.median(means))]
        seen.add(tuple(found.tolist()))
    assert len(seen) > 3


def test_stages_follow_each_other_as_they_are_named() -> None:
    changes = np.random.default_rng(3).normal(0, 1, (12, 4))
    found = {
        before: result("median", changes, before=list(before), f=2, bucket=2).tobytes()
        for before in [(), ("nnm",), ("bucketing",), ("nnm", "bucketing"), ("bucketing", "nnm")]
    }
    assert len(set(found.values())) == 5


# What a rule withstands


@pytest.mark.parametrize("name", RULES)
def test_a_fifth_that_sends_ten_times_the_opposite_does_not_turn_the_model(name: str) -> None:
    chance = np.random.default_rng(1)
    rows = 1.0 + 0.2 * chance.normal(0, 1, (20, 50))
    rows[:4] = -10 * rows[4:].mean(axis=0)
    assert np.all(result("fedavg", rows) < 0)
    found = result(name, rows)
    assert np.all(found > 0.4)


# Settings, and answers that are too few


@pytest.mark.parametrize(
    ("f", "count", "wanted"),
    [(0.2, 20, 4), (0.2, 19, 3), (0.2, 3, 1), (0.29, 100, 29), (0, 20, 0), (3, 20, 3), (0.3, 1, 1)],
)
def test_how_many_may_be_hostile(f: float, count: int, wanted: int) -> None:
    assert hostile(f, count) == wanted


@pytest.mark.parametrize(
    ("name", "given", "count", "why"),
    [
        ("trimmed_mean", {}, 2, "trimmed_mean needs 3 answers to withstand 1 hostile, and there"
                                " were 2"),
        ("krum", {"f": 2}, 6, "krum needs 7 answers to withstand 2 hostile, and there were 6"),
        ("multi_krum", {}, 4, "multi_krum needs 5 answers to withstand 1 hostile, and"
                               " there were 4"),
        ("bulyan", {"f": 2}, 10, "bulyan needs 11 answers to withstand 2 hostile, and there were"
                                 " 10"),
        (
            "median",
            {"before": ["nnm"], "f": 3},
            6,
            "nearest-neighbour mixing needs 7 answers to withstand 3 hostile, and there were 6",
        ),
        (
            "krum",
            {"before": ["bucketing"], "f": 2},
            12,
            "krum needs 7 answers to withstand 2 hostile, and there were 12 (6 after bucketing)",
        ),
    ],
)  # fmt: skip
def test_too_few_answers_keep_the_model_and_it_is_said_why(
    name: str, given: dict[str, Any], count: int, why: str
) -> None:
    with pytest.raises(KeepModel) as kept:
        result(name, np.ones((count, 2)), **given)
    assert str(kept.value) == why


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"f": 0.5}, "settings: f: expected a number < 0.5"),
        ({"f": -1}, "settings: f: expected a whole number >= 0"),
        (
            {"before": ["mixing"]},
            "settings: before cannot be 'mixing'; choose from: bucketing, nnm",
        ),
        ({"bucket": 1}, "settings: bucket: expected a whole number >= 2"),
        ({"share": 1}, "settings: unknown key share; choose from: f, before, bucket"),
    ],
)
@pytest.mark.parametrize("name", ["median", "krum"])
def test_settings_that_cannot_be_are_refused_by_name(
    name: str, given: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        result(name, np.ones((3, 2)), **given)
    assert str(refused.value).startswith(complaint)
