"""To what the values of each block are clipped in the next masked round: by how large they were.

    round r: clients tell under their masks how large they are ──▶ mean ──▶ ranges of round r + 1

After a rotation a block's values are spread about as a normal distribution is, of which one in
16,000 is beyond four standard deviations. Wider ranges make coarser steps for all.

The ranges belong to the model that the round made, and are remembered with it: a round that keeps
its model keeps its ranges. While there are none, values are clipped to `change_max`, which is a
limit and no guess, and are rounded finely instead.

From one round to the next a range at most doubles or halves, and the first is at least 1/64 of
`change_max`: what a client tells of its blocks is masked, and may be anything, so that one that
lies could else clip all others to nothing at once. One that lies in every round can still do so, a
bit at a time.

Where differential privacy is promised nothing is told, and ranges are fixed: sums of block norms
would have no noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Memory = Mapping[str, NDArray[Any]]

_RMS_IN_A_RANGE = 4.0
_RANGE_MIN = 2.0**-20
"""In `change_max`: what is smaller does not move a model, and a block may yet come to life."""
_FIRST_MIN = 2.0**-6
"""In `change_max`, after a round without ranges. A model that changes less has ranges that are too
wide for a few rounds: that makes coarse steps, and clips nothing."""
_FACTOR_MAX = 2.0
_RANGES, _SHARE = "masking.ranges", "masking.share"


def following(
    block_norms: NDArray[np.float64],
    change_max: float,
    share: float,
    before: Sequence[float] = (),
) -> dict[str, NDArray[np.float64]]:
    """What is remembered for the next round, from root mean squares by block. `before`: the ranges
    of the round that they were measured in, if it had any."""
    found = _RMS_IN_A_RANGE * block_norms
    if len(before) == found.size:
        ranges = np.asarray(before)
        found = np.clip(found, ranges / _FACTOR_MAX, ranges * _FACTOR_MAX)
    else:
        found = np.maximum(found, _FIRST_MIN * change_max)
    found = np.clip(found, _RANGE_MIN * change_max, change_max)
    return {_RANGES: found, _SHARE: np.array([share])}


def remembered(memory: Memory, change_max: float, share: float) -> tuple[float, ...]:
    """By block, or stretch of blocks; none where none are known, or of another share: of those
    the blocks are others."""
    found = memory.get(_RANGES)
    if found is None or float(memory[_SHARE][0]) != share:
        return ()
    return tuple(np.minimum(found, change_max).tolist())
