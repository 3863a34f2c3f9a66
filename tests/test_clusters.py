"""A federation on real clusters: a node is killed in the middle of a round, and comes back."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.child import BrokerError
from coordinator.persistence import history
from fedmqtt.client_ids import of_device
from fedmqtt.mqtt_link import in_turn, parse_broker_url
from tests.broker_config import cluster_facts
from tests.brokers import is_required
from tests.clusters import CLUSTERS, NODES, Cluster
from tests.gated import Gated
from tests.programs import Program, running, wait_until

# Clusters are slow to start, and to agree that a node is gone.
pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

NAMES = ("ann", "bob", "cat")
ROUNDS = 3
PARAMETERS = 100_000
"""400 kB: more than comes with an offer, in several chunks."""

# Of ann and cat one sample each, of bob two: (4 + 2 * 8 + 16) / 4 = 9. Whoever is lost or counted
# twice makes it another number.
TASK = f"""
ADDS = {{"ann": (4, 1), "bob": (8, 2), "cat": (16, 1)}}

def initial_weights(seed):
    return {{"w": np.zeros({PARAMETERS}, np.float32)}}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    adds, samples = ADDS[client]
    wait_for_gate(data_dir, client, round(float(weights["w"][0]) / 9) + 1, progress)
    return Trained({{"w": weights["w"] + np.float32(adds)}}, samples, {{}})
"""

_COORDINATES_AT = re.compile(r"connected to (mqtt://127\.0\.0\.1:\d+) ")
_CONNECTED_AT = re.compile(r"connected \(at (mqtt://127\.0\.0\.1:\d+), ")


@pytest.fixture(scope="module", params=list(CLUSTERS))
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def cluster(kind: str) -> Iterator[Cluster]:
    """Each in turn; whoever kills a node starts it again."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(CLUSTERS[kind]())
        except BrokerError as error:
            reason = f"no cluster of {kind} here: {error}"
            if is_required(kind):
                pytest.fail(reason)
            pytest.skip(reason)
        yield found


def test_a_cluster_is_what_the_page_says_of_it(
    cluster: Cluster, kind: str, federation_name: str
) -> None:
    # `python -m tests.broker_table` writes it anew.
    assert cluster_facts.find(cluster, federation_name) == cluster_facts.FOUND[kind]


@pytest.mark.parametrize("whose", ["coordinator", "client"])
def test_a_node_that_is_killed_in_a_round_and_comes_back_costs_nothing(
    cluster: Cluster, whose: str, federation_name: str, tmp_path: Path
) -> None:
    name = _spread(federation_name, cluster.url)
    federation = Gated(
        cluster.url,
        name,
        tmp_path,
        task=TASK,
        rounds=f"count = {ROUNDS}\ncohort = 3\nquorum = 3\nclients_min = 3\nover_selection = 1.0",
        more="seed = 1",
    )

    def open_gates(number: int, *names: str) -> None:
        for name in names:
            (federation.gates / f"{name}-{number}").touch()

    with ExitStack() as stack:
        clients = {name: stack.enter_context(federation.client(name)) for name in NAMES}
        coordinator = stack.enter_context(federation.coordinating())
        for client in clients.values():
            client.wait_for("round 1: train")
        open_gates(1, "ann")
        clients["ann"].wait_for("receipt: round 1 accepted")
        # Ann has her receipt; bob and cat are training.
        at = _coordinates_at(coordinator)
        node = at if whose == "coordinator" else _another(clients, at)
        number = cluster.nodes.index(node)
        told = _written_to(node)
        told_before = coordinator.log.count(told)
        cluster.kill(number)
        open_gates(1, *NAMES)
        # While it is away the round ends, and the next one begins.
        coordinator.wait_for("round 2: invited")
        cluster.start(number)
        wait_until(lambda: coordinator.log.count(told) > told_before)
        for round_number in range(2, ROUNDS + 1):
            open_gates(round_number, *NAMES)
        wait_until(lambda: coordinator.process.poll() is not None)
        assert coordinator.wait() == 0, coordinator.log
        for client in clients.values():
            client.wait_for(f"receipt: round {ROUNDS} accepted")
    records = history.read(federation.run / "history.jsonl")
    assert [(one.outcome, one.answered) for one in records] == [("averaged", list(NAMES))] * ROUNDS
    assert [one.samples for one in records] == [4] * ROUNDS
    model = load_file(federation.run / "model.safetensors")["w"]
    assert np.array_equal(model, np.full(PARAMETERS, 9 * ROUNDS, np.float32))
    last = f"round {ROUNDS} closed"
    wait_until(lambda: all(_shows(node, name, tmp_path, last) for node in cluster.nodes))


def _spread(name: str, url: str) -> str:
    """A federation like this one whose clients begin at different nodes."""
    nodes = parse_broker_url(url)
    names = (f"{name}-{number}" for number in count())
    return next(
        one
        for one in names
        if len({str(in_turn(nodes, of_device(one, client))[0]) for client in NAMES}) == NODES
    )


def _written_to(node: str) -> str:
    """Says the coordinator, when that node is there."""
    return f"is written to {node}, too"


def _coordinates_at(coordinator: Program) -> str:
    return str(_COORDINATES_AT.findall(coordinator.log)[-1])


def _another(clients: dict[str, Program], at: str) -> str:
    """A node at which clients are, and not the coordinator."""
    nodes = {str(_CONNECTED_AT.findall(client.log)[-1]) for client in clients.values()}
    return min(nodes - {at})


def _shows(node: str, federation: str, folder: Path, words: str) -> bool:
    where = ("--broker", node, "--federation", federation)
    with running(folder, "fedmqtt", "watch", "--once", "--plain", *where) as watch:
        return watch.wait() == 0 and words in watch.said
