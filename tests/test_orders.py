"""Operators' orders with real programs: a kit, Mosquitto from it, a coordinator and its clients.

And everybody else's: refused by the broker, or, where somebody has the broker in hand, by the
coordinator.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from coordinator.models import checkpoint
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import credentials
from fedmqtt.command_line import EXIT_DENIED, EXIT_USAGE
from fedmqtt.messages import Ask, Order, encode
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.mqtt_probe import Got, Probe, ProbeOptions
from fedmqtt.topics import ClientId, OrderOf, Topics
from tests.broker_config.kit_broker import FEDERATION, KitBroker, plan, running_kit
from tests.patience import ENDS_WITHIN_S
from tests.programs import Program, running, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_NAMES = ("ann", "bob", "cat")
_LINEAR = "learning_tasks.linear"
_ORDERS = Topics(FEDERATION).path(OrderOf(ClientId("operator")))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KitBroker]:
    folder = tmp_path / "kit"
    made = kit.create(folder, plan(folder))
    for name in _NAMES:
        made.enroll(name)
    with running_kit(made, folder) as running_broker:
        yield running_broker


def _file(broker: KitBroker, name: str) -> Path:
    return broker.folder / "accounts" / f"{name}.toml"


def _coordinator(broker: KitBroker, folder: Path, *more: str) -> tuple[str, ...]:
    config = folder / "federation.toml"
    config.write_text(
        f'name = "{FEDERATION}"\ntask = "{_LINEAR}"\naggregation = "fedavgm"\n'
        "[rounds]\ncount = 0\ncohort = 2\nquorum = 2\nclients_min = 3\nover_selection = 1.0\n"
        "pause_s = 0.3\ndeadline_s = 100\n[evaluation]\nevery = 0\n[checkpoint]\nkeep = 1000\n"
    )
    words = ("--credentials", str(_file(broker, "coordinator")), "--run", str(folder / "run"))
    return ("fedmqtt", "coordinator", str(config), *words, *more)


def _clients(stack: ExitStack, broker: KitBroker, folder: Path) -> None:
    for name in _NAMES:
        state = ("--state", str(folder / f"state-{name}"), "--set", "link.retry_max_s=0.5")
        words = ("fedmqtt", "client", "--credentials", str(_file(broker, name)), "--task", _LINEAR)
        stack.enter_context(running(folder, *words, *state))


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedmqtt", *words],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def _order(
    broker: KitBroker, *words: str, by: str = "operator"
) -> subprocess.CompletedProcess[str]:
    return _run(*words, "--credentials", str(_file(broker, by)), "--within", "60")


def _is_done(ordered: subprocess.CompletedProcess[str], said: str) -> None:
    assert ordered.returncode == 0, ordered.stderr
    assert said in ordered.stdout


def _standing(broker: KitBroker) -> dict[str, Any]:
    words = ("--credentials", str(_file(broker, "operator")), "--once", "--json")
    watch = _run("watch", *words)
    assert watch.returncode == 0, watch.stderr
    found: dict[str, Any] = json.loads(watch.stdout)
    return found


def _records(folder: Path) -> list[Record]:
    path = folder / "run" / "history.jsonl"
    return history.read(path) if path.exists() else []


def _wait_for_rounds(folder: Path, count: int) -> None:
    wait_until(lambda: len(_records(folder)) >= count)


def _wait_until_paused(broker: KitBroker) -> str:
    """What the coordinator says then."""
    standing: dict[str, Any] = {}

    def is_paused() -> bool:
        standing.update(_standing(broker))
        return str(standing["coordinator"]["says"]).startswith("paused by operator since ")

    wait_until(is_paused)
    return str(standing["coordinator"]["next_step"])


def _kill(coordinator: Program) -> None:
    coordinator.process.send_signal(signal.SIGKILL)
    coordinator.process.wait()


def test_an_operator_directs_a_run(broker: KitBroker, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with ExitStack() as stack:
        _clients(stack, broker, tmp_path)
        first = stack.enter_context(running(tmp_path, *_coordinator(broker, tmp_path)))
        _wait_for_rounds(tmp_path, 3)

        _is_done(_order(broker, "pause"), "")
        assert "opens after `fedmqtt resume`" in _wait_until_paused(broker)
        paused_after = len(_records(tmp_path))
        _, flat_of_1 = checkpoint.load(run / "kept" / "1.safetensors")
        assert not np.array_equal(flat_of_1, checkpoint.load(run / "model.safetensors")[1])

        # An order outlives the coordinator that obeyed it.
        _kill(first)
        coordinator = stack.enter_context(running(tmp_path, *_coordinator(broker, tmp_path)))
        coordinator.wait_for("going on before round")
        _is_done(_order(broker, "pause"), "paused already, by operator since ")

        _is_done(_order(broker, "rollback", "1"), "the next round trains from the model that round")
        wait_until(lambda: np.array_equal(flat_of_1, checkpoint.load(run / "model.safetensors")[1]))
        gone = _order(broker, "rollback", "4000")
        assert (gone.returncode, gone.stdout) == (1, "")
        assert "the model of round 4000 is not kept: there are those of rounds" in gone.stderr

        unknown = _order(broker, "invite", "zoe")
        assert unknown.returncode == 1
        assert "zoe cannot be invited: no such client has been heard of" in unknown.stderr
        # Of three that would, two are selected.
        invited_to = paused_after + 1
        _is_done(_order(broker, "invite", "cat"), f"cat is invited to round {invited_to}")
        assert len(_records(tmp_path)) == paused_after

        _is_done(_order(broker, "resume"), f"round {invited_to} opens as soon as its clients are")
        _wait_for_rounds(tmp_path, paused_after + 2)
        following = _records(tmp_path)[paused_after]
        assert following.round == invited_to and "cat" in following.invited
        assert following.base == _records(tmp_path)[1].base

        _is_done(_order(broker, "stop"), "the run ends ")
        assert coordinator.wait() == 0, coordinator.log
    standing = _standing(broker)
    assert standing["coordinator"]["says"] == "ended by an order of operator"
    told = [(one["order"], one["by"], one["done"]) for one in standing["orders"]["orders"]]
    assert told == [
        ("pause", "operator", True),
        ("pause", "operator", True),
        ("rollback 1", "operator", True),
        ("rollback 4000", "operator", False),
        ("invite zoe", "operator", False),
        ("invite cat", "operator", True),
        ("resume", "operator", True),
        ("stop", "operator", True),
    ]
    assert "order `stop` of operator: the run ends" in coordinator.log


def _probe(broker: KitBroker, name: str) -> Probe:
    """Connected by this account, as whoever has stolen its file can be."""
    path = _file(broker, name)
    role = credentials.read(path).role
    _, url = credentials.broker_of(path, (role,))
    client_id = name if role == "device" else f"probe-{name}"
    return _probe_of(url, client_id)


def _probe_of(url: BrokerUrl, client_id: str) -> Probe:
    return Probe(url, url.context, ProbeOptions(client_id=client_id))


def _heard(probe: Probe) -> Iterator[Got]:
    while True:
        got = probe.receive(60.0)
        assert got is not None, "nothing was heard"
        yield got


def test_nobody_else_gives_orders(broker: KitBroker, tmp_path: Path) -> None:
    unsigned = encode(Order(token="ab" * 16, word="cd" * 16, what="stop"))
    broker.kit.enroll("dora", "operator")
    stranger = _order(broker, "stop", by="ann")
    assert stranger.returncode == EXIT_USAGE
    assert "are a device's, and this program needs an operator's" in stranger.stderr
    assert "Traceback" not in stranger.stderr
    for name in ("ann", "monitor"):
        with _probe(broker, name) as probe:
            assert not probe.publish(_ORDERS, unsigned).agreed, name
            # Mosquitto agrees to any subscription, and passes on what the account may read.
            probe.subscribe(_ORDERS)
            with _probe(broker, "operator") as operator:
                assert operator.publish(_ORDERS, b"not for you").agreed
            assert probe.receive(1.0) is None, name
    with _probe(broker, "operator") as operator:
        topics = Topics(FEDERATION)
        others = (topics.path(OrderOf(ClientId("dora"))), topics.offer, topics.seat, topics.claim)
        for topic in (*others, "fed/v1/demo/status/orders", "fed/v1/demo/presence/ann"):
            assert not operator.publish(topic, unsigned).agreed, topic

    # Who is revoked is refused by the coordinator too, and the broker let in nobody like that.
    wrong = tmp_path / "wrong.toml"
    shutil.copy(_file(broker, "operator"), wrong)
    wrong.write_text(wrong.read_text().replace('id = "operator"', 'id = "other"'))
    wrong.chmod(0o600)
    other = _run("stop", "--credentials", str(wrong))
    assert other.returncode == EXIT_USAGE
    assert "do not fit together" in other.stderr


def test_who_is_not_let_in_or_hears_nobody_is_told_so(broker: KitBroker) -> None:
    silent = _run("pause", "--credentials", str(_file(broker, "operator")), "--within", "3")
    assert (silent.returncode, silent.stdout) == (1, "")
    waiting, said = silent.stderr.strip().splitlines()
    assert waiting.startswith("waiting for an answer from mqtts://")
    assert "no coordinator answers" in said
    path = _file(broker, "operator")
    path.write_text(path.read_text().replace('password = "', 'password = "no'))
    assert _run("pause", "--credentials", str(path)).returncode == EXIT_DENIED


def test_what_was_recorded_or_altered_does_nothing_and_is_counted(
    broker: KitBroker, tmp_path: Path
) -> None:
    """By who has a coordinator's login, and may write anything: as good as the broker itself."""
    with ExitStack() as stack:
        # Nobody comes: there is time.
        first = stack.enter_context(running(tmp_path, *_coordinator(broker, tmp_path)))
        first.wait_for("connected to")
        hostile = stack.enter_context(_probe(broker, "coordinator"))
        hostile.subscribe(_ORDERS)
        _is_done(_order(broker, "pause"), "does not open until")
        heard = _heard(hostile)
        signed = next(got.payload for got in heard if b"pause" in got.payload)
        _is_done(_order(broker, "resume"), "opens as soon as")

        hostile.publish(_ORDERS, signed)
        hostile.publish(_ORDERS, signed.replace(b"pause", b"stop!"))
        hostile.publish(_ORDERS, encode(Ask(token="ab" * 16)))
        hostile.publish(_ORDERS, encode(Order(token="ab" * 16, word="cd" * 16, what="stop")))
        # As another operator.
        dora = Topics(FEDERATION).path(OrderOf(ClientId("dora")))
        hostile.publish(dora, signed)
        _wait_for_counts(broker, refused=4, repeated=1)
        assert _standing(broker)["orders"]["paused_by"] == ""
        # The first; others once a minute.
        assert "an order of operator is not obeyed: it is not what its operator signed" in first.log

        # In a run that has not heard of it, its word is good for nothing.
        first.process.terminate()
        first.wait()
        other = _coordinator(broker, tmp_path, "--set", f"runs={tmp_path}/others")
        words = [word for word in other if word not in ("--run", str(tmp_path / "run"))]
        second = stack.enter_context(running(tmp_path, *words, "--new"))
        second.wait_for("connected to")
        wait_until(lambda: _standing(broker)["orders"]["orders"] == [])
        hostile.publish(_ORDERS, signed)
        _wait_for_counts(broker, refused=1, repeated=0)
        assert "its word is good no more" in second.log
        assert _standing(broker)["orders"]["paused_by"] == ""


def _wait_for_counts(broker: KitBroker, refused: int, repeated: int) -> None:
    def has_counted() -> bool:
        orders = _standing(broker)["orders"]
        return bool((orders["refused"], orders["repeated"]) == (refused, repeated))

    wait_until(has_counted)
