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
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from coordinator import round_rules, rounds
from coordinator.config import Transfer
from coordinator.masking import masked_round
from coordinator.noise import noise_checks, privacy_spent
from coordinator.persistence import history
from coordinator.persistence.history import Record
from coordinator.rounds import Rules
from edge_client import session
from edge_client.conditions import Conditions
from edge_client.config import ClientConfig
from edge_client.privacy import Terms
from fedmqtt import data_query, messages
from fedmqtt.effects import Seconds
from fedmqtt.messages import PURPOSES, Evaluation, Measures, Presence, Purpose, Update
from fedmqtt.status_pages import Privacy
from fedmqtt.topics import ClientId, RoundId, RunId
from fedmqtt.weights import Array, Layout
from fleet_sim.clock import Clock
from fleet_sim.data_plane import DataPlane, Headers
from fleet_sim.disk import Disk
from fleet_sim.fleet import Crew, Faults, Fleet, judge
from fleet_sim.hardware import label_of
from fleet_sim.intervals import HOUR_S, seconds_of
from fleet_sim.lab_broker import LabBroker
from fleet_sim.lab_device import Assignment, Habits, LabDevice, Work, birth_token, can_sleep
from fleet_sim.lab_page import RoundMark
from fleet_sim.lab_tensors import Cohort, Tensors, named_answer
from fleet_sim.outcome import Outcome
from fleet_sim.scene import Scene
from fleet_sim.server import Server
from fleet_sim.shut_out import ShutOut
from fleet_sim.training.trainers import Trainers
from fleet_sim.weather import Weather
from learning_tasks.split_data import JUDGE

_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
"""Where virtual time begins, since run folders tell time by the calendar: a Monday."""

_RECOUNTED_MAX = 10_000
"""In larger fleets the roster's running counts are not counted anew."""

COMMIT_S: Seconds = 0.002
"""The coordinator's disk takes so long, on average, for a group of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabPlan:
    """What the simulated coordinator is told; see `scene.FederationPlan`."""

    seed: int
    run: RunId
    rules: Rules
    transfer: Transfer
    commit_s: Seconds = COMMIT_S

    def round_rules(self, epoch: int) -> Rules:
        return replace(self.rules, run=self.run, epoch=epoch)


class Samples(Protocol):
    def __call__(self, client: ClientId, purpose: Purpose) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned, where anything is: the first model, and who trains. With questions about the
    clients' data in the model's place, they are asked instead."""

    layout: Layout
    flat: Array
    trainers: Trainers
    folder: Path = Path()
    """Of the clients' data, for those who describe it."""


