"""The fewest deltas that lead from a model that is here to the one that is wanted."""

import hashlib

import pytest

from edge_client.delta_route import Route, route
from fedmqtt.messages import BASE_BYTES, DeltaRef, ModelRef
from fedmqtt.topics import Digest


def digest(number: int) -> Digest:
    return Digest(hashlib.sha256(b"%d" % number).hexdigest())


def offered(*sizes: int, whole: int = 1000) -> ModelRef:
    """Model 9, with deltas of these sizes that lead to it, from model 9 - len(sizes) on."""
    first = 9 - len(sizes)
    deltas = tuple(
        DeltaRef(bytes.fromhex(digest(first + n))[:BASE_BYTES], bytes([n]) * 32, size)
        for n, size in enumerate(sizes)
    )
    return ModelRef(
        digest=digest(9), size_bytes=whole, chunk_bytes=1024, fingerprint="f", deltas=deltas
    )


@pytest.mark.parametrize("held", [6, 7, 8])
def test_who_missed_some_models_takes_as_many_deltas(held: int) -> None:
    model = offered(10, 20, 30)
    assert route(model, [digest(held)]) == Route(digest(held), model.deltas[held - 9 :])


def test_the_newest_model_that_is_here_is_the_base() -> None:
    model = offered(10, 20, 30)
    assert route(model, [digest(6), digest(8), digest(2)]) == Route(digest(8), model.deltas[2:])


def test_who_holds_none_of_them_or_nothing_fetches_the_model_whole() -> None:
    assert route(offered(10, 20), [digest(6), digest(9)]) is None
    assert route(offered(10, 20), []) is None
    assert route(offered(), [digest(8)]) is None


def test_deltas_that_are_no_fewer_bytes_than_the_model_are_left_alone() -> None:
    assert route(offered(500, 499), [digest(7)]) is not None
    assert route(offered(500, 500), [digest(7)]) is None
    assert route(offered(500, 500), [digest(8)]) is not None


def test_a_delta_says_which_model_it_changes() -> None:
    (delta,) = offered(10).deltas
    assert delta.changes(digest(8)) and not delta.changes(digest(7))
    assert delta.digest == "00" * 32
