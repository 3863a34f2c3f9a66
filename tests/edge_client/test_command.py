"""`fedmqtt client`, as its owner in a terminal and a service manager meet it."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.outbox import Outbox
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Update, task_name
from fedmqtt.topics import RoundId
from tests.edge_client.as_owner import as_owner
from tests.edge_client.client_process import client, command, flags
from tests.edge_client.coordinator_side import RUN, Coordinator
from tests.edge_client.jobs import LINEAR, model_file
from tests.fedmqtt.own_brokers import KINDS, free_port, own_broker
from tests.patience import WITHIN_S

NEEDED = {"broker": "mqtt://localhost:1", "federation": "home", "id": "pi-3", "task": LINEAR}


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, encoding="utf-8", check=False, timeout=WITHIN_S
    )


@pytest.fixture
def coordinator(
    loop: EventLoop, broker: RunningBroker, federation_name: str
) -> Iterator[Coordinator]:
    coordinator = Coordinator(loop, broker.url, federation_name)
    yield coordinator
    coordinator.link.close()


# Its life


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_says_goodbye_and_succeeds(
    coordinator: Coordinator,
    broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    with client(broker.url, federation_name, tmp_path) as ann:
        born = coordinator.presence("ann", online=True)
        assert ann.end_by(number) == 0
        assert coordinator.presence("ann", online=False).session == born.session
        assert ann.process.stderr is not None
        rest = ann.process.stderr.read()
        assert "lost" not in rest
        assert "Traceback" not in rest


@pytest.mark.broker
def test_who_is_killed_leaves_its_will(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with client(broker.url, federation_name, tmp_path) as ann:
        born = coordinator.presence("ann", online=True)
        assert ann.end_by(signal.SIGKILL) == -signal.SIGKILL
        assert coordinator.presence("ann", online=False).session == born.session


@pytest.mark.broker
def test_what_a_stopped_client_owes_stays_in_its_outbox(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with client(broker.url, federation_name, tmp_path) as ann:
        coordinator.presence("ann", online=True)
        model = coordinator.publish_model(model_file())
        coordinator.offer(1, model, task_name(LINEAR))
        assert isinstance(coordinator.answer("ann"), Update)
        assert ann.end_by(signal.SIGINT) == 0
        assert [answer.round for answer in Outbox(tmp_path / "outbox").answers()[0]] == [1]


@pytest.mark.broker
@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_for_a_broker_and_says_so(tmp_path: Path, federation_name: str, kind: str) -> None:
    port = free_port()
    with client(f"mqtt://127.0.0.1:{port}", federation_name, tmp_path / "state") as ann:
        line = ann.says("cannot reach")
        assert f"cannot reach mqtt://127.0.0.1:{port}: Connection refused; next try" in line
        with own_broker(kind, tmp_path, port):
            ann.says("connected (MQTT")
            assert ann.end_by(signal.SIGINT) == 0


@pytest.mark.broker
def test_its_log_may_be_json(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with client(broker.url, federation_name, tmp_path, "--json-logs") as ann:
        line = json.loads(ann.says("connected"))
        assert (line["level"], line["logger"]) == ("info", "client.ann")
        ann.end_by(signal.SIGINT)


@pytest.mark.broker
def test_it_never_loads_what_only_its_trainer_needs(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with client(broker.url, federation_name, tmp_path) as ann:
        coordinator.presence("ann", online=True)
        coordinator.offer(1, coordinator.publish_model(model_file()), task_name(LINEAR))
        assert isinstance(coordinator.answer("ann"), Update)
        maps = Path(f"/proc/{ann.process.pid}/maps").read_text()
    assert "msgspec" in maps
    assert "numpy" not in maps
    assert "torch" not in maps


# One folder, one program; one name, one device


@pytest.mark.broker
def test_a_second_client_on_the_same_folder_is_refused(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    words = flags(**NEEDED | {"broker": broker.url}, state=str(tmp_path))
    with client(broker.url, federation_name, tmp_path) as first:
        coordinator.presence("ann", online=True)
        assert _mistake(*words) == (
            f"state folder {tmp_path} is in use by process {first.process.pid};"
            " give each client a folder of its own with --state"
        )
        first.end_by(signal.SIGKILL)
    with client(broker.url, federation_name, tmp_path) as following:
        following.says("connected")


@pytest.mark.broker
def test_the_owners_of_two_devices_of_one_name_are_told(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    with (
        client(url, federation_name, tmp_path / "first") as first,
        client(url, federation_name, tmp_path / "second") as second,
    ):
        for each in (first, second):
            each.says("another client calls itself 'ann': give each device an id of its own")


# Its settings


def test_the_settings_it_prints_are_those_it_reads(tmp_path: Path) -> None:
    words = flags(**NEEDED, data='C:\\odd "data"', state="Zustände")
    words += ["--set", "conditions.charging=true", "--set", 'purposes=["evaluate"]']
    first = _run(*words, "--print-config")
    assert (first.returncode, first.stderr) == (0, "")
    values = tomllib.loads(first.stdout)
    assert (values["data"], values["state"]) == ('C:\\odd "data"', "Zustände")
    assert (values["conditions"]["charging"], values["purposes"]) == (True, ["evaluate"])
    path = tmp_path / "pi.toml"
    path.write_text(first.stdout, encoding="utf-8")
    assert _run(str(path), "--print-config").stdout == first.stdout
    # The command line comes after the file.
    other = _run(str(path), "--id", "pi-4", "--print-config").stdout
    assert tomllib.loads(other) == values | {"id": "pi-4"}


def test_the_settings_it_prints_hold_no_password() -> None:
    told = _run(*flags(**NEEDED | {"broker": 'mqtt://ann:hun"ter2@pi'}), "--print-config")
    assert told.returncode == 0 and "ter2" not in told.stdout
    assert tomllib.loads(told.stdout)["broker"] == "mqtt://ann@pi:1883"


def _mistake(*words: str) -> str:
    """What it says to these words, without its name: one line, and nothing was started."""
    run = _run(*words)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("fedmqtt client: ")
    return line.removeprefix("fedmqtt client: ")


def test_each_mistake_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "pi.toml"
    needed = flags(**NEEDED)
    assert _mistake() == (
        "the command line: missing key broker (mqtt://[user:password@]host[:port][,host[:port]...]):"
        " give it in a file, or as --set broker=..."
    )
    assert _mistake(str(file)) == f"{file}: no such file"
    file.write_text('broker = "mqtt://b"\nfederation = \n')
    assert _mistake(str(file)) == f"{file}: Invalid value (at line 2, column 14)"
    file.write_text("[conditions]\nplugged = true\n")
    assert _mistake(str(file), *needed) == (
        f"{file}: unknown key conditions.plugged; choose from:"
        " charging, battery_min, load_max, temperature_max, unmetered, metered_links, check_s"
    )
    assert _mistake(*needed, "--set", 'purposes=["cook"]') == (
        "the command line: purposes cannot be 'cook'; choose from: describe, evaluate, train"
    )
    # Of letters and signs that are allowed, too: what the first may be is told.
    for name in ("a/b", "pi\n", "__proto__"):
        assert _mistake(*needed, "--id", name) == (
            "the command line: id: not allowed (This device's name: 1 to 64 of A-Z a-z 0-9 . _ -,"
            " the first a letter or a digit)"
        )
    assert _mistake(*needed, "--set", "link.session_expiry_s=99999999999").startswith(
        "the command line: link.session_expiry_s: expected a whole number <= 4294967295"
    )
    assert _mistake(*needed, "--broker", "localhost").startswith(
        "broker 'localhost': expected mqtt://host[:port]"
    )
    file.write_text("")
    assert _mistake(*needed, "--state", str(file)) == (
        f"state folder {file}: File exists; choose another with --state"
    )
    tls = flags(**NEEDED | {"broker": "mqtts://b"}, state=str(tmp_path / "state"))
    assert _mistake(*tls, "--set", "link.tls_ca=none.pem") == (
        "tls_ca 'none.pem' is no file of certificates: No such file or directory"
    )


@pytest.mark.parametrize(
    ("asks", "shown", "only_trains"),
    [
        ("at_least=trusted", "privacy.at_least is 'trusted'", True),
        ("epsilon_max=4", "privacy.epsilon_max is 4.0", True),
        ("noise_min=1", "privacy.noise_min is 1.0", False),
    ],
)
def test_who_asks_for_masks_that_it_could_never_have_is_told_at_once(
    tmp_path: Path, asks: str, shown: str, only_trains: bool
) -> None:
    words = (*flags(**NEEDED, state=str(tmp_path / "state")), "--set", f"privacy.{asks}")
    knows_nobody = (
        f"{shown}, and this client knows no keyholder: give it the --credentials of a kit where"
        " some are enrolled"
    )
    assert _mistake(*words) == knows_nobody
    measures = _mistake(*words, "--set", 'purposes=["evaluate"]')
    assert measures == (
        f"{shown}, with which a client only trains, and purposes are evaluate: that leaves nothing"
        " to do"
        if only_trains
        else knows_nobody
    )
    assert not (tmp_path / "state").exists()


def test_how_answers_must_be_hidden_is_said_on_the_command_line_too() -> None:
    assert _mistake(*flags(**NEEDED), "--set", "privacy.at_least=most") == (
        "the command line: privacy.at_least cannot be 'most'; choose from:"
        ' "", committee, keyholders, plain, trusted'
    )
    told = _run(*flags(**NEEDED), "--at-least", "keyholders", "--print-config")
    assert tomllib.loads(told.stdout)["privacy"]["at_least"] == "keyholders"
    assert tomllib.loads(_run(*flags(**NEEDED), "--print-config").stdout)["privacy"] == {
        "at_least": "",
        "experiments": [],
        "floor_min": 0,
        "tolerated_min": 0,
        "mixed_rounds": "",
        "change_max": 0.0,
        "norm_max": 0.0,
        "epsilon_max": 0.0,
        "delta": 1e-5,
        "noise_min": 0.0,
        "pin_model": False,
        "accept_model": "",
    }


def test_a_model_that_is_right_is_named_on_the_command_line() -> None:
    told = _run(*flags(**NEEDED), "--accept-model", "0a784345a3eedf1f", "--print-config")
    assert tomllib.loads(told.stdout)["privacy"]["accept_model"] == "0a784345a3eedf1f"


@pytest.mark.parametrize("name", ["outbox", "models"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert _mistake(*flags(**NEEDED, state=str(tmp_path))) == (
        f"{tmp_path / name}: File exists; mend that, or choose another folder with --state"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="root's powers are dropped as Linux has them")
@pytest.mark.parametrize("name", ["outbox", "models"])
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, name: str
) -> None:
    Outbox(tmp_path / "outbox").put(RUN, RoundId(7), [b"owed"])
    (tmp_path / "models").mkdir()
    (tmp_path / name).chmod(0o300)
    try:
        run = subprocess.run(
            as_owner(*command(*flags(**NEEDED, state=str(tmp_path)))),
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=WITHIN_S,
        )
    finally:
        (tmp_path / name).chmod(0o700)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == (
        f"fedmqtt client: {tmp_path / name}: Permission denied;"
        " mend that, or choose another folder with --state\n"
    )
    assert len(Outbox(tmp_path / "outbox").answers()[0]) == 1


def test_a_certificate_for_a_broker_without_encryption_is_refused(tmp_path: Path) -> None:
    words = flags(**NEEDED, state=str(tmp_path))
    assert _mistake(*words, "--set", "link.tls_ca=ca.pem") == (
        "link.tls_ca is given, and mqtt://localhost:1 is not encrypted:"
        " the broker's certificate is looked at with mqtts:// alone"
    )


def test_an_unknown_flag_is_named() -> None:
    run = _run("--brokr", "mqtt://b")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("fedmqtt client: error: unrecognized arguments")


def test_a_device_that_could_not_train_says_so_at_once(tmp_path: Path) -> None:
    code = """
import sys, importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "numpy" else found(name, *more)
from fedmqtt.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    words = ["client", *flags(**NEEDED, state=str(tmp_path))]
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 2
    assert run.stderr == ("fedmqtt client: training needs numpy: pip install 'fedmqtt[train]'\n")
