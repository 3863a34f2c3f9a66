from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import chunks
from fedmqtt.chunks import Missing

SIZES = st.integers(1, 500)
CHUNKS = st.integers(1, 60)


@given(SIZES, CHUNKS)
def test_the_spans_cover_the_whole_without_gap_or_overlap(size: int, chunk: int) -> None:
    spans = [chunks.span(index, size, chunk) for index in range(chunks.count(size, chunk))]
    assert [place for start, stop in spans for place in range(start, stop)] == list(range(size))
    assert all(stop - start == chunk for start, stop in spans[:-1])


def test_by_hand() -> None:
    assert chunks.count(10, 4) == 3
    assert chunks.count(8, 4) == 2
    assert chunks.span(2, 10, 4) == (8, 10)
    assert list(chunks.numbers([(-5, 1), (2, 99)], below=4)) == [0, 2, 3]
    # A thousand equal ranges are no way to ask for a thousand copies.
    assert list(chunks.numbers([(0, 3)] * 1000 + [(2, 4), (0, 1)], below=9)) == [0, 1, 2, 3]


@given(SIZES, CHUNKS, st.data())
def test_chunks_arrive_in_any_order_and_count_once(
    size: int, chunk: int, data: st.DataObject
) -> None:
    missing = Missing(size, chunk)
    count = chunks.count(size, chunk)
    assert missing.ranges() == ((0, count),)
    arriving = data.draw(st.lists(st.integers(0, count - 1), max_size=2 * count))
    seen: set[int] = set()
    for index in arriving:
        start, stop = chunks.span(index, size, chunk)
        assert missing.take(index, stop - start) == (index not in seen)
        seen.add(index)
        wanted = sorted(set(range(count)) - seen)
        assert list(chunks.numbers(missing.ranges(), below=count)) == wanted
        assert missing.left == len(wanted)
    starts_and_stops = [place for span in missing.ranges() for place in span]
    assert starts_and_stops == sorted(set(starts_and_stops)), "ascending, and as few as possible"


@given(SIZES, CHUNKS, st.integers(-3, 600), st.integers(0, 70))
def test_a_chunk_of_the_wrong_place_or_length_is_not_taken(
    size: int, chunk: int, index: int, length: int
) -> None:
    missing = Missing(size, chunk)
    start, stop = chunks.span(index, size, chunk)
    fits = 0 <= index < chunks.count(size, chunk) and length == stop - start
    assert missing.take(index, length) == fits
    assert missing.left == chunks.count(size, chunk) - fits
