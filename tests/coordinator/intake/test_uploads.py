"""Answers on their way, in small numbers: two slots, chunks of 1,024 bytes, 5 s of patience."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.intake.upload_slots import RANGES_MAX, STALLS_MAX
from coordinator.intake.uploads import Upload, Uploads
from fedmqtt import chunks
from fedmqtt.effects import Publish
from fedmqtt.messages import Announce, Chunk, Go
from fedmqtt.topics import ClientId, Inbox, RoundId, RunId
from fedmqtt.weights import digest
from tests.edge_client.little_disk import little_disk

CHUNK = 1024
ANN, BOB, CAT, DAN = map(ClientId, ("ann", "bob", "cat", "dan"))


def uploads(
    folder: Path,
    at_once: int = 2,
    turn_s: float = 1000.0,
    parked_max: int = 32,
    parked_bytes_max: int = 2**30,
) -> Uploads:
    return Uploads(at_once, 5.0, folder, turn_s, parked_max, parked_bytes_max)


def answer(fill: int, size: int = 2500) -> bytes:
    """Three chunks, the last of 452 bytes."""
    return bytes([fill]) * size


def announce(data: bytes, round_id: int = 1, chunk_bytes: int = CHUNK) -> Announce:
    return Announce(
        run=RunId("run"),
        round=RoundId(round_id),
        digest=digest(data),
        size_bytes=len(data),
        chunk_bytes=chunk_bytes,
    )


def chunk(data: bytes, index: int, chunk_bytes: int = CHUNK) -> Chunk:
    piece = data[index * chunk_bytes : (index + 1) * chunk_bytes]
    return Chunk(digest=digest(data), data=memoryview(piece))


def go(client: ClientId, data: bytes, *ranges: tuple[int, int], round_id: int = 1) -> Publish:
    return Publish(
        Inbox(client),
        Go(run=RunId("run"), round=RoundId(round_id), digest=digest(data), ranges=ranges),
    )


def arrive(
    pace: Uploads, at: float, client: ClientId, data: bytes, indexes: Iterable[int]
) -> Upload | None:
    """What the last of these chunks gives; the others give nothing."""
    *others, last = indexes
    for index in others:
        assert pace.chunk(at, client, index, chunk(data, index)) is None
    return pace.chunk(at, client, last, chunk(data, last))


def files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir())


# Who sends, and what arrives


def test_who_announces_first_sends_first_and_the_next_when_a_slot_is_free(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1)
    one, two = answer(1), answer(2)
    assert pace.announce(0, ANN, announce(one)) == [go(ANN, one, (0, 3))]
    assert pace.announce(1, BOB, announce(two)) == []
    whole = arrive(pace, 2, ANN, one, (0, 1, 2))
    assert whole is not None and pace.is_intact(whole)
    with whole.opened() as data:
        assert data == one
    assert pace.done(3, whole) == [go(BOB, two, (0, 3))]


def test_chunks_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), bytes(range(250)) * 10
    pace.announce(0, ANN, announce(data))
    whole = arrive(pace, 1, ANN, data, (2, 0, 0, 2, 1))
    assert whole is not None and pace.is_intact(whole)
    assert files(tmp_path) == [data]


def test_what_was_not_announced_changes_nothing(tmp_path: Path) -> None:
    pace, data, other = uploads(tmp_path), answer(1), answer(2)
    assert pace.chunk(0, ANN, 0, chunk(data, 0)) is None
    pace.announce(0, ANN, announce(data))
    # Of another answer, of another client, beyond either end, too long, too short, empty.
    assert pace.chunk(1, ANN, 0, chunk(other, 0)) is None
    assert pace.chunk(1, BOB, 0, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, 3, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, -1, chunk(data, 2)) is None
    assert pace.chunk(1, ANN, 2, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, 0, chunk(data, 2)) is None
    assert pace.chunk(1, ANN, 0, chunk(data, 9)) is None
    assert files(tmp_path) == []
    assert pace.tick(6) == [go(ANN, data, (0, 3))]


def test_a_copy_that_comes_after_the_whole_changes_nothing(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    whole = arrive(pace, 1, ANN, data, (0, 1, 2))
    assert whole is not None
    assert pace.chunk(1, ANN, 2, chunk(data, 2)) is None
    pace.done(1, whole)
    assert pace.chunk(1, ANN, 2, chunk(data, 2)) is None
    assert files(tmp_path) == []


def test_chunks_that_do_not_add_up_to_the_digest_are_removed_and_may_come_again(
    tmp_path: Path,
) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 0, ANN, data, (0, 1))
    forged = Chunk(digest=digest(data), data=memoryview(bytes(452)))
    whole = pace.chunk(0, ANN, 2, forged)
    assert whole is not None and not pace.is_intact(whole)
    pace.done(0, whole)
    assert files(tmp_path) == []
    assert pace.announce(1, ANN, announce(data)) == [go(ANN, data, (0, 3))]
    whole = arrive(pace, 2, ANN, data, (0, 1, 2))
    assert whole is not None and pace.is_intact(whole)


def test_a_go_stays_small_however_many_gaps_there_are(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1, size=2 * (RANGES_MAX + 10) * CHUNK)
    pace.announce(0, ANN, announce(data))
    for index in range(1, 2 * (RANGES_MAX + 10), 2):
        pace.chunk(0, ANN, index, chunk(data, index))
    (asked,) = pace.tick(5)
    assert isinstance(asked.message, Go)
    assert len(asked.message.ranges) == RANGES_MAX
    assert asked.message.ranges[:2] == ((0, 1), (2, 3))


# Announcing again


def test_announcing_again_keeps_what_is_here(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 1, ANN, data, [1])
    assert pace.announce(2, ANN, announce(data)) == [go(ANN, data, (0, 1), (2, 3))]
    # It counts as movement: the client has just been told what to send.
    assert pace.tick(6.9) == []


def test_announcing_another_answer_begins_anew(tmp_path: Path) -> None:
    pace, old, new = uploads(tmp_path), answer(1), answer(2)
    pace.announce(0, ANN, announce(old))
    arrive(pace, 1, ANN, old, [1])
    assert pace.announce(2, ANN, announce(new, 2)) == [go(ANN, new, (0, 3), round_id=2)]
    assert files(tmp_path) == []
    assert pace.chunk(3, ANN, 0, chunk(old, 0)) is None


def test_an_older_answer_waits_until_the_newer_one_is_here(tmp_path: Path) -> None:
    pace, old, new = uploads(tmp_path), answer(1), answer(2)
    pace.announce(0, ANN, announce(old, 1))
    pace.announce(0, ANN, announce(new, 2))
    arrive(pace, 1, ANN, new, [0])
    assert pace.announce(2, ANN, announce(old, 1)) == []
    whole = arrive(pace, 3, ANN, new, [1, 2])
    assert whole is not None and pace.done(3, whole) == []
    assert pace.announce(4, ANN, announce(old, 1)) == [go(ANN, old, (0, 3))]


def test_an_older_answer_comes_first_when_the_newer_one_stands_still(tmp_path: Path) -> None:
    pace, old, new = uploads(tmp_path), answer(1), answer(2)
    pace.announce(0, ANN, announce(new, 2))
    arrive(pace, 1, ANN, new, [0])
    assert pace.announce(6, ANN, announce(old, 1)) == [go(ANN, old, (0, 3))]


def test_the_same_bytes_for_another_round_are_another_answer(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data, 1))
    arrive(pace, 1, ANN, data, [1])
    assert pace.announce(2, ANN, announce(data, 2)) == [go(ANN, data, (0, 3), round_id=2)]
    assert files(tmp_path) == []


def test_a_client_that_announces_often_waits_once(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1)
    one, two, three = answer(1), answer(2), answer(3)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    pace.announce(0, CAT, announce(three))
    pace.announce(0, BOB, announce(two))
    gone = pace.drop(1, lambda client, _: client != ANN)
    assert gone == [go(BOB, two, (0, 3))]
    assert pace.drop(2, lambda client, _: client == CAT) == [go(CAT, three, (0, 3))]
    assert pace.drop(3, lambda client, _: False) == []


def test_who_waits_with_a_newer_answer_keeps_its_place(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1)
    one, old, new, three = answer(1), answer(2), answer(3), answer(4)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(old))
    pace.announce(0, CAT, announce(three))
    pace.announce(0, BOB, announce(new))
    assert pace.drop(1, lambda client, _: client != ANN) == [go(BOB, new, (0, 3))]


# Standing still


def test_an_upload_that_stands_still_is_asked_for_what_is_missing(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1, size=5 * CHUNK)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 1, ANN, data, (1, 3))
    assert pace.tick(5.9) == []
    assert pace.tick(6) == [go(ANN, data, (0, 1), (2, 3), (4, 5))]


def test_progress_makes_patience_anew(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    for asked in range(1, STALLS_MAX + 1):
        assert pace.tick(5 * asked) == [go(ANN, data, (0, 3))]
    arrive(pace, 16, ANN, data, [0])
    for asked in range(1, STALLS_MAX + 1):
        assert pace.tick(16 + 5 * asked) == [go(ANN, data, (1, 3))]
    assert pace.tick(36) == [] and pace.active == ()


def test_a_client_that_never_reacts_loses_its_slot_to_the_next(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1)
    one, two = answer(1), answer(2)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    for asked in range(1, STALLS_MAX + 1):
        assert pace.tick(5 * asked) == [go(ANN, one, (0, 3))]
    assert pace.tick(5 * STALLS_MAX + 5) == [go(BOB, two, (0, 3))]
    # Nothing of it came: there is nothing to keep.
    assert pace.parked == ()
    # It is not locked out: it announces again and waits for its turn.
    assert pace.announce(30, ANN, announce(one)) == []
    assert pace.drop(31, lambda client, _: client == ANN) == [go(ANN, one, (0, 3))]


def _vanish(pace: Uploads, at: float, client: ClientId, data: bytes) -> None:
    """It announces, sends its first chunk and is gone, until it has lost its slot."""
    pace.announce(at, client, announce(data))
    pace.chunk(at, client, 0, chunk(data, 0))
    for asked in range(1, STALLS_MAX + 2):
        pace.tick(at + 5 * asked)
    assert client not in pace.active


def test_a_client_that_vanished_and_returns_sends_only_what_is_missing(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path, at_once=1), answer(1)
    _vanish(pace, 0, ANN, data)
    assert pace.announce(100, ANN, announce(data)) == [go(ANN, data, (1, 3))]
    whole = arrive(pace, 101, ANN, data, (2, 1))
    assert whole is not None and pace.is_intact(whole)


def test_it_waits_for_a_slot_with_what_it_has_sent(tmp_path: Path) -> None:
    pace, data, other = uploads(tmp_path, at_once=1), answer(1), answer(2)
    _vanish(pace, 0, ANN, data)
    pace.announce(100, BOB, announce(other))
    assert pace.announce(101, ANN, announce(data)) == []
    whole = arrive(pace, 102, BOB, other, (0, 1, 2))
    assert whole is not None
    assert pace.done(102, whole) == [go(ANN, data, (1, 3))]


def test_it_may_return_with_another_answer(tmp_path: Path) -> None:
    pace, old, new = uploads(tmp_path, at_once=1), answer(1), answer(2)
    _vanish(pace, 0, ANN, old)
    assert files(tmp_path) == [old[:CHUNK]]
    assert pace.announce(100, ANN, announce(new)) == [go(ANN, new, (0, 3))]
    assert files(tmp_path) == []


def test_chunks_that_come_after_the_slot_was_lost_are_taken(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path, at_once=1), answer(1)
    _vanish(pace, 0, ANN, data)
    whole = arrive(pace, 200, ANN, data, (1, 2))
    assert whole is not None and pace.is_intact(whole)
    assert pace.done(200, whole) == []
    assert (pace.parked, files(tmp_path)) == ((), [])


def test_of_those_that_vanished_the_last_are_kept(tmp_path: Path) -> None:
    pace = uploads(tmp_path, parked_max=2)
    answers = {client: answer(fill) for fill, client in enumerate((ANN, BOB, CAT))}
    for at, (client, data) in zip((0, 100, 200), answers.items(), strict=True):
        _vanish(pace, at, client, data)
    assert pace.parked == (BOB, CAT)
    assert files(tmp_path) == [answers[BOB][:CHUNK], answers[CAT][:CHUNK]]
    assert pace.announce(300, ANN, announce(answers[ANN])) == [go(ANN, answers[ANN], (0, 3))]


def test_of_those_that_vanished_the_last_heard_of_are_kept(tmp_path: Path) -> None:
    pace = uploads(tmp_path, parked_max=2)
    answers = {client: answer(fill) for fill, client in enumerate((ANN, BOB, CAT))}
    _vanish(pace, 0, ANN, answers[ANN])
    _vanish(pace, 100, BOB, answers[BOB])
    arrive(pace, 150, ANN, answers[ANN], [1])
    _vanish(pace, 200, CAT, answers[CAT])
    assert pace.parked == (ANN, CAT)


def test_they_are_kept_up_to_so_many_bytes(tmp_path: Path) -> None:
    pace = uploads(tmp_path, parked_bytes_max=6000)
    for fill, client, size in ((0, ANN, 2500), (1, BOB, 2500), (2, CAT, 3500)):
        _vanish(pace, 100.0 * fill, client, answer(fill, size))
    assert pace.parked == (BOB, CAT)
    # One that is too large for all the room does not drive the others out.
    _vanish(pace, 300, DAN, answer(3, 6001))
    assert pace.parked == (BOB, CAT)
    assert files(tmp_path) == [bytes([1]) * CHUNK, bytes([2]) * CHUNK]


def test_who_has_come_back_and_waits_is_not_dropped_for_another(tmp_path: Path) -> None:
    pace, data, late = uploads(tmp_path, at_once=1, parked_max=1), answer(1), answer(2)
    _vanish(pace, 0, ANN, data)
    pace.announce(100, BOB, announce(late))
    pace.chunk(100, BOB, 0, chunk(late, 0))
    pace.announce(101, ANN, announce(data))
    for asked in range(1, STALLS_MAX + 1):
        pace.tick(100 + 5 * asked)
    assert pace.tick(120) == [go(ANN, data, (1, 3))]
    assert (pace.active, pace.parked) == ((ANN,), ())


# Slow clients


def test_a_slow_upload_gives_way_to_who_waits_and_goes_on(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10)
    slow, quick = answer(1), answer(2)
    pace.announce(0, ANN, announce(slow))
    arrive(pace, 4, ANN, slow, [0])
    assert pace.announce(6, BOB, announce(quick)) == []
    arrive(pace, 8, ANN, slow, [1])
    assert pace.tick(9.9) == []
    assert pace.tick(10) == [go(BOB, quick, (0, 3))]
    # Its last chunk comes while the other has the slot.
    whole = arrive(pace, 12, ANN, slow, [2])
    assert whole is not None and pace.is_intact(whole)
    assert pace.done(12, whole) == []
    whole = arrive(pace, 13, BOB, quick, (0, 1, 2))
    assert whole is not None and pace.done(13, whole) == []


def test_a_slow_upload_keeps_its_slot_while_nobody_waits(tmp_path: Path) -> None:
    pace, slow, quick = uploads(tmp_path, at_once=1, turn_s=10), answer(1), answer(2)
    pace.announce(0, ANN, announce(slow))
    arrive(pace, 4, ANN, slow, [0])
    arrive(pace, 8, ANN, slow, [1])
    assert pace.tick(12) == [] and pace.active == (ANN,)
    # And leaves it at once to the first who comes then.
    assert pace.announce(13, BOB, announce(quick)) == [go(BOB, quick, (0, 3))]


def test_who_gave_way_and_is_still_sending_is_not_asked_again(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10)
    slow, quick = answer(1), answer(2)
    pace.announce(0, ANN, announce(slow))
    pace.announce(1, BOB, announce(quick))
    arrive(pace, 9, ANN, slow, [0])
    pace.tick(10)
    whole = arrive(pace, 11, BOB, quick, (0, 1, 2))
    assert whole is not None
    # What it is sending already would come twice.
    assert pace.done(11, whole) == [] and pace.active == (ANN,)
    assert pace.tick(14) == [go(ANN, slow, (1, 3))]


def test_who_gave_way_and_stopped_sending_is_asked_when_it_is_its_turn_again(
    tmp_path: Path,
) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10)
    slow, quick = answer(1), answer(2)
    pace.announce(0, ANN, announce(slow))
    pace.announce(1, BOB, announce(quick))
    arrive(pace, 9, ANN, slow, [0])
    pace.tick(10)
    whole = arrive(pace, 19, BOB, quick, (0, 1, 2))
    assert whole is not None
    assert pace.done(19, whole) == [go(ANN, slow, (1, 3))]


def test_who_gave_way_and_lost_its_link_is_asked_when_it_is_its_turn_again(
    tmp_path: Path,
) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10)
    slow, quick = answer(1), answer(2)
    pace.announce(0, ANN, announce(slow))
    pace.announce(1, BOB, announce(quick))
    arrive(pace, 9, ANN, slow, [0])
    pace.tick(10)
    assert pace.announce(10, ANN, announce(slow)) == []
    whole = arrive(pace, 11, BOB, quick, (0, 1, 2))
    assert whole is not None
    assert pace.done(11, whole) == [go(ANN, slow, (1, 3))]


def test_three_slow_phones_do_not_stop_fifty_fast_ones(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=3, turn_s=10)
    # One chunk every 4 s: they never stand still, and have 50 chunks each.
    slow = {ClientId(f"slow{number}"): answer(number, 50 * CHUNK) for number in range(3)}
    fast = {ClientId(f"fast{number}"): answer(number, 100) for number in range(50)}
    going: list[Publish] = []
    for client, data in (slow | fast).items():
        going += pace.announce(0, client, announce(data))
    assert len(going) == 3
    received: list[ClientId] = []
    for turn in range(4):
        at = 4.0 * turn
        going = pace.tick(at)
        for client, data in slow.items():
            pace.chunk(at, client, turn, chunk(data, turn))
        while going:
            (inbox, *_) = (one.to for one in going)
            assert isinstance(inbox, Inbox)
            whole = pace.chunk(at, inbox.client, 0, chunk(fast[inbox.client], 0))
            assert whole is not None
            received.append(inbox.client)
            going = going[1:] + pace.done(at, whole)
    assert sorted(received) == sorted(fast)
    for client, data in slow.items():
        whole = arrive(pace, 16, client, data, range(4, 50))
        assert whole is not None and pace.is_intact(whole)


def test_no_more_slow_uploads_go_on_than_may_be_parked(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10, parked_max=1)
    one, two, three = answer(1), answer(2), answer(3)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    pace.announce(0, CAT, announce(three))
    arrive(pace, 9, ANN, one, [0])
    assert pace.tick(10) == [go(BOB, two, (0, 3))]
    arrive(pace, 19, BOB, two, [0])
    arrive(pace, 19, ANN, one, [1])
    # Ann is moving: Bob's turn is over, and there is no place where it could go on.
    assert pace.tick(20) == []
    assert (pace.active, pace.parked) == ((BOB,), (ANN,))


def test_those_that_gave_way_take_turns(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1, turn_s=10, parked_max=1)
    one, two = answer(1), answer(2)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    for at, active, parked in ((9, ANN, ()), (19, BOB, (ANN,)), (29, ANN, (BOB,))):
        assert (pace.active, pace.parked) == ((active,), parked)
        # One chunk arrives in its first turn, and in later ones its copy.
        pace.chunk(at, active, 0, chunk(one if active == ANN else two, 0))
        pace.tick(at + 1)
    assert len(files(tmp_path)) == 2


# The end of rounds, and of programs


def test_closing_a_round_forgets_its_uploads_and_lets_others_send(tmp_path: Path) -> None:
    pace = uploads(tmp_path, at_once=1)
    gone, old, waiting, new = answer(0), answer(1), answer(2), answer(3)
    _vanish(pace, -100, DAN, gone)
    pace.announce(0, ANN, announce(old, 1))
    arrive(pace, 0, ANN, old, [0])
    pace.announce(0, BOB, announce(waiting, 1))
    pace.announce(0, CAT, announce(new, 2))
    assert files(tmp_path) == [gone[:CHUNK], old[:CHUNK]]
    assert pace.drop(1, lambda _, round_id: round_id > 1) == [go(CAT, new, (0, 3), round_id=2)]
    assert pace.chunk(2, ANN, 0, chunk(old, 0)) is None
    assert (pace.active, pace.parked, files(tmp_path)) == ((CAT,), (), [])


def test_what_may_still_count_is_kept_when_a_round_closes(tmp_path: Path) -> None:
    pace, parked, data = uploads(tmp_path, at_once=1), answer(1), answer(2)
    _vanish(pace, 0, ANN, parked)
    pace.announce(100, BOB, announce(data))
    arrive(pace, 100, BOB, data, [0])
    assert pace.drop(101, lambda *_: True) == []
    assert (pace.active, pace.parked) == ((BOB,), (ANN,))
    assert files(tmp_path) == [parked[:CHUNK], data[:CHUNK]]


def test_there_is_something_to_wake_up_for_only_while_an_upload_is_open(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1, size=100)
    waits = [pace.wake_in_s]
    pace.announce(0, ANN, announce(data))
    waits.append(pace.wake_in_s)
    whole = arrive(pace, 1, ANN, data, [0])
    assert whole is not None
    pace.done(1, whole)
    assert [*waits, pace.wake_in_s] == [None, 5.0, None]


def test_a_turn_that_is_shorter_than_patience_is_woken_for(tmp_path: Path) -> None:
    pace = uploads(tmp_path, turn_s=2)
    pace.announce(0, ANN, announce(answer(1)))
    assert pace.wake_in_s == 2


def test_what_an_earlier_life_left_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "uploads"
    pace, data = uploads(folder), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 0, ANN, data, [0])
    (folder / "notes.txt").write_text("mine")
    pace = uploads(folder)
    assert files(folder) == [b"mine"]
    assert pace.announce(0, ANN, announce(data)) == [go(ANN, data, (0, 3))]
    whole = arrive(pace, 1, ANN, data, (0, 1, 2))
    assert whole is not None and pace.is_intact(whole)


# Files and memory


def _received(pace: Uploads, client: ClientId, data: bytes) -> Upload:
    pace.announce(0, client, announce(data))
    whole = arrive(pace, 0, client, data, range(chunks.count(len(data), CHUNK)))
    assert whole is not None
    return whole


def test_the_file_of_a_whole_answer_is_the_callers(tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    pace, kept, refused = uploads(folder), answer(1), answer(2)
    upload = _received(pace, ANN, kept)
    # Whatever the client says before the caller is done with it.
    pace.announce(0, ANN, announce(refused))
    pace.drop(0, lambda *_: False)
    assert files(folder) == [kept]
    upload.path.rename(tmp_path / "accepted")
    pace.done(1, upload)
    assert (tmp_path / "accepted").read_bytes() == kept
    # It tells of its client's data.
    assert (tmp_path / "accepted").stat().st_mode & 0o777 == 0o600
    upload = _received(pace, BOB, refused)
    pace.done(1, upload)
    assert files(folder) == []


def test_the_bytes_are_looked_at_and_not_changed(tmp_path: Path) -> None:
    upload = _received(uploads(tmp_path), ANN, answer(1))
    with upload.opened() as data:
        assert data.readonly
    with pytest.raises(ValueError, match="released"):
        bytes(data)


def test_a_view_that_is_still_in_use_is_not_changed_by_a_later_upload(tmp_path: Path) -> None:
    pace, first, second = uploads(tmp_path), answer(1), answer(2)
    upload = _received(pace, ANN, first)
    with upload.opened() as data:
        kept = data[1000:]
    pace.done(0, upload)
    pace.done(0, _received(pace, BOB, second))
    assert kept == first[1000:]


def test_no_file_stays_open(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    upload = _received(pace, ANN, data)
    # Nor while somebody keeps what went wrong with the bytes, as a log may.
    kept: list[ValueError] = []
    try:
        with upload.opened():
            raise ValueError
    except ValueError as wrong:
        kept.append(wrong)
    names = {Path(one.path).name for one in psutil.Process().open_files()}
    assert upload.path.name not in names


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 0, ANN, data, [0])
    # It takes the first 476 bytes of this chunk, and complains of the rest.
    with little_disk(1500), pytest.raises(OSError, match="File too large"):
        pace.chunk(1, ANN, 1, chunk(data, 1))
    assert (files(tmp_path), pace.active) == ([], ())
    # Nothing is taken for written that is not there.
    assert pace.announce(2, ANN, announce(data)) == [go(ANN, data, (0, 3))]
    whole = arrive(pace, 3, ANN, data, (0, 1, 2))
    assert whole is not None and pace.is_intact(whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_disk_without_space_is_told(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 0, ANN, data, [0])
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        pace.chunk(1, ANN, 1, chunk(data, 1))


def test_a_file_that_somebody_took_away_does_not_come_back_with_holes(tmp_path: Path) -> None:
    pace, data = uploads(tmp_path), answer(1)
    pace.announce(0, ANN, announce(data))
    arrive(pace, 0, ANN, data, [0])
    (path,) = tmp_path.iterdir()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pace.chunk(1, ANN, 1, chunk(data, 1))
    assert files(tmp_path) == []


def receive_at_once(folder: str, count: int) -> int:
    """The peak of this process's memory, in kB, over `count` answers of 1 MiB, all on the way at
    a time, and each looked at when it is whole."""
    piece, size = 128 * 1024, 1024 * 1024
    pace = uploads(Path(folder), at_once=count)
    answers = {ClientId(f"client{number}"): number for number in range(count)}
    for client, number in answers.items():
        pace.announce(0, client, announce(answer(number % 256, size), chunk_bytes=piece))
    for index in range(size // piece):
        for client, number in answers.items():
            sent = chunk(answer(number % 256, size), index, piece)
            whole = pace.chunk(0, client, index, sent)
            if whole is not None:
                assert pace.is_intact(whole)
                with whole.opened() as data:
                    assert data[-1] == number % 256
                pace.done(0, whole)
    (peak,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(peak.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_memory_does_not_grow_with_the_uploads(tmp_path: Path) -> None:
    ask = "import sys; from tests.coordinator.intake.test_uploads import receive_at_once as peak; "
    ask += "print(peak(sys.argv[1], int(sys.argv[2])))"

    def peak_kb(count: int) -> int:
        words = [sys.executable, "-c", ask, str(tmp_path), str(count)]
        return int(subprocess.run(words, check=True, capture_output=True).stdout)

    assert peak_kb(200) < 1.1 * peak_kb(2)


# In any order, with loss and repeats

PIECE = 4
CLIENTS = st.sampled_from([ANN, BOB, CAT, DAN])


class Weather(RuleBasedStateMachine):
    """Four clients that send what they are told to, over a network that does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        self.at = 0.0
        self.sent = 0
        self.owed: dict[ClientId, bytes] = {}
        self.told: dict[ClientId, list[int]] = {}
        """Chunks that are on their way, in the order of the client; may arrive more than once."""
        self.here: dict[ClientId, set[int]] = {}
        """Chunks of what the client owes that were taken and are kept."""

    @initialize(
        at_once=st.integers(1, 3),
        turn_s=st.sampled_from([7.0, 1000.0]),
        parked_max=st.integers(0, 3),
        parked_bytes_max=st.sampled_from([20, 1000]),
    )
    def begin(self, at_once: int, turn_s: float, parked_max: int, parked_bytes_max: int) -> None:
        self.pace = uploads(self.folder, at_once, turn_s, parked_max, parked_bytes_max)
        self.bounds = (at_once, parked_max, parked_bytes_max)

    @rule(client=CLIENTS, size=st.integers(1, 30))
    def finish_training(self, client: ClientId, size: int) -> None:
        """A new answer, which nobody has sent before; what was owed is forgotten."""
        self.sent += 1
        self.told.pop(client, None)
        self.here.pop(client, None)
        self.owed[client] = bytes((self.sent * 7 + place) % 256 for place in range(size))
        self._announce(client)

    @rule(client=CLIENTS)
    def announce_again(self, client: ClientId) -> None:
        if client in self.owed:
            self._announce(client)

    @rule(client=CLIENTS)
    def lose_what_is_on_the_way(self, client: ClientId) -> None:
        self.told.pop(client, None)

    @precondition(lambda self: any(self.told.values()))
    @rule(choice=st.data(), copies=st.booleans())
    def deliver(self, choice: st.DataObject, copies: bool) -> None:
        on_the_way = [(client, index) for client, told in self.told.items() for index in told]
        client, index = choice.draw(st.sampled_from(on_the_way))
        if not copies:
            self.told[client].remove(index)
        self._deliver(client, index, chunk(self.owed[client], index, PIECE))

    @rule(client=CLIENTS, index=st.integers(-2, 9), data=st.binary(max_size=PIECE + 1))
    def deliver_what_is_foreign(self, client: ClientId, index: int, data: bytes) -> None:
        foreign = Chunk(digest=digest(b"of nobody"), data=memoryview(data))
        assert self.pace.chunk(self.at, client, index, foreign) is None

    @rule(client=CLIENTS, index=st.integers(-2, 9), length=st.integers(0, PIECE + 1))
    def deliver_what_does_not_fit(self, client: ClientId, index: int, length: int) -> None:
        data = self.owed.get(client, b"")
        start, stop = chunks.span(index, len(data), PIECE)
        if length != stop - start or not 0 <= start < stop:
            wrong = Chunk(digest=digest(data), data=memoryview(bytes(length)))
            assert self.pace.chunk(self.at, client, index, wrong) is None

    @rule(passed_s=st.sampled_from([1.0, 5.0, 8.0]))
    def wait(self, passed_s: float) -> None:
        self.at += passed_s
        self._hear(self.pace.tick(self.at))

    @rule(client=CLIENTS)
    def close_the_round_for(self, client: ClientId) -> None:
        self.owed.pop(client, None)
        self.told.pop(client, None)
        self.here.pop(client, None)
        self._hear(self.pace.drop(self.at, lambda other, _: other != client))

    @invariant()
    def nothing_exceeds_its_bounds(self) -> None:
        if not hasattr(self, "pace"):
            return
        active, parked = self.pace.active, self.pace.parked
        at_once, parked_max, parked_bytes_max = self.bounds
        assert len(active) <= at_once
        assert len(parked) <= parked_max
        assert sum(len(self.owed[one]) for one in parked) <= parked_bytes_max
        assert not set(active) & set(parked)
        # On disk is what was begun and may still become whole.
        assert set(self.here) <= {*active, *parked}
        assert len(list(self.folder.iterdir())) == len(self.here)

    def teardown(self) -> None:
        """The weather clears: everybody who owes an answer gets it through."""
        if hasattr(self, "pace"):
            for _ in range(10):
                for client in list(self.owed):
                    self._announce(client)
                    while self.told.get(client):
                        index = self.told[client].pop()
                        self._deliver(client, index, chunk(self.owed[client], index, PIECE))
                self.wait(5.0)
            assert self.owed == {}
            assert (self.pace.active, self.pace.parked) == ((), ())
            assert list(self.folder.iterdir()) == []
        self._temporary.cleanup()

    def _announce(self, client: ClientId) -> None:
        asked = announce(self.owed[client], chunk_bytes=PIECE)
        self._hear(self.pace.announce(self.at, client, asked))

    def _deliver(self, client: ClientId, index: int, sent: Chunk) -> None:
        is_kept = client in (*self.pace.active, *self.pace.parked)
        whole = self.pace.chunk(self.at, client, index, sent)
        if is_kept:
            self.here.setdefault(client, set()).add(index)
        data = self.owed[client]
        is_whole = len(self.here.get(client, ())) == chunks.count(len(data), PIECE)
        assert (whole is not None) == is_whole
        if whole is not None:
            assert self.pace.is_intact(whole)
            with whole.opened() as arrived:
                assert arrived == data
            del self.owed[client], self.here[client]
            self.told.pop(client, None)
            self._hear(self.pace.done(self.at, whole))

    def _hear(self, told: list[Publish]) -> None:
        kept = {*self.pace.active, *self.pace.parked}
        self.here = {client: here for client, here in self.here.items() if client in kept}
        for one in told:
            assert isinstance(one.to, Inbox) and isinstance(one.message, Go)
            client = one.to.client
            data = self.owed[client]
            assert client in self.pace.active
            assert one.message.digest == digest(data)
            count = chunks.count(len(data), PIECE)
            asked = list(chunks.numbers(one.message.ranges, count))
            # Only what is missing, and all of it; a later Go takes the place of an earlier.
            assert asked == sorted(set(range(count)) - self.here.get(client, set()))
            self.told[client] = asked


TestWeather = Weather.TestCase
TestWeather.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
