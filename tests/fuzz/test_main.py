"""`make fuzz` tells what was tried and found, and fails where anything was."""

import importlib.metadata
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import corpus

SAID = "#4 DONE cov: 12\nstat::number_of_executed_units: 412345\nstat::average_exec_per_sec: 7\n"
CRASH = Path("runs/fuzz/offer/crash-0a")


def test_a_decoder_that_held_is_one_line() -> None:
    found = fuzz.outcome("offer", 0, SAID, ())
    assert found == fuzz.Outcome("offer", 412_345, ())
    assert fuzz.report(found).split() == ["offer", "412,345", "0"]


def test_a_finding_is_kept_with_the_words_that_repeat_it() -> None:
    found = fuzz.outcome("offer", 77, SAID, (CRASH,))
    assert found.found == (CRASH,) and not found.trouble
    assert (
        fuzz.report(found).splitlines()[1].endswith(f"python -m tests.fuzz --repeat offer {CRASH}")
    )


@pytest.mark.parametrize(
    ("code", "said", "why"),
    [
        (1, "ModuleNotFoundError: No module named 'atheris'\n", "No module named 'atheris'"),
        (0, "", "it ended with 0: without a word"),
        (77, SAID, "average_exec_per_sec"),
    ],
)
def test_what_did_not_run_is_no_success(code: int, said: str, why: str) -> None:
    found = fuzz.outcome("offer", code, said, ())
    assert why in found.trouble
    assert why in fuzz.report(found)


def test_a_name_that_no_decoder_has_is_told_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fuzz.main(["offers"])
    assert "there is no offers; choose from: offer, presence" in capsys.readouterr().err


def test_bytes_can_be_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed, noise = corpus.CORPUS / "offer" / "0.bin", tmp_path / "noise"
    noise.write_bytes(b"noise")
    assert fuzz.main(["--repeat", "offer", str(seed)]) == 0
    assert fuzz.main(["--repeat", "offer", str(noise)]) == 0
    assert capsys.readouterr().out == "offer: taken\noffer: refused, as it should be\n"


def test_the_corpus_can_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    assert fuzz.main(["--write-corpus", "topic"]) == 0
    assert len(list((tmp_path / "topic").iterdir())) == 13
    assert capsys.readouterr().out == "topic: 13 seeds\n"


def test_a_short_try_of_one_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        importlib.metadata.version("atheris")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("atheris is not installed: `make fuzz` does that")
    assert fuzz.main(["topic", "--seconds", "1", "--kept", str(tmp_path)]) == 0
    assert "in all" in capsys.readouterr().out
