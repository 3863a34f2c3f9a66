"""What is declined before anything is trained, and in which words."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from edge_client import disclosed, privacy
from edge_client.disclosed import NOTHING, Disclosed, Level
from edge_client.privacy import Privacy, Terms
from fedmqtt import signing
from fedmqtt.messages import Masking, Method, Purpose
from fedmqtt.privacy import gaussian
from fedmqtt.topics import ClientId
from tests.edge_client.masks import (
    FEDERATION,
    HOLDERS,
    NUMBER,
    OWN_KEYS,
    PINNED,
    committee,
    keyholder,
    masking,
    terms,
    trusted,
)
from tests.offers import offer

A, B, C = HOLDERS


def _fault(masked: Masking | None, held: Terms, purpose: Purpose = "train", **more: Any) -> str:
    return privacy.fault(offer(masking=masked, **more), purpose, held)


def test_with_the_defaults_all_that_can_be_masked_is_answered() -> None:
    for masked in (trusted(), masking(), masking((C, A))):
        assert _fault(masked, terms()) == ""


def test_what_is_not_masked_is_answered_by_who_knows_no_keyholder() -> None:
    assert _fault(None, Terms()) == ""
    assert _fault(None, terms(at_least="plain")) == ""
    assert _fault(None, terms()) == (
        "this client's answers would not be masked, and its credentials name keyholders; to allow"
        " it, start it with --at-least plain"
    )


@pytest.mark.parametrize(
    ("before", "masked", "flag"),
    [
        ("plain", None, ""),
        ("trusted", trusted(), ""),
        ("trusted", masking(), ""),
        ("keyholders", masking(), ""),
        ("trusted", None, "plain"),
        ("keyholders", None, "plain"),
        ("keyholders", trusted(), "trusted"),
    ],
)
def test_nothing_weaker_than_before_is_answered_unless_its_owner_says_so(
    before: Level, masked: Masking | None, flag: str
) -> None:
    told = Disclosed(mode=before)
    unpinned = replace(terms(), pinned={}) if masked is None else terms()
    said = privacy.fault(offer(masking=masked), "train", unpinned, "", told)
    assert said.endswith(f"start it with --at-least {flag}") if flag else not said
    allows: dict[str, Any] = {"at_least": flag or before}
    assert not privacy.fault(offer(masking=masked), "train", terms(**allows), "", told)


def test_an_experiment_is_answered_in_where_the_owner_names_it_and_nowhere_else() -> None:
    declined = (
        "this client's answers would be hidden by an experiment, which no cryptographer has"
        ' reviewed (privacy.aggregation = "committee"); to allow it, start it with --set'
        " 'privacy.experiments=[\"committee\"]'"
    )
    for weaker in ("", "plain", "trusted", "committee"):
        assert _fault(committee(), terms(at_least=weaker)) == declined
        assert not _fault(committee(), terms(at_least=weaker, experiments=("committee",)))


def test_an_experiment_is_weaker_than_keyholders_and_stronger_than_one_aggregator() -> None:
    allows: dict[str, Any] = {"experiments": ("committee",)}
    said = _fault(committee(), terms(at_least="keyholders", **allows))
    assert said.startswith("this client's answers would be hidden by an experiment, and its owner")
    before = Disclosed(mode="keyholders")
    said = privacy.fault(offer(masking=committee()), "train", terms(**allows), "", before)
    assert said.endswith("to allow it, start it with --at-least committee")
    after = Disclosed(mode="committee")
    said = privacy.fault(offer(masking=trusted()), "train", terms(**allows), "", after)
    assert said.endswith("to allow it, start it with --at-least trusted")
    assert not privacy.fault(offer(masking=masking()), "train", terms(), "", after)


def test_of_a_committee_no_more_may_leak_and_no_fewer_bits_hide_than_is_promised() -> None:
    allows = terms(experiments=("committee",))
    told = Disclosed(mode="committee", tolerated=2)
    said = privacy.fault(offer(masking=committee()), "train", allows, "", told)
    assert said.startswith("2 keyholders together could open this client's answer, and before 3")
    assert _fault(committee(guard=0), allows).startswith("with a committee there are 7 to 15 guard")
    assert _fault(masking(guard=9), allows).startswith("guard bits are of a committee's masks")


@pytest.mark.parametrize(
    ("floor", "floor_min", "declined"),
    [
        (20, 0, False),
        (19, 0, True),
        (19, 19, False),
        (19, 2, False),
        (19, 20, True),
    ],
)
def test_no_sums_of_fewer_than_before_unless_its_owner_says_so(
    floor: int, floor_min: int, declined: bool
) -> None:
    told = Disclosed(mode="keyholders", floor=20)
    offered = offer(masking=masking(floor=floor))
    said = privacy.fault(offered, "train", terms(floor_min=floor_min), "", told)
    assert bool(said) is declined
    if declined and not floor_min:
        assert said.endswith("start it with --set privacy.floor_min=19")


@pytest.mark.parametrize(
    ("tolerated_min", "declined"), [(0, True), (1, False), (2, True)], ids=["unset", "less", "as"]
)
def test_no_fewer_keyholders_can_open_an_answer_than_before(
    tolerated_min: int, declined: bool
) -> None:
    told = Disclosed(mode="keyholders", tolerated=2)
    asked = terms(tolerated_min=tolerated_min)
    said = privacy.fault(offer(masking=masking()), "train", asked, "", told)
    assert bool(said) is declined
    if not tolerated_min:
        assert said == (
            "2 keyholders together could open this client's answer, and before 3 had to; to allow"
            " it, start it with --set privacy.tolerated_min=1"
        )


@pytest.mark.parametrize("changes", [{"lists_max": 20}, {"times_max": 8}])
def test_who_has_answered_where_all_are_to_one_model_asks_its_owner_before_it_mixes(
    changes: dict[str, Any],
) -> None:
    offered = offer(masking=masking((A, B), **changes), asynchronous=True)

    def said(told: Disclosed, **asked: Any) -> str:
        return privacy.fault(offered, "train", terms(**asked), "", told)

    assert not said(NOTHING)
    # What was answered before: where it is set, it does not matter.
    before = Disclosed(mode="keyholders", one_model=True)
    assert said(before, at_least="keyholders", floor_min=3, tolerated_min=1) == (
        "answers to several models would be in one sum, as in asynchronous rounds, and of those a"
        " coordinator that lies can read one, and before this client answered where all are to one;"
        " to allow it, start it with --set privacy.mixed_rounds=yes"
    )
    for told in (NOTHING, before):
        assert not said(told, mixed_rounds="yes")
        assert said(told, mixed_rounds="no").endswith("privacy.mixed_rounds is 'no'")
    lost = Disclosed(lost=True)
    sets: dict[str, Any] = {"at_least": "keyholders", "floor_min": 3, "tolerated_min": 1}
    assert "is not known any more" in said(lost, **sets)
    assert not said(lost, mixed_rounds="yes", **sets)


def test_where_all_are_to_one_model_nothing_is_asked_of_that() -> None:
    for told in (NOTHING, Disclosed(one_model=True)):
        assert not privacy.fault(
            offer(masking=masking()), "train", terms(mixed_rounds="no"), "", told
        )


def test_what_is_asked_is_what_is_signed() -> None:
    """Else nine of ten could be asked for changes of nothing."""
    asked = offer(masking=masking())
    assert not privacy.fault(asked, "train", terms())
    for other in (
        structs.replace(asked, training=structs.replace(asked.training, learning_rate=1e-30)),
        structs.replace(asked, method=structs.replace(asked.method, sends="gradient")),
        structs.replace(asked, seed=asked.seed + 1),
        structs.replace(asked, asynchronous=True),
    ):
        said = privacy.fault(other, "train", terms())
        assert said.startswith("the round asks something else of this client than what is signed")
    for same in (
        structs.replace(asked, train=("ann",), closes_in_s=1.0, epoch=7),
        structs.replace(asked, late_rounds=3),
    ):
        assert not privacy.fault(same, "train", terms())


def _noised(noise: float = 4.0) -> Masking:
    return masking(noise=noise, norm_max=1.0, norm_steps=1000 if noise else 0)


@pytest.mark.parametrize(
    ("masked", "asked", "declined"),
    [
        (_noised(), {"noise_min": 4.0}, ""),
        (_noised(), {"noise_min": 4.1}, "answers would have noise of 4 clip norms, less than"),
        (None, {"noise_min": 0.1, "at_least": "plain"}, "answers would have noise of 0 clip norms"),
        (_noised(), {"epsilon_max": 4.0}, ""),
        (masking(), {"epsilon_max": 4.0}, "answers would have no noise, and its owner allows for"),
        (masking(noise=4.0), {"epsilon_max": 4.0}, "answers would have no noise, and its owner"),
        (None, {"epsilon_max": 4.0, "at_least": "plain"}, "answers would have no noise, and its"),
        (_noised(), {"epsilon_max": 0.9}, "this answer would bring epsilon from 0 to 0.926 at"),
        (_noised(), {"epsilon_max": 0.9, "delta": 1e-4}, ""),
    ],
)
def test_noise_and_budget_are_what_the_owner_asks(
    masked: Masking | None, asked: dict[str, Any], declined: str
) -> None:
    told = _fault(masked, terms(**asked))
    assert told.startswith(declined) and bool(told) == bool(declined)


@pytest.mark.parametrize(("noise", "answers"), [(1.0, 1), (4.0, 10), (8.0, 50)])
def test_as_many_answers_as_the_exact_epsilon_allows(noise: float, answers: int) -> None:
    """Against what `gaussian` tells of so many rounds of one noise."""
    most = gaussian.epsilon(noise, answers + 0.5, 1e-5)
    told = NOTHING
    count = 0
    while not (
        said := privacy.fault(
            offered := offer(count + 1, masking=_noised(noise)),
            "train",
            terms(epsilon_max=most),
            "",
            told,
        )
    ):
        told = disclosed.finish(disclosed.begin(told, offered, "train"), offered.run, offered.round)
        count += 1
    assert count == answers
    assert f"above this client's privacy.epsilon_max = {most:g}" in said
    so_far = gaussian.epsilon(noise, answers, 1e-5)
    assert privacy.so_far(Privacy(), told) == f"epsilon so far: {so_far:.3g} at delta 1e-05"
    assert f"from {so_far:.3g} to " in said


def test_what_was_told_without_noise_is_named_beside_the_epsilon() -> None:
    assert privacy.so_far(Privacy(), NOTHING) == ""
    assert privacy.so_far(Privacy(), Disclosed(bare=True)) == ""
    told = privacy.so_far(Privacy(), Disclosed(spent=1.0, bare=True))
    assert told.endswith("; beside it something was told without noise")


@pytest.mark.parametrize("purpose", ["train", "evaluate", "describe"])
def test_who_has_lost_what_it_told_answers_nothing_that_needs_it(purpose: Purpose) -> None:
    lost = Disclosed(lost=True)
    for asked in (
        {},
        {"at_least": "plain"},
        {"floor_min": 2},
        {"at_least": "plain", "floor_min": 2},
        {"at_least": "plain", "floor_min": 2, "tolerated_min": 1, "epsilon_max": 4.0},
    ):
        said = privacy.fault(offer(masking=_noised()), purpose, terms(**asked), "", lost)
        assert said == (
            "what this client has told before is not known any more, as disclosed-demo in its state"
            " folder is damaged: remove that file to begin anew, or set privacy.at_least,"
            " privacy.floor_min and privacy.tolerated_min"
        )
    told = terms(at_least="plain", floor_min=2, tolerated_min=1)
    assert not privacy.fault(offer(), purpose, told, "", lost)


@pytest.mark.parametrize(
    ("at_least", "masked", "declined"),
    [
        ("trusted", None, "this client's answers would not be masked"),
        ("trusted", trusted(), ""),
        ("trusted", masking(), ""),
        ("keyholders", None, "this client's answers would not be masked"),
        ("keyholders", trusted(), "this client's answers would be masked for one aggregator"),
        ("keyholders", masking(), ""),
    ],
)
def test_no_weaker_mode_than_the_owner_asks_for_is_answered(
    at_least: str, masked: Masking | None, declined: str
) -> None:
    asks = f", and its owner asks for at least '{at_least}' (privacy.at_least)"
    assert _fault(masked, terms(at_least=at_least)) == (declined + asks if declined else "")


@pytest.mark.parametrize(
    ("asked", "changes", "declined"),
    [
        ({"floor_min": 3}, {}, ""),
        ({"floor_min": 4}, {}, "sums of 3 clients would be opened, fewer than"),
        ({"change_max": 4.0}, {}, ""),
        ({"change_max": 3.9}, {}, "changes of up to 4 would be sent"),
        ({"change_max": 1.0}, {"ranges": (0.5, 1.0)}, ""),
        ({"change_max": 1.0}, {"ranges": (0.5, 1.5)}, "changes of up to 1.5 would be sent"),
        ({"norm_max": 2.0}, {"norm_max": 2.0}, ""),
        ({"norm_max": 2.0}, {"norm_max": 2.5}, "changes of a norm of up to 2.5 would be sent"),
        ({"norm_max": 2.0}, {}, "changes of any norm would be sent"),
    ],
)
def test_bounds_are_no_wider_than_the_owner_set(
    asked: dict[str, Any], changes: dict[str, Any], declined: str
) -> None:
    told = _fault(masking(**changes), terms(**asked))
    assert told.startswith(declined) and bool(told) == bool(declined)


def test_a_device_without_keys_cannot_answer_what_is_masked() -> None:
    told = _fault(masking(), replace(terms(), lacking=Terms().lacking))
    assert told.startswith("answers are masked, which needs this client's own keys: ")
    assert _fault(None, Terms()) == ""


def test_a_keyholder_that_is_not_in_the_credentials_is_given_nothing() -> None:
    known = {name: PINNED[name] for name in (A, B)}
    told = _fault(masking(), replace(terms(), pinned=known))
    assert told.startswith("kh-c would be given masks and is no keyholder that this client's")
    assert "(kh-a, kh-b)" in told


def _swapped(name: ClientId, place: int, **changes: Any) -> Masking:
    """This keyholder's key is another one."""
    holder = keyholder(name, place)
    key = structs.replace(holder.key, **changes)
    others = tuple(one for one in masking().keyholders if one.name != name)
    return masking(keyholders=(*others, structs.replace(holder, key=key)))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": NUMBER + 1},
        {"public": bytes(32)},
        {"signature": bytes(64)},
        # It says the same, and another keyholder signed it.
        {"signature": signing.round_key(OWN_KEYS[B], FEDERATION, C, 7, bytes(32)).signature},
    ],
)
def test_a_round_key_that_its_keyholder_did_not_sign_is_not_used(changes: dict[str, Any]) -> None:
    told = _fault(_swapped(C, 2, **changes), terms())
    assert told == "the key that is said to be of kh-c is not signed by it"


