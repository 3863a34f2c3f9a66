"""The ledger on a real disk: what is written is there after the process that wrote it is gone."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from coordinator import ledger, pacing
from coordinator.history import Record
from coordinator.known import Known, Report
from coordinator.ledger import (
    Beginning,
    Carried,
    Checkpoint,
    Kept,
    Ledger,
    Listed,
    Names,
    Opening,
    Refusals,
)
from coordinator.rounds import Named
from coordinator.run_errors import LedgerError
from fedmqtt.envelope import Author
from fedmqtt.messages import ModelRef
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.patience import WITHIN_S

BOUNDS = pacing.Bounds(
    over_selection=1.0,
    over_selection_min=1.0,
    over_selection_max=2.0,
    deadline_s=60.0,
    deadline_min_s=30.0,
    deadline_max_s=60.0,
)
BEGINNING = Beginning(run=RunId("run-1"), task="digits", tensors=[("w", [2, 3]), ("b", [3])])
CARRIED = Carried(pace=pacing.begin(BOUNDS), late=3, typical_s=0.1 + 0.2)
CHECKPOINT = Checkpoint(file="models/0.safetensors", digest=Digest("a" * 64), trained_rounds=0)
NEXT = Checkpoint(file="models/1.safetensors", digest=Digest("b" * 64), trained_rounds=1)
MODEL = ModelRef(
    digest=Digest("a" * 64), size_bytes=36, chunk_bytes=1024, fingerprint="fingerprint"
)


def opening(*train: str) -> Opening:
    return Opening(
        model=MODEL,
        train=[ClientId(name) for name in train],
        evaluate=[],
        deadline_s=60.0,
        terms_max=len(train),
        settings="{}",
    )


def record(number: int, *answered: str) -> Record:
    return Record(
        round=RoundId(number),
        closed="2030-01-01T00:00:00+00:00",
        outcome="averaged",
        reason="cohort complete",
        base=MODEL.digest,
        invited=[ClientId(name) for name in answered],
        answered=[ClientId(name) for name in answered],
        dropped=[],
        declined={},
        rejected={},
        evaluated=[],
        late_updates=0,
        duration_s=1.5,
        samples=10,
        train_metrics={"loss": 0.1 + 0.2},
        figures=None,
        bytes_received=1,
        bytes_published=2,
    )


def named(client: str, number: int = 1) -> Named:
    return Named(ClientId(client), RoundId(number))


def kept(client: str, number: int = 1, message: bytes = b"bytes") -> Kept:
    return Kept(named(client, number), message=message)


def at_once(action: Callable[[], None]) -> None:
    """In the writer's thread, for tests that only look at what was written."""
    action()


@contextmanager
def opened(
    folder: Path, on_failure: Callable[[LedgerError], None] = lambda failure: None
) -> Iterator[Ledger]:
    book = Ledger(folder, at_once, on_failure)
    try:
        yield book
    finally:
        book.close()


def begun(folder: Path) -> None:
    with opened(folder) as book:
        book.begin(BEGINNING, CARRIED, CHECKPOINT)


def test_a_new_ledger_holds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        assert book.beginning() is None
        assert book.epoch() == 0
        assert book.open_round_now() is None
        assert book.records() == []
    assert not ledger.is_unfinished(tmp_path)


def test_what_is_known_of_clients_and_what_answers_told_comes_back_to_the_last_bit(
    tmp_path: Path,
) -> None:
    begun(tmp_path)
    third = 1 / 3
    ann = Known(invited=2, answered=1, took_s=(third, 0.1 + 0.2), samples=7, loss=third)
    bob, cat = Known(label="phone"), Known(invited=1)
    told = Report(samples=9, loss=third, took_s=0.1 + 0.2)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening())
        learned = {ClientId("ann"): ann, ClientId("bob"): bob, ClientId("cat"): Known()}
        book.close_round(record(1), (), CARRIED, CHECKPOINT, learned)
        book.open_round(RoundId(2), opening())
        changed = {ClientId("bob"): None, ClientId("cat"): cat}
        book.close_round(record(2), (), CARRIED, CHECKPOINT, changed)
        book.open_round(RoundId(3), opening("ann", "cat"))
        book.keep(Kept(named("ann", 3), message=b"1", report=told), 40.0, None)
        book.keep(kept("cat", 3), 40.0, None)
    with opened(tmp_path) as book:
        assert book.known() == {"ann": ann, "cat": cat}
        assert [one.report for one in book.kept()] == [told, None]


