"""Whatever lists a coordinator shows to whichever keyholders, in whatever order, with the masks of
whichever offers: nothing can be read of fewer clients than the floor.

Exactly: let Q be any set of fewer than `floor` answers. Whatever coefficients the adversary gives
them, not all of them 0 modulo 2^b, it does not learn that combination of their numbers: there is
a seed of which the same combination of their masks is none of those sums that it was told. Not even
the lowest bit of it. It knows all payloads, all that honest keyholders answer, and every seed that
a keyholder holds which gives its keys away.

That holds for a coordinator that does what it likes, as long as places + leaking is less than
2 (tolerated + 1): then two sets of tolerated + 1 keyholders, of whom it takes so many to open a
sum, have an honest one in common, which opens one of two lists. And it holds for one that has one
list opened with each masking, together with as many as are tolerated.
"""

import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from coordinator.masking import looking, opening
from fedmqtt.messages import WhyUnfit
from fedmqtt.topics import ClientId
from keyholder import rules
from keyholder.rules import Rules, State
from tests.keyholder.lists_adversary import (
    CLIENTS,
    FLOOR,
    NUMBERS,
    Adversary,
    Shape,
    Step,
    number_of,
)


def _named(data: st.DataObject, shape: Shape) -> list[tuple[int, int]]:
    places, tolerated = shape
    some = data.draw(
        st.sets(st.integers(0, places - 1), min_size=tolerated + 1, max_size=places), "places"
    )
    return [(place, data.draw(st.sampled_from(NUMBERS), "key")) for place in sorted(some)]


def _search(
    data: st.DataObject, folder: Path, shape: Shape, leaking: int, step: Step = rules.step
) -> Adversary:
    """Any two offers, any questions."""
    adversary = Adversary(shape, leaking, folder, step)
    for _ in range(data.draw(st.integers(1, 2), "offers")):
        adversary.offer(_named(data, shape))
    # Lists that differ by little: those tell most.
    of_list = st.sets(st.integers(0, CLIENTS - 1), max_size=2).map(
        lambda out: set(range(CLIENTS)) - out
    )
    any_list = st.one_of(of_list, st.sets(st.integers(0, CLIENTS - 1)))
    for _ in range(data.draw(st.integers(1, 8), "questions")):
        place = data.draw(st.integers(0, shape[0] - 1), "to")
        offer = data.draw(st.integers(0, adversary.offers - 1), "of")
        adversary.ask(place, offer, data.draw(any_list, "list"))
    return adversary


def _holds(found: int | None) -> bool:
    return found is None or found >= FLOOR


SEARCH = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

LYING = [((1, 0), 0), ((3, 1), 0), ((4, 2), 1), ((4, 2), 0), ((5, 2), 0), ((5, 3), 2)]


@pytest.mark.parametrize(("shape", "leaking"), LYING)
@SEARCH
@given(data=st.data())
def test_no_combination_of_fewer_than_the_floor_is_ever_known(
    shape: Shape, leaking: int, data: st.DataObject
) -> None:
    places, tolerated = shape
    assert places + leaking < 2 * (tolerated + 1)
    with tempfile.TemporaryDirectory() as folder:
        adversary = _search(data, Path(folder), shape, leaking)
        adversary.check_sums()
        assert _holds(adversary.fewest())


