"""How large blocks are is told under the mask, and no more than a range of it."""

import msgspec
import numpy as np
import pytest

from fedmqtt.codec_blocks import BLOCK
from fedmqtt.masking import block_norms, values
from fedmqtt.masking.values import NotASum
from fedmqtt.messages import Masking
from fedmqtt.weights import Array
from tests.fedmqtt.masking import cohort
from tests.fedmqtt.masking.cohort import CLIENTS, chances, masking

SHARED = chances(CLIENTS[0]).shared


def of(*blocks: float) -> Array:
    """A block of each of these numbers."""
    return np.repeat(np.array(blocks, np.float32), BLOCK)


def test_numbers_small_enough_to_check_by_hand() -> None:
    how = masking(block_norms=8, ranges=(1.0, 0.5, 0.5))
    changes = [of(0.25, 0.25, -0.5), of(0.75, 0.0, 2.0)]
    first, second = (block_norms.words(how, change) for change in changes)
    # A quarter of its range, half of it, all of it; of more than a range no more is told.
    assert first.tolist() == [2**14, 2**15, 2**16]
    assert second.tolist() == [3 * 2**14, 0, 2**16]
    found = block_norms.means(how, 3 * BLOCK, first + second, 2)
    assert found.tolist() == [0.5, 0.125, 0.5]


def test_a_short_last_block_is_told_of_by_its_own_numbers() -> None:
    how = masking(block_norms=8, change_max=1.0)
    change = np.append(of(0.5), np.full(10, 0.25, np.float32))
    assert block_norms.words(how, change).tolist() == [2**15, 2**14]


def test_where_there_are_many_blocks_a_word_is_of_a_stretch() -> None:
    how = masking(block_norms=2, change_max=1.0)
    change = of(0.1, 0.1, 0.1, 0.6, 0.8)
    # As two ranges would be divided: three blocks, and two.
    wide = masking(ranges=(0.1, 0.9))
    assert block_norms.ranges(wide, change.size).tolist() == [0.1, 0.1, 0.1, 0.9, 0.9]
    words = block_norms.words(how, change)
    found = block_norms.means(how, change.size, words, 1)
    assert found == pytest.approx([0.1, (0.36 / 2 + 0.64 / 2) ** 0.5], abs=1e-5)


def test_a_sum_of_masked_answers_tells_the_mean_over_clients() -> None:
    size = 3000
    how = masking(bits=8, value_bits=4, rotate=True, share=0.5, block_norms=8)
    scales = (0.01, 0.02, 0.03)
    drawn = np.random.default_rng(1)
    changes = [drawn.normal(scale=scale, size=size).astype(np.float32) for scale in scales]
    answers = [cohort.answer(how, *one) for one in zip(CLIENTS, changes, strict=False)]
    words = cohort.opened(how, size, (0, 2), answers)
    found = values.from_sum(how, words, size, 3, SHARED)
    assert found.block_norms == pytest.approx([0.02, 0.02], rel=0.1)
    # They cost an answer four bytes each.
    silent = cohort.answer(msgspec.structs.replace(how, block_norms=0), CLIENTS[0], changes[0])
    assert len(answers[0].payload) == len(silent.payload) + 2 * 4


def test_nobody_is_asked_for_more_words_than_there_are_blocks() -> None:
    how = masking(block_norms=512)
    assert values.tail_size(how, 2 * BLOCK + 1) == values.COUNTS + 3
    assert values.tail_size(how, 0) == values.COUNTS
    assert values.tail_size(masking(), 2 * BLOCK) == values.COUNTS


def test_the_sum_of_as_many_as_there_may_be_does_not_wrap() -> None:
    assert (values.CLIPPED_MAX - 1) * block_norms.WHOLE < 2**32


def test_more_than_so_many_can_tell_is_no_sum() -> None:
    how = masking(bits=24, block_norms=8)
    words = values.to_words(how, of(0.5), 1, chances(CLIENTS[0]))
    words[-1] = block_norms.WHOLE + 1
    with pytest.raises(NotASum, match="tells of blocks with larger values than can be told of"):
        values.from_sum(how, words, BLOCK, 1, SHARED)


def test_one_liar_of_ten_raises_ranges_by_half_over_all_rounds() -> None:
    ranges = 1.0
    for _ in range(100):
        how = masking(block_norms=1, ranges=(ranges,))
        honest = block_norms.words(how, of(0.25)) * np.uint32(9)
        lie = np.array([block_norms.WHOLE], np.uint32)
        ranges = 4 * float(block_norms.means(how, BLOCK, honest + lie, 10)[0])
    assert ranges == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("tiny", [5e-324, 1e-300, 1e-30])
def test_ranges_that_no_change_fits_are_taken_for_tiny_ones(tiny: float) -> None:
    how = masking(block_norms=1, ranges=(tiny,), bits=8, value_bits=4)
    words = values.to_words(how, of(0.5), 1, chances(CLIENTS[0]))
    assert words[-1] == block_norms.WHOLE
    assert np.isfinite(values.from_sum(how, words, BLOCK, 1, SHARED).change).all()


def test_who_does_not_ask_for_it_says_nothing_of_it_on_the_wire() -> None:
    assert b"block_norms" not in msgspec.msgpack.encode(masking())
    asked = msgspec.msgpack.encode(masking(block_norms=512))
    assert msgspec.msgpack.decode(asked, type=Masking).block_norms == 512
