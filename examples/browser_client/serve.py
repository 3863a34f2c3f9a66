"""Serves the client of this folder to a browser on this machine, and relays it to the broker.

    python examples/browser_client/serve.py --broker mqtt://localhost --federation demo

It prints an address: whoever opens it takes part. Not needed where the page lies on a web server
and the broker has WebSockets of its own: see the README beside this file.
"""

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from fedmqtt import credentials, federation_flags, flag_values
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.topics import Topics, is_name
from round_monitor.relay import Relay
from round_monitor.web_door import Door
from round_monitor.web_server import content_policy, listening, response, told

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = "/examples/browser_client/index.html"
_HOST = "127.0.0.1"
_MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""That the page sends at once: a part of an answer."""


def files() -> dict[str, Path]:
    """What is served, by path: this folder's page, and of the dashboard the MQTT library
    and the icon, where the page looks for them."""
    found = [path for path in HERE.iterdir() if path.suffix in (".html", ".css", ".js")]
    found += [ROOT / "round_monitor" / "web" / name for name in ("mqtt.esm.js", "icon.svg")]
    return {f"/{path.relative_to(ROOT).as_posix()}": path for path in found}


@asynccontextmanager
async def serving(
    broker: BrokerUrl, connection: bytes, door: Door, port: int
) -> AsyncIterator[int]:
    """Listens within the block, at the port that it yields. `connection`: what only the page is
    told, as JSON. Raises OSError."""
    relay, known = Relay(broker), files()

    def answer(browser: ServerConnection, request: Request) -> Response | None:
        path, _, query = request.path.partition("?")
        if path == "/broker":
            fault = door.relay_fault(request.headers, query)
            return told(HTTPStatus.FORBIDDEN, fault) if fault else None
        if path == "/connection.json":
            fault = door.secrets_fault(request.headers)
            if fault:
                return told(HTTPStatus.FORBIDDEN, fault)
            return response(HTTPStatus.OK, ".json", connection)
        if fault := door.fault(request.headers):
            return told(HTTPStatus.FORBIDDEN, fault)
        file = known.get(path)
        if file is None:
            return told(HTTPStatus.NOT_FOUND, "there is nothing here")
        policy = {"Content-Security-Policy": content_policy(request.headers["Host"], "")}
        more = policy if file.suffix == ".html" else {}
        return response(HTTPStatus.OK, file.suffix, file.read_bytes(), more)

    async with listening(relay, door.host, port, answer, _MESSAGE_BYTES_MAX) as found:
        yield found


def _connection(arguments: argparse.Namespace, federation: str, broker: BrokerUrl) -> bytes:
    """How the page logs in, and by which keys it signs."""
    told = {"federation": federation, "id": arguments.id or ""}
    told |= {"username": broker.username or "", "password": broker.password or ""}
    if arguments.credentials is not None:
        account = credentials.read(arguments.credentials)
        keys = ("federation_key", "signing_key", "ticket")
        told |= {"id": account.id, **{name: getattr(account, name) for name in keys}}
    return msgspec.json.encode(told)


async def _serve(broker: BrokerUrl, connection: bytes, port: int) -> None:
    door = Door(_HOST, secrets.token_urlsafe(16))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serving(broker, connection, door, port) as found:
        sys.stdout.write(
            f"A client of {broker} in your browser:\n\n"
            f"    http://{_HOST}:{found}{PAGE}#token={door.token}\n\n"
            "Whoever has this address can take part in its name. Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        await ended.wait()


def main() -> int:
    """0 after Ctrl-C; 2 if it cannot be served like this."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    federation_flags.add_arguments(parser, "devices")
    parser.add_argument("--id", help="the client's name (the browser makes one, and keeps it)")
    parser.add_argument("--port", type=flag_values.port, default=8720, help="(%(default)s)")
    arguments = parser.parse_args()
    try:
        federation, broker = federation_flags.find(arguments, ("device",))
        Topics(federation)
        if arguments.id and not is_name(arguments.id):
            raise ValueError(f"--id {arguments.id!r}: expected 1 to 64 letters, digits, . _ -")
        connection = _connection(arguments, federation, broker)
        asyncio.run(_serve(broker, connection, arguments.port))
    except ValueError as wrong:
        return _fail(str(wrong))
    except OSError as bad:
        return _fail(f"cannot listen at {_HOST}:{arguments.port}: {bad.strerror or bad}")
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"serve.py: {sentence}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
