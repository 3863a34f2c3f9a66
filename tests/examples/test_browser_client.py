"""The browser's client in a federation with Python's: real programs, brokers and a real browser."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import load_file

from broker_config import kit
from broker_config.local_broker import BrokerError, RunningBroker
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from fedmqtt import messages, weights
from fedmqtt.messages import Announce, Chunk, Evaluation, Offer, Receipt, Training, Update
from fedmqtt.topics import (
    ClientId,
    Inbox,
    ModelChunk,
    OfferBoard,
    Topics,
    UpdatePart,
)
from fedmqtt.weights import Array
from learning_tasks import linear
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.broker_config.plain_client import PlainClient, connected
from tests.brokers import is_required
from tests.examples.browser_page import opened, wait_to_hear
from tests.examples.pages_here import PAGE, served
from tests.other_brokers import running_nats
from tests.own_broker import free_port
from tests.programs import Program, running
from tests.round_monitor.chromium import Page

pytestmark = pytest.mark.broker

NAMES = ("ann", "bob")
BROWSER = ClientId("browser")
ROUNDS = 2
TRAINING = Training(epochs=3, batch_size=1000, learning_rate=0.5, momentum=0.5, weight_decay=0.01)
"""All rows are one batch: what comes of it does not depend on their order."""

# Too large for an offer and for one message of 1,024 bytes.
_FEATURES = 400
_WIDE = f"""
import numpy as np
from learning_tasks import linear

def initial_weights(seed):
    return {{"weight": np.zeros(({_FEATURES}, 3), np.float32), "bias": np.zeros(3, np.float32)}}

def load_data(data_dir, client, purpose):
    inputs = np.random.default_rng(len(client)).standard_normal((30, {_FEATURES}))
    return linear.Samples(inputs.astype(np.float32), np.arange(30) % 3)

train, evaluate = linear.train, linear.evaluate
"""


@dataclass
class Crossed:
    """All that crossed the broker in one federation."""

    topics: Topics
    reader: PlainClient
    offers: list[Offer] = field(default_factory=list)
    answers: dict[tuple[str, int], list[messages.FromClient]] = field(default_factory=dict)
    receipts: dict[str, list[Receipt]] = field(default_factory=dict)
    chunks: set[str] = field(default_factory=set)
    """Of models, their topics."""

    def look(self) -> None:
        while not self.reader.arrived.empty():
            arrived = self.reader.arrived.get()
            payload = bytes(arrived.payload)
            match self.topics.parse(arrived.topic):
                case OfferBoard() if payload:
                    self.offers.append(messages.read_offer(payload))
                case UpdatePart(client=client, round=number):
                    said = messages.read_from_client(payload)
                    self.answers.setdefault((client, number), []).append(said)
                case Inbox(client):
                    told = messages.read_to_client(payload)
                    if isinstance(told, Receipt):
                        self.receipts.setdefault(client, []).append(told)
                case ModelChunk() if payload:
                    self.chunks.add(arrived.topic)
                case _:
                    pass

    def update(self, client: str, number: int) -> Update:
        """However it came: whole, or in pieces."""
        said = self.answers[client, number]
        pieces = [one for one in said if isinstance(one, Chunk)]
        if pieces:
            joined = b"".join(bytes(one.data) for one in pieces)
            assert weights.digest(joined) == pieces[0].digest
            whole = messages.read_from_client(joined)
        else:
            whole = next(one for one in said if isinstance(one, Update))
        assert isinstance(whole, Update)
        return whole


@contextmanager
def listening(url: str, federation: str) -> Iterator[Crossed]:
    with connected(url, "listener") as reader:
        reader.subscribe(f"fed/v1/{federation}/#")
        yield Crossed(Topics(federation), reader)


def write_config(folder: Path, federation: str, task: str, more: str = "") -> Path:
    told = structs.asdict(TRAINING)
    training = "\n".join(f"{name} = {value}" for name, value in told.items())
    path = folder / "federation.toml"
    path.write_text(
        f'name = "{federation}"\ntask = "{task}"\nseed = 3\n{more}\n'
        "[evaluation]\nevery = 1\nclients = 0\nfinal_deadline_s = 100\n"
        f"[training]\n{training}\n[transfer]\nchunk_bytes = 1024\n"
        f"[rounds]\ncount = {ROUNDS}\ncohort = 3\nquorum = 3\nclients_min = 3\n"
        "over_selection = 1.0\ndeadline_s = 100\nretry_s = 0\n"
    )
    return path


def client(folder: Path, who: str, task: str, *words: str) -> AbstractContextManager[Program]:
    return running(
        folder,
        *("fedmqtt", "client", "--task", task, "--state", str(folder / who)),
        *("--set", "link.retry_max_s=0.5", *words),
    )


def averaged(base: Array, updates: list[Update]) -> Array:
    """The base, moved by the clients' mean change, by samples: FedAvg in double precision."""
    changes = [np.frombuffer(one.payload, "<f4").astype(np.float64) for one in updates]
    counts = [one.sample_count for one in updates]
    return (base + np.average(changes, axis=0, weights=counts)).astype(np.float32)


