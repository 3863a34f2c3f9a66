"""`fleet.toml`: what it says is what a client gets, and what cannot be is refused in a sentence."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from coordinator import aggregation
from edge_client.conditions import Reading
from fedmqtt import codecs, parts
from fedmqtt.settings import SettingsError
from fleet_sim import fleet
from fleet_sim.clock import stream
from fleet_sim.connectivity import diurnal
from fleet_sim.intervals import DAY_S, HOUR_S, share, since, within

FEDERATION = """
[federation]
name = "lab"
task = "learning_tasks.phonewatch"
rounds = { cohort = 3, quorum = 2 }
"""
NAMES = ["ann", "bob", "cat", "dan"]


def read(folder: Path, text: str, *overrides: str) -> fleet.Fleet:
    (folder / "fleet.toml").write_text(text + FEDERATION)
    return fleet.read(folder / "fleet.toml", overrides)


def mistake(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(SettingsError) as refused:
        read(folder, text, *overrides)
    return str(refused.value).replace(f"{folder}/", "")


# What a fleet is


def test_a_federation_is_enough(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert (found.federation.name, found.federation.rounds.cohort) == ("lab", 3)
    one = found.crew(NAMES)[0]
    assert list(one.online()) == [(0.0, math.inf)]
    assert one.hardware.reading(0.0) == Reading()
    assert one.link.up.seconds(1e9, 0.0) == 0.0


def test_the_federation_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "federation.toml").write_text('name = "own"\ntask = "t"\nrounds = { quorum = 1 }')
    (tmp_path / "fleet.toml").write_text('federation = "federation.toml"')
    found = fleet.read(tmp_path / "fleet.toml")
    assert (found.federation.name, found.federation.rounds.quorum) == ("own", 1)


def test_where_the_federation_has_no_seed_it_is_the_fleet_s(tmp_path: Path) -> None:
    assert read(tmp_path, "seed = 7").federation.seed == 7
    assert read(tmp_path, "seed = 7", "seed=8").federation.seed == 8
    assert read(tmp_path, "seed = 7", "federation.seed=0").federation.seed == 0
    (tmp_path / "fleet.toml").write_text('seed = 7\nfederation = "own.toml"')
    (tmp_path / "own.toml").write_text('name = "own"\ntask = "t"\nrounds = { quorum = 1 }')
    assert fleet.read(tmp_path / "fleet.toml").federation.seed == 7
    (tmp_path / "own.toml").write_text('name = "own"\ntask = "t"\nseed = 0')
    assert fleet.read(tmp_path / "fleet.toml").federation.seed == 0


def test_a_first_model_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    found = read(tmp_path, "", "federation.initial_model=first.safetensors")
    assert found.federation.initial_model == str(tmp_path / "first.safetensors")
    assert f'initial_model = "{tmp_path}/first.safetensors"' in found.as_used()
    (tmp_path / "office").mkdir()
    (tmp_path / "office" / "own.toml").write_text(
        'name = "own"\ntask = "t"\ninitial_model = "first.safetensors"'
    )
    (tmp_path / "fleet.toml").write_text('federation = "office/own.toml"')
    found = fleet.read(tmp_path / "fleet.toml")
    assert found.federation.initial_model == str(tmp_path / "office" / "first.safetensors")


def test_a_task_in_a_file_is_told_in_full_to_who_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = read(tmp_path, "", "federation.task=my_task.py")
    # Tasks are found from where a program is started; their names cross links, and are in traces.
    assert found.federation.task == "my_task.py"
    assert f'task = "{tmp_path}/my_task.py"' in found.as_used()


def test_the_command_line_comes_after_the_file(tmp_path: Path) -> None:
    text = 'clients = 4\n[connectivity]\nkind = "always"\n'
    words = ["connectivity.kind=markov", "connectivity.settings.online_s=7", "federation.seed=3"]
    found = read(tmp_path, text, *words)
    assert found.config.connectivity.settings.online_s == 7  # type: ignore[attr-defined]
    assert found.federation.seed == 3


def test_a_client_has_the_same_weather_whoever_else_there_is(tmp_path: Path) -> None:
    text = (
        '[connectivity]\nkind = "markov"\n[link]\nup = { kbps = 100, spread = 1 }\n'
        "[device]\nspread = 1\nbattery = { training_h = 3 }\n"
    )
    found = read(tmp_path, text)
    some, others = found.crew(NAMES), found.crew([*reversed(NAMES), "eve"])
    one, same = some[1], others[2]
    assert one.client == same.client == "bob"
    # Ranks are shared out among all; markov without a spread asks for none.
    assert list(within(one.online(), 1e5)) == list(within(same.online(), 1e5))
    assert one.link == same.link
    assert one.hardware.ms_per_sample == same.hardware.ms_per_sample
    assert one.hardware.changes(0.0, 1e5) == same.hardware.changes(0.0, 1e5)
    assert some[0].link != one.link
    assert list(within(some[0].online(), 1e5)) != list(within(one.online(), 1e5))
    again = read(tmp_path, text, "seed=2").crew(NAMES)[1]
    assert again.link != one.link


def test_a_run_may_begin_at_any_time_of_the_week(tmp_path: Path) -> None:
    text = 'starts = "Tue 21:00"\n[connectivity]\nkind = "diurnal"\n'
    one = read(tmp_path, text).crew(NAMES)[0]
    from_monday = diurnal.online(diurnal.Settings(), one.rank, stream(1, "connectivity", "ann"))
    expected = list(within(since(from_monday, DAY_S + 21 * HOUR_S), 3 * DAY_S))
    assert list(within(one.online(), 3 * DAY_S)) == expected
    assert 0.5 < expected[0][0] / HOUR_S < 4


def test_the_weather_follows_the_data_as_far_as_it_is_told_to(tmp_path: Path) -> None:
    text = '[connectivity]\nkind = "diurnal"\nfollows_data = 1.0\nsettings = { zones_h = 24 }\n'
    crew = read(tmp_path, text).crew(NAMES, [2.0, 0.0, 3.0, 1.0])
    assert [crew[n].rank for n in range(len(crew))] == [0.625, 0.125, 0.875, 0.375]


def test_a_phone_charges_while_it_is_online_or_by_a_cycle_of_its_own(tmp_path: Path) -> None:
    night = '[connectivity]\nkind = "diurnal"\n[device]\nbattery = { training_h = 3 }\n'
    one = read(tmp_path, night).crew(NAMES)[0]
    for begin, end in list(within(one.online(), 5 * DAY_S))[:4]:
        assert one.hardware.reading(begin).charging
        assert one.hardware.reading((begin + end) / 2).charging
        assert not one.hardware.reading(end + 1).charging
    own = night.replace("training_h = 3", 'training_h = 3, charging = "always"')
    always = read(tmp_path, own).crew(NAMES)[0]
    assert always.hardware.changes(5 * HOUR_S, 5 * DAY_S) == []
    assert always.hardware.reading(DAY_S) == Reading(charging=True, battery=100)


def test_a_judge_is_always_there(tmp_path: Path) -> None:
    judge = fleet.judge("judge")
    assert share(judge.online(), DAY_S) == 1
    assert judge.hardware.evaluate_s(10_000) == 0


def test_what_was_used_can_be_used_again_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("client,from,until\nann,0,3600\nbob,0,7200\n")
    (tmp_path / "phones.csv").write_text("phone,share,ms_per_sample\nold,1,40\n")
    text = (
        '[connectivity]\nkind = "trace"\nsettings = { file = "log.csv" }\n'
        '[device]\ntable = "phones.csv"\n'
    )
    found = read(tmp_path, text)
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    (elsewhere / "fleet.toml").write_text(found.as_used())
    again = fleet.read(elsewhere / "fleet.toml")
    assert again.federation == found.federation
    assert again.as_used() == found.as_used()
    for one, other in ((found.crew(NAMES)[n], again.crew(NAMES)[n]) for n in range(4)):
        assert list(within(one.online(), 1e6)) == list(within(other.online(), 1e6))
        assert one.hardware == other.hardware


def test_events_and_every_other_table_survive_being_written(tmp_path: Path) -> None:
    text = (
        '[connectivity]\nkind = "scripted"\n'
        'settings = { events = [{ at = "14:00", leave = 0.5, returns = "15:00" }] }\n'
    )
    found = read(tmp_path, text)
    told: dict[str, Any] = tomllib.loads(found.as_used())
    assert told["connectivity"]["settings"]["events"] == [
        {"at": "14:00", "leave": 0.5, "returns": "15:00"}
    ]


def test_every_setting_is_explained(tmp_path: Path) -> None:
    text = '[connectivity]\nkind = "diurnal"\n[data]\nsplit = "dirichlet"\n'
    lines = read(tmp_path, "clients = 5\n" + text).as_used().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if "=" in line and not line.startswith("#"):
            assert before.startswith("#"), line


# Fleets that come along


def test_the_presets_are_there() -> None:
    assert fleet.presets() == ["calm", "commuters", "phones", "pis"]


@pytest.mark.parametrize("name", fleet.presets())
def test_a_preset_needs_nothing_else_and_can_make_rounds(name: str) -> None:
    found = fleet.read(fleet.preset(name))
    crew = found.crew([f"phone-{n:02}" for n in range(1, 1 + (found.config.clients or 34))])
    day_s = min(found.config.hours_max, 24.0) * HOUR_S
    needed = max(found.federation.rounds.clients_min, found.federation.rounds.quorum)
    moments = [day_s * n / 96 for n in range(96)]
    online = [
        sum(
            any(a <= moment < b for a, b in within(crew[n].online(), day_s))
            for n in range(len(crew))
        )
        for moment in moments
    ]
    assert max(online) >= needed
    assert found.federation.task == "learning_tasks.phonewatch"


def test_an_unknown_preset_is_refused_with_the_choices() -> None:
    with pytest.raises(SettingsError) as refused:
        fleet.preset("phoned")
    assert str(refused.value) == (
        "--preset: there is no 'phoned'; choose one of: calm, commuters, phones, pis"
    )


# Fleets that cannot be


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "client = 3",
            "unknown key client; choose from: federation, seed, clients, starts, hours_max, data,"
            " connectivity, link, device, faults, masking",
        ),
        (
            "clients = -1",
            'clients: expected a whole number >= 0 (How many; 0, with the split "owners":'
            " everybody who owns samples)",
        ),
        (
            "clients = 1",
            "clients: with 1 of them no round could ever make a model, as"
            " federation.rounds.quorum is 2: lower that, or have more clients",
        ),
        (
            'starts = "noon"',
            "starts: not allowed (Time of the week at which the run begins, as"
            ' "14:30" (on a Monday) or "Tue 14:30")',
        ),
        (
            '[data]\nsplit = "owner"',
            "data.split: there is no 'owner';"
            " choose one of: dirichlet, iid, owners, quantity, shards",
        ),
        (
            '[data]\nsplit = "iid"',
            'clients: say among how many the split "iid" is made; 0, everybody who owns samples,'
            ' goes with the split "owners" only',
        ),
        (
            "[data]\nsettings = { alpha = 1 }",
            "unknown key data.settings.alpha; choose from: samples_min",
        ),
        (
            '[data]\npath = "nowhere"',
            "data.path: data folder nowhere: no such folder; choose another with --set"
            " data.path=FOLDER, or none for what the task brings",
        ),
        (
            '[data]\nevaluate = "judge"',
            "data.evaluate cannot be 'judge'; choose from: clients, test",
        ),
        (
            '[data]\nevaluate = "clients"\nheld_out = 0',
            "data.held_out: 0 leaves nothing that clients could measure the model on: give a share"
            ' above 0, or data.evaluate = "test"',
        ),
        (
            '[connectivity]\nkind = "markow"',
            "connectivity.kind: there is no 'markow';"
            " choose one of: always, diurnal, markov, scripted, trace",
        ),
        (
            '[connectivity]\nkind = "markov"\nsettings = { online = 3 }',
            "unknown key connectivity.settings.online; choose from: online_s, offline_s, spread",
        ),
        (
            '[connectivity]\nkind = "markov"\nsettings = { online_s = 0 }',
            "connectivity.settings.online_s: expected a number >= 1.0"
            " (Mean time online at a stretch, in seconds)",
        ),
        (
            "[connectivity]\nfollows_data = 2",
            "connectivity.follows_data: expected a number <= 1.0 (How much it depends on the data"
            " that a client holds (its mean label) when it is online: 0 not at all, 1 entirely)",
        ),
        (
            '[connectivity]\nkind = "trace"',
            "connectivity.settings.file: which log? Give the path of a CSV file or of an npz"
            " archive",
        ),
        (
            '[connectivity]\nkind = "trace"\nsettings = { file = "l.csv", after = "stop" }',
            "connectivity.settings.after cannot be 'stop'; choose from: end, loop",
        ),
        (
            '[connectivity]\nkind = "scripted"\nsettings = { events = [{ leave = 1 }] }',
            'connectivity.settings.events: event 1 does not say when: give it at = "14:00"',
        ),
        (
            "[link]\nlos = 0.1",
            "unknown key link.los; choose from: latency_s, jitter_s, loss, duplicates,"
            " cut_every_s, up, down",
        ),
        (
            "[link]\nloss = 1.0",
            "link.loss: expected a number < 1.0 (Share of messages that are lost, and sent again"
            " a round trip later)",
        ),
        (
            '[link.up]\nkbps = 3.0\nfile = "b.csv"',
            "link.up.file: bandwidth comes from a file or from kbps and spread: leave one out",
        ),
        (
            '[link.down]\nkind = "bus"',
            "link.down.kind: 'bus' of which archive? Give `file` too",
        ),
        (
            '[link.down]\nfile = "b.csv"',
            "link.down.file: b.csv: no such file;"
            " write its path from the folder of the fleet's file, or in full",
        ),
        (
            '[device]\nbattery = { charging = "nightly" }',
            "device.battery.charging: there is no 'nightly';"
            " choose one of: online, always, diurnal, markov, scripted, trace",
        ),
        (
            "[device]\nbattery = { settings = { begins = 3 } }",
            'device.battery.settings: there are none with charging = "online"',
        ),
        (
            '[device]\nbattery = { charging = "diurnal", settings = { begin = 3 } }',
            "unknown key device.battery.settings.begin; choose from: begins, lasts_h, habit_h,"
            " jitter_h, skip, zones_h, by_weekday",
        ),
        (
            "[device]\nconditions = { temperature_max = 40 }",
            "device.conditions.temperature_max: load and temperature are not simulated; leave it"
            " at 0, and choose from: charging, battery_min, unmetered",
        ),
        (
            "[faults]\npolite = 0.9\nhalf_open = 0.25",
            "faults.half_open: 0.25 of the departures and faults.polite = 0.9 are more than all:"
            " together at most 1",
        ),
        (
            "[federation.rouds]\nquorum = 1",
            "unknown key federation.rouds; choose from: name, task, seed, initial_model, runs,"
            " ledger, codec, downlink_codec, broker, rounds, tuning, late, selection,"
            " selection_settings, aggregation, aggregation_settings, training, evaluation,"
            " statistics, limits, transfer, slow_links, workers, sites, checkpoint, status,"
            " privacy, differential_privacy",
        ),
    ],
)
def test_an_impossible_fleet_is_refused_with_the_key_and_the_choices(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert mistake(tmp_path, f"{text}\n") == f"fleet.toml: {sentence}"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "federation.codec=zip",
            "fleet.toml: federation.codec: there is no 'zip'; choose one of: "
            + ", ".join(parts.names(codecs)),
        ),
        (
            "federation.aggregation=mean",
            "fleet.toml: federation.aggregation: there is no 'mean'; choose one of: "
            + ", ".join(parts.names(aggregation)),
        ),
        (
            "federation.aggregation_settings.rte=1",
            "the command line: unknown key federation.aggregation_settings.rte; choose from: rate",
        ),
        (
            "federation.rounds.quorum=4",
            "fleet.toml: federation.rounds.quorum is 4, more than rounds.cohort = 3: no round could"
            " ever make a model",
        ),
        (
            "connectivity.settings.file=x.csv",
            'fleet.toml: connectivity.settings: there are none with kind = "always"',
        ),
        (
            "federation.privacy.aggregation=open",
            "fleet.toml: federation.privacy.aggregation: there is no 'open'; choose one of:"
            " committee, keyholders, plain, trusted",
        ),
        (
            "hours_max=0",
            "the command line: hours_max: expected a number > 0.0"
            " (The run ends after so many hours of its own time)",
        ),
        (
            "federation=3",
            "fleet.toml: federation: expected the path of a federation.toml, or a table of its"
            " keys",
        ),
        (
            "rounds.count=2",
            "--set rounds.count=2: rounds is the federation's: set it with"
            " --set federation.rounds.count=2",
        ),
        (
            "federation=gone.toml",
            "fleet.toml: federation: gone.toml: no such file",
        ),
    ],
)
def test_an_impossible_override_is_refused_too(
    tmp_path: Path, override: str, sentence: str
) -> None:
    assert mistake(tmp_path, "", override) == sentence


def test_masked_rounds_are_held_against_the_rules_of_a_coordinator(tmp_path: Path) -> None:
    masked = ["federation.privacy.aggregation=trusted", "federation.privacy.floor=3"]
    sentence = "federation.privacy.aggregation is 'trusted': rounds.quorum is 2, less than"
    assert sentence in mistake(tmp_path, "", *masked)


def test_a_committees_rounds_are_not_simulated(tmp_path: Path) -> None:
    masked = [
        *("federation.privacy.aggregation=committee", "federation.privacy.floor=3"),
        *('federation.privacy.experiments=["committee"]', "federation.rounds.quorum=3"),
        "federation.privacy.value_bits=12",
    ]
    said = mistake(tmp_path, "", *masked)
    assert 'federation.privacy.aggregation is "committee": the lab leaves masks out' in said


def test_a_judge_measures_models_of_masked_rounds_as_it_is_nobodys_client(tmp_path: Path) -> None:
    masked = [
        *("federation.privacy.aggregation=trusted", "federation.privacy.floor=3"),
        *("federation.rounds.quorum=3", "federation.evaluation.every=1"),
    ]
    judged = read(tmp_path, "", *masked, "data.evaluate=test")
    assert judged.federation.evaluation.every == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("federation.codec=int8", "fleet.toml names a file for its federation: set codec in ours"),
        ("rounds.count=2", "rounds is the federation's: set it in ours"),
    ],
)
def test_what_stands_in_a_federations_own_file_is_set_there(
    tmp_path: Path, override: str, sentence: str
) -> None:
    (tmp_path / "ours.toml").write_text('name = "ours"\ntask = "learning_tasks.linear"\n')
    (tmp_path / "fleet.toml").write_text('federation = "ours.toml"\nclients = 3\n')
    with pytest.raises(SettingsError) as error:
        fleet.read(tmp_path / "fleet.toml", [override])
    said = str(error.value).replace(f"{tmp_path}/", "")
    assert said == f"--set {override}: {sentence}.toml"


def test_a_fleet_without_a_federation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("clients = 3\n")
    with pytest.raises(SettingsError) as refused:
        fleet.read(tmp_path / "fleet.toml")
    assert str(refused.value) == (
        f"{tmp_path}/fleet.toml: missing key federation (The path of a coordinator's"
        " federation.toml, or a table of its keys): give it in a file, or as --set federation=..."
    )


def test_a_crew_that_could_never_make_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, "").crew(["ann"])
    assert str(refused.value) == (
        f"{tmp_path}/fleet.toml: clients: with 1 of them no round could ever make a model, as"
        " federation.rounds.quorum is 2: lower that, or have more clients"
    )
