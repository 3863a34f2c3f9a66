"""The agent: the small program that is always on. It holds the session with the broker and the
outbox, and starts the trainer when a round is accepted.

    link, trainer, timers ──▶ event ──▶ session.step ──▶ effects ──▶ link, trainer, outbox, timers

It imports neither torch nor numpy: models and answers pass through it as files.
"""

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import structs

from edge_client import (
    activity,
    conditions,
    disclosed,
    link_quality,
    privacy,
    session,
    time_budget,
)
from edge_client.activity import Measured, Now
from edge_client.config import ClientConfig
from edge_client.device_memory import DeviceMemory
from edge_client.disclosed_file import DisclosedFile
from edge_client.known_model import KnownModels
from edge_client.link_quality import LinkQuality
from edge_client.models import Models
from edge_client.outbox import AnswerLost, Outbox, sweep
from edge_client.privacy import Terms
from edge_client.quiet_file import QuietFile
from edge_client.rounds_done import RoundsDone
from edge_client.session import Answer, Session
from edge_client.told_presence import ToldPresence
from edge_client.trainer_pool import Report, Ticket
from edge_client.training_job import (
    Done,
    Failed,
    FromTrainer,
    Job,
    Mask,
    Progress,
    Rebuild,
    Rebuilt,
)
from fedmqtt import __version__, chunks, client_ids, messages, pace, sortition
from fedmqtt.credentials import Credentials
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.envelope import NOTHING_IS_SIGNED
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import Seldom
from fedmqtt.messages import PURPOSES, Chunk, Offer, Open, Presence, Purpose, Receipt, WireError
from fedmqtt.mqtt_link import (
    Acknowledged,
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    Network,
    NodeUp,
    Part,
    Refused,
    Strayed,
    Unproven,
    next_try,
    room_for,
)
from fedmqtt.topics import (
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    RunId,
    Topics,
    UpdatePart,
)

_SETTLE_AFTER_S = 1.0
"""An answer that has no receipt by then is forced to the disk."""

_SAY_AGAIN_S = 600.0
"""A device may be out of reach for days: that nothing has changed is said this rarely."""


_SHOWN_EVERY_S = 0.25
"""To somebody who looks at a screen."""


class Trainers(Protocol):
    """Where work is done: `TrainerPool`, or what a benchmark puts in its place."""

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket: ...

    def cancel(self, ticket: Ticket) -> None: ...


