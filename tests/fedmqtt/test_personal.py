"""Which numbers of a model travel: by patterns, cut out and put back in their places."""

import numpy as np
import pytest

from fedmqtt import personal
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Layout

LAYOUT = Layout((("conv.weight", (2, 2)), ("bn1.weight", (2,)), ("bn1.mean", (2,)), ("head", (3,))))
MODEL = np.arange(11, dtype=np.float32)


def test_what_matches_stays_and_the_rest_travels_in_the_models_order() -> None:
    found = personal.division(LAYOUT, ["*bn*", "he?d"])
    assert found.names == {"bn1.weight", "bn1.mean", "head"}
    assert found.personal.tensors == LAYOUT.tensors[1:]
    assert found.shared.tensors == LAYOUT.tensors[:1]
    assert found.size == 4
    assert found.shared_of(MODEL).tolist() == [0, 1, 2, 3]
    assert found.personal_of(MODEL).tolist() == [4, 5, 6, 7, 8, 9, 10]


def test_parts_are_put_back_where_they_were_and_nothing_else_is_changed() -> None:
    found = personal.division(LAYOUT, ["bn1.*"])
    before = MODEL.copy()
    shared, own = -found.shared_of(MODEL), -found.personal_of(MODEL)
    assert found.with_shared(MODEL, shared).tolist() == [0, -1, -2, -3, 4, 5, 6, 7, -8, -9, -10]
    both = found.with_personal(found.with_shared(MODEL, shared), own)
    assert both.tolist() == (-MODEL).tolist()
    assert found.with_personal(MODEL, None) is MODEL
    np.testing.assert_array_equal(MODEL, before)


def test_without_patterns_the_model_is_passed_on_as_it_is() -> None:
    found = personal.division(LAYOUT, [])
    assert found.shared == LAYOUT and found.size == LAYOUT.size and not found.names
    assert found.shared_of(MODEL) is MODEL
    other = MODEL + 1
    assert found.with_shared(MODEL, other) is other


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    with pytest.raises(SettingsError) as refused:
        personal.division(LAYOUT, ["bn1.*", "*.bn*"])
    assert str(refused.value) == (
        "training.personal: '*.bn*' matches no layer of the model; it has: conv.weight,"
        " bn1.weight, bn1.mean, head"
    )


def test_a_large_model_is_not_listed_whole() -> None:
    deep = Layout(tuple((f"layer{n}", (1,)) for n in range(30)))
    with pytest.raises(SettingsError, match=r"layer7, \.\.\. \(30\)$"):
        personal.division(deep, ["nothing"])


def test_something_has_to_be_learned_together() -> None:
    with pytest.raises(SettingsError, match="every layer stays on its device"):
        personal.division(LAYOUT, ["*"])
