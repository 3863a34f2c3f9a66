"""Products in the ring: those of whole numbers, to the bit, also where rounding is worst."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmqtt.committee_promise import KEY, SHORT_MAX, TERMS_MAX
from fedmqtt.masking import ring
from fedmqtt.masking.packing import Words
from fedmqtt.masking.ring import FACTOR_MAX, Wholes

RNG = np.random.default_rng(7)


def by_the_book(polynomial: Words, short: Wholes) -> NDArray[np.uint32]:
    """Modulo x^2048 + 1 and 2^32, in Python's integers: what is carried over changes its sign."""
    full = np.zeros(2 * KEY, object)
    full[:-1] = np.convolve(polynomial.astype(object), short.astype(object))
    found: NDArray[np.uint32] = ((full[:KEY] - full[KEY:]) % 2**32).astype(np.uint32)
    return found


HARD = [
    RNG.integers(0, 2**32, KEY, dtype=np.uint32),
    # Both halves as large as they come, of one sign or another.
    np.full(KEY, 0x7FFF7FFF, np.uint32),
    np.full(KEY, 0x80008000, np.uint32),
    np.resize(np.array([0x80008000, 0x7FFF7FFF], np.uint32), KEY),
]


@pytest.mark.parametrize(
    "short",
    [
        RNG.integers(-SHORT_MAX, SHORT_MAX + 1, KEY),
        RNG.integers(-FACTOR_MAX, FACTOR_MAX + 1, KEY),
        np.full(KEY, FACTOR_MAX),
        np.full(KEY, -FACTOR_MAX),
        FACTOR_MAX * (1 - 2 * (np.arange(KEY) % 2)),
        np.zeros(KEY, np.int64),
    ],
    ids=["a key", "a sum", "the largest", "the smallest", "in turns", "nothing"],
)
def test_products_are_exact(short: Wholes) -> None:
    found = ring.products(np.stack(HARD), ring.factor(short))
    for polynomial, product in zip(HARD, found, strict=True):
        assert np.array_equal(product, by_the_book(polynomial, short))


def test_the_sum_of_as_many_keys_as_there_may_be_is_a_factor() -> None:
    assert SHORT_MAX * TERMS_MAX <= FACTOR_MAX


def test_the_bound_on_rounding_leaves_room() -> None:
    # As the module's text has it.
    layers, eps = 13, 2.0**-53
    root = 4 * eps
    off = (1 + eps) ** (3 * layers) * (1 + eps * 5**0.5) ** (3 * layers + 1)
    off = off * (1 + root) ** (3 * layers) - 1
    assert off < 300 * eps
    norms = (KEY**0.5 * 2**15.5) * (KEY**0.5 * FACTOR_MAX)
    assert 300 * eps * norms < 0.053
