"""Whatever comes, a decoder makes a value of it that means the same again, or raises its one error.

`make fuzz` tries for longer, and with an eye on which lines are reached.
"""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.decoder import Decoder
from tests.fuzz.mutate import FRAGMENTS, damaged, put
from tests.fuzz.table import DECODERS

EXAMPLES, SLOW_EXAMPLES = 60, 12

by_name = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())


@by_name
def test_what_is_valid_is_taken(decoder: Decoder) -> None:
    assert decoder.seeds()
    for seed in decoder.seeds():
        decoder.read(seed)


@by_name
def test_something_is_not_taken(decoder: Decoder) -> None:
    # Else that its seeds are taken would say nothing of them.
    assert not all(decoder.takes(data) for data in (b"", b"\xff" * 40, b"\x01" * 40))


@by_name
def test_seeds_are_the_same_each_time(decoder: Decoder) -> None:
    assert decoder.seeds() == decoder.seeds()


@pytest.mark.parametrize(
    "decoder",
    [pytest.param(one, id=one.name) for one in DECODERS.values() if not one.is_slow],
)
@given(data=st.data())
@settings(
    deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None
)
def test_hurt_bytes_are_a_value_or_the_one_error(decoder: Decoder, data: st.DataObject) -> None:
    decoder.takes(data.draw(damaged(decoder.seeds())))


@pytest.mark.parametrize(
    "decoder", [pytest.param(one, id=one.name) for one in DECODERS.values() if one.is_slow]
)
@given(data=st.data())
@settings(
    deadline=None,
    max_examples=SLOW_EXAMPLES,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_hurt_bytes_are_so_where_it_takes_longer(decoder: Decoder, data: st.DataObject) -> None:
    decoder.takes(data.draw(damaged(decoder.seeds())))


@by_name
def test_the_committed_corpus_is_of_valid_bytes(decoder: Decoder) -> None:
    files = sorted((corpus.CORPUS / decoder.name).glob("*.bin"))
    assert len(files) == len(decoder.seeds()), "make fuzz ARGS=--write-corpus makes it anew"
    for file in files:
        decoder.read(file.read_bytes())


def test_no_corpus_is_of_a_decoder_that_is_gone() -> None:
    for folder in (corpus.CORPUS, corpus.FOUND):
        assert {path.name for path in folder.iterdir()} <= DECODERS.keys()


@pytest.mark.parametrize(
    ("decoder", "path"),
    [
        pytest.param(decoder, path, id=f"{decoder.name}-{path.stem}")
        for decoder in DECODERS.values()
        for path in corpus.found(decoder)
    ],
)
def test_what_once_broke_one_does_no_more(decoder: Decoder, path: Path) -> None:
    assert not decoder.takes(path.read_bytes())


def _worst(decoder: Decoder) -> Iterator[bytes]:
    """Each fragment at the beginning, in the middle and at the end; and valid bytes."""
    seeds = decoder.seeds()
    yield from seeds
    for number, _ in enumerate(FRAGMENTS):
        if decoder.is_slow and number % 6:
            continue
        seed = seeds[number % len(seeds)]
        for at in (0, len(seed) // 3, len(seed) // 2, len(seed)):
            yield put(seed, b"", at, number, 0)


@by_name
def test_no_length_that_is_told_decides_how_much_memory_is_taken(decoder: Decoder) -> None:
    for data in _worst(decoder):
        # What is made once, as compiled patterns, is not these bytes' doing.
        decoder.takes(data)
        tracemalloc.start()
        try:
            decoder.takes(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        allowed = decoder.factor * len(data) + decoder.beside_bytes
        assert peak <= allowed, f"{peak} bytes for {len(data)}: {data[:100]!r}"
