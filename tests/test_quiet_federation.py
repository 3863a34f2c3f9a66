"""A quiet federation: clients of which nobody hears until they are drawn and answer, with a real
coordinator and real clients over a real broker."""

from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import __version__, messages, sortition, status_pages
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import Arrived
from fedmqtt.status_pages import CoordinatorPage
from fedmqtt.topics import ClientId, OfferBoard, PresenceOf, StatusPage, Topics
from tests import status_reference
from tests.fedmqtt.peer import Peer, loop, until
from tests.programs import Program, running

__all__ = ["loop"]

pytestmark = pytest.mark.broker

LINEAR = "learning_tasks.linear"
NAMES = ("ann", "bob", "cat", "dan", "eve", "fay")
ROUNDS = 4
QUIET = ("--set", "quiet=true", "--set", "label=phone")

FEDERATION = f"""
task = "{LINEAR}"
seed = 3
selection = "sortition"
selection_settings = {{ fleet = {len(NAMES)} }}
evaluation = {{ every = 1, clients = 1, final_deadline_s = 20 }}
rounds = {{ count = {ROUNDS}, cohort = 2, quorum = 1, clients_min = 1, deadline_s = 20 }}
"""


class Listener:
    """Hears what the fleet and its coordinator say to everybody."""

    def __init__(self, loop: EventLoop, url: str, federation: str) -> None:
        topics = Topics(federation)
        everything = (topics.any_presence, topics.offer, topics.any_status)
        self.peer = Peer(loop, url, federation, "listener", subscribe=everything)
        self.peer.connect()

    @property
    def presences(self) -> dict[ClientId, list[bytes]]:
        said: dict[ClientId, list[bytes]] = {}
        for event in self.peer.all(Arrived):
            if isinstance(event.address, PresenceOf):
                said.setdefault(event.address.client, []).append(event.payload)
        return said

    @property
    def offers(self) -> list[bytes]:
        return [
            event.payload
            for event in self.peer.all(Arrived)
            if isinstance(event.address, OfferBoard) and event.payload
        ]

    @property
    def pages(self) -> dict[str, bytes]:
        """The newest of each."""
        return {
            event.address.page: event.payload
            for event in self.peer.all(Arrived)
            if isinstance(event.address, StatusPage) and event.payload
        }


def _client(
    stack: ExitStack, folder: Path, broker: str, federation: str, name: str, *words: str
) -> Program:
    whose = ("--broker", broker, "--federation", federation, "--id", name, "--task", LINEAR)
    state = ("--state", str(folder / name))
    return stack.enter_context(running(folder, "fedmqtt", "client", *whose, *state, *words))


def _coordinator(
    stack: ExitStack, folder: Path, broker: str, federation: str, *words: str
) -> Program:
    config = folder / "federation.toml"
    config.write_text(f'name = "{federation}"' + FEDERATION)
    run = ("--broker", broker, "--run", str(folder / "run"))
    return stack.enter_context(running(folder, "fedmqtt", "coordinator", str(config), *run, *words))


def _rounds(folder: Path) -> tuple[list[Record], Record]:
    *rounds, last = history.read(folder / "run" / "history.jsonl")
    return rounds, last


