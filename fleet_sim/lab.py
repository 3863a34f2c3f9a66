"""A fleet in virtual time: the machines, real tensors, one broker with a link for each client.

    Fleet ──▶ LabDevice, LabDevice, ... ──▶ LabBroker ◀── Server ──▶ Tensors ──▶ models, records
                   └──────── Cohort: everybody's training, in groups ───────┘

The same two machines as in `world.py`, the codecs, strategies and training of the real programs,
and no sockets: hours of a fleet's life take seconds. A run is the same to the last bit for a seed,
however many processes train.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Protocol

from coordinator import history, round_rules, rounds
from coordinator.history import Record
from coordinator.rounds import Rules
from edge_client import session
from edge_client.config import Link as LinkConfig
from fedmqtt import messages
from fedmqtt.effects import Seconds
from fedmqtt.messages import PURPOSES, Evaluation, Measures, Offer, Purpose, Update
from fedmqtt.topics import ClientId, RunId
from fedmqtt.weights import Array, Layout
from fleet_sim.clock import Clock
from fleet_sim.data_plane import DataPlane, Headers
from fleet_sim.disk import Disk
from fleet_sim.fleet import Crew, Fleet, judge
from fleet_sim.intervals import HOUR_S, seconds_of
from fleet_sim.lab_broker import LabBroker
from fleet_sim.lab_device import Habits, LabDevice, Work
from fleet_sim.lab_page import RoundMark
from fleet_sim.lab_tensors import Cohort, Tensors, named_answer
from fleet_sim.outcome import Outcome
from fleet_sim.scene import Scene
from fleet_sim.server import Server
from fleet_sim.training.trainers import Trainers
from fleet_sim.weather import Weather
from learning_tasks.split_data import JUDGE

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
"""Where virtual time begins, since run folders tell time by the calendar: a Monday."""

COMMIT_S: Seconds = 0.002
"""The coordinator's disk takes so long, on average, for a group of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPlan:
    """What the simulated coordinator is told; see `scene.FederationPlan`."""

    seed: int
    run: RunId
    rules: Rules
    commit_s: Seconds = COMMIT_S

    def round_rules(self, epoch: int) -> Rules:
        return replace(self.rules, run=self.run, epoch=epoch)