def test_a_round_key_of_another_federation_is_not_used() -> None:
    told = _fault(masking(), replace(terms(), federation="other"))
    assert told == "the key that is said to be of kh-a is not signed by it"


@pytest.mark.parametrize(
    "masked",
    [
        # Each would be given all seeds, or too few could be there to open.
        masking(tolerated=0),
        masking(tolerated=3),
        masking((A,)),
        masking(tolerated=2, names=(A, B)),
        # In one place are the seeds that another lacks.
        masking(keyholders=(keyholder(A, 0), keyholder(B, 0))),
        masking(keyholders=(keyholder(A, 0), keyholder(B, 3))),
        trusted(places=2),
        trusted(tolerated=1),
        trusted(keyholders=(keyholder(A, 0), keyholder(B, 0))),
        trusted(keyholders=(keyholder(A, 1),)),
    ],
)
def test_masks_that_do_not_open_as_their_mode_promises_are_given_to_nobody(
    masked: Masking,
) -> None:
    told = _fault(masked, terms())
    assert told.startswith("masks for ") and told.endswith(f"that is not {masked.mode!r}")


def test_two_halves_that_could_be_shown_two_lists_are_given_no_masks() -> None:
    four = tuple(keyholder(name, place) for place, name in enumerate((A, B, C, A)))
    told = _fault(masking(places=4, keyholders=four), terms())
    assert "4 keyholders, any 2 of whom open a sum: two halves" in told


