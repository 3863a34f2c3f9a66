"""The coordinator's shell in the simulated world: its link, its alarm, its disk, and its deaths.

                 ┌──────── lost at each death ────────┐
    Broker ──▶   link, roster, state, uploads, queue  ──▶ Disk ──▶ recovery.state, a new epoch ─┐
                 └──────────────▲─────────────────────┘                                         │
                                └───────────────────────────────────────────────────────────────┘

It does what `coordinator/service.py` does, in the same order. The promises' accounts outlive it, as
its clients do.
"""

from collections.abc import Callable
from functools import cached_property, partial
from hashlib import blake2b

import msgspec

from coordinator import orders, rounds
from coordinator.intake.upload_slots import UploadSlots
from coordinator.known import LOSS
from coordinator.persistence import recovery
from coordinator.persistence.ledger import Carried, Refusals
from coordinator.roster import Roster
from coordinator.rounds import Named, Rules
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import (
    Announce,
    Chunk,
    Decline,
    Evaluation,
    Masking,
    ModelRef,
    Offer,
    Presence,
    Receipt,
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
)
from fleet_sim.broker import COORDINATOR, Message
from fleet_sim.clock import stream
from fleet_sim.data_plane import DataPlane
from fleet_sim.disk import Disk, DiskQueue, first_carried
from fleet_sim.promises import CoordinatorPromises, hold
from fleet_sim.scene import CHUNK_BYTES, Scene
from fleet_sim.shut_out import ShutOut
from fleet_sim.weather import FOREVER

RETURN_MAX_S: Seconds = 5.0
"""How long either program waits at most before it tries again to connect."""

OLD_MODELS_WITHIN_S: Seconds = 10.0
"""After connecting: how long it looks for models that an earlier life left behind."""

CLOCKS_DIFFER_S: Seconds = 1e5

Step = Callable[
    [rounds.State, rounds.Event, Rules, Roster], tuple[rounds.State, list[rounds.Effect]]
]


