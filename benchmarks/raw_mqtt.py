"""Packets of MQTT 3.1.1, as few as it takes to play many clients: far faster than a library."""

import socket

_PUBLISH_RETAINED = 0x31


def connect(client: str, keepalive_s: int, *, clean: bool, will: tuple[str, bytes] | None) -> bytes:
    """Section 3.1. The will is retained, at QoS 1."""
    flags = 0x02 if clean else 0
    body = _text(client)
    if will is not None:
        flags |= 0x04 | 0x08 | 0x20
        body += _text(will[0]) + len(will[1]).to_bytes(2) + will[1]
    return _packet(0x10, _text("MQTT") + bytes([4, flags]) + keepalive_s.to_bytes(2) + body)


def subscribe(*topics: str) -> bytes:
    """At QoS 1; section 3.8."""
    return _packet(0x82, (1).to_bytes(2) + b"".join(_text(one) + b"\1" for one in topics))


def publish_retained(topic: str, payload: bytes) -> bytes:
    """At QoS 0; section 3.3."""
    return _packet(_PUBLISH_RETAINED, _text(topic) + payload)


PING = b"\xc0\x00"
"""Section 3.12."""

DISCONNECT = b"\xe0\x00"
"""Section 3.14."""


def connected(port: int, hello: bytes) -> socket.socket:
    """A connection whose CONNECT has been accepted."""
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(hello)
    answer = link.recv(4)
    if len(answer) < 4 or answer[0] != 0x20 or answer[3]:
        raise ConnectionError(f"the broker answers CONNECT with {answer.hex()}")
    return link


def _packet(kind: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, low = left >> 7, left & 0x7F
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes([kind]) + bytes(length) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()