def test_masks_for_several_lists_are_given_to_as_many_as_open_a_sum_and_no_more() -> None:
    assert not _fault(masking(lists_max=20, times_max=8, names=(A, B)), terms())
    told = _fault(masking(lists_max=20), terms())
    assert told.startswith("20 lists may be opened with one key of each of 3 keyholders")


def test_nobody_has_two_places() -> None:
    twice = masking(keyholders=(keyholder(A, 0), keyholder(A, 1)))
    assert _fault(twice, terms()) == "the same keyholder would be given two places"
    # Nor under two names.
    alias = replace(terms(), pinned={**PINNED, B: PINNED[A]})
    assert _fault(masking(), alias) == "the same keyholder would be given two places"


@pytest.mark.parametrize("method", [Method(difference=True), Method(interval_max=5)])
def test_what_goes_by_earlier_answers_is_not_masked(method: Method) -> None:
    assert "this round asks what goes by" in _fault(masking(), terms(), method=method)
    assert _fault(None, terms(at_least="plain"), method=method) == ""


@pytest.mark.parametrize("closes_in_s", [1.2, 1e5])
def test_what_goes_by_the_time_that_a_device_is_given_is_not_masked(closes_in_s: float) -> None:
    """It is told to each, and is in no digest: nine of ten could be given none."""
    asked: dict[str, Any] = {"method": Method(partial=True), "closes_in_s": closes_in_s}
    assert "for what is done when time is up" in _fault(masking(), terms(), **asked)
    assert _fault(None, terms(at_least="plain"), **asked) == ""


