"""A connection through the weather: real sockets, and a clock in the test's hand."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import pytest

from fleet_sim.connect_gate import ConnectGate
from fleet_sim.link_weather import SEGMENT_BYTES, WINDOW_BYTES, LinkWeather
from fleet_sim.links import Bandwidth, BandwidthTrace, Link
from fleet_sim.live_clock import LiveClock
from fleet_sim.mqtt_packets import PUBLISH
from tests.fleet_sim.hand_clock import HandLoop
from tests.fleet_sim.mqtt_bytes import PINGREQ, publish

# The head of one message, larger than all that any test sends, and ten segments of it: another
# letter each.
HEAD = publish(200_000_000, body=b"")
TEN = HEAD + b"".join(bytes([ord("a") + n]) * SEGMENT_BYTES for n in range(10))[len(HEAD) :]

CHUNK = publish(128 * 1024)


class Wire:
    """The device's end, in the weather, and the broker's, which is plain."""

    def __init__(self, loop: HandLoop, link: Link | None, speed: float = 1.0) -> None:
        self.loop = loop
        self.weather = LinkWeather(
            loop,
            LiveClock(loop, speed),
            ConnectGate(loop),
            Random("weather"),
            link,
            falls_silent=True,
        )
        self.weather.come()
        with socket.create_server(("127.0.0.1", 0)) as server:
            plain = socket.create_connection(server.getsockname())
            self.far, _ = server.accept()
        self.far.setblocking(False)
        plain.setblocking(False)
        self.descriptor = plain.fileno()
        self.near = self.weather.wrap(plain)
        self.got = b""
        """By the device."""
        self.far_got = b""
        self.outcome: str | None = None
        """How the device's connection ended."""
        self.far_outcome: str | None = None
        self.left_to_send = b""
        self.watch()

    def watch(self) -> None:
        self.weather.watch(self.near.fileno(), self._on_ready, write=bool(self.left_to_send))

    def send(self, data: bytes) -> None:
        """As paho does: what is not taken is sent when it can be."""
        self.left_to_send += data
        self._flush()

    def far_send(self, data: bytes) -> None:
        """From the broker's end, all at this moment."""
        while data:
            with suppress(BlockingIOError):
                data = data[self.far.send(data) :]
            self.loop.settle()

    def look(self) -> bytes:
        """All that the broker's end has got so far."""
        self.loop.settle()
        while self.far_outcome is None:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                self.far_outcome = "reset"
                break
            if not data:
                self.far_outcome = "closed"
            self.far_got += data
            self.loop.settle()
        return self.far_got

    def close(self) -> None:
        self.weather.unwatch(self.near.fileno())
        self.near.close()

    def _on_ready(self, readable: bool, writable: bool) -> None:
        if writable:
            self._flush()
        if readable:
            try:
                data = self.near.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.outcome = "reset"
                self.close()
                return
            self.got += data
            if not data:
                self.outcome = "closed"
                self.close()

    def _flush(self) -> None:
        try:
            while self.left_to_send:
                self.left_to_send = self.left_to_send[self.near.send(self.left_to_send) :]
        except BlockingIOError:
            pass
        self.watch()


@pytest.fixture
def loop() -> Iterator[HandLoop]:
    loop = HandLoop()
    yield loop
    loop.close()


@contextmanager
def wire(loop: HandLoop, link: Link | None = None, speed: float = 1.0) -> Iterator[Wire]:
    wire = Wire(loop, link, speed)
    yield wire
    wire.weather.close()
    wire.far.close()


def test_good_weather_passes_everything_at_once(loop: HandLoop) -> None:
    with wire(loop) as both:
        both.send(TEN)
        assert both.look() == TEN
        both.far.send(b"answer")
        loop.until(lambda: both.got == b"answer")


def test_it_costs_no_further_descriptor(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0)) as both:
        assert both.near.fileno() == both.descriptor