def trained_here(rows: str, base: Array, features: int) -> Array:
    """What Python's own task makes of the page's rows: how far it moves the base."""
    table = np.loadtxt(rows.splitlines(), np.float32, delimiter=",", ndmin=2)
    table = table[np.arange(len(table)) % 5 != 4]
    samples = linear.Samples(table[:, :-1], table[:, -1].astype(np.int64))
    layout = weights.Layout((("bias", (3,)), ("weight", (features, 3))))
    found = linear.train(layout.unflatten(base), samples, TRAINING, 0, lambda fraction: False)
    change: Array = layout.flatten(found.weights) - base
    return change


def drawn_rows(features: int, count: int = 40) -> str:
    """Lines for the page."""
    chance = np.random.default_rng(7)
    lines = []
    for n in range(count):
        numbers = chance.standard_normal(features)
        numbers[n % 3] += 2
        lines.append(",".join([*(f"{one:.4f}" for one in numbers), str(n % 3)]))
    return "\n".join(lines)


@pytest.mark.parametrize("is_wide", [False, True], ids=["small", "in chunks"])
def test_a_browser_and_two_python_clients_make_a_model_together(
    browser: Page,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    is_wide: bool,
) -> None:
    features, task, more = linear.FEATURES, "learning_tasks.linear", ""
    if is_wide:
        (tmp_path / "wide.py").write_text(_WIDE)
        features, task, more = _FEATURES, str(tmp_path / "wide.py"), "&task=wide&chunk_bytes=1024"
    url, rows = mosquitto_broker.url, drawn_rows(features)
    words = ("--broker", url, "--federation", federation_name)
    run = tmp_path / "run"
    with ExitStack() as stack:
        crossed = stack.enter_context(listening(url, federation_name))
        stack.enter_context(opened(browser, tmp_path, *words, "--id", BROWSER, more=more))
        browser.run(f"document.querySelector('#rows').value = {json.dumps(rows)}")
        for who in NAMES:
            stack.enter_context(client(tmp_path, who, task, *words, "--id", who))
        config = write_config(tmp_path, federation_name, task)
        program = ("fedmqtt", "coordinator", str(config), "--broker", url, "--run", str(run))
        coordinator = stack.enter_context(running(tmp_path, *program))
        assert coordinator.wait() == 0, coordinator.log
        wait_to_hear(browser, "counted", ROUNDS + 1)
        assert browser.complaints() == []
        crossed.look()

    *rounds, last = history.read(run / "history.jsonl")
    assert [record.answered for record in rounds] == [[*NAMES, BROWSER]] * ROUNDS
    assert last.evaluated == [*NAMES, BROWSER]
    accepted = [(one.round, one.accepted) for one in crossed.receipts[BROWSER]]
    assert accepted == [(1, True), (2, True), (3, True)]

    size = features * 3 + 3
    base = np.zeros(size, np.float32)
    for number in range(1, ROUNDS + 1):
        updates = [crossed.update(who, number) for who in (*NAMES, BROWSER)]
        change = np.frombuffer(updates[-1].payload, "<f4")
        np.testing.assert_allclose(change, trained_here(rows, base, features), rtol=0, atol=2e-5)
        measures = updates[-1].measures
        assert measures is not None and measures.sample_count == len(rows.splitlines()) // 5
        base = averaged(base, updates)
    model = load_file(run / "model.safetensors")
    found = np.concatenate([model["bias"], model["weight"].ravel()])
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, base, rtol=0, atol=1e-6)

    came_in_pieces = any(isinstance(one, Announce) for one in crossed.answers[BROWSER, 1])
    assert came_in_pieces == is_wide
    assert isinstance(crossed.answers[BROWSER, ROUNDS + 1][0], Evaluation)


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here")
def test_with_credentials_it_signs_what_it_says_and_believes_signatures_alone(
    browser: Page, tmp_path: Path
) -> None:
    folder, run = tmp_path / "kit", tmp_path / "run"
    made = kit.create(folder, plan(folder))
    for who in ("ann", BROWSER):
        made.enroll(who)
    config = tmp_path / "federation.toml"
    config.write_text(
        f'name = "{FEDERATION}"\ntask = "learning_tasks.linear"\n[evaluation]\nevery = 0\n'
        "[rounds]\ncount = 1\ncohort = 2\nquorum = 2\nclients_min = 2\nover_selection = 1.0\n"
        "deadline_s = 100\n"
    )

    def account(who: str) -> tuple[str, str]:
        return "--credentials", str(folder / "accounts" / f"{who}.toml")

    with ExitStack() as stack:
        stack.enter_context(running_kit(made, folder))
        stack.enter_context(opened(browser, tmp_path, *account(BROWSER)))
        stack.enter_context(client(tmp_path, "ann", "learning_tasks.linear", *account("ann")))
        program = ("fedmqtt", "coordinator", str(config), *account("coordinator"))
        coordinator = stack.enter_context(running(tmp_path, *program, "--run", str(run)))
        # It takes no answer that is not signed by its device's own key.
        assert coordinator.wait() == 0, coordinator.log
        wait_to_hear(browser, "counted")
        assert browser.complaints() == []
    [record] = history.read(run / "history.jsonl")
    assert record.answered == ["ann", BROWSER]