def test_a_ledger_of_before_that_was_kept_is_gone_on_with(tmp_path: Path) -> None:
    tmp_path.joinpath("answers").mkdir()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        db.executescript(f"{ledger._TABLES} PRAGMA user_version = {ledger.VERSION};")
        db.execute("INSERT INTO answer (round, client, message) VALUES (1, 'ann', x'31')")
        db.commit()
    for _ in range(2):
        with opened(tmp_path) as book:
            assert book.known() == {}
            assert list(book.kept()) == [Kept(named("ann"), message=b"1")]


def test_who_signed_an_answer_comes_back_with_it(tmp_path: Path) -> None:
    begun(tmp_path)
    author = Author(b"k" * 32, b"t" * 64)
    signed = Kept(named("ann"), message=b"1", author=author)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(signed, 40.0, None)
        book.keep(kept("bob"), 40.0, None)
    with opened(tmp_path) as book:
        assert [one.author for one in book.kept()] == [author, None]


def test_what_a_run_has_in_common_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.take_epoch(7)
    with opened(tmp_path) as book:
        assert book.beginning() == BEGINNING
        assert book.carried() == CARRIED
        assert book.checkpoint() == CHECKPOINT
        assert book.epoch() == 7


def test_a_run_is_unfinished_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    assert not ledger.is_unfinished(tmp_path / "nowhere")
    begun(tmp_path)
    assert ledger.is_unfinished(tmp_path)
    with opened(tmp_path) as book:
        assert ledger.is_unfinished(tmp_path), "also while its coordinator runs"
        book.finish()
        assert book.is_finished()
    assert not ledger.is_unfinished(tmp_path)