def test_latency_holds_back_both_directions(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=2.0)) as both:
        both.send(b"question")
        both.far.send(b"answer")
        loop.pass_until(1.9)
        assert both.look() == b"" and both.got == b""
        loop.pass_until(3.9)
        assert both.look() == b"question"
        # It was read from the kernel at 1.9 at the latest.
        loop.until(lambda: both.got == b"answer")


def test_time_in_the_weather_runs_at_the_swarms_speed(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=100.0), speed=100.0) as both:
        both.send(b"question")
        loop.pass_until(0.99)
        assert both.look() == b""
        loop.pass_until(1.0)
        assert both.look() == b"question"


def test_bandwidth_up_passes_so_many_bytes_in_a_second(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(2 * SEGMENT_BYTES))) as both:
        both.send(TEN)
        for second in range(6):
            loop.pass_until(second)
            assert both.look() == TEN[: 2 * second * SEGMENT_BYTES]


def test_bandwidth_down_passes_so_many_bytes_in_a_second(loop: HandLoop) -> None:
    with wire(loop, Link(down=Bandwidth(2 * SEGMENT_BYTES))) as both:
        both.far.sendall(TEN)
        # All of it lies in the kernel: it is read from there as one, and begins now.
        loop.settle()
        for second in range(6):
            loop.pass_until(second)
            assert both.got == TEN[: 2 * second * SEGMENT_BYTES]


def test_bandwidth_follows_a_trace(loop: HandLoop) -> None:
    # Nothing in the first second, two segments in the next, and again.
    kbps = 2 * SEGMENT_BYTES * 8 / 1000
    trace = BandwidthTrace([0.0, 1.0, 2.0], [0.0, kbps, 0.0])
    with wire(loop, Link(up=Bandwidth(trace=trace))) as both:
        both.send(TEN)
        for at, segments in ((1.25, 0), (2.0, 2), (3.25, 2), (4.0, 4)):
            loop.pass_until(at)
            assert both.look() == TEN[: segments * SEGMENT_BYTES]


def test_the_line_is_free_again_after_a_pause(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(SEGMENT_BYTES))) as both:
        both.send(TEN[:SEGMENT_BYTES])
        loop.pass_until(100.0)
        assert len(both.look()) == SEGMENT_BYTES
        both.send(TEN[SEGMENT_BYTES : 2 * SEGMENT_BYTES])
        loop.pass_until(100.5)
        assert len(both.look()) == SEGMENT_BYTES
        loop.pass_until(101.0)
        assert len(both.look()) == 2 * SEGMENT_BYTES


def test_jitter_and_loss_change_neither_the_order_nor_the_bytes(loop: HandLoop) -> None:
    sent = b"".join(publish(1000, letter) for letter in (b"a", b"b", b"c", b"d", b"e", b"f"))
    with wire(loop, Link(latency_s=0.1, jitter_s=5.0, loss=0.5)) as both:
        both.send(sent)
        loop.pass_until(0.05)
        assert both.look() == b""
        seen = set()
        for tenth in range(1, 2000):
            loop.pass_until(tenth / 10)
            seen.add(len(both.look()))
            assert sent.startswith(both.far_got)
        assert both.far_got == sent
        # It came in several pieces, each a few whole messages: each had a delay of its own.
        assert len(seen) > 2 and all(size % 1000 == 0 for size in seen)


def test_a_lost_message_comes_a_round_trip_later(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0, loss=0.9)) as both:
        both.send(publish(1000))
        # With the chance of this test it is lost at least once.
        loop.pass_until(2.9)
        assert both.look() == b""
        loop.pass_until(1e9)
        assert both.look() == publish(1000)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_chunk_of_a_model_is_lost_as_often_as_promised(loop: HandLoop, way: str) -> None:
    times, lost = 150, 0
    with wire(loop, Link(latency_s=1.0, loss=0.1)) as both:
        for number in range(1, times + 1):
            begins_at = loop.at
            if way == "up":
                both.send(CHUNK)
            else:
                both.far_send(CHUNK)
            # There after 1 second, and 2 later for each time that it is lost.
            loop.pass_until(begins_at + 1.5)
            is_lost = len(both.look() if way == "up" else both.got) < number * len(CHUNK)
            lost += is_lost
            loop.pass_until(begins_at + 1e6)
            assert len(both.look() if way == "up" else both.got) == number * len(CHUNK)
    # By chance it is further from 15 once in a hundred times.
    assert abs(lost - 0.1 * times) < 10


