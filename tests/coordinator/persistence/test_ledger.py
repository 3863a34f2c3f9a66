"""The ledger, in each database: what was written is there when who wrote it is gone."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

import coordinator
from coordinator.known import Known, Report
from coordinator.persistence import ledgers
from coordinator.persistence.ledger import Kept, Listed, Names, Refusals
from coordinator.persistence.run_errors import LedgerError
from fedmqtt.envelope import Author
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.ledger_books import (
    BEGINNING,
    CARRIED,
    CHECKPOINT,
    NEXT,
    Books,
    books,
    kept,
    named,
    opening,
    record,
)
from tests.patience import WITHIN_S

__all__ = ["books"]


def test_a_new_ledger_holds_nothing(books: Books) -> None:
    with books.opened() as book:
        assert book.beginning() is None
        assert book.epoch() == 0
        assert book.open_round_now() is None
        assert book.records() == []
    assert not books.is_unfinished


def test_what_is_known_of_clients_and_what_answers_told_comes_back_to_the_last_bit(
    books: Books,
) -> None:
    books.begin()
    third = 1 / 3
    ann = Known(invited=2, answered=1, took_s=(third, 0.1 + 0.2), samples=7, loss=third)
    bob, cat = Known(label="phone"), Known(invited=1)
    told = Report(samples=9, loss=third, took_s=0.1 + 0.2)
    with books.opened() as book:
        book.open_round(RoundId(1), opening())
        learned = {ClientId("ann"): ann, ClientId("bob"): bob, ClientId("cat"): Known()}
        book.close_round(record(1), (), CARRIED, CHECKPOINT, learned)
        book.open_round(RoundId(2), opening())
        changed = {ClientId("bob"): None, ClientId("cat"): cat}
        book.close_round(record(2), (), CARRIED, CHECKPOINT, changed)
        book.open_round(RoundId(3), opening("ann", "cat"))
        book.keep(Kept(named("ann", 3), message=b"1", report=told), 40.0, None)
        book.keep(kept("cat", 3), 40.0, None)
    with books.opened() as book:
        assert book.known() == {"ann": ann, "cat": cat}
        assert [one.report for one in book.kept()] == [told, None]


def test_who_signed_an_answer_comes_back_with_it(books: Books) -> None:
    books.begin()
    author = Author(b"k" * 32, b"t" * 64)
    signed = Kept(named("ann"), message=b"1", author=author)
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(signed, 40.0, None)
        book.keep(kept("bob"), 40.0, None)
    with books.opened() as book:
        assert [one.author for one in book.kept()] == [author, None]


def test_what_a_run_has_in_common_comes_back_to_the_last_bit(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.take_epoch(7)
    with books.opened() as book:
        assert book.beginning() == BEGINNING
        assert book.carried() == CARRIED
        assert book.checkpoint() == CHECKPOINT
        assert book.epoch() == 7


def test_a_run_is_unfinished_from_its_beginning_to_its_end(books: Books) -> None:
    assert not ledgers.is_unfinished(books.folder / "nowhere", books.among)
    books.begin()
    assert books.is_unfinished
    with books.opened() as book:
        assert books.is_unfinished, "also while its coordinator runs"
        book.finish()
        assert book.is_finished()
    assert not books.is_unfinished


def test_an_open_round_comes_back_with_its_answers_in_their_order(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob", "cat"))
        book.keep(kept("cat", message=b"1"), 50.0, None)
        book.keep(kept("ann", message=b"2"), 40.0, None)
        refusals = Refusals(declined={ClientId("bob"): "on battery"}, rejected={})
        book.refuse(RoundId(1), refusals)
    with books.opened() as book:
        found = book.open_round_now()
        assert found is not None
        assert (found.number, found.opening) == (1, opening("ann", "bob", "cat"))
        assert found.closes_in_s == 40.0
        assert found.refusals == refusals
        assert [(one.named.client, one.read()) for one in book.kept()] == [
            ("cat", b"1"),
            ("ann", b"2"),
        ]


def test_a_large_answer_stays_a_file_and_goes_with_its_round(books: Books) -> None:
    books.begin()
    part = books.folder / "arrived"
    part.write_bytes(b"large")
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann"))
        book.keep(Kept(named("ann"), file=part), 50.0, None)
    assert not part.exists()
    with books.opened() as book:
        (answer,) = book.kept()
        assert answer.read() == b"large"
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert list(book.kept()) == []
        assert list(book.answers_folder.iterdir()) == []
        assert book.checkpoint() == NEXT


def test_a_workers_sum_is_kept_with_the_names_of_its_answers(books: Books) -> None:
    books.begin()
    ann, bob = Report(3, 0.5, 1.0), Report(4, None, None)
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob", "cat"))
        book.keep(kept("cat"), 50.0, None)
        (books.folder / "s-1.sum").write_bytes(b"a sum")
        told: list[Names] = []
        answers = [(named("ann"), ann), (named("bob"), bob)]
        book.keep_sum(answers, books.folder / "s-1.sum", 40.0, told.append)
        book.open_round_now()
        assert told == [(named("ann"), named("bob"))]
    with books.opened() as book:
        book.tidy()
        (path,) = book.sums(RoundId(1))
        assert path.read_bytes() == b"a sum"
        found = list(book.kept())
        assert [(one.named, one.report, one.is_summed) for one in found] == [
            (named("cat"), None, False),
            (named("ann"), ann, True),
            (named("bob"), bob, True),
        ]
        round_ = book.open_round_now()
        assert round_ is not None and round_.closes_in_s == 40.0
        # It is used up with its round, and its answers are remembered.
        book.close_round(record(1, "ann", "bob", "cat"), (), CARRIED, NEXT)
        assert book.sums(RoundId(1)) == [] and not path.exists()
        assert list(book.kept()) == []
        ((_, _, answered),) = book.closed_rounds()
        assert answered == {"ann", "bob", "cat"}


def test_a_file_that_no_line_tells_of_is_removed(books: Books) -> None:
    books.begin()
    (books.folder / "answers" / "1-ann").write_bytes(b"a crash came before the commit")
    with books.opened() as book:
        book.tidy()
        assert list(book.answers_folder.iterdir()) == []


def test_who_came_into_a_round_that_is_shut_is_remembered_with_it(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann"))
        book.keep(kept("bob"), 50.0, None)
        book.shut(RoundId(1), {ClientId("cat"), ClientId("bob"), ClientId("ann")})
    shut = structs.replace(opening("ann"), shut_with=["ann", "bob", "cat"])
    with books.opened() as book:
        found = book.open_round_now()
        assert found is not None and found.opening == shut
        assert [one.named.client for one in book.kept()] == ["bob"]
        book.close_round(record(1, "bob"), (), CARRIED, NEXT)
        book.open_round(RoundId(2), opening("ann"))
    with books.opened() as book:
        assert book.closed_rounds() == [(1, shut, frozenset({"bob"}))]
        found = book.open_round_now()
        assert found is not None and found.opening == opening("ann")


def test_a_closed_round_is_remembered_by_who_answered(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("ann"), 50.0, None)
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert book.open_round_now() is None
        assert book.records() == [record(1, "ann")]
        assert book.closed_rounds() == [(1, opening("ann", "bob"), frozenset({"ann"}))]


def test_a_late_answer_waits_until_a_round_takes_it_up(books: Books) -> None:
    books.begin()
    with books.opened() as book:
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
    books: Books,
) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("ann"), 50.0, None)
        # The machine has closed the round, and the next model is being made.
        book.keep(kept("bob"), None, None)
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        assert [one.named for one in book.kept()] == [named("bob")]


def test_answers_of_old_rounds_are_forgotten_and_held_ones_are_not(books: Books) -> None:
    books.begin()
    with books.opened() as book:
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


def test_nobody_is_told_before_it_is_written(books: Books) -> None:
    seen: list[int] = []
    told = threading.Event()

    def look(_names: Names) -> None:
        # Another connection, as after a crash: it sees what was committed and nothing else.
        seen.append(books.answers_committed())
        told.set()

    with books.opened() as book:
        book.keep(kept("ann"), None, look)
        assert told.wait(WITHIN_S)
    assert seen == [1]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from coordinator import ledgers
from coordinator.config import FederationConfig
from coordinator.persistence.ledger import Kept, Ledger
from coordinator.rounds import Named
config = FederationConfig(name="fleet", task="digits", ledger={ledger!r})
folder = Path({folder!r})
place = ledgers.of(config, lambda: False).take(folder)
book = Ledger(folder, lambda action: action(), storage=place.storage)
def stored(names):
    os.write(1, b"stored\\n" * len(names))
for number in range(1000):
    book.keep(Kept(Named(f"c{{number}}", 1), message=b"x" * 1000), None, stored)
    if number == 500:
        os.write(1, b"half\\n")
signal.pause()
"""