def test_a_page_on_any_web_server_goes_to_a_broker_with_websockets_itself(
    browser: Page, tmp_path: Path
) -> None:
    port = free_port()
    more = f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n'
    config, run = tmp_path / "federation.toml", tmp_path / "run"
    config.write_text(
        'name = "ward"\ntask = "learning_tasks.linear"\n[evaluation]\nevery = 0\n[rounds]\n'
        "count = 1\ncohort = 1\nquorum = 1\nclients_min = 1\ndeadline_s = 100\n"
    )
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running_nats(more))
        except BrokerError as missing:
            if is_required("nats"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        socket = f"ws://127.0.0.1:{port}/mqtt"
        root = stack.enter_context(served())
        browser.go(f"{root}{PAGE}#federation=ward&broker={socket}")
        program = ("fedmqtt", "coordinator", str(config), "--broker", broker.url)
        coordinator = stack.enter_context(running(tmp_path, *program, "--run", str(run)))
        assert coordinator.wait() == 0, coordinator.log
        wait_to_hear(browser, "counted")
        assert set(browser.sockets()) == {socket}
        browser.go("about:blank")
    [record] = history.read(run / "history.jsonl")
    # It has made a name for itself.
    assert [name.partition("-")[0] for name in record.answered] == ["browser"]
