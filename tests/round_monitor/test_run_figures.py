"""What a report says in numbers, small enough to check by hand."""

from pathlib import Path

import pytest

from round_monitor import run_figures
from round_monitor.run_figures import Point
from round_monitor.run_files import Run, read_runs
from tests.round_monitor.run_folders import line, write_run


def _read(folder: Path) -> Run:
    return read_runs([folder], lambda share: None)[0]


def _figures(accuracy: float) -> dict[str, object]:
    return {"clients": 1, "samples": 10, "metrics": {"accuracy": accuracy}}


def test_a_figure_stands_where_its_model_was_made(tmp_path: Path) -> None:
    # Round 2 measures the model that round 1 made, at 100 s and 1,100 bytes.
    lines = [
        line(1, 100, duration_s=100, figures=_figures(0.1)),
        line(2, 180, figures=_figures(0.85)),
        line(3, 300, figures=None),
        line(4, 310, outcome="evaluated", figures=_figures(0.9)),
    ]
    points = run_figures.curve(_read(write_run(tmp_path, lines)), "accuracy")
    assert points == [
        Point(0, 0.0, 0, 0.1),
        Point(1, 100.0, 1100, 0.85),
        Point(3, 300.0, 3300, 0.9),
    ]
    assert run_figures.reached(points, 0.8) == points[1]
    assert run_figures.reached(points, 0.9) == points[2]
    assert run_figures.reached(points, 0.95) is None


def test_what_clients_measured_while_training_stands_where_their_round_closed(
    tmp_path: Path,
) -> None:
    run = _read(write_run(tmp_path, [line(1, 10, duration_s=10), line(2, 30)]))
    assert run_figures.training_metrics([run]) == ["loss"]
    assert run_figures.training_curve(run, "loss") == [
        Point(1, 10.0, 1100, 1.0),
        Point(2, 30.0, 2200, 0.5),
    ]


def test_metrics_come_with_what_most_look_at_first(tmp_path: Path) -> None:
    names = ("zeal", "loss", "auc", "accuracy", "macro_f1")
    figures = {"clients": 1, "samples": 1, "metrics": dict.fromkeys(names, 0.5)}
    run = _read(write_run(tmp_path, [line(1, figures=figures)]))
    assert run_figures.metrics([run]) == ["accuracy", "macro_f1", "loss", "auc", "zeal"]


@pytest.mark.parametrize(
    ("counts", "jain", "gini"),
    [
        ([3, 3, 3, 3], 1.0, 0.0),
        # One of four has all: 1/n, and (n - 1)/n.
        ([0, 8, 0, 0], 0.25, 0.75),
        # (1 + 2 + 3)² / (3 · 14); areas by hand: 2·14/(3·6) - 4/3.
        ([3, 1, 2], 36 / 42, 2 / 9),
        ([5], 1.0, 0.0),
    ],
)
def test_fairness_of_counts(counts: list[float], jain: float, gini: float) -> None:
    assert run_figures.jain(counts) == pytest.approx(jain)
    assert run_figures.gini(counts) == pytest.approx(gini)


@pytest.mark.parametrize("nothing", [[], [0, 0]])
def test_nothing_shared_out_is_neither_fair_nor_unfair(nothing: list[float]) -> None:
    assert run_figures.jain(nothing) is None
    assert run_figures.gini(nothing) is None
    assert run_figures.lorenz(nothing) == []


def test_the_lorenz_curve_begins_with_those_who_have_least() -> None:
    assert run_figures.lorenz([3, 0, 1, 0]) == [
        (0.0, 0.0),
        (0.25, 0.0),
        (0.5, 0.0),
        (0.75, 0.25),
        (1.0, 1.0),
    ]


def test_rank_correlation_sees_order_and_not_distance() -> None:
    assert run_figures.rank_correlation([1, 2, 3], [1, 10, 1000]) == pytest.approx(1)
    assert run_figures.rank_correlation([1, 2, 3], [9, 5, 0]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5 against 1, 2, 3: 1.5 / sqrt(1.5 · 2).
    assert run_figures.rank_correlation([1, 4, 4], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5)
    assert run_figures.rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert run_figures.rank_correlation([], []) is None


def _lab(*clients: dict[str, object]) -> dict[str, object]:
    return {"mode": "virtual", "seed": 1, "clients": list(clients), "rounds": []}


def test_clients_are_those_of_the_lab_and_its_judge_is_none_of_them(tmp_path: Path) -> None:
    lab = _lab({"client": "ann", "samples": 5}, {"client": "zoe"}, {"client": "judge"})
    lines = [
        line(1, late_counted=[]),
        line(2, answered=["ann"], late_counted=[["bob", 1]]),
    ]
    people = {one.name: one for one in run_figures.clients(_read(write_run(tmp_path, lines, lab)))}
    assert list(people) == ["ann", "bob", "cat", "dan", "zoe"]
    assert (people["ann"].invited, people["ann"].answered, people["ann"].samples) == (2, 2, 5)
    # Once in time, once late and counted.
    assert people["bob"].answered == 2
    assert people["cat"].rejected == 2
    assert people["dan"].dropped == 2
    assert (people["zoe"].invited, people["zoe"].answered) == (0, 0)


def test_a_class_held_by_who_is_seldom_heard_is_heard_less_than_its_due(tmp_path: Path) -> None:
    lab = _lab(
        {"client": "ann", "label_counts": [30, 10], "dominant_label": 0, "online_share": 0.9},
        {"client": "bob", "label_counts": [0, 40], "dominant_label": 1, "online_share": 0.2},
    )
    # Ann answers three times, bob once: heard are 3·30 = 90 of class 0 and 30 + 40 = 70 of class 1.
    lines = [line(n, answered=["ann", "bob"] if n == 1 else ["ann"]) for n in (1, 2, 3)]
    run = _read(write_run(tmp_path, lines, lab))
    first, second = run_figures.labels(run_figures.clients(run))
    assert first.held == pytest.approx(30 / 80)
    assert first.heard == pytest.approx(90 / 160)
    assert first.ratio == pytest.approx(1.5)
    assert second.ratio == pytest.approx(0.7)
    assert (second.clients, second.online_share, second.answers) == (1, 0.2, 1)


def test_without_classes_or_answers_no_class_is_told(tmp_path: Path) -> None:
    real = _read(write_run(tmp_path / "real", [line(1)]))
    assert run_figures.labels(run_figures.clients(real)) == []
    lab = _lab({"client": "ann", "label_counts": [1, 2]})
    silent = _read(write_run(tmp_path / "silent", [line(1, answered=[])], lab))
    assert run_figures.labels(run_figures.clients(silent)) == []
