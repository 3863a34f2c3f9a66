"""Few bytes that would become many: refused before they do."""

import struct
import tracemalloc
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import zstandard

from fedmqtt import codec_chain, deltas, messages, status_pages, weights
from fedmqtt.deltas import DeltaError
from fedmqtt.messages import WireError
from fedmqtt.status_pages import PageError
from fedmqtt.weights import WeightsError
from round_monitor.board import Board
from tests.fedmqtt.test_messages import EXAMPLES
from tests.fuzz.numbers import CHAINS, LAYOUT, SIZE, chances

MANY = 300_000
FACTOR = 64
BESIDE_BYTES = 256 * 1024
_pack = msgspec.msgpack.encode


def peak_of(action: Callable[[], object], refused: type[Exception] | None) -> int:
    tracemalloc.start()
    try:
        if refused is None:
            action()
        else:
            with pytest.raises(refused):
                action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _with(name: str, field: str, value: bytes) -> bytes:
    """An example's bytes with another value of one field."""
    plain = msgspec.msgpack.decode(messages.encode(EXAMPLES[name]))
    pairs = [(key, value if key == field else _pack(one)) for key, one in plain.items()]
    if field not in plain:
        pairs.append((field, value))
    return (
        b"\xde" + struct.pack(">H", len(pairs)) + b"".join(_pack(key) + one for key, one in pairs)
    )


def _list(item: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", MANY) + item * MANY


def _map(item: bytes) -> bytes:
    names = (b"\xce" + struct.pack(">I", number) for number in range(MANY))
    keys = (b"\xa4" + name[1:].replace(b"\x80", b"\x01") for name in names)
    return b"\xdf" + struct.pack(">I", MANY) + b"".join(key + item for key in keys)


BOMBS = {
    "a metric for each of many names": _with("update", "metrics", _map(b"\xcb" + bytes(8))),
    "a confusion matrix of many classes": _with(
        "evaluation",
        "measures",
        b"\x82\xacsample_count\x01\xa9confusion" + _list(b"\x91\x00"),
    ),
    "an order for many chunks": _with("go", "ranges", _list(b"\x92\x00\x01")),
    "many purposes": _with("presence", "purposes", _list(b"\xa5train")),
    "many deltas": _with("offer", "model", b"\x81\xa6deltas" + _list(b"\x90")),
    "many patterns of layers": _with("offer", "method", b"\x81\xa8personal" + _list(b"\xa1*")),
    "many of what nobody knows": _with("decline", "kind", _list(b"\x90")),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_a_message_of_many_parts_is_refused_without_making_them(data: bytes) -> None:
    for read in (
        messages.read_offer,
        messages.read_presence,
        messages.read_from_client,
        messages.read_to_client,
    ):
        assert peak_of(lambda read=read: read(data), WireError) <= BESIDE_BYTES + len(data)  # type: ignore[misc]


def test_unknown_fields_are_passed_over_without_being_made() -> None:
    data = _with("decline", "mood", _list(b"\x90"))
    assert peak_of(lambda: messages.read_from_client(data), None) <= BESIDE_BYTES


def test_a_field_that_comes_twice_counts_once() -> None:
    data = messages.encode(EXAMPLES["decline"])
    twice = bytes([data[0] + 1]) + data[1:] + b"\xa6reason\xa5other"
    found = messages.read_from_client(twice)
    assert isinstance(found, messages.Decline) and found.reason == "other"
    assert messages.read_from_client(messages.encode(found)) == found


def test_all_who_are_invited_cost_no_more_than_the_factor() -> None:
    data = _with("offer", "train", _list(b"\xa3ann"))
    assert peak_of(lambda: messages.read_offer(data), None) <= FACTOR * len(data)


@pytest.mark.parametrize("chain", [text for text in CHAINS if text.endswith("zstd")])
def test_a_bomb_of_zeros_is_refused_before_it_goes_off(chain: str) -> None:
    codec = codec_chain.read(chain)
    exact = codec.size_bytes(SIZE, LAYOUT.shapes)
    bombs = [
        zstandard.ZstdCompressor().compress(bytes(50_000_000)),
        # Does not tell how much it becomes.
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000)),
        # Tells what is asked for, and a second frame follows.
        zstandard.ZstdCompressor().compress(bytes(exact)) * 2,
        zstandard.ZstdCompressor().compress(bytes(exact))
        + zstandard.ZstdCompressor().compress(bytes(50_000_000)),
    ]
    for bomb in bombs:

        def unpack(bomb: bytes = bomb) -> object:
            return codec.unpack(bomb, SIZE, chances(), LAYOUT.shapes)

        assert len(bomb) < 10_000
        assert peak_of(unpack, ValueError) <= BESIDE_BYTES


