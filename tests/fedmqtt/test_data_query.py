"""Questions and answers across the wire: what comes back, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmqtt import data_query
from fedmqtt.data_query import (
    COUNTS_MAX,
    POWERS,
    VALUE_MAX,
    CategoryQuery,
    CategorySums,
    NumberQuery,
    NumberSums,
    Queries,
    QueryError,
    Sums,
)
from fedmqtt.weights import Array, Weights

FIRST = NumberQuery(4, 3, brackets=((0.0, 0.0),) * 2)
NEXT = NumberQuery(4, 3, 1.5, 8.0, 0.0, 4.0, ((0.0, 1.0), (1.0, 1.75)))
QUERIES: Queries = {"a/b": NEXT, "kind": CategoryQuery(3)}
VALUES = np.array([0.25, 1.0, 1.5, 3.9])


def answered(query: NumberQuery = NEXT) -> dict[str, Sums]:
    return {
        "a/b": data_query.sums_of(query, VALUES),
        "kind": data_query.sums_of(CategoryQuery(3), np.array([0.0, 2.0])),
    }


def written(**changes: object) -> Array:
    sums = answered()
    number = sums["a/b"]
    assert isinstance(number, NumberSums)
    sums["a/b"] = replace(number, **changes)  # type: ignore[arg-type]
    return data_query.write_sums(QUERIES, sums)


def test_a_question_arrives_as_it_was_asked() -> None:
    for queries in (QUERIES, {"a/b": FIRST}, {"x": NumberQuery(1, 1)}):
        where = data_query.layout(queries)
        assert data_query.is_layout(where)
        found = data_query.read_queries(where.unflatten(data_query.write_queries(queries)))
        assert found == queries


def test_the_sums_of_a_few_values_are_those_of_a_pencil() -> None:
    found = answered()
    # (x - 1.5) / 8 is -1.25 / 8, -0.5 / 8, 0, 2.4 / 8.
    number = found["a/b"]
    assert isinstance(number, NumberSums)
    assert (number.clients, number.samples, number.outside) == (1, 4, 0)
    assert number.first / 2**data_query.FRACTION_BITS == pytest.approx(0.65 / 8)
    assert number.histogram == (0, 1, 2, 0, 1, 0)
    # Of [0, 1) and [1, 1.75), each in three bins, with what is below and above.
    assert number.brackets == ((0, 1, 0, 0, 3), (1, 1, 0, 1, 1))
    assert data_query.mean(NEXT, number) == pytest.approx(VALUES.mean())
    assert data_query.variance(NEXT, number) == pytest.approx(VALUES.var())
    assert found["kind"] == CategorySums(1, (1, 0, 1))


def test_the_first_answer_tells_powers_of_two_and_nothing_else() -> None:
    number = answered(FIRST)["a/b"]
    assert isinstance(number, NumberSums)
    edges = data_query.POWER_EDGES
    held = {float(edges[i]): count for i, count in enumerate(number.powers) if count}
    assert held == {0.25: 1, 1.0: 2, 2.0: 1}
    assert (number.first, number.second, number.outside) == (0, 0, 0)
    assert not any(number.histogram) and not any(map(any, number.brackets))
    assert data_query.mean(FIRST, number) is None


@given(st.lists(st.floats(-1e18, 1e18), min_size=1, max_size=40))
@settings(deadline=None)
def test_every_value_is_in_one_place(values: list[float]) -> None:
    for query in (FIRST, NEXT):
        sums = data_query.sums_of(query, np.array(values))
        flat = data_query.write_sums({"x": query}, {"x": sums})
        assert data_query.fault({"x": query}, flat, len(values)) == ""
        assert data_query.read_sums({"x": query}, flat) == {"x": sums}


def test_answers_add_up_digit_by_digit() -> None:
    parts = [data_query.sums_of(NEXT, part) for part in (VALUES[:1], VALUES[1:])]
    flats = [data_query.write_sums({"x": NEXT}, {"x": one}) for one in parts]
    total = flats[0].astype(np.int64) + flats[1].astype(np.int64)
    both, whole = data_query.read_sums({"x": NEXT}, total)["x"], answered()["a/b"]
    assert isinstance(both, NumberSums) and isinstance(whole, NumberSums)
    assert both.clients == 2
    assert replace(both, clients=1) == whole


def test_a_good_answer_has_no_fault() -> None:
    assert data_query.fault(QUERIES, written(), 4) == ""


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"samples": 5}, "counts 5 samples of 'a/b', of 4 in all"),
        ({"samples": -4}, "counts -4 samples of 'a/b', of 4 in all"),
        ({"clients": 2}, "counts 4 samples of 'a/b', of 4 in all"),
        ({"clients": 0}, "counts 4 samples of 'a/b', of 4 in all"),
        ({"samples": 3}, "the sums of 'a/b' contradict each other"),
        ({"outside": 5}, "the sums of 'a/b' contradict each other"),
        ({"outside": -1}, "the sums of 'a/b' contradict each other"),
        ({"first": 2**103}, "the sums of 'a/b' contradict each other"),
        ({"second": -1}, "the sums of 'a/b' contradict each other"),
        ({"histogram": (0, 1, 2, 0, 2, -1)}, "the sums of 'a/b' contradict each other"),
        ({"histogram": (0,) * 6}, "the sums of 'a/b' contradict each other"),
        ({"powers": (1, *(0,) * (POWERS - 1))}, "the sums of 'a/b' contradict each other"),
        ({"brackets": ((4, 0, 0, 0, 0), (9, 0, 0, 0, 0))}, "the sums of 'a/b' contradict"),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(
    changes: dict[str, object], fault: str
) -> None:
    assert data_query.fault(QUERIES, written(**changes), 4).startswith(fault)


def test_categories_are_checked_too() -> None:
    sums = {**answered(), "kind": CategorySums(1, (3, -1, 0))}
    flat = data_query.write_sums(QUERIES, sums)
    assert data_query.fault(QUERIES, flat, 4) == "the sums of 'kind' contradict each other"


@pytest.mark.parametrize("wrong", [0.5, 2.0**20, -(2.0**20)])
def test_what_is_no_digit_is_refused(wrong: float) -> None:
    for place in (0, 200, -1):
        flat = written()
        flat[place] = wrong
        assert data_query.fault(QUERIES, flat, 4) != ""


@given(st.lists(st.integers(-(2**20) + 1, 2**20 - 1), min_size=1, max_size=30), st.randoms())
@settings(deadline=None)
def test_no_digits_make_it_fail(some: list[int], chance: object) -> None:
    flat = written()
    places = np.random.default_rng(len(some)).integers(0, len(flat), len(some))
    flat[places] = some
    # Whatever they say: a fault, or sums within bounds.
    if data_query.fault(QUERIES, flat, 4) == "":
        sums = data_query.read_sums(QUERIES, flat)["a/b"]
        assert isinstance(sums, NumberSums) and 0 <= sums.samples <= 4


def tensors(**changes: Array | None) -> Weights:
    queries = {"x": NEXT}
    where = data_query.layout(queries)
    found = dict(where.unflatten(data_query.write_queries(queries)))
    for part, array in changes.items():
        if array is None:
            del found[f"x/{part}"]
        else:
            found[f"x/{part}"] = array
    return found


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def asks(*numbers: float) -> Array:
    from fedmqtt import whole_numbers

    return whole_numbers.words(numbers)


@pytest.mark.parametrize(
    "changes",
    [
        {"asks": None},
        {"histogram": None},
        {"brackets": None},
        {"powers": None},
        {"more": zeros(3)},
        {"asks": zeros(4)},
        {"asks": zeros(3, 4)},
        {"asks": zeros(9, 4)},
        {"histogram": zeros(2, 3)},
        {"histogram": np.float32(1).reshape(())},
        {"histogram": zeros(COUNTS_MAX, 3)},
        {"brackets": zeros(2, 2, 3)},
        {"brackets": zeros(2, COUNTS_MAX, 3)},
        {"moments": zeros(2, 7)},
        {"categories": zeros(1, 3)},
        {"categories": zeros(COUNTS_MAX + 1, 3)},
        {"categories": np.float32(1).reshape(())},
        {"asks": np.full((8, 4), np.nan, np.float32)},
        # Shift, scale, low, high, and two brackets.
        {"asks": asks(0, 3.0, 0, 1, 0, 1, 0, 1)},
        {"asks": asks(0, -4.0, 0, 1, 0, 1, 0, 1)},
        {"asks": asks(0, 4.0, 1, 0, 0, 1, 0, 1)},
        {"asks": asks(0, 4.0, 0, 1, 0, 1, 1, 0)},
        {"asks": asks(VALUE_MAX * 32, 4.0, 0, 1, 0, 1, 0, 1)},
    ],
)
def test_what_is_no_question_is_refused(changes: dict[str, Array | None]) -> None:
    with pytest.raises(QueryError):
        data_query.read_queries(tensors(**changes))


def test_a_model_is_no_question() -> None:
    with pytest.raises(QueryError, match="no questions about data"):
        data_query.read_queries({"weight": zeros(3, 2)})
