"""The ledger on a real PostgreSQL: who lost its run writes no more; a server may be away."""

import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from coordinator.config import FederationConfig
from coordinator.persistence import ledgers, postgresql
from coordinator.persistence.ledger import Kept, Ledger, Names
from coordinator.persistence.postgresql_storage import PostgresqlStorage
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError, LedgerTaken, RunInUse
from coordinator.persistence.storage import Database
from fedmqtt.settings import SettingsError
from fedmqtt.topics import RoundId
from tests.coordinator.ledger_books import (
    BEGINNING,
    CARRIED,
    CHECKPOINT,
    NEXT,
    Books,
    at_once,
    books_at,
    kept,
    named,
    opening,
    record,
)
from tests.own_postgresql import PASSWORD, Server
from tests.programs import wait_until


@pytest.fixture
def book_keeper(database: str, tmp_path: Path) -> Iterator[Books]:
    with books_at(database, tmp_path) as books:
        yield books


def test_one_program_at_a_time_has_a_run(book_keeper: Books) -> None:
    with book_keeper.opened():
        assert not book_keeper.among.may_be_free(book_keeper.folder)
        with pytest.raises(RunInUse, match=r"fleet-20300101-000000 in .* is in use by .*, process"):
            book_keeper.among.take(book_keeper.folder)
    assert book_keeper.among.may_be_free(book_keeper.folder)


def test_what_was_accepted_on_one_machine_is_found_on_another(
    book_keeper: Books, tmp_path: Path
) -> None:
    book_keeper.begin()
    arrived = tmp_path / "arrived"
    large = bytes(range(256)) * 10_000
    arrived.write_bytes(large)
    with book_keeper.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        book.keep(kept("ann", message=b"small"), 50.0, None)
        book.keep(Kept(named("bob"), file=arrived), 40.0, None)
    other = tmp_path / "other" / book_keeper.folder.name
    with book_keeper.opened(folder=other) as book:
        assert [one.read() for one in book.kept()] == [b"small", large]
        book.close_round(record(1, "ann", "bob"), (), CARRIED, NEXT)
        assert book.files() == {}, "used up, and forgotten"


def test_what_workers_handed_over_on_one_machine_is_found_on_another(
    book_keeper: Books, tmp_path: Path
) -> None:
    book_keeper.begin()
    with book_keeper.opened() as book:
        book.open_round(RoundId(1), opening("ann", "bob"))
        for number, client in ((1, "ann"), (2, "bob")):
            arrived = tmp_path / f"{number}.sum"
            arrived.write_bytes(client.encode() * 1_000_000)
            book.keep_sum([(named(client), None)], arrived, 40.0, None)
    other = tmp_path / "other" / book_keeper.folder.name
    with book_keeper.opened(folder=other) as book:
        found = book.sums(RoundId(1))
        assert [path.parent for path in found] == [book.answers_folder] * 2
        assert [path.read_bytes()[:3] for path in found] == [b"ann", b"bob"]
        assert [path.stat().st_size for path in found] == [3_000_000] * 2
        # What is in use is no leftover.
        book.tidy()
        assert all(path.exists() for path in found) and len(book.files()) == 2
        book.close_round(record(1, "ann", "bob"), (), CARRIED, NEXT)
        assert book.files() == {} and not any(path.exists() for path in found)


def keep_what_came(books: Books, folder: Path) -> None:
    """An answer of bob's, as a file."""
    books.begin()
    arrived = folder / "arrived"
    arrived.write_bytes(b"what came")
    with books.opened() as book:
        book.keep(Kept(named("bob"), file=arrived), None, None)


def test_another_file_of_that_name_is_not_taken_for_the_answer(
    book_keeper: Books, tmp_path: Path
) -> None:
    keep_what_came(book_keeper, tmp_path)
    (book_keeper.folder / "answers" / "1-bob").write_bytes(b"what a crash left here")
    with book_keeper.opened() as book:
        (answer,) = book.kept()
        assert answer.read() == b"what came"


