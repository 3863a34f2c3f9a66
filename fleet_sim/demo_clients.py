"""The demonstration's clients, as one process: `python -m fleet_sim.demo_clients ...`.

Runs until it is told to end, then writes what crossed its links to a JSON file.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from edge_client.config import ClientConfig, Link, Trainer
from edge_client.trainer_pool import TrainerPool
from fedmqtt import logs
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Purpose
from fedmqtt.mqtt_link import parse_broker_url
from fleet_sim.swarm import Departures, Swarm

TASK = "learning_tasks.phonewatch"


class SwarmTotals(msgspec.Struct, frozen=True):
    """What the clients' own links carried: topics and payloads, all clients together."""

    bytes_up: int
    bytes_down: int
    vanished: int
    """How often a client was cut off while it worked on a round."""


def main() -> int:
    arguments = _parse()
    logs.set_up(verbose=arguments.verbose, as_json=False)
    loop = EventLoop()
    loop.stop_on_signals()
    pool = TrainerPool(loop, arguments.trainers, keep_warm_s=3600.0)
    clients: dict[str, Purpose] = {client: "train" for client in arguments.train}
    clients |= {client: "evaluate" for client in arguments.evaluate}
    swarm = Swarm(
        loop,
        parse_broker_url(arguments.broker),
        _template(arguments),
        clients,
        pool,
        arguments.state,
        seed=arguments.seed,
        departures=Departures(),
    )
    swarm.start()
    loop.run()
    swarm.stop()
    pool.close()
    totals = SwarmTotals(swarm.live.bytes_up, swarm.live.bytes_down, swarm.vanished)
    arguments.totals.write_bytes(msgspec.json.encode(totals))
    return 0


def _template(arguments: argparse.Namespace) -> ClientConfig:
    return ClientConfig(
        broker=arguments.broker,
        federation=arguments.federation,
        id="each",
        task=TASK,
        data=str(arguments.data),
        # A phone that lost its network is back within seconds here, not within minutes.
        link=Link(will_delay_s=0, retry_max_s=2.0, resend_s=5.0),
        trainer=Trainer(keep_warm_s=3600.0),
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fleet_sim.demo_clients", description=__doc__)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--federation", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the devices' data")
    parser.add_argument("--state", type=Path, required=True, help="folder of their outboxes")
    parser.add_argument("--totals", type=Path, required=True, help="file for what they carried")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--trainers", type=int, required=True)
    parser.add_argument("--train", nargs="*", default=[], help="clients that train")
    parser.add_argument("--evaluate", nargs="*", default=[], help="clients that evaluate")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
