"""A run's ledger for tests, in each database that there is; and small things to write into it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator import pacing
from coordinator.config import FederationConfig
from coordinator.persistence import ledger_url, ledgers
from coordinator.persistence.history import Record
from coordinator.persistence.ledger import Beginning, Carried, Checkpoint, Kept, Ledger, Opening
from coordinator.persistence.ledgers import Ledgers
from coordinator.persistence.run_errors import LedgerError
from coordinator.rounds import Named
from fedmqtt.messages import ModelRef
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

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


Post = Callable[[Callable[[], None]], None]


def _ignore(_failure: LedgerError) -> None:
    """A test that fails otherwise where there is one."""


@dataclass(frozen=True, slots=True)
class Books:
    """Of one run."""

    folder: Path
    config: FederationConfig
    among: Ledgers

    @contextmanager
    def opened(
        self,
        on_failure: Callable[[LedgerError], None] = _ignore,
        post: Post = at_once,
        folder: Path | None = None,
    ) -> Iterator[Ledger]:
        """As by a program that goes on with the run, in its folder or in another of that name."""
        place = self.among.take(folder or self.folder)
        try:
            book = Ledger(folder or self.folder, post, on_failure, storage=place.storage)
            try:
                yield book
            finally:
                book.close()
        finally:
            place.release()

    def begin(self) -> None:
        with self.opened() as book:
            book.begin(BEGINNING, CARRIED, CHECKPOINT)

    @property
    def is_unfinished(self) -> bool:
        return ledgers.is_unfinished(self.folder, self.among)

    def answers_committed(self) -> int:
        """How many another program sees."""
        asked = "SELECT count(*) FROM"
        if self.config.ledger == ledger_url.IN_FOLDERS:
            with closing(sqlite3.connect(self.folder / "ledger.db")) as book:
                ((count,),) = book.execute(f"{asked} answer").fetchall()
        else:
            # Here: others take small things from this file.
            import psycopg

            with closing(psycopg.connect(self.config.ledger)) as server:
                # The first run in its database.
                ((count,),) = server.execute(f"{asked} fedmqtt_run_1.answer").fetchall()
        return int(count)


@contextmanager
def books_at(ledger: str, folder: Path) -> Iterator[Books]:
    """`ledger` as in the settings."""
    config = FederationConfig(name="fleet", task="digits", runs=str(folder), ledger=ledger)
    among = ledgers.of(config, lambda: False)
    run = folder / "fleet-20300101-000000"
    run.mkdir()
    try:
        yield Books(run, config, among)
    finally:
        among.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    """In each kind of database."""
    in_folder = request.param == "sqlite"
    with books_at(
        "sqlite" if in_folder else request.getfixturevalue("database"), tmp_path
    ) as found:
        yield found
