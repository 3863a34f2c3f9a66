"""The experiment on codecs, on a few devices for a few rounds."""

from pathlib import Path

import msgspec
import pytest

from fleet_sim.lab_page import LabPage
from tests.experiments.programs import result, run


def test_few_bytes_are_told_beside_those_of_full_precision(tmp_path: Path) -> None:
    words = ["--tasks", "phonewatch", "--rounds", "6", "--seeds", "1", "--processes", "1"]
    words += ["--runs", str(tmp_path), "--codecs", "part(share=0.25) + eden"]
    full, few = result("bytes.py", words)["codecs"]
    assert (full["codec"], few["codec"]) == ("full", "part(share=0.25)+eden")
    assert full["answer_bytes"] > 100 * few["answer_bytes"]
    assert full["difference"] == 0 and full["target_mb"] > 0
    assert few["difference"] == pytest.approx(few["accuracy"] - full["accuracy"], abs=2e-4)
    # What crossed the broker is what the codec says, and some more for what is said beside it.
    page = (tmp_path / "phonewatch-part-share-0.25-eden-seed-1" / "lab.json").read_bytes()
    sent = msgspec.json.decode(page, type=LabPage).rounds[-1].bytes_up
    answers = 6 * 5
    assert answers * few["answer_bytes"] < sent < answers * (few["answer_bytes"] + 1500)


def test_what_models_cost_on_their_way_down_is_told_too(tmp_path: Path) -> None:
    words = ["--tasks", "phonewatch", "--rounds", "8", "--seeds", "1", "--processes", "1"]
    words += ["--runs", str(tmp_path), "--codecs", "full / eden"]
    full, coded = result("bytes.py", words)["codecs"]
    assert (full["codec"], coded["codec"]) == ("full", "full/eden")
    assert coded["answer_bytes"] == full["answer_bytes"]
    found = {}
    for name in ("full", "full-eden"):
        page = (tmp_path / f"phonewatch-{name}-seed-1" / "lab.json").read_bytes()
        found[name] = msgspec.json.decode(page, type=LabPage).rounds[-1]
    assert found["full-eden"].bytes_up == found["full"].bytes_up
    # Who comes again is sent less; first models are the same.
    assert found["full-eden"].bytes_down < 0.9 * found["full"].bytes_down


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tasks", "har"], "needs --har, the folder with its data"),
        (["--tasks", "mnist"], "needs --mnist, the folder with its data"),
        (["--tasks", "phonewatch", "--codecs", "gzip"], "codec: there is no 'gzip'"),
        (
            ["--tasks", "phonewatch", "--codecs", "full/gzip"],
            "downlink_codec: there is no 'gzip'",
        ),
    ],
)
def test_a_mistake_is_told(words: list[str], complaint: str, tmp_path: Path) -> None:
    ended = run("bytes.py", [*words, "--rounds", "1", "--runs", str(tmp_path)])
    assert ended.returncode == 2
    assert complaint in ended.stderr
