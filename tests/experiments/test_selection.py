"""The experiment on selection policies, on a few made-up people."""

from pathlib import Path

import pytest

from tests.experiments.people import made_up_har
from tests.experiments.programs import result


def test_each_policy_is_measured_in_each_fleet(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--seeds", "1", "--processes", "1"]
    words += ["--fleets", "there", "--policies", "round_robin", "by_speed"]
    found = result("selection.py", [*words, "--runs", str(tmp_path / "runs")])["outcomes"]
    by_policy = {one["policy"]: one for one in found}
    assert {one["fleet"] for one in found} == {"there"} and len(found) == 2
    # 60 rounds of 5 for 21 people: 14 or 15 turns each.
    assert by_policy["round_robin"]["fairness"] == pytest.approx(1, abs=0.01)
    assert by_policy["by_speed"]["fairness"] < 0.7
    assert by_policy["by_speed"]["round_s"] < by_policy["round_robin"]["round_s"]
