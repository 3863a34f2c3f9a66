"""The broker as those see it who sign: for `round_overhead.py --signed`, without a kit.

The federation's private key is in the environment, and clients make themselves what a kit would
give them. Imports the library only where there is a key: it counts in what is measured.
"""

import os
from dataclasses import replace

from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url

_KEY = "FEDMQTT_BENCH_KEY"


def begin() -> None:
    """From here on, this process and those that it starts sign."""
    from fedmqtt import signing

    os.environ[_KEY] = signing.new_key()


def of_coordinator(url: str, federation: str) -> BrokerUrl:
    broker, key = parse_broker_url(url), os.environ.get(_KEY)
    if key is None:
        return broker
    from fedmqtt import signing

    return replace(broker, seal=signing.CoordinatorSeal(federation, key))


def of_client(url: str, federation: str, client: str) -> BrokerUrl:
    broker, key = parse_broker_url(url), os.environ.get(_KEY)
    if key is None:
        return broker
    from fedmqtt import signing

    own = signing.new_key()
    ticket = signing.ticket(key, federation, client, signing.public_key(own))
    return replace(broker, seal=signing.DeviceSeal(own, ticket, signing.public_key(key)))
