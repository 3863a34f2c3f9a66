"""What stands on `status/` while real programs work, some of them badly: each word of it is checked
against its schema, and the reference is made of it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import jsonschema
import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt import messages, status_pages
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Presence
from fedmqtt.mqtt_link import Arrived
from fedmqtt.status_pages import ClientPage, CoordinatorPage, OrdersPage, Page, RoundPage
from fedmqtt.topics import ClientId, PresenceOf, RoundId, StatusPage, Topics, UpdatePart, lane_of
from tests import status_reference
from tests.fedmqtt.peer import Peer, loop, until
from tests.programs import Program, running
from tests.status_reference import KINDS, kind_of

__all__ = ["loop"]

pytestmark = pytest.mark.broker

NAMES = ("ann", "bob", "cat", "dan")
MALLORY = ClientId("mallory")

TASK = """
import time
from learning_tasks import linear
from learning_tasks.linear import LOCAL_METHODS, evaluate, initial_weights
FEATURE_NAMES = linear.FEATURE_NAMES
def load_data(data_dir, client, purpose):
    return data_dir, client, linear.load_data(data_dir, client, purpose)
def evaluate(weights, data):
    return linear.evaluate(weights, data[2])
def train(weights, data, training, seed, progress):
    folder, client, samples = data
    # Half of a pass is done, and it goes on when the test has seen that it is told.
    progress(0.25)
    while not (folder / "go").exists():
        progress(0.25)
        time.sleep(0.01)
    return linear.train(weights, samples, training, seed, progress)
