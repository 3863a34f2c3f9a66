import pytest

from coordinator import aggregation, selection
from fedmqtt import codecs, parts


def test_a_part_is_found_by_being_in_its_folder() -> None:
    assert "fedavg" in parts.names(aggregation)
    assert "uniform" in parts.names(selection)
    assert parts.load(codecs, "full").__name__ == "fedmqtt.codecs.full"


@pytest.mark.parametrize(
    "name", ["median9", "", "os", "..rounds", "fedavg.x", "__init__", "FedAvg"]
)
def test_an_unknown_part_is_answered_with_the_choices(name: str) -> None:
    with pytest.raises(parts.UnknownPart, match=r"unknown aggregation .*; choose one of: .*fedavg"):
        parts.load(aggregation, name)
