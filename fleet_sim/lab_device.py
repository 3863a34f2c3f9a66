"""A client of the lab: online when its plan says so, on its own link, on its own hardware.

intervals ──▶ come, go        link ──▶ fetch, cut        hardware ──▶ train, conditions
faults ──▶ reboots, trainers that crash, links that fall silent
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from msgspec import structs

from edge_client import conditions, delta_route, link_quality, session, time_budget
from edge_client.conditions import Conditions
from edge_client.config import Link as LinkConfig
from edge_client.model_fetch import too_large
from edge_client.privacy import Terms
from fedmqtt import chunks, pace, sortition
from fedmqtt.effects import Publish, Seconds
from fedmqtt.messages import (
    SMALL_MODEL_BYTES,
    Evaluation,
    ModelRef,
    Offer,
    Presence,
    Purpose,
    Update,
)
from fedmqtt.topics import ClientId, Digest, ModelChunk, PresenceOf, RoundId, RunId
from fleet_sim.clock import stream
from fleet_sim.device import Device, Step
from fleet_sim.failures import TRAINER_DIED, TrainerCrashes, outages
from fleet_sim.fleet import Equipment, Faults, FleetConfig
from fleet_sim.intervals import DAY_S, Interval
from fleet_sim.lab_broker import LabBroker
from fleet_sim.lab_uplink import Uplink
from fleet_sim.links import LinkSettings
from fleet_sim.scene import Scene
from fleet_sim.work_time import WorkTime

_RETURN_FIRST_S: Seconds = 1.0
"""Who lost its link tries again within so long, drawn at random, or as the offer asks."""

_LOOK_AHEAD_S: Seconds = DAY_S
"""How far ahead a device looks for the next change of its battery."""


_PRESENCE_BYTES = 200
"""About; it is small, as far as a link's width goes."""


def birth_token(client: ClientId) -> str:
    """Of a client's first connection."""
    return f"{client}-1"


