"""A mistake in site.toml is told at the start: the file, the key, and what to do."""

from pathlib import Path

import pytest
from msgspec import structs

from coordinator.config import FederationConfig
from fedmqtt.settings import SettingsError
from site_aggregator import config as site_config

CENTRE = '[centre]\nbroker = "mqtt://h"\nfederation = "all"\nid = "north"\n'
DEVICES = '[devices]\nname = "ward"\n'


def read(folder: Path, text: str, *overrides: str, **ours: str) -> site_config.SiteConfig:
    path = folder / "site.toml"
    path.write_text(text)
    return site_config.read(path, overrides, ours)


def test_one_task_is_for_both_and_the_rest_has_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, f'task = "t"\n{CENTRE}{DEVICES}', f"centre.state={tmp_path}/state")
    assert found.centre.task == found.devices.task == "t"
    assert (found.centre.label, found.rounds_per_report, found.rounds_alone) == ("site", 1, 5)
    # As many rounds as the centre asks for, in a folder of the site's.
    assert found.devices.rounds.count == 0
    assert found.devices.runs == f"{tmp_path}/state/runs"


def test_what_credentials_say_need_not_be_said_again(tmp_path: Path) -> None:
    text = f'task = "t"\ncredentials = "north.toml"\n{DEVICES}'
    ours = {"federation": "all", "id": "north", "broker": "mqtts://h"}
    assert read(tmp_path, text, **ours).centre.id == "north"
    assert site_config.credentials_of(tmp_path / "site.toml", ()) == "north.toml"
    with pytest.raises(SettingsError, match=r"centre\.id is 'south', and north\.toml is for"):
        read(tmp_path, text, "centre.id=south", **ours)


def test_under_masks_a_site_is_not_asked_to_measure_alone(tmp_path: Path) -> None:
    more = (
        "[devices.rounds]\ncohort = 10\nquorum = 10\n"
        '[devices.privacy]\naggregation = "keyholders"\n'
    )
    found = read(tmp_path, f'task = "t"\n{CENTRE}{DEVICES}{more}')
    assert found.centre.purposes == ("train",)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("devices.codec=int8", "devices.codec follows from what the centre asks of all"),
        ("devices.training.epochs=2", "devices.training follows from what the centre asks"),
        ("devices.sites.clients_max=2", "clients are devices, and no sites: leave it out"),
        ("devices.workers.lanes=2", "devices.workers is given, and a site adds up"),
        ("devices.statistics.bins=2", "devices.statistics is given, and a site does not ask"),
        ("devices.rounds.count=2", "devices.rounds.count is given, and a site has as many"),
        ("devices.rounds=2", "[devices]: rounds: expected a table"),
        ("devices.runs=here", "devices.runs is the site's state folder: leave it out"),
        ("devices.name=all", "devices.name is 'all', as the centre's federation"),
        ("devices.rounds.mode=asynchronous", "devices.rounds.mode is 'asynchronous'"),
        ("devices.rounds.quorum=99", "[devices]: rounds.quorum is 99, more than rounds.cohort"),
        ("devices.task=other", "one task is for all"),
        ('centre.purposes=["describe"]', "centre.purposes has describe"),
        ("centre.idd=x", "[centre]: unknown key idd"),
        ("rounds_alone=-1", "rounds_alone"),
    ],
)
def test_what_does_not_go_is_refused(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, f'task = "t"\n{CENTRE}{DEVICES}', override)
    assert said in str(refused.value)


def test_a_quiet_site_says_how_many_measure_for_the_centre(tmp_path: Path) -> None:
    more = "[devices.selection_settings]\nfleet = 100\n[devices.evaluation]\nevery = 0\n"
    text = f'task = "t"\n{CENTRE}{DEVICES}selection = "sortition"\n{more}'
    quiet = "devices.rounds.clients_min=1"
    assert read(tmp_path, text, quiet).devices.evaluation.clients
    with pytest.raises(SettingsError, match=r"devices\.evaluation\.clients is 0"):
        read(tmp_path, text, quiet, "devices.evaluation.clients=0")


def test_a_key_that_is_missing_is_told_with_its_table(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing key id .* as --set centre\.id=\.\.\.$"):
        read(tmp_path, f'task = "t"\n{CENTRE.replace("id", "#")}{DEVICES}')
    with pytest.raises(SettingsError, match=r"missing key name .* as --set devices\.name=\.\.\.$"):
        read(tmp_path, f'task = "t"\n{CENTRE}')


def test_who_mistypes_a_key_is_told_of_those_alone_that_a_site_may_set(tmp_path: Path) -> None:
    offered: dict[str, list[str]] = {}
    for table in ("centre", "devices", "devices.rounds"):
        with pytest.raises(SettingsError, match=r"unknown key \S*no_such; choose from: ") as told:
            read(tmp_path, f'task = "t"\n{CENTRE}{DEVICES}', f"{table}.no_such=1")
        _, _, choices = str(told.value).partition("choose from: ")
        offered[table] = choices.split(", ")
    assert "task" not in offered["centre"] and "data" in offered["centre"]
    assert {"name", "broker", "rounds", "privacy", "selection"} <= {*offered["devices"]}
    assert "cohort" in offered["devices.rounds"] and "count" not in offered["devices.rounds"]
    for key in (field.name for field in structs.fields(FederationConfig)):
        with pytest.raises(SettingsError) as told:
            # No key takes that.
            read(tmp_path, f'task = "t"\n{CENTRE}[devices]\n{key} = 1979-05-27\n')
        is_refused = "leave it out" in str(told.value) or key == "task"
        assert is_refused == (key not in offered["devices"]), key
