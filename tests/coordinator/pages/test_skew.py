"""Who gives the answers: told where a few give most of them, and never by chance."""

from collections.abc import Callable
from random import Random

import pytest

from coordinator.pages import skew
from coordinator.pages.skew import Skew, Turnout
from fedmqtt.topics import ClientId

ANN, BOB, CAT = map(ClientId, ("ann", "bob", "cat"))

IsThere = Callable[[int, int], float]
"""The chance that client n is there in round k."""


def turnout(*rounds: tuple[str, str], times: int = 1) -> Turnout:
    """Of rounds told as those that are there and those that answer, each client a letter."""
    seen = Turnout()
    for _ in range(times):
        for there, answered in rounds:
            invited = [ClientId(one) for one in there]
            seen.closed(invited, invited, [ClientId(one) for one in answered])
    return seen


def test_by_hand() -> None:
    # 10 rounds with 2 answers: Ann 10, Bob 8, Cat 1, Dan 1, of whom 5 each are expected.
    seen = turnout(*[("abcd", "ab")] * 8, ("abcd", "ac"), ("abcd", "ad"))
    found = seen.skew()
    assert found is None, "X is 13.2, of 3 degrees: once in 240 times"
    found = turnout(*[("abcd", "ab")] * 8, ("abcd", "ac"), ("abcd", "ad"), times=4).skew()
    assert found is not None
    assert (found.clients, found.rounds, found.few) == (4, 40, 1)
    # 80 answers; sum of x^2 / e is (1600 + 1024 + 16 + 16) / 20.
    assert found.fairness == pytest.approx(80 / 132.8)
    assert found.by_chance == pytest.approx(1 / (1 + 3 / 80))


def test_who_is_new_or_gone_for_good_is_expected_to_answer_while_it_is_there() -> None:
    # Ann alone for 30 rounds, then with Bob; then Bob alone. Each answers all there is to answer.
    assert turnout(*[("a", "a")] * 30, *[("ab", "ab")] * 10, *[("b", "b")] * 30).skew() is None
    # Ann and Bob each answer every round, and Cat has only just come, or leaves soon.
    assert turnout(*[("ab", "ab")] * 60, *[("abc", "abc")] * 2).skew() is None
    assert turnout(*[("abc", "abc")] * 2, *[("ab", "ab")] * 60).skew() is None


def test_who_is_seldom_there_is_expected_in_between() -> None:
    seldom = [("abc", "abc"), *[("a", "a")] * 9]
    found = turnout(*seldom, times=10).skew()
    # Ann 100, the others 10 each.
    assert found is not None and (found.clients, found.few) == (3, 1)


def test_only_the_last_rounds_count() -> None:
    seen = turnout(*[("abc", "a")] * 60)
    assert seen.skew() is not None
    for _ in range(skew.ROUNDS):
        seen.closed((), (ANN, BOB, CAT), (ANN, BOB, CAT))
    assert seen.skew() is None
    assert seen == turnout_of_names(skew.ROUNDS, before=60)


def turnout_of_names(rounds: int, before: int) -> Turnout:
    """What is remembered does not grow with what came before."""
    seen = Turnout()
    for _ in range(before):
        seen.closed((), (), ())
    for _ in range(rounds):
        seen.closed((), (ANN, BOB, CAT), (ANN, BOB, CAT))
    return seen


def alarms(n: int, cohort: int, rounds: int, there: IsThere, seed: int) -> list[Skew]:
    """Uniform selection among those that are there; what is told after each round."""
    chance, seen = Random(f"{n} {cohort} {seed}"), Turnout()
    told = []
    for k in range(rounds):
        here = [ClientId(str(i)) for i in range(n) if chance.random() < there(i, k)]
        answered = chance.sample(here, min(cohort, len(here)))
        seen.closed(here, answered, answered)
        if (found := seen.skew()) is not None:
            told.append(found)
    return told


