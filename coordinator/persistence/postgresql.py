"""Connections to PostgreSQL: how one is made, whether it was lost, what was wrong in a sentence.

No password is known here. libpq, which psycopg stands on, finds it by itself: in PGPASSWORD, in
the file that PGPASSFILE names, or in ~/.pgpass.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import TupleRow

from coordinator.persistence import ledger_url

# That a transaction could not be rolled back where there is no server any more is no news.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Connection = psycopg.Connection[TupleRow]

_DEFAULTS: dict[str, Any] = {
    "application_name": "fedmqtt coordinator",
    "connect_timeout": 10,
    # A cable that was pulled is noticed within half a minute, from both of its ends.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    # Of several hosts, the one that is no read-only copy.
    "target_session_attrs": "read-write",
}
_FROM_ITS_SIDE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
    # Between two rounds there may be hours, and the lock is the session's.
    "idle_session_timeout": "0",
}
_HINTS = (
    ("no password supplied", "give it in ~/.pgpass or PGPASSWORD"),
    ("password authentication failed", "what ~/.pgpass or PGPASSWORD gives is not its password"),
    ("database", "does not exist", "make it: createdb"),
    ("permission denied", "the user needs CREATE on the database"),
)

_OF_EACH_HOST = "Multiple connection attempts failed. All failures were:\n"
_PREFIX = re.compile(
    r"^(- host: .*?, hostaddr: \S+: )?"
    r"((connection failed|connection is bad|consuming input failed): )?"
)
"""What psycopg puts before libpq's own words."""
_SEVERITY = re.compile(r"\b(FATAL|ERROR|PANIC): +")

_LOST_CLASSES = ("08", "57P")
"""SQLSTATE: of the connection; of a server that is being stopped or started."""
_READ_ONLY = "25006"
"""What was the primary has become a copy."""


def connect(url: str) -> Connection:
    """Raises psycopg.Error."""
    asked = conninfo.conninfo_to_dict(url)
    db = psycopg.connect(
        url, autocommit=True, **{k: v for k, v in _DEFAULTS.items() if k not in asked}
    )
    try:
        for name, value in _FROM_ITS_SIDE.items():
            # Older servers do not know all of them.
            known = "SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s"
            db.execute(known, (value, name))
        # Whatever this server's default is: what is receipted must be on a disk.
        (level,) = db.execute("SELECT current_setting('synchronous_commit')").fetchone() or ("",)
        if level == "off":
            db.execute("SET synchronous_commit TO on")
    except psycopg.Error:
        db.close()
        raise
    return db


def is_lost(bad: BaseException, db: Connection | None) -> bool:
    """Whether to try again with another connection may help."""
    if not isinstance(bad, psycopg.Error):
        return False
    state = bad.sqlstate or ""
    if state == _READ_ONLY or (db is not None and db.closed):
        return True
    if not isinstance(bad, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return db is None or state.startswith(_LOST_CLASSES)


def sentence(bad: BaseException) -> str:
    """What it says, as one sentence without its full stop, with what to do where that is known."""
    said = "; ".join(_parts(bad)) or repr(bad)
    for *words, hint in _HINTS:
        if all(word in said for word in words):
            return f"{said}; {hint}"
    return said


def _parts(bad: BaseException) -> Iterator[str]:
    """Of what it says, without where in a statement that is, and what libpq guesses."""
    if isinstance(bad, psycopg.Error) and bad.diag.message_primary:
        told = [bad.diag.message_primary, bad.diag.message_detail, bad.diag.message_hint]
    else:
        # Of several hosts the last is told first, and then each.
        first, _, each = str(bad).partition(_OF_EACH_HOST)
        # (Guesses are on lines of their own, behind a tab.)
        told = [line for line in (each or first).splitlines() if not line.startswith("\t")]
    for number, part in enumerate(_once(filter(None, map(_clean, filter(None, told))))):
        yield part if number == 0 else _as_a_part(part)


def _clean(said: str) -> str:
    said = _PREFIX.sub("", " ".join(said.split()))
    return _SEVERITY.sub("", said).rstrip(".")


def _as_a_part(said: str) -> str:
    """Not as the beginning of a sentence, unless it begins with a name in capitals."""
    return said if said[:2].isupper() else said[0].lower() + said[1:]


def _once(said: Iterable[str]) -> Iterable[str]:
    """In that order: by each address of one host the same may be said."""
    return dict.fromkeys(said)


def name(url: str) -> str:
    return ledger_url.shown(url)