def test_who_wants_masks_tells_nothing_of_this_device_alone() -> None:
    open_ = terms(at_least="plain")
    every: tuple[Purpose, ...] = ("train", "evaluate", "describe")
    for asked, told in (
        (terms(at_least="trusted"), NOTHING),
        (terms(), NOTHING),
        (Terms(), Disclosed(mode="trusted")),
        (terms(at_least="plain", epsilon_max=1.0), NOTHING),
        # It may have been hidden.
        (Terms(), Disclosed(lost=True)),
    ):
        assert privacy.allowed(every, asked, told) == ("train",)
    for asked in (open_, Terms()):
        assert privacy.allowed(every, asked, NOTHING) == every
    told_ = "what this client measures can be read, and its owner asks for at least 'trusted'"
    assert _fault(masking(), terms(at_least="trusted"), "evaluate").startswith(told_)
    assert _fault(masking(), open_, "evaluate") == ""
    assert _fault(None, open_, "describe") == ""
    assert _fault(masking(), open_, "describe") != ""
    assert _fault(None, terms(at_least="plain", epsilon_max=2.0), "evaluate") == (
        "what this client measures has no noise, and its owner allows for an epsilon of 2"
        " (privacy.epsilon_max)"
    )


@pytest.mark.parametrize(
    ("masked", "asked", "keeps"),
    [
        (masking(), {}, True),
        (None, {}, False),
        (None, {"pin_model": True}, True),
        (masking(), {"accept_model": "f"}, False),
        (masking(), {"accept_model": "g"}, True),
    ],
)
def test_a_model_that_is_built_otherwise_than_the_first_is_not_trained(
    masked: Masking | None, asked: dict[str, Any], keeps: bool
) -> None:
    offered = offer(masking=masked)
    held = terms(at_least="plain", **asked)
    assert privacy.fault(offered, "train", held, "f") == ""
    assert privacy.fault(offered, "train", held, "") == ""
    told = privacy.fault(offered, "train", held, "e")
    assert bool(told) is keeps
    if keeps:
        assert "(f) than the first one that this client trained (e)" in told
        assert told.endswith("start it with --accept-model f")
