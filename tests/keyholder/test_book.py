"""What a keyholder remembers: through kills, old copies of its folder, and a disk that is dying."""

import errno
import stat
from pathlib import Path

import pytest
from msgspec import structs

from fedmqtt.topics import RoundId, RunId
from keyholder import book
from keyholder.book import Book, BookError
from keyholder.listed import Listed
from keyholder.taken import Taken

RUN = RunId("r")
WEEK_S = 7 * 24 * 3600.0


class Clock:
    """Of the machine's files, until it is set."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.now = folder.stat().st_mtime

    def __call__(self) -> float:
        return self.now


def _book(folder: Path, after_s: float = 0.0) -> Book:
    clock = Clock(folder)
    clock.now += after_s
    return Book(folder / "state", "demo", "kh-a", clock)


def _listed(number: int, digest: bytes = b"l" * 32) -> Listed:
    return Listed(
        number=number, digest=digest, run=RUN, round=RoundId(3), clients=5, held=(1, 2), seeds=(1,)
    )


def _done(listed: Listed) -> Listed:
    return structs.replace(listed, digests=(b"1" * 32, b"2" * 32))


def _put_sums(made: Book, number: int) -> Path:
    path = made.sums_of(number, _listed(number).digest)
    book.write_sums(path, [b"one", b"two"])
    return path


def test_keys_are_made_once_and_are_there_at_the_next_start(tmp_path: Path) -> None:
    made = _book(tmp_path)
    assert made.make_ahead(0, 8, WEEK_S) and not made.make_ahead(0, 8, WEEK_S)
    numbers = list(made.keys.publics)
    assert len(numbers) == 8
    again = _book(tmp_path)
    assert again.keys.publics == made.keys.publics
    assert again.make_ahead(numbers[2], 8, WEEK_S)
    assert list(again.keys.publics) == [*numbers, *range(numbers[-1] + 1, numbers[-1] + 4)]


def test_nobody_else_may_read_a_private_half(tmp_path: Path) -> None:
    _book(tmp_path).make_ahead(0, 2, WEEK_S)
    modes = {
        path.relative_to(tmp_path).parts[1:2]: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "state").rglob("*.key")
    }
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("after_s", [0.0, -1e9], ids=["at once", "by a clock that was put back"])
def test_a_number_is_given_once_also_where_its_key_was_never_made(
    tmp_path: Path, after_s: float
) -> None:
    """As after a kill between the two."""
    made = _book(tmp_path)
    made.make_ahead(0, 1, WEEK_S)
    last = max(made.keys.publics)
    for path in (tmp_path / "state" / "keys").iterdir():
        path.unlink()
    again = _book(tmp_path, after_s)
    again.make_ahead(0, 1, WEEK_S)
    assert min(again.keys.publics) == last + 1


def test_a_number_is_given_once_also_where_a_disk_that_is_full_ended_the_making_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _book(tmp_path)
    make, tried = made.keys.make, []

    def make_one(number: int) -> None:
        tried.append(number)
        if len(tried) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        make(number)

    monkeypatch.setattr(made.keys, "make", make_one)
    with pytest.raises(OSError, match="No space"):
        made.make_ahead(0, 4, WEEK_S)
    again = _book(tmp_path, -1e9)
    again.make_ahead(max(tried), 1, WEEK_S)
    assert max(again.keys.publics) == tried[0] + 4


def test_a_folder_that_was_lost_gives_higher_numbers_than_before(tmp_path: Path) -> None:
    """Else a coordinator would wait for ever for one that is above those that it has used."""
    made = _book(tmp_path)
    made.make_ahead(0, 8, WEEK_S)
    anew = _book(tmp_path / "anew", 60.0)
    anew.make_ahead(0, 8, WEEK_S)
    assert min(anew.keys.publics) > max(made.keys.publics)


def test_keys_without_the_book_are_good_for_nothing(tmp_path: Path) -> None:
    """What they were used for is not known."""
    _book(tmp_path).make_ahead(0, 2, WEEK_S)
    (tmp_path / "state" / "book").unlink()
    assert not _book(tmp_path).keys.publics
    assert not list((tmp_path / "state" / "keys").iterdir())


def test_a_list_is_known_after_a_kill_and_its_key_is_there_until_it_is_answered(
    tmp_path: Path,
) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 3, WEEK_S)
    _, second, third = made.keys.publics
    private = made.keys.private(second)
    made.write_down(_listed(second))
    again = _book(tmp_path)
    assert again.lists == {second: _listed(second)}
    assert again.keys.private(second) == private
    sums = _put_sums(again, second)
    again.finish(_done(_listed(second)))
    # That one, and those before it.
    assert list(again.keys.publics) == [third]
    last = _book(tmp_path)
    assert list(last.keys.publics) == [third] and last.lists == {second: _done(_listed(second))}
    assert sums.exists()


def test_a_kill_between_the_book_and_the_key_is_made_up_for(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 2, WEEK_S)
    first, second = made.keys.publics
    _put_sums(made, first)
    made.write_down(_done(_listed(first)))
    assert list(_book(tmp_path).keys.publics) == [second]


def _several(made: Book, number: int, *, opens_more: bool = True, lists: int = 1) -> Listed:
    """One more list of this key, written down with what is on it."""
    listed = structs.replace(_listed(number, bytes([lists]) * 32), opens_more=opens_more)
    taken = Taken(
        run=RUN,
        masking=b"m" * 32,
        newest=listed.digest,
        lists=lists,
        answers=frozenset(bytes([one]) * 32 for one in range(10 * lists)),
    )
    made.write_down(listed, taken)
    return listed


def test_a_key_for_several_lists_is_there_until_the_last_or_a_later_key(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 3, WEEK_S)
    _, second, third = made.keys.publics
    made.finish(_done(_several(made, second)))
    # Those before it are gone.
    assert list(made.keys.publics) == [second, third]
    again = _book(tmp_path)
    assert list(again.keys.publics) == [second, third]
    assert again.taken == made.taken and again.taken.keys() == {second}
    again.finish(_done(_several(again, second, lists=2, opens_more=False)))
    assert list(again.keys.publics) == [third]
    assert not again.taken and not list((tmp_path / "state" / "taken").iterdir())
    made = _book(tmp_path)
    made.make_ahead(0, 2, WEEK_S)
    *_, third, fourth = made.keys.publics
    made.finish(_done(_several(made, third)))
    _put_sums(made, fourth)
    made.finish(_done(_listed(fourth)))
    assert not made.keys.publics and not made.taken


def test_of_the_sums_of_one_key_those_of_its_newest_list_are_kept(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 1, WEEK_S)
    (number,) = made.keys.publics
    for lists in (1, 2):
        listed = _several(made, number, lists=lists)
        path = made.sums_of(number, listed.digest)
        book.write_sums(path, [b"one", b"two"])
        made.finish(_done(listed))
        assert list((tmp_path / "state" / "sums").iterdir()) == [path]


def test_what_a_list_takes_is_known_before_the_list(tmp_path: Path) -> None:
    """A kill between the two leaves a list that is checked again, and nothing is opened twice."""
    made = _book(tmp_path)
    made.make_ahead(0, 1, WEEK_S)
    (number,) = made.keys.publics
    before = (tmp_path / "state" / "book").read_bytes()
    _several(made, number)
    (tmp_path / "state" / "book").write_bytes(before)
    again = _book(tmp_path)
    assert not again.lists and again.taken == made.taken


@pytest.mark.parametrize("harm", ["lost", "damaged", "cut short"])
def test_a_key_of_which_it_is_not_known_what_was_on_its_lists_is_gone(
    tmp_path: Path, harm: str
) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 2, WEEK_S)
    first, second = made.keys.publics
    listed = _several(made, first)
    made.finish(_done(listed))
    path = tmp_path / "state" / "taken" / str(first)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    match harm:
        case "lost":
            path.unlink()
        case "damaged":
            path.write_bytes(data)
        case _:
            path.write_bytes(path.read_bytes()[:-1])
    again = _book(tmp_path)
    assert list(again.keys.publics) == [second] and again.keys.damaged == [path]
    assert not again.taken and not path.exists()
    # What was answered is still known.
    assert again.lists == {first: _done(listed)}


def test_half_written_files_are_gone_at_the_next_start(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 1, WEEK_S)
    number = max(made.keys.publics)
    _several(made, number)
    halves = [
        tmp_path / "state" / "taken" / f"{number}.77.part",
        tmp_path / "state" / "keys" / f"{number + 1}.key.77.part",
        tmp_path / "state" / "sums" / f"{number}.part",
    ]
    for path in halves:
        path.write_bytes(b"half")
    again = _book(tmp_path)
    assert list(again.keys.publics) == [number] and not any(path.exists() for path in halves)


def test_the_newest_sums_are_kept_and_all_digests_of_late(tmp_path: Path) -> None:
    made = _book(tmp_path)
    for number in range(1, 8):
        _put_sums(made, number)
        made.finish(_done(_listed(number)))
    assert sorted(path.name for path in (tmp_path / "state" / "sums").iterdir()) == [
        f"{number}-{b'l'.hex() * 8}" for number in (4, 5, 6, 7)
    ]
    assert list(made.lists) == [*range(1, 8)]


def test_old_keys_and_sums_are_deleted(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    made = Book(tmp_path / "state", "demo", "kh-a", clock)
    made.make_ahead(0, 2, WEEK_S)
    old = _put_sums(made, 1)
    written = old.stat().st_mtime
    clock.now = written + 5
    assert not made.drop_older(60.0)
    clock.now = written + 70
    assert made.drop_older(60.0)
    assert not made.keys.publics and not old.exists()


def test_rounds_that_are_never_opened_do_not_fill_the_disk(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 8, WEEK_S)
    for _ in range(0, book.KEYS_MAX, 50):
        made.make_ahead(max(made.keys.publics), 50, WEEK_S)
    assert len(made.keys.publics) == book.KEYS_MAX
    assert len(list((tmp_path / "state" / "keys").iterdir())) == book.KEYS_MAX


def test_keys_that_are_half_as_old_as_they_may_be_are_offered_no_more(tmp_path: Path) -> None:
    """A round that is offered with one must have the time to end."""
    clock = Clock(tmp_path)
    made = Book(tmp_path / "state", "demo", "kh-a", clock)
    made.make_ahead(0, 2, WEEK_S)
    old = set(made.keys.publics)
    written = min(path.stat().st_mtime for path in (tmp_path / "state" / "keys").iterdir())
    clock.now = written + 70
    assert made.make_ahead(0, 2, 60.0)
    assert old < made.keys.publics.keys()
    assert old & made.ahead(0, WEEK_S).keys() and len(made.ahead(0, WEEK_S)) == 4


def test_a_damaged_key_is_told_of_and_gone(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 2, WEEK_S)
    first, second = made.keys.publics
    path = tmp_path / "state" / "keys" / f"{first}.key"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    again = _book(tmp_path)
    assert again.keys.damaged == [path] and list(again.keys.publics) == [second]
    assert not path.exists()


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_damaged_book_is_not_gone_on_with(tmp_path: Path, at: int) -> None:
    """It may have said that a key is used."""
    _book(tmp_path).make_ahead(0, 1, WEEK_S)
    path = tmp_path / "state" / "book"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(BookError, match=r"book is damaged: .*; delete the whole folder"):
        _book(tmp_path)


def test_anothers_folder_is_named(tmp_path: Path) -> None:
    _book(tmp_path).make_ahead(0, 1, WEEK_S)
    with pytest.raises(BookError, match="is of kh-a in federation demo: give each keyholder"):
        Book(tmp_path / "state", "demo", "kh-b", Clock(tmp_path))


def test_what_is_secret_is_in_no_traceback(tmp_path: Path) -> None:
    made = _book(tmp_path)
    made.make_ahead(0, 1, WEEK_S)
    (number,) = made.keys.publics
    private = made.keys.private(number)
    assert repr(private)[2:-1] not in repr(made.keys._pairs)
