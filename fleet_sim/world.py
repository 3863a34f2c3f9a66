"""Thousands of clients, one broker and one coordinator on a virtual clock.

    Device: session.step, a disk, a trainer ──┐                    ┌── Server: rounds.step, a roster
    Device: ...                               ├──▶ Broker ◀────────┤
    Device: ...                               ┘   (weather)        └── promises, after every event

The machines are the ones that the real programs run. Only time, the network, downloads, training
and the numbers in the answers are replaced: an answer is a header here. First the weather of the
seed, in which nothing may go wrong for good; then calm, in which the run must come to its end.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import msgspec

from coordinator import rounds
from coordinator.roster import Roster
from coordinator.rounds import Rules
from coordinator.selection import uniform
from edge_client import session
from fedmqtt import chunks
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    Announce,
    Chunk,
    Decline,
    Evaluation,
    Go,
    Measures,
    ModelRef,
    Offer,
    Presence,
    Purpose,
    Receipt,
    TimeLeft,
    Update,
)
from fedmqtt.topics import (
    Address,
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    UpdatePart,
    lane_of,
)
from fleet_sim.broker import COORDINATOR, Broker, Message
from fleet_sim.clock import Clock, stream
from fleet_sim.promises import CoordinatorPromises, check_client, hold
from fleet_sim.weather import FOREVER, Weather

TASK = "simulated"
FINGERPRINT = "f"
CHUNK_BYTES = 1024
NONSENSE = memoryview(b"nan")

CoordinatorStep = Callable[
    [rounds.State, rounds.Event, rounds.Rules, Roster], tuple[rounds.State, list[rounds.Effect]]
]
ClientStep = Callable[
    [session.Session, session.Event, session.Rules], tuple[session.Session, list[session.Effect]]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One storm: the federation, and how long the bad weather lasts."""

    seed: int
    clients: int
    rounds: int
    cohort: int
    quorum: int
    over_selection: float
    clients_min: int
    deadline_s: Seconds
    pause_s: Seconds
    retry_s: Seconds
    away_grace_s: Seconds
    evaluate_every: int
    evaluators: int
    storm_s: Seconds
    resend_s: Seconds = 20.0
    resend_max_s: Seconds = 160.0

    @classmethod
    def from_seed(
        cls, seed: int, clients: int | None = None, round_count: int | None = None
    ) -> "Plan":
        chance = stream(seed, "plan")
        drawn_clients = chance.choice([3, 10, 40, chance.randint(3, 80)])
        drawn_rounds = chance.choice([1, 6, 12])
        clients = clients or drawn_clients
        cohort = max(1, round(clients * chance.choice([0.05, 0.1, 0.3, 0.6])))
        deadline_s = chance.choice([20.0, 60.0, 120.0])
        return cls(
            seed=seed,
            clients=clients,
            rounds=round_count or drawn_rounds,
            cohort=cohort,
            quorum=chance.choice([1, max(1, cohort // 2), cohort]),
            over_selection=chance.choice([1.0, 1.3, 1.6]),
            clients_min=max(1, round(clients * chance.choice([0.0, 0.1, 0.5]))),
            deadline_s=deadline_s,
            pause_s=chance.choice([0.0, 0.0, 15.0]),
            retry_s=chance.choice([0.0, 5.0]),
            away_grace_s=chance.choice([0.0, 10.0, 1000.0]),
            evaluate_every=chance.choice([0, 1, 3]),
            evaluators=max(1, clients // 20),
            storm_s=chance.choice([3, 10]) * deadline_s,
        )

    def round_rules(self) -> Rules:
        return Rules(
            select=self._select,
            rounds=self.rounds,
            cohort=self.cohort,
            over_selection=self.over_selection,
            quorum=self.quorum,
            clients_min=self.clients_min,
            deadline_s=self.deadline_s,
            pause_s=self.pause_s,
            retry_s=self.retry_s,
            away_grace_s=self.away_grace_s,
            evaluate_every=self.evaluate_every,
            evaluators=self.evaluators,
            final_deadline_s=self.deadline_s,
            run=f"storm-{self.seed}",
            task=TASK,
            lanes=4,
        )

    def _select(
        self, candidates: Sequence[ClientId], count: int, round_id: RoundId, purpose: Purpose
    ) -> tuple[ClientId, ...]:
        return uniform.select(candidates, count, stream(self.seed, "select", purpose, round_id))


class World:
    """`run` it; then `closed` tells what came of it, and `trace` is the same for the same seed."""

    def __init__(
        self,
        plan: Plan,
        weather: Weather,
        *,
        coordinator_step: CoordinatorStep = rounds.step,
        client_step: ClientStep = session.step,
        told: Callable[[Seconds, rounds.Close], None] = lambda at, close: None,
    ) -> None:
        self.plan = plan
        self.weather = weather
        self.clock = Clock()
        self.broker = Broker(self.clock, stream(plan.seed, "network"), weather)
        self.told = told
        self.contents: dict[Digest, Update | Evaluation] = {}
        """What the announced answers are, instead of the bytes of their chunks."""
        self.calm_at: Seconds | None = None
        self.server = Server(self, coordinator_step)
        names = [ClientId(f"c{number:05}") for number in range(plan.clients)]
        self.devices = [Device(self, name, client_step) for name in names]

    @property
    def closed(self) -> list[rounds.Close]:
        return self.server.promises.closed

    @property
    def trace(self) -> str:
        return self.server.trace.hexdigest()

    def run(self) -> None:
        """The storm, and then the calm. Raises Broken where a promise is broken."""
        self.server.begin()
        for device in self.devices:
            device.begin()
        self.clock.at(self.plan.storm_s, self._calm)
        self.clock.run(until=lambda: self.calm_at is not None)
        give_up_at = self.clock.now + self._run_takes_at_most()
        self.clock.run(until=lambda: self.server.is_finished or self.clock.now > give_up_at)
        progress = f"{len(self.closed)} rounds closed at {self.clock.now:.0f} s"
        hold(self.server.is_finished, f"the weather calmed and the run does not end: {progress}")
        self._settle_debts()
        self._presence_healed()
        self._rounds_flowed()

    def _calm(self) -> None:
        """Everyone is connected anew and stays; the network does what it should."""
        self.calm_at = self.clock.now
        self.weather = self.broker.weather = self.weather.calmed(self.plan.deadline_s / 30)
        self.server.settle_down()
        for device in self.devices:
            device.settle_down()

    @property
    def _calmed_at(self) -> Seconds:
        return (self.calm_at or 0.0) + self._calm_takes

    @property
    def _calm_takes(self) -> Seconds:
        """Until the last of the storm has blown over: wills, copies and a round begun in it."""
        return 120.0 + 2 * self.plan.deadline_s

    def _run_takes_at_most(self) -> Seconds:
        plan = self.plan
        one = plan.deadline_s + plan.pause_s + plan.retry_s + self.weather.average_s
        return self._calm_takes + (plan.rounds + 2) * (one + 1)

    def _settle_debts(self) -> None:
        # Twice the longest wait: one receipt can be under way in each.
        patience_ends_at = self.clock.now + 2 * self.plan.resend_max_s
        self.clock.run(until=lambda: self.clock.now > patience_ends_at or not self._debtors())
        hold(not self._debtors(), f"no receipt ever for {self._debtors()[:5]}")

    def _debtors(self) -> list[ClientId]:
        return [device.name for device in self.devices if device.state.owed or device.disk]

    def _presence_healed(self) -> None:
        # Everyone is connected; whatever old wills still came, nobody may look like gone.
        self.clock.run(until=lambda: self.clock.now > self._calmed_at)
        roster = self.server.roster
        gone = [device.name for device in self.devices if not roster.is_online(device.name)]
        hold(not gone, f"connected and believed to be gone: {gone[:5]}")

    def _rounds_flowed(self) -> None:
        calmed_at = self._calmed_at
        for close in self.closed:
            if self.server.opened_at[close.round] > calmed_at and close.outcome == "kept":
                hold(False, f"round {close.round} failed in calm weather: {close.reason}")


class Server:
    """The coordinator's shell: its link, its alarm, the answers that arrive in chunks."""

    def __init__(self, world: World, step: CoordinatorStep) -> None:
        self.rules = world.plan.round_rules()
        self.roster = Roster(TASK)
        self.state: rounds.State = rounds.Waiting(RoundId(1))
        self.promises = CoordinatorPromises(self.rules)
        self.trace = blake2b(digest_size=8)
        self.is_finished = False
        self.opened_at: dict[RoundId, Seconds] = {}
        self._world = world
        self._step = step
        self._chance = stream(world.plan.seed, "coordinator")
        self._alarm_at: Seconds | None = None
        self._model: Digest | None = None
        self._online = True
        self._unsent: list[tuple[Address, Message]] = []
        self._announced: Announce | None = None
        self._arriving: dict[Digest, chunks.Missing] = {}
        self._link = 0

    def begin(self) -> None:
        self._connect()
        self._new_model("initial")

    def settle_down(self) -> None:
        self._disconnect()
        self._connect()

    # The link

    def _connect(self) -> None:
        self._online = True
        self._link += 1
        self._world.broker.connect(COORDINATOR, self._receive)
        unsent, self._unsent = self._unsent, []
        for address, message in unsent:
            self._publish(address, message)
        online_s = self._world.weather.coordinator_online_s
        if online_s < FOREVER:
            stays_s = self._chance.expovariate(1 / online_s)
            self._world.clock.after(stays_s, self._lose_link, self._link)

    def _lose_link(self, link: int) -> None:
        if link == self._link:
            self._disconnect()
            away_s = self._chance.expovariate(1 / self._world.weather.coordinator_offline_s)
            self._world.clock.after(away_s, self._return, link)

    def _return(self, link: int) -> None:
        if link == self._link:
            self._connect()

    def _disconnect(self) -> None:
        self._online = False
        self._world.broker.disconnect(COORDINATOR, politely=True)

    def _publish(self, address: Address, message: Message) -> None:
        if self._online:
            self._world.broker.publish(COORDINATOR, address, message)
        else:
            self._unsent.append((address, message))

    def _receive(self, address: Address, message: Message, _left: Seconds | None) -> None:
        now = self._world.clock.now
        match address, message:
            case PresenceOf(client), Presence(online=True):
                self.tell(rounds.ClientCame(now, client, message))
            case PresenceOf(client), Presence(session=token):
                self.tell(rounds.ClientLeft(now, client, token))
            case UpdatePart(client=client), Update() | Evaluation():
                self._take(client, message)
            case UpdatePart(client=client), Decline(round=round_id, reason=reason):
                self.tell(rounds.Declined(now, client, round_id, reason))
            case UpdatePart(client=client), Announce():
                self._let_send(client, message)
            case UpdatePart(client=client, part=part), Chunk(digest=digest, data=data):
                self._take_chunk(client, digest, int(part), len(data))
            case _:
                raise AssertionError((address, message))

    def _take(self, client: ClientId, answer: Update | Evaluation) -> None:
        now = self._world.clock.now
        match answer:
            case Update(round=round_id, base=base, fingerprint=fingerprint, payload=payload):
                fault = "not a finite number" if payload == NONSENSE else ""
                self.tell(rounds.UpdateCame(now, client, round_id, base, fingerprint, fault))
            case Evaluation(round=round_id, base=base):
                self.tell(rounds.EvaluationCame(now, client, round_id, base))

    def _let_send(self, client: ClientId, announce: Announce) -> None:
        self._announced = announce
        self.tell(rounds.AnnounceCame(self._world.clock.now, client, announce.round))
        self._announced = None

    def _admit(self, client: ClientId) -> None:
        assert self._announced is not None
        round_id, digest = self._announced.round, self._announced.digest
        missing = chunks.Missing(self._announced.size_bytes, self._announced.chunk_bytes)
        missing = self._arriving.setdefault(digest, missing)
        self._publish(Inbox(client), Go(round=round_id, digest=digest, ranges=missing.ranges()))

    def _take_chunk(self, client: ClientId, digest: Digest, index: int, length: int) -> None:
        missing = self._arriving.get(digest)
        if missing is not None and missing.take(index, length) and not missing.left:
            del self._arriving[digest]
            self._take(client, self._world.contents[digest])

    # The machine

    def tell(self, event: rounds.Event) -> None:
        if isinstance(event, rounds.Woke):
            self._alarm_at = None
        self.state, effects = self._step(self.state, event, self.rules, self.roster)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self._alarm_at = effect.at
        self.promises.check(event, self.state, effects, self.roster, self._alarm_at)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: rounds.Effect) -> None:
        world = self._world
        self._note(effect)
        match effect:
            case Publish(to, Offer() as offer):
                self.opened_at[offer.round] = world.clock.now
                self._publish(to, _quickly_read(offer))
            case Publish(to, message):
                self._publish(to, message)
            case WakeAt(at):
                world.clock.at(at, self._ring, at)
            case rounds.Admit(client):
                self._admit(client)
            case rounds.Close():
                self._arriving.clear()
                world.told(world.clock.now, effect)
                if effect.outcome == "averaged":
                    world.clock.after(world.weather.average_s, self._new_model, str(effect.round))
            case rounds.Finish():
                self.is_finished = True
            case rounds.Accept() | rounds.AcceptEvaluation() | Note():
                pass

    def _ring(self, alarm_at: Seconds) -> None:
        if alarm_at == self._alarm_at:
            self.tell(rounds.Woke(self._world.clock.now))

    def _new_model(self, name: str) -> None:
        old, self._model = self._model, Digest(hashlib.sha256(name.encode()).hexdigest())
        self._publish(ModelChunk(self._model, 0), _MODEL)
        ref = ModelRef(
            digest=self._model, size_bytes=8, chunk_bytes=CHUNK_BYTES, fingerprint=FINGERPRINT
        )
        self.tell(rounds.ModelReady(self._world.clock.now, ref))
        if old is not None:
            self._publish(ModelChunk(old, 0), None)

    def _note(self, effect: rounds.Effect) -> None:
        told = ""
        match effect:
            case Publish(to, message):
                told = f"{type(message).__name__} {to}"
            case rounds.Accept(client, round_id) | rounds.AcceptEvaluation(client, round_id):
                told = f"{client} {round_id}"
            case rounds.Close():
                told = f"{effect.round} {effect.outcome} {sorted(effect.answered)}"
            case WakeAt(at):
                told = f"{at:.6f}"
            case _:
                pass
        line = f"{self._world.clock.now:.6f} {type(effect).__name__} {told}\n"
        self.trace.update(line.encode())


# Nobody reads it: what counts is whether it hangs at the broker.
_MODEL = Chunk(digest=Digest(""), data=memoryview(b""))


class _Names(tuple[ClientId, ...]):
    """Invited clients that can be asked quickly for one."""

    @cached_property
    def as_set(self) -> frozenset[ClientId]:
        return frozenset(self)

    def __contains__(self, client: object) -> bool:
        return client in self.as_set


def _quickly_read(offer: Offer) -> Offer:
    # One offer is read by each of 10,000 clients here. A search through all the names in each of
    # them would be most of what the simulator does.
    return msgspec.structs.replace(
        offer, train=_Names(offer.train), evaluate=_Names(offer.evaluate)
    )


class Device:
    """A client's shell and its life: power, link, disk, trainer, owner."""

    __slots__ = (
        "_alarm_at", "_base", "_chance", "_connections", "_job", "_life", "_slowness", "_step",
        "_world", "disk", "name", "rules", "state", "stragglers",
    )  # fmt: skip

    def __init__(self, world: World, name: ClientId, step: ClientStep) -> None:
        self.name = name
        self.rules = session.Rules(
            client=name,
            task=TASK,
            resend_s=world.plan.resend_s,
            resend_max_s=world.plan.resend_max_s,
        )
        self.state = session.Session()
        self.disk: dict[session.Answer, Update | Evaluation] = {}
        self.stragglers: set[int] = set()
        self._world = world
        self._step = step
        self._chance = stream(world.plan.seed, "client", name)
        self._slowness = self._chance.lognormvariate(0, world.weather.train_spread)
        self._alarm_at: Seconds | None = None
        self._connections = 0
        self._life = 0
        """Counts departures and returns, so that those planned before a change do not happen."""
        self._job = 0
        """Counts fetches and trainings, and their ends: what began under another number is over."""
        self._base = Digest("")

    def begin(self) -> None:
        weather = self._world.weather
        first_s = min(weather.offline_s, 60.0) if weather.online_s < FOREVER else 5.0
        self.tell(session.Started(self._world.clock.now, ()))
        self._later(self._chance.uniform(0, first_s), self._come)
        if self._chance.random() < weather.liars:
            self._world.clock.after(self._chance.expovariate(1 / 10), self._lie)

    def settle_down(self) -> None:
        self._life += 1
        if self.state.online:
            self._lose_link(politely=False)
        if self.state.hindrance:
            self.tell(session.ConditionsChanged(self._world.clock.now, ""))
        self._slowness = min(self._slowness, 1.0)
        self._later(self._chance.uniform(0, 10), self._come)

    # Coming and going

    def _later(self, delay: Seconds, do: Callable[[int], None]) -> None:
        self._world.clock.after(delay, do, self._life)

    def _come(self, life: int) -> None:
        if life != self._life:
            return
        weather, now = self._world.weather, self._world.clock.now
        if self._chance.random() < weather.reboots:
            self._reboot()
        self._connections += 1
        token = f"{self.name}-{self._connections}"
        will = Presence(online=False, session=token)
        self._world.broker.connect(self.name, self._receive, will)
        if self._chance.random() < weather.unplugged:
            # At connecting, or some time after it: in the middle of a round.
            self._later(self._chance.choice([0.0, 20.0]), self._unplug)
        self.tell(session.Connected(now, token, CHUNK_BYTES))
        if weather.online_s < FOREVER:
            self._later(self._chance.expovariate(1 / weather.online_s), self._go)

    def _go(self, life: int) -> None:
        if life != self._life:
            return
        weather = self._world.weather
        self._life += 1
        self._lose_link(politely=self._chance.random() < weather.polite)
        if self._chance.random() < weather.blips:
            self._later(self._chance.uniform(0, 5), self._come)
        else:
            self._later(self._chance.expovariate(1 / weather.offline_s), self._come)

    def _lose_link(self, *, politely: bool) -> None:
        if politely:
            goodbye = Presence(online=False, session=self.state.token)
            self._world.broker.publish(self.name, PresenceOf(self.name), goodbye)
        self._world.broker.disconnect(self.name, politely=politely)
        self.tell(session.Disconnected(self._world.clock.now))

    def _reboot(self) -> None:
        self.state = session.Session()
        self._alarm_at = None
        self._job += 1
        self.tell(session.Started(self._world.clock.now, tuple(self.disk)))

    def _unplug(self, life: int) -> None:
        if life == self._life:
            self.tell(session.ConditionsChanged(self._world.clock.now, "on battery"))
            self._later(self._chance.expovariate(1 / 60), self._plug_in)

    def _plug_in(self, life: int) -> None:
        # Also in a later life: the owner does not wait for the link.
        if self.state.hindrance:
            self.tell(session.ConditionsChanged(self._world.clock.now, ""))

    # The machine

    def _receive(self, address: Address, message: Message, left: Seconds | None) -> None:
        now = self._world.clock.now
        match message:
            case Offer():
                self.tell(session.Offered(now, message, left))
            case None:
                self.tell(session.OfferWithdrawn(now))
            case Presence():
                self.tell(session.PresenceSeen(now, message))
            case Receipt() | Go() | TimeLeft():
                self.tell(session.Received(now, message))
            case _:
                raise AssertionError((address, message))

    def tell(self, event: session.Event) -> None:
        before = self.state
        if isinstance(event, session.Woke):
            self._alarm_at = None
        after, effects = self._step(before, event, self.rules)
        self.state = after
        for effect in effects:
            if isinstance(effect, WakeAt):
                self._alarm_at = effect.at
        check_client(self.name, before, event, after, effects, self._alarm_at)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: session.Effect) -> None:
        world = self._world
        match effect:
            case Publish(to, message):
                world.broker.publish(self.name, to, message)
            case WakeAt(at):
                world.clock.at(at, self._ring, at)
            case session.Fetch(round_id, model):
                self._fetch(round_id, model)
            case session.Work(offer, purpose):
                self._work(offer, purpose)
            case session.Stop():
                if self._chance.random() < world.weather.stragglers:
                    self.stragglers.add(self._job)
                self._job += 1
            case session.Send(answer, lane):
                where = UpdatePart(lane, self.name, answer.round, "0")
                world.broker.publish(self.name, where, self.disk[answer])
            case session.SendChunks(answer, lane, ranges, chunk_bytes):
                self._send_chunks(answer, lane, ranges, chunk_bytes)
            case session.Forget(answer):
                del self.disk[answer]
            case Note():
                pass

    def _ring(self, alarm_at: Seconds) -> None:
        if alarm_at == self._alarm_at:
            self.tell(session.Woke(self._world.clock.now))

    # Fetching and training

    def _fetch(self, round_id: RoundId, model: ModelRef) -> None:
        self._job += 1
        took_s = self._chance.expovariate(1 / self._world.weather.download_s)
        self._world.clock.after(took_s, self._fetched, self._job, round_id, model.digest)

    def _fetched(self, job: int, round_id: RoundId, digest: Digest) -> None:
        world = self._world
        # Without a link, or when the chunks are cleared, a download ends by itself never.
        there = ModelChunk(digest, 0) in world.broker.retained
        if job != self._job or not self.state.online or not there:
            return
        if self._chance.random() < world.weather.download_failures:
            self.tell(session.Failed(world.clock.now, round_id, "a chunk does not fit"))
        else:
            self.tell(session.ModelFetched(world.clock.now, digest))

    def _work(self, offer: Offer, purpose: Purpose) -> None:
        self._job += 1
        weather = self._world.weather
        took_s = self._chance.expovariate(1 / weather.train_s) * self._slowness
        done = self._world.clock.after
        done(took_s, self._done, self._job, offer, purpose)

    def _done(self, job: int, offer: Offer, purpose: Purpose) -> None:
        weather, now = self._world.weather, self._world.clock.now
        if job != self._job and job not in self.stragglers:
            return
        if job == self._job and self._chance.random() < weather.trainer_crashes:
            self.tell(session.Failed(now, offer.round, "the trainer did not survive"))
            return
        digest = Digest(hashlib.sha256(f"{self.name}/{job}".encode()).hexdigest())
        large = self._chance.random() < weather.large_answers
        answer = session.Answer(offer.round, digest, 3000 if large else 300)
        self.disk[answer] = self._world.contents[digest] = header(offer, purpose)
        self.tell(session.Finished(now, answer))

    def _send_chunks(
        self, answer: session.Answer, lane: int, ranges: chunks.Ranges, chunk_bytes: int
    ) -> None:
        for index in chunks.numbers(ranges, chunks.count(answer.size_bytes, chunk_bytes)):
            start, stop = chunks.span(index, answer.size_bytes, chunk_bytes)
            chunk = Chunk(digest=answer.digest, data=memoryview(bytes(stop - start)))
            where = UpdatePart(lane, self.name, answer.round, str(index))
            self._world.broker.publish(self.name, where, chunk)

    def _lie(self) -> None:
        """Send an answer that is late, early, uninvited, about another model, or not a number."""
        world, chance = self._world, self._chance
        if world.calm_at is not None:
            return
        world.clock.after(chance.expovariate(1 / 20), self._lie)
        server = world.server
        letter = world.broker.retained.get(OfferBoard())
        if not self.state.online or letter is None or not isinstance(letter.message, Offer):
            return
        offer = letter.message
        lie = header(offer, chance.choice(["train", "evaluate"]))
        other_round = RoundId(max(1, offer.round + chance.choice([-1, 1])))
        lies: list[dict[str, object]] = [{}, {"base": Digest("0" * 64)}, {"round": other_round}]
        if isinstance(lie, Update):
            lies += [{"payload": NONSENSE}, {"fingerprint": "g"}]
        lie = msgspec.structs.replace(lie, **chance.choice(lies))
        where = UpdatePart(lane_of(self.name, server.rules.lanes), self.name, lie.round, "0")
        world.broker.publish(self.name, where, lie)


def header(offer: Offer, purpose: Purpose) -> Update | Evaluation:
    """The answer of a client that did what it was asked, without the numbers."""
    if purpose == "evaluate":
        measures = Measures(sample_count=1)
        return Evaluation(round=offer.round, base=offer.model.digest, measures=measures)
    return Update(
        round=offer.round,
        base=offer.model.digest,
        fingerprint=offer.model.fingerprint,
        sample_count=1,
        codec=offer.codec,
        payload=memoryview(b""),
    )
