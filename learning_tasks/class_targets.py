"""Whether targets are classes, as a task with CLASS_NAMES has them.

Torch says it in words of its own ("Target 2 is out of bounds"), and not before the first batch.
"""

from torch import Tensor


def fault(targets: Tensor, class_count: int) -> str:
    """Why these are not one class a sample, each from 0 to `class_count` - 1, and what to do about
    it: what follows a colon. Nothing where they are, or where there are none."""
    if targets.ndim != 1:
        return (
            "CLASS_NAMES says that each sample is of one class, and the targets have the shape"
            f" {tuple(targets.shape)}: give one whole number for each, of the shape"
            f" ({len(targets)},), or define metrics in place of CLASS_NAMES"
        )
    dtype = str(targets.dtype).removeprefix("torch.")
    if "int" not in dtype:
        return (
            f"CLASS_NAMES says that targets are classes, int64, and these are {dtype}: make them"
            " so, with targets.long()"
        )
    if len(targets) and not 0 <= targets.min() <= targets.max() < class_count:
        return (
            f"CLASS_NAMES has {class_count} names, and the targets go from {targets.min()} to"
            f" {targets.max()}: number the classes from 0 to {class_count - 1}, in the order of"
            " CLASS_NAMES"
        )
    return ""
