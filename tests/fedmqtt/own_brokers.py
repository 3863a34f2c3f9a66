"""Brokers that a test has for itself: to restart, to configure, to put behind a door."""

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker_config import leash
from broker_config.child import running
from broker_config.mosquitto import find_mosquitto

KINDS = ["mosquitto", "embedded"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def own_broker(kind: str, folder: Path, port: int, settings: Sequence[str] = ()) -> Iterator[str]:
    """A broker on this port for the duration of the block: its URL. `settings` are Mosquitto's."""
    command, ready = _mosquitto(folder, port, settings) if kind == "mosquitto" else _embedded(port)
    with running(command, folder / f"broker-{port}.log", re.compile(ready)):
        yield f"mqtt://127.0.0.1:{port}"


def _embedded(port: int) -> tuple[list[str], str]:
    pytest.importorskip("amqtt", reason="the embedded broker is not installed here")
    module = [sys.executable, "-m", "broker_config.embedded"]
    return [*module, "--port", str(port), "--until-stdin-closes"], "ready on port"


def _mosquitto(folder: Path, port: int, settings: Sequence[str]) -> tuple[list[str], str]:
    executable = find_mosquitto()
    if executable is None:
        pytest.skip("Mosquitto is not installed here")
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "log_type all",
        *(["user root"] if os.geteuid() == 0 else []),
        *settings,
    ]
    config = folder / f"mosquitto-{port}.conf"
    config.write_text("\n".join([*lines, ""]))
    return [
        sys.executable,
        leash.__file__,
        str(executable),
        "-c",
        str(config),
    ], "version .* running"


class Door:
    """A way to a broker that is shut to the first few who come: they are let in and thrown out."""

    def __init__(self, url: str, thrown_out: int) -> None:
        address = urlsplit(url)
        assert address.hostname is not None and address.port is not None
        self._behind = (address.hostname, address.port)
        self._left = thrown_out
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._server]
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        for each in self._open:
            # Wakes the threads that wait in it; `close` alone would not.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._open.append(client)
                if self._left:
                    self._left -= 1
                    # Not before it has spoken: what it says must not be the reason.
                    client.recv(4096)
                    client.close()
                    continue
                broker = socket.create_connection(self._behind)
                self._open.append(broker)
                for source, sink in ((client, broker), (broker, client)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)
