"""Bits for noise."""

import hashlib

import pytest

from fedmqtt.privacy import chance

KEY = bytes(range(32))


def test_a_stream_is_the_same_however_it_is_taken() -> None:
    whole = chance.keyed(KEY, b"a")(200_000)
    piecewise = chance.keyed(KEY, b"a")
    sizes = [0, 1, 7, 65_536, 65_535, 1, 68_920]
    assert b"".join(piecewise(size) for size in sizes) == whole


def test_it_is_shake_of_lengths_and_fields_and_a_counter() -> None:
    said = (32).to_bytes(8, "little") + KEY + (2).to_bytes(8, "little") + b"ab" + bytes(8)
    assert chance.keyed(KEY, b"ab")(16) == hashlib.shake_256(said).digest(16)


def test_other_contexts_and_keys_have_other_streams() -> None:
    contexts = [(), (b"",), (b"", b""), (b"ab",), (b"a", b"b"), (b"b", b"a")]
    streams = {chance.keyed(KEY, *context)(16) for context in contexts}
    streams.add(chance.keyed(bytes(32), b"ab")(16))
    assert len(streams) == len(contexts) + 1


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        chance.keyed(KEY[:31], b"a")