def test_only_messages_are_lost(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0, loss=0.99)) as both:
        both.send(PINGREQ * 20)
        loop.pass_until(1.0)
        assert both.look() == PINGREQ * 20


def test_each_repetition_takes_another_round_trip(loop: HandLoop) -> None:
    clock, gate = LiveClock(loop), ConnectGate(loop)
    weather = LinkWeather(loop, clock, gate, Random(1), Link(loss=0.5, latency_s=1.0))
    delays = {weather.delay_s(PUBLISH) for _ in range(1000)}
    assert len(delays) > 5 and delays <= {1.0 + 2.0 * lost for lost in range(30)}


def test_who_sends_too_much_has_to_wait(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(SEGMENT_BYTES))) as both:
        both.send(HEAD + bytes(WINDOW_BYTES + 2 * SEGMENT_BYTES - len(HEAD)))
        assert len(both.left_to_send) == 2 * SEGMENT_BYTES
        loop.pass_until(1.0)
        assert len(both.left_to_send) == SEGMENT_BYTES
        loop.pass_until(2.0)
        assert both.left_to_send == b""


def test_what_the_device_cannot_take_yet_stays_in_the_kernel(loop: HandLoop) -> None:
    with wire(loop, Link(down=Bandwidth(SEGMENT_BYTES))) as both:
        both.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        both.near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sent = both.far.send(HEAD)
        for _ in range(500):
            with suppress(BlockingIOError):
                sent += both.far.send(bytes(65536))
            loop.settle()
        # The window and the kernel's two buffers are full, and nothing has arrived.
        assert WINDOW_BYTES < sent < 2_000_000 and both.got == b""
        at = 0.0
        while len(both.got) < sent:
            at += 10.0
            loop.pass_until(at)
        assert len(both.got) == sent


def test_a_cut_in_the_middle_of_a_transfer_is_a_reset_for_both(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(SEGMENT_BYTES), cut_every_s=3.0)) as both:
        data = TEN * 5
        both.send(data)
        at = 0.0
        while both.outcome is None:
            at += 1.0
            loop.pass_until(at)
            both.look()
            assert at < 50, "it was never cut"
        both.look()
        assert (both.outcome, both.far_outcome) == ("reset", "reset")
        assert 0 < len(both.far_got) < len(data) and data.startswith(both.far_got)
        assert both.weather.cuts == 1


def test_nothing_is_cut_while_nothing_is_transferred(loop: HandLoop) -> None:
    with wire(loop, Link(cut_every_s=1e-9)) as both:
        loop.pass_until(1e9)
        both.look()
        assert (both.outcome, both.far_outcome) == (None, None)


def test_half_open_is_silent_in_both_directions_and_goes_on(loop: HandLoop) -> None:
    with wire(loop) as both:
        both.weather.go()
        both.send(b"question")
        both.far.send(b"answer")
        loop.pass_until(1000.0)
        assert both.look() == b"" and both.got == b""
        assert (both.outcome, both.far_outcome) == (None, None)
        both.weather.come()
        assert both.look() == b"question"
        loop.until(lambda: both.got == b"answer")


def test_what_was_under_way_arrives_when_the_network_is_back(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0)) as both:
        both.send(b"question")
        both.weather.go()
        loop.pass_until(1000.0)
        assert both.look() == b""
        both.weather.come()
        assert both.look() == b"question"


