"""What `fedmqtt dashboard` listens with: the page's files, and what it needs to reach the broker.

GET /, /main.js ...      the page: files of this package, and no others
GET /connection.json     where the broker is, and as whom to log in; asks for the token
GET /broker?TOKEN        a WebSocket, relayed to the broker's own port; asks for the token
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib import resources
from pathlib import PurePosixPath

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fedmqtt import __version__
from fedmqtt.mqtt_link import BrokerUrl
from round_monitor.relay import BROWSER_BYTES_MAX, Relay
from round_monitor.web_door import Door

_log = logging.getLogger(__name__)
# What is less tells each request's address, and the token is in one.
_log.setLevel(logging.ERROR)
# Whoever says what is no HTTP is turned away. That is no fault here.
_log.addFilter(lambda record: record.msg != "opening handshake failed")

RELAY_PATH = "/broker"
CONNECTION_PATH = "/connection.json"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_ALL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Another version of the program brings other files under the same names.
    "Cache-Control": "no-store",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What is shown, and how the page gets there."""

    broker: BrokerUrl
    federation: str = ""
    """Empty: all that the broker shows, to choose from."""
    websocket: str = ""
    """The broker's own WebSocket listener; empty: by the relay."""

    def connection(self) -> bytes:
        """For the page: how it logs in."""
        return msgspec.json.encode(
            {
                "broker": self.broker.place,
                "federation": self.federation,
                "websocket": self.websocket or RELAY_PATH,
                "username": self.broker.username,
                "password": self.broker.password,
                "version": __version__,
            }
        )


@asynccontextmanager
async def serving(dashboard: Dashboard, door: Door, port: int) -> AsyncIterator[int]:
    """Listens within the block, at the port that it yields. Raises OSError."""
    relay = Relay(dashboard.broker)

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return _answer(dashboard, door, request)

    async with listening(relay, door.host, port, answer, BROWSER_BYTES_MAX) as found:
        yield found


@asynccontextmanager
async def listening(
    relay: Relay,
    host: str,
    port: int,
    answer: Callable[[ServerConnection, Request], Response | None],
    browser_bytes_max: int,
) -> AsyncIterator[int]:
    """Listens within the block, at the port that it yields. What `answer` has no answer to goes on
    as a WebSocket, through the relay. Raises OSError."""
    async with serve(
        relay.carry,
        host,
        port,
        process_request=answer,
        subprotocols=[Subprotocol("mqtt")],
        # Passwords and what others chose, pressed together, would tell of each other.
        compression=None,
        max_size=browser_bytes_max,
        server_header=None,
        logger=_log,
    ) as server:
        yield _port(server)


def _port(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def _answer(dashboard: Dashboard, door: Door, request: Request) -> Response | None:
    """None: it goes on as a WebSocket."""
    path, _, query = request.path.partition("?")
    if path == RELAY_PATH:
        if dashboard.websocket:
            return told(HTTPStatus.NOT_FOUND, "the page goes to the broker itself")
        fault = door.relay_fault(request.headers, query)
        return told(HTTPStatus.FORBIDDEN, fault) if fault else None
    if path == CONNECTION_PATH:
        if fault := door.secrets_fault(request.headers):
            return told(HTTPStatus.FORBIDDEN, fault)
        return response(HTTPStatus.OK, ".json", dashboard.connection())
    if fault := door.fault(request.headers):
        return told(HTTPStatus.FORBIDDEN, fault)
    name = path.removeprefix("/") or "index.html"
    content = files().get(name)
    if content is None:
        return told(HTTPStatus.NOT_FOUND, "there is nothing here")
    policy = content_policy(request.headers["Host"], dashboard.websocket)
    more = {"Content-Security-Policy": policy} if name.endswith(".html") else {}
    return response(HTTPStatus.OK, PurePosixPath(name).suffix, content, more)


def content_policy(host: str, websocket: str) -> str:
    """What the page may load, run and connect to: this server, and the broker."""
    # Safari before 15.4 does not take 'self' for a WebSocket's address too.
    reached = websocket or f"ws://{host} wss://{host}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src"
        f" 'self' {reached}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def files() -> Mapping[str, bytes]:
    """The page's files by name, read once."""
    folder = resources.files("round_monitor").joinpath("web")
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if PurePosixPath(entry.name).suffix in _TYPES
    }


def told(status: HTTPStatus, sentence: str) -> Response:
    """A sentence for people."""
    return response(status, ".txt", f"{sentence}\n".encode())


def response(
    status: HTTPStatus, suffix: str, body: bytes, more: Mapping[str, str] | None = None
) -> Response:
    """The content of a file that ends in `suffix`, with what keeps it from other pages."""
    headers = Headers(_FOR_ALL | dict(more or {}))
    headers["Content-Type"] = _TYPES[suffix]
    headers["Content-Length"] = str(len(body))
    return Response(status.value, status.phrase, headers, body)
