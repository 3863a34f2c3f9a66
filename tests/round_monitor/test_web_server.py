"""The dashboard's server, spoken to by other means than its page."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from fedmqtt import __version__
from fedmqtt.mqtt_link import BrokerUrl, Node
from round_monitor import relay
from round_monitor.web_door import Door
from round_monitor.web_server import Dashboard, files, serving
from tests.patience import WITHIN_S

TOKEN = "the-token"


class Broker:
    """Listens, and answers each piece with the same in capitals."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                self.heard.append(piece)
                writer.write(piece.upper())
                await writer.drain()
        writer.close()
        self.ended.set()


Talk = Callable[[int, Broker], Awaitable[None]]


def _with_server(talk: Talk, *, password: str | None = None, websocket: str = "") -> None:
    async def main() -> None:
        broker = Broker()
        async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as behind:
            broker.port = behind.sockets[0].getsockname()[1]
            url = BrokerUrl("127.0.0.1", broker.port, username="monitor", password=password)
            dashboard = Dashboard(url, "ward-7", websocket)
            async with serving(dashboard, Door("127.0.0.1", TOKEN), 0) as port:
                await talk(port, broker)

    async def limited() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main()

    asyncio.run(limited())


async def _get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    def ask() -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    return await asyncio.to_thread(ask)


def _browser(port: int, token: str = TOKEN, origin: str = "") -> connect:
    return connect(
        f"ws://127.0.0.1:{port}/broker?{token}",
        origin=Origin(origin or f"http://127.0.0.1:{port}"),
        subprotocols=[Subprotocol("mqtt")],
        compression=None,
        proxy=None,
    )


