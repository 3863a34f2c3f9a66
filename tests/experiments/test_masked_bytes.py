"""The experiment on bytes under masks, on a few devices for a few rounds."""

from pathlib import Path

import pytest

from tests.experiments.programs import result, run


def test_few_bytes_under_masks_are_told_beside_those_of_full_precision(tmp_path: Path) -> None:
    words = ["--tasks", "phonewatch", "--rounds", "4", "--seeds", "1", "--processes", "1"]
    words += ["--runs", str(tmp_path), "--methods", "4@0.25"]
    full, few = result("masked_bytes.py", words)["methods"]
    assert (full["method"], few["method"]) == ("full", "4@0.25")
    # 8 of 32 bits cross where ten answers of 4 bits are summed; 20 in the first round of the four,
    # which is fine; and what goes with a masked answer.
    numbers = full["answer_bytes"] / 4
    body = numbers / 4 * (3 * 8 + 20) / 4 / 8
    assert body < few["answer_bytes"] < body + 1500
    assert full["difference"] == 0 and full["times_fewer"] == 1
    assert few["times_fewer"] == pytest.approx(full["answer_bytes"] / few["answer_bytes"], abs=1e-3)
    assert few["difference"] == pytest.approx(few["accuracy"] - full["accuracy"], abs=2e-4)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tasks", "har"], "needs --har, the folder with its data"),
        (["--methods", "4@"], "'4@' is no method: bits of a value, say 20, or bits and a share"),
        (["--methods", "40"], "privacy.value_bits"),
    ],
)
def test_a_mistake_is_told(words: list[str], complaint: str, tmp_path: Path) -> None:
    few = ["--tasks", "phonewatch", "--rounds", "1", "--seeds", "1", "--processes", "1"]
    ended = run("masked_bytes.py", [*few, *words, "--runs", str(tmp_path)])
    assert ended.returncode == 2
    assert complaint in ended.stderr
