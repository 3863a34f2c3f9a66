"""The experiment of McMahan et al., on digits that a child could read."""

import math
from pathlib import Path

import pytest

from coordinator.persistence import history
from tests.experiments.programs import result, run
from tests.learning_tasks.idx_files import write_mnist


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    data = tmp_path / "mnist"
    data.mkdir()
    write_mnist(data, train=400, test=50)
    return ["--data", str(data), "--runs", str(tmp_path / "runs"), "--processes", "1"]


def test_it_ends_with_the_target_and_gives_up_rates_that_take_longer(
    words: list[str], tmp_path: Path
) -> None:
    found = result("mcmahan.py", [*words, "--rates", "0.5", "0.000001", "--rounds", "200"])
    assert found["rate"] == 0.5
    rounds = found["rates"]["0.5"]["rounds"]
    assert 0 < rounds < 200
    records = history.read(tmp_path / "runs" / "2nn-iid-rate-0.5-seed-1" / "history.jsonl")
    accuracies = [one.figures.metrics["accuracy"] for one in records if one.figures]
    assert accuracies[-1] >= 0.97 > max(accuracies[:-1])
    # The figures of a record are of the model that its round began with.
    assert records[-1].round - 2 < rounds <= records[-1].round - 1
    assert found["rates"]["1e-06"]["rounds"] is None
    assert found["rates"]["1e-06"]["rounds_run"] == math.ceil(rounds)


def test_a_rate_that_was_run_is_not_run_again(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--split", "non-iid", "--rates", "0.1", "--rounds", "2"]
    first = result("mcmahan.py", words)
    folder = tmp_path / "runs" / "2nn-non-iid-rate-0.1-seed-1"
    written = (folder / "history.jsonl").stat().st_mtime_ns
    assert result("mcmahan.py", words) == first
    assert (folder / "history.jsonl").stat().st_mtime_ns == written
    # One that was broken off is run from its beginning, and comes to the same.
    (folder / "cell.json").unlink()
    again = result("mcmahan.py", words)
    assert (folder / "history.jsonl").stat().st_mtime_ns > written
    for found in (first, again):
        del found["rates"]["0.1"]["wall_s"]
    assert again == first


def test_a_rate_that_was_given_up_is_run_on_when_nothing_is_better(words: list[str]) -> None:
    both = result("mcmahan.py", [*words, "--rates", "0.5", "0.03", "--rounds", "60"])
    assert both["rates"]["0.03"]["rounds"] is None
    alone = result("mcmahan.py", [*words, "--rates", "0.03", "--rounds", "60"])
    assert alone["rates"]["0.03"]["rounds"] is not None
    assert alone["rate"] == 0.03


def test_a_folder_with_another_run_is_refused(words: list[str]) -> None:
    words = [*words, "--rates", "0.1"]
    result("mcmahan.py", [*words, "--rounds", "1"])
    ended = run("mcmahan.py", [*words, "--rounds", "2"])
    assert ended.returncode == 2
    assert "2nn-iid-rate-0.1-seed-1 holds another run" in ended.stderr
    assert "federation.rounds.count=1" in ended.stderr


def test_data_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    words = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--processes", "1"]
    ended = run("mcmahan.py", words)
    assert ended.returncode == 2
    assert "train-images-idx3-ubyte.gz" in ended.stderr
    assert "Traceback" not in ended.stderr
