"""MQTT packets as bytes, of any size."""

from fleet_sim.mqtt_packets import PUBLISH

PINGREQ = b"\xc0\x00"


def publish(size: int, letter: bytes = b"x", *, body: bytes | None = None) -> bytes:
    """A message of so many bytes in all. With a `body`, only that much of it after its head."""
    for digits in range(1, 5):
        left = size - 1 - digits
        if left < 128**digits:
            head = [left >> 7 * n & 0x7F | (0x80 if n < digits - 1 else 0) for n in range(digits)]
            return bytes([PUBLISH << 4, *head]) + (letter * left if body is None else body)
    raise AssertionError("no packet is so large")
