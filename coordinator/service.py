"""The coordinator as a running program: one thread that translates, steps the machine, and does.

    link, timers ──▶ event ──▶ rounds.step ──▶ effects ──▶ link, answers, files, timers

The machine decides who counts, `answers.py` adds up what counts; this carries things between them,
the broker and the run's folder.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from msgspec import structs

from coordinator import checkpoint, history, published_model, rounds, selection, status
from coordinator.answers import Answers
from coordinator.config import FederationConfig
from coordinator.roster import Roster
from coordinator.uploads import Upload, Uploads
from fedmqtt import __version__, messages, parts
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import (
    SMALL_MODEL_BYTES,
    Announce,
    Chunk,
    Decline,
    Evaluation,
    ModelRef,
    Offer,
    Purpose,
    Receipt,
    Update,
    WireError,
)
from fedmqtt.mqtt_link import (
    Arrived,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    Part,
    Refused,
    next_try,
    parse_broker_url,
    room_for,
)
from fedmqtt.status_pages import Figures, ModelPage
from fedmqtt.topics import (
    ANNOUNCE,
    ClientId,
    Digest,
    Inbox,
    OfferBoard,
    PresenceOf,
    RoundId,
    Topics,
    UpdatePart,
    lane_of,
)
from fedmqtt.weights import Array, Layout

LANES = 1
_ANSWER_OVERHEAD_BYTES = 1024 * 1024
"""Room for an answer's header and metrics beside its numbers."""

