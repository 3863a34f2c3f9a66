"""An old offer that is shown again is for others, also after a start."""

import hashlib
from pathlib import Path

import pytest

from edge_client.rounds_done import RoundsDone
from fedmqtt.topics import RoundId, RunId

A, B = RunId("a"), RunId("b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rounds-done"


def test_a_round_and_those_before_it_are_done(path: Path) -> None:
    done = RoundsDone(path)
    assert not done.includes(A, RoundId(0))
    done.add(A, RoundId(3))
    for life in (done, RoundsDone(path)):
        assert [life.includes(A, RoundId(number)) for number in (0, 2, 3, 4)] == [
            True,
            True,
            True,
            False,
        ]
        assert not life.includes(B, RoundId(1))


def test_a_late_receipt_takes_nothing_back(path: Path) -> None:
    done = RoundsDone(path)
    done.add(A, RoundId(3))
    done.add(A, RoundId(2))
    assert RoundsDone(path).includes(A, RoundId(3))


def test_the_newest_runs_are_kept(path: Path) -> None:
    done = RoundsDone(path)
    for number in range(101):
        done.add(RunId(f"run-{number}"), RoundId(1))
        done.add(A, RoundId(number + 1))
    for life in (done, RoundsDone(path)):
        assert life.includes(A, RoundId(101)) and life.includes(RunId("run-100"), RoundId(1))
        assert not life.includes(RunId("run-0"), RoundId(1))


_NO_ROUNDS = (b"", b"\xff", b"[1]", b'{"a": "x"}')


@pytest.mark.parametrize(
    "damage", [*_NO_ROUNDS, *(hashlib.sha256(one).digest() + one for one in _NO_ROUNDS)]
)
def test_a_damaged_file_is_told_and_begun_anew(
    path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(damage)
    done = RoundsDone(path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text and "begun anew" in caplog.text
    assert not done.includes(A, RoundId(1))
    done.add(A, RoundId(1))
    assert RoundsDone(path).includes(A, RoundId(1))
