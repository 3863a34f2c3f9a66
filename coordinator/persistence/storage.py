"""What a ledger is written to: a database that holds one run, and is one program's alone.

Ledger ──▶ Storage ◀── SqliteStorage       a file in the run's folder
                   ◀── PostgresqlStorage   a schema on a server
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Database(Protocol):
    """Within one transaction."""

    def run(self, statement: str, values: Sequence[Any] = ()) -> None:
        """One statement, with a question mark for each value."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """What it finds."""

    def run_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """The same for each row of values."""


class Storage(Protocol):
    """Used by one thread at a time."""

    @property
    def name(self) -> str:
        """For people, in messages: never with a password."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether a program on another machine may go on from here: then what is needed of the
        run's folder has to be in it too."""

    def commit(self, work: Callable[[Database], None]) -> None:
        """All of what `work` writes, or nothing. When this returns, a loss of power would not lose
        it. Where the database went away in between, this waits for it and does the work again."""

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """What has been committed."""

    def explain(self, bad: BaseException) -> str:
        """What is wrong, in a sentence, where it was raised by one of these."""

    def is_damage(self, bad: BaseException) -> bool:
        """Whether to try again would not help."""

    def end_soon(self) -> None:
        """Wait no longer for a database that is away than it takes to come back from a restart."""

    def close(self) -> None: ...
