"""What was told counts once, in any order of lives, and never for less than it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client import disclosed
from edge_client.disclosed import NOTHING, Disclosed
from fedmqtt.messages import Masking, Offer
from fedmqtt.topics import RoundId, RunId
from tests.edge_client.masks import HOLDERS, masking, trusted
from tests.offers import RUN, offer


def _noised(noise: float = 2.0, **changes: Any) -> Masking:
    return masking(**{"noise": noise, "norm_max": 1.0} | changes)


def _answered(told: Disclosed, offered: Offer) -> Disclosed:
    told = disclosed.begin(told, offered, "train")
    return disclosed.finish(told, offered.run, offered.round)


def test_the_strongest_mode_and_the_largest_floor_are_kept() -> None:
    told = NOTHING
    for masked, mode, floor in (
        (None, "plain", 0),
        (masking(floor=5), "keyholders", 5),
        (trusted(floor=9), "keyholders", 9),
        (masking(floor=2), "keyholders", 9),
        (None, "keyholders", 9),
    ):
        told = _answered(told, offer(masking=masked))
        assert (told.mode, told.floor, told.begun) == (mode, floor, ())
    assert told.bare and not told.spent


def test_that_an_answer_was_added_to_those_to_one_model_is_kept() -> None:
    told = NOTHING
    for masked, is_kept in (
        (None, False),
        (masking(times_max=8), False),
        (masking(HOLDERS[:2], lists_max=5), False),
        (masking(), True),
        (masking(times_max=8), True),
    ):
        told = _answered(told, offer(masking=masked))
        assert told.one_model is is_kept
    assert not disclosed.finish(
        disclosed.begin(NOTHING, offer(masking=masking()), "evaluate"), RUN, RoundId(1)
    ).one_model


def test_where_nothing_new_is_told_there_is_nothing_to_write() -> None:
    for masked in (None, masking()):
        told = _answered(NOTHING, offer(masking=masked))
        assert disclosed.begin(told, offer(2, masking=masked), "train") is told


def test_noised_answers_add_up_and_each_exchange_counts_once() -> None:
    told = _answered(NOTHING, offer(1, masking=_noised(2.0)))
    assert told.spent == 1 / 4 and not told.bare
    # Made again for the same keys: keyholders open one sum with them.
    assert _answered(told, offer(1, masking=_noised(2.0))) == told
    # For others, in another round or in another run it is another one.
    others = _noised(2.0, keyholders=_noised().keyholders[:2])
    for again, spent in (
        (offer(1, masking=others), 1 / 2),
        (offer(2, masking=_noised(2.0)), 3 / 4),
        (offer(1, masking=_noised(2.0), run=RunId("s")), 1),
        (offer(3, masking=_noised(0.5)), 5),
    ):
        assert disclosed.spent_with(told, again) == spent
        told = _answered(told, again)
        assert told.spent == spent
        assert disclosed.spent_with(told, again) == spent


@pytest.mark.parametrize(
    ("changes", "noise"),
    [
        ({}, 2.0),
        # What is not clipped, noise of any size does not hide.
        ({"norm_max": 0.0}, 0.0),
        # Of keys there is no noise on what they hide.
        ({"mode": "committee", "guard": 9}, 0.0),
        # Nor on what is told beside the change, nor on a sum of answers to several models.
        ({"metrics": ("loss",)}, 0.0),
        ({"classes": 2}, 0.0),
        ({"block_norms": 1}, 0.0),
        ({"lists_max": 2}, 0.0),
        ({"times_max": 2}, 0.0),
        ({"clients_max": 2}, 0.0),
        ({"weight_max": 4}, 0.5),
        ({"noise": 1e-300}, 0.0),
        ({"noise": 0.0}, 0.0),
    ],
)
def test_noise_is_in_norms_of_what_one_client_can_change(
    changes: dict[str, Any], noise: float
) -> None:
    assert disclosed.noise_of(_noised(**changes)) == noise
    told = _answered(NOTHING, offer(masking=_noised(**changes)))
    assert (told.spent, told.bare) == ((noise**-2, False) if noise else (0, True))


def test_all_that_a_masking_says_has_been_thought_of() -> None:
    """What a new field has a client tell may be told without noise: then `noise_of` has to be 0."""
    assert Masking.__struct_fields__ == (
        *("mode", "keyholders", "places", "tolerated", "floor", "bits", "value_bits"),
        *("weight_max", "samples_max", "change_max", "norm_max", "noise", "norm_steps"),
        *("indicator", "participations_max", "share", "rotate", "ranges", "block_norms"),
        *("metrics", "classes", "lists_max", "times_max", "work", "guard", "clients_max"),
    )


def test_what_is_measured_is_told_without_noise_and_says_nothing_of_modes() -> None:
    told = disclosed.begin(NOTHING, offer(masking=_noised()), "evaluate")
    assert disclosed.finish(told, RUN, RoundId(1)) == Disclosed(bare=True)


def test_a_start_counts_what_lies_in_the_outbox_and_forgets_what_was_never_there() -> None:
    told = NOTHING
    for number in (1, 2, 3):
        told = disclosed.begin(told, offer(number, masking=_noised(2.0)), "train")
    assert told.spent == 0
    life = disclosed.start(disclosed.finish(told, RUN, RoundId(2)))
    assert (life.spent, life.begun, life.mode) == (1 / 4, (), "keyholders")
    assert disclosed.start(life) is life
    # What a site's devices are at work on still is yet to come.
    goes_on = disclosed.start(told, (RUN, RoundId(3)))
    assert [one.round for one in goes_on.begun] == [3]
    assert disclosed.finish(goes_on, RUN, RoundId(3)).spent == 1 / 4
    assert disclosed.count_all(told).spent == 3 / 4


def test_what_is_begun_and_never_heard_of_again_is_counted_when_there_are_too_many() -> None:
    told = NOTHING
    for number in range(1, 102):
        told = disclosed.begin(told, offer(number, masking=_noised(2.0)), "train")
    assert len(told.begun) == 100 and told.spent == 1 / 4


def test_memory_stays_small_and_what_is_forgotten_counts_again() -> None:
    told = NOTHING
    for number in range(1, 102):
        told = _answered(told, offer(number, masking=_noised(1.0)))
    assert (told.spent, len(told.counted)) == (101, 100)
    assert disclosed.spent_with(told, offer(101, masking=_noised(1.0))) == 101
    assert disclosed.spent_with(told, offer(1, masking=_noised(1.0))) == 102


_STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "finish", "kill", "killed after it"]), st.integers(1, 3)),
    max_size=20,
)


@given(_STEPS)
def test_however_often_it_is_killed_each_answer_that_was_there_counts_once(
    steps: list[tuple[str, int]],
) -> None:
    """`kill` comes before an answer is in the outbox; `killed after it` before it is counted."""
    told, working, answered = NOTHING, 0, set[int]()
    for what, number in steps:
        if what == "begin":
            told, working = disclosed.begin(told, offer(number, masking=_noised()), "train"), number
        elif what == "finish" and working:
            told = disclosed.finish(told, RUN, RoundId(working))
            answered.add(working)
            working = 0
        elif what != "finish":
            if working and what == "killed after it":
                told = disclosed.finish(told, RUN, RoundId(working))
                answered.add(working)
            told, working = disclosed.start(told), 0
        assert told.spent == len(answered) / 4
