"""The operator's settings: every default holds, every mistake is named with its key."""

from pathlib import Path

import pytest

from coordinator import round_rules
from coordinator.config import FederationConfig
from coordinator.selection import by_speed
from fedmqtt import settings
from fedmqtt.settings import SettingsError

LEAST = ['name="ward-7"', 'task="learning_tasks.linear"']


def read(*overrides: str) -> FederationConfig:
    return settings.read(None, [*LEAST, *overrides], FederationConfig)


def test_a_name_and_a_task_are_enough() -> None:
    config = read()
    assert config.rounds.quorum <= config.rounds.cohort
    assert config.aggregation == "fedavg" and config.codec == "full"


def test_settings_of_the_policy_are_those_of_its_file() -> None:
    config = read("selection=by_speed", "selection_settings.explore=0.5")
    assert round_rules.selection_settings(config) == by_speed.Settings(explore=0.5)
    for wrong, said in (
        ("selection_settings.explore=0", "explore: expected a number > 0.0"),
        ("selection_settings.exlore=0.5", "unknown key exlore; choose from: explore"),
    ):
        with pytest.raises(SettingsError, match=said):
            round_rules.selection_settings(read("selection=by_speed", wrong))
    with pytest.raises(SettingsError, match="unknown key explore; there are none here"):
        round_rules.selection_settings(read("selection_settings.explore=0.5"))


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    config = read("rounds.quorum=1", "training.epochs=3", 'broker.url="mqtt://pi:1884"')
    path = tmp_path / "federation.toml"
    path.write_text(settings.render(config))
    assert settings.read(path, [], FederationConfig) == config


def test_every_setting_is_explained() -> None:
    lines = settings.render(read()).splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if "=" in line and not line.startswith("#"):
            assert before.startswith("#"), line


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("rounds.quorom=3", "unknown key rounds.quorom", "choose from: count, cohort"),
        ("round.quorum=3", "unknown key round", "choose from: name, task"),
        ("rounds.quorum=many", "rounds.quorum: ", "expected"),
        ("rounds.quorum=0", "rounds.quorum: ", ">= 1"),
        ("rounds.deadline_s=0", "rounds.deadline_s: ", "> 0"),
        ("rounds.deadline_s=inf", "rounds.deadline_s: ", "<= 1"),
        ("rounds.deadline_s=nan", "rounds.deadline_s: ", "expected"),
        ("rounds.over_selection=0.5", "rounds.over_selection: ", ">= 1"),
        ("training.momentum=1", "training.momentum: ", "< 1"),
        ("limits.samples_max=536870912", "limits.samples_max: ", "<= 268435456"),
        ("transfer.chunk_bytes=10", "transfer.chunk_bytes: ", ">= 1024"),
        ("name=ward/7", "name: ", "1 to 64 of A-Z a-z 0-9 . _ -"),
        ('name="ward-7\\n"', "name: ", "1 to 64 of A-Z a-z 0-9 . _ -"),
        ('task=""', "task: ", ">= 1"),
        ("seed=-1", "seed: ", ">= 0"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(
    override: str, key: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        read(override)
    assert key in str(refused.value) and expected in str(refused.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SettingsError, match="missing key task"):
        settings.read(None, ['name="ward-7"'], FederationConfig)
