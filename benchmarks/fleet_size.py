"""What known clients cost a coordinator: memory, CPU a round, and CPU to hear of them at its start.

    python benchmarks/fleet_size.py --clients 1000 10000 100000
    python benchmarks/fleet_size.py --quiet --clients 1000 10000 100000 1000000

The coordinator's own program at a Mosquitto of its own. Clients are not connected: their presences
lie retained on the broker, as after a restart, and one connection answers for those that are drawn,
at once. With `--quiet` no client says that it is there. Selection is by sortition in both, the
model has three numbers. Prints one line for each size: MB of 10^6 bytes, resident; CPU seconds from
the program's start to the first offer; and in the median of later rounds.
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import raw_mqtt
from benchmarks.own_mosquitto import own_mosquitto
from benchmarks.processes import cpu_s, rss_mb
from fedmqtt import messages, sortition
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Offer, Presence, Update
from fedmqtt.mqtt_link import Arrived, LinkEvent, LinkOptions, MqttLink, parse_broker_url
from fedmqtt.topics import ClientId, OfferBoard, PresenceOf, Topics, UpdatePart

TASK = "benchmarks.echo_task"
_HEARD_AT_ONCE = 2000


@dataclass(slots=True)
class Answering:
    """Answers each offer for those whom it invites, and notes what the rounds cost."""

    link: MqttLink
    clients: Sequence[ClientId]
    pid: int = 0
    first: float | None = None
    """CPU seconds to the first offer."""
    rounds: list[float] = field(default_factory=list)
    rss: float = 0.0
    _last: float = 0.0
    _seen: int = 0

    def on_offer(self, offer: Offer) -> None:
        if offer.round <= self._seen or not self.pid:
            return
        used = cpu_s(self.pid)
        if self.first is None:
            self.first = used
        else:
            self.rounds.append(used - self._last)
        self._last, self._seen, self.rss = used, offer.round, rss_mb(self.pid)
        assert offer.sortition is not None
        drawn = sortition.draws(offer.sortition.salt, offer.round, "train", self.clients)
        for client, its in zip(self.clients, drawn, strict=True):
            if its < offer.sortition.train:
                where = UpdatePart(0, client, offer.round, "0")
                self.link.publish(where, messages.encode(_update(offer)))


def _update(offer: Offer) -> Update:
    return Update(
        run=offer.run,
        round=offer.round,
        base=offer.model.digest,
        fingerprint=offer.model.fingerprint,
        sample_count=1,
        codec=offer.codec,
        method=messages.method_name(offer.training, offer.method),
        steps=1,
        payload=memoryview(np.full(3, 1e-3, "<f4").tobytes()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--quiet", action="store_true", help="no client says that it is there")
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    told = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ["FEDMQTT_BENCH_PARAMS"] = "3"
    print(f"{'clients':>9} {'quiet':>5} {'RSS MB':>7} {'start CPU s':>11} {'CPU ms a round':>14}")
    for count in told.clients:
        with TemporaryDirectory() as scratch, own_mosquitto() as (_, port):
            found = _measure(told, count, port, Path(scratch))
        assert found.first is not None
        each = 1000 * statistics.median(found.rounds[1:])
        print(
            f"{count:9,} {'yes' if told.quiet else 'no':>5} {found.rss:7.1f} {found.first:11.2f}"
            f" {each:14.1f}",
            flush=True,
        )
    return 0


def _measure(told: argparse.Namespace, count: int, port: int, scratch: Path) -> Answering:
    clients = [ClientId(f"device-{number:07}") for number in range(count)]
    topics = Topics("fleet")
    if not told.quiet:
        _leave_presences(port, topics, clients)
    loop = EventLoop()
    heard: list[Answering] = []

    def handle(event: LinkEvent) -> None:
        match event:
            case Arrived(OfferBoard(), payload) if payload:
                heard[0].on_offer(messages.read_offer(payload))
            case _:
                pass

    broker = parse_broker_url(f"mqtt://127.0.0.1:{port}")
    options = LinkOptions(client_id="answering", subscribe=(topics.offer,))
    link = MqttLink(loop, broker, topics, options, handle)
    heard.append(Answering(link, clients))
    link.open()
    while not link.is_up:
        loop.run_once(wait_max_s=1.0)
    config = scratch / "federation.toml"
    config.write_text(_federation(told, count, port))
    words = ["-m", "fedmqtt", "coordinator", str(config), "--run", str(scratch / "run")]
    log = scratch / "coordinator.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr
        ) as coordinator,
    ):
        heard[0].pid = coordinator.pid
        while coordinator.poll() is None:
            loop.run_once(wait_max_s=0.5)
    link.close()
    loop.close()
    if coordinator.returncode:
        raise SystemExit(log.read_text())
    return heard[0]


def _leave_presences(port: int, topics: Topics, clients: Sequence[ClientId]) -> None:
    """Each is online, as far as the broker tells."""
    said = Presence(
        online=True,
        session="0123456789abcdef",
        task=messages.task_name(TASK),
        purposes=("train",),
        program="fedmqtt 1.0",
        draws=True,
    )
    payload = messages.encode(said)
    hello = raw_mqtt.connect("presences", 0, clean=True, will=None)
    with raw_mqtt.connected(port, hello) as link:
        for start in range(0, len(clients), _HEARD_AT_ONCE):
            some = clients[start : start + _HEARD_AT_ONCE]
            paths = (topics.path(PresenceOf(client)) for client in some)
            link.sendall(b"".join(raw_mqtt.publish_retained(path, payload) for path in paths))
        # The broker has taken all of them in when it answers.
        link.sendall(raw_mqtt.PING)
        link.recv(2)


def _federation(told: argparse.Namespace, count: int, port: int) -> str:
    fleet = count if told.quiet else 0
    clients_min = 1 if told.quiet else count
    return f"""
name = "fleet"
task = "{TASK}"
selection = "sortition"
selection_settings = {{ fleet = {fleet} }}
tuning = {{ enabled = false }}
evaluation = {{ every = 0 }}

[broker]
url = "mqtt://127.0.0.1:{port}"

[rounds]
count = {told.rounds}
cohort = {told.cohort}
over_selection = {2.0 if told.quiet else 1.0}
quorum = 1
clients_min = {clients_min}
deadline_s = {5.0 if told.quiet else 60.0}
"""


if __name__ == "__main__":
    sys.exit(main())
