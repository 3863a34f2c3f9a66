"""The worst of a few that are drawn by data."""

from random import Random

from coordinator.known import Known
from coordinator.selection import power_of_choice
from coordinator.selection.power_of_choice import Settings
from fedmqtt.topics import ClientId

ANN, BOB, CAT, DAN, EVE = FLEET = [ClientId(one) for one in ("ann", "bob", "cat", "dan", "eve")]
KNOWN = {
    ANN: Known(invited=1, answered=1, samples=10, loss=0.5),
    BOB: Known(invited=1, answered=1, samples=30, loss=2.5),
    CAT: Known(invited=1, answered=1, samples=20, loss=1.5),
    # Was asked and never answered: the mean of the others, 1.5.
    DAN: Known(invited=1),
}


def select(
    fleet: list[ClientId], count: int, settings: Settings, seed: int = 1
) -> tuple[ClientId, ...]:
    return power_of_choice.select(fleet, count, Random(seed), KNOWN, settings)


def test_where_all_are_drawn_the_losses_decide() -> None:
    everybody = Settings(drawn=100, explore=0)
    # Eve is new: nothing bounds her loss.
    assert select(FLEET, 1, everybody) == (EVE,)
    assert select(FLEET, 2, everybody) == (BOB, EVE)
    assert {select(FLEET, 3, everybody, seed) for seed in range(30)} == {
        (BOB, CAT, EVE),
        (BOB, DAN, EVE),
    }
    assert select(FLEET, 4, everybody) == (BOB, CAT, DAN, EVE)


def test_where_as_many_are_drawn_as_there_are_places_data_decides() -> None:
    turns = [select([ANN, BOB], 1, Settings(drawn=1, explore=0), seed) for seed in range(4000)]
    # 3 of 4 for Bob's 30 of 40 samples; the standard deviation is 27.
    assert 2860 < turns.count((BOB,)) < 3140


def test_who_has_told_no_samples_is_drawn_as_often_as_the_mean() -> None:
    fleet = [ANN, BOB, DAN]
    turns = [select(fleet, 1, Settings(drawn=1, explore=0), seed) for seed in range(3000)]
    # 20 for Dan, the mean of 10 and 30: a third; the standard deviation is 26.
    assert 870 < turns.count((DAN,)) < 1130


def test_of_two_drawn_the_worse_is_taken() -> None:
    turns = [select([ANN, BOB, CAT], 1, Settings(explore=0), seed) for seed in range(4000)]
    # Bob unless Ann and Cat are drawn: 1/6 * 20/50 + 2/6 * 10/40 = 0.15 of the time; sd 23.
    assert (ANN,) not in turns
    assert 485 < turns.count((CAT,)) < 715


def test_a_share_of_the_places_does_not_go_by_loss() -> None:
    settings = Settings(drawn=100, explore=0.5)
    assert {select([ANN, BOB, CAT], 2, settings, seed) for seed in range(30)} == {
        (ANN, BOB),
        (BOB, CAT),
    }
