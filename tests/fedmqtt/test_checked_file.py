"""Files that tell whether they are as they were written."""

import hashlib
from pathlib import Path

import pytest

from fedmqtt import checked_file
from fedmqtt.checked_file import Torn
from tests.edge_client.little_disk import little_disk


def test_what_was_written_in_pieces_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    checked_file.write(path, [b"some", memoryview(b"thing")])
    assert bytes(checked_file.read(path)) == b"something"
    assert path.read_bytes() == hashlib.sha256(b"something").digest() + b"something"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept_bytes", [0, 31, 32, 40])
def test_a_file_that_was_cut_off_anywhere_is_torn(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "a"
    checked_file.write(path, [b"something"])
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(Torn, match=f"^{path} is not as it was written$"):
        checked_file.read(path)


def test_a_byte_that_became_another_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    checked_file.write(path, [b"something"])
    path.write_bytes(path.read_bytes()[:-1] + b"G")
    with pytest.raises(Torn):
        checked_file.read(path)


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    checked_file.write(path, [b"before"])
    with little_disk(64), pytest.raises(OSError, match="File too large"):
        checked_file.write(path, [bytes(100)])
    assert bytes(checked_file.read(path)) == b"before"
    assert list(tmp_path.iterdir()) == [path]
