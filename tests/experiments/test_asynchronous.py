"""The experiment on asynchronous rounds, on a few made-up people."""

from pathlib import Path

from tests.experiments.people import made_up_har
from tests.experiments.programs import result


def test_each_mode_is_measured_in_the_same_time(tmp_path: Path) -> None:
    words = ["--har", str(made_up_har(tmp_path)), "--seeds", "1", "--processes", "1"]
    words += ["--modes", "synchronous", "fedbuff-5", "--hours", "0.06"]
    found = result("asynchronous.py", [*words, "--runs", str(tmp_path / "runs")])["outcomes"]
    synchronous, fedbuff = found
    assert [one["mode"] for one in found] == ["synchronous", "fedbuff-5"]
    # Of thirteen clients the slowest is waited for, or not.
    assert fedbuff["answers"] > 2 * synchronous["answers"]
    assert fedbuff["models"] > 5 * synchronous["models"]
