"""`fedmqtt quarantine`: what it lists, what it leaves for the coordinator, and what it refuses."""

import argparse
import json
from pathlib import Path

import pytest

from coordinator.commands import quarantine_command
from coordinator.intake import quarantine_file
from coordinator.intake.quarantine import Add, Lift, Standing, Term
from coordinator.pacing import Pace
from coordinator.persistence.ledger import Beginning, Carried, Checkpoint, Ledger
from coordinator.persistence.run_errors import LedgerDamaged
from fedmqtt.topics import ClientId, Digest, RunId

ANN, BOB = ClientId("ann"), ClientId("bob")
FOR_GOOD = Term(began=1000.0, until=None, why="noise")
OVER = Term(began=1000.0, until=1001.0, why="noise")


def begun(folder: Path) -> Path:
    """A run that can be gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder, lambda action: None)
    pace = Pace(over_selection=1.0, over_selection_reason="", deadline_s=1.0, deadline_reason="")
    ledger.begin(
        Beginning(run=RunId("r"), task="t", tensors=[]),
        Carried(pace=pace, late=0, typical_s=0.0),
        Checkpoint(file="m", digest=Digest("ab" * 32), trained_rounds=0),
    )
    ledger.close()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return begun(tmp_path / "run")


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    quarantine_command.add_arguments(parser)
    return quarantine_command.run(parser.parse_args(words))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("fedmqtt quarantine: ")
    return said.err


def test_it_lists_who_is_in_quarantine_now(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--run", str(run)) == 0
    assert "nobody is in quarantine" in capsys.readouterr().out
    quarantine_file.save(run, {ANN: Standing(term=FOR_GOOD), BOB: Standing(term=OVER)})
    assert command("list", "--run", str(run)) == 0
    assert capsys.readouterr().out == "ann  until it is lifted: noise\n"
    assert command("--json", "--run", str(run)) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"client": "ann", "since": "1970-01-01T00:16:40+00:00", "until": None, "why": "noise"}
    ]


def test_what_is_ordered_is_listed_before_it_is_carried_out(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarantine_file.save(run, {ANN: Standing(term=FOR_GOOD)})
    assert command("lift", "ann", "--run", str(run)) == 0
    assert command("add", "bob", "--for", "2h", "--why", "drops samples", "--run", str(run)) == 0
    assert next(order for _, order in quarantine_file.orders(run)) == Lift(client=ANN)
    capsys.readouterr()
    assert command("--json", "--run", str(run)) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["client"], only["why"]) == ("bob", "drops samples")


def test_everybody_can_be_lifted_at_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quarantine_file.save(run, {ANN: Standing(term=FOR_GOOD), BOB: Standing(term=FOR_GOOD)})
    assert command("lift", "--all", "--run", str(run)) == 0
    assert quarantine_file.read(run, 2000.0).terms == {}


@pytest.mark.parametrize("span", ["90s", "30m", "2h", "7d", "1.5h"])
def test_a_span_of_time_is_understood(run: Path, span: str) -> None:
    assert command("add", "ann", "--for", span, "--run", str(run)) == 0
    ((_, order),) = quarantine_file.orders(run)
    assert isinstance(order, Add) and order.term.until is not None
    seconds = {"90s": 90, "30m": 1800, "2h": 7200, "7d": 604800, "1.5h": 5400}[span]
    assert order.term.until - order.term.began == pytest.approx(seconds)


def test_mistakes_are_told_with_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--run", str(run))
    quarantine_file.save(run, {BOB: Standing(term=FOR_GOOD)})
    assert "ann is not in quarantine; in quarantine: bob" in refused(capsys, "lift", "ann", *at)
    assert "no client's name" in refused(capsys, "lift", "a/#", *at)
    assert "no client's name" in refused(capsys, "add", "../x", *at)
    assert "or --all" in refused(capsys, "lift", *at)
    assert "or --all" in refused(capsys, "lift", "bob", "--all", *at)
    for span in ("2", "0h", "-1h", "two hours", "1e9d"):
        assert "as 90s, 30m, 2h or 7d" in refused(capsys, "add", "ann", f"--for={span}", *at)
    assert "holds no run" in refused(capsys, "--run", str(run.parent))
    assert quarantine_file.orders(run) == []


def test_without_a_folder_it_is_the_unfinished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no unfinished run" in refused(capsys)
    first = begun(tmp_path / "runs" / "demo-1")
    quarantine_file.save(first, {ANN: Standing(term=FOR_GOOD)})
    assert command() == 0
    assert "ann" in capsys.readouterr().out
    begun(tmp_path / "runs" / "demo-2")
    assert "choose one with --run: runs/demo-1, runs/demo-2" in refused(capsys)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"ann": 7}', '{"ann": {"strikes": "no"}}', "\xff"]
)
def test_a_damaged_file_is_told_and_not_taken_for_an_empty_one(run: Path, text: str) -> None:
    quarantine_file.save(run, {})
    (run / "quarantine" / "standings.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LedgerDamaged, match=r"standings\.json"):
        quarantine_file.load(run)


def test_an_order_that_nobody_understands_is_none(run: Path) -> None:
    quarantine_file.give(run, Lift(client=ANN))
    (path,) = (run / "quarantine" / "orders").iterdir()
    path.write_text('{"type": "lift", "client": "../../x"}')
    assert quarantine_file.orders(run) == [(path, None)]
