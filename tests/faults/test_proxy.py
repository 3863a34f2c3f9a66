"""The proxy with real sockets: a client before it, a server that echoes or collects behind it."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from time import monotonic
from urllib.parse import urlsplit

import pytest

from tests.faults.proxy import Deliver, Proxy, proxy_to
from tests.patience import WITHIN_S
from tests.programs import wait_until


class Server:
    """Takes connections, sends back what it is sent if it is an `echo`, and remembers all of it."""

    def __init__(self, *, echo: bool) -> None:
        self._echo = echo
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = bytearray()
        self.ended = threading.Semaphore(0)
        """Released for each connection that has ended."""
        self.resets = 0
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self.connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def wait_for_end(self) -> None:
        assert self.ended.acquire(timeout=WITHIN_S)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                self.received += data
                if self._echo:
                    connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except ConnectionResetError:
            self.resets += 1
        except OSError:
            return
        finally:
            self.ended.release()


@contextmanager
def between(
    *, echo: bool = True, deliver: Callable[[], Deliver] | None = None
) -> Iterator[tuple[Proxy, Server]]:
    with closing(Server(echo=echo)) as server, proxy_to(server.url, deliver) as proxy:
        yield proxy, server


def connect(proxy: Proxy) -> socket.socket:
    port = urlsplit(proxy.url).port
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), WITHIN_S)


def receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, f"ended after {len(data)} of {count} bytes"
        data += more
    return data


def test_what_goes_in_comes_out_and_an_end_is_passed_on() -> None:
    sent = bytes(range(256)) * 4000
    with between() as (proxy, server), connect(proxy) as client:
        # In another thread: neither side has room for all of it.
        threading.Thread(target=client.sendall, args=(sent,), daemon=True).start()
        assert receive(client, len(sent)) == sent
        assert (proxy.passed("up"), proxy.passed("down")) == (len(sent), len(sent))
        client.shutdown(socket.SHUT_WR)
        server.wait_for_end()
        assert client.recv(1) == b""
        assert server.resets == 0


def test_a_cut_resets_both_ends_and_who_comes_back_is_let_in() -> None:
    with between() as (proxy, server), connect(proxy) as client:
        client.sendall(b"one")
        assert receive(client, 3) == b"one"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        server.wait_for_end()
        assert (server.resets, proxy.cut_count) == (1, 1)
        with connect(proxy) as again:
            again.sendall(b"two")
            assert receive(again, 3) == b"two"


def test_while_it_refuses_nobody_listens_and_afterwards_at_the_same_port() -> None:
    with between() as (proxy, _), connect(proxy) as client:
        client.sendall(b"one")
        assert receive(client, 3) == b"one"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.let_in()
        with connect(proxy) as again:
            again.sendall(b"two")
            assert receive(again, 3) == b"two"


def test_who_comes_while_the_broker_is_away_is_turned_down() -> None:
    with between() as (proxy, server):
        server.close()
        # It may see that as soon as it has connected.
        with pytest.raises(ConnectionResetError), connect(proxy) as client:
            client.recv(1)


def test_half_open_means_that_neither_side_hears_anything_not_even_an_end() -> None:
    with between() as (proxy, server), connect(proxy) as client:
        client.sendall(b"heard")
        assert receive(client, 5) == b"heard"
        proxy.swallow()
        client.sendall(b"swallowed")
        client.shutdown(socket.SHUT_WR)
        with connect(proxy) as late:
            late.sendall(b"swallowed too")
            wait_until(lambda: len(server.connections) == 2)
            proxy.swallow(False)
            with connect(proxy) as after:
                after.sendall(b"!")
                # By the time this has made its way, the others would have.
                assert receive(after, 1) == b"!"
                assert bytes(server.received) == b"heard!"
                assert not server.ended.acquire(blocking=False)


def test_a_cut_can_be_set_to_a_byte() -> None:
    with between(echo=False) as (proxy, server), connect(proxy) as client:
        alarm = proxy.cut_after(71_000, "up")
        with suppress(OSError):
            client.sendall(b"y" * 500_000)
        assert alarm.wait(WITHIN_S)
        server.wait_for_end()
        assert len(server.received) == proxy.passed("up") == 71_000
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)


def test_an_alarm_rings_at_its_byte_and_not_before() -> None:
    with between() as (proxy, _), connect(proxy) as client:
        alarm = proxy.ring_after(10, "down")
        client.sendall(b"123456789")
        assert receive(client, 9) == b"123456789"
        assert not alarm.wait(0)
        client.sendall(b"0")
        assert alarm.wait(WITHIN_S)
        assert receive(client, 1) == b"0"


def test_a_throttled_way_takes_at_least_its_time() -> None:
    with between(echo=False) as (proxy, server), connect(proxy) as client:
        proxy.throttle(200_000)
        began = monotonic()
        client.sendall(b"x" * 60_000)
        client.shutdown(socket.SHUT_WR)
        server.wait_for_end()
        assert len(server.received) == 60_000
        # A lower bound, which no slow machine can break: 60 kB at 200 kB/s, less the last slice.
        assert monotonic() - began >= 0.25


def test_a_delayed_way_takes_longer_and_keeps_the_order() -> None:
    with between() as (proxy, _), connect(proxy) as client:
        proxy.delay(0.1)
        began = monotonic()
        for number in range(100):
            client.sendall(bytes([number]))
        assert receive(client, 100) == bytes(range(100))
        # There and back.
        assert monotonic() - began >= 0.2


def test_what_comes_from_the_broker_can_be_disturbed_piece_by_piece() -> None:
    def backwards() -> Deliver:
        def deliver(data: bytes) -> Iterable[tuple[float, bytes]]:
            now = monotonic()
            return [(now + 0.05 * (len(data) - at), data[at : at + 1]) for at in range(len(data))]

        return deliver

    with between(deliver=backwards) as (proxy, server), connect(proxy) as client:
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 3) == b"cba"
        assert client.recv(1) == b""
        assert (bytes(server.received), proxy.passed("down")) == (b"abc", 3)
