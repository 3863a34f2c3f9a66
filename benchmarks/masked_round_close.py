"""How long a round takes to close once its last answer is there, masked and plain.

A kit's Mosquitto (TLS, passwords), the real coordinator, three keyholders as processes of their
own, and N real clients in one process, whose training costs nothing. Prints one line of JSON for
each size and mode:

    close_s          median, from the arrival of the last piece of a round's last answer to the
                     offer with the next model
    longest_close_s  the longest of these
      check_s        of it, until keyholders are asked: the last answer is checked and written down
      keyholders_s   until the last piece of a keyholder's sums is there without which the offer
                     does not come: seals, masks, and the way there and back
      model_s        the rest: the sum is opened, the next model is made and published
    coordinator_cpu_s, keyholder_cpu_s      CPU seconds of a whole round; of the busiest keyholder

The parts are those of the round in the middle. Clients and keyholders share the machine's cores
with the coordinator and the broker here, as nobody would have it.
"""

import argparse
import json
import logging
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.processes import cpu_s_with_ended_threads
from broker_config import kit
from broker_config.kit import Kit, Plan
from broker_config.mosquitto import find_mosquitto, running_configured
from coordinator.config import Broker, Evaluation, FederationConfig, Privacy, Rounds, Tuning
from coordinator.intake import trust
from coordinator.persistence.history import Record
from coordinator.service import Service
from fedmqtt import credentials, messages
from fedmqtt.envelope import Seal
from fedmqtt.event_loop import EventLoop
from fedmqtt.topics import Address, ClientId, Inbox, OfferBoard, UpdatePart
from fedmqtt.weights import layout_of

FEDERATION = "closing"
KEYHOLDERS = ("kh-a", "kh-b", "kh-c")
MODES = ("plain", "keyholders")
WARM_UP = 1
"""Rounds before the measured ones."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=int, nargs="+", default=[200_000, 1_600_000])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="that are measured")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    asked = parser.parse_args()
    executable = find_mosquitto()
    if executable is None:
        parser.error("Mosquitto is not installed here")
    logging.disable(logging.INFO)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = _kit(folder / "kit", asked.clients)
        with running_configured(executable, folder / "kit/broker/mosquitto.conf", folder):
            for params in asked.params:
                os.environ["FEDMQTT_BENCH_PARAMS"] = str(params)
                for mode in asked.modes:
                    figures = measure(made, folder, mode, asked.clients, asked.rounds)
                    line = {"params": params, "clients": asked.clients, "mode": mode, **figures}
                    sys.stdout.write(json.dumps(line) + "\n")
                    sys.stdout.flush()
    return 0


@dataclass(slots=True)
class Marks:
    """Of one round: when what came last of its kind."""

    answered_at: float = 0.0
    asked_at: float = 0.0
    summed_at: float = 0.0
    offered_at: float = 0.0

    @property
    def close_s(self) -> float:
        return self.offered_at - self.answered_at


@dataclass(slots=True)
class TimedSeal:
    """The coordinator's, and what passes it, on a clock."""

    seal: Seal
    rounds: list[Marks] = field(default_factory=lambda: [Marks()])
    """The last one is open."""
    _offered: int = 0

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        now = time.perf_counter()
        match address:
            case Inbox(client) if client in KEYHOLDERS and not self.rounds[-1].asked_at:
                if isinstance(messages.read_to_client(message), messages.Open):
                    self.rounds[-1].asked_at = now
            case OfferBoard() if message:
                self._note_offer(messages.read_offer(message).round, now)
            case _:
                pass
        return self.seal.sealed(address, topic, message)

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        now = time.perf_counter()
        if isinstance(address, UpdatePart):
            if address.client in KEYHOLDERS:
                self.rounds[-1].summed_at = now
            else:
                self.rounds[-1].answered_at = now
        return self.seal.opened(address, topic, payload)

    def _note_offer(self, number: int, now: float) -> None:
        if number > self._offered:
            self._offered = number
            self.rounds[-1].offered_at = now
            self.rounds.append(Marks())


