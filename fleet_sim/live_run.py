"""A fleet at a real broker: the coordinator's program, and every client a real agent.

    Fleet ──▶ LivePlan, LivePlan, ... ──▶ LiveSwarm ──▶ broker ◀── `fedmqtt coordinator`, a process
                                              └──▶ trainers, a few processes that all share

The fleet's weather is the same as in virtual time (`lab.py`): the same clients are online at the
same times, on the same links and hardware. `speed` makes an hour of theirs take minutes, as far as
this machine keeps up: training takes at least the time that it really takes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

from broker_config.local_broker import start_broker
from coordinator.models import downlink
from coordinator.persistence import ledger_url, ledgers
from coordinator.persistence.history import Record
from edge_client.config import ClientConfig, Trainer
from edge_client.trainer_pool import TrainerPool
from edge_client.training_job import Job
from fedmqtt import settings
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import DELTAS_MAX, PURPOSES, Purpose
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import ClientId
from fleet_sim.children import Child, child, run_until_one_ends
from fleet_sim.failures import TrainerCrashes, outages
from fleet_sim.fleet import Crew, Equipment, Faults, Fleet, judge
from fleet_sim.intervals import HOUR_S
from fleet_sim.live_client import LivePlan
from fleet_sim.live_rounds import LiveRounds
from fleet_sim.live_speed import federation_at_speed, out_of_scale
from fleet_sim.live_swarm import LiveSwarm, allow_descriptors
from fleet_sim.outcome import Outcome
from fleet_sim.shared_models import MODELS_KEPT
from learning_tasks.split_data import JUDGE

_LOOK_EVERY_S = 0.05

Samples = Callable[[ClientId, Purpose], int]


class LiveRunError(Exception):
    """The run ended early; one sentence says why and where to look."""


def too_fast(fleet: Fleet, speed: float) -> str:
    """A sentence on what does not keep up with that speed; empty where everything does."""
    return out_of_scale(fleet.federation, _template(fleet, fleet.federation.broker.url), speed)


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
    """Until the coordinator has ended, the fleet's hours are over, or a person ends it.

    `data` has the split. `on_round` is told how long a round took in the fleet's time.

    Raises BrokerError, LiveSwarmError, SettingsError and OSError.
    """
    # Before the broker, which has the same limit.
    allow_descriptors(len(crew) + 1)
    loop = EventLoop()
    loop.stop_on_signals()
    with ExitStack() as stack:
        stack.callback(loop.close)
        # That links break is what is simulated: a thousand clients need not all tell of it.
        stack.enter_context(_quiet("client"))
        running = stack.enter_context(start_broker(broker))
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="fedmqtt-live-")))
        config = scratch / "federation.toml"
        federation = federation_at_speed(fleet.federation, speed)
        at_broker = structs.replace(federation.broker, url=running.url)
        # What is simulated is no run for a server.
        own = structs.replace(federation, broker=at_broker, ledger=ledger_url.IN_FOLDERS)
        config.write_text(settings.render(own))
        pool = TrainerPool(loop, processes, keep_warm_s=3600.0)
        stack.callback(pool.close)
        rounds = LiveRounds(loop, folder / "history.jsonl", speed, on_round)
        swarm = LiveSwarm(
            loop,
            parse_broker_url(running.url),
            _template(fleet, running.url),
            plans(fleet, crew, samples, data),
            pool,
            scratch / "clients",
            seed=fleet.config.seed,
            speed=speed,
            models_kept=_models_kept(fleet),
            watch=rounds.see,
        )
        words = ["-m", "fedmqtt", "coordinator", str(config), "--run", str(folder)]
        coordinator = stack.enter_context(child("coordinator", folder, words))
        stack.callback(swarm.stop)
        ended = _await_begin(loop, coordinator, folder)
        if ended is None and loop.stop_signal is None:
            swarm.start()
            rounds.follow(swarm)
            loop.call_in(fleet.config.hours_max * HOUR_S / speed, loop.stop)
            ended = run_until_one_ends(loop, [coordinator])
            rounds.read()
        is_finished = ended is not None and ledgers.is_finished(folder)
        return Outcome(
            records=rounds.records,
            marks=rounds.marks,
            # The coordinator takes a moment to leave when all is done.
            seconds=rounds.marks[-1].closed_s if is_finished else rounds.now(),
            is_finished=is_finished,
            bytes_up=swarm.bytes_up,
            bytes_down=swarm.bytes_down,
            speed=speed,
            is_stopped=loop.stop_signal is not None,
            failure="" if ended is None or is_finished else _why(ended),
            overruns=swarm.overruns.jobs,
        )


def _await_begin(loop: EventLoop, coordinator: Child, folder: Path) -> Child | None:
    """Until its run has begun: the fleet's time begins then, not while programs start.

    The coordinator, if it has ended instead. None also where a person has ended it all.
    """

    def look() -> None:
        # Kept as soon as it has the federation's seat, just before it listens.
        if (folder / "federation.toml").exists():
            loop.stop()
        else:
            loop.call_in(_LOOK_EVERY_S, look)

    look()
    return run_until_one_ends(loop, [coordinator])


def _why(ended: Child) -> str:
    return f"the coordinator ended early; {ended.log} says why"


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Of what is logged under this name, only errors."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)


def _models_kept(fleet: Fleet) -> int:
    """Who missed rounds goes on from the model that it holds, as far back as deltas lead."""
    if downlink.read(fleet.federation.downlink_codec) is None:
        return MODELS_KEPT
    return DELTAS_MAX + 1


def _template(fleet: Fleet, url: str) -> ClientConfig:
    return ClientConfig(
        broker=url,
        federation=fleet.federation.name,
        id="each",
        task=fleet.federation.task,
        trainer=Trainer(keep_warm_s=3600.0),
        conditions=fleet.config.device.conditions,
    )


def plans(fleet: Fleet, crew: Crew, samples: Samples, data: Path) -> Sequence[LivePlan]:
    """What happens to each client, and the judge's calm, where there is one."""
    config = fleet.config
    judged = config.data.evaluate == "test"
    purposes: tuple[Purpose, ...] = ("train",) if judged else PURPOSES
    found = [
        _plan(crew[n], purposes, config.faults, config.seed, samples, data)
        for n in range(len(crew))
    ]
    if judged:
        found.append(_plan(judge(JUDGE), ("evaluate",), Faults(), config.seed, samples, data))
    return found


def _plan(
    equipment: Equipment,
    purposes: tuple[Purpose, ...],
    faults: Faults,
    seed: int,
    samples: Samples,
    data: Path,
) -> LivePlan:
    client = ClientId(equipment.client)
    crashes = TrainerCrashes(faults, seed, client)

    def dies_after(job: Job) -> float | None:
        return crashes.next(job.round) if job.purpose == "train" else None

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
        # No real federation has a judge.
        is_counted=client != JUDGE,
        dies_after=dies_after,
        outages=outages(faults, seed, client),
    )
