"""A strategy that visits one client at a time: its name is enough, and contradictions are told."""

from pathlib import Path

import pytest

from coordinator import checks, one_at_a_time, round_rules
from coordinator.commands.init_command import CONFIG_FILE, starter_config
from coordinator.config import FederationConfig
from fedmqtt import settings
from fedmqtt.settings import SettingsError

LEAST = ["name=f", "task=t"]
SEQUENTIAL = "aggregation=sequential"


def read(*words: str) -> FederationConfig:
    return one_at_a_time.applied(settings.read(None, [*LEAST, *words], FederationConfig))


def test_in_the_file_that_init_writes_its_name_is_enough(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_FILE
    path.write_text(starter_config("greenhouse"))
    config = one_at_a_time.applied(settings.read(path, [SEQUENTIAL], FederationConfig))
    checks.check(config)
    rules = round_rules.from_config(config)
    assert (rules.cohort, rules.clients_min, config.selection) == (1, 1, "round_robin")
    pace = rules.pace
    assert pace.over_selection == pace.over_selection_min == pace.over_selection_max == 1.0
    assert round_rules.invited_max(config) == 1
    assert rules.quorum == 0, "a visit to who is gone ends when it has been gone for long enough"


def test_other_strategies_are_left_as_they_are() -> None:
    config = settings.read(None, [*LEAST, "rounds.cohort=7"], FederationConfig)
    assert one_at_a_time.applied(config) is config
    assert round_rules.from_config(config).quorum == config.rounds.quorum == 2


def test_what_it_does_not_decide_is_the_operators() -> None:
    config = read(SEQUENTIAL, "selection=by_speed", "rounds.clients_min=3", "rounds.count=50")
    assert config.selection == "by_speed"
    assert (config.rounds.clients_min, config.rounds.count) == (3, 50)


@pytest.mark.parametrize(
    "word", ["rounds.cohort=1", "rounds.quorum=1", "rounds.over_selection=1", "late.policy=discard"]
)
def test_what_it_needs_may_be_said(word: str) -> None:
    assert read(SEQUENTIAL, word) == read(SEQUENTIAL)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rounds.cohort=5", "rounds.cohort is 5, and .*remove that line, or set it to 1"),
        ("rounds.quorum=3", "rounds.quorum is 3, and .*set it to 1"),
        ("rounds.over_selection=1.5", "rounds.over_selection is 1.5, and .*set it to 1.0"),
        ("tuning.over_selection_max=3", "tuning.over_selection_max is 3.0, and .*set it to 1.0"),
        ("late.policy=weigh", "late.policy is 'weigh', and .*set it to 'discard'"),
        ("selection=sortition", "selection is 'sortition', by which several"),
    ],
)
def test_what_contradicts_it_is_told_in_a_sentence(word: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(SEQUENTIAL, word)