class Agent:
    """One client. Several may share an event loop and a pool of trainers."""

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        config: ClientConfig,
        trainers: Trainers,
        watch: Callable[[session.Event], None] = lambda event: None,
        reading: Callable[[], conditions.Reading] = conditions.read,
        network: Network | None = None,
        on_denied: Callable[[str], None] = lambda reason: None,
        account: Credentials | None = None,
        show: Callable[[Now], None] | None = None,
        *,
        is_site: bool = False,
    ) -> None:
        """`watch` hears every event before the machine does; `show` what is done now, whenever that
        has changed: for progress on a screen.

        `reading` is where a device keeps its sensors, if not where Linux does; `network` is how it
        reaches its broker, if not over this machine's; `on_denied` hears why the broker will never
        let it in; `account` is by what answers are masked. A site's trainers are devices of its
        own, which answer by the codec that is asked for.
        """
        self._loop = loop
        self._config = config
        self._trainers = trainers
        self._watch = watch
        self._reading = reading
        self._on_denied = on_denied
        self._account = account
        self._is_site = is_site
        self._devices = 0
        """That it stands for, of a site."""
        self._client = ClientId(config.id)
        self._log = logging.getLogger(f"client.{config.id}")
        self._rules = session.Rules(
            client=self._client,
            task=messages.task_name(config.task),
            purposes=config.purposes,
            program=f"fedmqtt {__version__}",
            label=config.label,
            resend_s=config.link.resend_s,
            outbox_bytes_max=config.outbox_bytes_max,
            leave_from_s=config.link.leave_from_s,
            terms=_terms(config, account),
        )
        self._state = Session()
        self._alarm: Timer | None = None
        self._conditions_timer: Timer | None = None
        self._fetching: session.Fetch | None = None
        self._ticket: Ticket | None = None
        self._quality = LinkQuality()
        """Of the link up, as far as this program's life has shown it."""
        self._down_told: tuple[str, Seconds] | None = None
        """Why there is no link, and when the log told so."""
        self._may_be_unseen = False
        """On this connection's broker, by a coordinator that comes after us."""
        self._unproven = Seldom()
        self._measured = Measured()
        self._show = show
        self._now: Now | None = None
        """As it was shown last."""
        self._done = RoundsDone(config.state_dir / "rounds-done") if broker.seal else None
        """Where offers are signed: else whoever has the broker can make up any number of them."""
        self._known_models = KnownModels(config.state_dir / "known-models")
        self._disclosed = DisclosedFile(config.state_dir, config.federation)
        self._quiet = QuietFile(config.state_dir, config.federation)
        self._signs_nothing = broker.context is not None and broker.seal is None
        self._sending: dict[Digest, session.SendChunks] = {}
        """The newest Go for each answer that is on its way."""
        self._unsettled: set[Answer] = set()
        """Not known to be on the disk, so that they would survive a loss of power."""
        self._outbox = Outbox(config.state_dir / "outbox")
        self._memory = DeviceMemory(config.state_dir / "memory")
        self._topics = Topics(config.federation)
        self.link = MqttLink(
            loop, broker, self._topics, self._link_options(), self._on_link, network
        )
        self._told = ToldPresence(
            loop, config.progress_s, lambda: self.link.spread_s, self._say_presence
        )
        # Until an offer says how many we are.
        self.link.spread_s = min(pace.UNTOLD_SPREAD_S, config.link.retry_max_s)
        folder, size_max = config.state_dir / "models", config.model_bytes_max
        self._models = Models(loop, self.link, folder, size_max, trainers, self._log)

    @property
    def state(self) -> Session:
        return self._state

    def start(self, goes_on: tuple[RunId, RoundId] | None = None) -> None:
        """Send what an earlier life left, connect, and take part until `stop`.

        `goes_on`: a round that an earlier life took up, and that a site's devices are at work on
        still: `found` may follow.

        Raises OSError where it cannot be told what an earlier life left: the outbox cannot be read.
        """
        answers, damaged = self._outbox.answers()
        stuck = sweep(self._outbox.folder) + self._memory.sweep(answers) + self._models.stuck
        remembering = tuple(filter(self._memory.has, answers))
        known_model = self._known_models.of(self._config.federation, self._rules.task)
        told = self._disclosed.read()
        if damaged:
            # Which of what was begun they were the answers to is not known.
            told = disclosed.count_all(told)
        quiet = self._config.quiet or self._quiet.is_there
        now = self._loop.now()
        started = session.Started(now, answers, remembering, known_model, told, quiet, goes_on)
        self._happen(started)
        self._keep_told()
        if so_far := privacy.so_far(self._config.privacy, self._state.told):
            self._log.info("%s", so_far)
        for answer in answers:
            self._settle_soon(answer)
        if self._signs_nothing:
            self._log.warning("%s", NOTHING_IS_SIGNED)
        troubles: list[str] = []
        if damaged:
            troubles.append(f"damaged and set aside, not sent: {', '.join(map(str, damaged))}")
        if stuck:
            troubles.append(f"cannot be removed: {', '.join(stuck)}")
        if troubles:
            self._happen(session.Troubled(self._loop.now(), "; ".join(troubles)))
        self._check_conditions()
        self.link.open()

    def stop(self) -> None:
        """Say goodbye: offline, but what is owed stays in the outbox for the next start."""
        self._settle_all()
        self._rest()
        self.link.close(self._goodbye())

    def vanish(self) -> None:
        """End as a device without power does: no goodbye, and only its disk remembers."""
        self._rest()
        self.link.cut(None)
        self.link.close()

    def _rest(self) -> None:
        for timer in (self._alarm, self._conditions_timer):
            if timer is not None:
                timer.cancel()
        if self._ticket is not None:
            self._trainers.cancel(self._ticket)
        self._unsettled.clear()
        self._told.stop()
        # A model that has just come must not begin another job.
        self._fetching = None
        self._models.close()

    def _goodbye(self) -> list[Publish]:
        """Nothing where nobody listens."""
        gone = Presence(online=False, session=self._state.token)
        return [] if self._state.quiet else [Publish(PresenceOf(self._client), gone)]

    def _link_options(self) -> LinkOptions:
        def will(token: str) -> Publish | None:
            if self._state.quiet:
                return None
            return Publish(PresenceOf(self._client), Presence(online=False, session=token))

        return LinkOptions(
            client_id=client_ids.of_device(self._config.federation, self._client),
            subscribe=(
                self._topics.offer,
                self._topics.path(Inbox(self._client)),
                self._topics.path(PresenceOf(self._client)),
            ),
            will=will,
            will_delay_s=self._config.link.will_delay_s,
            session_expiry_s=self._config.link.session_expiry_s,
            keepalive_s=self._config.link.keepalive_s,
            retry_max_s=self._config.link.retry_max_s,
            tls_ca=self._config.link.tls_ca or None,
            tell_of=(PresenceOf, UpdatePart),
        )

    def stands_for(self, devices: int) -> None:
        """So many devices are behind this client now."""
        if devices != self._devices:
            self._devices = devices
            if self._now is not None and self._now.is_online:
                self._tell(self._now)

    def found(self, done: Done) -> None:
        """What the round that a site's devices went on with has come to lies in the outbox."""
        self._happen(session.Found(self._loop.now(), _answer(done)))

    # What happens

    def _happen(self, event: session.Event) -> None:
        self._watch(event)
        trouble_before, job_before = self._state.trouble, self._state.job
        was_quiet = self._state.quiet
        self._state, effects = session.step(self._state, event, self._rules)
        if type(self._state.job) is not type(job_before):
            self._measured = Measured()
        if self._state.trouble and self._state.trouble != trouble_before:
            self._log.error("%s", self._state.trouble)
        for effect in effects:
            self._perform(effect)
        if self._state.quiet != was_quiet and not isinstance(event, session.Started):
            self._remember_quiet()
        self._look_at_work()

    def _remember_quiet(self) -> None:
        quiet = self._state.quiet
        self._log.info(
            "this federation %s", "hears of who is drawn alone" if quiet else "hears of all"
        )
        try:
            self._quiet.keep(quiet)
        except OSError as bad:
            # The next start learns it anew.
            self._log.error("%s: %s", bad.filename, bad.strerror)

    def _look_at_work(self) -> None:
        """Whether something else is done now than a moment ago, or more of it is done."""
        self._measured.fetched_bytes = self._models.fetched_bytes
        now = activity.of(self._state, self._measured)
        if now == self._now:
            return
        self._now = now
        if now.is_online:
            self._tell(now)
        if self._show is not None:
            self._show(now)

    def _tell(self, now: Now) -> None:
        told = activity.told(now, link_quality.kbps(self._quality) or 0.0)
        self._told.is_now(structs.replace(told, devices=self._devices))

    def _say_presence(self) -> None:
        if self._state.online and not self._state.quiet:
            said = session.presence(self._state, self._rules)
            self._perform(Publish(PresenceOf(self._client), said))

    def _on_link(self, event: LinkEvent) -> None:
        now = self._loop.now()
        match event:
            case LinkUp(token, packet_bytes_max, _, retained_by_name):
                self._down_told = None
                self._may_be_unseen = retained_by_name
                self._log.info("connected (%s)", event.in_words)
                chunk_bytes = room_for(self._config.link.chunk_bytes, packet_bytes_max)
                self._happen(session.Connected(now, token, chunk_bytes))
            case LinkDown(reason, retry_in_s, thrown_out, taken_over, hopeless):
                if not hopeless:
                    self._tell_down(reason, retry_in_s)
                self._happen(session.Disconnected(now, thrown_out, taken_over))
                if hopeless:
                    self._on_denied(reason)
            case Refused(address, reason):
                self._log.error("the broker refuses %s: %s", self._topics.path(address), reason)
            case Unproven(address, reason):
                what = f"dropped what came in {self._topics.path(address)}: {reason}"
                if told := self._unproven.heard(now, what):
                    self._happen(session.Troubled(now, told))
            case Acknowledged(address, size_bytes, sent_at):
                self._quality = link_quality.after(self._quality, size_bytes, sent_at, now)
                if isinstance(address, UpdatePart):
                    self._measured.sent_bytes += size_bytes
                    self._look_at_work()
            case Arrived():
                try:
                    self._on_arrival(now, event)
                except WireError as bad:
                    path = self._topics.path(event.address)
                    self._log.warning("unreadable message in %s: %s", path, bad)
            case Strayed() | NodeUp():
                # Not asked for.
                pass

    def _tell_down(self, reason: str, retry_in_s: Seconds | None) -> None:
        now = self._loop.now()
        if self._down_told is not None:
            told, told_at = self._down_told
            if told == reason and now - told_at < _SAY_AGAIN_S:
                return
        self._down_told = (reason, now)
        # Told once, when it was noticed, and the cause of all that follows: the broker need not say
        # why it ends the link again and again.
        why = f"; {self._state.trouble}" if session.has_namesake(self._state, self._rules) else ""
        self._log.warning("%s; %s%s", reason, next_try(retry_in_s), why)

    def _on_arrival(self, now: Seconds, arrived: Arrived) -> None:
        match arrived.address:
            case OfferBoard() if not arrived.payload:
                self._happen(session.OfferWithdrawn(now, self._may_be_unseen))
            case OfferBoard():
                self._on_offer(now, messages.read_offer(arrived.payload), arrived)
            case Inbox():
                message = messages.read_to_client(arrived.payload)
                if isinstance(message, Offer):
                    # The board's, said again to us alone: it may be that we were not shown it.
                    self._on_offer(now, message, arrived)
                    return
                if isinstance(message, Open):
                    # For keyholders: this is none.
                    return
                if isinstance(message, Receipt):
                    self._note_done(message)
                self._happen(session.Received(now, message))
            case PresenceOf() if arrived.payload:
                presence = messages.read_presence(arrived.payload)
                self._happen(session.PresenceSeen(now, presence))
            case ModelChunk() as address:
                self._models.take(address, arrived.payload)
                self._look_at_work()
            case _:
                pass

    def _on_offer(self, now: Seconds, offer: Offer, arrived: Arrived) -> None:
        self._check_conditions()
        if self._done is not None and self._done.includes(offer.run, offer.round):
            offer = structs.replace(offer, train=(), evaluate=(), sortition=None)
        self.link.spread_s = offer.spread_s
        invited = any(sortition.invites(offer, self._client, purpose) for purpose in PURPOSES)
        # An old offer that is delivered again must not put its model in the newer one's
        # place.
        is_asked = self._client in offer.train
        waits = session.outlives(self._state.job, offer, is_asked=is_asked)
        if offer.model_file and invited and not waits and not session.is_past(self._state, offer):
            self._models.put(offer.model, offer.model_file)
        self._happen(session.Offered(now, offer, arrived.expires_in_s, arrived.retained))

    def _note_done(self, receipt: Receipt) -> None:
        owed = any(one.answer.is_for(receipt.run, receipt.round) for one in self._state.owed)
        if self._done is None or not owed:
            return
        try:
            self._done.add(receipt.run, receipt.round)
        except OSError as bad:
            # It is known for as long as this program runs.
            self._log.error("%s: %s", bad.filename, bad.strerror)

    def _check_conditions(self) -> None:
        asked = self._config.conditions
        if not asked.any:
            return
        if self._conditions_timer is not None:
            self._conditions_timer.cancel()
        self._conditions_timer = self._loop.call_in(asked.check_s, self._check_conditions)
        reading = self._reading()
        if self._ticket is not None:
            # Our own training is most of the load: it must not stop itself.
            reading = replace(reading, load=None)
        why_not = conditions.hindrance(asked, reading)
        if why_not != self._state.hindrance:
            self._log.info("conditions: %s", why_not or "may take part")
            self._happen(session.ConditionsChanged(self._loop.now(), why_not))

    # What to do about it

    def _perform(self, effect: session.Effect) -> None:
        match effect:
            case Publish(PresenceOf() as to, Presence(online=True) as said):
                told = self._told.take()
                self.link.perform(Publish(to, structs.replace(said, activity=told)))
            case Publish():
                self.link.perform(effect)
            case WakeAt(at):
                self._set_alarm(at)
            case Note(session.TROUBLE, about):
                self._log.warning("%s", about)
            case Note(what, about):
                self._log.info("%s: %s", what, about)
            case session.Fetch():
                self._fetching = effect
                self._models.start(effect.model, lambda fault: self._fetched(effect, fault))
            case session.Work(offer, purpose):
                self._work(offer, purpose)
            case session.Stop():
                self._stop_job(effect.round)
            case session.Send(answer, lane):
                address = UpdatePart(lane, self._client, answer.round, "0")
                # Over a slow link it is still going when its timer runs out.
                if not self.link.is_on_its_way(address):
                    with self._disk_trouble_told(answer):
                        self._make_it_count(answer)
                        self.link.publish(address, self._outbox.read(answer))
            case session.SendChunks():
                # It names what is missing by now, and takes an earlier one's place: at once, since
                # streams go one after the other.
                with self._disk_trouble_told(effect.answer):
                    self._make_it_count(effect.answer)
                    self._sending[effect.answer.digest] = effect
                    self.link.stream(self._parts(effect))
            case session.Forget(answer, accepted, counted):
                self._let_go(answer)
                with self._disk_trouble_told(answer):
                    # In this order: an answer that is found again is counted, sent and receipted
                    # again.
                    self._disclosed.keep(self._state.told)
                    self._memory.settle(answer, accepted, counted)
                    self._outbox.forget(answer)
            case session.Leave(back_at):
                self._leave(back_at)

    def _set_alarm(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, lambda: self._happen(session.Woke(self._loop.now())))

    def _fetched(self, fetch: session.Fetch, fault: str) -> None:
        if fetch is not self._fetching:
            # Another has taken its place while this was on its way here.
            return
        now = self._loop.now()
        self._fetching = None
        if fault:
            self._happen(session.Failed(now, fetch.run, fetch.round, fault))
        else:
            self._happen(session.ModelFetched(now, fetch.model.digest))

    def _work(self, offer: Offer, purpose: Purpose) -> None:
        self._log.info("round %d: %s", offer.round, purpose)
        try:
            self._disclosed.keep(self._state.told)
            self._keep_model()
        except OSError as bad:
            # Posted: a failure must not happen within the event that led here.
            reason = f"what this round tells cannot be kept: {bad.filename}: {bad.strerror}"
            failed = session.Failed(self._loop.now(), offer.run, offer.round, reason)
            self._loop.post(lambda: self._happen(failed))
            return
        job = Job(
            client=self._client,
            purpose=purpose,
            task=self._config.task,
            data_dir=self._config.data,
            model_path=str(self._models.path(offer.model.digest)),
            outbox=str(self._outbox.folder),
            run=offer.run,
            round=offer.round,
            base=offer.model.digest,
            measure_base=self._measures(offer),
            fingerprint=offer.model.fingerprint,
            training=offer.training,
            codec=self._codec(offer, purpose),
            seed=offer.seed,
            method=offer.method,
            memory=str(self._memory.folder),
            stop_at=self._stop_at(offer),
            closes_at=self._closes_at,
            sites=offer.sites,
            label=self._config.label,
            tells_device=self._state.quiet,
            mask=self._mask(offer),
            report_s=self._report_s,
        )
        self._ticket = self._trainers.submit(
            job, lambda said: self._on_trainer(offer.run, offer.round, said)
        )

    def _measures(self, offer: Offer) -> bool:
        """Whether who trains measures the base too."""
        if offer.masking is not None:
            # Under the mask: so it is hidden as its owner asks, whatever else is not.
            return offer.masking.is_measured and "evaluate" in self._config.purposes
        is_invited = sortition.invites(offer, self._client, "evaluate")
        return is_invited and "evaluate" in session.willing(self._state, self._rules)

    def _keep_model(self) -> None:
        if kept := self._state.known_model:
            self._known_models.keep(self._config.federation, self._rules.task, kept)

    def _make_it_count(self, answer: Answer) -> None:
        """Before this answer is let go: whatever happens, it counts from then on. Raises AnswerLost
        and OSError, and it must not be sent."""
        try:
            self._disclosed.keep(self._state.told)
        except OSError as bad:
            # A disk may be so full that nothing but this answer's receipt makes room. What was
            # begun is on it, and an answer that is found beside that counts at the next start.
            self._log.error("%s: %s", bad.filename, bad.strerror)
            self._outbox.settle(answer)

    def _keep_told(self) -> None:
        """Else it is tried again before an answer is let go."""
        try:
            self._disclosed.keep(self._state.told)
        except OSError as bad:
            self._log.error("%s: %s", bad.filename, bad.strerror)

    def _mask(self, offer: Offer) -> Mask | None:
        if offer.masking is None:
            return None
        # Without, the machine would have declined.
        assert self._account is not None
        return Mask(
            masking=msgspec.msgpack.encode(offer.masking),
            federation=self._config.federation,
            signing_key=self._account.signing_key,
        )

    @property
    def _report_s(self) -> Seconds:
        """How often the trainer tells how far it is."""
        if self._show is not None:
            return _SHOWN_EVERY_S
        return self._config.progress_s or math.inf

    def _stop_at(self, offer: Offer) -> Seconds:
        """When training has to end with what it has."""
        working = self._state.job
        if not time_budget.ends_with_round(offer) or not isinstance(working, session.Working):
            return math.inf
        return time_budget.stop_at(self._loop.now(), working.closes_at)

    @property
    def _closes_at(self) -> Seconds:
        """When the round that is worked on is over."""
        working = self._state.job
        return working.closes_at if isinstance(working, session.Working) else math.inf

    def _codec(self, offer: Offer, purpose: Purpose) -> str:
        if offer.masking is not None or self._is_site:
            # All of a sum are coded alike.
            return offer.codec
        chosen = link_quality.codec(self._quality, offer)
        if chosen != offer.codec and purpose == "train":
            kbps = link_quality.kbps(self._quality)
            self._log.info("the link carries about %.0f kbit/s up: answers by %s", kbps, chosen)
        return chosen

    def _on_trainer(self, run: RunId, round_id: RoundId, said: FromTrainer) -> None:
        now = self._loop.now()
        match said:
            case Progress(fraction=fraction):
                self._log.debug("round %d: %.0f%%", round_id, fraction * 100)
                self._measured.work = said
                self._look_at_work()
            case Done():
                self._ticket = None
                answer = _answer(said)
                self._happen(session.Finished(now, answer, self._memory.has(answer)))
                self._settle_soon(answer)
            case Rebuilt():
                raise AssertionError("said to who makes models, and to nobody else")
            case Failed(reason=reason):
                self._ticket = None
                self._happen(session.Failed(now, run, round_id, reason))

    def _owes(self, answer: Answer) -> bool:
        return any(one.answer == answer for one in self._state.owed)

    def _let_go(self, answer: Answer) -> None:
        self._sending.pop(answer.digest, None)
        self._unsettled.discard(answer)

    def _settle_soon(self, answer: Answer) -> None:
        if not self._owes(answer):
            return
        self._unsettled.add(answer)
        self._loop.call_in(_SETTLE_AFTER_S, lambda: self._settle(answer))

    def _settle(self, answer: Answer) -> None:
        if answer in self._unsettled:
            with self._disk_trouble_told(answer):
                self._outbox.settle(answer)
                self._unsettled.discard(answer)

    def _settle_all(self) -> None:
        """At the end: no event follows any more, so the log alone is told what goes wrong."""
        for answer in self._unsettled:
            try:
                self._outbox.settle(answer)
            except (AnswerLost, OSError) as bad:
                self._log.error("outbox: %s", bad)

    def _stop_job(self, round_id: RoundId) -> None:
        self._fetching = None
        self._models.stop()
        if self._ticket is not None:
            self._log.info("round %d: stopped", round_id)
            self._trainers.cancel(self._ticket)
            self._ticket = None

    def _parts(self, send: session.SendChunks) -> Iterator[Part]:
        answer, size = send.answer, send.chunk_bytes
        reading = self._outbox.reading(answer)
        with self._disk_trouble_told(answer):
            for index in chunks.numbers(send.ranges, chunks.count(answer.size_bytes, size)):
                if self._sending.get(answer.digest) is not send or not self._owes(answer):
                    return
                address = UpdatePart(send.lane, self._client, answer.round, str(index))
                # Asked for again since it goes slowly.
                if self.link.is_on_its_way(address):
                    continue
                start, stop = chunks.span(index, answer.size_bytes, size)
                piece = memoryview(reading.piece(start, stop))
                yield Part(address, messages.encode(Chunk(digest=answer.digest, data=piece)))

    @contextmanager
    def _disk_trouble_told(self, answer: Answer) -> Iterator[None]:
        # The agent goes on: what can still be read is tried again later. Posted: what is told must
        # not happen within the event that led here.
        try:
            yield
        except AnswerLost as lost:
            reason = str(lost)
            self._let_go(answer)
            with suppress(OSError):
                # Else at the next start: it belongs to no answer then.
                self._memory.drop(answer)
            self._keep_told()
            self._loop.post(
                lambda: self._happen(session.AnswerGone(self._loop.now(), answer, reason))
            )
        except OSError as bad:
            what = f"outbox: {bad}"
            self._loop.post(lambda: self._happen(session.Troubled(self._loop.now(), what)))

    def _leave(self, back_at: Seconds) -> None:
        left_s = back_at - self._loop.now()
        draw = random.SystemRandom().random()
        back_in_s = pace.back_in_s(draw, left_s, self.link.spread_s)
        self._log.info("offline until the next round, back in about %.0f s", back_in_s)
        self.link.leave(self._goodbye(), back_in_s)


def _answer(done: Done) -> Answer:
    return Answer(done.run, done.round, done.digest, done.size_bytes)


def _terms(config: ClientConfig, account: Credentials | None) -> Terms:
    terms = Terms(asked=config.privacy, federation=config.federation)
    if account is None or not (account.signing_key and account.ticket):
        return terms
    has_cryptography = find_spec("cryptography") is not None
    lacking = "" if has_cryptography else "cryptography: pip install 'fedmqtt[train]'"
    return replace(terms, lacking=lacking, pinned=account.pinned)


def state_dir_fault(folder: Path) -> str:
    """Why the state folder cannot be used, or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as bad:
        return f"state folder {folder}: {bad.strerror}"
    return ""
