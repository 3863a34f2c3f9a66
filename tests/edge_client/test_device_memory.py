"""What a client remembers belongs to the answer that was counted last, and is never torn."""

import logging
from pathlib import Path

import numpy as np
import pytest

from edge_client import device_memory, remembered
from edge_client.device_memory import DeviceMemory
from edge_client.remembered import NOTHING, Remembered
from edge_client.session import Answer
from fedmqtt.topics import Digest, RoundId, RunId

RUN = RunId("2026-01-31.a-1")


def answer(number: int, digest: str = "a", run: RunId = RUN) -> Answer:
    return Answer(run, RoundId(number), Digest(digest * 64), 100)


def of_round(number: int) -> Remembered:
    return Remembered(
        round=RoundId(number),
        facts={"seen": float(number)},
        arrays={
            "counted": np.arange(number, number + 5, dtype=np.int32),
            "residual": np.full(3, number / 2, np.float32),
            "nothing": np.zeros(0, np.float32),
        },
    )


def known(folder: Path, run: RunId = RUN) -> int:
    """The round that is remembered, once all of it is seen to be of that round."""
    found = remembered.read(DeviceMemory(folder), run)
    if found.round and not found.lost:
        wanted = of_round(found.round)
        assert found.facts == wanted.facts and found.arrays.keys() == wanted.arrays.keys()
        for name, array in found.arrays.items():
            np.testing.assert_array_equal(array, wanted.arrays[name])
            assert array.dtype == wanted.arrays[name].dtype
    return found.round


def counted_up_to(folder: Path, number: int) -> DeviceMemory:
    memory = DeviceMemory(folder)
    remembered.keep(memory, answer(number), of_round(number))
    memory.settle(answer(number), accepted=True, counted=None)
    return memory


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_remembered_at_first(tmp_path: Path) -> None:
    memory = DeviceMemory(tmp_path / "memory")
    assert remembered.read(memory, RUN) == NOTHING
    assert memory.sweep(()) == []


