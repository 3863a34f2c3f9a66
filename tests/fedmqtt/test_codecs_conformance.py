"""What every codec must hold to; a new file in the folder is tested by being there.

Bounds on averages are Chebyshev's, from the error that a stage says it has: by them a stage that
keeps its word would fail once in sixteen seeds at worst, were the seeds not the same in each run.
"""

import math
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from types import UnionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fedmqtt import codec_chain
from fedmqtt.codec_chance import Chances, of_answer
from fedmqtt.codecs import LARGEST, Bytes, Factors, Largest, Numbers, Subset
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Shapes

Kind = Callable[[int], Array]

FRONT = {"part": "part(share=0.3)", "topk": "topk(share=0.3)", "lowrank": "lowrank(rank=2)"}
"""What a stage with settings that must be given is called here."""


def _names(kind: type[codec_chain.Stage] | UnionType) -> list[str]:
    stages = codec_chain.stages().items()
    return [FRONT.get(name, name) for name, stage in stages if issubclass(stage, kind)]


NUMBERS = _names(Numbers)
FRONTS = _names(codec_chain.Front)
CHAINS = [
    *NUMBERS,
    *(f"{front}+{numbers}" for front in FRONTS for numbers in NUMBERS),
    *(f"{numbers}+{behind}" for behind in _names(Bytes) for numbers in NUMBERS),
    *(f"{one}+{n}+{two}" for one in FRONTS for n in NUMBERS for two in _names(Bytes)),
]
SIZES = [0, 1, 2, 7, 63, 65, 1000, 1023, 1024, 1025, 5001]
SEEDS = 500

MEMORY_FACTOR = 8
"""Of what the numbers themselves take: what the chain says of hostile bytes."""
_MEMORY_FIXED = 2 * 1024 * 1024
"""Buffers of a fixed size, and tables made at first use."""


def chances(client: str = "ann", number: int = 1) -> Chances:
    return of_answer(7, RoundId(number), ClientId(client))


def normal(size: int) -> Array:
    return np.random.default_rng(size).normal(size=size).astype(np.float32)


def spiky(size: int) -> Array:
    """One change outweighs all others: what a single rotation cannot spread, so that 1-bit codes
    would lose the others, a third of the norm."""
    values = np.full(size, 0.03, np.float32)
    values[:1] = 3
    return values


def heavy_tailed(size: int) -> Array:
    return (np.random.default_rng(size).laplace(size=size) ** 3).astype(np.float32)


