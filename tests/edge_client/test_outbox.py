"""An answer in the outbox is whole or it is not there, and it stays until it is forgotten."""

import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.outbox import AnswerLost, Outbox, sweep
from edge_client.session import Answer
from fedmqtt.topics import Digest, RoundId, RunId
from tests.edge_client.little_disk import little_disk

RUN = RunId("2026-01-31.a-1")


def _put(
    outbox: Outbox, number: int, data: bytes = b"what was learned", run: RunId = RUN
) -> Answer:
    return outbox.put(run, RoundId(number), [data])


def test_an_answer_is_kept_whole_under_its_name_and_digest(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state" / "outbox")
    pieces: list[bytes | memoryview] = [b"what ", memoryview(b"was "), b"learned"]
    answer = outbox.put(RUN, RoundId(3), pieces)
    digest = hashlib.sha256(b"what was learned").hexdigest()
    assert answer == Answer(RUN, RoundId(3), Digest(digest), 16)
    assert [path.name for path in outbox.folder.iterdir()] == [f"{RUN}-3-{digest}.answer"]
    assert outbox.read(answer) == b"what was learned"
    assert outbox.piece(answer, 5, 8) == b"was"


def test_the_next_life_finds_answers_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answers = {number: _put(outbox, number) for number in (10, 9, 100, 0)}
    found, damaged = Outbox(tmp_path).answers()
    assert found == tuple(answers[number] for number in (0, 9, 10, 100))
    assert damaged == ()


@pytest.mark.parametrize(
    "name", ["r", "2026-01-31", "a-1", "a-1-2", "7", "x" * 128, "a-", "-".join("0" * 64)[:128]]
)
def test_a_run_is_read_from_a_file_s_name_whatever_hyphens_are_in_it(
    tmp_path: Path, name: str
) -> None:
    run = RunId(name)
    answer = _put(Outbox(tmp_path), 12, run=run)
    assert Outbox(tmp_path).answers() == ((answer,), ())
    assert answer.run == run


def test_rounds_of_two_runs_are_two_answers(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    first, second = _put(outbox, 1, run=RunId("a")), _put(outbox, 1, run=RunId("b"))
    assert outbox.answers() == ((first, second), ())
    outbox.forget(first)
    assert outbox.answers() == ((second,), ())


def test_an_answer_is_settled_and_then_still_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    outbox.settle(answer)
    assert outbox.answers() == ((answer,), ())


def test_what_is_settled_has_reached_the_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the folder, the file would be whole after a loss of power, and not be found."""
    forced: list[Path] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        fsync(file)
        forced.append(Path(f"/proc/self/fd/{file}").readlink())

    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    monkeypatch.setattr(os, "fsync", watched)
    outbox.settle(answer)
    assert forced == [tmp_path / f"{RUN}-1-{answer.digest}.answer", tmp_path]


def test_a_forgotten_answer_is_gone_and_may_be_forgotten_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    outbox.forget(answer)
    outbox.forget(answer)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "7.4711.part").write_bytes(b"half")
    assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_swept_away_is_named_and_hinders_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.part").mkdir()
    (tmp_path / "b.part").write_bytes(b"half")
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    assert sweep(tmp_path) == [f"{tmp_path / 'a.part'}: Is a directory"]
    assert outbox.answers() == ((answer,), ())
    assert not (tmp_path / "b.part").exists()


def test_damaged_files_are_set_aside_and_named(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    whole, hurt = _put(outbox, 1), _put(outbox, 2)
    path = tmp_path / f"{RUN}-2-{hurt.digest}.answer"
    path.write_bytes(b"")
    (tmp_path / "notes.answer").write_bytes(b"mine")
    (tmp_path / f"{RUN}-3-{hurt.digest}.answer").mkdir()
    found, damaged = outbox.answers()
    assert found == (whole,)
    names = {"notes.damaged", *(f"{RUN}-{number}-{hurt.digest}.damaged" for number in (2, 3))}
    assert {path.name for path in damaged} == names
    assert all(path.exists() for path in damaged)
    # They are told of once.
    assert outbox.answers() == ((whole,), ())


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    (tmp_path / "folder.damaged").mkdir()
    for number in range(1, 13):
        (tmp_path / f"{number}.answer").write_bytes(b"nothing of ours")
        (aside,) = outbox.answers()[1]
        # A clock of our own: that of a file system may not tell two of them apart.
        os.utime(aside, (number, number))
    os.utime(tmp_path / "folder.damaged", (0, 0))
    (tmp_path / "13.answer").write_bytes(b"nothing of ours")
    outbox.answers()
    # The newest ten, and what is not ours to remove.
    names = [*(f"{number}.damaged" for number in range(4, 14)), "folder.damaged"]
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_damaged_files_do_not_fill_the_disk_either(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number, size in enumerate((1, 30, 30, 30, 200, 60, 1)):
        path = tmp_path / f"{number}.answer"
        path.write_bytes(b"")
        os.truncate(path, size * 1024 * 1024)
        (aside,) = outbox.answers()[1]
        # Also one that is larger than all may be: somebody has just been told of it.
        assert aside.exists()
        os.utime(aside, (number, number))
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["5.damaged", "6.damaged"]


def test_an_answer_that_is_gone_or_has_changed_is_lost_for_good(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    gone, changed, short, hidden = (_put(outbox, number) for number in (1, 2, 3, 4))
    paths = {one: tmp_path / f"{RUN}-{one.round}-{one.digest}.answer" for one in (gone, changed)}
    paths[gone].unlink()
    with pytest.raises(AnswerLost, match=r"answer: No such file or directory"):
        outbox.read(gone)
    with pytest.raises(AnswerLost, match=r"answer: No such file or directory"):
        outbox.piece(gone, 0, 5)
    with pytest.raises(AnswerLost, match=r"answer: No such file or directory"):
        outbox.settle(gone)
    paths[changed].write_bytes(b"what was forgot.")
    with pytest.raises(AnswerLost, match="its bytes have changed"):
        outbox.read(changed)
    assert paths[changed].with_suffix(".damaged").exists(), "set aside"
    os.truncate(tmp_path / f"{RUN}-3-{short.digest}.answer", 10)
    assert outbox.piece(short, 5, 10) == b"was l"
    with pytest.raises(AnswerLost, match="it is shorter than it was"):
        outbox.piece(short, 5, 11)
    assert outbox.answers() == ((hidden,), ())


def test_a_piece_that_has_changed_is_noticed_before_the_last_one_leaves(tmp_path: Path) -> None:
    """Nobody who is sent only pieces could tell which of them it is, and asks for all again."""
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    path = tmp_path / f"{RUN}-1-{answer.digest}.answer"
    whole = outbox.reading(answer)
    assert [whole.piece(0, 7), whole.piece(7, 14), whole.piece(14, 16)] == [
        b"what wa",
        b"s learn",
        b"ed",
    ]
    path.write_bytes(b"what was lEarned")
    through = outbox.reading(answer)
    assert through.piece(0, 7) == b"what wa"
    through.piece(7, 14)
    with pytest.raises(AnswerLost, match="its bytes have changed"):
        through.piece(14, 16)
    assert path.with_suffix(".damaged").exists()


def test_who_asks_for_some_pieces_is_given_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    some = outbox.reading(answer)
    assert [some.piece(0, 4), some.piece(9, 16)] == [b"what", b"learned"]
    last = outbox.reading(answer)
    assert last.piece(9, 16) == b"learned"


def test_what_can_be_mended_is_not_lost(tmp_path: Path) -> None:
    """Too many open files: it passes, and the answer is sent the next time."""
    outbox = Outbox(tmp_path)
    answer = _put(outbox, 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            outbox.read(answer)
        with pytest.raises(OSError, match="Too many open files"):
            outbox.piece(answer, 0, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert outbox.read(answer) == b"what was learned"


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
        Outbox(tmp_path).put(RUN, RoundId(1), pieces())
    assert list(tmp_path.iterdir()) == []


def test_an_answer_larger_than_memory_needs_little_of_it(tmp_path: Path) -> None:
    """It is written and checked in pieces, so a device may have less memory than disk."""
    outbox = Outbox(tmp_path)
    piece = bytes(1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = outbox.put(RUN, RoundId(1), (piece for _ in range(200)))
    assert outbox.answers() == ((answer,), ())
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 50 * 1024