def test_it_is_remembered_when_its_answer_is_accepted_and_not_before(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    remembered.keep(memory, answer(3), of_round(3))
    assert known(tmp_path) == 2
    memory.settle(answer(3), accepted=True, counted=RoundId(3))
    assert known(tmp_path) == 3
    assert names(tmp_path) == [f"{RUN}.memory"]


def test_a_refused_answer_changes_nothing(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    for counted in (None, RoundId(2)):
        remembered.keep(memory, answer(3), of_round(3))
        memory.settle(answer(3), accepted=False, counted=counted)
        assert known(tmp_path) == 2
        assert names(tmp_path) == [f"{RUN}.memory"]


def test_a_receipt_that_comes_twice_changes_nothing(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    memory.settle(answer(2), accepted=True, counted=None)
    memory.settle(answer(2), accepted=True, counted=RoundId(2))
    assert known(tmp_path) == 2


def test_a_lost_answer_takes_what_belonged_to_it_with_it(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    remembered.keep(memory, answer(3), of_round(3))
    memory.drop(answer(3))
    assert names(tmp_path) == [f"{RUN}.memory"]


def test_what_a_crash_left_without_an_answer_goes_at_the_start(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    for number in (3, 4):
        remembered.keep(memory, answer(number), of_round(number))
    (tmp_path / f"{RUN}-5-x.pending.77.part").write_bytes(b"half")
    assert DeviceMemory(tmp_path).sweep([answer(4)]) == []
    assert names(tmp_path) == [f"{RUN}-4-{'a' * 64}.pending", f"{RUN}.memory"]
    memory.settle(answer(4), accepted=True, counted=None)
    assert known(tmp_path) == 4


def test_an_answer_that_counted_without_a_receipt_is_told_of_by_another(tmp_path: Path) -> None:
    """Both were made from what was remembered after round 2, and the first one was counted."""
    memory = counted_up_to(tmp_path, 2)
    for number in (3, 4):
        remembered.keep(memory, answer(number), of_round(number))
    memory.settle(answer(4), accepted=False, counted=RoundId(3))
    assert known(tmp_path) == 3
    # Its own receipt finds all done.
    memory.settle(answer(3), accepted=False, counted=RoundId(3))
    assert known(tmp_path) == 3 and names(tmp_path) == [f"{RUN}.memory"]


def test_a_trainer_that_died_leaves_no_doubt_what_is_committed(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    remembered.keep(memory, answer(3, "d"), of_round(77))
    remembered.keep(memory, answer(3), of_round(3))
    remembered.keep(memory, answer(4), of_round(4))
    # Which of the two belongs to an answer is not told by its round.
    memory.settle(answer(4), accepted=False, counted=RoundId(3))
    assert known(tmp_path) == 2
    memory.settle(answer(3), accepted=True, counted=RoundId(3))
    assert known(tmp_path) == 3


def test_what_the_coordinator_does_not_know_of_is_given_up(tmp_path: Path) -> None:
    """It was restored from a backup, or this device was."""
    memory = counted_up_to(tmp_path, 9)
    remembered.keep(memory, answer(10), of_round(10))
    memory.settle(answer(10), accepted=False, counted=RoundId(4))
    found = remembered.read(memory, RUN)
    assert (found.round, found.lost, found.arrays) == (4, True, {})
    # The next one takes the place of what was counted.
    remembered.keep(memory, answer(11), of_round(11))
    memory.settle(answer(11), accepted=True, counted=RoundId(11))
    assert known(tmp_path) == 11


def test_where_nothing_was_counted_there_is_nothing_to_remember(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 9)
    memory.settle(answer(10), accepted=False, counted=RoundId(0))
    assert names(tmp_path) == []


def test_a_second_answer_to_a_round_that_has_counted_is_not_remembered(tmp_path: Path) -> None:
    """It had forgotten, by a reboot, that it gave one; the coordinator says that it has that."""
    memory = counted_up_to(tmp_path, 2)
    remembered.keep(memory, answer(2, "b"), of_round(77))
    memory.settle(answer(2, "b"), accepted=True, counted=RoundId(2))
    assert known(tmp_path) == 2 and names(tmp_path) == [f"{RUN}.memory"]


def test_only_the_newest_run_is_remembered(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    other = RunId("another")
    remembered.keep(memory, answer(1, run=other), of_round(1))
    assert known(tmp_path) == 2
    memory.settle(answer(1, run=other), accepted=True, counted=None)
    assert (known(tmp_path), known(tmp_path, other)) == (0, 1)


@pytest.mark.parametrize("at", [0, 31, 32, 35, 36, 60, -1])
def test_a_torn_file_is_dropped_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    memory = counted_up_to(tmp_path, 2)
    path = memory.committed(RUN)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] if at >= 0 else whole[:-1])
    with caplog.at_level(logging.WARNING):
        assert known(tmp_path) == 0
    assert str(path) in caplog.text and not path.exists()


@pytest.mark.parametrize("at", [0, 40, 70, -1])
def test_so_is_one_in_which_a_bit_has_flipped(tmp_path: Path, at: int) -> None:
    path = counted_up_to(tmp_path, 2).committed(RUN)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert known(tmp_path) == 0


def test_another_run_s_file_under_this_name_is_none_of_ours(tmp_path: Path) -> None:
    path = counted_up_to(tmp_path, 2).committed(RUN)
    path.rename(path.with_name("other.memory"))
    assert known(tmp_path, RunId("other")) == 0


def test_whoever_cannot_read_the_round_can_settle_all_the_same(tmp_path: Path) -> None:
    memory = counted_up_to(tmp_path, 2)
    memory.committed(RUN).write_bytes(b"\xc1" * 100)
    remembered.keep(memory, answer(3), of_round(3))
    memory.settle(answer(3), accepted=True, counted=RoundId(3))
    assert known(tmp_path) == 3


def test_no_receipt_of_an_answer_that_was_owed_for_long_undoes_what_followed() -> None:
    settled = device_memory.settled
    three, four, five = RoundId(3), RoundId(4), RoundId(5)
    # Of round 4, when 5 is remembered: it says what was counted before.
    assert settled(four, False, three, five, ()) == (None, False)
    assert settled(four, True, five, five, ()) == (None, False)
    # An evaluation has nothing to remember, and its receipt tells of the last answer that has.
    assert settled(five, True, four, four, ()) == (None, False)
    assert settled(five, True, four, three, {four}) == (four, False)
