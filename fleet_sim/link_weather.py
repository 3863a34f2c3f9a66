"""What goes wrong between one client and its broker, on a real connection.

    paho ──send──▶ its turn on the line, then its latency ──▶ the kernel's socket ──▶ broker
    paho ◀──recv── the same ◀──────────────────────────────── the kernel's socket ◀── broker

Bytes are held back in this process by timers of the event loop: no proxy, so one descriptor for
each client. Latency is drawn for each MQTT packet, and loss for each message, a PUBLISH, as in
virtual time. What TCP hides stays hidden: a lost message is one that comes later and holds up those
behind it, and nothing comes twice (`Link.duplicates` means nothing here). What is under way in a
direction is bounded, and beyond that the sender has to wait, as with a kernel's buffers.

A connection is *cut* in the middle of a transfer by a reset that both sides see. It is *half-open*
while the client is `gone`: nothing passes in either direction, nobody is told, and who connects
waits. When the client has `come` again, a connection that both sides still hold goes on.
"""

import errno
import math
import socket
import struct
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, OnReady, Timer
from fleet_sim.connect_gate import ConnectGate
from fleet_sim.links import Bandwidth, Link
from fleet_sim.live_clock import LiveClock
from fleet_sim.mqtt_packets import PUBLISH, PacketCutter

WINDOW_BYTES = 256 * 1024
"""Under way in one direction at most, as in a kernel's buffers."""

SEGMENT_BYTES = 4096
"""Packets pass in pieces of this size at most: a cut falls between two of them."""

_RESET = struct.pack("ii", 1, 0)
"""Linger of zero: closing the socket resets the connection."""


