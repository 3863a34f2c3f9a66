"""What `docker compose up` runs, run here: kit, broker, coordinator, monitor and demo's clients.

Without Docker: see tests/images.py for how, and for what is not looked at.
"""

import json
import signal
import stat
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath

import pytest
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt import revocations
from tests import images
from tests.brokers import is_required
from tests.images import Stack
from tests.own_broker import free_port
from tests.programs import Program, wait_until
from tests.round_monitor.dashboards import address

DEMO = ("demo-1", "demo-2", "demo-3")

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return images.wheel(images.build_context(folder / "context"), folder / "out")


@pytest.fixture
def stack(wheel_file: Path, tmp_path: Path) -> Stack:
    """With a kit that was made."""
    reason = images.why_no_sandbox() or ("" if find_mosquitto() else "Mosquitto is not installed")
    if reason and is_required("sandbox"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    ports = {number: str(free_port()) for number in ("8883", "8884", "8710")}
    moved = {**ports, r"0\.0\.0\.0": "127.0.0.1", "pause_s = 10": "pause_s = 0"}
    made = Stack(tmp_path, wheel_file, moved)
    prepared = made.prepare()
    assert prepared.returncode == 0, prepared.stderr
    assert "made a kit" in prepared.stdout
    return made


@contextmanager
def _up(stack: Stack, *more: str) -> Iterator[dict[str, Program]]:
    """Each when those that it depends on are well."""
    with ExitStack() as running:
        programs = {}
        for service in ("broker", "coordinator", *more):
            programs[service] = running.enter_context(stack.up(service))
            if service == "broker":
                stack.until_healthy("broker")
        yield programs


def _records(stack: Stack) -> list[history.Record]:
    found = [*stack.volume("runs").glob("*/history.jsonl")]
    assert len(found) <= 1, "one run, gone on with"
    return history.read(found[0]) if found else []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_demo_trains_and_goes_on_after_a_restart(stack: Stack) -> None:
    with _up(stack, "monitor", *DEMO) as programs:
        stack.until_healthy("coordinator")
        # Two begin, as the federation says; the third comes into a later round.
        wait_until(lambda: any(one.answered == [*DEMO] for one in _records(stack)))
        wait_until(lambda: "round 1" in programs["monitor"].said)
    before = _records(stack)
    assert {record.outcome for record in before} == {"averaged"}, before
    assert programs["coordinator"].process.returncode == 130, programs["coordinator"].log

    # `docker compose up` again: `kit` runs again too.
    kit = _files(stack.volume("kit"))
    assert "left as it is" in stack.prepare().stdout
    assert _files(stack.volume("kit")) == kit
    with _up(stack, *DEMO):
        wait_until(lambda: len(_records(stack)) >= len(before) + 2)
    assert _records(stack)[: len(before)] == before


def test_the_dashboard_brings_a_browser_to_the_broker(stack: Stack) -> None:
    with _up(stack, "dashboard") as programs:
        stack.until_healthy("coordinator")
        url, _, token = address(programs["dashboard"]).partition("#token=")
        assert url == f"http://127.0.0.1:{stack.moved['8710']}/"
        asked = {"Authorization": f"Bearer {token}"}
        told = urllib.request.urlopen(urllib.request.Request(f"{url}connection.json", None, asked))
        how = json.load(told)
        assert how["username"] == "monitor@monitor"
        # As the page does: over the relay, TLS and all, to the broker's own answer.
        relay, origin = f"ws{url.removeprefix('http')}broker?{token}", Origin(url.rstrip("/"))
        with connect(relay, origin=origin, subprotocols=[Subprotocol("mqtt")]) as broker:
            broker.send(_log_in(how["username"], how["password"]))
            # CONNACK, 3.1.1: no session, and no reason against it.
            assert broker.recv(timeout=60) == b"\x20\x02\x00\x00"


def _log_in(*account: str) -> bytes:
    """MQTT 3.1.1, 3.1: CONNECT with name and password, a clean session, 60 s of keep-alive."""
    texts = [one.encode() for one in ("watch-1", *account)]
    fields = b"".join(len(one).to_bytes(2, "big") + one for one in texts)
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + fields
    assert len(body) < 128
    return bytes([0x10, len(body)]) + body


def test_a_coordinator_is_well_when_it_answers_and_only_then(stack: Stack) -> None:
    with _up(stack) as programs:
        stack.until_healthy("coordinator")
        stack.tell(programs["coordinator"].process, signal.SIGSTOP)
        hangs = stack.health("coordinator")
        assert hangs.returncode == 1 and "no coordinator answers" in hangs.stderr
        stack.tell(programs["coordinator"].process, signal.SIGCONT)
        stack.until_healthy("coordinator")
    assert stack.health("broker").returncode != 0
    gone = stack.health("coordinator")
    assert gone.returncode == 1 and "cannot reach" in gone.stderr


def test_a_device_is_enrolled_let_in_and_ended(stack: Stack) -> None:
    with _up(stack) as programs:
        enrolled = stack.run("kit", "enroll", "pi-3")
        assert enrolled.returncode == 0, enrolled.stderr
        # One line to type, which is that of containers.
        assert enrolled.stdout.count("kill -HUP") == 1
        assert "docker compose exec broker kill -HUP 1" in enrolled.stdout
        again = stack.run("kit", "enroll", "pi-3")
        assert again.returncode == 2 and "enrolled already" in again.stderr
        # As `docker compose cp` takes it out. A client of the demo plays the device.
        file = stack.volume("kit") / "kit" / "accounts" / "pi-3.toml"
        taken = stack.volume("demo-accounts") / "pi-3.toml"
        taken.write_bytes(file.read_bytes())
        taken.chmod(0o600)
        said = images.compose()["services"]["demo-1"]["command"]
        words = [word.replace("demo-1", "pi-3") for word in said]
        assert not _is_let_in(stack, words)
        _hang_up(stack, programs["broker"])
        wait_until(lambda: _is_let_in(stack, words))
        assert not _revoked(stack)
        ended = stack.run("kit", "revoke", "pi-3")
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("kill -HUP") == 1
        assert "docker compose exec broker kill -HUP 1" in ended.stdout
        assert "--revoked" not in ended.stdout
        # Where the coordinator, which began with it, looks each time.
        assert len(_revoked(stack)) == 1
        _hang_up(stack, programs["broker"])
        wait_until(lambda: not _is_let_in(stack, words))


def _revoked(stack: Stack) -> frozenset[str]:
    """Keys that the coordinator takes no answers of, from where its federation.toml says."""
    said = tomllib.loads((images.ROOT / "examples/compose/federation.toml").read_text())
    place = PurePath(said["broker"]["revoked"])
    mounts = [mount.split(":") for mount in images.compose()["services"]["coordinator"]["volumes"]]
    (volume,) = [mount[0] for mount in mounts if mount[1] == str(place.parent)]
    return revocations.read(stack.volume(volume) / place.name).keys


def _hang_up(stack: Stack, broker: Program) -> None:
    """`docker compose exec broker kill -HUP 1`: it reads its files again, in a moment."""
    stack.tell(broker.process, signal.SIGHUP)


def _is_let_in(stack: Stack, words: list[str]) -> bool:
    with stack.up("demo-1", *words) as device:
        before = len(device.log)
        wait_until(lambda: "connected" in device.log[before:] or device.process.poll() is not None)
        if device.process.poll() is None:
            return True
        assert device.process.returncode == 3, device.log
        return False


def test_nobody_holds_anothers_keys(stack: Stack) -> None:
    keys = {
        "ca.key",
        "federation.key",
        "coordinator.toml",
        "monitor.toml",
        "operator.toml",
        *(f"{name}.toml" for name in DEMO),
    }
    services = images.compose()["services"]
    held = {
        service: keys
        & {
            path.name
            for mount in said.get("volumes", ())
            if not mount.startswith(".")
            for path in stack.volume(mount.split(":")[0]).rglob("*")
        }
        for service, said in services.items()
    }
    demo = {f"{name}.toml" for name in DEMO}
    assert held.pop("kit") == keys
    assert held == {
        "broker": set(),
        "coordinator": {"coordinator.toml"},
        "monitor": {"monitor.toml"},
        "dashboard": {"monitor.toml"},
        "operator": {"operator.toml"},
        **dict.fromkeys(DEMO, demo),
    }
    # Also under other names: coordinators sign by it, and their credentials hold it.
    federation_key = next(stack.volume("kit").rglob("federation.key")).read_bytes().strip()
    holding = {
        path.relative_to(stack.folder / "volumes").parts[0]
        for path in stack.folder.joinpath("volumes").rglob("*")
        if path.is_file() and federation_key in path.read_bytes()
    }
    assert holding == {"kit", "coordinator-account"}
    for path in stack.folder.joinpath("volumes").rglob("*"):
        is_secret = path.suffix == ".key" or path.name in {*keys, "passwords"}
        if is_secret:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_words_that_come_too_late_are_told(stack: Stack) -> None:
    kit = _files(stack.volume("kit"))
    late = stack.prepare("--host=broker.example", "--enroll=demo-9")
    assert late.returncode == 0 and "left as it is" in late.stdout
    assert "hosts is ('localhost', 'broker'), and not" in late.stderr
    assert "'broker.example'" in late.stderr and "docker compose down --volumes" in late.stderr
    assert "docker compose run --rm kit enroll demo-9" in late.stderr
    other = stack.prepare("--federation=other")
    assert other.returncode == 2
    assert "federation is 'compose', and not 'other'" in other.stderr
    assert _files(stack.volume("kit")) == kit


def test_who_is_enrolled_again_is_handed_the_new_account(stack: Stack) -> None:
    old = _files(stack.volume("demo-accounts"))
    for command in ("revoke", "enroll"):
        assert stack.run("kit", command, "demo-1").returncode == 0
    new = _files(stack.volume("demo-accounts"))
    made = stack.volume("kit") / "kit" / "accounts" / "demo-1.toml"
    assert new == {**old, "demo-1.toml": made.read_bytes()} and new != old


def test_the_kit_s_help_asks_for_no_folder(stack: Stack) -> None:
    for command in ("prepare", "enroll", "revoke"):
        told = stack.run("kit", command, "--help")
        assert told.returncode == 0
        usage = told.stdout.partition("\n\n")[0]
        assert " DIR" not in usage and "folder" not in usage, usage


def test_a_kit_that_was_interrupted_begins_again(stack: Stack) -> None:
    made = stack.volume("kit") / "kit"
    made.rename(made.with_name("making"))
    again = stack.prepare()
    assert again.returncode == 0, again.stderr
    assert not again.stderr
    assert [path.name for path in stack.volume("kit").iterdir()] == ["kit"]
    # Who was handed a file of the other kit has one of this now.
    handed = _files(stack.volume("demo-accounts"))
    assert handed == {
        f"{name}.toml": (made / "accounts" / f"{name}.toml").read_bytes() for name in DEMO
    }
