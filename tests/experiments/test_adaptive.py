"""The experiment on server optimisers, on a few made-up people."""

from pathlib import Path

from tests.experiments.people import made_up_har
from tests.experiments.programs import result, run


def test_each_optimiser_is_told_at_its_best_rate(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--fleets", "har", "--rounds", "3"]
    words += ["--optimisers", "fedadam", "fedexp", "--seeds", "1", "2"]
    words += ["--processes", "1", "--runs", str(tmp_path / "runs")]
    found = {one["optimiser"]: one for one in result("adaptive.py", words)["outcomes"]}
    assert set(found) == {"fedadam", "fedexp"}
    assert all(one["seeds"] == 2 and 0 < one["accuracy"] <= 1 for one in found.values())
    assert found["fedexp"]["rate"] is None and found["fedexp"]["tried"] == {}
    tried, best = found["fedadam"]["tried"], f"{found['fedadam']['rate']:g}"
    assert len(tried) == 3 and tried[best] == max(tried.values())
    # With the other seed only that was run.
    runs = {path.name for path in (tmp_path / "runs").glob("har-fedadam-*-seed-2")}
    assert runs == {f"har-fedadam-{best}-seed-2"}


def test_it_asks_for_data() -> None:
    ended = run("adaptive.py", ["--fleets", "digits"])
    assert ended.returncode == 2
    assert "say where data is: --har, --mnist" in ended.stderr
