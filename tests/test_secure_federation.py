"""A federation as the security page says: a kit, Mosquitto from it, and programs with credentials.

And every way in which the broker, or an account, is not what it should be.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from broker_config import kit
from broker_config.certificates import Authority, Pair
from broker_config.kit import Kit, Login
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt import credentials
from fedmqtt.credentials import Credentials
from tests.broker_config.kit_broker import FEDERATION, KitBroker, look_again, plan, running_kit
from tests.patience import ENDS_WITHIN_S
from tests.programs import running

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_NAMES = ("ann", "bob", "cat")
_LINEAR = "learning_tasks.linear"
_LOGINS: tuple[Login, ...] = ("password", "certificate")
_DENIED = 3


def _kit(folder: Path, login: Login) -> Kit:
    made = kit.create(folder, plan(folder, login))
    for name in _NAMES:
        made.enroll(name)
    return made


@pytest.fixture(params=_LOGINS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KitBroker]:
    folder = tmp_path / "kit"
    with running_kit(_kit(folder, request.param), folder) as running_broker:
        yield running_broker


def _client(folder: Path, file: Path, *words: str) -> tuple[str, ...]:
    state = str(folder / f"state-{file.stem}")
    return (
        *("fedmqtt", "client", "--credentials", str(file), "--task", _LINEAR),
        *("--state", state, "--set", "link.retry_max_s=0.5", *words),
    )


def _file(broker: KitBroker, name: str) -> Path:
    return broker.folder / "accounts" / f"{name}.toml"


def _config(folder: Path) -> Path:
    path = folder / "federation.toml"
    path.write_text(
        f'name = "{FEDERATION}"\ntask = "{_LINEAR}"\n'
        "[rounds]\ncount = 2\ncohort = 3\nquorum = 3\nclients_min = 3\nover_selection = 1.0\n"
        "deadline_s = 100\n"
    )
    return path


def test_three_clients_learn_together_and_somebody_watches(
    broker: KitBroker, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("--credentials", str(_file(broker, "coordinator")), "--run", str(run))
    with ExitStack() as stack:
        for name in _NAMES:
            stack.enter_context(running(tmp_path, *_client(tmp_path, _file(broker, name))))
        coordinator = stack.enter_context(
            running(tmp_path, "fedmqtt", "coordinator", str(_config(tmp_path)), *words)
        )
        assert coordinator.wait() == 0, coordinator.log
        watch = _run("watch", "--credentials", str(_file(broker, "monitor")), "--once")
    assert watch.returncode == 0, watch.stderr
    assert FEDERATION in watch.stdout
    records = history.read(run / "history.jsonl")
    assert [record.outcome for record in records] == ["averaged", "averaged", "evaluated"]
    # Where it logs in from is in no folder that is shown around.
    kept = (run / "federation.toml").read_text()
    assert (
        broker.account("coordinator").password not in kept
        or not broker.account("coordinator").password
    )


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedmqtt", *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def _changed(at: KitBroker, name: str, folder: Path, **changes: str) -> Path:
    path = folder / f"{name}.toml"
    changed: Credentials = msgspec.structs.replace(at.account(name), **changes)
    path.write_text(credentials.render(changed))
    path.chmod(0o600)
    return path


def _is_denied(words: tuple[str, ...], because: str) -> None:
    ended = _run(*words)
    assert ended.returncode == _DENIED, ended.stderr
    *_, said = ended.stderr.strip().splitlines()
    assert because in said, ended.stderr
    assert "Traceback" not in ended.stderr


def _programs(broker: KitBroker, folder: Path, **changes: str) -> dict[str, tuple[str, ...]]:
    """Each program, with credentials that are changed like this."""
    coordinator = _changed(broker, "coordinator", folder, **changes)
    monitor = _changed(broker, "monitor", folder, **changes)
    run = ("--credentials", str(coordinator), "--run", str(folder / "run"))
    return {
        "client": _client(folder, _changed(broker, "ann", folder, **changes))[1:],
        "coordinator": ("coordinator", str(_config(folder)), *run),
        "watch": ("watch", "--credentials", str(monitor), "--once"),
        "watch live": ("watch", "--credentials", str(monitor), "--plain"),
    }


def test_a_broker_of_another_ca_is_not_believed(broker: KitBroker, tmp_path: Path) -> None:
    other = Authority.new("other").pair.certificate
    for words in _programs(broker, tmp_path, ca=other).values():
        _is_denied(words, "is not the broker that it should be: ")


def test_a_broker_of_another_host_name_is_not_believed(broker: KitBroker, tmp_path: Path) -> None:
    for name in ("ann", "coordinator", "monitor"):
        port = broker.account(name).broker.rpartition(":")[2]
        path = _changed(broker, name, tmp_path, broker=f"mqtts://127.0.0.1:{port}")
        command = {
            "ann": _client(tmp_path, path)[1:],
            "coordinator": (
                *("coordinator", str(_config(tmp_path)), "--credentials", str(path)),
                *("--run", str(tmp_path / "run")),
            ),
            "monitor": ("watch", "--credentials", str(path), "--once"),
        }[name]
        _is_denied(command, "IP address mismatch")


def test_a_broker_whose_certificate_has_expired_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = _kit(folder, "password")
    expired = Authority(
        Pair((folder / "ca/ca.pem").read_text(), (folder / "ca/ca.key").read_text())
    ).broker(["localhost"], days=0)
    (folder / "broker" / "broker.pem").write_text(expired.certificate)
    (folder / "broker" / "broker.key").write_text(expired.key)
    with running_kit(made, folder) as broker:
        for words in _programs(broker, tmp_path).values():
            _is_denied(words, "certificate has expired")


def test_a_wrong_password_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    with running_kit(_kit(folder, "password"), folder) as broker:
        for words in _programs(broker, tmp_path, password="wrong").values():
            _is_denied(words, "does not let us in: Not authorized")


def test_who_is_revoked_is_told(broker: KitBroker, tmp_path: Path) -> None:
    programs = _programs(broker, tmp_path)
    for name in ("ann", "coordinator", "monitor"):
        broker.kit.revoke(name)
    look_again(broker)
    for words in programs.values():
        _is_denied(words, "does not let us in: ")


def test_a_device_whose_certificate_has_expired_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = _kit(folder, "certificate")
    ca = Pair((folder / "ca/ca.pem").read_text(), (folder / "ca/ca.key").read_text())
    with running_kit(made, folder) as broker:
        pair = Authority(ca).account("ann", days=0)
        path = _changed(broker, "ann", tmp_path, certificate=pair.certificate, key=pair.key)
        _is_denied(_client(tmp_path, path)[1:], "does not let us in: certificate expired")


def test_a_client_that_was_let_in_gives_a_broker_some_time(tmp_path: Path) -> None:
    """Its files may be half in place; a fleet must not give up for that."""
    folder = tmp_path / "kit"
    with (
        running_kit(_kit(folder, "password"), folder) as broker,
        running(tmp_path, *_client(tmp_path, _file(broker, "ann"))) as client,
    ):
        client.wait_for("connected")
        broker.kit.revoke("ann")
        look_again(broker)
        assert client.wait() == _DENIED
        *before, said = client.log.strip().splitlines()
        assert said.startswith("fedmqtt client: ") and "does not let us in" in said
        assert any("does not let us in" in line and "next try in" in line for line in before)


@pytest.mark.parametrize(
    "words",
    [
        ("client", "--id", "ann", "--task", _LINEAR, "--federation", "demo", "--broker"),
        ("watch", "--federation", "demo", "--once", "--broker"),
    ],
    ids=lambda words: words[0],
)
def test_unencrypted_is_for_this_machine_alone(words: tuple[str, ...], tmp_path: Path) -> None:
    refused = _run(*words, "mqtt://broker.example")
    assert refused.returncode == 2
    assert "mqtt://broker.example:1883 is not encrypted" in refused.stderr
    assert "--insecure" in refused.stderr


def test_a_coordinator_too_refuses_what_is_not_encrypted(tmp_path: Path) -> None:
    words = ("coordinator", str(_config(tmp_path)), "--broker", "mqtt://192.168.1.7")
    refused = _run(*words)
    assert refused.returncode == 2
    assert "is not encrypted" in refused.stderr
    assert _run(*words, "--print-config").returncode == 0


def test_credentials_are_for_one_federation_and_one_device(
    broker: KitBroker, tmp_path: Path
) -> None:
    file = _file(broker, "ann")
    other = _run(*_client(tmp_path, file, "--id", "bob")[1:])
    assert other.returncode == 2
    assert f"id is 'bob', and {file} is for 'ann'" in other.stderr
    role = _run(*_client(tmp_path, _file(broker, "coordinator"))[1:])
    assert role.returncode == 2
    assert "are a coordinator's, and this program needs a device's" in role.stderr
    assert role.stderr.startswith("fedmqtt client: ")
    watch = _run("watch", "--credentials", str(file), "--once")
    assert watch.returncode == 2
    assert watch.stderr.startswith(f"fedmqtt watch: credentials {file} are a device's, ")
    watch = _run("watch", "--credentials", str(_file(broker, "monitor")), "--federation", "x")
    assert "is for 'demo'" in watch.stderr
    assert watch.returncode == 2


@pytest.mark.parametrize("changes", [{"federation": "other"}, {"id": "dan"}], ids=str)
def test_credentials_under_another_name_end_the_program(
    broker: KitBroker, tmp_path: Path, changes: dict[str, str]
) -> None:
    """It would run, and nobody would hear it."""
    coordinator = _changed(broker, "coordinator", tmp_path, **changes)
    ann = _changed(broker, "ann", tmp_path, **changes)
    words = (str(_config(tmp_path)), "--set", f"name={changes.get('federation', FEDERATION)}")
    for program, file in {
        ("client", *_client(tmp_path, ann)[2:]): ann,
        ("coordinator", *words, "--credentials", str(coordinator)): coordinator,
        ("doctor", "--credentials", str(ann)): ann,
    }.items():
        ended = _run(*program)
        assert ended.returncode == 2
        (said,) = ended.stderr.strip().splitlines()
        assert said.startswith(
            f"fedmqtt {program[0]}: credentials {file}: federation, id and keys do not fit together"
        )
