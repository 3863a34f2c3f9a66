"""The list of devices whose keys count no more: written by the kit, read by coordinators."""

from pathlib import Path

import pytest

from fedmqtt import revocations, signing
from fedmqtt.revocations import Revocations, RevocationsError

ANN, BOB = (signing.public_key(signing.new_key()) for _ in range(2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revoked-devices"


def test_what_is_written_is_read(path: Path) -> None:
    path.write_text(revocations.render([(ANN, "ann")]))
    assert revocations.read(path).keys == {ANN}
    path.write_text(revocations.render([]))
    assert revocations.read(path).keys == frozenset()


def test_who_is_not_enrolled_again_is_told_from_who_is(path: Path) -> None:
    path.write_text(revocations.render([(ANN, "ann"), (BOB, "bob")], enrolled=["bob", "cat"]))
    listed = Revocations(path)
    assert listed.devices == {"ann"}
    assert listed.includes(ANN) and listed.includes(BOB)
    path.write_text(revocations.render([(ANN, "ann"), (BOB, "bob")], enrolled=["ann"]))
    assert listed.devices == {"bob"}


def test_a_list_that_does_not_say_who_is_enrolled_shuts_out_no_name(path: Path) -> None:
    path.write_text(revocations.render([(ANN, "ann"), (BOB, "not a name (not enrolled)")]))
    assert revocations.read(path).devices == frozenset()


def test_a_list_that_has_changed_is_read_again(path: Path) -> None:
    path.write_text(revocations.render([(ANN, "ann")]))
    listed = Revocations(path)
    assert listed.includes(ANN) and not listed.includes(BOB)
    path.write_text(revocations.render([(ANN, "ann"), (BOB, "bob")]))
    assert listed.includes(ANN) and listed.includes(BOB)
    path.write_text(revocations.render([(BOB, "bob")]))
    assert not listed.includes(ANN)


def test_a_list_that_is_lost_or_damaged_lets_nobody_back_in(path: Path) -> None:
    path.write_text(revocations.render([(ANN, "ann")]))
    listed = Revocations(path)
    path.unlink()
    assert listed.includes(ANN)
    path.write_text("pi-3\n")
    assert listed.includes(ANN) and not listed.includes(BOB)
    path.write_text(revocations.render([(BOB, "bob")]))
    assert not listed.includes(ANN) and listed.includes(BOB)


@pytest.mark.parametrize(
    "line",
    ["pi-3", f"pi-3 {ANN}", ANN[:-2], f"{ANN}pi-3", "é"],
    ids=["name", "name first", "cut short", "no space", "not ascii"],
)
def test_a_line_that_is_none_is_named(path: Path, line: str) -> None:
    path.write_text(f"{revocations.render([(ANN, 'ann')])}{line}\n", encoding="utf-8")
    with pytest.raises(RevocationsError, match=r"revoked-devices: line 5 is no key and name"):
        Revocations(path)


def test_a_file_that_is_none_is_named(path: Path) -> None:
    with pytest.raises(RevocationsError, match=r"revoked-devices: No such file"):
        Revocations(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RevocationsError, match=r"revoked-devices: no text"):
        Revocations(path)


@pytest.mark.parametrize("keys", [[], [(ANN, "ann")], [(ANN, "ann"), (BOB, "bob")]], ids=len)
def test_a_list_that_was_cut_short_anywhere_lets_nobody_back_in(
    path: Path, keys: list[tuple[str, str]]
) -> None:
    path.write_text(revocations.render([(ANN, "ann"), (BOB, "bob")]))
    listed = Revocations(path)
    whole = revocations.render(keys)
    for length in range(len(whole)):
        path.write_text(whole[:length])
        assert listed.includes(ANN) and listed.includes(BOB), whole[:length]
        with pytest.raises(RevocationsError, match="revoked devices"):
            revocations.read(path)
    path.write_text(whole)
    assert revocations.read(path).keys == {key for key, _ in keys}
