"""A delta file makes one model of another on every machine, and hostile ones make nothing."""

import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmqtt import codec_chain, delta_spans, deltas
from fedmqtt.deltas import DeltaError
from fedmqtt.topics import Digest
from fedmqtt.weights import Array

BASE = Digest("ab" * 32)
CODECS = ["full", "float16", "bfloat16", "int8", "int4+zstd", "part(share=0.3,scaled=false)+eden"]
SIZE = 1100


def numbers(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def file_of(codec: str, change: Array, base: Digest = BASE) -> bytes:
    old = np.zeros_like(change)
    return deltas.write(codec_chain.read(codec), base, 1, old, change)[0]


SHAPES = ((20, 30), (100,), (2, 100), (SIZE - 900,))


def stretches(codec: str) -> tuple[Array, Array, bytes, Array]:
    """Numbers, what they are to become, the file and what it makes of them.

    The second tensor and the third stay, and the last has no negative number.
    """
    old, new = numbers(1), numbers(2)
    new[600:900] = old[600:900]
    old[900:], new[900:] = 1e-3, np.abs(new[900:]) * 1e-3
    return old, new, *deltas.write(codec_chain.read(codec), BASE, 1, old, new, SHAPES)


@pytest.mark.parametrize("codec", [*CODECS, "eden", "lowrank(rank=2)+int8"])
def test_what_has_not_changed_stays_and_what_is_not_negative_does_not_become_so(codec: str) -> None:
    old, new, file, made = stretches(codec)
    assert made.tobytes() == deltas.apply(old, file, SHAPES).tobytes()
    assert made[600:900].tobytes() == old[600:900].tobytes()
    assert (made[900:] >= 0).all() and np.linalg.norm(new - made) < np.linalg.norm(new - old)


def test_a_delta_without_stretches_is_as_it_always_was() -> None:
    file = file_of("int8", numbers(1))
    header = msgspec.msgpack.decode(file[: file.index(b"size_bytes") + 13])
    assert list(header) == ["format", "codec", "base", "number", "scale", "size_bytes"]


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([(5, 5)], "before it begins"),
        ([(7, 5)], "before it begins"),
        ([(0, 9), (8, 20)], "out of order"),
        ([(0, SIZE + 1)], "larger model"),
        ([(0, 2**64 - 1)], "larger model"),
        # Nothing follows.
        ([(n, n + 1) for n in range(4096)], "begins with"),
        # More numbers than are left to be changed.
        ([(0, 9)], "no delta of this model"),
    ],
)
@pytest.mark.parametrize("kind", ["unchanged", "not_negative"])
def test_stretches_that_cannot_be_are_refused(
    spans: list[tuple[int, int]], why: str, kind: str
) -> None:
    is_cut = len(spans) > 9
    body = b"" if is_cut else delta_spans.write(spans) + bytes(4 * SIZE)
    if kind == "not_negative" and why.startswith("no delta"):
        body += bytes(4)
    told = {"format": deltas.FORMAT, "codec": "full", "base": BASE, "number": 1, "scale": 1.0}
    told |= {"size_bytes": len(body), kind: len(spans)}
    with pytest.raises(DeltaError, match=why):
        deltas.apply(numbers(1), msgspec.msgpack.encode(told) + body)


def test_a_change_in_full_precision_is_added_to_the_numbers() -> None:
    old, change = np.array([1, 2, 3], np.float32), np.array([0.5, 0, -3], np.float32)
    made = deltas.apply(old, file_of("full", change))
    assert made.tolist() == [1.5, 2, 0]


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_file_makes_the_same_bits_and_another_bases_chance_others(codec: str) -> None:
    old, change = numbers(1), numbers(2)
    made = deltas.apply(old, file_of(codec, change))
    assert made.tobytes() == deltas.apply(old.copy(), file_of(codec, change)).tobytes()
    assert made.dtype == np.float32 and not np.array_equal(made, old)
    if not codec_chain.read(codec).numbers.is_unbiased or codec == "full":
        return
    assert file_of(codec, change)[200:] != file_of(codec, change, Digest("cd" * 32))[200:]


@pytest.mark.parametrize(
    "codec", [*CODECS, "eden", "part(share=0.1)+eden", "part(share=0.002)+int8"]
)
def test_what_is_made_is_nearer_than_what_was_there(codec: str) -> None:
    for number in range(20):
        old, new = numbers(2 * number), numbers(2 * number + 1)
        file, made = deltas.write(codec_chain.read(codec), BASE, number, old, new)
        assert np.linalg.norm(new - made) < np.linalg.norm(new - old)
        assert made.tobytes() == deltas.apply(old, file).tobytes()


def test_one_bit_is_scaled_to_lose_a_third() -> None:
    """1 - 2 / pi of the square: the least that a rotated block's signs can lose."""
    old, new = np.zeros(2**16, np.float32), np.random.default_rng(1).normal(size=2**16)
    _, made = deltas.write(codec_chain.read("eden"), BASE, 1, old, new.astype(np.float32))
    assert np.square(new - made).sum() / np.square(new).sum() == pytest.approx(
        1 - 2 / np.pi, abs=0.01
    )


@pytest.mark.parametrize("codec", CODECS)
def test_its_beginning_tells_how_long_it_is(codec: str) -> None:
    file = file_of(codec, numbers(1))
    assert deltas.file_bytes(file) == deltas.file_bytes(file[:1024]) == len(file)


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=60)
@given(where=st.integers(0, 10**6), becomes=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_makes_numbers_or_a_delta_error(
    codec: str, where: int, becomes: int, cut: int
) -> None:
    file = bytearray(stretches(codec)[2] if where % 2 else file_of(codec, numbers(1)))
    file[where // 2 % len(file)] = becomes
    try:
        made = deltas.apply(numbers(2), bytes(file[: len(file) - cut]))
    except DeltaError:
        return
    assert made.shape == (SIZE,)


@given(st.binary(max_size=200))
def test_noise_is_no_delta(noise: bytes) -> None:
    with pytest.raises(DeltaError):
        deltas.apply(numbers(1), noise)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "fedmqtt-delta-2"}, "format"),
        ({"codec": "unheard-of"}, "unheard-of"),
        ({"codec": "zstd"}, "has to be one of"),
        ({"base": "short"}, "header"),
        ({"size_bytes": -1}, "header"),
        ({"scale": -1.0}, "header"),
        ({"scale": float("nan")}, "header"),
        ({"scale": float("inf")}, "header"),
        ({"size_bytes": 2**40}, "belong"),
        ({"codec": 7}, "header"),
        ({"unchanged": -1}, "header"),
        ({"not_negative": 4097}, "header"),
    ],
)
def test_a_header_that_lies_is_refused(change: dict[str, object], why: str) -> None:
    told: dict[str, object] = {
        "format": deltas.FORMAT,
        "codec": "full",
        "base": BASE,
        "number": 1,
        "scale": 1.0,
    }
    told["size_bytes"] = 4 * SIZE
    file = msgspec.msgpack.encode(told | change) + bytes(4 * SIZE)
    with pytest.raises(DeltaError, match=why):
        deltas.apply(numbers(1), file)


def test_nesting_is_refused() -> None:
    with pytest.raises(DeltaError):
        deltas.file_bytes(b"\x91" * 5000)


@pytest.mark.parametrize("codec", CODECS)
def test_to_apply_one_takes_no_more_memory_than_it_says(codec: str) -> None:
    old = np.zeros(1_000_000, np.float32)
    file = file_of(codec, np.ones_like(old))
    deltas.apply(old, file)
    tracemalloc.start()
    try:
        deltas.apply(old, file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 10 * old.nbytes + 2**21