def can_sleep(config: FleetConfig) -> bool:
    """Whether nothing can happen to a client before it is invited: then it need not be simulated.

    What is known of a million such clients is a line each.
    """
    link, faults = config.link, config.faults
    is_plain = link == LinkSettings(latency_s=link.latency_s)
    is_steady = not faults.reboots_per_day and not config.device.battery.training_h
    is_willing = not (config.device.metered and config.device.conditions.unmetered)
    return config.connectivity.kind == "always" and is_plain and is_steady and is_willing


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a device does of an offer."""

    offer: Offer
    purpose: Purpose
    measures_base: bool
    """It evaluates the model before it trains."""
    steps_max: int
    """It has time for so many; 0: for all."""
    label: str


class Work(Protocol):
    """Where answers come from: `lab_tensors.Cohort`, or headers where nothing is learned."""

    def begin(self, client: ClientId, work: Assignment) -> None:
        """The device is at it."""

    def stop(self, client: ClientId) -> None:
        """It gave up."""

    def answer(self, client: ClientId) -> Update | Evaluation | str:
        """It is done; a string says why there is no answer."""

    def named(self, content: Update | Evaluation) -> session.Answer:
        """What the session knows of an answer."""

    def remembers(self, client: ClientId, answer: session.Answer) -> bool:
        """Whether something is to be remembered once it is accepted."""

    def settle(
        self, client: ClientId, answer: session.Answer, accepted: bool, counted: RoundId | None
    ) -> None:
        """Its receipt has come: see `edge_client/device_memory.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What all devices of a fleet have in common."""

    seed: int
    task: str
    link: LinkConfig
    model_bytes_max: int
    faults: Faults
    conditions: Conditions
    samples: Callable[[ClientId, Purpose], int]
    """How much data a client has for this."""
    terms: Terms = field(default_factory=Terms)
    """What their owners ask of how answers are hidden."""
    is_counted: bool = True
    """Whether what they carry is the fleet's."""


class LabDevice(Device):
    __slots__ = (
        "_broker",
        "_chance",
        "_crashes",
        "_equipment",
        "_habits",
        "_has_chunks",
        "_has_failed",
        "_holds",
        "_intervals",
        "_is_empty",
        "_is_out",
        "_leaving",
        "_looks",
        "_on_its_way", "_orders",
        "_outages",
        "_sending",
        "_uplink",
        "_work_of",
    )  # fmt: skip

    def __init__(
        self,
        scene: Scene,
        broker: LabBroker,
        equipment: Equipment,
        purposes: tuple[Purpose, ...],
        habits: Habits,
        work: Work,
        step: Step = session.step,
    ) -> None:
        name = ClientId(equipment.client)
        rules = session.Rules(
            client=name,
            task=habits.task,
            purposes=purposes,
            label=equipment.label,
            resend_s=habits.link.resend_s,
            leave_from_s=habits.link.leave_from_s,
            terms=habits.terms,
        )
        super().__init__(scene, rules, step)
        self._broker = broker
        self._equipment = equipment
        self._habits = habits
        self._work_of = work
        self._chance = stream(habits.seed, "client", name)
        self._crashes = TrainerCrashes(habits.faults, habits.seed, name)
        self._intervals: Iterator[Interval] = iter(())
        self._outages: Iterator[Interval] = iter(())
        self._leaving: Random | None = None
        """Only of who may ever leave."""
        self._has_failed = False
        """Its power has, until it is back."""
        self._is_empty = False
        """Its battery is, until it is charged."""
        self._is_out = True
        """Its plan says that it is offline."""
        self._holds: tuple[Digest, ...] = ()
        """The model that lies on its disk."""
        self._has_chunks: dict[Digest, int] = {}
        """How many chunks of what it fetches lie there too: of a model, or of deltas."""
        self._looks = 0
        """Counts looks at the battery: one that was planned before another is not made."""
        self._sending: dict[session.Answer, int] = {}
        """The newest order to send chunks of an answer."""
        self._orders = 0
        self._on_its_way: tuple[int, session.Answer, int, Seconds] | None = None
        """What it said last of an answer: over which connection, which chunk, until when."""
        self._uplink = Uplink()
        broker.lay_line(name, equipment.link, self._cut, is_counted=habits.is_counted)

    def begin(self) -> None:
        self._start()
        self._look()
        self._leaving = stream(self._habits.seed, "leaving", self.name)
        self._intervals = self._equipment.online()
        self._plan_next()
        self._outages = outages(self._habits.faults, self._habits.seed, self.name)
        self._plan_outage()

    def wake_connected(self) -> None:
        """It has been there from the beginning, and nothing has happened to it until now."""
        self._is_out = False
        self._connections = 1
        token = birth_token(self.name)
        for event in (
            session.Started(0.0, ()),
            session.Connected(0.0, token, self._habits.link.chunk_bytes),
        ):
            # What it says then has been said.
            self.state, _ = self._step(self.state, event, self.rules)
        seen = session.PresenceSeen(0.0, session.presence(self.state, self.rules))
        self.state, _ = self._step(self.state, seen, self.rules)
        self._broker.adopt(self.name, self._receive, Presence(online=False, session=token))
        # On the plain link that who sleeps has, a presence takes a round trip.
        self._uplink.says(_PRESENCE_BYTES, 0.0, self._round_trip_s)

    # Coming and going, by the plan

    def _plan_next(self) -> None:
        begins, ends = next(self._intervals, (math.inf, math.inf))
        if begins < math.inf:
            self._scene.clock.at(begins, self._may_come, ends)

    def _may_come(self, ends: Seconds) -> None:
        self._is_out = False
        if ends < math.inf:
            self._scene.clock.at(ends, self._must_go)
        if not self._is_off:
            self._come(self._life)

    def _must_go(self) -> None:
        assert self._leaving is not None
        self._is_out = True
        self._life += 1
        # Drawn also by who is not connected, so that the next departure is the same in any case.
        share = self._leaving.random()
        if self.state.online:
            self._depart(share)
        self._plan_next()

    def _depart(self, share: float) -> None:
        """`share`: where this one stands among all departures, of which the silent come first."""
        faults = self._habits.faults
        if share < faults.half_open:
            # The last it heard of it may have been a ping, up to a keepalive ago.
            self._break_off(self._habits.link.keepalive_s * (1.5 - self._draw()))
        elif share < faults.half_open + faults.polite:
            self._lose_link(politely=True)
        else:
            self._break_off(0.0)

    def _break_off(self, notices_in_s: Seconds) -> None:
        self._vanish(notices_in_s)
        self.tell(session.Disconnected(self._scene.now))

    def _hang_up(self, *, politely: bool) -> None:
        super()._hang_up(politely=politely)
        self._uplink.breaks(self._scene.now)

    def _vanish(self, notices_in_s: Seconds) -> None:
        self._uplink.breaks(self._scene.now)
        will_s = notices_in_s + self._habits.link.will_delay_s
        self._broker.disconnect(self.name, politely=False, notices_in_s=will_s)

    def _come(self, life: int) -> None:
        if life != self._life or self._is_out or self._is_off or self.state.online:
            return
        token = self._connect()
        chunk_bytes = self._habits.link.chunk_bytes
        self.tell(session.Connected(self._scene.now, token, chunk_bytes))

    def _cut(self) -> None:
        """The link breaks in the middle of a transfer, and is tried again at once."""
        if not self.state.online:
            return
        self._life += 1
        self._break_off(0.0)
        within = (_RETURN_FIRST_S, self._habits.link.retry_max_s, self._spread_s)
        self._later(pace.return_in_s(self._draw(), 0, *within), self._come)

    def _draw(self) -> float:
        return self._chance.random()

    # Its power

    def _plan_outage(self) -> None:
        begins, ends = next(self._outages, (math.inf, math.inf))
        if begins < math.inf:
            self._scene.clock.at(begins, self._fail_until, ends)

    def _fail_until(self, ends: Seconds) -> None:
        self._has_failed = True
        self._go_off()
        self._scene.clock.at(ends, self._mend)

    def _mend(self) -> None:
        self._has_failed = False
        self._boot()
        self._plan_outage()

    def _go_off(self) -> None:
        """Its memory is lost, and not its disk."""
        if self._is_off:
            return
        self._life += 1
        self._powered += 1
        if self.state.online:
            self._vanish(0.0)
        self._forget_all()
        self._is_off = True

    def _boot(self) -> None:
        """If it has both, power and charge."""
        if self._has_failed or self._is_empty:
            return
        self._is_off = False
        self._start()
        self._look()
        self._come(self._life)

    def _forget_all(self) -> None:
        self._work_of.stop(self.name)
        self._rest()
        self._uplink = Uplink()
        super()._forget_all()

    def _feel_battery(self) -> None:
        """Its level ends the device, and the charger brings it back."""
        hardware, now = self._equipment.hardware, self._scene.now
        if hardware.is_empty(now):
            self._is_empty = True
            self._go_off()
        elif self._is_empty and hardware.reading(now).charging:
            self._is_empty = False
            self._boot()

    # The owner's conditions

    def _look(self) -> None:
        """What does the device say now, and when will it say something else?"""
        hardware, now = self._equipment.hardware, self._scene.now
        if hardware.charge is not None:
            self._feel_battery()
            self._looks += 1
            changes = hardware.changes(now, now + _LOOK_AHEAD_S)
            again_at = changes[0] if changes else now + _LOOK_AHEAD_S
            self._scene.clock.at(again_at, self._look_again, self._looks)
        if self._is_off:
            return
        why_not = conditions.hindrance(self._habits.conditions, hardware.reading(now))
        if why_not != self.state.hindrance:
            self.tell(session.ConditionsChanged(now, why_not))

    def _look_again(self, looks: int) -> None:
        if looks == self._looks:
            self._look()

    # Fetching, a chunk at a time: what has come stays on the disk

    def _fetch(self, run: RunId, round_id: RoundId, model: ModelRef) -> None:
        self._job += 1
        if model.size_bytes <= SMALL_MODEL_BYTES:
            # It came with the offer.
            self._scene.clock.after(0.0, self._fetched, self._job, model.digest)
            return
        room = min(self._habits.model_bytes_max, self._equipment.hardware.model_bytes_max)
        if fault := too_large(model, int(room)):
            failed = session.Failed(self._scene.now, run, round_id, fault)
            self._scene.clock.after(0.0, self._fail, self._job, failed)
            return
        self._fetch_files(self._job, model, self._files(model))

    def _files(self, model: ModelRef) -> list[ModelRef]:
        """What is to be fetched for it: deltas, itself, or nothing."""
        if model.digest in self._holds:
            return []
        found = delta_route.route(model, self._holds)
        if found is None:
            return [structs.replace(model, deltas=())]
        return [model.file_of(delta) for delta in found.deltas]

    def _fetch_files(self, job: int, model: ModelRef, files: list[ModelRef]) -> None:
        if not files:
            self._holds = (model.digest,)
            self._has_chunks.clear()
            self._scene.clock.after(0.0, self._fetched, job, model.digest)
            return
        file = files[0]
        is_delta = file.digest != model.digest
        if file.digest not in self._has_chunks:
            # Of models that are begun, it keeps the newest; of what leads to one, all.
            self._has_chunks = (
                {**self._has_chunks, file.digest: 0} if is_delta else {file.digest: 0}
            )
        self._fetch_next(job, model, files, asks=True)

    def _fetch_next(self, job: int, model: ModelRef, files: list[ModelRef], *, asks: bool) -> None:
        file = files[0]
        have = self._has_chunks[file.digest]
        if have == chunks.count(file.size_bytes, file.chunk_bytes):
            self._fetch_files(job, model, files[1:])
            return
        start, stop = chunks.span(have, file.size_bytes, file.chunk_bytes)
        life = self._life
        took_s = self._broker.download_s(self.name, stop - start, self._scene.now, asks=asks)
        self._scene.clock.after(took_s, self._take_chunk, job, life, model, files)

    def _take_chunk(self, job: int, life: int, model: ModelRef, files: list[ModelRef]) -> None:
        there = ModelChunk(model.digest, 0) in self._broker.retained
        if job != self._job or life != self._life or not there:
            return
        self._has_chunks[files[0].digest] += 1
        self._fetch_next(job, model, files, asks=False)

    def _fetched(self, job: int, digest: Digest) -> None:
        if job == self._job:
            self.tell(session.ModelFetched(self._scene.now, digest))

    # Working

    def _work(self, offer: Offer, purpose: Purpose) -> None:
        self._job += 1
        hardware, now = self._equipment.hardware, self._scene.now
        if offer.masking is None:
            measures = sortition.invites(offer, self.name, "evaluate")
        else:
            measures = offer.masking.is_measured
        measures &= purpose == "train" and "evaluate" in self.rules.purposes
        steps_max, took_s = self._steps_and_time(offer, purpose, measures=measures)
        codec = link_quality.codec(self._uplink.quality(now), offer)
        chosen = structs.replace(offer, codec=codec)
        work = Assignment(chosen, purpose, measures, steps_max, self.rules.label)
        self._work_of.begin(self.name, work)
        hardware.train(now, now + took_s)
        job = self._job
        # Its owner may say no at this very moment: then the job is another one.
        self._look()
        dies_after = self._crashes.next(offer.round) if purpose != "evaluate" else None
        if dies_after is not None:
            crashed = session.Failed(now, offer.run, offer.round, TRAINER_DIED)
            self._scene.clock.after(took_s * dies_after, self._fail, job, crashed)
        else:
            self._scene.clock.after(took_s, self._done, job, offer)

    def _steps_and_time(
        self, offer: Offer, purpose: Purpose, *, measures: bool
    ) -> tuple[int, Seconds]:
        """How many steps of training it makes, 0 if all, and how long its work takes."""
        samples = self._habits.samples
        evaluates = measures or purpose == "evaluate"
        trains = purpose == "train" or offer.method.fine_tune_epochs > 0
        work = WorkTime(
            hardware=self._equipment.hardware,
            purpose=purpose,
            measures=measures,
            train_samples=samples(self.name, "train") if trains else 0,
            evaluate_samples=samples(self.name, "evaluate") if evaluates else 0,
            training=offer.training,
            method=offer.method,
        )
        working, now = self.state.job, self._scene.now
        is_bounded = purpose == "train" and time_budget.ends_with_round(offer)
        if is_bounded and isinstance(working, session.Working):
            return work.within(time_budget.stop_at(now, working.closes_at) - now)
        return 0, work.total_s

    def _fail(self, job: int, failed: session.Failed) -> None:
        if job == self._job:
            self._work_of.stop(self.name)
            self._rest()
            self.tell(session.Failed(self._scene.now, failed.run, failed.round, failed.reason))

    def _done(self, job: int, offer: Offer) -> None:
        if job != self._job:
            return
        content, now = self._work_of.answer(self.name), self._scene.now
        if isinstance(content, str):
            self.tell(session.Failed(now, offer.run, offer.round, content))
            return
        answer = self._work_of.named(content)
        self._put(answer, content)
        self._finish(answer)

    def _perform(self, effect: session.Effect) -> None:
        if isinstance(effect, session.Send):
            if self._is_on_its_way(effect.answer, 0):
                return
            said_at = self._said_at()
            super()._perform(effect)
            self._goes(effect.answer, 0, effect.answer.size_bytes, said_at)
            return
        said_at = self._said_at()
        super()._perform(effect)
        if isinstance(effect, Publish) and isinstance(effect.to, PresenceOf):
            self._uplink.says(_PRESENCE_BYTES, said_at, self._acknowledged_at())
        if isinstance(effect, session.Forget):
            # A long run would keep every answer that was ever given.
            self._scene.contents.pop((self.name, effect.answer.digest), None)
            self._sending.pop(effect.answer, None)

    def _remembers(self, answer: session.Answer) -> bool:
        return self._work_of.remembers(self.name, answer)

    def _settle(self, forget: session.Forget) -> None:
        self._work_of.settle(self.name, forget.answer, forget.accepted, forget.counted)

    def _send_chunks(
        self, answer: session.Answer, lane: int, ranges: chunks.Ranges, chunk_bytes: int
    ) -> None:
        self._orders += 1
        # It names what is missing by now, and takes an earlier one's place.
        self._sending[answer] = self._orders
        count = chunks.count(answer.size_bytes, chunk_bytes)
        numbers = chunks.numbers(ranges, count)
        self._send_next(self._life, self._orders, answer, lane, chunk_bytes, numbers)

    def _send_next(
        self,
        life: int,
        order: int,
        answer: session.Answer,
        lane: int,
        chunk_bytes: int,
        numbers: Iterator[int],
    ) -> None:
        if life != self._life or self._sending.get(answer) != order:
            return
        if (number := next(numbers, None)) is None:
            return
        if not self._is_on_its_way(answer, number):
            ranges = ((number, number + 1),)
            said_at = self._said_at()
            super()._send_chunks(answer, lane, ranges, chunk_bytes)
            start, stop = chunks.span(number, answer.size_bytes, chunk_bytes)
            self._goes(answer, number, stop - start, said_at)
        # Not all at once: what is not on its way yet is not lost with the link, nor sent in vain.
        at = self._broker.free_at(self.name)
        self._scene.clock.at(at, self._send_next, life, order, answer, lane, chunk_bytes, numbers)

    def _goes(self, answer: session.Answer, number: int, size_bytes: int, said_at: Seconds) -> None:
        until = self._broker.free_at(self.name)
        self._on_its_way = (self._connections, answer, number, until)
        self._uplink.says(size_bytes, said_at, self._acknowledged_at())

    def _said_at(self) -> Seconds:
        """When what is said now begins to go: after all that was said before."""
        return max(self._scene.now, self._broker.free_at(self.name))

    def _acknowledged_at(self) -> Seconds:
        """When the broker's acknowledgement of what was said last is here."""
        return self._broker.free_at(self.name) + self._round_trip_s

    @property
    def _round_trip_s(self) -> Seconds:
        return 2 * self._equipment.link.latency_s

    def _is_on_its_way(self, answer: session.Answer, number: int) -> bool:
        """As the real client, it does not say twice what its link is still busy with."""
        if self._on_its_way is None or self._scene.now >= self._on_its_way[3]:
            return False
        return self._on_its_way[:3] == (self._connections, answer, number)

    def _stop(self) -> None:
        self._work_of.stop(self.name)
        self._rest()
        super()._stop()

    def _rest(self) -> None:
        now = self._scene.now
        self._equipment.hardware.train(now, now)
