"""A client in a storm: its power, link, disk, trainer and owner fail it as the weather is drawn."""

import hashlib

import msgspec

from edge_client import session
from fedmqtt import pace
from fedmqtt.messages import ALL_PURPOSES, Evaluation, Measures, ModelRef, Offer, Purpose, Update
from fedmqtt.topics import (
    ClientId,
    Digest,
    ModelChunk,
    OfferBoard,
    RoundId,
    RunId,
    UpdatePart,
    lane_of,
)
from fleet_sim import storm_numbers
from fleet_sim.clock import stream
from fleet_sim.data_plane import INITIAL_MODEL, NONSENSE
from fleet_sim.device import Device, Step
from fleet_sim.kept_memory import KeptMemory
from fleet_sim.plan import TASK, Plan
from fleet_sim.scene import CHUNK_BYTES, Scene
from fleet_sim.server import RETURN_MAX_S
from fleet_sim.weather import FOREVER

OTHER_RUN = RunId("an-older-run")


class StormDevice(Device):
    __slots__ = ("_chance", "_lied_about", "_slowness", "memory", "stragglers")

    def __init__(self, scene: Scene, plan: Plan, name: ClientId, step: Step) -> None:
        rules = session.Rules(
            client=name,
            task=TASK,
            purposes=ALL_PURPOSES,
            resend_s=plan.resend_s,
            resend_max_s=plan.resend_max_s,
            leave_from_s=plan.leave_from_s,
        )
        super().__init__(scene, rules, step)
        self.stragglers: set[int] = set()
        self.memory = KeptMemory()
        self._chance = stream(plan.seed, "client", name)
        self._slowness = self._chance.lognormvariate(0, scene.weather.train_spread)
        self._lied_about: Offer | None = None

    def begin(self) -> None:
        weather = self._scene.weather
        if self._chance.random() < weather.old_debts:
            self._owe_an_older_run()
        first_s = min(weather.offline_s, 60.0) if weather.online_s < FOREVER else 5.0
        self._start()
        self._later(self._chance.uniform(0, first_s), self._come)
        if self._chance.random() < weather.liars:
            if self._scene.liars is not None:
                self._scene.liars.add(self.name)
            self._scene.clock.after(self._chance.expovariate(1 / 10), self._lie)
        if weather.power_s < FOREVER:
            self._scene.clock.after(self._chance.expovariate(1 / weather.power_s), self._cut_power)

    def settle_down(self) -> None:
        """Nothing fails any more."""
        self._life += 1
        if self.state.online:
            self._lose_link(politely=False)
        if self.state.hindrance:
            self.tell(session.ConditionsChanged(self._scene.now, ""))
        self._slowness = min(self._slowness, 1.0)
        self._later(self._chance.uniform(0, 10), self._come)

    def lose_broker(self) -> None:
        if self.state.online:
            self._life += 1
            self.tell(session.Disconnected(self._scene.now))
            self._return()

    # Coming and going

    def _return(self, attempt: int = 0) -> None:
        within = (RETURN_MAX_S, 4 * RETURN_MAX_S, self._spread_s)
        self._later(pace.return_in_s(self._draw(), attempt, *within), self._come)

    def _come(self, life: int) -> None:
        if life != self._life:
            return
        weather = self._scene.weather
        if self._is_off or self._chance.random() < weather.reboots:
            self._reboot()
        if not self._scene.broker.is_up:
            # Its third attempt.
            self._return(attempt=2)
            return
        token = self._connect()
        if self._chance.random() < weather.unplugged:
            # At connecting, or some time after it: in the middle of a round.
            self._later(self._chance.choice([0.0, 20.0]), self._unplug)
        if weather.online_s < FOREVER:
            self._later(self._chance.expovariate(1 / weather.online_s), self._go)
        self.tell(session.Connected(self._scene.now, token, CHUNK_BYTES))

    def _go(self, life: int) -> None:
        if life != self._life:
            return
        weather = self._scene.weather
        self._life += 1
        self._lose_link(politely=self._chance.random() < weather.polite)
        if self._chance.random() < weather.blips:
            self._return()
        else:
            self._later(self._chance.expovariate(1 / weather.offline_s), self._come)

    def _cut_power(self) -> None:
        weather = self._scene.weather
        if self._scene.calm_at is None:
            self._lose_power()
            self._scene.clock.after(self._chance.expovariate(1 / weather.power_s), self._cut_power)

    def _has_lost_power(self) -> bool:
        """At a moment where it matters."""
        share = self._scene.weather.client_dies
        if not share or self._chance.random() >= share:
            return False
        self._lose_power()
        return True

    def _lose_power(self) -> None:
        """Nothing is left but the disk."""
        self._life += 1
        self._powered += 1
        if self.state.online:
            self._hang_up(politely=False)
        self._forget_all()
        self._is_off = True
        back_s = self._chance.expovariate(1 / self._scene.weather.power_back_s)
        self._later(back_s, self._come)

    def _reboot(self) -> None:
        self._forget_all()
        self._is_off = False
        self.memory.sweep(self.disk)
        self._start()

    def _unplug(self, life: int) -> None:
        if life == self._life:
            self.tell(session.ConditionsChanged(self._scene.now, "on battery"))
            self._later(self._chance.expovariate(1 / 60), self._plug_in)

    def _plug_in(self, life: int) -> None:
        # Also in a later life: the owner does not wait for the link.
        if self.state.hindrance:
            self.tell(session.ConditionsChanged(self._scene.now, ""))

    def _draw(self) -> float:
        return self._chance.random()

    def _forget_all(self) -> None:
        super()._forget_all()
        self.stragglers.clear()

    # Fetching and training

    def _fetch(self, run: RunId, round_id: RoundId, model: ModelRef) -> None:
        self._job += 1
        took_s = self._chance.expovariate(1 / self._scene.weather.download_s)
        self._scene.clock.after(took_s, self._fetched, self._job, run, round_id, model.digest)

    def _fetched(self, job: int, run: RunId, round_id: RoundId, digest: Digest) -> None:
        scene = self._scene
        # Without a link, or when the chunks are cleared, a download ends by itself never.
        there = ModelChunk(digest, 0) in scene.broker.retained
        if job != self._job or not self.state.online or not there:
            return
        if self._chance.random() < scene.weather.download_failures:
            self.tell(session.Failed(scene.now, run, round_id, "a chunk does not fit"))
        else:
            self.tell(session.ModelFetched(scene.now, digest))

    def _work(self, offer: Offer, purpose: Purpose) -> None:
        self._job += 1
        weather = self._scene.weather
        took_s = self._chance.expovariate(1 / weather.train_s) * self._slowness
        self._scene.clock.after(took_s, self._done, self._job, offer, purpose)

    def _done(self, job: int, offer: Offer, purpose: Purpose) -> None:
        weather, now = self._scene.weather, self._scene.now
        if job != self._job and job not in self.stragglers:
            return
        if job == self._job and self._chance.random() < weather.trainer_crashes:
            why = "the trainer did not survive"
            self.tell(session.Failed(now, offer.run, offer.round, why))
            return
        digest = Digest(hashlib.sha256(f"{self.name}/{job}".encode()).hexdigest())
        large = self._chance.random() < weather.large_answers
        answer = session.Answer(offer.run, offer.round, digest, 3000 if large else 300)
        content = header(offer, purpose)
        if isinstance(content, Update) and offer.method.difference:
            if any(one.is_for(offer.run, offer.round) for one in self.disk):
                why = "it is answered already"
                self.tell(session.Failed(now, offer.run, offer.round, why))
                return
            content, remembered = storm_numbers.difference(
                self.name, offer, self._draw, self.memory.committed
            )
            self.memory.keep(answer, remembered)
            if self._has_lost_power():
                return
        self._put(answer, content)
        # The answer lies in the outbox before the machine hears of it.
        if not self._has_lost_power():
            self._finish(answer)

    def _remembers(self, answer: session.Answer) -> bool:
        return self.memory.has(answer)

    def _settle(self, forget: session.Forget) -> None:
        self.memory.settle(forget.answer, forget.accepted, forget.counted)

    def _stop(self) -> None:
        if self._chance.random() < self._scene.weather.stragglers:
            self.stragglers.add(self._job)
        super()._stop()

    # What should not count

    def _owe_an_older_run(self) -> None:
        """To a round of the same number that started from the same model."""
        digest = Digest(hashlib.sha256(f"{self.name}/old".encode()).hexdigest())
        large = self._chance.random() < self._scene.weather.large_answers
        answer = session.Answer(OTHER_RUN, RoundId(1), digest, 3000 if large else 300)
        self._put(answer, _update(OTHER_RUN, RoundId(1), INITIAL_MODEL, "f", "full"))

    def _lie(self) -> None:
        """Send an answer that is late, early, uninvited, about another model, or not a number."""
        scene, chance = self._scene, self._chance
        if scene.calm_at is not None:
            return
        scene.clock.after(chance.expovariate(1 / 20), self._lie)
        letter = scene.broker.retained.get(OfferBoard())
        if not self.state.online or letter is None or not isinstance(letter.message, Offer):
            return
        offer, older = letter.message, self._lied_about or letter.message
        self._lied_about = offer
        lie = header(chance.choice([offer, offer, older]), chance.choice(["train", "evaluate"]))
        other_round = RoundId(max(1, lie.round + chance.choice([-1, 1])))
        lies: list[dict[str, object]] = [
            {},
            {"base": Digest("0" * 64)},
            {"round": other_round},
            {"run": OTHER_RUN},
        ]
        if isinstance(lie, Update):
            lies += [{"payload": NONSENSE}, {"fingerprint": "g"}]
        lie = msgspec.structs.replace(lie, **chance.choice(lies))
        where = UpdatePart(lane_of(self.name, offer.lanes), self.name, lie.round, "0")
        scene.broker.publish(self.name, where, lie)


def header(offer: Offer, purpose: Purpose) -> Update | Evaluation:
    """The answer of a client that did what it was asked, without the numbers."""
    base = offer.model.digest
    if purpose == "evaluate":
        measures = Measures(sample_count=1)
        return Evaluation(run=offer.run, round=offer.round, base=base, measures=measures)
    return _update(offer.run, offer.round, base, offer.model.fingerprint, offer.codec)


def _update(run: RunId, round_id: RoundId, base: Digest, fingerprint: str, codec: str) -> Update:
    return Update(
        run=run,
        round=round_id,
        base=base,
        fingerprint=fingerprint,
        sample_count=1,
        codec=codec,
        payload=memoryview(b""),
    )
