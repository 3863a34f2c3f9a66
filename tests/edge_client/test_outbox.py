"""An answer in the outbox is whole or it is not there, and it stays until it is forgotten."""

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.outbox import Outbox
from edge_client.session import Answer
from fedmqtt.topics import Digest, RoundId
from tests.edge_client.little_disk import little_disk


def _put(outbox: Outbox, number: int, data: bytes = b"what was learned") -> Answer:
    return outbox.put(RoundId(number), [data])


def test_an_answer_is_kept_whole_under_its_round_and_digest(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state" / "outbox")
    pieces: list[bytes | memoryview] = [b"what ", memoryview(b"was "), b"learned"]
    answer = outbox.put(RoundId(3), pieces)
    digest = hashlib.sha256(b"what was learned").hexdigest()
    assert answer == Answer(RoundId(3), Digest(digest), 16)
    assert [path.name for path in outbox.folder.iterdir()] == [f"3-{digest}.answer"]
    assert outbox.read(answer) == b"what was learned"
    with outbox.open(answer) as file:
        assert file.read() == b"what was learned"


def test_the_next_life_finds_answers_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answers = {number: _put(outbox, number) for number in (10, 9, 100, 0)}
    found, damaged = Outbox(tmp_path).answers()
    assert found == tuple(answers[number] for number in (0, 9, 10, 100))
    assert damaged == ()


def test_an_answer_is_settled_and_then_still_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    outbox.settle(answer)
    assert outbox.answers() == ((answer,), ())


def test_a_forgotten_answer_is_gone_and_may_be_forgotten_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    outbox.forget(answer)
    outbox.forget(answer)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "7.4711.part").write_bytes(b"half")
    assert Outbox(tmp_path).answers() == ((), ())
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_set_aside_and_named(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    whole, hurt = _put(outbox, 1), _put(outbox, 2)
    path = tmp_path / f"2-{hurt.digest}.answer"
    path.write_bytes(b"")
    (tmp_path / "notes.answer").write_bytes(b"mine")
    (tmp_path / f"3-{hurt.digest}.answer").mkdir()
    found, damaged = outbox.answers()
    assert found == (whole,)
    names = {"notes.damaged", f"2-{hurt.digest}.damaged", f"3-{hurt.digest}.damaged"}
    assert {path.name for path in damaged} == names
    assert all(path.exists() for path in damaged)
    # They are told of once.
    assert outbox.answers() == ((whole,), ())


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with little_disk(1000), pytest.raises(OSError, match="File too large"):
        _put(outbox, 1, bytes(2000))
    assert list(tmp_path.iterdir()) == []
    assert _put(outbox, 1, bytes(2000)).size_bytes == 2000


def test_an_answer_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Outbox(tmp_path).put(RoundId(1), pieces())
    assert list(tmp_path.iterdir()) == []


def test_an_answer_larger_than_memory_needs_little_of_it(tmp_path: Path) -> None:
    """It is written and checked in pieces, so a device may have less memory than disk."""
    outbox = Outbox(tmp_path)
    piece = bytes(1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = outbox.put(RoundId(1), (piece for _ in range(200)))
    assert outbox.answers() == ((answer,), ())
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 50 * 1024
