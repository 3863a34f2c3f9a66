"""The experiments on people who come and go, on a few made-up people."""

from pathlib import Path
from typing import Any

import pytest

from tests.experiments.people import made_up_har
from tests.experiments.programs import result, run


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    runs = ["--runs", str(tmp_path / "runs"), "--processes", "1"]
    return ["--har", str(made_up_har(tmp_path)), "--tasks", "har", "--seeds", "1", *runs]


def test_more_leave_where_more_are_asked_to_and_late_answers_count_where_they_may(
    words: list[str], tmp_path: Path
) -> None:
    asked = ["--dropouts", "0", "0.5", "--over-selection", "none", "--late", "discard", "weigh"]
    found = result("dropout.py", [*words, "--parts", "dropout", *asked])["dropout"]
    calm, discard, weigh = found
    assert (calm["choice"]["dropout"], calm["lost"], calm["late_counted"]) == (0, 0, 0)
    assert discard["choice"]["late"] == "discard" and weigh["choice"]["late"] == "weigh"
    assert discard["lost"] > 0.1 and weigh["lost"] > 0.1
    assert discard["late_counted"] == 0 < weigh["late_counted"]
    assert calm["accuracy"] > 0.9
    assert (tmp_path / "runs" / "dropout.png").read_bytes().startswith(b"\x89PNG")


def test_who_is_seldom_online_is_told_by_what_they_do(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--parts", "availability", "--weather", "markov"]
    found = result("dropout.py", words)["availability"]
    by_choice = {(one["choice"]["split"], one["choice"]["follows_data"]): one for one in found}
    assert set(by_choice) == {(split, r) for split in ("owners", "shards") for r in (0.0, 1.0)}
    # Everybody did everything: each activity is there as often as the others.
    assert _spread(by_choice["owners", 1.0]["online"]) == pytest.approx(0, abs=1e-6)
    # The first activities are those of the clients with the lowest ranks.
    first, *_, last = by_choice["shards", 1.0]["online"]
    assert first < 0.3 and last > 0.7
    assert (tmp_path / "runs" / "availability.png").read_bytes().startswith(b"\x89PNG")


def _spread(shares: list[Any]) -> float:
    return float(max(shares) - min(shares))


@pytest.mark.parametrize(
    "words", [("--tasks", "har", "--parts", "dropout"), ("--parts", "availability")]
)
def test_what_needs_har_says_so(words: tuple[str, ...]) -> None:
    ended = run("dropout.py", list(words))
    assert ended.returncode == 2
    assert "needs --har, the folder with its data" in ended.stderr
