"""Masks are ChaCha20's keystream, and take themselves away."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmqtt.masking.masks import add_mask, add_masks

KEYSTREAMS = {
    # RFC 8439, appendix A.1, test vectors 1 and 2: key 0, nonce 0, blocks 0 and 1.
    bytes(32): "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    # Test vector 3: block 1 of the key that ends in a 1.
    bytes(31) + b"\1": "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
    "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    # Test vector 4: block 2.
    b"\0\xff" + bytes(30): "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
    "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
}
FIRST_BLOCKS = {bytes(32): 0, bytes(31) + b"\1": 1, b"\0\xff" + bytes(30): 2}


@pytest.mark.parametrize("seed", KEYSTREAMS)
def test_a_mask_is_the_keystream_of_rfc_8439(seed: bytes) -> None:
    wanted = bytes.fromhex(KEYSTREAMS[seed])
    start = 64 * FIRST_BLOCKS[seed]
    words = np.zeros((start + len(wanted)) // 4, np.uint32)
    add_mask(words, seed)
    assert words.astype("<u4").tobytes()[start:] == wanted


def _mask(size: int, seed: bytes) -> np.ndarray:
    words = np.zeros(size, np.uint32)
    add_mask(words, seed)
    return words


@pytest.mark.parametrize("size", [0, 1, 32_767, 32_768, 32_769, 100_000])
def test_a_shorter_mask_is_the_beginning_of_a_longer_one(size: int) -> None:
    seed = bytes(range(32))
    assert np.array_equal(_mask(size, seed), _mask(150_000, seed)[:size])


@given(
    st.integers(0, 2000),
    st.binary(min_size=32, max_size=32),
    st.integers(-8, 8),
    st.integers(0, 2**32 - 1),
)
def test_a_mask_added_so_many_times_is_that_multiple(
    size: int, seed: bytes, times: int, value: int
) -> None:
    words = np.full(size, value, np.uint32)
    add_mask(words, seed, times)
    wanted = (value + times * _mask(size, seed).astype(np.int64)) % 2**32
    assert np.array_equal(words, wanted)
    add_mask(words, seed, -times)
    assert (words == value).all()


@given(
    st.sampled_from([0, 1, 1000, 32_768, 70_000]),
    st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, 8)), max_size=4),
)
# More than are expanded side by side.
@example(1000, [(bytes([number]) * 32, 1 + number % 8) for number in range(70)])
@settings(deadline=None)
def test_many_masks_at_once_are_the_same_as_one_after_the_other(
    size: int, many: list[tuple[bytes, int]]
) -> None:
    at_once, in_turn = np.ones(size, np.uint32), np.ones(size, np.uint32)
    add_masks(at_once, many)
    for seed, times in many:
        add_mask(in_turn, seed, times)
    assert np.array_equal(at_once, in_turn)
