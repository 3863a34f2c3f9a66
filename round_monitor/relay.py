"""Bytes between a WebSocket and the broker's own port, as they are, whatever they mean.

For browsers, which open no other connections, and brokers without a listener for them. TLS and a
client's certificate are this side's: a browser would not know a kit's CA.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fedmqtt.mqtt_link import BrokerUrl

CONNECTIONS_MAX = 32
"""At once. A page has one, and some more for a moment while it comes back."""

BROWSER_BYTES_MAX = 64 * 1024
"""In one message: a monitor subscribes and pings."""

_BROKER_BYTES_AT_ONCE = 64 * 1024
_CONNECT_WITHIN_S = 10.0

NO_BROKER = 4000
"""So is a WebSocket closed where the broker cannot be reached; 4000 to 4999 are a program's own."""
TOO_MANY = 4001
_NOT_BYTES = 1003
_REASON_BYTES_MAX = 120
"""Of 123 that a close frame has room for."""


@dataclass(slots=True)
class Relay:
    broker: BrokerUrl
    connections_max: int = CONNECTIONS_MAX
    _open: int = field(default=0, init=False)
    _at: int = field(default=0, init=False)
    """The node that was reached last."""

    async def carry(self, browser: ServerConnection) -> None:
        """Until one of both sides ends it. Raises nothing."""
        if self._open >= self.connections_max:
            await browser.close(TOO_MANY, "too many connections through the relay")
            return
        self._open += 1
        try:
            await self._carry(browser)
        finally:
            self._open -= 1

    async def _carry(self, browser: ServerConnection) -> None:
        try:
            reader, writer = await self._reach()
        except (OSError, TimeoutError) as bad:
            await browser.close(NO_BROKER, _reason(f"{self.broker}: {_why(bad)}"))
            return
        both = [
            asyncio.create_task(_to_broker(browser, writer)),
            asyncio.create_task(_to_browser(reader, browser)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()
            await browser.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The node that was there last, or else the next. Raises OSError, TimeoutError of the last
        that was tried."""
        nodes = self.broker.nodes
        for tried in range(len(nodes)):
            node = nodes[self._at]
            try:
                async with asyncio.timeout(_CONNECT_WITHIN_S):
                    return await asyncio.open_connection(node.host, node.port, ssl=_tls(node))
            except (OSError, TimeoutError):
                self._at = (self._at + 1) % len(nodes)
                if tried == len(nodes) - 1:
                    raise
        raise AssertionError("a broker has a node")


async def _to_broker(browser: ServerConnection, writer: asyncio.StreamWriter) -> None:
    try:
        async for message in browser:
            if isinstance(message, str):
                await browser.close(_NOT_BYTES, "MQTT is bytes, not text")
                return
            writer.write(message)
            await writer.drain()
    except (ConnectionClosed, OSError):
        return


async def _to_browser(reader: asyncio.StreamReader, browser: ServerConnection) -> None:
    try:
        while piece := await reader.read(_BROKER_BYTES_AT_ONCE):
            await browser.send(piece)
    except (ConnectionClosed, OSError):
        return


def _tls(broker: BrokerUrl) -> ssl.SSLContext | None:
    if not broker.tls:
        return None
    return broker.context or ssl.create_default_context()


def _why(bad: OSError | TimeoutError) -> str:
    if isinstance(bad, TimeoutError):
        return f"no answer within {_CONNECT_WITHIN_S:.0f} s"
    if isinstance(bad, ssl.SSLCertVerificationError):
        return bad.verify_message
    # asyncio's own words tell the call that failed, and not why.
    if bad.errno is not None and bad.errno > 0:
        return os.strerror(bad.errno)
    return bad.strerror or str(bad)


def _reason(text: str) -> str:
    return text.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
