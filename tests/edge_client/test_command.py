"""`fedmqtt client`, as its owner in a terminal and a service manager meet it."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.outbox import Outbox
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Update, encode, task_name
from fedmqtt.topics import Digest, RoundId
from tests.edge_client.coordinator_side import Coordinator
from tests.edge_client.jobs import LINEAR, model_file
from tests.fedmqtt.own_brokers import KINDS, free_port, own_broker
from tests.fedmqtt.peer import WITHIN_S, until

NEEDED = {"broker": "mqtt://localhost:1", "federation": "home", "id": "pi-3", "task": LINEAR}


def _flags(**given: str) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedmqtt", "client", *words]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*words), capture_output=True, encoding="utf-8", check=False, timeout=WITHIN_S
    )


class Client:
    """The real process; what it logs is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self, words: str) -> str:
        """The next line of its log with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return line
        pytest.fail(f"it ended without saying {words!r}")

    def end_by(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)


@contextmanager
def _client(url: str, federation: str, state: Path, *more: str) -> Iterator[Client]:
    words = _flags(broker=url, federation=federation, id="ann", task=LINEAR, state=str(state))
    words += ["--set", "link.will_delay_s=0", "--set", "link.retry_max_s=0.2", *more]
    with subprocess.Popen(_command(*words), stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield Client(process)
        finally:
            process.kill()


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
    with _client(broker.url, federation_name, tmp_path) as client:
        born = coordinator.presence("ann", online=True)
        assert client.end_by(number) == 0
        assert coordinator.presence("ann", online=False).session == born.session
        assert client.process.stderr is not None
        rest = client.process.stderr.read()
        assert "lost" not in rest
        assert "Traceback" not in rest


@pytest.mark.broker
def test_who_is_killed_leaves_its_will(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with _client(broker.url, federation_name, tmp_path) as client:
        born = coordinator.presence("ann", online=True)
        assert client.end_by(signal.SIGKILL) == -signal.SIGKILL
        assert coordinator.presence("ann", online=False).session == born.session


@pytest.mark.broker
def test_what_a_stopped_client_owes_stays_in_its_outbox(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with _client(broker.url, federation_name, tmp_path) as client:
        coordinator.presence("ann", online=True)
        model = coordinator.publish_model(model_file())
        coordinator.offer(1, model, task_name(LINEAR))
        assert isinstance(coordinator.answer("ann"), Update)
        assert client.end_by(signal.SIGINT) == 0
        assert [answer.round for answer in Outbox(tmp_path / "outbox").answers()[0]] == [1]


@pytest.mark.broker
def test_an_answer_is_delivered_after_a_kill(
    loop: EventLoop,
    coordinator: Coordinator,
    broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path / "outbox")
    update = Update(
        round=RoundId(7),
        base=Digest("b" * 64),
        fingerprint="f",
        sample_count=3,
        codec="full",
        payload=memoryview(b"learned"),
    )
    outbox.put(RoundId(7), [encode(update)])
    with _client(broker.url, federation_name, tmp_path) as client:
        assert coordinator.answer("ann") == update
        client.end_by(signal.SIGKILL)
    with _client(broker.url, federation_name, tmp_path):
        assert coordinator.answer("ann") == update
        coordinator.receipt("ann", 7)
        until(loop, lambda: not any(outbox.folder.iterdir()), "an empty outbox")


@pytest.mark.broker
@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_for_a_broker_and_says_so(tmp_path: Path, federation_name: str, kind: str) -> None:
    port = free_port()
    with _client(f"mqtt://127.0.0.1:{port}", federation_name, tmp_path / "state") as client:
        line = client.says("cannot reach")
        assert f"cannot reach mqtt://127.0.0.1:{port}: Connection refused; next try" in line
        with own_broker(kind, tmp_path, port):
            client.says("connected (MQTT")
            assert client.end_by(signal.SIGINT) == 0


@pytest.mark.broker
def test_its_log_may_be_json(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with _client(broker.url, federation_name, tmp_path, "--json-logs") as client:
        line = json.loads(client.says("connected"))
        assert (line["level"], line["logger"]) == ("info", "client.ann")
        client.end_by(signal.SIGINT)


@pytest.mark.broker
def test_it_never_loads_what_only_its_trainer_needs(
    coordinator: Coordinator, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    with _client(broker.url, federation_name, tmp_path) as client:
        coordinator.presence("ann", online=True)
        coordinator.offer(1, coordinator.publish_model(model_file()), task_name(LINEAR))
        assert isinstance(coordinator.answer("ann"), Update)
        maps = Path(f"/proc/{client.process.pid}/maps").read_text()
    assert "msgspec" in maps
    assert "numpy" not in maps
    assert "torch" not in maps


# Its settings


def test_the_settings_it_prints_are_those_it_reads(tmp_path: Path) -> None:
    words = _flags(**NEEDED, data='C:\\odd "data"', state="Zustände")
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
    needed = _flags(**NEEDED)
    assert _mistake() == (
        "the command line: missing key broker (mqtt://[user:password@]host[:port]):"
        " give it in a file, or as --set broker=..."
    )
    assert _mistake(str(file)) == f"{file}: no such file"
    file.write_text('broker = "mqtt://b"\nfederation = \n')
    assert _mistake(str(file)) == f"{file}: Invalid value (at line 2, column 14)"
    file.write_text("[conditions]\nplugged = true\n")
    assert _mistake(str(file), *needed) == (
        f"{file}: unknown key conditions.plugged; choose from:"
        " charging, battery_min, load_max, temperature_max, check_s"
    )
    assert _mistake(*needed, "--set", 'purposes=["cook"]') == (
        "the command line: purposes cannot be 'cook'; choose from: evaluate, train"
    )
    assert _mistake(*needed, "--id", "a/b") == (
        "the command line: id: not allowed (This device's name: A-Z a-z 0-9 . _ -, up to 64)"
    )
    assert _mistake(*needed, "--id", "pi\n") == (
        "the command line: id: not allowed (This device's name: A-Z a-z 0-9 . _ -, up to 64)"
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
    tls = _flags(**NEEDED | {"broker": "mqtts://b"}, state=str(tmp_path / "state"))
    assert _mistake(*tls, "--set", "link.tls_ca=none.pem") == (
        "tls_ca 'none.pem' is no file of certificates: No such file or directory"
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
    words = ["client", *_flags(**NEEDED, state=str(tmp_path))]
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 2
    assert run.stderr == ("fedmqtt client: training needs numpy: pip install 'fedmqtt[train]'\n")
