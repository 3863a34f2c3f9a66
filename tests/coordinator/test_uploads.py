"""Answers on their way, in small numbers: two slots, chunks of 1,024 bytes, 5 s of patience."""

from coordinator.uploads import RANGES_MAX, STALLS_MAX, Uploads
from fedmqtt.effects import Publish
from fedmqtt.messages import Announce, Chunk, Go
from fedmqtt.topics import ClientId, Inbox, RoundId
from fedmqtt.weights import digest

CHUNK = 1024
ANN, BOB, CAT = map(ClientId, ("ann", "bob", "cat"))


def uploads(at_once: int = 2) -> Uploads:
    return Uploads(at_once=at_once, stall_s=5.0)


def answer(fill: int, size: int = 2500) -> bytes:
    """Three chunks, the last of 452 bytes."""
    return bytes([fill]) * size


def announce(data: bytes, round_id: int = 1) -> Announce:
    return Announce(
        round=RoundId(round_id), digest=digest(data), size_bytes=len(data), chunk_bytes=CHUNK
    )


def chunk(data: bytes, index: int) -> Chunk:
    piece = data[index * CHUNK : (index + 1) * CHUNK]
    return Chunk(digest=digest(data), data=memoryview(piece))


def go(client: ClientId, data: bytes, *ranges: tuple[int, int], round_id: int = 1) -> Publish:
    return Publish(Inbox(client), Go(round=RoundId(round_id), digest=digest(data), ranges=ranges))


def test_who_announces_first_sends_first_and_the_next_when_a_slot_is_free() -> None:
    pace = uploads(at_once=1)
    one, two = answer(1), answer(2)
    assert pace.announce(0, ANN, announce(one)) == [go(ANN, one, (0, 3))]
    assert pace.announce(1, BOB, announce(two)) == []
    for index in (0, 1):
        assert pace.chunk(2, ANN, index, chunk(one, index)) is None
    whole = pace.chunk(3, ANN, 2, chunk(one, 2))
    assert whole is not None and pace.is_intact(whole) and whole.data == one
    assert pace.done(3, whole) == [go(BOB, two, (0, 3))]


def test_chunks_may_come_in_any_order_and_twice() -> None:
    pace, data = uploads(), answer(7)
    pace.announce(0, ANN, announce(data))
    for index in (2, 0, 0, 2):
        assert pace.chunk(1, ANN, index, chunk(data, index)) is None
    whole = pace.chunk(1, ANN, 1, chunk(data, 1))
    assert whole is not None and pace.is_intact(whole)


def test_what_was_not_announced_changes_nothing() -> None:
    pace, data, other = uploads(), answer(1), answer(2)
    assert pace.chunk(0, ANN, 0, chunk(data, 0)) is None
    pace.announce(0, ANN, announce(data))
    # Of another answer, of another client, beyond the end, too long, too short.
    assert pace.chunk(1, ANN, 0, chunk(other, 0)) is None
    assert pace.chunk(1, BOB, 0, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, 3, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, 2, chunk(data, 0)) is None
    assert pace.chunk(1, ANN, 0, chunk(data, 2)) is None
    assert pace.tick(6) == [go(ANN, data, (0, 3))]


def test_chunks_that_do_not_add_up_to_the_digest_are_not_intact() -> None:
    pace, data = uploads(), answer(1)
    pace.announce(0, ANN, announce(data))
    pace.chunk(0, ANN, 0, chunk(data, 0))
    pace.chunk(0, ANN, 1, chunk(data, 1))
    forged = Chunk(digest=digest(data), data=memoryview(bytes(452)))
    whole = pace.chunk(0, ANN, 2, forged)
    assert whole is not None and not pace.is_intact(whole)


def test_an_upload_that_stands_still_is_asked_for_what_is_missing() -> None:
    pace, data = uploads(), answer(1, size=5 * CHUNK)
    pace.announce(0, ANN, announce(data))
    for index in (1, 3):
        pace.chunk(1, ANN, index, chunk(data, index))
    assert pace.tick(5.9) == []
    assert pace.tick(6) == [go(ANN, data, (0, 1), (2, 3), (4, 5))]


def test_a_client_that_never_reacts_loses_its_slot_to_the_next() -> None:
    pace = uploads(at_once=1)
    one, two = answer(1), answer(2)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    for asked in range(1, STALLS_MAX + 1):
        assert pace.tick(5 * asked) == [go(ANN, one, (0, 3))]
    assert pace.tick(5 * STALLS_MAX + 5) == [go(BOB, two, (0, 3))]
    # It is not locked out: it announces again and waits for its turn.
    assert pace.announce(30, ANN, announce(one)) == []
    assert pace.drop(31, lambda client, _: client == ANN) == [go(ANN, one, (0, 3))]


