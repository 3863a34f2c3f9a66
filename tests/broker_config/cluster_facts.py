"""What clusters differ in that we notice: found out by trying, with a node killed on the way.

As with `broker_facts`; `python -m tests.broker_table` writes both tables.
"""

import queue
from dataclasses import dataclass
from time import monotonic

from tests.broker_config.facts_table import Kept
from tests.broker_config.plain_client import Ended, PlainClient, connected
from tests.clusters import Cluster
from tests.programs import wait_until

_COMES_WITHIN_S = 10.0
"""Nodes tell each other in their own time. What has not come by then does not come."""


@dataclass(frozen=True, slots=True)
class Facts:
    retained_at_each_node: bool
    ends_older_namesake: bool
    """That is connected at another node."""
    session_at_each_node: bool
    """With what came meanwhile, and all nodes are there."""
    session_outlives_node: bool
    """At another node, while that at which it was made is not there."""


KEPT = Kept(
    "cluster_facts.json",
    "clusters.md",
    Facts,
    names={
        "nats": "NATS 2.9, `stream_replicas: 3`",
        "rabbitmq": "RabbitMQ 3.10, quorum queues",
    },
    head=(
        "three nodes of",
        "retained is there at each node",
        "a namesake at another node ends the older",
        "a session is found at another node",
        "and while its own is killed",
    ),
)
FOUND = KEPT.found()


def find(cluster: Cluster, federation: str) -> Facts:
    """All nodes are there afterwards."""
    return Facts(
        retained_at_each_node=_has_retained_elsewhere(cluster, federation),
        ends_older_namesake=_ends_older(cluster, federation),
        session_at_each_node=_finds_session(cluster, federation),
        session_outlives_node=_finds_session_of_the_dead(cluster, federation),
    )


def _has_retained_elsewhere(cluster: Cluster, federation: str) -> bool:
    here, elsewhere, _ = cluster.nodes
    topic, fence = f"{federation}/model/0", f"{federation}/fence"
    with connected(here, f"{federation}-writer") as writer:
        writer.publish(topic, b"chunk", retain=True)
    give_up_at = monotonic() + _COMES_WITHIN_S
    while monotonic() < give_up_at:
        with connected(elsewhere, f"{federation}-reader") as reader:
            reader.subscribe(topic)
            reader.subscribe(fence)
            reader.publish(fence, b"")
            # What lies there comes before what is said now.
            if reader.receive().topic == topic:
                return True
    return False


def _ends_older(cluster: Cluster, federation: str) -> bool:
    here, elsewhere, _ = cluster.nodes
    name = f"{federation}-namesake"
    with connected(here, name) as older, connected(elsewhere, name):
        try:
            wait_until(lambda: older.has_ended, _COMES_WITHIN_S)
        except AssertionError:
            return False
        return True


def _finds_session(cluster: Cluster, federation: str) -> bool:
    here, elsewhere, third = cluster.nodes
    name, inbox = f"{federation}-session", f"{federation}/inbox/session"
    _leave_session(here, name, inbox)
    with connected(third, f"{federation}-sender") as sender:
        sender.publish(inbox, b"receipt")
    return _finds(elsewhere, name)


def _finds_session_of_the_dead(cluster: Cluster, federation: str) -> bool:
    name, inbox = f"{federation}-orphan", f"{federation}/inbox/orphan"
    _leave_session(cluster.nodes[0], name, inbox)
    cluster.kill(0)
    try:
        wait_until(lambda: all(map(cluster.serves, (1, 2))))
        wait_until(lambda: _says(cluster.nodes[2], f"{federation}-sender", inbox))
        return _finds(cluster.nodes[1], name)
    finally:
        cluster.start(0)


def _says(node: str, name: str, inbox: str) -> bool:
    """Those that are left may end connections while they agree on who is there."""
    with connected(node, name) as sender:
        try:
            sender.publish(inbox, b"receipt")
        except Ended:
            return False
        return True


def _leave_session(node: str, name: str, inbox: str) -> None:
    with connected(node, name, clean_session=False) as client:
        client.subscribe(inbox)


def _finds(node: str, name: str) -> bool:
    with connected(node, name, clean_session=False) as client:
        return client.session_present and _receives(client)


def _receives(client: PlainClient) -> bool:
    try:
        return bool(client.arrived.get(timeout=_COMES_WITHIN_S).payload == b"receipt")
    except queue.Empty:
        return False
