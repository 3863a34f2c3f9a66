"""Who is there in the experiment on clients that are seldom there."""

import pytest

from coordinator import aggregation
from experiments import unavailable
from fedmqtt import codec_chain, parts, settings


@pytest.mark.parametrize("pattern", unavailable.PATTERNS)
def test_ten_clients_are_there_on_average(pattern: str) -> None:
    numbers = range(1, 4 * unavailable.BLOCK + 1)
    shares = [
        unavailable.probability(number, pattern, is_first=is_first)
        for number in numbers
        for is_first in (True, False)
    ]
    assert all(0 <= one <= 1 for one in shares)
    expected = sum(shares) / len(shares) * unavailable.CLIENTS
    assert expected == pytest.approx(unavailable.COHORT)


def test_one_half_is_there_nine_times_as_often() -> None:
    often, seldom = (unavailable.probability(1, "9:1", is_first=one) for one in (True, False))
    assert often / seldom == pytest.approx(9)


def test_the_halves_take_turns_of_ten_rounds() -> None:
    there = [unavailable.probability(n, "turns", is_first=True) > 0 for n in range(1, 31)]
    other = [unavailable.probability(n, "turns", is_first=False) > 0 for n in range(1, 31)]
    assert there == [True] * 10 + [False] * 10 + [True] * 10
    assert other == [not one for one in there]


def test_every_method_is_one_there_is() -> None:

    for strategy, given, codec in unavailable.METHODS.values():
        settings.convert(given, parts.load(aggregation, strategy).Settings, strategy)
        codec_chain.read(codec)