def test_a_piece_that_was_changed_on_the_server_is_found_out(
    book_keeper: Books, tmp_path: Path
) -> None:
    keep_what_came(book_keeper, tmp_path)
    arrived_at = book_keeper.folder / "answers" / "1-bob"
    arrived_at.unlink()
    with psycopg.connect(book_keeper.config.ledger) as db:
        db.execute("UPDATE fedmqtt_run_1.piece SET data = 'something else'")
    with book_keeper.opened() as book:
        with pytest.raises(LedgerDamaged, match="answers/1-bob is not the file that was written"):
            list(book.kept())
        assert not arrived_at.exists()


def test_who_lost_its_run_cannot_write_any_more(book_keeper: Books, tmp_path: Path) -> None:
    book_keeper.begin()
    failures: list[LedgerError] = []
    told: list[Names] = []
    other = tmp_path / "other" / book_keeper.folder.name
    with book_keeper.opened(failures.append) as first:
        first.open_round(RoundId(1), opening("ann", "bob"))
        storage = first._storage
        assert isinstance(storage, PostgresqlStorage)
        # As when the server has given up on a connection that its client thinks well of.
        storage._db.execute("SELECT pg_advisory_unlock_all()")
        with book_keeper.opened(folder=other) as second:
            second.keep(kept("bob"), None, None)
            first.keep(kept("ann"), None, told.append)
            with pytest.raises(LedgerTaken, match="has gone on with the run meanwhile"):
                first.take_epoch(7)
            assert [one.named for one in second.kept()] == [named("bob")]
    assert told == []
    assert [type(one) for one in failures] == [LedgerTaken]


def test_a_run_that_never_began_leaves_nothing(book_keeper: Books) -> None:
    with book_keeper.opened():
        pass
    with psycopg.connect(book_keeper.config.ledger) as db:
        assert db.execute("SELECT name FROM fedmqtt.run").fetchall() == []
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'fedmqtt%'"
        assert db.execute(schemas).fetchall() == [("fedmqtt",)]


def test_runs_are_found_newest_first_and_those_of_others_are_not(
    book_keeper: Books, tmp_path: Path
) -> None:
    for name in ("fleet-20300102-000000", "fleet-20300101-000000", "fleet-b-20300103-000000"):
        with book_keeper.opened(folder=tmp_path / "runs" / name) as book:
            book.begin(BEGINNING, CARRIED, CHECKPOINT)
    found = [folder.name for folder in book_keeper.among.newest_first(book_keeper.config)]
    assert found == ["fleet-20300102-000000", "fleet-20300101-000000"]
    with books_at(book_keeper.config.ledger, _made(tmp_path / "b")) as same:
        assert ledgers.has_begun(same.folder, same.among), "on another machine, by its name"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=str)
def test_while_the_server_is_away_nothing_is_confirmed_and_then_all_is(
    own_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: signal.Signals
) -> None:
    caplog.set_level(logging.INFO)
    told: list[str] = []

    def hear(names: Names) -> None:
        told.extend(one.client for one in names)

    with books_at(own_server.url(), tmp_path) as books:
        books.begin()
        with books.opened() as book:
            book.keep(kept("ann"), None, hear)
            book.epoch()
            own_server.stop(how)
            for client in ("bob", "cat"):
                book.keep(kept(client), None, hear)
            wait_until(lambda: "nothing is acknowledged until it is back" in caplog.text)
            assert told == ["ann"]
            own_server.start()
            book.take_epoch(7)
            assert told == ["ann", "bob", "cat"]
            assert book.epoch() == 7
        assert "is back after" in caplog.text
        with books.opened() as book:
            assert [one.named.client for one in book.kept()] == ["ann", "bob", "cat"]
    assert PASSWORD not in caplog.text


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    book_keeper: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    book_keeper.begin()
    with book_keeper.opened() as book:
        storage = book._storage
        assert isinstance(storage, PostgresqlStorage)
        works: list[int] = []

        def work(db: Database) -> None:
            works.append(len(works))
            db.run("INSERT INTO answer (round, client, message) VALUES (1, 'ann', NULL)")

        lost = _losing_the_answer_of_a_commit(storage, monkeypatch)
        storage.commit(work)
        assert lost.is_set()
        assert works == [0]
        assert storage.rows("SELECT client FROM answer") == [("ann",)]
        book.take_epoch(7)