def shapes(size: int) -> Shapes:
    """Of a layer, a bias, and a layer with four dimensions, as far as the numbers suffice."""
    side = math.isqrt(size // 3)
    layers = ((side, side), (side,), (side, 1, 1, side))
    return (*layers, (size - 2 * side * side - side,))


def distance(one: Array, other: Array) -> float:
    return float(np.linalg.norm(one.astype(np.float64) - other))


def round_trip(text: str, values: Array, seeds: Chances) -> Array:
    chain = codec_chain.read(text)
    of = shapes(values.size)
    return chain.decode(bytes(chain.encode(values, seeds, of)), values.size, seeds, of)


@pytest.mark.parametrize("stage", codec_chain.stages().values(), ids=codec_chain.stages())
def test_a_stage_has_all_that_its_kind_asks_for(stage: type[codec_chain.Stage]) -> None:
    # A struct can be made without, unlike other abstract classes.
    asked = [name for name in dir(stage) if hasattr(getattr(stage, name), "__isabstractmethod__")]
    assert asked == []


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", SIZES)
def test_size_and_type_come_back(chain: str, size: int) -> None:
    back = round_trip(chain, normal(size), chances())
    assert back.dtype == np.float32
    assert back.shape == (size,)


@pytest.mark.parametrize("chain", NUMBERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [normal, spiky, heavy_tailed])
def test_what_comes_back_is_within_the_stated_error(chain: str, size: int, kind: Kind) -> None:
    values = kind(size)
    stage = codec_chain.read(chain).numbers
    # The last digits are those of float32.
    most = stage.error_max(values) + 1e-6 * float(np.linalg.norm(values))
    squares = []
    for number in range(20):
        back = round_trip(chain, values, chances(number=number))
        squares.append(distance(back, values) ** 2)
        assert math.sqrt(squares[-1]) <= most
    # Markov: it is four times the mean in one of four cases at most.
    assert np.mean(squares) <= 4 * stage.error_square(values) + most**2 * 1e-3


@pytest.mark.parametrize("chain", NUMBERS)
@pytest.mark.parametrize("size", [1, 7, 1025])
@pytest.mark.parametrize("kind", [normal, spiky, heavy_tailed])
def test_the_mean_over_many_clients_is_the_truth(chain: str, size: int, kind: Kind) -> None:
    values = kind(size)
    stage = codec_chain.read(chain).numbers
    total = np.zeros(size)
    for number in range(SEEDS):
        total += round_trip(chain, values, chances(f"client-{number}"))
    found = distance((total / SEEDS).astype(np.float32), values)
    if stage.is_unbiased:
        # Chebyshev: the mean of n has an n-th of the square error; four deviations.
        allowed = 4 * math.sqrt(stage.error_square(values) / SEEDS)
    else:
        allowed = stage.error_max(values)
    assert found <= allowed + 1e-6 * float(np.linalg.norm(values))


@pytest.mark.parametrize("front", _names(Subset))
@pytest.mark.parametrize("size", [1, 7, 1025])
def test_the_mean_over_many_rounds_is_the_truth(front: str, size: int) -> None:
    values = normal(size)
    total = np.zeros(size)
    squares = 0.0
    for number in range(SEEDS):
        back = round_trip(f"{front}+full", values, chances(number=number))
        squares += distance(back, values) ** 2 / SEEDS
        total += back
    norm = float(np.linalg.norm(values))
    # Runs are 4 long at most where 0.3 is kept.
    assert squares <= 1.1 * 3 * norm**2
    assert distance((total / SEEDS).astype(np.float32), values) <= 4 * math.sqrt(3 / SEEDS) * norm


@pytest.mark.parametrize("front", _names(Subset))
def test_a_subset_is_that_of_all_clients_in_a_round_and_another_in_the_next(front: str) -> None:
    values = np.ones(1000, np.float32)

    def sent(client: str, number: int) -> NDArray[np.intp]:
        return np.flatnonzero(round_trip(f"{front}+full", values, chances(client, number)))

    assert np.array_equal(sent("ann", 1), sent("bob", 1))
    assert not np.array_equal(sent("ann", 1), sent("ann", 2))


@pytest.mark.parametrize("front", _names(Largest))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [normal, spiky, heavy_tailed])
def test_the_largest_are_sent_and_all_others_are_not(front: str, size: int, kind: Kind) -> None:
    values, chain = kind(size), codec_chain.read(f"{front}+full")
    back = round_trip(chain.text, values, chances())
    kept = math.ceil(0.3 * size)
    sent = back != 0
    assert sent.sum() == kept
    np.testing.assert_array_equal(back[sent], values[sent])
    if 0 < kept < size:
        assert np.abs(values[sent]).min() >= np.abs(values[~sent]).max()
    # As its docstring says, and certain.
    assert distance(back, values) ** 2 <= (1 - 0.3) * np.linalg.norm(values) ** 2 * (1 + 1e-6)


@pytest.mark.parametrize("front", _names(Largest))
def test_hostile_places_are_refused(front: str) -> None:
    chain = codec_chain.read(f"{front}+full")
    good = bytearray(chain.encode(normal(1000), chances()))
    kept = math.ceil(0.3 * 1000)
    head = len(good) - 4 * kept
    refused = 0
    for n in range(head):
        for bit in range(8):
            bad = good.copy()
            bad[n] ^= 1 << bit
            try:
                sent = chain.unpack(bytes(bad), 1000, chances())
            except ValueError:
                refused += 1
            else:
                assert sent.places is not None and sent.places[-1] < 1000
                assert (np.diff(sent.places) > 0).all()
    # A bit more or less in the rest of the places is one place too many or too few.
    assert refused > 4 * head


@pytest.mark.parametrize("front", _names(Factors))
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [normal, spiky, heavy_tailed])
def test_what_factors_leave_out_is_never_more_than_there_was(
    front: str, numbers: str, size: int, kind: Kind
) -> None:
    values = kind(size)
    back = round_trip(f"{front}+{numbers}", values, chances())
    # As its kind says, and certain: else what is left out would grow from round to round.
    assert distance(back, values) <= (1 + 1e-6) * float(np.linalg.norm(values))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", [1, 65, 1025])
def test_without_shapes_the_numbers_are_one_vector(chain: str, size: int) -> None:
    codec, values = codec_chain.read(chain), normal(size)
    data = bytes(codec.encode(values, chances()))
    assert data == bytes(codec.encode(values, chances(), ((size,),)))
    assert codec.squeezed is not None or len(data) == codec.size_bytes(size)
    np.testing.assert_array_equal(
        codec.decode(data, size, chances()), codec.decode(data, size, chances(), ((size,),))
    )


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", SIZES)
def test_no_change_stays_no_change(chain: str, size: int) -> None:
    back = round_trip(chain, np.zeros(size, np.float32), chances())
    np.testing.assert_array_equal(back, np.zeros(size, np.float32))