@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (5, 2)])
@SEARCH
@given(data=st.data())
def test_nor_with_all_that_are_tolerated_where_one_list_is_opened(
    shape: Shape, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        adversary = Adversary(shape, shape[1], Path(folder))
        offer = adversary.offer(_named(data, shape))
        clients = data.draw(st.sets(st.integers(0, CLIENTS - 1)))
        for place in data.draw(st.permutations(range(shape[0]))):
            adversary.ask(place, offer, clients)
        found = adversary.fewest()
        assert found == (len(clients) if len(clients) >= FLOOR else None)


@dataclass(frozen=True)
class Round:
    """Of a coordinator that keeps to its rules, and is curious; some clients and keyholders are not
    honest, and work with it."""

    adversary: Adversary
    offer: int
    leaking: Mapping[int, Set[int]]
    """Places of keyholders that give their keys away, and whom each calls unfit."""
    order: Sequence[int]
    """In which keyholders are reached."""

    def named_by(self, place: int) -> Set[int]:
        return self.leaking.get(place, set()) or self.adversary.named_by(place)


def _one_round(data: st.DataObject, folder: Path, shape: Shape) -> Round:
    adversary = Adversary(shape, shape[1], folder)
    places = range(shape[0])
    offer = adversary.offer([(place, 1) for place in places])
    some_clients = st.sets(st.integers(0, CLIENTS - 1), max_size=3)
    for client in sorted(data.draw(some_clients, "spoil it")):
        adversary.spoil(offer, client, data.draw(st.sets(st.sampled_from(places)), "for"))
    slander = {place: data.draw(some_clients, "slandered") for place in adversary.leaking}
    return Round(adversary, offer, slander, data.draw(st.permutations(places), "order"))


def _looks_first(round_: Round, shape: Shape) -> None:
    """As `coordinator/masking/unmasking.py` does."""
    adversary, everybody = round_.adversary, range(CLIENTS)
    of_opening = opening.Rules(
        places=shape[0],
        tolerated=shape[1],
        names={place: ClientId(f"kh-{place}") for place in range(shape[0])},
        timeout_s=1,
        deadline_s=10,
    )
    held = looking.Rules(
        opening=of_opening, clients=frozenset(map(_client, everybody)), fewest=FLOOR
    )
    state, effects = looking.begin(0, range(shape[0]), held)
    for place in round_.order:
        adversary.ask(place, round_.offer, set(everybody), looks=True)
        unfit = _unfit(round_.named_by(place))
        state, more = looking.step(state, looking.Looked(0, place, unfit), held)
        effects += more
    for effect in effects:
        if isinstance(effect, looking.Settle):
            left = held.clients - effect.unfit.keys()
            for place in round_.order:
                adversary.ask(place, round_.offer, {number_of(one) for one in left})


def _opens_at_once(round_: Round) -> None:
    """And asks those that refuse for a list without whom they named."""
    adversary = round_.adversary
    unfit: set[int] = set()
    for place in round_.order:
        adversary.ask(place, round_.offer, set(range(CLIENTS)))
        unfit |= round_.named_by(place)
    for place in round_.order:
        adversary.ask(place, round_.offer, set(range(CLIENTS)) - unfit)


def _unfit(numbers: Set[int]) -> dict[ClientId, WhyUnfit]:
    return {_client(number): "seal" for number in numbers}


def _client(number: int) -> ClientId:
    return ClientId(f"c0-{number}")


@pytest.mark.parametrize("shape", [(1, 0), (3, 1), (4, 2), (5, 2)])
@SEARCH
@given(data=st.data())
def test_clients_that_spoil_a_round_give_nobody_away(shape: Shape, data: st.DataObject) -> None:
    """Together with as many keyholders as are tolerated, and whatever those call unfit."""
    with tempfile.TemporaryDirectory() as folder:
        round_ = _one_round(data, Path(folder), shape)
        _looks_first(round_, shape)
        assert _holds(round_.adversary.fewest())


def test_they_would_if_a_list_could_be_replaced_that_somebody_has_opened() -> None:
    @settings(SEARCH, max_examples=2000, phases=[Phase.generate], derandomize=True, database=None)
    @given(data=st.data())
    def searches(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            round_ = _one_round(data, Path(folder), (3, 1))
            _opens_at_once(round_)
            assert _holds(round_.adversary.fewest()), "found"

    with pytest.raises(AssertionError, match="found"):
        searches()


# What the search finds, where a rule is weaker


def _forgetful(state: State, event: rules.Event, of: Rules) -> tuple[State, list[rules.Effect]]:
    """A key opens any number of lists."""
    if isinstance(event, rules.KeysChanged):
        return state, []
    return rules.step(
        replace(state, lists={}) if isinstance(event, rules.Asked) else state, event, of
    )


def _without_floor(state: State, event: rules.Event, of: Rules) -> tuple[State, list[rules.Effect]]:
    match event:
        case rules.Asked(asked):
            following, effects = rules.step(state, event, of)
            refused = [one for one in effects if isinstance(one, rules.Refuse)]
            if asked.entries and any("fewest" in one.reason for one in refused):
                number = next(
                    one.key.number for one in asked.masking.keyholders if one.name == of.name
                )
                working = replace(state, work=rules.Work(asked, number))
                return working, [rules.Check(asked, number)]
            return following, effects
        case _:
            return rules.step(state, event, of)


WEAKER: dict[str, tuple[Shape, int, Step]] = {
    "a key opens two lists": ((3, 1), 0, _forgetful),
    "a key of the only one opens two lists": ((1, 0), 0, _forgetful),
    "no floor": ((1, 0), 0, _without_floor),
    "more leak than may": ((3, 1), 1, rules.step),
}


@pytest.mark.parametrize("case", WEAKER)
def test_the_search_finds_what_a_weaker_rule_lets_out(case: str) -> None:
    shape, leaking, step = WEAKER[case]
    found: list[int] = []

    @settings(SEARCH, max_examples=2000, phases=[Phase.generate], derandomize=True, database=None)
    @given(data=st.data())
    def searches(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fewest_known = _search(data, Path(folder), shape, leaking, step).fewest()
            if not _holds(fewest_known):
                found.append(fewest_known or 0)
                raise AssertionError(case)

    with pytest.raises(AssertionError, match=case):
        searches()
    assert found


def test_enough_honest_keyholders_do_open_the_list_that_all_are_shown(tmp_path: Path) -> None:
    """Else the promise would be kept by saying nothing."""
    for shape in ((1, 0), (3, 1), (4, 2), (5, 2)):
        folder = tmp_path / f"{shape}"
        folder.mkdir()
        adversary = Adversary(shape, 0, folder)
        offer = adversary.offer([(place, 1) for place in range(shape[0])])
        for place in range(shape[1] + 1):
            adversary.ask(place, offer, {0, 2, 3, 5})
        assert adversary.fewest() == 4