def _losing_the_answer_of_a_commit(
    storage: PostgresqlStorage, monkeypatch: pytest.MonkeyPatch
) -> threading.Event:
    """The server has committed, and its answer does not arrive."""
    lost = threading.Event()
    real = storage._db.transaction

    class Losing:
        def __init__(self) -> None:
            self._inner = real()

        def __enter__(self) -> None:
            self._inner.__enter__()

        def __exit__(self, *raised: object) -> None:
            self._inner.__exit__(None, None, None)
            storage._db.close()
            lost.set()
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(storage._db, "transaction", Losing)
    return lost


def test_a_copy_without_what_was_confirmed_is_found_out(own_server: Server, tmp_path: Path) -> None:
    with books_at(own_server.url(), tmp_path) as books:
        books.begin()
        with books.opened() as book:
            book.take_epoch(7)
            own_server.stop()
            own_server.start()
            # As a copy that had not got the last transactions.
            own_server.run("UPDATE fedmqtt.run SET written = written - 1")
            with pytest.raises(LedgerDamaged, match="is older than what it had confirmed"):
                book.take_epoch(8)


def test_who_is_stopped_meanwhile_says_that_the_server_is_away(
    own_server: Server, tmp_path: Path
) -> None:
    stopped = threading.Event()
    config = FederationConfig(name="fleet", task="digits", ledger=own_server.url())
    among = ledgers.of(config, stopped.is_set)
    place = among.take(tmp_path / "fleet-20300101-000000")
    book = Ledger(tmp_path / "fleet-20300101-000000", at_once, storage=place.storage)
    own_server.stop()
    threading.Timer(0.5, stopped.set).start()
    with pytest.raises(LedgerError, match=r"is away: .*Connection refused"):
        book.take_epoch(7)
    book.close()
    place.release()
    among.close()
    own_server.start()


def test_a_standby_lets_who_had_the_run_come_back_to_a_server_that_was_away(
    own_server: Server, tmp_path: Path
) -> None:
    with books_at(own_server.url(), tmp_path) as books:
        books.begin()
        with books.opened() as book:
            own_server.stop()
            own_server.start()
            assert not books.among.may_be_free(books.folder), "nobody has its lock right now"
            book.take_epoch(7)
            assert not books.among.may_be_free(books.folder)


def _url(server: Server, **changed: str) -> str:
    parts = {"user": "fedmqtt", "port": str(server.port), "database": "postgres"} | changed
    return "postgresql://{user}@127.0.0.1:{port}/{database}".format(**parts)


def assert_one_sentence(said: str) -> None:
    """To which others add: what to do, or a full stop."""
    assert not re.search(
        r"[\n\t^]|  |[.?!:;]$|[.?!;:][.?!;:]|[.?!] [A-Z]|FATAL|DETAIL|LINE \d", said
    ), said


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'connection failed: connection to server at "db", port 5432 failed: Connection refused'
            "\n\tIs the server running on that host and accepting TCP/IP connections?",
            'connection to server at "db", port 5432 failed: Connection refused',
        ),
        (
            "consuming input failed: server closed the connection unexpectedly\n\tThis probably"
            " means the server terminated abnormally\n\tbefore or while processing the request.",
            "server closed the connection unexpectedly",
        ),
        (
            'connection failed: connection to server at "b", port 2 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?\n"
            "Multiple connection attempts failed. All failures were:\n"
            "- host: 'a', port: '1', hostaddr: '10.0.0.1': connection failed: connection to server"
            ' at "a", port 1 failed: FATAL:  the database system is starting up\n'
            "- host: 'b', port: '2', hostaddr: '10.0.0.2': connection failed: connection to server"
            ' at "b", port 2 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?",
            'connection to server at "a", port 1 failed: the database system is starting up;'
            ' connection to server at "b", port 2 failed: Connection refused',
        ),
        (
            'connection is bad: root certificate file "/r.crt" does not exist\n'
            "Either provide the file, or change sslmode to disable server certificate"
            " verification.",
            'root certificate file "/r.crt" does not exist; either provide the file, or change'
            " sslmode to disable server certificate verification",
        ),
        ('invalid URI query parameter: "nonsense"\n', 'invalid URI query parameter: "nonsense"'),
        ("", "OperationalError('')"),
    ],
)
def test_what_the_driver_says_is_made_one_sentence(said: str, told: str) -> None:
    assert postgresql.sentence(psycopg.OperationalError(said)) == told
    assert_one_sentence(told)


