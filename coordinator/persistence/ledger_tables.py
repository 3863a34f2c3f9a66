"""The tables of a ledger, in the words of the database that it is written to.

All other statements of the ledger are SQL that SQLite and PostgreSQL read alike, with a question
mark for each value. What they say in different words is in a `Dialect`, and nowhere else.
"""

from dataclasses import dataclass

VERSION = 1
"""Of the tables below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    name: str
    """The type of a text that is compared byte by byte."""
    integer: str
    """Of 64 bits, as are the numbers with a point."""
    real: str
    data: str
    counter: str
    """A key that counts up by itself, and never comes again."""
    by_key: str = ""
    """Behind a table that is looked up by its key alone."""


SQLITE = Dialect(
    name="TEXT",
    integer="INTEGER",
    real="REAL",
    data="BLOB",
    counter="INTEGER PRIMARY KEY AUTOINCREMENT",
    by_key=" WITHOUT ROWID",
)
POSTGRESQL = Dialect(
    name='TEXT COLLATE "C"',
    integer="BIGINT",
    real="DOUBLE PRECISION",
    data="BYTEA",
    counter="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
)


def tables(dialect: Dialect) -> list[str]:
    """The statements by which they are made."""
    name, integer, data, by_key = dialect.name, dialect.integer, dialect.data, dialect.by_key
    return [
        f"CREATE TABLE fact (name {name} PRIMARY KEY, value {data} NOT NULL){by_key}",
        f"""CREATE TABLE round (
            number {integer} PRIMARY KEY,
            opening {data} NOT NULL,
            closes_in_s {dialect.real} NOT NULL,
            refusals {data},
            record {data}
        )""",
        f"""CREATE TABLE answer (
            came {dialect.counter},
            round {integer} NOT NULL,
            client {name} NOT NULL,
            message {data},
            file TEXT,
            counted_in {integer},
            UNIQUE (round, client)
        )""",
    ]


def later_tables(dialect: Dialect) -> list[str]:
    """Those that came later, where they are not there yet. A program that does not know them
    neither reads nor minds them."""
    name, integer, data, by_key = dialect.name, dialect.integer, dialect.data, dialect.by_key
    return [
        "CREATE TABLE IF NOT EXISTS client"
        f" (name {name} PRIMARY KEY, known {data} NOT NULL){by_key}",
        "CREATE TABLE IF NOT EXISTS participation"
        f" (name {name} PRIMARY KEY, count {integer} NOT NULL){by_key}",
        # Of what workers have added up: a round's sums, each a file of the ledger.
        "CREATE TABLE IF NOT EXISTS sum"
        f" (number {dialect.counter}, round {integer} NOT NULL, file TEXT NOT NULL)",
        # Files of the run's folder, for who goes on with the run in another one.
        "CREATE TABLE IF NOT EXISTS file"
        f" (name {name} PRIMARY KEY, digest TEXT NOT NULL, object TEXT){by_key}",
        "CREATE TABLE IF NOT EXISTS piece"
        f" (name {name}, number {integer}, data {data} NOT NULL, PRIMARY KEY (name, number))",
    ]


def later_columns(dialect: Dialect) -> dict[str, str]:
    """Of answers, likewise: types by name. One that is in a worker's sum (`summed`) has no message
    and no file."""
    return {"report": dialect.data, "author": dialect.data, "summed": dialect.integer}
