"""Looks at each broker and cluster again, and writes what it finds: `python -m tests.broker_table`.

Into docs/brokers.md, and into the files beside tests/broker_config/broker_facts.py with which the
tests compare. What is not installed here keeps what was found before.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from secrets import token_hex
from typing import TypeVar

from broker_config.child import BrokerError
from broker_config.local_broker import RunningBroker, start_broker
from fedmqtt.event_loop import EventLoop
from tests.broker_config import broker_facts, cluster_facts
from tests.clusters import CLUSTERS
from tests.other_brokers import running_nats, running_rabbitmq

_B = TypeVar("_B")
_F = TypeVar("_F")

_BROKERS: Mapping[str, Callable[[], AbstractContextManager[RunningBroker]]] = {
    "mosquitto": lambda: start_broker("mosquitto"),
    "embedded": lambda: start_broker("embedded"),
    "rabbitmq": running_rabbitmq,
    "nats": running_nats,
}


def main() -> int:
    broker_facts.KEPT.keep(_of_each(_BROKERS, _facts))
    broker_clusters = _of_each(CLUSTERS, lambda one: cluster_facts.find(one, _name()))
    cluster_facts.KEPT.keep(broker_clusters)
    return 0


def _of_each(
    kinds: Mapping[str, Callable[[], AbstractContextManager[_B]]], find: Callable[[_B], _F]
) -> dict[str, _F]:
    found = {}
    for kind, start in kinds.items():
        try:
            with start() as one:
                found[kind] = find(one)
        except BrokerError as why:
            sys.stderr.write(f"{kind}: {why}\n")
        else:
            sys.stdout.write(f"{kind}: {found[kind]}\n")
    return found


def _facts(broker: RunningBroker) -> broker_facts.Facts:
    loop = EventLoop()
    try:
        return broker_facts.find(loop, broker.url, _name())
    finally:
        loop.close()


def _name() -> str:
    return f"test-{token_hex(6)}"


if __name__ == "__main__":
    sys.exit(main())
