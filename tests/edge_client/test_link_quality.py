"""What a client knows of its link up, and what it answers by. Times are by hand."""

from hypothesis import given
from hypothesis import strategies as st

from edge_client import link_quality
from edge_client.link_quality import LinkQuality, after, kbps
from fedmqtt.messages import SlowLinks
from tests.offers import offer

UNKNOWN = LinkQuality()
SECOND = 1000 * 125
"""Bytes that a link of 1,000 kbit/s carries in one."""


SLOW = SlowLinks(below_kbps=256.0, codec="part(share=0.25)+eden")
PLAIN = offer(codec="int8")
OFFER = offer(codec="int8", slow_links=SLOW)


def answered_at(rate_kbps: float, times: int = 1, quality: LinkQuality = UNKNOWN) -> LinkQuality:
    """After so many bursts of a second each, with a pause in between."""
    at = 0.0 if quality.burst is None else quality.burst.ended_at + 10.0
    for _ in range(times):
        quality = after(quality, round(rate_kbps * 125), at, at + 1.0)
        at += 10.0
    return quality


def test_nothing_is_known_of_a_link_that_was_not_used() -> None:
    assert kbps(UNKNOWN) is None
    assert kbps(after(UNKNOWN, 200, 0.0, 0.1)) is None
    assert link_quality.codec(UNKNOWN, OFFER) == "int8"


def test_an_answer_in_one_piece_tells_the_rate() -> None:
    assert kbps(after(UNKNOWN, SECOND, 5.0, 6.0)) == 1000.0


def test_pieces_that_overlap_are_one_burst() -> None:
    # Eight are handed over at once, and go one after the other.
    quality = UNKNOWN
    for n in range(8):
        quality = after(quality, SECOND, 0.0, 1.0 + n)
    assert kbps(quality) == 1000.0


def test_a_pause_between_two_answers_is_no_time_of_either() -> None:
    quality = after(UNKNOWN, SECOND, 0.0, 1.0)
    assert kbps(after(quality, SECOND, 500.0, 501.0)) == 1000.0


def test_a_long_way_is_not_taken_for_a_narrow_one() -> None:
    # Half a second there and back, and a second for the bytes.
    quality = after(after(UNKNOWN, 200, 0.0, 0.5), SECOND, 1.0, 2.5)
    assert kbps(quality) == 1000.0


def test_what_a_few_bytes_took_beside_a_long_round_trip_tells_nothing() -> None:
    far = after(UNKNOWN, 200, 0.0, 0.5)
    assert kbps(after(far, 4_000, 1.0, 1.5)) is None
    # But that a link is no longer slow: no less than 640 kbit/s.
    slow = after(far, SECOND // 10, 1.0, 2.5)
    assert kbps(slow) == 100.0
    for n in range(3):
        slow = after(slow, 4_000, 10.0 + n, 10.5 + n)
    assert kbps(slow) == 640.0
    assert kbps(after(slow, 1_000, 20.0, 20.5)) == 640.0


def test_announcements_are_no_answers() -> None:
    # Each large answer is announced, and sent when the coordinator says go.
    quality = UNKNOWN
    for n in range(5):
        quality = after(quality, 150, 100.0 * n, 100.0 * n + 0.5)
        quality = after(quality, SECOND, 100.0 * n + 1.0, 100.0 * n + 2.5)
    assert kbps(quality) == 1000.0


def test_a_slow_link_answers_by_the_codec_for_slow_links_where_there_is_one() -> None:
    slow = answered_at(100.0)
    assert link_quality.codec(slow, OFFER) == SLOW.codec
    assert link_quality.codec(slow, PLAIN) == "int8"
    assert link_quality.codec(answered_at(256.0), OFFER) == "int8"


def test_one_bad_minute_decides_nothing_and_an_hour_does() -> None:
    quality = answered_at(1000.0, times=3)
    quality = answered_at(10.0, times=1, quality=quality)
    assert link_quality.codec(quality, OFFER) == "int8"
    quality = answered_at(10.0, times=4, quality=quality)
    assert link_quality.codec(quality, OFFER) == SLOW.codec
    # And back again, once the link is better: answers that are smaller tell so too.
    quality = answered_at(1000.0, times=5, quality=quality)
    assert link_quality.codec(quality, OFFER) == "int8"


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.floats(0, 1e6), st.floats(0, 1e5)),
        max_size=30,
    )
)
def test_whatever_was_measured_one_of_the_two_is_chosen_and_memory_is_bounded(
    said: list[tuple[int, float, float]],
) -> None:
    quality = UNKNOWN
    for size_bytes, sent_at, took_s in said:
        quality = after(quality, size_bytes, sent_at, sent_at + took_s)
    found = kbps(quality)
    assert found is None or found > 0
    assert link_quality.codec(quality, OFFER) in ("int8", SLOW.codec)
    assert len(quality.round_trips_s) <= 5 and len(quality.kbps) <= 5
