"""Keyholders count in how many sums a device was, and open none beyond."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fedmqtt import checked_file, signing
from fedmqtt.masking import sealing
from fedmqtt.messages import Entry, Open, RoundKey
from fedmqtt.topics import RunId
from keyholder.participations import NotCounted, Participations
from tests.keyholder.masked_clients import Answers, keyholder, masking

NAMES = ("ann", "bob", "cat")


def take(counted: Participations, asked: Open) -> str:
    """Count it unless somebody may not be on it; who, and why."""
    try:
        spent = counted.spent(asked)
        if not spent:
            counted.count(asked)
        return "; ".join(spent.values())
    except NotCounted as lost:
        return str(lost)


@pytest.fixture(scope="module")
def made() -> Answers:
    named = [keyholder("kh-a", 0, RoundKey(5, sealing.new_round_key()[1], bytes(64)))]
    how = masking(named, participations_max=2, noise=1.0, norm_steps=100, norm_max=1.0)
    return Answers("demo", signing.new_key(), how)


@pytest.fixture(scope="module")
def entries(made: Answers) -> list[Entry]:
    return [made.of(name) for name in NAMES]


def _list(made: Answers, entries: list[Entry], number: int, run: str = "run-1") -> Open:
    return made.list(entries, (), round=number, run=RunId(run))


def test_a_device_is_in_so_many_sums_and_its_name_is_told_then(
    made: Answers, entries: list[Entry], tmp_path: Path
) -> None:
    counted = Participations(tmp_path / "counts")
    assert not take(counted, _list(made, entries, 1))
    assert not take(counted, _list(made, entries[:2], 2))
    refused = "; ".join(
        f"{name} was in 2 sums of run run-1, and may be in no more than 2"
        for name in ("ann", "bob")
    )
    # Whoever counts it, from the disk.
    for one in (counted, Participations(tmp_path / "counts")):
        assert take(one, _list(made, entries, 3)) == refused
    # What was refused counted for nobody, and another run is another matter.
    dan, eve = made.of("dan"), made.of("eve")
    assert not take(counted, _list(made, [entries[2], dan, eve], 4))
    assert not take(counted, _list(made, entries, 1, run="run-2"))
    assert "cat was in 2 sums" in take(counted, _list(made, entries[2:], 5))


def test_a_list_counts_once_however_often_it_is_asked_about(
    made: Answers, entries: list[Entry], tmp_path: Path
) -> None:
    counted = Participations(tmp_path)
    for _ in range(5):
        assert not take(counted, _list(made, entries, 1))
    assert not take(counted, _list(made, entries, 2))
    # Also once nobody on it may be in another.
    assert not take(counted, _list(made, entries, 1))
    assert take(counted, _list(made, entries, 3))


def test_a_new_name_for_the_same_key_is_the_same_device(
    made: Answers, entries: list[Entry], tmp_path: Path
) -> None:
    counted = Participations(tmp_path)
    for number in (1, 2):
        take(counted, _list(made, entries, number))
    renamed = [structs.replace(entries[0], client="zoe")]
    assert "zoe was in 2 sums" in take(counted, _list(made, renamed, 3))


def _saying(most: int, asked: Open, **changes: Any) -> Open:
    how = structs.replace(asked.masking, participations_max=most, **changes)
    return structs.replace(asked, masking=how)


def test_without_a_most_and_without_noise_nothing_is_written(
    made: Answers, entries: list[Entry], tmp_path: Path
) -> None:
    counted = Participations(tmp_path)
    asked = _saying(0, _list(made, entries, 1), noise=0.0, norm_steps=0)
    assert not take(counted, asked) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "told"), [(1000, "1000"), (3, "3"), (0, "any number")], ids=["more", "one", "any"]
)
def test_a_run_keeps_to_the_fewest_sums_that_were_promised(
    made: Answers, entries: list[Entry], tmp_path: Path, said: int, told: str
) -> None:
    counted = Participations(tmp_path)
    assert not take(counted, _list(made, entries, 1))
    raised = _saying(said, _list(made, [made.of("dan"), made.of("eve")], 2))
    for one in (counted, Participations(tmp_path)):
        assert take(one, raised) == (
            "devices are in no more than 2 sums of run run-1, as was promised before, and this list"
            f" says {told}"
        )
    # Nor by leaving the noise out with it.
    assert "as was promised before" in take(
        counted, _saying(0, _list(made, entries, 2), noise=0.0, norm_steps=0)
    )
    # What is asked for again is the list that was counted.
    assert not take(counted, _saying(said, _list(made, entries, 1)))
    # Fewer may be said at any time, and count from then on.
    assert not take(counted, _saying(1, _list(made, [made.of("fay")], 3)))
    assert "no more than 1 sums" in take(counted, _list(made, [made.of("gus")], 4))


def test_what_was_opened_under_noise_before_a_most_was_said_counts(
    made: Answers, entries: list[Entry], tmp_path: Path
) -> None:
    counted = Participations(tmp_path)
    for number in (1, 2):
        assert not take(counted, _saying(0, _list(made, entries, number)))
    assert "ann was in 2 sums" in take(counted, _list(made, entries, 3))


@pytest.mark.parametrize("damage", [b"nothing", b"\x80", b"\x81\xa6counts\x81\xa1x\x01"])
def test_where_counts_are_damaged_no_sum_of_their_run_is_opened(
    made: Answers, entries: list[Entry], tmp_path: Path, damage: bytes
) -> None:
    counted = Participations(tmp_path)
    take(counted, _list(made, entries, 1))
    (path,) = tmp_path.iterdir()
    if damage == b"\x80":
        # A page of nobody, as it is written; but cut short.
        path.write_bytes(path.read_bytes()[:-1])
    else:
        checked_file.write(path, [damage])
    assert "how often devices were in sums of run run-1 is not known" in take(
        counted, _list(made, entries, 2)
    )
    assert not take(counted, _list(made, entries, 2, run="run-2"))
