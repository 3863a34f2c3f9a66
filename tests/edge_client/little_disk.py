"""A disk that is full soon, without being root and without filling one."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def little_disk(file_bytes_max: int) -> Iterator[None]:
    """No file of this process may grow beyond this, as if the disk ended there.

    Nor of the programs that it starts meanwhile, for as long as they live.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
