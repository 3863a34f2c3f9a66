"""Two programs never share a folder, and one that dies leaves it free."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmqtt.folder_lock import NAME, FolderInUse, FolderLock, holder_of
from tests.edge_client.little_disk import little_disk

# Locks the folder, starts a child that outlives it, says the child's pid, and waits to be killed.
_HOLDER = """
import subprocess, sys
from pathlib import Path
from fedmqtt.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=0)
print(child.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def _holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the folder, and the number of its child."""
    command = [sys.executable, "-c", _HOLDER, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_folder_is_made_and_held_until_it_is_released(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    lock = FolderLock(folder)
    with pytest.raises(FolderInUse) as refused:
        FolderLock(folder)
    assert refused.value.pid == os.getpid()
    assert str(refused.value) == f"{folder} is in use by process {os.getpid()}"
    lock.release()
    lock.release()
    FolderLock(folder).release()


def test_another_program_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with _holder(tmp_path) as (holder, _):
        with pytest.raises(FolderInUse) as refused:
            FolderLock(tmp_path)
        assert refused.value.pid == holder.pid


def test_who_is_killed_leaves_the_folder_free_though_its_children_live(tmp_path: Path) -> None:
    with _holder(tmp_path) as (holder, child):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        FolderLock(tmp_path).release()
        # It reads from a pipe that is ours, and so lives on.
        os.kill(child, 0)


def test_digits_that_nobody_locked_keep_nobody_out(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("1\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / NAME).read_text() == f"{os.getpid()}\n"
    lock.release()


@pytest.mark.parametrize("text", ["", "rubbish\n"])
def test_a_holder_whose_number_cannot_be_read_is_another_program(tmp_path: Path, text: str) -> None:
    lock = FolderLock(tmp_path)
    (tmp_path / NAME).write_text(text)
    with pytest.raises(FolderInUse, match="is in use by another program") as refused:
        FolderLock(tmp_path)
    assert refused.value.pid is None
    lock.release()


def test_a_full_disk_keeps_nobody_out_and_nobody_else_in(tmp_path: Path) -> None:
    """What holds is the lock. What is in the folder may be all that fills the disk."""
    (tmp_path / NAME).write_text("4711\n")
    with little_disk(0):
        lock = FolderLock(tmp_path)
    with pytest.raises(FolderInUse) as refused:
        FolderLock(tmp_path)
    assert refused.value.pid in (None, os.getpid()), "not the pid of who was here before"
    lock.release()


def test_a_folder_that_cannot_be_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="File exists"):
        FolderLock(tmp_path / "file")


def test_who_asks_for_the_holder_leaves_a_folder_as_it_was(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "none") == ""
    assert holder_of(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    lock = FolderLock(tmp_path)
    assert holder_of(tmp_path) == f"process {os.getpid()}"
    lock.release()
    assert holder_of(tmp_path) == ""
