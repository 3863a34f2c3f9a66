"""As `test_lists_apart.py`, where a key opens several lists, and answers are in sums several times:
nothing can be read of fewer clients than the floor.

Also not by a coordinator that does what it likes, together with all keyholders that are tolerated.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fedmqtt import lists_promise
from keyholder import rules
from keyholder.rules import Rules, State
from tests.keyholder.lists_adversary import FLOOR, Adversary, Shape, Step, but_for

SEARCH = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES: list[Shape] = [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]
LISTS_MAX, TIMES_MAX, CLIENTS = 3, 8, 8


def _search(
    data: st.DataObject, folder: Path, shape: Shape, leaking: int, step: Step = rules.step
) -> Adversary:
    adversary = Adversary(shape, leaking, folder, step, CLIENTS)
    places, tolerated = shape
    several = st.permutations(range(places)).map(lambda them: sorted(them[: tolerated + 1]))
    for _ in range(data.draw(st.integers(1, 2), "offers")):
        named = [(place, 1) for place in data.draw(several, "places")]
        adversary.offer(named, LISTS_MAX, TIMES_MAX)
    # By who is in it how often, 0: not at all. Shares of one whole are the most interesting, and
    # what they come to where one client more, or less, is in one.
    shares = st.lists(st.integers(0, 1), min_size=CLIENTS, max_size=CLIENTS)
    for _ in range(data.draw(st.integers(1, 4), "wholes")):
        offer = data.draw(st.integers(0, adversary.offers - 1), "of")
        whole = data.draw(shares, "share")
        for share in data.draw(st.permutations([0, 1]), "order"):
            clients = {number for number in range(CLIENTS) if whole[number] == share}
            clients ^= data.draw(st.sets(st.integers(0, CLIENTS - 1), max_size=1), "but")
            twice = data.draw(st.sets(st.integers(0, CLIENTS - 1)), "more often")
            often = data.draw(st.sampled_from([1, 2, 8]), "so often")
            for place in range(places):
                adversary.ask(place, offer, clients, dict.fromkeys(twice, often))
    return adversary


def _holds(found: int | None) -> bool:
    return found is None or found >= FLOOR


@pytest.mark.parametrize("shape", SHAPES)
@SEARCH
@given(data=st.data())
def test_no_combination_of_fewer_than_the_floor_is_ever_known(
    shape: Shape, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        adversary = _search(data, Path(folder), shape, leaking=shape[1])
        adversary.check_sums()
        assert _holds(adversary.fewest())


def test_several_lists_of_one_key_are_opened_and_answers_count_as_often_as_they_should(
    tmp_path: Path,
) -> None:
    """Else the promise would be kept by saying nothing."""
    for shape in SHAPES:
        folder = tmp_path / f"{shape}"
        folder.mkdir()
        adversary = Adversary(shape, 0, folder, clients=10)
        places = range(shape[1] + 1)
        offer = adversary.offer([(place, 1) for place in places], LISTS_MAX, TIMES_MAX)
        for place in places:
            adversary.ask(place, offer, {0, 1, 2, 3})
            adversary.ask(place, offer, {4, 5, 6, 7, 8, 9}, dict.fromkeys([5, 7, 9], 3))
            assert len(adversary.honest[place].answered) == 2
        adversary.check_sums()
        # In the second one all are an odd number of times: its lowest bit is of all six.
        assert adversary.fewest() == 4


# What the search finds, where a rule is weaker


def _with_common_answers(
    state: State, event: rules.Event, of: Rules
) -> tuple[State, list[rules.Effect]]:
    """Any lists of one key are opened, as long as they are no more than may be."""
    return rules.step(
        replace(state, taken={}, lists={}) if isinstance(event, rules.Asked) else state, event, of
    )


def _with_few_of_a_kind(
    state: State, event: rules.Event, of: Rules
) -> tuple[State, list[rules.Effect]]:
    """Enough clients have to be in a sum, however often each."""
    return but_for("times each", state, event, of)


WEAKER: dict[str, tuple[Shape, Step]] = {
    "lists have answers in common": ((1, 0), _with_common_answers),
    "of several keyholders, too": ((3, 1), _with_common_answers),
    "few are in a sum so often": ((1, 0), _with_few_of_a_kind),
}


@pytest.mark.parametrize("case", WEAKER)
def test_the_search_finds_what_a_weaker_rule_lets_out(case: str) -> None:
    shape, step = WEAKER[case]

    @settings(SEARCH, max_examples=2000, phases=[Phase.generate], derandomize=True, database=None)
    @given(data=st.data())
    def searches(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fewest_known = _search(data, Path(folder), shape, shape[1], step).fewest()
            assert _holds(fewest_known), case

    with pytest.raises(AssertionError, match=case):
        searches()


def test_keyholders_of_the_same_seeds_could_be_shown_lists_that_tell_of_one_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fedmqtt/lists_promise.py` tells it, did neither devices nor keyholders look: nobody
    leaks, and each keyholder sees disjoint lists alone."""
    monkeypatch.setattr(lists_promise, "fault", lambda _: "")
    ann = {9}
    some, others, rest = {0, 1, 2}, {3, 4, 5}, {6, 7, 8}
    adversary = Adversary((3, 1), 0, tmp_path, clients=10)
    offer = adversary.offer([(0, 1), (1, 1), (2, 1)], LISTS_MAX)
    shown = [(some | ann, rest), (some, others | ann), (others, rest | ann)]
    for place, lists in enumerate(shown):
        for one in lists:
            adversary.ask(place, offer, one)
    adversary.check_sums()
    assert adversary.fewest() == 1
