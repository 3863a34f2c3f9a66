"""How large the values of each block are, told under the mask: by that the next ranges are set.

    r       root mean square of a block's values, before they are clipped to its range
    word    round(2^16 * r / range), 2^16 at most
    mean of r over the clients = range * sum of words / (2^16 * clients)

Sums of 65,535 words fit 32 bits. Where there are more blocks than `Masking.block_norms`, a word is
of a stretch of successive ones. Each costs an answer 4 bytes: of 1,024 values, unless there are
many blocks. A word of a client that keeps to this never tells of more than the range that it was
given. One that lies may send any word, as all are masked: of ranges that follow see
`coordinator/masking/adaptive_ranges.py`.
"""

import numpy as np
from numpy.typing import NDArray

from fedmqtt import codec_blocks as blocks
from fedmqtt.codec_blocks import BLOCK
from fedmqtt.masking.packing import Words
from fedmqtt.messages import Masking
from fedmqtt.weights import Array

Doubles = NDArray[np.float64]

_RANGE_MIN = 1e-30
"""What is below it is as good as zero, and what is divided by it stays finite."""
WHOLE = 2**16
"""The word of a block whose values are as large as its range, or larger."""


def count(masking: Masking, body: int) -> int:
    """How many words behind a body of so many values."""
    return min(masking.block_norms, blocks.count(body))


def words(masking: Masking, sent: Array) -> Words:
    """Of the values that are to be clipped and rounded, shape (count,)."""
    firsts = _firsts(masking, sent.size)
    if not firsts.size:
        return np.empty(0, np.uint32)
    sizes = np.full(blocks.count(sent.size), BLOCK)
    sizes[-1] = sent.size - BLOCK * (sizes.size - 1)
    squares = np.add.reduceat(np.square(blocks.norms(sent)), firsts)
    found = np.sqrt(squares / np.add.reduceat(sizes, firsts))
    found *= WHOLE / ranges(masking, sent.size)[firsts]
    return np.minimum(np.rint(found), WHOLE).astype(np.uint32)


def means(masking: Masking, body: int, sums: Words, terms: int) -> Doubles:
    """The mean of what `terms` clients told by words of which these are the sums, shape (count,).

    Raises ValueError where so many cannot have told so much.
    """
    if sums.size and int(sums.max()) > terms * WHOLE:
        raise ValueError("tells of blocks with larger values than can be told of")
    found: Doubles = sums / (terms * float(WHOLE))
    found *= ranges(masking, body)[_firsts(masking, body)]
    return found


def ranges(masking: Masking, body: int) -> Doubles:
    """Of each block of a body of so many values."""
    chosen = np.maximum(masking.ranges or (masking.change_max,), _RANGE_MIN)
    number = blocks.count(body)
    # Fewer ranges than blocks: each is of as many successive ones.
    found: Doubles = chosen[np.arange(number) * chosen.size // max(1, number)]
    return found


def _firsts(masking: Masking, body: int) -> NDArray[np.int64]:
    """The first block of each stretch: as many ranges as there are stretches divide them alike."""
    number, stretches = blocks.count(body), count(masking, body)
    return -(-np.arange(stretches) * number // max(1, stretches))
