"""`fedmqtt report`, as a person in a terminal meets it."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from round_monitor.report_command import ProgressLine
from tests.round_monitor.run_folders import line, write_run


def _report(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmqtt", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


def test_the_page_lies_in_the_first_run_s_folder_and_its_path_is_printed(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / name, [line(1), line(2)])
    run = _report("first", "second", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "first/report.html\n", "")
    page = (tmp_path / "first" / "report.html").read_text()
    assert "<title>first · second</title>" in page
    assert "fedmqtt report first second --out first/report.html" in page
    # Whole or not at all: nothing else is left behind.
    assert {file.name for file in (tmp_path / "first").iterdir()} == {
        "history.jsonl",
        "report.html",
    }


def test_its_place_and_title_can_be_chosen(tmp_path: Path) -> None:
    write_run(tmp_path / "ward", [line(1)])
    run = _report("ward", "--out", "page.html", "--title", "Ward 7", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "page.html\n")
    page = (tmp_path / "page.html").read_text()
    assert "<h1>Ward 7</h1>" in page
    # Quoted as a shell wants it, so that it can be pasted.
    assert "--out page.html --title &#x27;Ward 7&#x27;" in page


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "ward: no history.jsonl in it; it is no run's folder\n"),
        ("", "ward/history.jsonl: no round has been closed in this run\n"),
        ("{", "ward/history.jsonl, line 1: damaged (Input data was truncated)\n"),
    ],
)
def test_a_run_that_cannot_be_told_of_is_refused_in_one_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    (tmp_path / "ward").mkdir()
    if content is not None:
        (tmp_path / "ward" / "history.jsonl").write_text(content)
    run = _report("ward", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", sentence)
    assert not (tmp_path / "ward" / "report.html").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = _report("nowhere", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (2, "nowhere: no such folder\n")


def test_a_place_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_run(tmp_path / "ward", [line(1)])
    run = _report("ward", "--out", "nowhere/page.html", cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr == (
        "nowhere/page.html: cannot be written (No such file or directory);"
        " name another place with --out\n"
    )


def test_it_is_shown_in_the_browser_that_is_there(tmp_path: Path) -> None:
    write_run(tmp_path / "ward", [line(1)])
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/shown\n')
    browser.chmod(0o755)
    run = _report("ward", "--open", cwd=tmp_path, env=os.environ | {"BROWSER": str(browser)})
    assert (run.returncode, run.stderr) == (0, "")
    shown = (tmp_path / "shown").read_text().strip()
    assert shown == (tmp_path / "ward" / "report.html").as_uri()


def test_it_needs_nothing_that_an_extra_brings(tmp_path: Path) -> None:
    write_run(tmp_path / "ward", [line(1)])
    code = (
        "import sys; from fedmqtt.__main__ import main; main(['report', 'ward'])\n"
        "print(*{'numpy', 'torch', 'matplotlib', 'rich', 'paho'} & sys.modules.keys())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout == "ward/report.html\n\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_told_once_for_each_percent() -> None:
    out = _Terminal()
    progress = ProgressLine(out, quiet_s=0)
    for done in range(0, 1001):
        progress.tell(done / 1000)
    progress.end()
    told = out.getvalue().split("\r")[1:]
    assert told[:2] == ["reading: 0%", "reading: 1%"]
    assert told[-1] == "reading: 100%\n"
    assert len(told) == 101


@pytest.mark.parametrize(("out", "quiet_s"), [(_Terminal(), 3600), (io.StringIO(), 0)])
def test_what_is_soon_done_or_no_terminal_has_no_progress(out: io.StringIO, quiet_s: float) -> None:
    progress = ProgressLine(out, quiet_s)
    progress.tell(0.5)
    progress.end()
    assert out.getvalue() == ""