def test_what_the_server_says_is_made_one_sentence(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("CREATE TABLE t (a INTEGER UNIQUE)")
        db.execute("INSERT INTO t VALUES (1)")
        for statement, told in (
            ("SELECT * FROM nothing", 'relation "nothing" does not exist'),
            (
                "INSERT INTO t VALUES (1)",
                'duplicate key value violates unique constraint "t_a_key"; key (a)=(1) already'
                " exists",
            ),
        ):
            with pytest.raises(psycopg.Error) as bad:
                db.execute(statement)
            assert postgresql.sentence(bad.value) == told


@pytest.mark.parametrize(
    ("changed", "password", "complaint"),
    [
        ({"port": "1"}, PASSWORD, "Connection refused"),
        ({"database": "nowhere"}, PASSWORD, 'database "nowhere" does not exist; make it: createdb'),
        ({}, "wrong-word", "password authentication failed.*~/.pgpass or PGPASSWORD"),
        ({}, "", "no password supplied; give it in ~/.pgpass or PGPASSWORD"),
        ({"port": "many"}, PASSWORD, 'value "many" for connection option "port"'),
    ],
    ids=["no server", "no database", "wrong password", "no password", "no port"],
)
def test_what_is_wrong_with_the_way_to_the_server_is_said_in_a_sentence(
    postgresql: Server,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    password: str,
    complaint: str,
) -> None:
    monkeypatch.setenv("PGPASSWORD", password)
    url = _url(postgresql, **changed)
    config = FederationConfig(name="fleet", task="digits", ledger=url)
    with pytest.raises((SettingsError, LedgerError), match=complaint) as found:
        ledgers.of(config, lambda: False)
    said = str(found.value)
    assert said.startswith(f"ledger {url}: ")
    assert_one_sentence(said)
    assert not password or password not in said


def test_a_user_that_may_make_nothing_is_told_what_it_needs(
    postgresql: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database.rpartition("/")[2]
    postgresql.run("DROP ROLE IF EXISTS guest")
    postgresql.run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    monkeypatch.setenv("PGPASSWORD", "guest")
    config = FederationConfig(
        name="fleet", task="digits", ledger=_url(postgresql, user="guest", database=name)
    )
    try:
        with pytest.raises(SettingsError, match="the user needs CREATE on the database"):
            ledgers.of(config, lambda: False)
    finally:
        monkeypatch.setenv("PGPASSWORD", PASSWORD)


def test_tables_of_another_version_are_refused(book_keeper: Books) -> None:
    book_keeper.begin()
    with psycopg.connect(book_keeper.config.ledger) as db:
        db.execute("UPDATE fedmqtt_run_1.version SET number = 99")
    with (
        pytest.raises(LedgerError, match=re.escape("its tables have version 99, not 1")),
        book_keeper.opened(),
    ):
        pass


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_without_the_driver_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith("coordinator.persistence.postgresql")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    config = FederationConfig(name="fleet", task="digits", ledger="postgresql://ann@server/fleet")
    with pytest.raises(SettingsError, match=r"needs what `pip install 'fedmqtt\[postgresql\]'`"):
        ledgers.of(config, lambda: False)
