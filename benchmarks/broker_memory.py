"""What one idle client costs the broker: memory, and bytes on the wire.

    python benchmarks/broker_memory.py --clients 5000
    python benchmarks/broker_memory.py --clients 5000 --wire-s 300

A Mosquitto of its own, and connections that subscribe to what an idle client does (the offer, its
inbox, its own presence), by MQTT 3.1.1, without TLS. For each way to be there, a table has the
broker's resident memory for each client, above that of an empty one:

    session    kept by the broker while the client is away, or ended with its connection
    presence   retained, and a will; or neither, as in a quiet federation
    connected  now, or gone since and its session kept

Then bytes a client and day that is idle: TCP payload of the pings, which are counted on each socket
for `--wire-s` seconds and computed for a day, and with 40 bytes of IP and TCP headers for each of
the four packets of a ping (ping, answer, and two acknowledgements), which is computed.
"""

import argparse
import resource
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import raw_mqtt
from benchmarks.own_mosquitto import own_mosquitto
from benchmarks.processes import rss_mb
from fedmqtt import messages
from fedmqtt.messages import Presence
from fedmqtt.topics import ClientId, Inbox, PresenceOf, Topics

_DAY_S = 86_400
_HEADERS_BYTES = 40
_PACKETS_A_PING = 4
_SETTLES_S = 2.0
_TOPICS = Topics("fleet")
_WAYS = (
    ("ended with it", "none", False, False),
    ("kept", "none", True, False),
    ("ended with it", "retained, will", False, True),
    ("kept", "retained, will", True, True),
)


class _Measured(NamedTuple):
    connected_kb: float
    away_kb: float | None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--keepalive-s", type=int, default=60, help="as clients have by default")
    parser.add_argument("--wire-s", type=float, default=180.0, help="0: leave that out")
    told = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{'session':>14} {'presence':>15} {'kB connected':>12} {'kB away':>8}")
    for session, presence, is_kept, is_told in _WAYS:
        found = _memory(told.clients, told.keepalive_s, is_kept=is_kept, is_told=is_told)
        away = "-" if found.away_kb is None else f"{found.away_kb:.2f}"
        print(f"{session:>14} {presence:>15} {found.connected_kb:12.2f} {away:>8}", flush=True)
    if told.wire_s:
        _tell_wire(told.clients, told.keepalive_s, told.wire_s)
    return 0


def _memory(count: int, keepalive_s: int, *, is_kept: bool, is_told: bool) -> _Measured:
    connected = _each_kb(count, keepalive_s, is_kept, is_told, stays=True)
    # At another broker, where no two were ever there at once: what is freed need not be given back.
    away = _each_kb(count, keepalive_s, is_kept, is_told, stays=False) if is_kept else None
    return _Measured(connected, away)


def _each_kb(count: int, keepalive_s: int, is_kept: bool, is_told: bool, *, stays: bool) -> float:
    links: list[socket.socket] = []
    with own_mosquitto() as (pid, port):
        before = rss_mb(pid)
        for number in range(count):
            link = _client(port, number, keepalive_s, is_kept, is_told)
            if stays:
                links.append(link)
            else:
                # In good order: its will would be another presence, of the same size.
                link.sendall(raw_mqtt.DISCONNECT)
                link.close()
        time.sleep(_SETTLES_S)
        after = rss_mb(pid)
        for link in links:
            link.close()
    return 1000 * (after - before) / count


def _client(
    port: int, number: int, keepalive_s: int, is_kept: bool, is_told: bool
) -> socket.socket:
    name = ClientId(f"device-{number:07}")
    inbox, presence = _TOPICS.path(Inbox(name)), _TOPICS.path(PresenceOf(name))
    gone = messages.encode(Presence(online=False, session="0123456789abcdef"))
    there = Presence(
        online=True,
        session="0123456789abcdef",
        task="linear",
        purposes=("train", "evaluate"),
        program="fedmqtt 1.0",
        draws=True,
    )
    hello = raw_mqtt.connect(
        f"fleet.{name}", keepalive_s, clean=not is_kept, will=(presence, gone) if is_told else None
    )
    link = raw_mqtt.connected(port, hello)
    link.sendall(raw_mqtt.subscribe(_TOPICS.offer, inbox, presence))
    if is_told:
        link.sendall(raw_mqtt.publish_retained(presence, messages.encode(there)))
    return link


def _tell_wire(count: int, keepalive_s: int, wire_s: float) -> None:
    """Pings as the client's library sends them: one for each keepalive without another word."""
    count = min(count, 100)
    with own_mosquitto() as (_, port):
        links = [_client(port, number, keepalive_s, True, False) for number in range(count)]
        sent, received, pings = _count_bytes(links, keepalive_s, wire_s)
    a_day = _DAY_S / wire_s / count
    payload, headers = (sent + received) * a_day, pings * a_day * _PACKETS_A_PING * _HEADERS_BYTES
    print(
        f"idle, keepalive {keepalive_s} s: {sent + received} bytes in {pings} pings of {count}"
        f" clients in {wire_s:.0f} s; that is {payload:,.0f} bytes of MQTT a client and day, and"
        f" {payload + headers:,.0f} with headers (computed)"
    )


def _count_bytes(
    links: Sequence[socket.socket], keepalive_s: int, wire_s: float
) -> tuple[int, int, int]:
    """Sent, received, and pings."""
    watching = selectors.DefaultSelector()
    for link in links:
        watching.register(link, selectors.EVENT_READ)
    # What came of CONNECT and SUBSCRIBE is none of it.
    time.sleep(_SETTLES_S)
    for key, _ in watching.select(0):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.recv(65536)
    began = time.monotonic()
    next_ping = [began + keepalive_s * index / len(links) for index in range(len(links))]
    sent = received = pings = 0
    while (now := time.monotonic()) < began + wire_s:
        for index, link in enumerate(links):
            if next_ping[index] <= now:
                link.sendall(raw_mqtt.PING)
                sent, pings = sent + len(raw_mqtt.PING), pings + 1
                next_ping[index] += keepalive_s
        for key, _ in watching.select(0.05):
            assert isinstance(key.fileobj, socket.socket)
            received += len(key.fileobj.recv(65536))
    return sent, received, pings


if __name__ == "__main__":
    sys.exit(main())