class LinkWeather:
    """The network of one client, all its connections after one another. See `MqttLink`'s `Network`.

    Without a `link` and where the client never falls silent, connections are the kernel's own.
    All times are virtual seconds.
    """

    def __init__(
        self,
        loop: EventLoop,
        clock: LiveClock,
        gate: ConnectGate,
        chance: Random,
        link: Link | None = None,
        *,
        falls_silent: bool = False,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.link = link
        self.cuts = 0
        """Connections reset in the middle of a transfer."""
        self.is_gone = True
        self._gate = gate
        self._chance = chance
        self.is_made_up = link is not None or falls_silent
        """Whether anything can happen to a connection that does not happen to the kernel's."""
        self._held: Callable[[], None] | None = None
        """Who would connect, if the network were there."""
        self._transfer_left_s = self._draw_cut()
        self._sockets: list[_WeatherSocket] = []
        """The connection in use, and those that were closed while nothing could pass."""

    def come(self) -> None:
        """The network is there: what was held passes."""
        self.is_gone = False
        for each in self._sockets.copy():
            each.go_on()
        held, self._held = self._held, None
        if held is not None:
            self._gate.ask(self, held)

    def go(self) -> None:
        """Nothing passes any more. A connection that is not cut too is half-open from now on."""
        self.is_gone = True
        self._held = self._gate.withdraw(self) or self._held
        for each in self._sockets:
            each.pause()

    def lose_power(self) -> None:
        """What the device still had to send is lost with its memory; its connections are dead."""
        for each in self._sockets.copy():
            each.lose()

    def close(self) -> None:
        """The simulation ends: reset what is left."""
        self.is_gone = True
        self.done()
        for each in self._sockets.copy():
            each.reset()

    @property
    def is_connecting(self) -> bool:
        return self._gate.has_let_in(self)

    # The network of an MqttLink

    def ask(self, connect: Callable[[], None]) -> None:
        if self.is_gone:
            self._held = connect
        else:
            self._gate.ask(self, connect)

    def done(self) -> None:
        self._held = None
        self._gate.leave(self)

    def wrap(self, sock: socket.socket) -> socket.socket:
        if not self.is_made_up:
            return sock
        wrapped = _WeatherSocket(self, sock)
        self._sockets.append(wrapped)
        return wrapped

    def watch(self, fd: int, on_ready: OnReady, *, write: bool = False) -> None:
        for each in self._sockets:
            if each.fileno() == fd:
                each.watch(on_ready, write)
                return
        self.loop.watch(fd, on_ready, write=write)

    def unwatch(self, fd: int) -> None:
        for each in self._sockets:
            if each.fileno() == fd:
                each.unwatch()
                return
        self.loop.unwatch(fd)

    # For its sockets

    def forget(self, sock: "_WeatherSocket") -> None:
        self._sockets.remove(sock)

    def delay_s(self, kind: int) -> Seconds:
        """From the last bit sent to the last bit there, of one packet of this kind."""
        if self.link is None:
            return 0.0
        delay_s = self.link.delay_s(self._chance)
        if kind == PUBLISH:
            delay_s += self.link.lost_s(self._chance)
        return delay_s

    def survives(self, transfer_s: Seconds) -> bool:
        """Whether the connection lives through so much more of transfer."""
        self._transfer_left_s -= transfer_s
        if self._transfer_left_s >= 0:
            return True
        self._transfer_left_s = self._draw_cut()
        return False

    def _draw_cut(self) -> Seconds:
        return math.inf if self.link is None else self.link.cut_after_s(self._chance)


class _Direction:
    """Bytes on their way, in order: what is there at a moment, and when the next will be."""

    __slots__ = (
        "_bandwidth",
        "_delay_s",
        "_free_at",
        "_packets",
        "_pieces",
        "_weather",
        "size_bytes",
    )

    def __init__(self, weather: LinkWeather, bandwidth: Bandwidth | None) -> None:
        self._weather = weather
        self._bandwidth = bandwidth
        self._pieces: deque[tuple[Seconds, bytes | None]] = deque()
        self._free_at: Seconds = 0.0
        """When the line has taken all that was sent so far."""
        self._packets = PacketCutter()
        self._delay_s: Seconds = 0.0
        """Of the packet that is being sent."""
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def send(self, data: bytes) -> None:
        """Empty: the end of what is sent."""
        if not data:
            self._send(b"")
        for part, kind in self._packets.cut(data):
            if kind is not None:
                self._delay_s = self._weather.delay_s(kind)
            for start in range(0, len(part), SEGMENT_BYTES):
                self._send(part[start : start + SEGMENT_BYTES])

    def _send(self, piece: bytes) -> None:
        begins_at = max(self._weather.clock.now(), self._free_at)
        takes_s = 0.0
        if self._bandwidth is not None and piece:
            takes_s = self._bandwidth.seconds(len(piece), begins_at)
        self._free_at = begins_at + takes_s
        self.size_bytes += len(piece)
        passes = self._weather.survives(takes_s)
        # As in TCP, one that comes later holds up those behind it.
        self._pieces.append((self._free_at + self._delay_s, piece if passes else None))

    def next_at(self) -> Seconds:
        return self._pieces[0][0] if self._pieces else math.inf

    def take(self) -> bytes | None:
        """The next piece; None is where the connection breaks."""
        _, piece = self._pieces.popleft()
        self.size_bytes -= len(piece or b"")
        return piece

    def clear(self) -> None:
        self._pieces.clear()
        self.size_bytes = 0


class _WeatherSocket(socket.socket):
    """A connection through the weather: paho's `recv`, `send` and `close`, and its own `watch`.

    Closed while bytes are under way, it lives on until the broker has them, as a kernel's does; and
    while the network is gone, until it is there again.
    """

    __slots__ = (
        "_down",
        "_fault",
        "_has_ended",
        "_is_closed",
        "_is_over",
        "_on_ready",
        "_ready",
        "_timers",
        "_to_kernel",
        "_up",
        "_wants_write",
        "_weather",
    )

    def __init__(self, weather: LinkWeather, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)
        self._weather = weather
        link = weather.link
        self._up = _Direction(weather, None if link is None else link.up)
        self._down = _Direction(weather, None if link is None else link.down)
        self._to_kernel = bytearray()
        """Has arrived, and the broker's side does not take it yet."""
        self._ready = bytearray()
        """Has arrived, for paho to read."""
        self._on_ready: OnReady | None = None
        self._wants_write = False
        self._has_ended = False
        """The kernel has told that the other side ended it; that may still be on its way."""
        self._is_over = False
        """It has arrived that it ended; what came before lies in `_ready`."""
        self._fault: OSError | None = None
        self._is_closed = False
        self._timers: dict[str, Timer] = {}
        self._listen()

    # As paho sees it

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._ready:
            data = bytes(self._ready[:size])
            del self._ready[:size]
            return data
        if self._is_over:
            if self._fault is not None:
                raise self._fault
            return b""
        raise BlockingIOError

    def send(self, data: Any, flags: int = 0) -> int:
        if self._is_over and self._fault is not None:
            raise self._fault
        room = self._room()
        if room <= 0:
            raise BlockingIOError
        taken = bytes(data[:room])
        self._up.send(taken)
        self._deliver_up()
        return len(taken)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._on_ready = None
        self._down.clear()
        self._ready.clear()
        if self._is_to_reset():
            self._up.clear()
            self._to_kernel.clear()
        self._end_if_done()

    # As the event loop would

    def watch(self, on_ready: OnReady, write: bool) -> None:
        self._on_ready = on_ready
        self._wants_write = write
        if write and self._room() > 0:
            self._weather.loop.post(self._tell_writable)

    def unwatch(self) -> None:
        self._on_ready = None

    # The network comes and goes

    def pause(self) -> None:
        self._weather.loop.unwatch(self.fileno())
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def go_on(self) -> None:
        self._listen()
        self._deliver_up()
        self._deliver_down()
        self._end_if_done()

    def lose(self) -> None:
        """Never send what is under way. The broker hears of it when the network is there."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()
        self._up.clear()
        self._to_kernel.clear()
        self._end_if_done()

    def reset(self) -> None:
        """Break the connection now, on both sides, whatever is under way."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._end()

    # What happens

    def _on_kernel(self, readable: bool, writable: bool) -> None:
        if writable:
            self._push()
        if readable and not self._is_ended():
            self._pull()

    def _pull(self) -> None:
        try:
            data = super().recv(max(SEGMENT_BYTES, self._appetite()))
        except BlockingIOError:
            return
        except OSError as bad:
            self._fault, data = bad, b""
        self._has_ended = not data
        if not self._is_closed:
            self._down.send(data)
            self._listen()
            self._deliver_down()
        elif not data:
            self._end()

    def _deliver_down(self) -> None:
        if self._weather.is_gone or self._is_closed:
            return
        came = False
        while self._down.next_at() <= self._weather.clock.now():
            piece = self._down.take()
            came = True
            if piece is None:
                self._cut()
                return
            if not piece:
                self._is_over = True
            self._ready += piece
        if came:
            self._tell_readable()
        self._wake("down", self._down, self._deliver_down)

    def _deliver_up(self) -> None:
        if self._weather.is_gone or self._is_ended():
            return
        while self._up.next_at() <= self._weather.clock.now():
            piece = self._up.take()
            if piece is None:
                self._cut()
                return
            self._to_kernel += piece
        self._push()
        self._wake("up", self._up, self._deliver_up)

    def _push(self) -> None:
        if self._to_kernel:
            try:
                sent = super().send(self._to_kernel)
                del self._to_kernel[:sent]
            except BlockingIOError:
                pass
            except OSError:
                # It has been reset. Reading tells of that, in its turn.
                self._to_kernel.clear()
                self._up.clear()
            self._listen()
        if self._wants_write and self._room() > 0:
            self._weather.loop.post(self._tell_writable)
        self._end_if_done()

    def _tell_readable(self) -> None:
        # Paho reads one packet at a time.
        while self._on_ready is not None and (self._ready or self._is_over):
            left = len(self._ready)
            self._on_ready(True, False)
            if len(self._ready) == left:
                break
        if not self._is_closed:
            self._listen()

    def _tell_writable(self) -> None:
        if self._on_ready is not None and self._wants_write and self._room() > 0:
            self._on_ready(False, True)

    def _cut(self) -> None:
        self._weather.cuts += 1
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._fault = ConnectionResetError(errno.ECONNRESET, "cut in the middle of a transfer")
        self._has_ended = self._is_over = True
        self._up.clear()
        self._down.clear()
        self._to_kernel.clear()
        # What has not been read yet is lost with the connection.
        self._ready.clear()
        if self._is_closed:
            self._end()
        else:
            self._weather.loop.unwatch(self.fileno())
            # Posted: this may be within paho's own write.
            self._weather.loop.post(self._tell_readable)

    # Below

    def _room(self) -> int:
        return WINDOW_BYTES - self._up.size_bytes - len(self._to_kernel)

    def _appetite(self) -> int:
        return WINDOW_BYTES - self._down.size_bytes - len(self._ready)

    def _listen(self) -> None:
        """Watch the kernel's socket for what we can make use of."""
        if self._weather.is_gone or self._is_ended():
            return
        is_full = bool(self._to_kernel)
        if is_full or (not self._has_ended and self._appetite() > 0):
            self._weather.loop.watch(self.fileno(), self._on_kernel, write=is_full)
        else:
            self._weather.loop.unwatch(self.fileno())

    def _wake(self, name: str, direction: _Direction, deliver: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()
        if direction and not self._is_ended():
            self._timers[name] = self._weather.clock.call_at(direction.next_at(), deliver)

    def _is_to_reset(self) -> bool:
        linger = self.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET))
        return linger == _RESET

    def _is_ended(self) -> bool:
        return self.fileno() < 0

    def _end_if_done(self) -> None:
        if self._is_closed and not (self._weather.is_gone or self._up or self._to_kernel):
            self._end()

    def _end(self) -> None:
        if self._is_ended():
            return
        self.pause()
        self._is_closed = True
        self._on_ready = None
        super().close()
        self._weather.forget(self)
