"""A broker that the test plays by hand, to do what real ones do only sometimes."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.patience import WITHIN_S

CONNACK_5 = b"\x20\x03\x00\x00\x00"
CONNACK_311 = b"\x20\x02\x00\x00"
CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 10, 12, 14


@dataclass(frozen=True, slots=True)
class Packet:
    kind: int
    body: bytes

    @property
    def protocol_level(self) -> int:
        """Of a CONNECT: 5, or 4 for 3.1.1."""
        return self.body[6]

    @property
    def mid(self) -> int:
        """Of a SUBSCRIBE, or a PUBLISH at QoS 1."""
        start = 2 + int.from_bytes(self.body[:2]) if self.kind == PUBLISH else 0
        return int.from_bytes(self.body[start : start + 2])


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(WITHIN_S)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def receive(self) -> Packet:
        kind = self._exactly(1)[0] >> 4
        length = shift = 0
        while (digit := self._exactly(1)[0]) & 0x80:
            length |= (digit & 0x7F) << shift
            shift += 7
        return Packet(kind, self._exactly(length | digit << shift))

    def has_more(self) -> bool:
        return _is_readable(self._sock)

    def hang_up(self) -> None:
        self._sock.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            assert more, "the client has hung up"
            data += more
        return data


class StubBroker:
    """Accepts into the kernel's queue; what a client sends waits there until the test looks."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"

    def accept(self, meanwhile: Callable[[], None]) -> Connection:
        """The next connection; until it comes the client's loop must go on."""
        give_up_at = time.monotonic() + WITHIN_S
        while not _is_readable(self._server):
            assert time.monotonic() < give_up_at, "nobody connects"
            meanwhile()
        return Connection(self._server.accept()[0])

    def has_caller(self) -> bool:
        """Whether somebody waits to be accepted."""
        return _is_readable(self._server)

    def close(self) -> None:
        self._server.close()


def _is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.fixture
def stub() -> Iterator[StubBroker]:
    stub = StubBroker()
    yield stub
    stub.close()


def suback(mid: int, *codes: int) -> bytes:
    """Of MQTT 5."""
    return bytes([0x90, 3 + len(codes)]) + mid.to_bytes(2) + b"\x00" + bytes(codes)


def puback(mid: int) -> bytes:
    return b"\x40\x02" + mid.to_bytes(2)