_log = logging.getLogger("coordinator")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a whole run came to."""

    rounds: int
    invited: int
    answered: int
    dropped: int
    rejected: int
    late: int
    figures: Figures | None


class Service:
    """Runs one federation's rounds until they are done or `stop` is called."""

    def __init__(
        self,
        loop: EventLoop,
        config: FederationConfig,
        layout: Layout,
        flat: Array,
        run: Path,
        on_round: Callable[[history.Record], None] = lambda record: None,
    ) -> None:
        """`layout` and `flat` are the initial model; `run` is this run's folder, which exists.

        `on_round` hears of each round when it has closed.
        Raises SettingsError or UnknownPart on settings that no part takes.
        """
        self._loop = loop
        self._config = config
        self._run = run
        self._on_round = on_round
        self._answers = Answers(config, flat.size)
        # The folder's name alone may come again, and clients answer each round of a run once.
        self._rules = _rules(config, f"{run.name[:100]}.{secrets.token_hex(4)}")
        self._roster = Roster(self._rules.task)
        self._state: rounds.State = rounds.Waiting(RoundId(1))
        self._uploads = Uploads(config.transfer.uploads_at_once, config.transfer.stall_s)
        self._ending = False
        self._announced: Announce | None = None
        self._arrived: Update | Evaluation | None = None
        self._figures: tuple[RoundId, Figures] | None = None
        self._retained: dict[Digest, ModelRef] = {}
        self._totals = Totals(0, 0, 0, 0, 0, 0, None)
        self._alarm: Timer | None = None
        self._uploads_timer: Timer | None = None
        self._status_timer: Timer | None = None
        self._facts = status.Facts(
            federation=config.name,
            run=run.name,
            program=f"fedmqtt {__version__}",
            started=datetime.now(UTC),
        )
        topics = Topics(config.name)
        self._broker = parse_broker_url(config.broker.url)
        self.link = MqttLink(
            loop,
            self._broker,
            topics,
            LinkOptions(
                client_id=f"{config.name}::coordinator",
                subscribe=(topics.any_update, topics.any_presence),
                keepalive_s=config.broker.keepalive_s,
                retry_max_s=5.0,
                tls_ca=config.broker.tls_ca or None,
            ),
            self._on_link,
        )
        self._status = status.Status(self.link.publish)
        self._model = published_model.make(layout, flat, 0, config.transfer.chunk_bytes)

    @property
    def is_finished(self) -> bool:
        return isinstance(self._state, rounds.Finished)

    @property
    def has_learned(self) -> bool:
        """Whether any round made a model."""
        return self._model.trained_rounds > 0

    @property
    def totals(self) -> Totals:
        return self._totals

    def run(self) -> None:
        """Until all rounds are done, or the loop is stopped from outside.

        Raises OSError when the run's folder cannot be written.
        """
        try:
            self._save_model()
            self.link.open()
            self._loop.run()
        except OSError:
            # The run's folder cannot be written. What lies on the broker must not outlive the run.
            self._withdraw()
            raise
        self._end()

    # What happens

    def _happen(self, event: rounds.Event) -> None:
        if self._ending:
            return
        before = self._state
        self._state, effects = rounds.step(before, event, self._rules, self._roster)
        for effect in effects:
            self._perform(effect, before, event.at)
        self._status_is_due()

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkUp(_, packet_bytes_max, protocol):
                _log.info("connected to %s (%s)", self._broker, protocol)
                self._facts.protocol = protocol
                self._welcome_broker(packet_bytes_max)
            case LinkDown(reason, retry_in_s):
                _log.warning("%s; %s", reason, next_try(retry_in_s))
            case Refused(address, reason):
                _log.error("the broker refuses %s: %s", type(address).__name__, reason)
            case Arrived(address, payload):
                self._on_arrival(address, payload)

    def _welcome_broker(self, packet_bytes_max: int | None) -> None:
        # It may have lost everything it kept, or be another one with other limits.
        limit = room_for(self._config.transfer.chunk_bytes, packet_bytes_max)
        self._status.bytes_max = room_for(status.PAGE_BYTES_MAX, packet_bytes_max)
        if limit != self._model.ref.chunk_bytes:
            old = self._model
            self._model = published_model.make(old.layout, old.flat, old.trained_rounds, limit)
        self._publish_model()
        for ref in list(self._retained.values()):
            if ref.digest != self._model.ref.digest:
                self.link.stream(self._clearing(ref))
        self._status.forget()
        now = self._loop.now()
        # While averaging, the next model is about to be ready: this one is done with.
        if not isinstance(self._state, rounds.Averaging):
            was_open = isinstance(self._state, rounds.Collecting)
            self._happen(rounds.ModelReady(now, self._model.ref))
            if not isinstance(self._state, rounds.Collecting):
                # One that was withdrawn while the link was down may still stand there.
                self.link.perform(Publish(OfferBoard(), None))
            elif was_open:
                self._publish_offer(rounds.offer(self._state, now, self._rules))

    def _on_arrival(self, address: object, payload: bytes) -> None:
        match address:
            case PresenceOf(client) if payload:
                self._on_presence(client, payload)
            case UpdatePart():
                self._on_part(address, payload)
            case _:
                # Retained leftovers being cleared, and our own pages.
                return

    def _on_presence(self, client: ClientId, payload: bytes) -> None:
        now = self._loop.now()
        try:
            presence = messages.read_presence(payload)
        except WireError as bad:
            self._unreadable(client, bad)
            return
        if presence.online:
            self._happen(rounds.ClientCame(now, client, presence))
        else:
            self._happen(rounds.ClientLeft(now, client, presence.session))

    def _on_part(self, address: UpdatePart, payload: bytes) -> None:
        client = address.client
        try:
            message = messages.read_from_client(payload)
        except WireError as bad:
            self._refuse_unread(address, bad)
            return
        if address.lane != (lane := lane_of(client, LANES)):
            self._refuse_unread(address, WireError(f"lane {address.lane}, not {lane}"))
            return
        match message:
            case Announce() if address.part == ANNOUNCE:
                self._on_announce(client, message)
            case Chunk() if address.part != ANNOUNCE:
                self._on_chunk(client, int(address.part), message)
            case Update() | Evaluation() | Decline():
                self._on_answer(client, message)
            case _:
                misplaced = f"part {address.part!r} is no place for {type(message).__name__}"
                self._refuse_unread(address, WireError(misplaced))

    def _on_announce(self, client: ClientId, announce: Announce) -> None:
        fault = ""
        if announce.size_bytes > self._answer_bytes_max:
            fault = f"{announce.size_bytes} bytes; at most {self._answer_bytes_max} are taken"
        self._announced = announce
        self._happen(rounds.AnnounceCame(self._loop.now(), client, announce.round, fault))
        self._announced = None

    def _admit(self, client: ClientId) -> None:
        assert self._announced is not None
        self._send(self._uploads.announce(self._loop.now(), client, self._announced))
        self._watch_uploads()

    def _on_chunk(self, client: ClientId, index: int, chunk: Chunk) -> None:
        upload = self._uploads.chunk(self._loop.now(), client, index, chunk)
        if upload is None:
            return
        try:
            self._on_upload(client, upload)
        finally:
            self._send(self._uploads.done(self._loop.now(), upload))

    def _on_upload(self, client: ClientId, upload: Upload) -> None:
        if not self._uploads.is_intact(upload):
            # The client still owes it, and will announce it again.
            self._unreadable(client, WireError("the chunks do not add up to what was announced"))
            return
        try:
            message = messages.read_from_client(upload.data)
        except WireError as bad:
            message, why = None, bad
        else:
            why = WireError("what the chunks add up to is no update")
        if isinstance(message, Update | Evaluation):
            self._on_answer(client, message)
            return
        self._unreadable(client, why)
        refused = Receipt(round=upload.announce.round, accepted=False, reason=str(why)[:500])
        self._tell(client, refused)

    def _on_answer(self, client: ClientId, answer: Update | Evaluation | Decline) -> None:
        now = self._loop.now()
        match answer:
            case Decline(round=round_id, reason=reason):
                _log.info("%s declines round %d: %s", client, round_id, reason)
                self._happen(rounds.Declined(now, client, round_id, reason))
            case Evaluation(round=round_id, base=base):
                self._arrived = answer
                fault = self._answers.check(answer)
                self._happen(rounds.EvaluationCame(now, client, round_id, base, fault))
            case Update(round=round_id, base=base, fingerprint=fingerprint):
                self._arrived = answer
                fault = self._answers.check(answer)
                self._happen(rounds.UpdateCame(now, client, round_id, base, fingerprint, fault))
        self._arrived = None
        self._answers.let_go()

    # What to do about it

    def _perform(self, effect: rounds.Effect, before: rounds.State, at: Seconds) -> None:
        match effect:
            case Publish(OfferBoard(), Offer() as offer):
                self._begin_round()
                self._publish_offer(offer)
            case Publish():
                self.link.perform(effect)
            case WakeAt(when):
                self._set_alarm(when)
            case Note(what, about):
                _log.info("%s: %s", what, about)
                if what == rounds.REFUSED:
                    self._facts.refusals.append(about)
            case rounds.Admit(client):
                self._admit(client)
            case rounds.Accept(client):
                assert isinstance(before, rounds.Collecting)
                self._fold(client, before)
            case rounds.AcceptEvaluation(client):
                assert isinstance(self._arrived, Evaluation)
                self._answers.take_measures(client, self._arrived.measures)
            case rounds.Close():
                assert isinstance(before, rounds.Collecting)
                self._close(effect, before, at)
            case rounds.Finish():
                self._loop.stop()

    def _publish_offer(self, offer: Offer) -> None:
        file = self._model.file
        small = len(file) <= SMALL_MODEL_BYTES and offer.model.digest == self._model.ref.digest
        full = structs.replace(offer, model_file=file) if small else offer
        self.link.perform(Publish(OfferBoard(), full))

    def _begin_round(self) -> None:
        assert isinstance(self._state, rounds.Collecting)
        self._answers.begin(len(self._state.train))
        _log.info(
            "round %d: invited %d to train, %d to evaluate",
            self._state.round,
            len(self._state.train),
            len(self._state.evaluate),
        )

    def _fold(self, client: ClientId, collecting: rounds.Collecting) -> None:
        assert isinstance(self._arrived, Update)
        self._answers.fold(client, self._arrived, evaluates=client in collecting.evaluate)
        _log.debug("accepted %s: %d samples", client, self._arrived.sample_count)

    def _close(self, close: rounds.Close, before: rounds.Collecting, at: Seconds) -> None:
        figures = self._answers.figures()
        if figures is not None:
            self._figures = (close.round, figures)
        self._facts.last_round = status.closed_round(
            status.open_round(before, self._rules, at), close
        )
        self._record(close, figures)
        self._send(self._uploads.drop(at, lambda client, round_id: round_id > close.round))
        if close.outcome == "averaged":
            # After the rest of this event: the next round must not open within this one's closing.
            self._loop.post(self._average)

    def _average(self) -> None:
        if self._ending:
            return
        old = self._model
        self._make_next_model()
        self._publish_model()
        self._happen(rounds.ModelReady(self._loop.now(), self._model.ref))
        if old.ref.digest != self._model.ref.digest:
            self.link.stream(self._clearing(old.ref))

    def _make_next_model(self) -> None:
        old = self._model
        flat = self._answers.finish(old.flat)
        self._model = published_model.make(
            old.layout, flat, old.trained_rounds + 1, old.ref.chunk_bytes
        )
        self._save_model()

    def _set_alarm(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, lambda: self._happen(rounds.Woke(self._loop.now())))

    def _watch_uploads(self) -> None:
        wait_s = self._uploads.wake_in_s
        if self._uploads_timer is None and wait_s is not None:
            self._uploads_timer = self._loop.call_in(wait_s, self._tick_uploads)

    def _tick_uploads(self) -> None:
        self._uploads_timer = None
        self._send(self._uploads.tick(self._loop.now()))
        self._watch_uploads()

    def _send(self, effects: list[Publish]) -> None:
        for effect in effects:
            self.link.perform(effect)

    def _tell(self, client: ClientId, receipt: Receipt) -> None:
        self.link.perform(Publish(Inbox(client), receipt))

    def _refuse_unread(self, address: UpdatePart, why: WireError) -> None:
        self._unreadable(address.client, why)
        refused = Receipt(round=address.round, accepted=False, reason=str(why)[:500])
        self._tell(address.client, refused)

    def _unreadable(self, client: ClientId, why: WireError) -> None:
        self._facts.unreadable += 1
        self._facts.refusals.append(f"{client}: {why}")
        _log.warning("%s: %s", client, why)
        self._status_is_due()

    # Models

    @property
    def _answer_bytes_max(self) -> int:
        return len(self._model.file) + _ANSWER_OVERHEAD_BYTES

    def _save_model(self) -> None:
        metadata = {
            "task": self._config.task,
            "run": self._run.name,
            "trained_rounds": str(self._model.trained_rounds),
        }
        path = self._run / "model.safetensors"
        checkpoint.save(path, self._model.layout, self._model.flat, metadata)

    def _publish_model(self) -> None:
        model = self._model
        self._retained[model.ref.digest] = model.ref
        chunks = published_model.parts(model, lambda: model is self._model and not self._ending)
        self.link.stream(chunks)

    def _clearing(self, ref: ModelRef) -> Iterator[Part]:
        yield from published_model.cleared(ref)
        # Only now: when the link breaks in between, the rest is cleared at the end.
        self._retained.pop(ref.digest, None)

    # For people

    def _record(self, close: rounds.Close, figures: Figures | None) -> None:
        record = history.Record(
            round=close.round,
            closed=datetime.now(UTC).isoformat(timespec="milliseconds"),
            outcome=close.outcome,
            reason=close.reason,
            base=self._model.ref.digest,
            invited=sorted(close.invited),
            answered=sorted(close.answered),
            dropped=sorted(close.dropped),
            surplus=sorted(close.surplus),
            declined=dict(close.declined),
            rejected=dict(close.rejected),
            evaluated=sorted(close.evaluated),
            late_updates=self._state.late - self._totals.late,
            duration_s=round(close.duration_s, 4),
            samples=self._answers.samples,
            train_metrics=self._answers.train_metrics(),
            figures=figures,
            bytes_received=self.link.bytes_received,
            bytes_published=self.link.bytes_sent,
        )
        history.append(self._run / "history.jsonl", record)
        self._facts.lines.append(record.line())
        before = self._totals
        self._totals = Totals(
            rounds=before.rounds + (close.outcome != "evaluated"),
            invited=before.invited + len(close.invited),
            answered=before.answered + len(close.answered),
            dropped=before.dropped + len(close.dropped),
            rejected=before.rejected + len(close.rejected),
            late=self._state.late,
            figures=self._figures[1] if self._figures else None,
        )
        _log.info("%s", _sentence(record))
        self._on_round(record)

    def _status_is_due(self) -> None:
        if self._status_timer is None:
            self._status_timer = self._loop.call_in(status.INTERVAL_S, self._say_status)

    def _say_status(self) -> None:
        self._status_timer = None
        if not self.link.is_up:
            return
        facts = self._facts
        facts.bytes_received = self.link.bytes_received
        facts.bytes_published = self.link.bytes_sent
        facts.model = ModelPage(
            digest=self._model.ref.digest,
            size_bytes=self._model.ref.size_bytes,
            parameters=self._model.flat.size,
            trained_rounds=self._model.trained_rounds,
            figures=self._figures[1] if self._figures else None,
            figures_round=self._figures[0] if self._figures else None,
        )
        pages = status.pages(self._state, self._roster, self._rules, facts, self._loop.now())
        self._status.say(pages)

    def _end(self) -> None:
        self._ending = True
        if isinstance(self._state, rounds.Averaging):
            # The history says that this round made a model: here it is.
            self._make_next_model()
        self._withdraw()

    def _withdraw(self) -> None:
        """Say the last status, clear what is retained, and disconnect in good order."""
        self._ending = True
        self._facts.stopped = not self.is_finished
        self._say_status()
        withdrawn = [Publish(OfferBoard(), None)]
        for ref in self._retained.values():
            withdrawn += [Publish(part.address, None) for part in published_model.cleared(ref)]
        self.link.close(withdrawn)


