"""See a federation in a browser: its health, its round, its model and its clients, live.

Serves one page on this machine, which reads the broker's status topics and writes nothing. Ctrl-C
ends the page's way to the broker, and nothing else.
"""

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import re
import secrets
import signal
import sys
import threading
import webbrowser

from fedmqtt import federation_flags, flag_values
from fedmqtt.topics import Topics
from round_monitor import listening
from round_monitor.web_door import Door
from round_monitor.web_server import Dashboard, serving

_PORT = 8710
_WEBSOCKET = re.compile(r"wss?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[\w./~-]*)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    federation_flags.add_arguments(parser, "monitors")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve the page at; others than this machine's want --insecure, too"
        " (%(default)s)",
    )
    parser.add_argument(
        "--port", type=flag_values.port, help=f"port to serve it at ({_PORT}, or any that is free)"
    )
    parser.add_argument(
        "--websocket",
        type=_websocket,
        metavar="URL",
        help="ws:// or wss:// of the broker's own listener, for the browser to go there directly"
        " (without: through this program, to the broker's port)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="open it in this machine's browser; its address, with the token, is on that command's"
        " line then",
    )


def run(arguments: argparse.Namespace) -> int:
    """0 after Ctrl-C; 2 if it cannot be served like this."""
    try:
        federation, broker = federation_flags.find(
            arguments, ("monitor", "coordinator"), needs_name=False
        )
        if federation:
            Topics(federation)
        _check_host(arguments.host, arguments.insecure)
        dashboard = Dashboard(broker, federation, arguments.websocket or "")
        asyncio.run(_serve(dashboard, arguments))
    except ValueError as wrong:
        return _fail(str(wrong))
    except OSError as bad:
        return _fail(listening.refusal(arguments.host, arguments.port or _PORT, bad))
    return 0


async def _serve(dashboard: Dashboard, arguments: argparse.Namespace) -> None:
    door = Door(arguments.host, secrets.token_urlsafe(16))
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        port = arguments.port
        try:
            port = await stack.enter_async_context(
                serving(dashboard, door, _PORT if port is None else port)
            )
        except OSError as bad:
            if arguments.port is not None or bad.errno != errno.EADDRINUSE:
                raise
            port = await stack.enter_async_context(serving(dashboard, door, 0))
        url = f"http://{_in_url(arguments.host)}:{port}/#token={door.token}"
        sys.stdout.write(
            f"The dashboard of {dashboard.federation or 'all federations'} at"
            f" {dashboard.broker.place}:\n\n    {url}\n\n"
            "Whoever has this address can see what is there. Ctrl-C ends it.\n"
        )
        sys.stdout.flush()
        if arguments.open:
            # A browser in the terminal keeps whoever opens it waiting until it ends.
            threading.Thread(target=_open, args=[url], daemon=True).start()
        await ended.wait()


def _open(url: str) -> None:
    if not webbrowser.open(url):
        sys.stderr.write("There is no browser that could be opened here: open the address above.\n")


def _in_url(host: str) -> str:
    """The host of an address that leads there from this machine."""
    with contextlib.suppress(ValueError):
        if (address := ipaddress.ip_address(host)).is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"[{host}]" if ":" in host else host


def _check_host(host: str, insecure: bool) -> None:
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host == "localhost" or insecure:
        return
    raise ValueError(
        f"--host {host}: the page, the broker's password and all that it shows would go over the"
        f" network unencrypted. Leave it on this machine and come by `ssh -L {_PORT}:127.0.0.1:"
        f"{_PORT}`, or, in a network that you trust, add --insecure"
    )


def _websocket(text: str) -> str:
    if _WEBSOCKET.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected ws://host[:port][/path] or wss://..., without a password"
        )
    return text


def _fail(sentence: str) -> int:
    sys.stderr.write(f"fedmqtt dashboard: {sentence}\n")
    return 2
