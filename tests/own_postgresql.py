"""A PostgreSQL of the tests' own: a real server from Debian's package, to stop, to kill, to start.

One for each process that runs tests; a database of its own for each test that asks for one. initdb
and the server refuse to run as root: then they run as the user `postgres` that the package made.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.brokers import is_required
from tests.own_broker import free_port
from tests.patience import WITHIN_S
from tests.programs import wait_until

USER, PASSWORD = "fedmqtt", "a secret of the tests"

_PROGRAMS = Path("/usr/lib/postgresql")


class NoServer(Exception):
    """Why there is none, in a sentence."""


@dataclass(slots=True)
class Server:
    port: int
    _data: Path
    _programs: Path
    _process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str = "postgres") -> str:
        """Without the password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        with (self._data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data)],
                cwd="/tmp",
                stderr=log,
                user=_as_whom(),
                group=_as_whom(),
            )
        wait_until(self._is_ready)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: it closes all connections, and ends in good order."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(WITHIN_S)
        # What a kill left: a new server waits until its sessions are gone.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def run(self, statement: str, database: str = "postgres") -> None:
        subprocess.run(
            [str(self._programs / "psql"), "-X", "-q", "-d", self.url(database), "-c", statement],
            check=True,
            env={**os.environ, "PGPASSWORD": PASSWORD},
        )

    @contextmanager
    def database(self) -> Iterator[str]:
        """Its address; gone with the block."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _is_ready(self) -> bool:
        asked = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0


@contextmanager
def running() -> Iterator[Server]:
    """Raises NoServer, with the reason, where none can be had."""
    programs = _newest_programs()
    if programs is None:
        raise NoServer("PostgreSQL is not installed here: `make setup-brokers` brings it")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        raise NoServer("PostgreSQL does not run as root, and there is no user postgres here")
    folder = Path(tempfile.mkdtemp(prefix="fedmqtt-postgresql-", dir="/tmp"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, secret):
                shutil.chown(path, "postgres")
        server = Server(free_port(), folder / "data", programs)
        by_password = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
        subprocess.run(
            [
                str(programs / "initdb"),
                "-D",
                str(server._data),
                "--no-sync",
                "-E",
                "UTF8",
                *by_password,
            ],
            check=True,
            cwd="/tmp",
            stdout=subprocess.DEVNULL,
            user=_as_whom(),
            group=_as_whom(),
        )
        with (server._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {server.port}\nlisten_addresses = '127.0.0.1'\n"
                f"unix_socket_directories = '{folder}'\nmax_connections = 50\n"
            )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with _running_or_skipped() as server:
        yield server


@pytest.fixture
def database(postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty one. Programs find its password where libpq looks for it."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgresql.database() as url:
        yield url


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One of the test's own, to stop; its password as above."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with _running_or_skipped() as server:
        yield server


@contextmanager
def _running_or_skipped() -> Iterator[Server]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except NoServer as lacking:
            if is_required("postgresql"):
                pytest.fail(str(lacking))
            pytest.skip(str(lacking))
        yield server


def _newest_programs() -> Path | None:
    found = [path.parent for path in _PROGRAMS.glob("*/bin/postgres")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _as_whom() -> str | None:
    """The user to be; None: who we are."""
    return "postgres" if os.geteuid() == 0 else None