@pytest.mark.parametrize("chain", CHAINS)
def test_it_is_a_function_of_numbers_and_seed(chain: str) -> None:
    codec, values = codec_chain.read(chain), normal(1025)
    of = shapes(values.size)
    first = bytes(codec.encode(values, chances(), of))
    assert first == bytes(codec.encode(values.copy(), chances(), of))
    once, again = (codec.decode(first, values.size, chances(), of) for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_another_process_makes_the_same_bits() -> None:
    here = [_fingerprint(chain) for chain in CHAINS]
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import importlib.util\n"
        f"found = importlib.util.spec_from_file_location('conformance', {__file__!r})\n"
        "suite = importlib.util.module_from_spec(found); found.loader.exec_module(suite)\n"
        "print([suite._fingerprint(chain) for chain in suite.CHAINS])\n"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert there.stdout.decode().strip() == str(here)


def _fingerprint(chain: str) -> tuple[int, int]:
    codec, values = codec_chain.read(chain), heavy_tailed(3001)
    of = shapes(values.size)
    data = bytes(codec.encode(values, chances(), of))
    return zlib.crc32(data), zlib.crc32(codec.decode(data, values.size, chances(), of).tobytes())


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", [1, 65, 1025])
def test_bytes_of_another_size_are_refused(chain: str, size: int) -> None:
    codec = codec_chain.read(chain)
    data = bytes(codec.encode(normal(size), chances(), shapes(size)))
    for wrong in {data + b"\x00", data + bytes(4), data * 2, data[:-1], data[:-4], b""} - {data}:
        with pytest.raises(ValueError, match=r"belong|zstd|scale|number"):
            codec.decode(wrong, size, chances(), shapes(size))


@pytest.mark.parametrize("chain", CHAINS)
def test_bytes_for_more_or_fewer_numbers_are_refused(chain: str) -> None:
    codec = codec_chain.read(chain)
    data = bytes(codec.encode(normal(1025), chances(), shapes(1025)))
    for size in (0, 1, 100, 3000):
        with pytest.raises(ValueError, match="belong"):
            codec.decode(data, size, chances(), shapes(size))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 2 * LARGEST])
def test_what_is_no_change_is_refused_before_it_is_sent(chain: str, wrong: float) -> None:
    values = normal(100)
    values[37] = wrong
    with pytest.raises(ValueError, match="has values that are"):
        codec_chain.read(chain).encode(values, chances())


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1e4])
def test_tiny_and_large_changes_come_back_as_finite_ones(chain: str, size: float) -> None:
    values = normal(1025) / np.float32(8) * np.float32(size)
    back = round_trip(chain, values, chances())
    assert np.isfinite(back).all()
    assert np.abs(back).max() <= 100 * np.abs(values).max() + 1e-37


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=40)
@given(data=st.data(), size=st.integers(0, 70))
def test_noise_is_numbers_or_a_value_error(chain: str, data: st.DataObject, size: int) -> None:
    codec = codec_chain.read(chain)
    exact = codec.size_bytes(size, shapes(size))
    noise = data.draw(st.binary(max_size=64) | st.binary(min_size=exact, max_size=exact))
    if codec.squeezed is not None and data.draw(st.booleans()):
        noise = codec.squeezed.squeeze(noise)
    try:
        back = codec.decode(noise, size, chances(), shapes(size))
    except ValueError:
        return
    assert back.shape == (size,)
    assert back.dtype == np.float32


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=40)
@given(where=st.integers(0, 10**6), becomes=st.integers(0, 255))
def test_a_damaged_answer_is_numbers_or_a_value_error(chain: str, where: int, becomes: int) -> None:
    codec = codec_chain.read(chain)
    data = bytearray(codec.encode(heavy_tailed(1100), chances(), shapes(1100)))
    data[where % len(data)] = becomes
    try:
        back = codec.decode(bytes(data), 1100, chances(), shapes(1100))
    except ValueError:
        return
    assert back.shape == (1100,)


@pytest.mark.parametrize("chain", [*CHAINS, "part(share=1)+eden+zstd"])
def test_decoding_takes_no_more_memory_than_it_says(chain: str) -> None:
    size = 2_000_000
    codec = codec_chain.read(chain)
    data = bytes(codec.encode(normal(size), chances(), shapes(size)))
    tracemalloc.start()
    try:
        # Of another round, so that nothing is known yet of which numbers were sent.
        codec.decode(data, size, chances(number=2), shapes(size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_FACTOR * 4 * size + _MEMORY_FIXED


@pytest.mark.parametrize("chain", CHAINS)
def test_a_size_that_is_claimed_is_not_allocated(chain: str) -> None:
    with pytest.raises(ValueError, match=r"belong|zstd|scale|number"):
        codec_chain.read(chain).decode(bytes(64), 2**40, chances())


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(-LARGEST, LARGEST, width=32)))
def test_full_precision_is_exact_for_every_float(values: Array) -> None:
    chain = codec_chain.read("full")
    data = bytes(chain.encode(values, chances()))
    assert data == values.astype("<f4").tobytes()
    assert chain.decode(data, values.size, chances()).tobytes() == values.tobytes()