def test_nobody_says_anything_before_it_is_drawn_and_rounds_make_models(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    loop: EventLoop,
    request: pytest.FixtureRequest,
) -> None:
    url = mosquitto_broker.url
    with ExitStack() as stack:
        listener = Listener(loop, url, federation_name)
        stack.callback(listener.peer.link.close)
        for name in NAMES:
            _client(stack, tmp_path, url, federation_name, name, *QUIET)
        coordinator = _coordinator(stack, tmp_path, url, federation_name)
        until(loop, lambda: coordinator.process.poll() is not None)
        assert coordinator.wait() == 0, coordinator.log
    assert not listener.presences, "nobody said that it is there, or not any more"
    rounds, last = _rounds(tmp_path)
    assert len(rounds) == ROUNDS and all(record.outcome == "averaged" for record in rounds)
    offers = {offer.round: offer for offer in map(messages.read_offer, listener.offers)}
    for record in rounds:
        # (Another may come while the cohort is on its way to the disk.)
        assert 1 <= len(record.answered) < len(NAMES)
        offer = offers[record.round]
        assert all(sortition.invites(offer, one, "train") for one in record.answered)
    assert last.outcome == "evaluated" and last.evaluated
    assert not {page for page in listener.pages if page.startswith(("client", "participation"))}
    page = status_pages.decode("coordinator", listener.pages["coordinator"])
    assert isinstance(page, CoordinatorPage) and page.fleet is not None
    assert page.fleet.declared == len(NAMES) and 1 <= page.fleet.low <= page.fleet.high
    count = len(rounds[-1].answered)
    assert page.fleet.answered == count and page.fleet.labels == {"phone": count}
    assert page.fleet.programs == {f"fedmqtt {__version__}": count}
    if request.config.getoption("--rewrite"):
        part = f"{status_reference.PARTS_BELOW}/fleet"
        status_reference.keep_example(part, msgspec.json.encode(page.fleet))
    assert all(
        len(said) - len(messages.read_offer(said).model_file) < 1024 for said in listener.offers
    )


def test_a_coordinator_that_is_killed_goes_on_with_whom_it_has_drawn(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    with ExitStack() as stack:
        for name in NAMES:
            _client(stack, tmp_path, url, federation_name, name, *QUIET)
        coordinator = _coordinator(stack, tmp_path, url, federation_name)
        coordinator.wait_for("round 2: draws one client in")
        coordinator.process.kill()
        coordinator.process.wait()
        coordinator = _coordinator(stack, tmp_path, url, federation_name)
        assert coordinator.wait() == 0, coordinator.log
    assert "going on with round 2" in coordinator.log
    rounds, last = _rounds(tmp_path)
    assert [record.round for record in rounds] == [*range(1, ROUNDS + 1)]
    assert all(record.outcome == "averaged" for record in rounds) and last.outcome == "evaluated"


def test_workers_take_in_what_those_who_are_drawn_answer(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    with ExitStack() as stack:
        for name in NAMES:
            _client(stack, tmp_path, url, federation_name, name, *QUIET)
        lanes = ("--set", "workers.lanes=4")
        coordinator = _coordinator(stack, tmp_path, url, federation_name, *lanes)
        config = str(tmp_path / "federation.toml")
        words = (config, "--broker", url, "--name", "w1", *lanes)
        worker = stack.enter_context(running(tmp_path, "fedmqtt", "worker", *words))
        assert coordinator.wait() == 0, coordinator.log
        assert "lanes" in worker.log, worker.log
    rounds, last = _rounds(tmp_path)
    assert len(rounds) == ROUNDS and all(record.outcome == "averaged" for record in rounds)
    assert last.outcome == "evaluated"


def test_a_client_that_learns_that_nobody_listens_takes_back_what_it_said_and_remembers(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, loop: EventLoop
) -> None:
    url = mosquitto_broker.url
    with ExitStack() as stack:
        listener = Listener(loop, url, federation_name)
        stack.callback(listener.peer.link.close)
        for name in NAMES:
            _client(stack, tmp_path, url, federation_name, name)
        until(loop, lambda: len(listener.presences) == len(NAMES))
        coordinator = _coordinator(stack, tmp_path, url, federation_name)
        until(loop, lambda: coordinator.process.poll() is not None)
        assert coordinator.wait() == 0, coordinator.log
        until(loop, lambda: all(said[-1] == b"" for said in listener.presences.values()))
    heard = {name: len(said) for name, said in listener.presences.items()}
    # Killed as by a loss of power: a will would be spoken.
    with ExitStack() as stack:
        again = _client(stack, tmp_path, url, federation_name, "ann")
        again.wait_for("connected")
        again.process.kill()
        again.process.wait()
        again = _client(stack, tmp_path, url, federation_name, "ann")
        again.wait_for("connected")
    assert {name: len(said) for name, said in listener.presences.items()} == heard