def test_what_the_broker_sent_in_the_silence_sets_out_when_it_ends(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0)) as both:
        both.weather.go()
        both.far.send(b"answer")
        loop.pass_until(1000.0)
        both.weather.come()
        loop.settle()
        assert both.got == b""
        loop.pass_until(1001.0)
        assert both.got == b"answer"


def test_a_device_that_gives_up_in_silence_is_noticed_later(loop: HandLoop) -> None:
    with wire(loop) as both:
        both.weather.go()
        both.close()
        both.look()
        assert both.far_outcome is None
        both.weather.come()
        both.look()
        assert both.far_outcome == "closed"


def test_what_was_still_to_be_sent_is_lost_with_the_power(loop: HandLoop) -> None:
    with wire(loop, Link(latency_s=1.0)) as both:
        both.send(b"last words")
        both.weather.go()
        both.close()
        both.weather.lose_power()
        loop.pass_until(1000.0)
        both.look()
        assert both.far_outcome is None
        both.weather.come()
        assert both.look() == b""
        assert both.far_outcome == "reset"


def test_closing_waits_for_what_is_under_way(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(SEGMENT_BYTES))) as both:
        both.send(TEN)
        both.close()
        loop.pass_until(9.5)
        both.look()
        assert both.far_outcome is None
        loop.pass_until(10.0)
        assert both.look() == TEN
        assert both.far_outcome == "closed"


def test_a_reset_waits_for_nothing(loop: HandLoop) -> None:
    with wire(loop, Link(up=Bandwidth(SEGMENT_BYTES))) as both:
        both.send(TEN)
        linger_of_zero = b"\1\0\0\0\0\0\0\0"
        both.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_of_zero)
        both.close()
        assert both.look() == b""
        assert both.far_outcome == "reset"


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_the_brokers_end_arrives_behind_what_it_sent(loop: HandLoop, ending: str) -> None:
    with wire(loop, Link(latency_s=1.0)) as both:
        both.far.send(b"answer")
        loop.settle()
        if ending == "reset":
            linger_of_zero = b"\1\0\0\0\0\0\0\0"
            both.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_of_zero)
        both.far.close()
        loop.settle()
        assert (both.got, both.outcome) == (b"", None)
        loop.pass_until(1.0)
        assert (both.got, both.outcome) == (b"answer", ending)


def test_where_nothing_is_made_up_the_socket_is_the_kernels(loop: HandLoop) -> None:
    weather = LinkWeather(loop, LiveClock(loop), ConnectGate(loop), Random(0))
    with socket.socket() as plain:
        assert weather.wrap(plain) is plain


def test_who_connects_while_the_network_is_gone_waits(loop: HandLoop) -> None:
    weather = LinkWeather(loop, LiveClock(loop), ConnectGate(loop), Random(0))
    tried: list[str] = []
    weather.ask(lambda: tried.append("first"))
    loop.settle()
    assert tried == []
    weather.come()
    loop.settle()
    assert tried == ["first"]


def test_who_waits_for_its_turn_when_the_network_goes_waits_on(loop: HandLoop) -> None:
    gate = ConnectGate(loop, at_once=1)
    gate.ask("other", lambda: None)
    weather = LinkWeather(loop, LiveClock(loop), gate, Random(0))
    tried: list[str] = []
    weather.come()
    weather.ask(lambda: tried.append("first"))
    weather.go()
    gate.leave("other")
    loop.settle()
    assert tried == []
    weather.come()
    loop.settle()
    assert tried == ["first"]
    # While it is gone its place is free for others.
    weather.go()
    gate.ask("another", lambda: tried.append("second"))
    loop.settle()
    assert tried == ["first", "second"]


def test_who_no_longer_wants_to_connect_does_not(loop: HandLoop) -> None:
    weather = LinkWeather(loop, LiveClock(loop), ConnectGate(loop), Random(0))
    tried: list[str] = []
    weather.ask(lambda: tried.append("first"))
    weather.done()
    weather.come()
    loop.settle()
    assert tried == []