class Server:
    def __init__(
        self,
        scene: Scene,
        step: Step,
        told: Callable[[Seconds, rounds.Close], None],
        disk: Disk,
        data: DataPlane,
    ) -> None:
        self.disk = disk
        self.data = data
        self.rules = scene.plan.round_rules(epoch=1)
        self.roster = Roster(self.rules.task, by_sortition=self.rules.by_sortition)
        self.roster.participations.most = self.rules.participations_max
        self.state: rounds.State = rounds.begin(self.rules)
        self.promises = CoordinatorPromises(self.rules)
        self.trace = blake2b(digest_size=8)
        self.is_finished = False
        self.opened_at: dict[RoundId, Seconds] = {}
        self.deaths = 0
        self.is_alive = False
        self._scene = scene
        self._ahead_s: Seconds = 0.0
        """Of its own clock: another for each life, as after a reboot."""
        self._step = step
        self._told = told
        self._chance = stream(scene.plan.seed, "coordinator")
        self._life = 0
        self._link = 0
        """Counts connections and their ends: what was planned under another number is over."""
        self._online = False
        self._chunk_bytes = scene.plan.transfer.chunk_bytes
        """Of models, on this connection."""
        self._alarm_at: Seconds | None = None
        self._closing: rounds.Close | None = None
        self._lying: set[Digest] = set()
        """Models that it knows to lie on the broker."""
        self._announced: Announce | None = None
        self._arrived: Update | Evaluation | None = None
        self._uploads = self._new_uploads()
        self._watches_uploads = False
        self._queue = self._new_queue()
        self.shut_out: ShutOut | None = None
        """None: nobody ever is."""
        self.masking: Callable[[], Masking] | None = None
        """By keys that no round has had, as settings say. None: answers are not masked."""
        self.opening_s: Seconds = 0.0
        """How long keyholders take to open a sum."""

    @property
    def now(self) -> Seconds:
        return self._scene.now + self._ahead_s

    @property
    def hears(self) -> bool:
        """Whether anybody can speak to it now."""
        return self.is_alive and self._online and not self.is_finished

    def begin(self) -> None:
        self.disk.begin(first_carried(self.rules), self.data.initial)
        self._come_alive()

    def settle_down(self) -> None:
        """Nothing fails any more."""
        if not self.is_alive:
            self._restart(self._life)
            return
        if self._online:
            self._lose_link()
        self._connect(self._link)

    def lose_power(self) -> None:
        if self.is_alive and not self.is_finished:
            self._die()

    def lose_broker(self) -> None:
        if self._online:
            self._link_is_down()
            self._connect_within(RETURN_MAX_S)

    # Life and death

    def _come_alive(self) -> None:
        self.is_alive = True
        self.disk.take_epoch(self.disk.epoch + 1)
        self.rules = self._scene.plan.round_rules(self.disk.epoch)
        self._queue = self._new_queue()
        self._renew_masking()
        self._connect(self._link)
        up_s = self._scene.weather.coordinator_up_s
        if up_s < FOREVER:
            self._scene.clock.after(self._chance.expovariate(1 / up_s), self._die_in, self._life)

    def _die_in(self, life: int) -> None:
        if life == self._life and self._scene.calm_at is None:
            self.lose_power()

    def _has_died(self) -> bool:
        """At a moment where it matters."""
        share = self._scene.weather.coordinator_dies
        if not share or self.is_finished or self._chance.random() >= share:
            return False
        self._die()
        return True

    def _die(self) -> None:
        """As with `kill -9` or without power: what is not on the disk is gone."""
        self._say_in_trace("died")
        self.deaths += 1
        self.is_alive = False
        self._life += 1
        self._queue.lose_power()
        self._alarm_at = None
        self._closing = None
        self._lying.clear()
        self._uploads, self._watches_uploads = self._new_uploads(), False
        if self._online:
            self._lose_link()
        down_s = self._chance.expovariate(1 / self._scene.weather.coordinator_down_s)
        self._scene.clock.after(down_s, self._restart, self._life)

    def _restart(self, life: int) -> None:
        if life != self._life or self.is_alive:
            return
        rules = self._scene.plan.round_rules(self.disk.epoch + 1)
        self.roster = Roster(rules.task, by_sortition=rules.by_sortition)
        self.roster.knowledge = self.disk.knowledge()
        self.roster.participations.most = rules.participations_max
        self.roster.recall(self.disk.participations)
        self._ahead_s = self._chance.uniform(0, CLOCKS_DIFFER_S)
        state = self.disk.recover(self.now, rules)
        self.data.restart(state)
        self.promises.restarted(self.now, rules, state, self.disk.answers.keys())
        self.state = state
        if self.disk.is_finished:
            # The real program would not go on. This one has debtors to tell that all is over.
            self.state = rounds.Finished(state.past)
            self.is_finished = True
        self._come_alive()

    # The link

    def _connect(self, link: int) -> None:
        if link != self._link or not self.is_alive:
            return
        scene = self._scene
        if not scene.broker.is_up:
            self._connect_within(RETURN_MAX_S)
            return
        self._online = True
        self._link += 1
        life, link = self._life, self._link
        scene.broker.connect(COORDINATOR, self._receive, is_clean=True)
        self._welcome_broker()
        online_s = scene.weather.coordinator_online_s
        if life == self._life and online_s < FOREVER:
            scene.clock.after(self._chance.expovariate(1 / online_s), self._break_link, link)

    def _connect_within(self, seconds: Seconds) -> None:
        in_s = self._chance.uniform(0, seconds)
        self._scene.clock.after(in_s, self._connect, self._link)

    def _break_link(self, link: int) -> None:
        if link == self._link and self._scene.calm_at is None:
            self._lose_link()
            away_s = self._chance.expovariate(1 / self._scene.weather.coordinator_offline_s)
            self._scene.clock.after(away_s, self._connect, self._link)

    def _lose_link(self) -> None:
        self._link_is_down()
        self._scene.broker.disconnect(COORDINATOR, politely=True)

    def _link_is_down(self) -> None:
        self._online = False
        self._link += 1
        if self.is_alive:
            self.tell(rounds.LinkDown(self.now))

    def _welcome_broker(self) -> None:
        """It may have lost everything it kept, or be another one with other limits."""
        scene = self._scene
        if scene.weather.limits_vary:
            self._chunk_bytes = self._chance.choice([CHUNK_BYTES, CHUNK_BYTES * 2])
        self._publish_model()
        self._clear_old_models(self._link)
        # What an earlier life said may arrive yet.
        scene.clock.after(OLD_MODELS_WITHIN_S, self._clear_old_models, self._link)
        if isinstance(self.state, rounds.Averaging):
            self.tell(rounds.LinkUp(self.now))
            return
        was_open, life = isinstance(self.state, rounds.Collecting), self._life
        self.tell(rounds.ModelReady(self.now, self._model_ref()))
        if life == self._life:
            self.tell(rounds.LinkUp(self.now))
        if life != self._life:
            return
        if not isinstance(self.state, rounds.Collecting):
            # One that was withdrawn while the link was down may still stand there.
            self._say(OfferBoard(), None)
        elif was_open:
            self._say_offer(self.state)

    def _clear_old_models(self, link: int) -> None:
        wanted = self._wanted()
        for address in list(self._scene.broker.retained) if link == self._link else []:
            if isinstance(address, ModelChunk) and address.digest in wanted:
                self._lying.add(address.digest)
            elif isinstance(address, ModelChunk):
                self._say(address, None)

    def _publish_model(self) -> None:
        self._lying.add(self.disk.model)
        self._say(ModelChunk(self.disk.model, 0), _MODEL)

    def _clear_unwanted(self) -> None:
        self.data.still_fetched(self._wanted())
        for digest in sorted(self._lying - self._wanted()):
            self._lying.remove(digest)
            self._say(ModelChunk(digest, 0), None)

    def _wanted(self) -> set[Digest]:
        """The models that somebody may be fetching."""
        older = {ref.digest for ref in rounds.older_models(self.state)}
        return older | {self.disk.model}

    def _say_offer(self, state: rounds.Collecting) -> None:
        offer = rounds.offer(state, self.now, self.rules, self.roster)
        self.promises.offered(offer)
        self._say(OfferBoard(), _quickly_read(self.data.dress(offer)))

    def _remind(self, clients: tuple[ClientId, ...]) -> None:
        assert isinstance(self.state, rounds.Collecting)
        offer = rounds.offer(self.state, self.now, self.rules, self.roster)
        self.promises.offered(offer)
        dressed = self.data.dress(offer)
        for client in clients:
            self._say(Inbox(client), rounds.to_one(dressed, client))

    def _say(self, address: Address, message: Message) -> None:
        # Without a link nothing is kept for later: what must be said is said at each connect.
        if self._online:
            if isinstance(address, Inbox) and isinstance(message, Receipt):
                message = self._with_counted(address.client, message)
            self._scene.broker.publish(COORDINATOR, address, message)

    def _with_counted(self, client: ClientId, receipt: Receipt) -> Receipt:
        is_storing = any(named.client == client for named in self.state.past.storing)
        if receipt.run != self.rules.run or is_storing:
            return receipt
        counted = self.data.counted_last(client)
        return receipt if counted is None else msgspec.structs.replace(receipt, counted=counted)

    def _receive(
        self, address: Address, message: Message, _left: Seconds | None, _retained: bool
    ) -> None:
        now = self.now
        match address, message:
            case PresenceOf(client), Presence(online=True):
                self.tell(rounds.ClientCame(now, client, message))
            case PresenceOf(client), Presence(session=token):
                self.tell(rounds.ClientLeft(now, client, token))
            case UpdatePart(), _ if not self._hears(address):
                pass
            case UpdatePart(client=client), Update() | Evaluation():
                self._take(client, message)
            case UpdatePart(client=client), Decline(run=run, round=round_id, reason=reason):
                self.tell(rounds.Declined(now, client, run, round_id, reason))
            case UpdatePart(client=client), Announce():
                self._let_send(client, message)
            case UpdatePart(client=client, part=part), Chunk():
                self._take_chunk(client, int(part), message)
            case _:
                raise AssertionError((address, message))

    def _hears(self, address: UpdatePart) -> bool:
        """Who is in quarantine is not, and is told so where that takes no answer away that could
        count."""
        client, number = address.client, address.round
        why = self.shut_out.why_out(client) if self.shut_out is not None else ""
        if not why or rounds.has_counted(self.state, client, number):
            return True
        if not rounds.may_yet_count(self.state, number, self.rules):
            told = Receipt(
                run=self.rules.run, round=number, accepted=False, reason=why, blamed=True
            )
            self._say(Inbox(client), told)
        return False

    def _take(self, client: ClientId, answer: Update | Evaluation) -> None:
        now, fault = self.now, self.data.check(client, answer)
        self._arrived = answer
        match answer:
            case Update(run=run, round=round_id, base=base, fingerprint=kind):
                loss, is_excused = answer.metrics.get(LOSS), self.data.is_excused
                said = (answer.sample_count, loss, is_excused)
                self.tell(rounds.UpdateCame(now, client, run, round_id, base, kind, fault, *said))
            case Evaluation(run=run, round=round_id, base=base):
                self.tell(rounds.EvaluationCame(now, client, run, round_id, base, fault))
        self._arrived = None

    def _let_send(self, client: ClientId, announce: Announce) -> None:
        self._announced = announce
        self.tell(rounds.AnnounceCame(self.now, client, announce.run, announce.round))
        self._announced = None

    def _admit(self, client: ClientId) -> None:
        assert self._announced is not None
        self._say_all(self._uploads.announce(self.now, client, self._announced))
        self._watch_uploads()

    def _take_chunk(self, client: ClientId, index: int, chunk: Chunk) -> None:
        upload, life = self._uploads.take(self.now, client, index, chunk), self._life
        if upload is None or not upload.is_whole:
            return
        # Who was told meanwhile that it is too late has forgotten its answer.
        content = self._scene.contents.get((client, chunk.digest))
        if content is not None:
            self._take(client, content)
        if life == self._life:
            self._say_all(self._uploads.fill(self.now))

    def _watch_uploads(self) -> None:
        wait_s = self._uploads.wake_in_s
        if not self._watches_uploads and wait_s is not None:
            self._watches_uploads = True
            self._scene.clock.after(wait_s, self._tick_uploads, self._life)

    def _tick_uploads(self, life: int) -> None:
        if life == self._life:
            self._watches_uploads = False
            self._say_all(self._uploads.tick(self.now))
            self._watch_uploads()

    def _say_all(self, effects: list[Publish]) -> None:
        for effect in effects:
            self._say(effect.to, effect.message)

    def _new_uploads(self) -> UploadSlots:
        transfer = self._scene.plan.transfer
        return UploadSlots(transfer.uploads_at_once, transfer.stall_s)

    # The machine

    def tell(self, event: rounds.Event) -> None:
        before, life = self.state, self._life
        if isinstance(event, rounds.Woke):
            self._alarm_at = None
        self.state, effects = self._step(before, event, self.rules, self.roster)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self._alarm_at = effect.at
        self.promises.check(event, self.state, effects, self.roster, self._alarm_at)
        for effect in effects:
            if self._has_died():
                return
            self._perform(effect, before)
            if life != self._life:
                return
        self._remember_refusals(before)
        control = self.state.past.control
        if control is not before.past.control:
            self._queue.now(partial(self.disk.order, control))

    def _perform(self, effect: rounds.Effect, before: rounds.State) -> None:
        self._note(effect)
        match effect:
            case Publish(OfferBoard(), Offer()):
                self._begin_round()
            case Publish(to, message):
                self._say(to, message)
            case WakeAt(at):
                self._scene.clock.at(at - self._ahead_s, self._ring, at, self._life)
            case rounds.Admit(client):
                self._admit(client)
            case rounds.Accept(client, round_id) | rounds.AcceptEvaluation(client, round_id):
                # As of after the event: it may have come into the round by it.
                after = self.state
                assert isinstance(after, rounds.Collecting) and self._arrived is not None
                evaluates = client in after.evaluate
                self.data.accept(client, self._arrived, evaluates=evaluates)
                self._keep(Named(client, round_id))
            case rounds.Hold(client, round_id):
                assert isinstance(self._arrived, Update)
                self.data.hold(Named(client, round_id), self._arrived)
                self._keep(Named(client, round_id))
            case rounds.Invite():
                self._invite_more(effect)
            case rounds.Remind(clients=clients):
                self._remind(clients)
            case rounds.Shut(number, clients):
                self._queue.now(partial(self.disk.shut, number, clients))
                self.promises.shutting_is_on_disk(number)
            case rounds.Close():
                self._close(effect)
            case rounds.Answer(control=told):
                self._queue.now(partial(self.disk.order, told))
            case rounds.GoBack(number, dropped):
                self._queue.now(partial(self.disk.set_aside, dropped))
                self._scene.clock.after(0.0, self._go_back, number, self._life)
            case rounds.Finish():
                self._queue.now(self.disk.finish)
                self.is_finished = True
                self._clear_unwanted()
            case rounds.Blame(client, reason):
                # Who is honest must not end in quarantine for what the weather did.
                liars = self._scene.liars
                hold(liars is None or client in liars, f"{client} is blamed: {reason}")
                if self.shut_out is not None:
                    self.shut_out.strike(client, reason)
            case Note():
                pass

    def _begin_round(self) -> None:
        state = self.state
        assert isinstance(state, rounds.Collecting)
        self.data.begin(state.round, state.terms_max)
        if state.masking is not None:
            self.data.mask(state.masking)
            # After the event that this is part of.
            self._scene.clock.after(0.0, self._renew_masking)
        # Before anybody hears of it: a coordinator that comes back must not open it otherwise.
        self._queue.now(partial(self.disk.open_round, state.round, recovery.opening(state)))
        self.promises.opening_is_on_disk(state.round)
        self.opened_at[state.round] = self._scene.now
        if not self._has_died():
            self._say_offer(state)

    def _renew_masking(self) -> None:
        """What a round that opens from now on is offered with."""
        if self.masking is not None:
            self.tell(rounds.KeysCame(self.now, self.data.adapted(self.masking())))

    def _invite_more(self, invite: rounds.Invite) -> None:
        state = self.state
        assert isinstance(state, rounds.Collecting)
        self._queue.now(partial(self.disk.invite, invite.round, recovery.opening(state)))
        self.promises.inviting_is_on_disk(invite)
        if not self._has_died():
            self._say_offer(state)

    def _keep(self, named: Named) -> None:
        state, now = self.state, self.now
        left_s = max(0.0, state.closes_at - now) if isinstance(state, rounds.Collecting) else None

        def stored() -> None:
            self.tell(rounds.Stored(self.now, (named,)))

        report = self.roster.knowledge.reports.get((named.client, named.round))
        self._queue.soon(partial(self.disk.keep, named, left_s, report), stored)

    def _remember_refusals(self, before: rounds.State) -> None:
        after = self.state
        if not isinstance(after, rounds.Collecting) or not isinstance(before, rounds.Collecting):
            return
        if after.declined is not before.declined or after.rejected is not before.rejected:
            refusals = Refusals(declined=dict(after.declined), rejected=dict(after.rejected))
            self._queue.soon(partial(self.disk.refuse, after.round, refusals))

    def _close(self, close: rounds.Close) -> None:
        may_be_late = self.rules.late != "discard"
        self._say_all(
            self._uploads.drop(self.now, lambda _, number: number > close.round or may_be_late)
        )
        self._closing = close
        if close.outcome == "averaged":
            took_s = self.opening_s + self._scene.weather.average_s
            self._scene.clock.after(took_s, self._average, self._life)
        else:
            self.data.keep()
            self._conclude(self.disk.model)

    def _average(self, life: int) -> None:
        if life != self._life or self._has_died():
            return
        assert self._closing is not None
        old, close = self.disk.model, self._closing
        self._conclude(self.data.next_model(old, close))
        if self._has_died():
            return
        self._publish_model()
        # By what came of the round: ranges, and the clip norm.
        self._renew_masking()
        self.tell(rounds.ModelReady(self.now, self._model_ref()))
        if life == self._life:
            self._clear_unwanted()

    def _go_back(self, number: RoundId, life: int) -> None:
        if life != self._life or self._has_died():
            return
        control = orders.gone_back(self.state.past.control, number)
        self._queue.now(partial(self.disk.go_back, number, control))
        if self._has_died():
            return
        self._publish_model()
        self.tell(rounds.ModelReady(self.now, self._model_ref()))
        if life == self._life:
            self._clear_unwanted()

    def _conclude(self, model: Digest) -> None:
        """The round has come out like this; `model` is what the next one starts from."""
        close, self._closing = self._closing, None
        assert close is not None
        past = self.state.past
        carried = Carried(pace=past.pace, late=past.late, typical_s=past.typical_s)
        self._queue.now(partial(self.disk.close_round, close, carried, model))
        self.promises.closing_is_on_disk(close.round)
        self._told(self._scene.now, close)

    def _model_ref(self) -> ModelRef:
        return self.data.model(self.disk.model, self._chunk_bytes)

    def _ring(self, alarm_at: Seconds, life: int) -> None:
        if alarm_at == self._alarm_at and life == self._life:
            # Between two clocks a last digit may be lost, and the alarm seem to ring too early.
            self.tell(rounds.Woke(max(alarm_at, self.now)))

    def _new_queue(self) -> DiskQueue:
        return DiskQueue(self._scene.clock, self._chance, self._scene.plan.commit_s)

    def _note(self, effect: rounds.Effect) -> None:
        told = ""
        match effect:
            case Publish(to, message):
                told = f"{type(message).__name__} {to}"
            case (
                rounds.Accept(client, round_id)
                | rounds.AcceptEvaluation(client, round_id)
                | rounds.Hold(client, round_id)
            ):
                told = f"{client} {round_id}"
            case (
                rounds.Invite(round_id, clients)
                | rounds.Remind(round_id, clients)
                | rounds.Shut(round_id, clients)
            ):
                told = f"{round_id} {sorted(clients)}"
            case rounds.Close():
                told = f"{effect.round} {effect.outcome} {sorted(effect.answered)} {effect.held}"
            case WakeAt(at):
                told = f"{at:.6f}"
            case _:
                pass
        self._say_in_trace(f"{type(effect).__name__} {told}")

    def _say_in_trace(self, told: str) -> None:
        self.trace.update(f"{self._scene.now:.6f} {told}\n".encode())


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
