"""MNIST as it was published: four idx files, gzipped, in a folder of the reader's.

    train-images-idx3-ubyte.gz   60,000 images     t10k-images-idx3-ubyte.gz   10,000 images
    train-labels-idx1-ubyte.gz   their digits      t10k-labels-idx1-ubyte.gz   their digits

An idx file is two zero bytes, a byte for the type (8: unsigned bytes), the number of dimensions,
the size of each as 4 bytes big-endian, then the values in C order. The files do not come with this
program.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learning_tasks.seam import TaskError

CLASS_NAMES = tuple("0123456789")

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 8


def read(data_dir: Path, purpose: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (n, 28, 28) from 0, white, to 1, ink; and their digits (n,). In the files' order.

    Raises `TaskError` where a file is missing or is something else.
    """
    prefix = _PREFIX[purpose]
    images = read_idx(data_dir / f"{prefix}-images-idx3-ubyte.gz")
    digits = read_idx(data_dir / f"{prefix}-labels-idx1-ubyte.gz")
    if images.shape != (len(digits), 28, 28) or digits.ndim != 1 or digits.max(initial=0) > 9:
        raise TaskError(
            f"the {prefix} files in {data_dir} are not those of MNIST: images of shape "
            f"{images.shape} and labels of shape {digits.shape}"
        )
    return images.astype(np.float32) / np.float32(255), digits.astype(np.int64)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in a gzipped idx file of unsigned bytes, in the shape that its head says.

    Raises `TaskError`.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise TaskError(
            f"there is no {path}: give the folder with the four files of MNIST, "
            "train-images-idx3-ubyte.gz and so on"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path} cannot be read as a gzip file ({error})") from error
    zeros, kind, dimensions = content[:2], content[2:3], content[3:4]
    if zeros != b"\0\0" or kind != bytes([_UNSIGNED_BYTES]) or dimensions not in (b"\1", b"\3"):
        raise TaskError(f"{path} is not an idx file of bytes: it begins with {content[:4].hex()}")
    begin = 4 + 4 * dimensions[0]
    shape = tuple(int.from_bytes(content[at : at + 4]) for at in range(4, begin, 4))
    values = np.frombuffer(content, np.uint8, offset=min(begin, len(content)))
    # In Python's integers: a head that claims 2^96 values must not wrap round to few.
    if len(content) < begin or values.size != math.prod(shape):
        raise TaskError(f"{path} is cut off: {values.size:,} values for a shape of {shape}")
    return values.reshape(shape)