"""


P = TypeVar("P", bound=Page)


class Watcher:
    """Everything that is published below `status/`, in its order."""

    def __init__(self, loop: EventLoop, url: str, federation: str) -> None:
        self._loop = loop
        everything = Topics(federation).any_status
        self._peer = Peer(loop, url, federation, "watcher", subscribe=(everything,))
        self._peer.connect()

    def close(self) -> None:
        self._peer.link.close()

    @property
    def said(self) -> list[tuple[str, bytes]]:
        return [
            (event.address.page, event.payload)
            for event in self._peer.all(Arrived)
            if isinstance(event.address, StatusPage)
        ]

    def newest(self, name: str) -> Page | None:
        for page, payload in reversed(self.said):
            if page == name and payload:
                return status_pages.decode(name, payload)
        return None

    def wait_for(self, name: str, is_so: Callable[[Page], bool]) -> None:
        until(self._loop, lambda: (page := self.newest(name)) is not None and is_so(page), name)


def _page(kind: type[P], is_so: Callable[[P], bool]) -> Callable[[Page], bool]:
    return lambda page: isinstance(page, kind) and is_so(page)


def _client(folder: Path, url: str, federation: str, name: str) -> AbstractContextManager[Program]:
    return running(
        folder,
        *("fedmqtt", "client", "--broker", url, "--federation", federation),
        *("--id", name, "--task", str(folder / "gated.py"), "--state", str(folder / name)),
        *("--data", str(folder), "--set", "progress_s=0.2", "--set", "label=pi"),
        *("--set", "link.will_delay_s=0", "--set", "link.retry_max_s=0.5"),
    )


@contextmanager
def _federation(folder: Path, url: str, federation: str) -> Iterator[dict[str, Program]]:
    task = folder / "gated.py"
    task.write_text(TASK)
    config = folder / "federation.toml"
    config.write_text(
        f'name = "{federation}"\ntask = "{task}"\nseed = 3\n'
        "[training]\nepochs = 2\n"
        "[evaluation]\nevery = 1\nclients = 0\nfinal_deadline_s = 100\n"
        "[limits]\nstrikes = 3\n"
        "[rounds]\ncount = 4\ncohort = 4\nquorum = 2\nclients_min = 4\nover_selection = 1.0\n"
        "deadline_s = 100\naway_grace_s = 1\nretry_s = 0\n"
    )
    with ExitStack() as stack:
        words = ("fedmqtt", "coordinator", str(config), "--broker", url)
        programs = {
            name: stack.enter_context(_client(folder, url, federation, name)) for name in NAMES
        }
        programs["coordinator"] = stack.enter_context(
            running(folder, *words, "--run", str(folder / "run"))
        )
        yield programs


def _order(url: str, federation: str, *words: str) -> int:
    place = ("--broker", url, "--federation", federation, "--within", "60")
    return subprocess.run([sys.executable, "-m", "fedmqtt", *words, *place], check=False).returncode


@contextmanager
def _misbehaving(loop: EventLoop, url: str, federation: str) -> Iterator[None]:
    """A client that says that it is there, and then sends what nobody can read."""
    mallory = Peer(loop, url, federation, "mallory")
    token = mallory.connect().token
    here = Presence(
        online=True, session=token, task="gated", purposes=("train",), program="bad\x1b"
    )
    mallory.link.publish(PresenceOf(MALLORY), messages.encode(here))
    for _ in range(3):
        where = UpdatePart(lane_of(MALLORY, 1), MALLORY, RoundId(1), "0")
        mallory.link.publish(where, b"no message")
    yield
    mallory.link.close()


def _check_all(said: list[tuple[str, bytes]]) -> set[str]:
    """Every message against the schema that is in the docs. Of which kinds there were some."""
    checkers = {
        name: jsonschema.Draft202012Validator(
            json.loads((status_reference.SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        )
        for name in KINDS
    }
    found = set()
    for page, payload in said:
        if payload:
            checkers[kind_of(page)].validate(json.loads(payload, parse_constant=pytest.fail))
            found.add(kind_of(page))
    return found


def test_what_real_programs_say_is_as_the_schemas_have_it(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    loop: EventLoop,
    request: pytest.FixtureRequest,
) -> None:
    url = mosquitto_broker.url
    watcher = Watcher(loop, url, federation_name)
    kept: dict[str, Page | None] = {}
    with _federation(tmp_path, url, federation_name) as programs:
        # It begins with nothing done, which may be told.
        watcher.wait_for("client/ann", _page(ClientPage, lambda page: page.progress > 0))
        kept["client"] = watcher.newest("client/ann")
        with _misbehaving(loop, url, federation_name):
            watcher.wait_for(
                "client/mallory", _page(ClientPage, lambda page: page.state == "quarantined")
            )
        programs["dan"].process.send_signal(signal.SIGKILL)
        watcher.wait_for("client/dan", _page(ClientPage, lambda page: page.state == "away"))
        watcher.wait_for("round", _page(RoundPage, lambda page: page.dropped == 1))
        kept["round"] = watcher.newest("round")
        kept["coordinator"] = watcher.newest("coordinator")
        # Without accounts, whoever reaches the broker may.
        for order, code in (("pause", 0), ("invite zoe", 1), ("resume", 0)):
            assert _order(url, federation_name, *order.split()) == code
        watcher.wait_for("orders", _page(OrdersPage, lambda page: len(page.orders) == 3))
        (tmp_path / "go").touch()
        watcher.wait_for(
            "coordinator",
            _page(CoordinatorPage, lambda page: "1 more client is willing" in page.next_step),
        )
        waiting = watcher.newest("coordinator")
        with _client(tmp_path, url, federation_name, "dan"):
            coordinator = programs["coordinator"].process
            until(loop, lambda: coordinator.poll() is not None, "the end of all rounds")
    ann, end = kept["client"], watcher.newest("coordinator")
    assert isinstance(ann, ClientPage)
    assert (ann.progress, ann.epoch, ann.epochs, ann.label) == (0.25, 1, 2, "pi")
    assert ann.says == "training for round 1, epoch 1 of 2, 25%"
    assert isinstance(waiting, CoordinatorPage) and waiting.health == "waiting"
    assert isinstance(end, CoordinatorPage)
    assert (end.state, end.health) == ("finished", "ok"), end.health_why
    ended = watcher.newest("client/ann")
    assert isinstance(ended, ClientPage)
    watcher.close()
    assert _check_all(watcher.said) == set(KINDS)
    if request.config.getoption("--rewrite"):
        for name in KINDS:
            page = kept.get(name) or watcher.newest(name)
            assert page is not None
            status_reference.keep_example(name, status_pages.encode(page))
