"""What is declined before anything is trained, and in which words."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from edge_client import privacy
from edge_client.privacy import Privacy, Terms
from fedmqtt import signing
from fedmqtt.messages import Masking, Method, Purpose
from fedmqtt.topics import ClientId
from tests.edge_client.masks import (
    FEDERATION,
    HOLDERS,
    NUMBER,
    OWN_KEYS,
    PINNED,
    keyholder,
    masking,
    terms,
    trusted,
)
from tests.offers import offer

A, B, C = HOLDERS


def _fault(masked: Masking | None, held: Terms, purpose: Purpose = "train", **more: Any) -> str:
    return privacy.fault(offer(masking=masked, **more), purpose, held)


def test_with_the_defaults_all_that_can_be_masked_and_all_that_is_not_is_answered() -> None:
    for masked in (None, trusted(), masking(), masking((C, A))):
        assert _fault(masked, terms()) == ""
    assert _fault(None, Terms()) == ""


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
        # Two halves could open two sums.
        masking(
            places=4,
            keyholders=tuple(keyholder(name, place) for place, name in enumerate((A, B, C, A))),
        ),
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


def test_nobody_has_two_places() -> None:
    twice = masking(keyholders=(keyholder(A, 0), keyholder(A, 1)))
    assert _fault(twice, terms()) == "the same keyholder would be given two places"
    # Nor under two names.
    alias = replace(terms(), pinned={**PINNED, B: PINNED[A]})
    assert _fault(masking(), alias) == "the same keyholder would be given two places"


@pytest.mark.parametrize("method", [Method(difference=True), Method(interval_max=5)])
def test_what_goes_by_earlier_answers_is_not_masked(method: Method) -> None:
    assert "this round asks what goes by" in _fault(masking(), terms(), method=method)
    assert _fault(None, terms(), method=method) == ""


def test_who_wants_masks_tells_nothing_of_this_device_alone() -> None:
    asked = Privacy(at_least="trusted")
    assert privacy.allowed(("train", "evaluate", "describe"), asked) == ("train",)
    assert privacy.allowed(("train", "evaluate"), Privacy()) == ("train", "evaluate")
    told = "what this client measures can be read, and its owner asks for at least 'trusted'"
    assert _fault(masking(), terms(at_least="trusted"), "evaluate").startswith(told)
    assert _fault(masking(), terms(), "evaluate") == ""
    assert _fault(None, terms(), "describe") == ""
    assert _fault(masking(), terms(), "describe") != ""


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
    assert privacy.fault(offered, "train", terms(**asked), "f") == ""
    assert privacy.fault(offered, "train", terms(**asked), "") == ""
    told = privacy.fault(offered, "train", terms(**asked), "e")
    assert bool(told) is keeps
    if keeps:
        assert "(f) than the first one that this client trained (e)" in told
        assert told.endswith("start it with --accept-model f")