class Lab:
    """`run` it; then `records`, `marks` and `trace` tell what came of it."""

    def __init__(
        self,
        fleet: Fleet,
        crew: Crew,
        samples: Samples,
        lesson: Lesson | None,
        on_round: Callable[[Record], None] = lambda record: None,
        *,
        sleeps: bool = True,
    ) -> None:
        """Without a `lesson` nothing is learned: answers are headers, and cost next to nothing.

        Clients that nothing can happen to are not simulated before they are invited, unless
        `sleeps` is false; it changes nothing but time and memory.

        Raises SettingsError, UnknownPart on settings that no part takes.
        """
        config, federation = fleet.config, fleet.federation
        self.records: list[Record] = []
        self.marks: list[RoundMark] = []
        self.clock = Clock()
        self.broker = LabBroker(self.clock, config.seed, config.link.latency_s)
        self._on_round = on_round
        self._begins = _MONDAY + timedelta(seconds=seconds_of(config.starts))
        self._hours_max = config.hours_max
        self._plan = noise_checks.plan(federation)
        describes = lesson is not None and data_query.is_layout(lesson.layout)
        purpose: Purpose = "describe" if describes else "train"
        # On its links no message is lost for good, and its clients tell nothing of their work.
        rules = replace(round_rules.from_config(federation), purpose=purpose, remind_s=0.0)
        if config.data.evaluate == "test":
            # The judge's data is nobody's.
            rules = replace(rules, tells_measures=True)
        run = RunId(f"{federation.name}-seed-{config.seed}")
        plan = LabPlan(seed=config.seed, run=run, rules=rules, transfer=federation.transfer)
        weather = Weather(average_s=0.0, counts_down=True)
        self._scene = Scene(plan, weather, self.clock, self.broker)
        self.tensors: Tensors | None = None
        data: DataPlane = Headers()
        work: Work = HeaderWork()
        if lesson is not None:
            terms = rounds.terms_max(round_rules.invited_max(federation), rules)
            self.tensors = Tensors(federation, lesson.layout, lesson.flat, terms)
            cohort = Cohort(federation.task, lesson.trainers, self.tensors, lesson.folder)
            data, work = self.tensors, cohort
        self.server = Server(self._scene, rounds.step, self._told, Disk(), data)
        self.server.shut_out = ShutOut(federation.limits, self.clock, self.server.tell)
        # At each round's end; with a million clients that would be most of what is done.
        self.server.promises.recounts = len(crew) <= _RECOUNTED_MAX
        owner = ClientConfig(broker="", federation="", id="each", task=federation.task)
        habits = Habits(
            seed=config.seed,
            task=messages.task_name(federation.task),
            link=owner.link,
            model_bytes_max=owner.model_bytes_max,
            faults=config.faults,
            conditions=config.device.conditions,
            samples=samples,
        )
        if masked_round.is_masked(federation):
            # Here: who masks nothing is spared `cryptography` and libsodium.
            from fleet_sim.lab_masking import LabKeyholders

            keyholders = LabKeyholders(federation)
            self.server.masking = keyholders.masking
            self.server.opening_s = config.masking.opening_s
            habits = replace(habits, terms=keyholders.terms)
        judged = config.data.evaluate == "test"
        self._purposes: tuple[Purpose, ...] = ("train",) if judged else PURPOSES
        if describes:
            self._purposes = ("describe",)
        self._crew, self._habits, self._work = crew, habits, work
        self.devices: list[LabDevice] = []
        """Those that anything has happened to, in the order in which it did."""
        self._sleeps = can_sleep(config) and sleeps
        if not self._sleeps:
            self.devices += [self._device(n) for n in range(len(crew))]
        self._judge: LabDevice | None = None
        if judged:
            # No real federation has one, and none carries what it does.
            calm = replace(
                habits,
                faults=Faults(half_open=0.0),
                conditions=Conditions(),
                is_counted=False,
                # It has nothing to hide.
                terms=Terms(),
            )
            self._judge = LabDevice(
                self._scene, self.broker, judge(JUDGE), ("evaluate",), calm, work
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

    def run(
        self,
        on_time: Callable[[Seconds], None] = lambda now: None,
        enough: Callable[[Record], bool] = lambda record: False,
    ) -> None:
        """Until all rounds are done, the fleet's hours are over, or a round was `enough`.

        Raises Broken, as `World`.
        """
        ends_at = self._hours_max * HOUR_S
        looked_at = 0
        # Something happens at the end in any case: what would be after it does not.
        self.clock.at(ends_at, lambda: None)
        self.server.begin()
        for device in self.devices:
            device.begin()
        if self._sleeps:
            self.clock.at(0.0, self._lay_all_asleep)
        if self._judge is not None:
            self._judge.begin()

        def is_over() -> bool:
            nonlocal looked_at
            on_time(self.clock.now)
            new, looked_at = self.records[looked_at:], len(self.records)
            return any(map(enough, new)) or self.server.is_finished or self.clock.now >= ends_at

        self.clock.run(until=is_over)

    def _device(self, n: int) -> LabDevice:
        return LabDevice(
            self._scene, self.broker, self._crew[n], self._purposes, self._habits, self._work
        )

    def _lay_all_asleep(self) -> None:
        for n, name in enumerate(self._crew.clients):
            client = ClientId(name)
            birth = Presence(
                online=True,
                session=birth_token(client),
                task=self._habits.task,
                purposes=tuple(one for one in self._purposes if one != "describe"),
                describes="describe" in self._purposes,
                label=label_of(self._crew.config.device, name),
                draws=True,
            )
            self.broker.lay_asleep(client, birth, partial(self._wake, n))

    def _wake(self, n: int) -> None:
        device = self._device(n)
        device.wake_connected()
        self.devices.append(device)

    def _told(self, at: Seconds, close: rounds.Close) -> None:
        base = self.server.promises.offers[close.round].model.digest
        late = self.server.state.past.late - sum(one.late_updates for one in self.records)
        closed = (self._begins + timedelta(seconds=at)).isoformat(timespec="milliseconds")
        up, down = self.broker.bytes_up, self.broker.bytes_down
        answers = self.tensors.answers if self.tensors else None
        if self.tensors and self.tensors.kept_because:
            close = replace(close, outcome="kept", reason=self.tensors.kept_because)
        record = history.record(
            close,
            left_out=self.tensors.left_out if self.tensors else (),
            closed=closed,
            base=base,
            late_updates=max(0, late),
            samples=answers.samples if answers else 0,
            train_metrics=answers.train_metrics() if answers else {},
            figures=answers.figures() if answers else None,
            codecs=answers.codecs if answers else {},
            clipped=answers.clipped if answers else None,
            bytes_received=up,
            bytes_published=down,
            quarantined=self.server.shut_out.why if self.server.shut_out else {},
            privacy=self._spent,
        )
        self.records.append(record)
        self.marks.append(RoundMark(round=close.round, closed_s=at, bytes_up=up, bytes_down=down))
        self._on_round(record)

    @property
    def _spent(self) -> Privacy | None:
        if self._plan is None or self.tensors is None:
            return None
        size = self.tensors.division.size
        number = rounds.trained_last(self.server.state)
        return privacy_spent.spent(self._plan, self.server.roster, number, size)


class HeaderWork:
    """Devices' work where nothing is learned: only who answers, and when."""

    def __init__(self) -> None:
        self._at_work: dict[ClientId, Assignment] = {}

    def begin(self, client: ClientId, work: Assignment) -> None:
        self._at_work[client] = work

    def stop(self, client: ClientId) -> None:
        self._at_work.pop(client, None)

    def answer(self, client: ClientId) -> Update | Evaluation | str:
        work = self._at_work.pop(client)
        offer, base = work.offer, work.offer.model.digest
        if work.purpose == "evaluate":
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

    def remembers(self, client: ClientId, answer: session.Answer) -> bool:
        return False

    def settle(
        self, client: ClientId, answer: session.Answer, accepted: bool, counted: RoundId | None
    ) -> None:
        pass
