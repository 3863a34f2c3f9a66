import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import exact_total
from fedmqtt.codecs import zstd

LARGEST = 2**63 - 1


def test_every_whole_number_comes_back() -> None:
    total = np.array([0, -1, 1, 255, -256, 2**40, LARGEST, -LARGEST - 1])
    assert exact_total.decode(exact_total.encode(total), 8).tolist() == total.tolist()


@given(st.lists(st.integers(-LARGEST - 1, LARGEST), max_size=50))
def test_so_does_any_sum(numbers: list[int]) -> None:
    total = np.array(numbers, np.int64)
    encoded = exact_total.encode(total)
    assert len(encoded) <= exact_total.bytes_max(total.size)
    assert exact_total.decode(encoded, total.size).tolist() == numbers


def test_numbers_of_all_sizes_take_no_more_than_they_may() -> None:
    chance = np.random.default_rng(0)
    total = chance.integers(-LARGEST - 1, LARGEST, 300_000, np.int64, endpoint=True)
    encoded = len(exact_total.encode(total))
    assert 8 * total.size < encoded <= exact_total.bytes_max(total.size)


def test_small_numbers_take_few_bytes_each() -> None:
    chance = np.random.default_rng(0)
    total = chance.integers(-(2**15), 2**15, 10_000)
    assert 20_000 <= len(exact_total.encode(total)) < 20_100
    assert len(exact_total.encode(np.zeros(10_000, np.int64))) < 20


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no sum of whole numbers"),
        (b"\x09" + zstd.Stage().squeeze(bytes(36)), "no sum of whole numbers"),
        (b"\x02" + zstd.Stage().squeeze(bytes(6)), "6 bytes where 8 belong"),
        (b"\x02 no frame", "zstd"),
    ],
)
def test_what_is_no_sum_of_so_many_numbers_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        exact_total.decode(data, 4)
