"""A coordinator that gives some clients a model at which nothing is to be learned: their answers
are known before they come, so that a sum with them hides nobody.

Nothing can be read of fewer answers to the other model than the floor, where the offer is of one
model. Where it is of several (`Masking.mixes_rounds`), it can: see docs/masked-rounds.md.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keyholder import rules
from keyholder.rules import Rules, State
from tests.keyholder.lists_adversary import CLIENTS, FLOOR, Adversary, Shape, Step, but_for

SEARCH = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPES: list[Shape] = [(1, 0), (3, 1), (5, 2)]


def _search(
    data: st.DataObject, folder: Path, shape: Shape, step: Step = rules.step, times_max: int = 1
) -> Adversary:
    adversary = Adversary(shape, 0, folder, step)
    some = st.sets(st.integers(0, CLIENTS - 1))
    offer = adversary.offer([(place, 1) for place in range(shape[0])], times_max=times_max)
    adversary.give_dead_model(offer, data.draw(some, "dead"))
    for _ in range(data.draw(st.integers(1, 3), "lists")):
        clients = data.draw(some, "list")
        for place in data.draw(st.sets(st.sampled_from(range(shape[0]))), "to"):
            adversary.ask(place, offer, clients)
    return adversary


def _holds(found: int | None) -> bool:
    return found is None or found >= FLOOR


@pytest.mark.parametrize("shape", SHAPES)
@SEARCH
@given(data=st.data())
def test_answers_to_another_model_hide_nobody_and_are_in_no_sum_with_others(
    shape: Shape, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert _holds(_search(data, Path(folder), shape).fewest())


def test_those_of_either_model_are_opened_by_themselves(tmp_path: Path) -> None:
    """Else the promise would be kept by saying nothing."""
    adversary = Adversary((1, 0), 0, tmp_path)
    for number, clients in ((1, {0, 1, 2}), (2, {3, 4, 5, 6})):
        offer = adversary.offer([(0, number)])
        adversary.give_dead_model(offer, {0, 1, 2})
        adversary.ask(0, offer, clients)
    adversary.check_sums()
    assert len(adversary.honest[0].answered) == 2 and adversary.fewest() == 4


def test_one_answer_among_those_to_another_model_is_refused(tmp_path: Path) -> None:
    adversary = Adversary((3, 1), 0, tmp_path)
    offer = adversary.offer([(place, 1) for place in range(3)])
    adversary.give_dead_model(offer, {0, 1, 2, 3, 4, 5})
    for looks in (True, False):
        adversary.ask(0, offer, set(range(CLIENTS)), looks=looks)
        said = adversary.honest[0].said
        assert isinstance(said, rules.Refuse) and not said.unfit
        assert said.reason == "answers to 2 models are not added up where the offer is of one"


# What the search finds, where a rule is weaker


def _of_any_models(state: State, event: rules.Event, of: Rules) -> tuple[State, list[rules.Effect]]:
    return but_for("where the offer is of one", state, event, of)


WEAKER: dict[str, tuple[Shape, Step, int]] = {
    "several models in one sum": ((1, 0), _of_any_models, 1),
    "of several keyholders, too": ((3, 1), _of_any_models, 1),
    "an offer that mixes rounds": ((1, 0), rules.step, 8),
}


@pytest.mark.parametrize("case", WEAKER)
def test_the_search_finds_what_a_weaker_rule_lets_out(case: str) -> None:
    shape, step, times_max = WEAKER[case]

    @settings(SEARCH, max_examples=2000, phases=[Phase.generate], derandomize=True, database=None)
    @given(data=st.data())
    def searches(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fewest_known = _search(data, Path(folder), shape, step, times_max).fewest()
            assert _holds(fewest_known), case

    with pytest.raises(AssertionError, match=case):
        searches()
