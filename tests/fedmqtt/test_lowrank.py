"""What factors keep of matrices, against numpy's singular value decomposition."""

import struct

import numpy as np
import pytest

from fedmqtt import codec_chain
from fedmqtt.codec_chance import Chances, of_answer
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Shapes

CHANCES = of_answer(7, RoundId(1), ClientId("ann"))
SHAPES: Shapes = ((30, 20), (30,), (8, 3, 2, 2), (), (2, 2))
SIZE = 30 * 20 + 30 + 8 * 12 + 1 + 4


def normal(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sent(
    values: Array, rank: int, shapes: Shapes, numbers: str = "full", seeds: Chances = CHANCES
) -> Array:
    chain = codec_chain.read(f"lowrank(rank={rank})+{numbers}")
    data = bytes(chain.encode(values, seeds, shapes))
    assert len(data) == chain.size_bytes(values.size, shapes)
    return chain.decode(data, values.size, seeds, shapes)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e6])
def test_a_matrix_of_that_rank_or_less_comes_back_as_it_was(rank: int, size: float) -> None:
    matrix = (normal(30, rank) @ normal(rank, 20, seed=2)).ravel() * np.float32(size)
    back = sent(matrix, 3, ((30, 20),))
    np.testing.assert_allclose(back, matrix, atol=1e-5 * np.abs(matrix).max())


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (40, 6, 10)])
def test_of_another_hardly_more_is_left_out_than_must_be(rank: int, shape: tuple[int, ...]) -> None:
    """Singular values that halve from one to the next: as in what training changes, few count."""
    rows, columns = shape[0], 2400 // shape[0]
    left, right = (np.linalg.qr(normal(n, 40, seed=n))[0] for n in (rows, columns))
    spectrum = 2.0 ** -np.arange(40)
    matrix = (left * spectrum @ right.T).astype(np.float32)
    left_out = np.linalg.norm(matrix.ravel() - sent(matrix.ravel(), rank, (shape,)))
    must_be = np.linalg.norm(spectrum[rank:])
    assert must_be * (1 - 1e-5) <= left_out <= 1.01 * must_be


def test_biases_and_matrices_too_small_for_it_are_sent_whole() -> None:
    values = normal(SIZE)
    back = sent(values, 3, SHAPES)
    layer, bias, filters, rest = np.split(np.arange(SIZE), np.cumsum([600, 30, 96]))
    np.testing.assert_array_equal(back[bias], values[bias])
    np.testing.assert_array_equal(back[rest], values[rest])
    for tensor in (layer, filters):
        assert 0 < np.linalg.norm((back - values)[tensor]) < np.linalg.norm(values[tensor])
    # 3 (30 + 20), 30, 3 (8 + 12), 1 and 4 numbers; 3, 1, 3, 1 and 1 scales.
    chain = codec_chain.read("lowrank(rank=3)+full")
    assert chain.size_bytes(SIZE, SHAPES) == 4 * (150 + 30 + 60 + 1 + 4) + 4 * 9


def test_a_layer_with_large_changes_does_not_drown_another() -> None:
    values = normal(SIZE)
    values[:600] *= 1e6
    back = sent(values, 3, SHAPES, "int8")
    error = np.linalg.norm((back - values)[600:630])
    assert error < 0.02 * np.linalg.norm(values[600:630])


def test_what_one_bit_loses_of_the_factors_their_scales_make_up_for() -> None:
    """Right on average, 1-bit factors would be off by more than all of the matrix: what is left
    out would grow."""
    # Each factor fills a block of eden's.
    matrix = (normal(1024, 1) @ normal(1, 1024, seed=2)).ravel()
    left_out = matrix - sent(matrix, 1, ((1024, 1024),), "eden")
    # What signs keep of each factor, 2 / pi of its square, and of both together.
    share = np.square(left_out).sum() / np.square(matrix).sum()
    assert share == pytest.approx(1 - (2 / np.pi) ** 2, abs=0.05)


def test_tensors_without_numbers_are_nothing() -> None:
    values = normal(12)
    np.testing.assert_array_equal(sent(values, 1, ((0, 5), (12,), (3, 0))), values)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1e30])
def test_scales_that_no_client_makes_are_refused(scale: float) -> None:
    chain = codec_chain.read("lowrank(rank=3)+full")
    data = bytearray(chain.encode(normal(SIZE), CHANCES, SHAPES))
    data[4:8] = struct.pack("<f", scale)
    with pytest.raises(ValueError, match="a scale is too large or no number"):
        chain.decode(bytes(data), SIZE, CHANCES, SHAPES)


def test_the_product_is_made_in_one_order_on_every_machine() -> None:
    """As scalar arithmetic does it: rounded after each product and after each sum."""
    chain, shapes = codec_chain.read("lowrank(rank=3)+full"), ((40, 30),)
    data = bytes(chain.encode(normal(1200), CHANCES, shapes))
    numbers = np.frombuffer(data, "<f4")
    scales, left, right = numbers[:3], numbers[3:123], numbers[123:]
    back = chain.decode(data, 1200, CHANCES, shapes).reshape(40, 30)
    for i in range(40):
        for j in range(30):
            total = np.float32(left[i] * scales[0]) * right[j]
            for k in (1, 2):
                total = total + np.float32(left[40 * k + i] * scales[k]) * right[30 * k + j]
            assert total == back[i, j]
