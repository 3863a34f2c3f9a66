"""Packets in a stream of bytes, whatever pieces it comes in."""

from collections.abc import Sequence

import pytest

from fleet_sim.mqtt_packets import PUBLISH, PacketCutter
from tests.fleet_sim.mqtt_bytes import PINGREQ, publish


def begins(pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where packets begin in the stream, and of which kinds."""
    cutter, at, found = PacketCutter(), 0, []
    for piece in pieces:
        parts = list(cutter.cut(piece))
        assert b"".join(part for part, _ in parts) == piece
        assert all(part for part, _ in parts)
        for part, kind in parts:
            if kind is not None:
                found.append((at, kind))
            at += len(part)
    return found


# One byte of length, two, three, four.
SIZES = [2, 129, 130, 16_386, 16_387, 2_097_156, 2_097_157]


@pytest.mark.parametrize("size", SIZES)
def test_a_packet_ends_where_its_length_says(size: int) -> None:
    stream = publish(size) + PINGREQ + publish(size)
    assert begins([stream]) == [(0, PUBLISH), (size, 12), (size + 2, PUBLISH)]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 100])
def test_it_does_not_matter_in_which_pieces_they_come(width: int) -> None:
    packets = [publish(size) for size in (2, 5, 129, 130, 1000)] + [PINGREQ, publish(16_387)]
    stream = b"".join(packets)
    pieces = [stream[start : start + width] for start in range(0, len(stream), width)]
    assert begins(pieces) == begins([stream])
    assert len(begins(pieces)) == len(packets)


def test_what_is_no_mqtt_is_passed_on_whole() -> None:
    # A length of more than four bytes.
    assert begins([b"\x30\xff\xff\xff\xff\xff" + b"x" * 1000]) == [(0, PUBLISH)]
