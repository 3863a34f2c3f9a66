"""Utility by hand."""

import math
from random import Random

import pytest

from coordinator.known import Known
from coordinator.selection import oort
from coordinator.selection.oort import Settings
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT, DAN, EVE = FLEET = [ClientId(one) for one in ("ann", "bob", "cat", "dan", "eve")]


def heard(last: int, took_s: float, samples: int, loss: float | None) -> Known:
    number = RoundId(last)
    return Known(
        invited=1,
        invited_last=number,
        answered=1,
        answered_last=number,
        took_s=(took_s,),
        samples=samples,
        loss=loss,
    )


KNOWN = {
    ANN: heard(4, 10.0, 10, 1.0),  # U 10 -> 0
    BOB: heard(4, 10.0, 10, 5.0),  # U 50 -> 1
    CAT: heard(1, 10.0, 20, 1.0),  # U 20 -> 0.25
    DAN: heard(4, 40.0, 30, 1.0),  # U 30 -> 0.5
}


def test_utilities_by_hand() -> None:
    found = oort.utilities(KNOWN, now=5, settings=Settings(preferred=0.75, slow_penalty=2.0))
    recent, long_ago = math.sqrt(0.1 * math.log(5) / 4), math.sqrt(0.1 * math.log(5) / 1)
    assert found == pytest.approx(
        {
            ANN: 0 + recent,
            BOB: 1 + recent,
            CAT: 0.25 + long_ago,
            # 10 s are preferred, within which three of four are: (10 / 40) ** 2.
            DAN: (0.5 + recent) / 16,
        }
    )


def test_without_penalty_speed_does_not_matter() -> None:
    found = oort.utilities(KNOWN, now=5, settings=Settings(preferred=0.75, slow_penalty=0.0))
    assert found[DAN] == pytest.approx(0.5 + math.sqrt(0.1 * math.log(5) / 4))


def test_an_outlier_counts_as_the_95th_percentile() -> None:
    known = {ClientId(f"c{n:02}"): heard(1, 1.0, 1, float(n)) for n in range(20)}
    known[ClientId("c19")] = heard(1, 1.0, 1, 1e30)
    found = oort.utilities(known, now=1, settings=Settings())
    assert found[ClientId("c19")] == found[ClientId("c18")] == 1.0
    assert found[ClientId("c09")] == 0.5


def test_who_tells_no_loss_has_the_mean_of_the_others() -> None:
    known = {**KNOWN, EVE: heard(4, 10.0, 10, None)}
    found = oort.utilities(known, now=5, settings=Settings(preferred=0.75))
    mean = (0 + 1 + 0.25 + 0.5) / 4
    assert found[EVE] == pytest.approx(mean + math.sqrt(0.1 * math.log(5) / 4))
    silent = {one: heard(1, 1.0, 5, None) for one in (ANN, BOB)}
    assert oort.utilities(silent, now=1, settings=Settings()) == {ANN: 0.0, BOB: 0.0}


def test_the_best_is_taken_and_those_nearly_as_good_in_proportion() -> None:
    hardly = Settings(explore=0.0, explore_min=1e-12)
    assert oort.select(FLEET, 1, Random(1), KNOWN, hardly) == (BOB,)
    # 0.97 of the best is above the cutoff of 0.95, so either may be taken.
    close = {ANN: heard(1, 1.0, 100, 1.0), BOB: heard(1, 1.0, 97, 1.0), CAT: heard(1, 1.0, 1, 0.0)}
    three = [ANN, BOB, CAT]
    taken = [oort.select(three, 1, Random(seed), close, hardly) for seed in range(2000)]
    assert set(taken) == {(ANN,), (BOB,)}
    # 1 to 0.97, each with the same for its age: close to half; the standard deviation is 22.
    assert 890 < taken.count((ANN,)) < 1130


def test_exploration_fades_with_the_rounds() -> None:
    new = [ClientId(f"n{n:02}") for n in range(40)]

    def explored(last: int) -> int:
        known = {ClientId(f"o{n:02}"): heard(last, 1.0, 1, 1.0) for n in range(40)}
        fleet = sorted([*known, *new])
        return sum(one in new for one in oort.select(fleet, 20, Random(1), known, Settings()))

    # 0.9 * 0.98 ** last of 20, and 0.2 in the end.
    assert explored(1) in (17, 18)
    assert explored(30) in (9, 10)
    assert explored(500) == 4
