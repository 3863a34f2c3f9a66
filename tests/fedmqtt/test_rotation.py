"""What a rotation must hold to beside what codecs and masks ask of it."""

import os
import subprocess
import sys

PROGRAM = """
import hashlib
import numpy as np
from fedmqtt import rotation
from fedmqtt.codec_chance import Chance

values = np.random.default_rng(1).normal(size=256 * 1024 + 300).astype(np.float32)
print(hashlib.sha256(rotation.forward(values, Chance("test"))).hexdigest())
"""


def test_the_same_bits_come_of_it_by_how_many_threads_ever() -> None:
    """Devices have one processor or eight, and a site does over what a device does."""
    assert len({_rotated(threads) for threads in (1, 2, 4)}) == 1


def _rotated(threads: int) -> str:
    by = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{PROGRAM}"]
    done = subprocess.run(command, env=by, capture_output=True, check=True, text=True)
    return done.stdout
