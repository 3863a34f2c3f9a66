"""The experiment on client drift, on a few made-up people."""

from pathlib import Path

from tests.experiments.people import made_up_har
from tests.experiments.programs import result, run


def test_each_variant_is_measured_with_everybody_and_with_a_few(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--rounds", "3", "--seeds", "1"]
    words += ["--cohorts", "all", "seldom", "--processes", "1", "--runs", str(tmp_path / "runs")]
    found = result("drift.py", words)["outcomes"]
    assert len(found) == 3 + 5
    mean_of = {(one["cohort"], one["variant"]): one["megabytes"] for one in found}
    # Twice the bytes both ways, but for what is measured.
    assert 1.8 < mean_of["all", "scaffold"] / mean_of["all", "fedavg"] < 2.1
    assert mean_of["seldom", "fedavg"] < mean_of["all", "fedavg"]
    assert all(len(one["curves"][0]) == 4 and one["spread"] is None for one in found)


def test_it_asks_for_data() -> None:
    ended = run("drift.py", [])
    assert ended.returncode == 2
    assert "say where data is: --har, --mnist" in ended.stderr
