"""What every codec must hold to; a new file in the folder is tested by being there."""

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmqtt import codecs, parts
from fedmqtt.codecs import full

NAMES = parts.names(codecs)
FLOATS = st.floats(-1e3, 1e3, width=32)


@pytest.fixture(params=NAMES, scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return parts.load(codecs, request.param)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 1000, 40_000])
def test_size_and_type_come_back(codec: ModuleType, size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    back = codec.decode(memoryview(bytes(codec.encode(values))), size)
    assert back.dtype == np.float32
    assert back.shape == (size,)
    # Whatever a codec saves, it must not turn a change around.
    assert size == 0 or float(back @ values) > 0


@pytest.mark.parametrize("size", [1, 9, 1000])
def test_no_change_stays_no_change(codec: ModuleType, size: int) -> None:
    back = codec.decode(bytes(codec.encode(np.zeros(size, np.float32))), size)
    np.testing.assert_array_equal(back, np.zeros(size, np.float32))


def test_encoding_is_a_function(codec: ModuleType) -> None:
    values = np.random.default_rng(3).normal(size=100).astype(np.float32)
    assert bytes(codec.encode(values)) == bytes(codec.encode(values.copy()))


@pytest.mark.parametrize("size", [1, 100])
def test_bytes_of_another_size_are_refused(codec: ModuleType, size: int) -> None:
    data = bytes(codec.encode(np.ones(size, np.float32)))
    for wrong in [b"", data[:-1], data + b"\x00", data * 2]:
        with pytest.raises(ValueError):
            codec.decode(wrong, size)


@settings(max_examples=50)
@given(data=st.binary(max_size=64), size=st.integers(0, 20))
def test_noise_is_numbers_or_a_value_error(codec: ModuleType, data: bytes, size: int) -> None:
    try:
        back = codec.decode(data, size)
    except ValueError:
        return
    assert back.shape == (size,)
    assert back.dtype == np.float32


def test_a_size_that_is_claimed_is_not_allocated(codec: ModuleType) -> None:
    with pytest.raises(ValueError):
        codec.decode(bytes(64), 2**50)


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32)))
def test_full_precision_is_exact_for_every_float(values: np.ndarray) -> None:
    data = bytes(full.encode(values))
    assert data == values.astype("<f4").tobytes()
    assert full.decode(data, values.size).tobytes() == values.tobytes()