def test_a_frame_that_lies_about_its_length_is_refused() -> None:
    chain = codec_chain.read("full+zstd")
    exact = chain.size_bytes(SIZE)
    told = zstandard.ZstdCompressor().compress(bytes(exact))
    bomb = zstandard.ZstdCompressor().compress(bytes(200 * exact))
    # The header of one before the blocks of the other.
    head = zstandard.frame_header_size(told)
    lie = told[:head] + bomb[zstandard.frame_header_size(bomb) :]
    assert zstandard.frame_content_size(lie) == exact
    assert peak_of(lambda: chain.unpack(lie, SIZE, chances()), ValueError) <= BESIDE_BYTES


def test_a_model_of_many_tensors_is_refused() -> None:
    named = b"\x92\xa1w\x91\x00"
    for count, refused in ((MANY, WeightsError), (1000, None)):
        header = b"\x82\xa6format" + _pack(weights.FORMAT) + b"\xa7tensors\xdd"
        names = [b"\x92\xa6%06d\x91\x00" % number for number in range(count)]
        data = header + struct.pack(">I", count) + b"".join(names)
        peak = peak_of(lambda data=data: weights.read(data), refused)  # type: ignore[misc]
        assert peak <= 6 * len(data) + FACTOR * 1000 * len(named) + BESIDE_BYTES


@pytest.mark.parametrize("depth", [10, 300, 500, 5000])
@pytest.mark.parametrize("told", [0xFFF, 0xFFFF, 0x3FFFFF])
def test_lists_that_say_that_they_are_long_take_nothing(depth: int, told: int) -> None:
    nest = (b"\xdd" + struct.pack(">I", told)) * depth
    assert peak_of(lambda: weights.read(nest), WeightsError) <= BESIDE_BYTES
    assert peak_of(lambda: deltas.file_bytes(nest), DeltaError) <= BESIDE_BYTES


def test_a_model_of_more_numbers_than_came_is_refused() -> None:
    header = {"format": weights.FORMAT, "tensors": [["w", [2**31 - 1] * 32]]}
    assert peak_of(lambda: weights.read(_pack(header)), WeightsError) <= BESIDE_BYTES


@pytest.mark.parametrize("name", sorted(status_pages.PAGES))
def test_a_page_of_nests_is_unreadable_and_no_more(name: str) -> None:
    for data in (b"[" * 200_000, b'{"x":' * 100_000, b'{"says":' + b"[" * 200_000):
        assert peak_of(lambda data=data: status_pages.decode(name, data), PageError) <= (  # type: ignore[misc]
            4 * len(data) + BESIDE_BYTES
        )
        board = Board()
        assert board.take(name, data) and board.unreadable_count == 1


def test_changes_that_are_no_numbers_are_decoded_as_such_and_found_out() -> None:
    # The coordinator's check is the one that refuses them (tests/coordinator/sums/test_answers.py).
    for bits in (0x7FC00000, 0xFFC00000, 0x7F800001, 0x7F800000):
        data = struct.pack("<I", bits) * SIZE
        found = codec_chain.read("full").decode(data, SIZE, chances())
        assert not np.isfinite(found).any()