def test_progress_makes_patience_anew() -> None:
    pace, data = uploads(), answer(1)
    pace.announce(0, ANN, announce(data))
    for asked in range(1, STALLS_MAX + 1):
        pace.tick(5 * asked)
    pace.chunk(16, ANN, 0, chunk(data, 0))
    assert pace.tick(21) == [go(ANN, data, (1, 3))]


def test_announcing_again_keeps_what_is_here() -> None:
    pace, data = uploads(), answer(1)
    pace.announce(0, ANN, announce(data))
    pace.chunk(1, ANN, 1, chunk(data, 1))
    assert pace.announce(2, ANN, announce(data)) == [go(ANN, data, (0, 1), (2, 3))]


def test_announcing_another_answer_begins_anew() -> None:
    pace, old, new = uploads(), answer(1), answer(2)
    pace.announce(0, ANN, announce(old))
    pace.chunk(1, ANN, 1, chunk(old, 1))
    assert pace.announce(2, ANN, announce(new, 2)) == [go(ANN, new, (0, 3), round_id=2)]
    assert pace.chunk(3, ANN, 0, chunk(old, 0)) is None


def test_a_client_that_announces_often_waits_once() -> None:
    pace = uploads(at_once=1)
    one, two, three = answer(1), answer(2), answer(3)
    pace.announce(0, ANN, announce(one))
    pace.announce(0, BOB, announce(two))
    pace.announce(0, CAT, announce(three))
    pace.announce(0, BOB, announce(two))
    gone = pace.drop(1, lambda client, _: client != ANN)
    assert gone == [go(BOB, two, (0, 3))]
    assert pace.drop(2, lambda client, _: client == CAT) == [go(CAT, three, (0, 3))]
    assert pace.drop(3, lambda client, _: False) == []


def test_closing_a_round_forgets_its_uploads_and_lets_others_send() -> None:
    pace = uploads(at_once=1)
    old, waiting, new = answer(1), answer(2), answer(3)
    pace.announce(0, ANN, announce(old, 1))
    pace.announce(0, BOB, announce(waiting, 1))
    pace.announce(0, CAT, announce(new, 2))
    gone = pace.drop(1, lambda _, round_id: round_id > 1)
    assert gone == [go(CAT, new, (0, 3), round_id=2)]
    assert pace.chunk(2, ANN, 0, chunk(old, 0)) is None


def test_there_is_something_to_wake_up_for_only_while_an_upload_is_open() -> None:
    pace, data = uploads(), answer(1, size=100)
    waits = [pace.wake_in_s]
    pace.announce(0, ANN, announce(data))
    waits.append(pace.wake_in_s)
    whole = pace.chunk(1, ANN, 0, chunk(data, 0))
    assert whole is not None
    pace.done(1, whole)
    assert [*waits, pace.wake_in_s] == [None, 5.0, None]


def test_a_view_that_is_still_in_use_is_not_changed_by_a_later_upload() -> None:
    pace, first, second = uploads(), answer(1, size=100), answer(2, size=100)
    kept = _receive(pace, ANN, first)
    _receive(pace, BOB, second)
    assert kept == first


def test_memory_is_used_again_when_nobody_looks_at_it() -> None:
    pace = uploads()
    # Of slightly different sizes, as the headers of answers to one model are.
    first = pace.announce(0, ANN, announce(answer(1, size=100)))
    assert first
    whole = pace.chunk(0, ANN, 0, chunk(answer(1, size=100), 0))
    assert whole is not None
    buffer = whole.buffer
    pace.done(0, whole)
    longer = answer(2, size=103)
    pace.announce(1, BOB, announce(longer))
    again = pace.chunk(1, BOB, 0, chunk(longer, 0))
    assert again is not None and again.buffer is buffer and again.data == longer


def test_a_go_stays_small_however_many_gaps_there_are() -> None:
    pace, data = uploads(), answer(1, size=2 * (RANGES_MAX + 10) * CHUNK)
    pace.announce(0, ANN, announce(data))
    for index in range(1, 2 * (RANGES_MAX + 10), 2):
        pace.chunk(0, ANN, index, chunk(data, index))
    (asked,) = pace.tick(5)
    assert isinstance(asked.message, Go)
    assert len(asked.message.ranges) == RANGES_MAX
    assert asked.message.ranges[:2] == ((0, 1), (2, 3))


def _receive(pace: Uploads, client: ClientId, data: bytes) -> memoryview:
    pace.announce(0, client, announce(data))
    whole = pace.chunk(0, client, 0, chunk(data, 0))
    assert whole is not None
    view = whole.data
    pace.done(0, whole)
    return view
