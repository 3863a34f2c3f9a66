"""The experiment on hostile clients, on a few made-up people."""

from pathlib import Path

from tests.experiments.people import made_up_har
from tests.experiments.programs import result, run


def test_what_ruins_the_mean_does_not_ruin_a_robust_rule_and_is_run_once(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--fleets", "har", "--rounds", "4"]
    words += ["--strategies", "mean", "norm clipping", "--attacks", "ipm10", "--shares", "0.2"]
    words += ["--runs", str(tmp_path / "runs")]
    found = result("attack.py", words)["outcomes"]
    accuracy = {(one["strategy"], one["attack"]): one["accuracy"] for one in found}
    assert set(accuracy) == {
        (strategy, attack) for strategy in ("mean", "norm clipping") for attack in ("none", "ipm10")
    }
    assert accuracy["mean", "ipm10"] < 0.5 < accuracy["norm clipping", "ipm10"]
    assert accuracy["mean", "none"] > 0.8
    (file,) = (tmp_path / "runs").glob("har-mean-ipm10-*.json")
    written = file.stat().st_mtime_ns
    words.remove("norm clipping")
    assert result("attack.py", words)["outcomes"] == found[:2]
    assert file.stat().st_mtime_ns == written
    # Another run under the same name is not taken for it.
    words[words.index("4")] = "1"
    assert result("attack.py", words)["outcomes"] != found[:2]
    assert file.stat().st_mtime_ns > written


def test_it_asks_for_data() -> None:
    ended = run("attack.py", ["--fleets", "iid", "shards"])
    assert ended.returncode == 2
    assert "say where data is: --har, --mnist" in ended.stderr
