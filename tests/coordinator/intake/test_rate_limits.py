"""Token buckets: what goes through in any span of time, and what is kept of whom."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.intake.rate_limits import Buckets
from fedmqtt.topics import ClientId

ANN, BOB = ClientId("ann"), ClientId("bob")

spans = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 4)), max_size=200)


def test_a_full_bucket_gives_its_burst_and_then_what_flows_in() -> None:
    buckets = Buckets(per_s=2, burst=3)
    assert [buckets.take(10.0, ANN) for _ in range(4)] == [True, True, True, False]
    assert not buckets.take(10.4, ANN)
    assert buckets.take(10.5, ANN)
    assert not buckets.take(10.5, ANN)
    assert buckets.take(10.5, BOB), "another's bucket is its own"


@given(at=st.floats(0, 1e8), per_s=st.floats(0.01, 1e4))
def test_a_clock_that_has_run_for_years_takes_no_token_away(at: float, per_s: float) -> None:
    """At 65,536 s, 0.1 s later is a little more than 0.1 s away."""
    buckets = Buckets(per_s, 1.0)
    assert buckets.take(at, ANN)
    assert not buckets.take(at, ANN)


def test_who_was_silent_for_long_has_no_more_than_a_burst() -> None:
    buckets = Buckets(per_s=2, burst=3)
    buckets.take(0.0, ANN)
    assert [buckets.take(1e9, ANN) for _ in range(4)] == [True, True, True, False]


def test_what_is_more_than_a_burst_never_goes_through_and_takes_nothing() -> None:
    buckets = Buckets(per_s=1, burst=4)
    assert not buckets.take(0.0, ANN, 5)
    assert buckets.take(0.0, ANN, 4)


def test_what_is_given_back_can_be_taken_again_and_no_more_than_that() -> None:
    buckets = Buckets(per_s=1, burst=4)
    assert buckets.take(0.0, ANN, 4)
    buckets.give_back(ANN, 2)
    assert not buckets.take(0.0, ANN, 3)
    assert buckets.take(0.0, ANN, 2)
    buckets.give_back(ANN, 100)
    assert not buckets.take(0.0, ANN, 5)


@given(spans)
def test_in_no_span_goes_more_through_than_a_burst_and_what_flows_in(
    wanted: list[tuple[float, float]],
) -> None:
    buckets, at = Buckets(per_s=2, burst=5), 0.0
    taken: list[tuple[float, float]] = []
    for pause_s, tokens in wanted:
        at += pause_s
        if buckets.take(at, ANN, tokens):
            taken.append((at, tokens))
    for first in range(len(taken)):
        through = 0.0
        for at, tokens in taken[first:]:
            through += tokens
            assert through <= 5 + 2 * (at - taken[first][0]) + 1e-6


@given(spans)
def test_who_stays_within_rate_and_burst_is_never_refused(
    wanted: list[tuple[float, float]],
) -> None:
    buckets, at, level = Buckets(per_s=2, burst=5), 0.0, 5.0
    for pause_s, tokens in wanted:
        at, level = at + pause_s, min(5.0, level + 2 * pause_s)
        if tokens <= level - 1e-6:
            assert buckets.take(at, ANN, tokens)
            level -= tokens


def test_of_full_buckets_nothing_is_kept_and_of_others_only_so_many() -> None:
    buckets = Buckets(per_s=1, burst=10, clients_max=3)
    names = [ClientId(f"c{i}") for i in range(20)]
    for name in names:
        buckets.take(0.0, name)
        assert len(buckets) <= 3
    for i in range(20):
        buckets.take(100.0 + 10 * i, ANN)
    assert len(buckets) == 1