class Samples(Protocol):
    def __call__(self, client: ClientId, purpose: Purpose) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned, where anything is: the first model, and who trains."""

    layout: Layout
    flat: Array
    trainers: Trainers


class Lab:
    """`run` it; then `records`, `marks` and `trace` tell what came of it."""

    def __init__(
        self,
        fleet: Fleet,
        crew: Crew,
        samples: Samples,
        lesson: Lesson | None,
        on_round: Callable[[Record], None] = lambda record: None,
    ) -> None:
        """Without a `lesson` nothing is learned: answers are headers, and cost next to nothing.

        Raises SettingsError, UnknownPart on settings that no part takes.
        """
        config, federation = fleet.config, fleet.federation
        self.records: list[Record] = []
        self.marks: list[RoundMark] = []
        self.clock = Clock()
        self.broker = LabBroker(self.clock, config.seed)
        self._on_round = on_round
        self._begins = _MONDAY + timedelta(seconds=seconds_of(config.starts))
        self._hours_max = config.hours_max
        rules = round_rules.from_config(federation)
        run = RunId(f"{federation.name}-seed-{config.seed}")
        plan = LabPlan(seed=config.seed, run=run, rules=rules)
        weather = Weather(average_s=0.0, counts_down=True)
        self._scene = Scene(plan, weather, self.clock, self.broker)
        self.tensors: Tensors | None = None
        data: DataPlane = Headers()
        work: Work = HeaderWork()
        if lesson is not None:
            terms = rounds.terms_max(round_rules.invited_max(federation), rules)
            self.tensors = Tensors(federation, lesson.layout, lesson.flat, terms)
            cohort = Cohort(federation.task, lesson.trainers, self.tensors)
            data, work = self.tensors, cohort
        self.server = Server(self._scene, rounds.step, self._told, Disk(), data)
        habits = Habits(
            seed=config.seed,
            task=messages.task_name(federation.task),
            link=LinkConfig(),
            faults=config.faults,
            conditions=config.device.conditions,
            samples=samples,
        )
        judged = config.data.evaluate == "test"
        purposes: tuple[Purpose, ...] = ("train",) if judged else PURPOSES
        self.devices = [
            LabDevice(self._scene, self.broker, crew[n], purposes, habits, work)
            for n in range(len(crew))
        ]
        if judged:
            self.devices.append(
                LabDevice(self._scene, self.broker, judge(JUDGE), ("evaluate",), habits, work)
            )

    @property
    def is_finished(self) -> bool:
        """Whether all rounds were run, before the fleet's hours were over."""
        return self.server.is_finished

    @property
    def trace(self) -> str:
        """Of all that the coordinator said and decided, and of the model."""
        told = f"{self.server.trace.hexdigest()} {self.server.disk.model}"
        return blake2b(told.encode(), digest_size=8).hexdigest()

    @property
    def outcome(self) -> Outcome:
        return Outcome(
            records=self.records,
            marks=self.marks,
            seconds=self.clock.now,
            is_finished=self.is_finished,
            bytes_up=self.broker.bytes_up,
            bytes_down=self.broker.bytes_down,
            trace=self.trace,
        )

    def run(self, on_time: Callable[[Seconds], None] = lambda now: None) -> None:
        """Until all rounds are done or the fleet's hours are over. Raises Broken, as `World`."""
        ends_at = self._hours_max * HOUR_S
        self.server.begin()
        for device in self.devices:
            device.begin()

        def is_over() -> bool:
            on_time(self.clock.now)
            return self.server.is_finished or self.clock.now > ends_at

        self.clock.run(until=is_over)

    def _told(self, at: Seconds, close: rounds.Close) -> None:
        base = self.server.promises.offers[close.round].model.digest
        late = self.server.state.past.late - sum(one.late_updates for one in self.records)
        closed = (self._begins + timedelta(seconds=at)).isoformat(timespec="milliseconds")
        up, down = self.broker.bytes_up, self.broker.bytes_down
        answers = self.tensors.answers if self.tensors else None
        record = history.record(
            close,
            closed=closed,
            base=base,
            late_updates=max(0, late),
            samples=answers.samples if answers else 0,
            train_metrics=answers.train_metrics() if answers else {},
            figures=answers.figures() if answers else None,
            bytes_received=up,
            bytes_published=down,
        )
        self.records.append(record)
        self.marks.append(RoundMark(round=close.round, closed_s=at, bytes_up=up, bytes_down=down))
        self._on_round(record)


class HeaderWork:
    """Devices' work where nothing is learned: only who answers, and when."""

    def __init__(self) -> None:
        self._at_work: dict[ClientId, tuple[Offer, Purpose]] = {}

    def begin(self, client: ClientId, offer: Offer, purpose: Purpose, *, measures: bool) -> None:
        self._at_work[client] = (offer, purpose)

    def stop(self, client: ClientId) -> None:
        self._at_work.pop(client, None)

    def answer(self, client: ClientId) -> Update | Evaluation | str:
        offer, purpose = self._at_work.pop(client)
        base = offer.model.digest
        if purpose == "evaluate":
            measures = Measures(sample_count=1)
            return Evaluation(run=offer.run, round=offer.round, base=base, measures=measures)
        return Update(
            run=offer.run,
            round=offer.round,
            base=base,
            fingerprint=offer.model.fingerprint,
            sample_count=1,
            codec=offer.codec,
            # Its sender's name, so that no two answers have the same digest.
            metrics={client: 0.0},
            payload=memoryview(b""),
        )

    def named(self, content: Update | Evaluation) -> session.Answer:
        return named_answer(content)
