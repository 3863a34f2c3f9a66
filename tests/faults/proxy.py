"""A way to the broker that a test can spoil: a TCP proxy that cuts, refuses, swallows and slows.

    client ──up──▶ proxy ──up──▶ broker
           ◀─down─       ◀─down─

It runs in a thread of its own; every method may be called from the test's, and has taken effect
when it returns. Bytes are counted over all connections, in each direction.
"""

import asyncio
import contextlib
import heapq
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from tests.patience import WITHIN_S

Direction = Literal["up", "down"]
"""To the broker, and from it."""

Deliver = Callable[[bytes], Iterable[tuple[float, bytes]]]
"""What becomes of bytes on their way: pieces, and when (`time.monotonic`) each is due."""

_READ_BYTES = 64 * 1024
_ON_THE_WAY_MAX = 1024
"""Pieces of one connection in one direction; beyond that its sender feels that it goes slowly."""
_SLICES_PER_S = 20
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero: closing sends a reset, not an orderly end."""

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class Alarm:
    """Rings when so many bytes have gone through in one direction."""

    at_bytes: int
    cuts: bool
    _rung: threading.Event = field(default_factory=threading.Event)

    def ring(self) -> None:
        self._rung.set()

    def wait(self, limit_s: float) -> bool:
        """Whether it has rung within so many seconds."""
        return self._rung.wait(limit_s)


class Proxy:
    """Made by `proxy_to`."""

    def __init__(self, behind: str, deliver: Callable[[], Deliver] | None) -> None:
        address = urlsplit(behind)
        assert address.hostname is not None and address.port is not None
        self._behind = (address.hostname, address.port)
        self._deliver = deliver
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[_Connection] = set()
        self._is_silent = False
        self._bytes_per_s = 0.0
        self._delay_s = 0.0
        self._passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._alarms: dict[Direction, list[Alarm]] = {"up": [], "down": []}
        self.cut_count = 0
        """Connections that were broken by what a test did."""

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._port}"

    def passed(self, direction: Direction) -> int:
        """Bytes passed on so far."""
        return self._passed[direction]

    # What a test does to the way

    def cut(self) -> None:
        """Break every connection as a radio does: both ends see a reset. New ones are let in."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Cut, and let nobody in: who comes finds no one listening."""
        self._call(self._refuse())

    def let_in(self) -> None:
        """The end of `refuse`."""
        self._call(self._listen())

    def swallow(self, is_silent: bool = True) -> None:
        """Half-open: connections stay, and nothing comes through, not even their end.

        Who was connected meanwhile is not heard any more, as it would be out of step; who connects
        after `swallow(False)` is.
        """
        self._call(self._swallow(is_silent))

    def throttle(self, bytes_per_s: float) -> None:
        """In each direction of each connection; 0 for as fast as it goes."""
        self._call(self._set_pace(bytes_per_s, self._delay_s))

    def delay(self, seconds: float) -> None:
        """Everything takes so much longer, each way; the order stays."""
        self._call(self._set_pace(self._bytes_per_s, seconds))

    def cut_after(self, count: int, direction: Direction) -> Alarm:
        """Let exactly so many more bytes through in this direction, then refuse."""
        return self._call(self._set_alarm(count, direction, cuts=True))

    def ring_after(self, count: int, direction: Direction) -> Alarm:
        """Tell when so many more bytes have gone through."""
        return self._call(self._set_alarm(count, direction, cuts=False))

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        self._call(self._refuse())
        self._call(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)

    # The same, in the proxy's own thread

    async def _listen(self) -> None:
        if self._server is None:
            # The same port each time, once it is known: clients come back to it.
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._cut()

    async def _cut(self) -> None:
        self.cut_count += len(self._open)
        for connection in self._open:
            connection.reset()

    async def _swallow(self, is_silent: bool) -> None:
        self._is_silent = is_silent
        for connection in self._open:
            connection.is_deaf = connection.is_deaf or is_silent

    async def _set_pace(self, bytes_per_s: float, delay_s: float) -> None:
        self._bytes_per_s, self._delay_s = bytes_per_s, delay_s

    async def _set_alarm(self, count: int, direction: Direction, *, cuts: bool) -> Alarm:
        alarm = Alarm(self._passed[direction] + count, cuts)
        self._alarms[direction].append(alarm)
        return alarm

    async def _end_tasks(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_deaf = self._is_silent
        try:
            from_broker, to_broker = await asyncio.open_connection(*self._behind)
        except OSError:
            # The broker is away: who comes is told as directly as it would be without us.
            _reset(writer)
            return
        connection = _Connection(writer, to_broker, is_deaf)
        self._open.add(connection)
        disturbed = self._deliver() if self._deliver is not None else _as_it_is
        try:
            await asyncio.gather(
                self._carry(connection, reader, to_broker, "up", _as_it_is),
                self._carry(connection, from_broker, writer, "down", disturbed),
            )
        except (OSError, asyncio.CancelledError):
            # One end has broken, and resetting both tells the other; or this is the end of all.
            return
        finally:
            self._open.discard(connection)
            connection.reset()

    async def _carry(
        self,
        connection: "_Connection",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        deliver: Deliver,
    ) -> None:
        # Nothing waits in our own buffer: what was counted is with the system, and arrives.
        writer.transport.set_write_buffer_limits(high=0)
        way = _Way()
        reading = asyncio.create_task(self._read(reader, way, deliver))
        try:
            while (data := await way.take()) or connection.is_deaf:
                if not connection.is_deaf:
                    await self._pass_on(data, writer, direction)
            writer.write_eof()
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, way: "_Way", deliver: Deliver) -> None:
        # A broken connection ends like one that was closed: whoever writes to it finds out.
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                for due, piece in deliver(data):
                    await way.put(due + self._delay_s, piece)
        await way.put(time.monotonic() + self._delay_s, b"")

    async def _pass_on(
        self, data: bytes, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while data:
            count = len(data)
            if self._bytes_per_s:
                count = min(count, max(1, round(self._bytes_per_s / _SLICES_PER_S)))
            alarm = min(self._alarms[direction], key=lambda one: one.at_bytes, default=None)
            if alarm is not None:
                count = min(count, alarm.at_bytes - self._passed[direction])
            slice_, data = data[:count], data[count:]
            self._passed[direction] += count
            writer.write(slice_)
            await writer.drain()
            if alarm is not None and self._passed[direction] >= alarm.at_bytes:
                await self._ring(alarm, direction)
            if self._bytes_per_s:
                await asyncio.sleep(count / self._bytes_per_s)

    async def _ring(self, alarm: Alarm, direction: Direction) -> None:
        self._alarms[direction].remove(alarm)
        if alarm.cuts:
            await self._refuse()
        alarm.ring()
        if alarm.cuts:
            raise ConnectionResetError("cut here")


@dataclass(eq=False, slots=True)
class _Connection:
    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    is_deaf: bool

    def reset(self) -> None:
        for writer in (self.client, self.broker):
            _reset(writer)


class _Way:
    """One direction of one connection: pieces that come out when they are due; b"" is the last."""

    def __init__(self) -> None:
        self._pieces: list[tuple[float, int, bytes]] = []
        self._changed = asyncio.Event()
        self._count = 0
        self._last_due = 0.0

    async def put(self, due: float, data: bytes) -> None:
        while len(self._pieces) >= _ON_THE_WAY_MAX:
            await self._change(None)
        # The end comes last, whatever is delayed.
        due = max(due, self._last_due) if not data else due
        self._last_due = max(due, self._last_due)
        self._count += 1
        heapq.heappush(self._pieces, (due, self._count, data))
        self._tell()

    async def take(self) -> bytes:
        while True:
            wait_s = None
            if self._pieces:
                wait_s = self._pieces[0][0] - time.monotonic()
            if wait_s is not None and wait_s <= 0:
                _, _, data = heapq.heappop(self._pieces)
                self._tell()
                return data
            await self._change(wait_s)

    def _tell(self) -> None:
        # A new event each time: whoever waits is woken once, and waits anew.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, limit_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), limit_s)


def _as_it_is(data: bytes) -> Iterable[tuple[float, bytes]]:
    return [(time.monotonic(), data)]


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxy_to(behind: str, deliver: Callable[[], Deliver] | None = None) -> Iterator[Proxy]:
    """A proxy to this mqtt:// address, until the end of the block.

    `deliver` makes, for each connection, what disturbs the bytes that come from the broker.
    """
    proxy = Proxy(behind, deliver)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