async def _closed(browser: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            await browser.recv()
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


# Files and secrets


def test_the_page_may_load_and_reach_nothing_of_others() -> None:
    async def talk(port: int, broker: Broker) -> None:
        status, headers, body = await _get(port, "/")
        assert status == 200 and b"<!doctype html>" in body
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert f"connect-src 'self' ws://127.0.0.1:{port} wss://127.0.0.1:{port};" in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"

    _with_server(talk)


def test_each_file_of_the_page_is_there_and_nothing_else() -> None:
    async def talk(port: int, broker: Broker) -> None:
        for name, content in files().items():
            assert (await _get(port, f"/{name}"))[2] == content
        for path in (
            "/../relay.py",
            "/web/main.js",
            "/%2e%2e/relay.py",
            "//main.js",
            "/__init__.py",
        ):
            assert (await _get(port, path))[0] == 404

    _with_server(talk)
    assert {"index.html", "main.js", "dashboard.css", "mqtt.esm.js"} <= files().keys()


def test_what_the_page_logs_in_with_is_for_who_has_the_token() -> None:
    async def talk(port: int, broker: Broker) -> None:
        for headers in ({}, {"Authorization": "Bearer other"}):
            status, _, body = await _get(port, "/connection.json", **headers)
            assert status == 403 and b"open the address that `fedmqtt dashboard` printed" in body
        mine = {"Authorization": f"Bearer {TOKEN}"}
        status, _, body = await _get(port, "/connection.json", **mine)
        assert status == 200 and json.loads(body) == {
            "broker": f"mqtt://127.0.0.1:{broker.port}",
            "federation": "ward-7",
            "websocket": "/broker",
            "username": "monitor",
            "password": "secret",
            "version": __version__,
        }
        elsewhere = mine | {"Origin": "http://evil.example"}
        assert (await _get(port, "/connection.json", **elsewhere))[0] == 403
        # A page whose name was made to point here.
        assert (await _get(port, "/connection.json", **mine, Host="evil.example"))[0] == 403
        assert (await _get(port, "/", Host="evil.example"))[0] == 403

    _with_server(talk, password="secret")


# The relay


def test_bytes_go_to_the_broker_and_back() -> None:
    async def talk(port: int, broker: Broker) -> None:
        async with _browser(port) as browser:
            assert browser.subprotocol == "mqtt"
            await browser.send(b"ab\x00\xff")
            assert await browser.recv() == b"AB\x00\xff"
            await browser.send(b"x" * 60_000)
            back = b""
            while len(back) < 60_000:
                piece = await browser.recv()
                assert isinstance(piece, bytes)
                back += piece
            assert back == b"X" * 60_000
        # Whoever goes is gone from the broker too.
        await broker.ended.wait()

    _with_server(talk)


def test_another_origin_or_token_reaches_nothing() -> None:
    async def talk(port: int, broker: Broker) -> None:
        ways = (
            _browser(port, origin="http://evil.example"),
            _browser(port, origin="http://127.0.0.1:1"),
            _browser(port, origin="null"),
            _browser(port, token="other"),
            _browser(port, token=""),
        )
        for way in ways:
            with pytest.raises(InvalidStatus) as refused:
                await way
            assert refused.value.response.status_code == 403
        assert broker.heard == []

    _with_server(talk)


def test_a_page_that_goes_to_the_broker_itself_has_no_relay() -> None:
    async def talk(port: int, broker: Broker) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await _browser(port)
        assert refused.value.response.status_code == 404
        _, headers, _ = await _get(port, "/")
        policy = headers["Content-Security-Policy"]
        assert "connect-src 'self' wss://broker.example:8884/mqtt;" in policy

    _with_server(talk, websocket="wss://broker.example:8884/mqtt")


def test_messages_are_small_and_no_text() -> None:
    async def talk(port: int, broker: Broker) -> None:
        async with _browser(port) as browser:
            await browser.send(b"x" * (relay.BROWSER_BYTES_MAX + 1))
            assert (await _closed(browser))[0] == 1009
        async with _browser(port) as browser:
            await browser.send("text")
            assert await _closed(browser) == (1003, "MQTT is bytes, not text")
        assert broker.heard == []

    _with_server(talk)


def test_there_are_only_so_many_connections() -> None:
    async def talk(port: int, broker: Broker) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(relay.CONNECTIONS_MAX):
                browser = await stack.enter_async_context(_browser(port))
                await browser.send(b"x")
                await browser.recv()
            async with _browser(port) as one_more:
                assert (await _closed(one_more))[0] == relay.TOO_MANY
        # Whoever goes makes room, as soon as the server has seen it go.
        while not await _is_admitted(port):
            pass

    _with_server(talk)


async def _is_admitted(port: int) -> bool:
    async with _browser(port) as browser:
        try:
            await browser.send(b"x")
            return await browser.recv() == b"X"
        except ConnectionClosed:
            return False


def test_a_broker_that_is_not_there_is_told() -> None:
    async def main() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
            free = taken.sockets[0].getsockname()[1]
        dashboard = Dashboard(BrokerUrl("127.0.0.1", free))
        async with (
            serving(dashboard, Door("127.0.0.1", TOKEN), 0) as port,
            _browser(port) as browser,
        ):
            code, reason = await _closed(browser)
        assert code == relay.NO_BROKER
        assert reason == f"mqtt://127.0.0.1:{free}: Connection refused"

    asyncio.run(main())


def test_a_node_that_is_not_there_is_passed_by() -> None:
    async def main() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as taken:
            free = taken.sockets[0].getsockname()[1]
        async with await asyncio.start_server(Broker().serve, "127.0.0.1", 0) as there:
            node = Node("127.0.0.1", there.sockets[0].getsockname()[1])
            dashboard = Dashboard(BrokerUrl("127.0.0.1", free, others=(node,)))
            async with serving(dashboard, Door("127.0.0.1", TOKEN), 0) as port:
                for _ in range(2):
                    assert await _is_admitted(port)

    asyncio.run(main())


def test_no_password_is_in_what_a_closed_connection_tells() -> None:
    url = BrokerUrl("127.0.0.1", 1, username="monitor", password="secret")
    assert "secret" not in str(url) and urlsplit(str(url)).password is None
