import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import metrics
from fedmqtt.metrics import Confusion

# 10 samples: of class 0 three right and one taken for 1; of class 1 all four right; of class 2 one
# right and one taken for 0.
BY_HAND: Confusion = ((3, 1, 0), (0, 4, 0), (1, 0, 1))


@st.composite
def confusions(draw: st.DrawFn, size: int = 3) -> Confusion:
    row = st.lists(st.integers(0, 50), min_size=size, max_size=size).map(tuple)
    return tuple(draw(st.lists(row, min_size=size, max_size=size)))


def test_by_hand() -> None:
    assert metrics.accuracy(BY_HAND) == 0.8
    # F1 of the classes: 2*3/(4+4), 2*4/(4+5), 2*1/(2+1)
    assert metrics.macro_f1(BY_HAND) == pytest.approx((6 / 8 + 8 / 9 + 2 / 3) / 3)


def test_a_class_that_does_not_occur_says_nothing() -> None:
    assert metrics.macro_f1(((2, 0, 0), (0, 2, 0), (0, 0, 0))) == 1.0
    assert metrics.macro_f1(((2, 0), (2, 0))) == pytest.approx((4 / 6 + 0) / 2)


def test_no_samples_are_no_success() -> None:
    for nothing in ((), ((0,),), ((0, 0), (0, 0))):
        assert metrics.accuracy(nothing) == metrics.macro_f1(nothing) == 0.0


@given(confusions(), confusions(), confusions())
def test_counts_add_in_any_order(one: Confusion, two: Confusion, three: Confusion) -> None:
    assert metrics.add(one, two) == metrics.add(two, one)
    assert metrics.add(metrics.add(one, two), three) == metrics.add(one, metrics.add(two, three))


@given(confusions())
def test_figures_are_shares(confusion: Confusion) -> None:
    assert 0 <= metrics.accuracy(confusion) <= 1
    assert 0 <= metrics.macro_f1(confusion) <= 1


@pytest.mark.parametrize(
    ("one", "other"), [(((1,),), BY_HAND), (((1, 2),), ((1, 2),)), (((1,), (2,)), ((1,), (2,)))]
)
def test_matrices_of_other_classes_do_not_add(one: Confusion, other: Confusion) -> None:
    with pytest.raises(ValueError, match="different classes"):
        metrics.add(one, other)
