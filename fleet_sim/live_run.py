"""A fleet at a real broker: the coordinator's program, and every client a real agent.

    Fleet ──▶ LivePlan, LivePlan, ... ──▶ LiveSwarm ──▶ broker ◀── `fedmqtt coordinator`, a process
                                              └──▶ trainers, a few processes that all share

The fleet's weather is the same as in virtual time (`lab.py`): the same clients are online at the
same times, on the same links and hardware. `speed` makes an hour of theirs take minutes, as far as
this machine keeps up: training takes at least the time that it really takes.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

from broker_config.local_broker import start_broker
from coordinator import history
from coordinator.config import FederationConfig
from coordinator.history import Record
from edge_client.config import ClientConfig, Trainer
from edge_client.trainer_pool import TrainerPool
from edge_client.training_job import Job
from fedmqtt import settings
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import PURPOSES, Purpose
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import ClientId
from fleet_sim.children import Child, child, run_until_one_ends
from fleet_sim.clock import stream
from fleet_sim.fleet import Crew, Equipment, Faults, Fleet, judge
from fleet_sim.intervals import DAY_S, HOUR_S
from fleet_sim.lab_page import RoundMark
from fleet_sim.live_client import LivePlan
from fleet_sim.live_swarm import LiveSwarm, allow_descriptors
from fleet_sim.outcome import Outcome
from learning_tasks.split_data import JUDGE

_LOOK_EVERY_S = 0.2

Samples = Callable[[ClientId, Purpose], int]


class LiveRunError(Exception):
    """The run ended early; one sentence says why and where to look."""


def run_live(
    fleet: Fleet,
    crew: Crew,
    samples: Samples,
    data: Path,
    folder: Path,
    *,
    broker: str,
    speed: float,
    processes: int,
    on_round: Callable[[Record], None],
) -> Outcome:
    """Until the coordinator has ended, or the fleet's hours are over. `data` has the split.

    Raises BrokerError, LiveSwarmError, LiveRunError, SettingsError and OSError; KeyboardInterrupt
    where a person ended it.
    """
    # Before the broker, which has the same limit.
    allow_descriptors(len(crew) + 1)
    loop = EventLoop()
    loop.stop_on_signals()
    # That links break is what is simulated: a thousand clients need not all tell of it.
    logging.getLogger("client").setLevel(logging.ERROR)
    with ExitStack() as stack:
        stack.callback(loop.close)
        running = stack.enter_context(start_broker(broker))
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="fedmqtt-live-")))
        config = scratch / "federation.toml"
        config.write_text(settings.render(_at_speed(fleet.federation, running.url, speed)))
        pool = TrainerPool(loop, processes, keep_warm_s=3600.0)
        stack.callback(pool.close)
        swarm = LiveSwarm(
            loop,
            parse_broker_url(running.url),
            _template(fleet, running.url),
            _plans(fleet, crew, samples, data),
            pool,
            scratch / "clients",
            seed=fleet.config.seed,
            speed=speed,
        )
        words = ["-m", "fedmqtt", "coordinator", str(config), "--run", str(folder)]
        coordinator = stack.enter_context(child("coordinator", folder, words))
        watch = _Watch(loop, swarm, folder / "history.jsonl", on_round)
        swarm.start()
        stack.callback(swarm.stop)
        watch.look()
        loop.call_in(fleet.config.hours_max * HOUR_S / speed, loop.stop)
        ended = run_until_one_ends(loop, [coordinator])
        watch.look()
        return _conclude(loop, swarm, watch, ended, speed)


def _conclude(
    loop: EventLoop, swarm: LiveSwarm, watch: "_Watch", ended: Child | None, speed: float
) -> Outcome:
    if loop.stop_signal is not None:
        raise KeyboardInterrupt
    if ended is not None and ended.process.returncode != 0:
        raise LiveRunError(f"the coordinator ended early; {ended.log} says why")
    return Outcome(
        records=watch.records,
        marks=watch.marks,
        seconds=swarm.clock.now(),
        is_finished=ended is not None,
        bytes_up=swarm.bytes_up,
        bytes_down=swarm.bytes_down,
        speed=speed,
        overruns=swarm.overruns.jobs,
    )


class _Watch:
    """Reads the coordinator's history as it grows, and marks what the clients had carried then."""

    def __init__(
        self, loop: EventLoop, swarm: LiveSwarm, path: Path, on_round: Callable[[Record], None]
    ) -> None:
        self.records: list[Record] = []
        self.marks: list[RoundMark] = []
        self._loop = loop
        self._swarm = swarm
        self._path = path
        self._on_round = on_round
        self._timer: Timer | None = None
        self._size = 0

    def look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_in(_LOOK_EVERY_S, self.look)
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._size:
            return
        self._size = size
        for record in history.read_whole(self._path)[len(self.records) :]:
            self.records.append(record)
            self.marks.append(
                RoundMark(
                    round=record.round,
                    closed_s=self._swarm.clock.now(),
                    bytes_up=self._swarm.bytes_up,
                    bytes_down=self._swarm.bytes_down,
                )
            )
            self._on_round(record)