def measure(made: Kit, folder: Path, mode: str, clients: int, rounds: int) -> dict[str, Any]:
    from benchmarks.echo_task import initial_weights

    scratch = Path(folder / f"{mode}-{os.environ['FEDMQTT_BENCH_PARAMS']}")
    run = scratch / "run"
    run.mkdir(parents=True)
    accounts = folder / "kit" / "accounts"
    account, broker = credentials.broker_of(accounts / "coordinator.toml", ("coordinator",))
    assert broker.seal is not None
    clock = TimedSeal(broker.seal)
    initial = initial_weights(0)
    layout = layout_of(initial)
    config = _config(account.broker, mode, clients, WARM_UP + rounds + 1)
    cpu: dict[str, list[float]] = {}
    with ExitStack() as stack:
        holders = [stack.enter_context(_keyholder(accounts, name, scratch)) for name in KEYHOLDERS]
        stack.enter_context(_clients(accounts, [_name(n) for n in range(clients)], scratch))

        outcomes: list[str] = []

        def on_round(record: Record) -> None:
            outcomes.append(f"{record.outcome}: {record.reason}")
            for pid in (os.getpid(), *holders):
                cpu.setdefault(str(pid), []).append(cpu_s_with_ended_threads(pid))

        loop = EventLoop()
        service = Service(
            loop,
            config,
            (layout, layout.flatten(initial)),
            run,
            on_round,
            broker=replace(broker, seal=clock),
            trust=trust.trust_of(account),
        )
        service.run()
        loop.close()
    if kept := [one for one in outcomes if not one.startswith("averaged")]:
        raise RuntimeError(f"{mode}: {len(kept)} rounds made no model, the first: {kept[0]}")
    # Before the first offer nothing is measured, and nothing follows the last one.
    closed = clock.rounds[1 + WARM_UP : -1]
    used = {pid: statistics.median(_steps(read)) for pid, read in cpu.items()}
    own = used.pop(str(os.getpid()))
    middle = sorted(closed, key=lambda one: one.close_s)[len(closed) // 2]
    return {
        "rounds": len(closed),
        "close_s": round(middle.close_s, 3),
        "longest_close_s": round(max(one.close_s for one in closed), 3),
        **(_parts(middle) if mode != "plain" else {}),
        "coordinator_cpu_s": round(own, 3),
        "keyholder_cpu_s": round(max(used.values()), 3),
    }


def _parts(one: Marks) -> dict[str, float]:
    return {
        "check_s": round(one.asked_at - one.answered_at, 3),
        "keyholders_s": round(one.summed_at - one.asked_at, 3),
        "model_s": round(one.offered_at - one.summed_at, 3),
    }


def _steps(read: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(read)]


def _config(url: str, mode: str, clients: int, rounds: int) -> FederationConfig:
    return FederationConfig(
        name=FEDERATION,
        task="benchmarks.echo_task",
        broker=Broker(url=url),
        rounds=Rounds(
            count=rounds,
            cohort=clients,
            over_selection=1.0,
            quorum=clients,
            clients_min=clients,
            deadline_s=3600.0,
        ),
        tuning=Tuning(enabled=False),
        evaluation=Evaluation(every=0),
        privacy=Privacy(aggregation=mode, floor=clients),
    )


def _name(number: int) -> ClientId:
    return ClientId(f"client-{number:04}")


def _kit(folder: Path, clients: int) -> Kit:
    port, servers_port = _ports()
    made = kit.create(
        folder,
        Plan(
            federation=FEDERATION,
            hosts=("localhost",),
            login="password",
            port=port,
            servers_port=servers_port,
            websockets_port=0,
            devices=clients + len(KEYHOLDERS),
            place=str(folder / "broker"),
            data=str(folder / "data"),
            days=30,
        ),
    )
    # First: who is enrolled after them knows them.
    for name in KEYHOLDERS:
        made.enroll(name, keyholder=True)
    for number in range(clients):
        made.enroll(_name(number))
    return made


def _ports() -> tuple[int, int]:
    # Not those that the system gives to others while accounts are made, which takes a while.
    below = random.sample(range(20_000, 32_000), 100)
    free = [port for port in below if _is_free(port)]
    return free[0], free[1]


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("", port)):
            return True
    except OSError:
        return False


@contextmanager
def _keyholder(accounts: Path, name: str, scratch: Path) -> Iterator[int]:
    words = ["keyholder", "--credentials", str(accounts / f"{name}.toml")]
    words += ["--state", str(scratch / name)]
    words += ["--enrolled", str(accounts.parent / "enrolled-devices"), "--floor", "2"]
    with _program([sys.executable, "-m", "fedmqtt", *words]) as pid:
        yield pid


@contextmanager
def _clients(accounts: Path, names: Sequence[ClientId], scratch: Path) -> Iterator[int]:
    command = [sys.executable, str(ROOT / "benchmarks" / "echo_clients.py")]
    command += ["--accounts", str(accounts), "--state", str(scratch / "clients"), *names]
    with _program(command) as pid:
        yield pid


@contextmanager
def _program(command: list[str]) -> Iterator[int]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **one_thread},
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