# Who is there: always, half of the time, from some day on, until some day, by turns of 10 rounds.
FAIR: dict[str, IsThere] = {
    "always": lambda i, k: 1.0,
    "half of the time": lambda i, k: 0.5,
    "from some day on": lambda i, k: float(k >= 7 * i),
    "until some day": lambda i, k: float(k < 200 - 7 * i),
    "by turns": lambda i, k: float((k // 10 + i) % 2),
}


@pytest.mark.parametrize("cohort", [1, 3, 10])
@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("there", FAIR)
def test_uniform_selection_is_never_told_of(there: str, n: int, cohort: int) -> None:
    for seed in range(5):
        assert alarms(n, cohort, 220, FAIR[there], seed) == []


@pytest.mark.parametrize(("n", "cohort"), [(2, 1), (3, 1), (5, 3), (12, 3), (46, 10), (200, 50)])
def test_half_of_the_clients_there_nine_times_as_often_is_told_of(n: int, cohort: int) -> None:
    for seed in range(3):
        told = alarms(n, cohort, 130, lambda i, k: 0.9 if i % 2 else 0.1, seed)
        assert told and told[-1].fairness < 0.75
        assert told[-1].few <= 0.5 * n


def test_so_many_clients_that_each_can_answer_five_times() -> None:
    assert skew.can_be_told(clients=200, cohort=10) and not skew.can_be_told(201, 10)
    # 100 answers among 21 that are there: fewer than 5 each.
    seen = turnout(*[("abcdefghijklmnopqrstu", "a")] * 100)
    assert seen.skew() is None
    assert turnout(*[("abcdefghijklmnopqrst", "a")] * 100).skew() is not None


FOUND = Skew(clients=40, rounds=100, few=5, fairness=0.412, by_chance=0.95)


@pytest.mark.parametrize(
    ("policy", "cohort", "advice"),
    [
        ("uniform", 10, 'set selection = "round_robin"'),
        ("stratified", 10, 'set selection = "round_robin"'),
        ("oort", 10, "raise selection_settings.explore or"),
        ("round_robin", 10, 'set aggregation = "mifa"'),
        # Everybody, or nearly, is invited as it is.
        ("uniform", 40, "or lengthen rounds.pause_s or rounds.deadline_s"),
        ("uniform", 21, "or lengthen rounds.pause_s or rounds.deadline_s"),
        ("oort", 21, "raise selection_settings.explore or"),
    ],
)
def test_what_to_do_is_said_in_a_sentence(policy: str, cohort: int, advice: str) -> None:
    said = FOUND.sentence(policy, cohort)
    assert said.startswith(
        "5 of 40 clients gave half of the answers of the last 100 rounds (fairness 0.41, 0.95 by"
        " chance alone): "
    )
    assert advice in said


def test_in_a_small_fleet_it_is_said_who_is_missing() -> None:
    found = turnout(*[("abc", "ab")] * 60, ("abc", "abc")).skew()
    assert found is not None and found.seldom == (ClientId("c"),)
    said = found.sentence("uniform", 2)
    assert said.startswith("c gave few of the answers of the last 61 rounds (fairness 0.")
    assert "round_robin" not in said and "who gives few is seldom there when a round opens" in said


def test_who_is_in_quarantine_is_not_missed() -> None:
    both, all_three = (ANN, BOB), (ANN, BOB, CAT)
    seen = Turnout()
    for _ in range(10):
        seen.closed(all_three, all_three, all_three)
    for _ in range(60):
        seen.closed(both, both, both, out=[CAT])
    assert seen.skew() is None
    # Nor when it is over, for the time before.
    for _ in range(20):
        seen.closed(all_three, all_three, all_three)
    assert seen.skew() is None
    # But from then on.
    for _ in range(95):
        seen.closed(all_three, all_three, both)
    found = seen.skew()
    assert found is not None and found.seldom == (CAT,)


def test_whoever_makes_up_for_it_already_is_not_told_to() -> None:
    for aggregation in ("mifa", "fedvarp", "fedau", "inverse_participation"):
        said = FOUND.sentence("round_robin", 10, aggregation)
        assert "set aggregation" not in said and "longer rounds.pause_s" in said