def _at_speed(federation: FederationConfig, url: str, speed: float) -> FederationConfig:
    """The same federation where each second is `speed` of the fleet's."""
    rounds, tuning = federation.rounds, federation.tuning
    return structs.replace(
        federation,
        broker=structs.replace(federation.broker, url=url),
        rounds=structs.replace(
            rounds,
            deadline_s=rounds.deadline_s / speed,
            pause_s=rounds.pause_s / speed,
            retry_s=rounds.retry_s / speed,
            away_grace_s=rounds.away_grace_s / speed,
        ),
        tuning=structs.replace(tuning, deadline_min_s=tuning.deadline_min_s / speed),
        evaluation=structs.replace(
            federation.evaluation, final_deadline_s=federation.evaluation.final_deadline_s / speed
        ),
    )


def _template(fleet: Fleet, url: str) -> ClientConfig:
    return ClientConfig(
        broker=url,
        federation=fleet.federation.name,
        id="each",
        task=fleet.federation.task,
        trainer=Trainer(keep_warm_s=3600.0),
        conditions=fleet.config.device.conditions,
    )


def _plans(fleet: Fleet, crew: Crew, samples: Samples, data: Path) -> Sequence[LivePlan]:
    config = fleet.config
    judged = config.data.evaluate == "test"
    purposes: tuple[Purpose, ...] = ("train",) if judged else PURPOSES
    plans = [
        _plan(crew[n], purposes, config.faults, config.seed, samples, data)
        for n in range(len(crew))
    ]
    if judged:
        plans.append(_plan(judge(JUDGE), ("evaluate",), Faults(), config.seed, samples, data))
    return plans


def _plan(
    equipment: Equipment,
    purposes: tuple[Purpose, ...],
    faults: Faults,
    seed: int,
    samples: Samples,
    data: Path,
) -> LivePlan:
    client = ClientId(equipment.client)

    def fault(job: Job) -> str:
        chance = stream(seed, "trainer", client, job.round)
        crashes = job.purpose == "train" and chance.random() < faults.trainer_crashes
        return "the trainer did not survive" if crashes else ""

    return LivePlan(
        name=client,
        purposes=purposes,
        label=equipment.label,
        data=str(data),
        intervals=equipment.online(),
        silent_share=faults.half_open if client != JUDGE else 0.0,
        link=equipment.link if client != JUDGE else None,
        hardware=equipment.hardware,
        train_samples=samples(client, "train") if "train" in purposes else 0,
        evaluate_samples=samples(client, "evaluate") if "evaluate" in purposes else 0,
        work_fault=fault,
        crashes=_crashes(faults.reboots_per_day, seed, client),
        restart_s=faults.reboot_s,
    )


def _crashes(per_day: float, seed: int, client: ClientId) -> Iterator[Seconds]:
    chance, at = stream(seed, "crashes", client), 0.0
    while per_day and at < math.inf:
        at += chance.expovariate(per_day / DAY_S)
        yield at