def _rules(config: FederationConfig, run: str) -> rounds.Rules:
    policy: Callable[..., tuple[ClientId, ...]] = parts.load(selection, config.selection).select

    def select(
        candidates: Sequence[ClientId], count: int, round_id: RoundId, purpose: Purpose
    ) -> tuple[ClientId, ...]:
        # A stream for each purpose and round: another draw elsewhere disturbs nothing here.
        return policy(candidates, count, Random(f"{config.seed}/select/{purpose}/{round_id}"))

    return rounds.Rules(
        select=select,
        rounds=config.rounds.count,
        cohort=config.rounds.cohort,
        over_selection=config.rounds.over_selection,
        quorum=config.rounds.quorum,
        # With fewer, no round could make a model.
        clients_min=max(config.rounds.clients_min, config.rounds.quorum),
        deadline_s=config.rounds.deadline_s,
        pause_s=config.rounds.pause_s,
        retry_s=config.rounds.retry_s,
        away_grace_s=config.rounds.away_grace_s,
        evaluate_every=config.evaluation.every,
        evaluators=config.evaluation.clients,
        final_deadline_s=config.evaluation.final_deadline_s,
        run=run,
        task=messages.task_name(config.task),
        training=config.training,
        codec=config.codec,
        lanes=LANES,
        seed=config.seed,
    )


def _sentence(record: history.Record) -> str:
    figures = "".join(
        f", {name} {value:.4f}"
        for name, value in (record.figures.metrics if record.figures else {}).items()
    )
    return (
        f"round {record.round} {record.outcome} ({record.reason}):"
        f" {len(record.answered)} of {len(record.invited)} answered,"
        f" {len(record.dropped)} dropped, {len(record.rejected)} rejected,"
        f" {record.duration_s:.1f} s{figures}"
    )
