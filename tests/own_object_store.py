"""An S3-compatible store of the tests' own: SeaweedFS, a real one, from the wheel that brings it.

Its master, its volumes, its filer and its gateway are one process here, on loopback.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.brokers import is_required
from tests.own_broker import free_ports
from tests.patience import WITHIN_S
from tests.programs import wait_until

BUCKET = "tests"
"""A store makes volumes for each bucket: tests have a prefix each."""
ACCOUNT, SECRET = "fedmqtt-tests", "a-secret-of-the-tests"
_PORTS = ("master", "volume", "filer", "s3")


@dataclass(slots=True)
class Store:
    _folder: Path
    _ports: dict[str, int]
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def client(self) -> Any:
        # Here: all tests load this file, and few need a store.
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key=SECRET,
            config=Config(connect_timeout=1, retries={"max_attempts": 0}),
        )

    def start(self) -> None:
        ports = [f"-{name}={port}" for name, port in self._ports.items() if "." in name]
        ports += [f"-{name}.port={port}" for name, port in self._ports.items() if "." not in name]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(_program() or "", "server", f"-dir={self._folder / 'data'}", "-filer", "-s3"),
                    *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", *ports),
                    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
                    *("-volume.max=100", "-master.volumeSizeLimitMB=64"),
                    f"-s3.config={self._folder / 'accounts.json'}",
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(WITHIN_S)

    def keys(self, address: str) -> list[str]:
        """Below one that was given to a test, of what lies there."""
        prefix = urlsplit(address).path.lstrip("/")
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"].removeprefix(f"{prefix}/") for one in found.get("Contents", ())]

    def _is_ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            with suppress(self.client.exceptions.BucketAlreadyOwnedByYou):
                self.client.create_bucket(Bucket=BUCKET)
            # It answers before it has anywhere to put what comes.
            self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        except (BotoCoreError, ClientError):
            return False
        return True


@contextmanager
def running() -> Iterator[Store]:
    """Skips, with the reason, where there is no such program for this kind of machine."""
    if _program() is None:
        reason = "SeaweedFS is not installed here: `make install` brings it on x86-64 Linux"
        if is_required("seaweedfs"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="fedmqtt-seaweedfs-"))
    try:
        (folder / "data").mkdir()
        account = {
            "name": "tests",
            "credentials": [{"accessKey": ACCOUNT, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "accounts.json").write_text(json.dumps({"identities": [account]}))
        names = [*_PORTS, *(f"{name}.port.grpc" for name in _PORTS)]
        store = Store(folder, dict(zip(names, free_ports(len(names)), strict=True)))
        store.start()
        try:
            yield store
        finally:
            store.stop()
            for port in store._ports.values():
                # It was killed.
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def object_store() -> Iterator[Store]:
    with running() as store:
        yield store


@pytest.fixture
def own_object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """One of the test's own, to stop; its account as below."""
    _give_account(monkeypatch)
    with running() as store:
        yield store


@pytest.fixture
def store_address(object_store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """With nothing below it. Programs find its account where boto3 looks for it."""
    _give_account(monkeypatch)
    return new_address()


def new_address() -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


def _give_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def _program() -> str | None:
    # Beside Python, wherever the tests run without its environment in the PATH.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("weed", path=os.pathsep.join(places))