def test_an_open_round_comes_back_with_its_answers_in_their_order(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob", "cat"))
        book.keep(kept("cat", message=b"1"), 50.0, None)
        book.keep(kept("ann", message=b"2"), 40.0, None)
        refusals = Refusals(declined={ClientId("bob"): "on battery"}, rejected={})
        book.refuse(RoundId(1), refusals)
    with opened(tmp_path) as book:
        found = book.open_round_now()
        assert found is not None
        assert (found.number, found.opening) == (1, opening("ann", "bob", "cat"))
        assert found.closes_in_s == 40.0
        assert found.refusals == refusals
        assert [(one.named.client, one.read()) for one in book.kept()] == [
            ("cat", b"1"),
            ("ann", b"2"),
        ]


def test_a_large_answer_stays_a_file_and_goes_with_its_round(tmp_path: Path) -> None:
    begun(tmp_path)
    part = tmp_path / "arrived"
    part.write_bytes(b"large")
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann"))
        book.keep(Kept(named("ann"), file=part), 50.0, None)
    assert not part.exists()
    with opened(tmp_path) as book:
        (answer,) = book.kept()
        assert answer.read() == b"large"
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert list(book.kept()) == []
        assert list(book.answers_folder.iterdir()) == []
        assert book.checkpoint() == NEXT


def test_a_workers_sum_is_kept_with_the_names_of_its_answers(tmp_path: Path) -> None:
    ann, bob = Report(3, 0.5, 1.0), Report(4, None, None)
    with opened(tmp_path) as first:
        first.begin(BEGINNING, CARRIED, CHECKPOINT)
        first.open_round(RoundId(1), opening("ann", "bob", "cat"))
        first.keep(kept("cat"), 50.0, None)
        (tmp_path / "s-1.sum").write_bytes(b"a sum")
        told: list[Names] = []
        answers = [(named("ann"), ann), (named("bob"), bob)]
        first.keep_sum(answers, tmp_path / "s-1.sum", 40.0, told.append)
        first.open_round_now()
        assert told == [(named("ann"), named("bob"))]
    with opened(tmp_path) as again:
        again.tidy()
        (path,) = again.sums(RoundId(1))
        assert path.read_bytes() == b"a sum"
        found = list(again.kept())
        assert [(one.named, one.report, one.is_summed) for one in found] == [
            (named("cat"), None, False),
            (named("ann"), ann, True),
            (named("bob"), bob, True),
        ]
        round_ = again.open_round_now()
        assert round_ is not None and round_.closes_in_s == 40.0
        # It is used up with its round, and its answers are remembered.
        again.close_round(record(1, "ann", "bob", "cat"), (), CARRIED, NEXT)
        assert again.sums(RoundId(1)) == [] and not path.exists()
        assert list(again.kept()) == []
        ((_, _, answered),) = again.closed_rounds()
        assert answered == {"ann", "bob", "cat"}


def test_a_file_that_no_line_tells_of_is_removed(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "answers" / "1-ann").write_bytes(b"a crash came before the commit")
    with opened(tmp_path) as book:
        book.tidy()
        assert list(book.answers_folder.iterdir()) == []


def test_who_came_into_a_round_that_is_shut_is_remembered_with_it(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann"))
        book.keep(kept("bob"), 50.0, None)
        book.shut(RoundId(1), {ClientId("cat"), ClientId("bob"), ClientId("ann")})
    shut = structs.replace(opening("ann"), shut_with=["ann", "bob", "cat"])
    with opened(tmp_path) as book:
        found = book.open_round_now()
        assert found is not None and found.opening == shut
        assert [one.named.client for one in book.kept()] == ["bob"]
        book.close_round(record(1, "bob"), (), CARRIED, NEXT)
        book.open_round(RoundId(2), opening("ann"))
    with opened(tmp_path) as book:
        assert book.closed_rounds() == [(1, shut, frozenset({"bob"}))]
        found = book.open_round_now()
        assert found is not None and found.opening == opening("ann")


def test_a_closed_round_is_remembered_by_who_answered(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("ann"), 50.0, None)
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert book.open_round_now() is None
        assert book.records() == [record(1, "ann")]
        assert book.closed_rounds() == [(1, opening("ann", "bob"), frozenset({"ann"}))]


def test_a_late_answer_waits_until_a_round_takes_it_up(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.close_round(record(1), (), CARRIED, CHECKPOINT)
        book.open_round(RoundId(2), opening("ann"))
        book.keep(kept("bob", 1), 50.0, None)
        book.keep(kept("ann", 2), 40.0, None)
        book.close_round(record(2, "ann"), (), CARRIED, NEXT)
        assert [one.named for one in book.kept()] == [named("bob", 1)]
        book.open_round(RoundId(3), opening("ann"))
        book.close_round(record(3), (named("bob", 1),), CARRIED, NEXT)
        assert list(book.kept()) == []
        counted = {number: answered for number, _, answered in book.closed_rounds()}
        assert counted == {1: {"bob"}, 2: {"ann"}, 3: set()}


def test_an_answer_that_came_when_its_round_had_just_closed_waits_for_another(
    tmp_path: Path,
) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("ann"), 50.0, None)
        # The machine has closed the round, and the next model is being made.
        book.keep(kept("bob"), None, None)
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert [one.named for one in book.kept()] == [named("bob")]


def test_answers_of_old_rounds_are_forgotten_and_held_ones_are_not(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        for number in range(1, 40):
            book.open_round(RoundId(number), opening("ann", "bob"))
            book.keep(kept("ann", number), 50.0, None)
            book.close_round(record(number, "ann"), (), CARRIED, NEXT)
            if number == 1:
                book.keep(kept("bob", 1), None, None)
        closed = book.closed_rounds()
        assert [number for number, _, _ in closed] == list(range(24, 40))
        assert all(answered == {"ann"} for _, _, answered in closed)
        assert [one.named for one in book.kept()] == [named("bob", 1)]
        assert len(book.records()) == 39


def test_what_waits_while_one_group_is_written_is_written_together(tmp_path: Path) -> None:
    begun(tmp_path)
    told: list[list[str]] = []
    first_is_written, go_on, all_told = threading.Event(), threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        action()
        if not first_is_written.is_set():
            first_is_written.set()
            assert go_on.wait(WITHIN_S)

    def hear(names: Names) -> None:
        told.append([str(one.client) for one in names])

    book = Ledger(tmp_path, post)
    book.keep(kept("ann"), None, hear)
    assert first_is_written.wait(WITHIN_S)
    for client in ("bob", "cat", "dan"):
        book.keep(kept(client), None, hear)
    book.keep(kept("eve"), None, lambda _names: all_told.set())
    before = changes(tmp_path)
    go_on.set()
    assert all_told.wait(WITHIN_S)
    assert told == [["ann"], ["bob", "cat", "dan"]], "once for each transaction"
    assert changes(tmp_path) == before + 1, "one transaction for four answers"
    book.close()


def changes(folder: Path) -> int:
    """Commits that the write-ahead log holds: frames that end a transaction."""
    log = (folder / "ledger.db-wal").read_bytes()
    page = int.from_bytes(log[8:12])
    salt, frames = log[16:24], range(32, len(log), 24 + page)
    live = [log[start : start + 24] for start in frames if log[start + 8 : start + 16] == salt]
    return sum(int.from_bytes(frame[4:8]) != 0 for frame in live)


def test_nobody_is_told_before_it_is_written(tmp_path: Path) -> None:
    begun(tmp_path)
    seen: list[int] = []
    told = threading.Event()

    def look(_names: Names) -> None:
        # Another connection, as after a crash: it sees what was committed and nothing else.
        with opened(tmp_path) as other:
            seen.append(len(list(other.kept())))
        told.set()

    with opened(tmp_path) as book:
        book.keep(kept("ann"), None, look)
        assert told.wait(WITHIN_S)
    assert seen == [1]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from coordinator.ledger import Kept, Ledger
from coordinator.rounds import Named
book = Ledger(Path({folder!r}), lambda action: action())
def stored(names):
    os.write(1, b"stored\\n" * len(names))
for number in range(1000):
    book.keep(Kept(Named(f"c{{number}}", 1), message=b"x" * 1000), None, stored)
    if number == 500:
        os.write(1, b"half\\n")
signal.pause()
"""


@pytest.mark.parametrize("lines", [1, 40, 400])
def test_every_answer_that_was_told_of_survives_kill_9(tmp_path: Path, lines: int) -> None:
    begun(tmp_path)
    root = Path(ledger.__file__).parent.parent
    code = KILLED.format(root=str(root), tests=str(root / "tests"), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines(keepends=True)
    with opened(tmp_path) as book:
        survived = [one.named.client for one in book.kept()]
    assert survived == [f"c{number}" for number in range(len(survived))], "none in between lost"
    assert len(survived) >= sum(line == b"stored\n" for line in told)


def test_a_full_disk_is_told_and_nothing_is_confirmed(tmp_path: Path) -> None:
    begun(tmp_path)
    failures: list[LedgerError] = []
    failed = threading.Event()

    def on_failure(failure: LedgerError) -> None:
        failures.append(failure)
        failed.set()

    told: list[str] = []
    with opened(tmp_path, on_failure) as book:
        # SQLite's own limit stands for a disk that is full: the error is the same.
        book._connection.execute("PRAGMA max_page_count = 12")
        book.keep(
            kept("ann", message=b"x" * 1_000_000), None, lambda names: told.append(str(names))
        )
        assert failed.wait(WITHIN_S)
        assert told == []
        assert "ledger.db" in str(failures[0]) and "full" in str(failures[0])
        with pytest.raises(LedgerError, match="full"):
            book.keep(kept("bob"), None, None)
        with pytest.raises(LedgerError, match="full"):
            book.epoch()
    with opened(tmp_path) as book:
        assert list(book.kept()) == []


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is no database, " * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db: file is not a database"):
        Ledger(tmp_path, at_once)
    assert ledger.is_unfinished(tmp_path), "it is for the coordinator to say what is wrong with it"


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        book._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="version 99, not 1"):
        Ledger(tmp_path, at_once)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("in the way")
    with pytest.raises(LedgerError, match=r"ledger\.db"):
        Ledger(tmp_path, at_once)


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        for number in range(100):
            book.keep(kept(f"c{number}"), None, None)
    with opened(tmp_path) as book:
        assert len(list(book.kept())) == 100


def test_the_last_evaluation_is_the_end(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening())
        last = structs.replace(record(1), outcome="evaluated")
        book.close_round(last, (), CARRIED, CHECKPOINT)
    assert not ledger.is_unfinished(tmp_path)


def test_an_answer_that_is_set_aside_is_used_up_and_remembered(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        book.keep(kept("bob"), None, None)
        book.set_aside([named("bob")])
        assert list(book.kept()) == []
        assert [answered for _, _, answered in book.closed_rounds()] == [{"bob"}]


def test_refusals_that_wait_are_written_once(tmp_path: Path) -> None:
    begun(tmp_path)
    first_is_written, go_on = threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        first_is_written.set()
        assert go_on.wait(WITHIN_S)

    statements: list[str] = []
    book = Ledger(tmp_path, post)
    book.open_round(RoundId(1), opening("ann"))
    book.keep(kept("bob"), None, lambda _names: None)
    assert first_is_written.wait(WITHIN_S)
    book._connection.set_trace_callback(statements.append)
    for number in range(100):
        refused = {ClientId(f"c{one}"): "too far" for one in range(number + 1)}
        book.refuse(RoundId(1), Refusals(declined={}, rejected=refused))
    go_on.set()
    found = book.open_round_now()
    assert found is not None and len(found.refusals.rejected) == 100
    book._connection.set_trace_callback(None)
    book.close()
    assert sum("SET refusals" in statement for statement in statements) == 1


def test_a_disk_that_is_gone_ends_the_wait(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    begun(folder)
    part = tmp_path / "arrived"
    part.write_bytes(b"large")
    first_is_written, go_on = threading.Event(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        first_is_written.set()
        assert go_on.wait(WITHIN_S)

    book = Ledger(folder, post)
    book.keep(kept("bob"), None, lambda _names: None)
    assert first_is_written.wait(WITHIN_S)
    book.keep(Kept(named("ann"), file=part), None, None)
    shutil.rmtree(folder)
    go_on.set()
    with pytest.raises(LedgerError, match="No such file"):
        book.take_epoch(7)
    book.close()


def test_what_the_writer_cannot_make_sense_of_ends_the_wait_too(tmp_path: Path) -> None:
    begun(tmp_path)
    failures: list[LedgerError] = []
    with opened(tmp_path, failures.append) as book:
        # No text that SQLite could store: an error that is none of its own.
        book.keep(kept("\ud800"), None, None)
        with pytest.raises(LedgerError, match="surrogates not allowed"):
            book.epoch()
    assert len(failures) == 1


def test_a_ledger_that_is_closed_says_so(tmp_path: Path) -> None:
    begun(tmp_path)
    with opened(tmp_path) as book:
        pass
    with pytest.raises(LedgerError, match="has been closed"):
        book.take_epoch(7)


@pytest.mark.parametrize("name", ["50% done", "a#b", "what?", "ä b"])
def test_a_run_is_found_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    begun(folder)
    with opened(folder) as book:
        book.finish()
    assert ledger.has_begun(folder) and not ledger.is_unfinished(folder)


def test_a_list_of_a_program_of_before_had_been_asked_for() -> None:
    """It asked at once: no other list may come in the place of that one."""
    written = b'{"round":3,"reason":"all answered","digest":"ab","clients":["ann"]}'
    listed = msgspec.json.decode(written, type=Listed)
    assert (listed.looks, listed.unfit) == (False, {})