@pytest.mark.parametrize("lines", [1, 40, 400])
def test_every_answer_that_was_told_of_survives_kill_9(books: Books, lines: int) -> None:
    books.begin()
    root = Path(coordinator.__file__).parent.parent
    code = KILLED.format(root=str(root), ledger=books.config.ledger, folder=str(books.folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines(keepends=True)
    with books.opened() as book:
        survived = [one.named.client for one in book.kept()]
    assert survived == [f"c{number}" for number in range(len(survived))], "none in between lost"
    assert len(survived) >= sum(line == b"stored\n" for line in told)


def test_closing_writes_what_waits(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        for number in range(100):
            book.keep(kept(f"c{number}"), None, None)
    with books.opened() as book:
        assert len(list(book.kept())) == 100


def test_the_last_evaluation_is_the_end(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening())
        last = structs.replace(record(1), outcome="evaluated")
        book.close_round(last, (), CARRIED, CHECKPOINT)
    assert not books.is_unfinished


def test_an_answer_that_is_set_aside_is_used_up_and_remembered(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.close_round(record(1, "ann"), (), CARRIED, NEXT)
        book.keep(kept("bob"), None, None)
        book.set_aside([named("bob")])
        assert list(book.kept()) == []
        assert [answered for _, _, answered in book.closed_rounds()] == [{"bob"}]


def test_what_the_writer_cannot_make_sense_of_ends_the_wait_too(books: Books) -> None:
    books.begin()
    failures: list[LedgerError] = []
    with books.opened(failures.append) as book:
        # No text that SQLite could store: an error that is none of its own.
        book.keep(kept("\ud800"), None, None)
        with pytest.raises(LedgerError, match="surrogates not allowed"):
            book.epoch()
    assert len(failures) == 1


def test_a_ledger_that_is_closed_says_so(books: Books) -> None:
    books.begin()
    with books.opened() as book:
        pass
    with pytest.raises(LedgerError, match="has been closed"):
        book.take_epoch(7)


def test_a_list_of_a_program_of_before_had_been_asked_for() -> None:
    """It asked at once: no other list may come in the place of that one."""
    written = b'{"round":3,"reason":"all answered","digest":"ab","clients":["ann"]}'
    listed = msgspec.json.decode(written, type=Listed)
    assert (listed.looks, listed.unfit) == (False, {})
