"""A coordinator of masked rounds as a process of its own, to be killed: without TLS, with keys.

    python -m tests.coordinator.masked_coordinator FOLDER      a run in it goes on, or one begins

FOLDER holds federation.toml and trust.json, which the test wrote.
"""

import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from coordinator.config import FederationConfig
from coordinator.intake.trust import Trust
from coordinator.persistence import ledgers
from coordinator.service import Service
from fedmqtt import logs, settings, signing
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import ClientId
from fedmqtt.weights import layout_of
from tests.coordinator.guests import zeros


class Told(msgspec.Struct):
    """What is in trust.json."""

    federation_private: str
    keyholders: tuple[tuple[ClientId, str], ...]
    size: int


def main(folder: Path) -> None:
    logs.set_up(verbose=True, as_json=False)
    told = msgspec.json.decode((folder / "trust.json").read_bytes(), type=Told)
    config = settings.read(folder / "federation.toml", [], FederationConfig)
    public = signing.public_key(told.federation_private)
    trust = Trust(federation_key=public, keyholders=told.keyholders)
    seal = signing.CoordinatorSeal(config.name, told.federation_private)
    broker = replace(parse_broker_url(config.broker.url), seal=seal)
    weights = zeros(told.size)
    layout = layout_of(weights)
    run = folder / "run"
    run.mkdir(exist_ok=True)
    goes_on = ledgers.is_unfinished(run)
    initial = None if goes_on else (layout, layout.flatten(weights))
    loop = EventLoop()
    loop.stop_on_signals()
    Service(loop, config, initial, run, broker=broker, trust=trust).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
