"""A client that publishes as fast as its broker takes it, for `flood.py` and tests.

Speaks MQTT 3.1.1 by hand: a client library would be the narrowest place. Says "connected", and then
publishes until it is killed.
"""

import argparse
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fedmqtt import messages
from fedmqtt.messages import Chunk, Presence
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId, Topics, UpdatePart

_BATCH_BYTES = 256 * 1024
"""Written at once: so many small packets, or one large one."""

KINDS = ("junk", "chunks", "presence")
"""Bytes that are no message; pieces of an answer that nobody asked for; coming and going."""


def packets(federation: str, client: str, kind: str, qos: int, size_bytes: int) -> bytes:
    """PUBLISH packets, one after the other, to be sent again and again."""
    name, topics = ClientId(client), Topics(federation)
    address = PresenceOf(name) if kind == "presence" else UpdatePart(0, name, RoundId(1), "0")
    one = b"".join(
        _publish(topics.path(address), payload, qos) for payload in _payloads(kind, size_bytes)
    )
    return one * max(1, _BATCH_BYTES // len(one))


def _payloads(kind: str, size_bytes: int) -> list[bytes]:
    match kind:
        case "junk":
            return [b"\xc1" * size_bytes]
        case "chunks":
            chunk = Chunk(digest=Digest("ab" * 32), data=memoryview(bytes(size_bytes)))
            return [messages.encode(chunk)]
        case _:
            flaps = (Presence(online=online, session="1", task="t") for online in (True, False))
            return [messages.encode(one) for one in flaps]


def _publish(topic: str, payload: bytes, qos: int) -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (b"\x00\x01" if qos else b"") + payload
    return bytes([0x30 | qos << 1]) + _length(len(body)) + body


def _length(size: int) -> bytes:
    digits = bytearray()
    while True:
        size, digit = divmod(size, 128)
        digits.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(digits)


def _connect(client_id: str) -> bytes:
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2) + name
    return b"\x10" + _length(len(body)) + body


def _drain(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--federation", required=True)
    parser.add_argument("--id", default="mallory")
    parser.add_argument("--kind", choices=KINDS, default="junk")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0)
    parser.add_argument("--size", type=int, default=20, help="bytes in each message")
    arguments = parser.parse_args()
    broker = parse_broker_url(arguments.broker)
    with socket.create_connection((broker.host, broker.port)) as connection:
        connection.sendall(_connect(f"{arguments.federation}.{arguments.id}"))
        connection.recv(4)
        threading.Thread(target=_drain, args=(connection,), daemon=True).start()
        sys.stdout.write("connected\n")
        sys.stdout.flush()
        batch = packets(
            arguments.federation, arguments.id, arguments.kind, arguments.qos, arguments.size
        )
        while True:
            connection.sendall(batch)


if __name__ == "__main__":
    sys.exit(main())
