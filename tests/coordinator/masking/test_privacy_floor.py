"""Who is warned that a sum of so few clients tells of each."""

import pytest

from coordinator.masking.privacy_floor import fewest, warning
from fedmqtt.weights import Layout

MEASURED = Layout(
    (("0.weight", (64, 64)), ("0.bias", (64,)), ("2.weight", (10, 64)), ("2.bias", (10,)))
)
"""4,810 numbers, 64 inputs."""


def test_it_takes_twice_as_many_unknown_numbers_as_the_model_has() -> None:
    assert MEASURED.size == 4810
    assert fewest(MEASURED) == 151
    # 151 * 64 = 9,664, and 150 * 64 = 9,600 < 2 * 4,810.


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        pytest.param((("w", (1, 784)), ("b", (1,))), 3, id="a linear model of one score"),
        pytest.param((("w", (200, 784)),), 400, id="a wider one needs more"),
        pytest.param((("c", (8, 1, 3, 3)), ("w", (10, 72))), 22, id="convolutions are passed over"),
        pytest.param((("w", (50,)),), 100, id="no matrix"),
        pytest.param((("w", (1, 0)),), 2, id="nothing"),
    ],
)
def test_it_goes_by_parameters_and_inputs(
    tensors: tuple[tuple[str, tuple[int, ...]], ...], wanted: int
) -> None:
    assert fewest(Layout(tensors)) == wanted


@pytest.mark.parametrize(("floor", "noise"), [(151, 0.0), (2, 1.0), (1000, 4.0)])
def test_enough_clients_or_enough_noise_need_no_warning(floor: int, noise: float) -> None:
    assert warning(MEASURED, floor, noise) == ""


@pytest.mark.parametrize(("floor", "noise"), [(150, 0.0), (10, 0.99)])
def test_too_few_are_told_what_would_do(floor: int, noise: float) -> None:
    said = warning(MEASURED, floor, noise)
    assert f"a sum of {floor} clients tells 4,810 numbers" in said
    assert "a privacy.floor of 151" in said
