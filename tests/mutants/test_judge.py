"""Good tests kill a mutant, useless ones do not, and tests that cannot judge say so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.__main__ import report
from tests.mutants.judge import Outcome, Verdict
from tests.mutants.mutate import Mutant, mutants

ROOT = Path(__file__).parents[2]

MACHINE = """
def days_until(due, at):
    days = 0
    while at < due:
        at += 1
        days += 1
    return days
"""

GOOD = """
import machine
def test_counts_days():
    assert machine.days_until(5, 2) == 3
    assert machine.days_until(2, 5) == 0
"""

USELESS = """
import machine
def test_nothing():
    machine.days_until(1, 1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "machine.py").write_text(MACHINE)
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "useless.py").write_text(USELESS)
    return tmp_path


def check(folder: Path, tests: str, *options: str) -> tuple[int, str]:
    """Exit status, and all that was said."""
    command = [sys.executable, "-m", "tests.mutants", "machine.py", "--tests", tests, *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def number_of(folder: Path, after: str) -> str:
    found = [mutant.after for mutant in mutants(folder, "machine.py")]
    return str(found.index(after) + 1)


def test_a_good_test_kills(folder: Path) -> None:
    status, told = check(folder, "good.py", "--only", number_of(folder, "days = 1"))
    assert told.endswith(
        "machine.py:3 days_until, nudge constant\n- days = 0\n+ days = 1\n"
        "killed good.py::test_counts_days\n"
    )
    assert status == 0


def test_a_mutant_that_does_not_end_is_ended(folder: Path) -> None:
    status, told = check(folder, "good.py", "--only", number_of(folder, "at -= 1"))
    assert told.endswith("hung good.py::test_counts_days\n")
    assert status == 0


def test_a_useless_test_kills_nothing(folder: Path) -> None:
    (folder / "machine.py").write_text("def at_last(at, due):\n    return at >= due\n")
    (folder / "useless.py").write_text("import machine\ndef test_nothing():\n    pass\n")
    status, told = check(folder, "useless.py", "--jobs", "1")
    assert "machine.py: 0 of 2 noticed, 0.0%; killed 0, hung 0, survived 2, equivalent 0" in told
    assert "# Nobody noticed.\nmachine.py:2 at_last, flip comparison\n" in told
    assert status == 1


def test_the_file_itself_is_left_as_it_is(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    check(folder, "good.py", "--only", "1")
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_tests_that_fail_anyway_judge_nothing(folder: Path) -> None:
    (folder / "good.py").write_text(GOOD.replace("== 3", "== 4"))
    status, told = check(folder, "good.py")
    assert "machine.py does not pass as it is: good.py::test_counts_days" in told
    assert status == 2


def test_tests_that_do_not_import_the_file_judge_nothing(folder: Path) -> None:
    (folder / "good.py").write_text("def test_nothing():\n    pass\n")
    status, told = check(folder, "good.py")
    assert "its tests do not import it" in told
    assert status == 2


def test_no_tests_judge_nothing(folder: Path) -> None:
    (folder / "good.py").write_text("import machine\n")
    status, told = check(folder, "good.py")
    assert "pytest ended with 5" in told
    assert status == 2


def one(after: str, outcome: Outcome) -> tuple[Mutant, Verdict]:
    mutant = Mutant("machine.py", "f", 1, "nudge constant", "a = 0", after, "")
    test = "" if outcome == "survived" else "good.py::test"
    return mutant, Verdict(outcome, test, 0.1, "")


ENOUGH = [one(f"a = {number}", "killed") for number in range(1, 20)]


def test_nineteen_of_twenty_are_enough() -> None:
    assert report("machine.py", [*ENOUGH, one("a = b", "survived")], set())
    assert not report("machine.py", [*ENOUGH[1:], one("a = b", "survived")], set())
    assert report(
        "machine.py", [*ENOUGH[1:], one("a = b", "survived"), one("a = c", "hung")], set()
    )


def test_an_equivalent_counts_neither_way(capsys: pytest.CaptureFixture[str]) -> None:
    survivor = one("a = b", "survived")
    assert report("machine.py", [ENOUGH[0], survivor], {survivor[0].text})
    assert "1 of 1 noticed, 100.0%" in capsys.readouterr().out


def test_what_is_said_to_be_equivalent_must_be_a_mutant_that_survives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not report("machine.py", ENOUGH, {ENOUGH[0][0].text})
    assert "though equivalents.txt says that nobody can" in capsys.readouterr().out
    assert not report("machine.py", ENOUGH, {"machine.py f\n- b = 0\n+ b = 1"})
    assert "no mutant any more.\nmachine.py f\n- b = 0" in capsys.readouterr().out
