"""The coordinator as a running program: one thread that translates, steps the machine, and does.

    link, timers, disk ──▶ event ──▶ rounds.step ──▶ effects ──▶ link, answers, disk, timers

The machine decides who counts, `answers.py` adds up what counts, `run_folder.py` sees to it that it
is not lost; this carries things between them and the broker. It acts only while it holds the
federation's seat (`leadership.py`): until then, and when another took it, nothing is said.
"""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from coordinator import (
    codec_choice,
    deciding,
    leadership,
    local_method,
    orders,
    quiet_checks,
    quiet_fleet,
    round_rules,
    rounds,
)
from coordinator.aggregation import KeepModel, Memory
from coordinator.config import FederationConfig
from coordinator.intake.incoming import Incoming
from coordinator.intake.reception import Reception
from coordinator.intake.trust import Trust
from coordinator.intake.uploads import Uploads
from coordinator.masking import masked_round, privacy_checks, privacy_floor
from coordinator.models import downlink, published_model
from coordinator.models.checkpoint import CheckpointError
from coordinator.models.models_on_broker import ModelsOnBroker
from coordinator.models.object_store import ObjectStore
from coordinator.models.published_model import PublishedModel
from coordinator.noise import differential_privacy, noise_checks, privacy_spent
from coordinator.order_desk import OrderDesk
from coordinator.orders import Order
from coordinator.pages import skew, status
from coordinator.pages.client_page import Outs
from coordinator.pages.client_pages import ClientPages
from coordinator.pages.skew_watch import SkewWatch
from coordinator.persistence import history, recovery
from coordinator.persistence.history import Record, Totals
from coordinator.persistence.ledger import Carried, Kept, Opening, OpenRound, Refusals
from coordinator.persistence.recovery import Recovered
from coordinator.persistence.run_errors import LedgerDamaged, LedgerError, LedgerTaken
from coordinator.persistence.run_folder import RunFolder
from coordinator.persistence.storage import Storage
from coordinator.roster import Roster
from coordinator.rounds import Named
from coordinator.seat_keeper import SeatKeeper, SeatTaken
from coordinator.sites import totals
from coordinator.sites.above import Above, AsMasked, CameTo
from coordinator.statistics import asked
from coordinator.statistics.sums import SumsOfData
from coordinator.sums.answers import Answers
from coordinator.sums.kept_answers import KeptAnswers
from coordinator.workers import lanes
from coordinator.workers.desk import Desk, Now
from fedmqtt import (
    __version__,
    client_ids,
    data_query,
    exact_total,
    messages,
    personal,
)
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.envelope import KEYS_MAY_BE_WANTED, NOTHING_IS_SIGNED, Author
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.logs import printable
from fedmqtt.messages import (
    SMALL_MODEL_BYTES,
    Evaluation,
    Offer,
    Purpose,
    Receipt,
    Sum,
    Update,
    WireError,
)
from fedmqtt.mqtt_link import (
    Acknowledged,
    Arrived,
    BrokerUrl,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    NodeUp,
    Refused,
    Strayed,
    Unproven,
    next_try,
    parse_broker_url,
    room_for,
)
from fedmqtt.revocations import Revocations
from fedmqtt.settings import SettingsError
from fedmqtt.status_pages import PARTICIPATION_ROUNDS, ModelPage, Privacy
from fedmqtt.topics import (
    Address,
    ClientId,
    CoordinatorSeat,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    OrderOf,
    PresenceOf,
    RoundId,
    SeatClaim,
    StatusPage,
    Topics,
    UpdatePart,
    WorkOf,
    lane_of,
)
from fedmqtt.weights import Array, Layout

if TYPE_CHECKING:
    from coordinator.masking.unmasking import Unmasking

_ANSWER_OVERHEAD_BYTES = 1024 * 1024
"""Room for an answer's header and metrics beside its numbers."""

_LIST_BYTES_MAX = 128 * 1024
"""Of a message to a keyholder."""

_NAMED = 10
"""Of more clients, so many are named in the log."""

_BOARD_CLEARED = Publish(OfferBoard(), None)

BUDGET_USED_UP = (
    "the privacy budget is used up: too few devices may take part in another round, so training"
    " ends here"
)

_log = logging.getLogger("coordinator")


class KeysWanted(Exception):
    """A coordinator with keys has been here, and we have none; says what to do."""

    def __init__(self, federation: str) -> None:
        super().__init__(
            f"federation {federation} is signed: a coordinator with keys leads it or has led it,"
            " and devices with keys hear nobody without. Start with --credentials"
            " KIT/accounts/coordinator.toml; without keys, it needs another name or an empty broker"
        )


class Denied(Exception):
    """The broker will never let us in, or is not the one it should be; says why."""


class RunElsewhere(Exception):
    """A run has begun meanwhile that is to be gone on with: none begins here."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the run in {folder} is to be gone on with")
        self.folder = folder


class Service:
    """Runs one federation's rounds until they are done or `stop` is called."""

    def __init__(
        self,
        loop: EventLoop,
        config: FederationConfig,
        initial: tuple[Layout, Array] | None,
        folder: Path,
        on_round: Callable[[Record], None] = lambda record: None,
        *,
        purpose: Purpose = "train",
        broker: BrokerUrl | None = None,
        trust: Trust | None = None,
        standby: bool = False,
        on_begin: Callable[[], None] = lambda: None,
        elsewhere: Callable[[], Path | None] = lambda: None,
        durable: bool = True,
        revocations: Revocations | None = None,
        storage: Storage | None = None,
        objects: ObjectStore | None = None,
        above: Above | None = None,
    ) -> None:
        """`folder` is this run's and exists; nobody else uses it. With `initial`, a model to start
        from, a run begins in it; without, the one in it goes on.

        `purpose` is what the run is for: to train; to evaluate the model that it begins with; to
        describe the clients' data, with questions in the model's place (`statistics/`).
        `broker`: with an account, where it is not just `config.broker.url`; `trust`: what the
        account tells of whom to believe, where answers are masked.
        `on_round` hears of each round when it has closed. A `standby` waits while another
        coordinator runs the federation. A new run begins when the seat is ours, and not before;
        then `on_begin` hears of it, unless there is a run `elsewhere` that is to be gone on with:
        its folder.
        `revocations` are those that the account's seal goes by, if there is a list.
        `durable=False` forces nothing to the disk: to measure. `storage` is what the run's ledger
        is written to, where that is not a file in its folder; `objects` has its models too.
        At a site somebody `above` says by `lead` when a round opens, and from which model.

        Raises SettingsError or UnknownPart on settings that no part takes, LedgerError and
        CheckpointError where the run in the folder cannot be gone on with.
        """
        privacy_checks.check_job(config, purpose)
        quiet_checks.check_job(config, purpose)
        privacy_checks.check_trust(config, trust)
        self._loop = loop
        self._config = config
        self._trust = trust
        self._above = above
        self._on_round = on_round
        self._on_begin = on_begin
        self._elsewhere = elsewhere
        self._folder = RunFolder(
            folder,
            loop.post_from_thread,
            self._fail,
            durable=durable,
            remembers=round_rules.remembered_rounds(config),
            keeps_models=config.checkpoint.keep if purpose == "train" else 0,
            storage=storage,
            objects=objects,
        )
        self._roster = Roster(
            messages.task_name(config.task), by_sortition=round_rules.is_by_sortition(config)
        )
        self._uploads = Uploads(
            config.transfer.uploads_at_once, config.transfer.stall_s, self._folder.uploads
        )
        self._ending = False
        self._stopping = False
        """A model that is being made is yet finished; no other round opens."""
        self._acting = False
        """Whether the seat is ours on this connection: nothing is published before."""
        self._failure: Exception | None = None
        self._has_told_of_keys = False
        self._closing: rounds.Close | None = None
        """Of the round whose model is being made."""
        self._averager = ThreadPoolExecutor(1, "averaging")
        """Beside the loop: a rule that compares all answers takes seconds, and others have their
        turn meanwhile. numpy works without the interpreter's lock."""
        self._folding: Iterator[Kept] = iter(())
        """Late answers that the round which is closing takes up, and that are not in its sum."""
        self._left_out: set[Named] = set()
        """Of those, what was found to be no good."""
        self._participations: Mapping[ClientId, int] = {}
        """Of those whose answers are in the sum of the round that is closing."""
        self._outdated = RoundId(0)
        """Answers to the rounds up to this one were made under settings that hold no more."""
        self._clears = 0
        """Of the offer board by us, that have not come back on this connection."""
        self._alarm: Timer | None = None
        self._status_timer: Timer | None = None
        self._is_status_due = False
        self._packet_bytes_max: int | None = None
        topics = Topics(config.name)
        self._topics = topics
        self._totals = history.NOTHING
        self._facts = status.Facts(
            federation=config.name,
            run=folder.name,
            program=f"fedmqtt {__version__}",
            started=datetime.now(UTC),
            version=__version__,
            progressed_at=loop.now(),
        )
        self._skew = SkewWatch(config, self._facts)
        self._plan = noise_checks.plan(config) if purpose == "train" else None
        """What is promised to each device."""
        recovered = self._folder.recover() if initial is None else None
        self._downlink = downlink.read(config.downlink_codec)
        self._rules = replace(
            round_rules.from_config(config), purpose=purpose, is_led=above is not None
        )
        if purpose != "train":
            self._rules = replace(self._rules, lanes=1)
        self._roster.participations.most = self._rules.participations_max
        self._model = self._first_model(initial or recovered)
        invited_max = round_rules.invited_max(config)
        # What waits already finds room too, also where less may wait from now on.
        waiting = len(recovered.unused) if recovered is not None else 0
        terms_max = max(rounds.terms_max(invited_max, self._rules), invited_max + waiting)
        remembered = {}
        if recovered is not None and recovered.strategy == local_method.remembering(config):
            remembered = recovered.memory
        self._division = personal.division(self._model.layout, self._rules.method.personal)
        self._unmasking: Unmasking | None = None
        self._answers = self._data_plane(terms_max, remembered, is_new=recovered is None)
        self._kept = KeptAnswers(self._folder, self._answers, self._division.size, self._count)
        if recovered is not None:
            self._beginning = recovered.beginning
            self._state = self._resume(recovered)
        else:
            by = asked.written(config.statistics) if purpose == "describe" else ""
            promised = "" if self._plan is None else self._plan.chosen
            self._beginning = self._folder.name_run(config.task, self._model.layout, by, promised)
            self._state = rounds.begin(self._rules)
            if purpose != "train":
                # It is asked once: of all that are there, and not of the first few to be heard of.
                past = replace(self._state.past, deaf_since=loop.now())
                self._state = replace(self._state, past=past)
        self._say_promise()
        if notice := privacy_checks.notice(config, trust):
            _log.warning("%s", notice)
        self._has_begun = recovered is not None
        """A run that was refused the seat has not, and nobody will want to go on with it."""
        self._rules = replace(self._rules, run=self._beginning.run)
        token = secrets.token_hex(8)
        self._seat = SeatKeeper(
            loop,
            config.name,
            leadership.Rules(
                token=token,
                run=self._beginning.run,
                where=f"{socket.gethostname()}, process {os.getpid()}",
                standby=standby,
                owns_run=True,
                epoch_known=self._folder.ledger.epoch(),
            ),
            say=lambda effect: self.link.perform(effect),
            is_over=lambda: self._ending,
            is_called_off=self._is_run_elsewhere,
            take=self._take_seat,
            act=self._act,
            repeat_offer=self._say_offer,
            fail=self._fail,
            stand_by=self._stand_by,
        )
        self._broker = broker or parse_broker_url(config.broker.url)
        self.link = MqttLink(
            loop,
            self._broker,
            topics,
            LinkOptions(
                client_id=client_ids.of_coordinator(config.name, token),
                subscribe=(topics.seat, topics.claim, topics.offer),
                will=lambda _token: self._seat.will(),
                keepalive_s=config.broker.keepalive_s,
                retry_max_s=5.0,
                tls_ca=config.broker.tls_ca or None,
                tell_strays=True,
                copied=(ModelChunk, StatusPage),
                admits=lambda address, size: self._reception.admits(address, size),
            ),
            self._on_link,
        )
        self._reception = Reception(
            loop,
            self.link,
            topics,
            self._roster,
            self._facts,
            config.limits,
            folder,
            has_keys=self._broker.seal is not None,
            revocations=revocations,
            happen=self._happen,
            refuse=self._refuse_unread,
            show=self._status_is_due,
            state=lambda: self._state,
            rules=lambda: self._rules,
            lanes=self._rules.lanes,
            is_quiet=self._rules.is_quiet,
        )
        self._desk_of_workers = self._workers_desk(token) if self._rules.lanes > 1 else None
        self._gate = self._reception.gate
        self._incoming = Incoming(
            loop,
            topics,
            self._reception,
            self._uploads,
            self._answers,
            trust=trust,
            unmasking=self._unmasking,
            workers=self._desk_of_workers,
            outdated=self._outdated,
            has_base=self._folder.has_base,
            largest=lambda: self._answer_bytes_max,
            state=lambda: self._state,
            rules=lambda: self._rules,
            happen=self._happen,
            say=self._say,
            sign_of_life=self._on_sign_of_life,
            show=self._status_is_due,
        )
        self._desk = OrderDesk(
            loop.now,
            self._say,
            self._on_order,
            lambda token: self._state.past.control.answer(token) is not None,
            self._status_is_due,
        )
        self._status = status.Status(self.link.publish)
        self._models = ModelsOnBroker(
            loop,
            self.link,
            topics,
            newest=lambda: self._model,
            older=lambda: rounds.older_models(self._state),
            may_act=lambda: self._may_act and not self._ending,
            went=self._tell_of_model,
        )
        self._models.left(rounds.older_models(self._state))
        pages = config.status
        if self._rules.is_quiet:
            pages = structs.replace(pages, clients=False)
        self._client_pages = ClientPages(
            loop, self.link, topics, self._roster, pages, lambda: self._may_act, self._outs
        )

    @property
    def is_finished(self) -> bool:
        return isinstance(self._state, rounds.Finished)

    @property
    def has_begun(self) -> bool:
        """Whether there is a run in the folder: not before this coordinator may act."""
        return self._has_begun

    @property
    def privacy(self) -> Privacy | None:
        """What the models up to now can show of one device; None where nothing is promised."""
        return self._spent_by(rounds.trained_last(self._state))

    def _spent_by(self, number: RoundId) -> Privacy | None:
        if self._plan is None:
            return None
        return privacy_spent.spent(self._plan, self._roster, number, self._division.size)

    @property
    def is_used_up(self) -> bool:
        """Whether rounds ended because too few devices may take part in another."""
        return rounds.is_used_up(self._state, self._rules, self._roster)

    @property
    def has_learned(self) -> bool:
        """Whether any round made a model."""
        return self._model.trained_rounds > 0

    @property
    def remembered(self) -> Memory:
        """By the strategy, of the newest round that made a model."""
        return self._answers.memory

    @property
    def layout(self) -> Layout:
        return self._model.layout

    @property
    def totals(self) -> Totals:
        return replace(self._totals, late=self._state.past.late)

    def run(self) -> None:
        """Until all rounds are done, or the loop is stopped from outside.

        Raises SeatTaken, KeysWanted, Denied or RunElsewhere, OSError or LedgerError when the run's
        folder cannot be written, and LedgerError or CheckpointError when what is there is damaged;
        at a site SettingsError where what is asked above does not go with its settings.
        """
        if self._broker.context is not None and self._broker.seal is None:
            _log.warning("%s", NOTHING_IS_SIGNED)
        try:
            self.link.open()
            self._reception.poll()
            self._loop.run()
            self._finish_averaging()
            if self._failure is not None:
                raise self._failure
            self._end()
        except (SeatTaken, KeysWanted, Denied, LedgerTaken):
            # What lies on the broker is another's, or out of reach.
            self.link.close()
            raise
        except (OSError, LedgerError, CheckpointError, SettingsError):
            # What lies on the broker must not outlive the program.
            self._withdraw()
            raise
        except RunElsewhere:
            # Nothing was said but that the seat is ours.
            self._ending = True
            self.link.close(self._seat.last_words())
            raise
        finally:
            self._averager.shutdown()
            self._folder.ledger.close()

    def _finish_averaging(self) -> None:
        """The answers of a round that is closed are all there: the next start need not average."""
        self._stopping = True
        # The loop goes on meanwhile: who holds the seat says so.
        while self._closing is not None and self._failure is None:
            if self._unmasking is not None and self._unmasking.is_opening:
                # Others' turn: the next start asks them again for the same.
                return
            self._loop.run_once()

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        self._loop.stop()

    def _first_model(self, source: tuple[Layout, Array] | Recovered | None) -> PublishedModel:
        """Of a new run, or the newest of one that is gone on with."""
        chunk_bytes = self._config.transfer.chunk_bytes
        match source:
            case None:
                raise LedgerDamaged(f"{self._folder.path} holds no run to go on with")
            case Recovered(layout=layout, flat=flat, trained_rounds=trained) as found:
                opened = found.open_round
                # An open round's offer has gone out with chunks of that size.
                size = chunk_bytes if opened is None else opened.opening.model.chunk_bytes
                none_yet = self._no_control(layout)
                published = published_model.beside(flat, none_yet)
                if found.published is None or found.published[0].size != published.size:
                    # With another strategy than before it may have a control now, or none any more.
                    return published_model.make(layout, flat, trained, size, none_yet)
                return published_model.make_off(layout, flat, *found.published, trained, size)
            case layout, flat:
                return published_model.make(layout, flat, 0, chunk_bytes, self._no_control(layout))

    def _no_control(self, layout: Layout) -> Array | None:
        """As every control begins; None where the strategy has none."""
        method = self._rules.method
        if method.control == messages.PLAIN.control:
            return None
        return np.zeros(personal.division(layout, method.personal).size, np.float32)

    def _say_promise(self) -> None:
        plan = self._plan
        if self._rules.purpose == "train":
            self._facts.aggregation = masked_round.who_reads(self._config)
            _log.info("aggregation %s", self._facts.aggregation)
        if masked_round.is_masked(self._config) and (
            said := privacy_floor.warning(
                self._division.shared,
                self._config.privacy.floor,
                plan.noise_on_sums if plan is not None else 0.0,
            )
        ):
            _log.warning("%s", said)
        if plan is None:
            return
        self._facts.privacy = plan.sentence()
        _log.info("%s", self._facts.privacy)
        cohort, size = self._config.rounds.cohort, plan.grid.numbers or self._division.size
        if warning := differential_privacy.drowning(plan, size, cohort):
            self._facts.privacy += f"; {warning}"
            _log.warning("%s", warning)
        if self._config.evaluation.every:
            _log.warning(
                "evaluation.every is %d: what clients measure is told without noise; with 0 they"
                " measure the last model alone, or nothing",
                self._config.evaluation.every,
            )

    def _data_plane(self, terms_max: int, remembered: Memory, *, is_new: bool) -> Answers:
        config, folder, model = self._config, self._folder.path, self._model
        shared = (
            config,
            self._division.size,
            terms_max,
            folder,
            remembered,
            self._base_of,
            self._division.shared.shapes,
        )
        if self._trust is not None and masked_round.is_masked(config):
            # Here: who masks nothing is spared `cryptography`.
            from coordinator.masking.masked_answers import MaskedAnswers
            from coordinator.masking.unmasking import Unmasking

            self._roster.others = frozenset(name for name, _ in self._trust.keyholders)
            answers = MaskedAnswers(*shared, self._as_masked, trust=self._trust)
            if answers.plan is not None:
                # Of what it promises, some follows from the model's size.
                self._plan = answers.plan
            self._unmasking = Unmasking(
                self._loop,
                config,
                self._trust,
                answers,
                self._folder.ledger,
                self._facts,
                say=self._say,
                happen=self._happen,
                blame=lambda *told: self._reception.blame(*told),
                state=lambda: self._state,
                room=lambda: room_for(_LIST_BYTES_MAX, self._packet_bytes_max),
                work=rounds.work(self._rules),
            )
            return answers
        if self._rules.purpose != "describe":
            noise_key = b"" if self._plan is None else self._folder.noise_key(is_new=is_new)
            if self._above is not None:
                return Answers(*shared, noise_key, self._above.bits, self._as_masked)
            return Answers(*shared, noise_key)
        return SumsOfData(
            config, model.layout, terms_max, folder, remembered, asked=lambda: self._model.flat
        )

    def _as_masked(self) -> AsMasked | None:
        return None if self._above is None else self._above.as_masked()

    def _base_of(self, number: RoundId) -> Array:
        """What is shared of the model that an earlier round started from."""
        return self._division.shared_of(self._folder.base_of(number, self._model.layout))

    # The run that is gone on with

    def _resume(self, recovered: Recovered) -> rounds.State:
        if recovered.beginning.task != self._config.task:
            raise SettingsError(
                f"task is {self._config.task!r}; the run in {self._folder.path} learns"
                f" {recovered.beginning.task!r}. Go on with that, or begin a run with --new"
            )
        if data_query.is_layout(recovered.layout) != (self._rules.purpose == "describe"):
            raise SettingsError(
                f"the run in {self._folder.path} is of another kind: `fedmqtt statistics` goes on"
                " with those that describe data, `fedmqtt coordinator` with those that train"
            )
        if self._rules.purpose == "describe":
            queries = data_query.read_queries(recovered.layout.unflatten(recovered.flat))
            asked.check(
                self._folder.path, recovered.beginning.asked, queries, self._config.statistics
            )
        self._check_promise(recovered)
        rules = replace(self._rules, run=recovered.beginning.run)
        self._roster.knowledge = recovered.knowledge
        self._roster.recall(recovered.participations)
        for record in recovered.records[-PARTICIPATION_ROUNDS:]:
            self._took_part(record)
        recovered = self._without_outdated(recovered)
        open_round = recovered.open_round
        for record in recovered.records:
            self._totals = self._totals.plus(record)
            self._facts.closed(record.line())
        for record in recovered.records[-skew.ROUNDS :]:
            late = [client for client, _ in record.late_counted]
            # Who else was there is not known any more.
            out = record.quarantined
            self._skew.closed((), record.invited, [*record.answered, *late], out)
        self._roster.knowledge = recovered.knowledge
        state = recovery.state(
            self._loop.now(),
            rules,
            recovered.carried,
            recovered.settled,
            open_round,
            recovered.unused,
            recovered.reports,
            self._outdated,
            recovered.control,
        )
        for named in state.past.held:
            self._answers.take(named)
        if isinstance(state, rounds.Collecting):
            assert open_round is not None
            for client in sorted(state.answered):
                self._answers.take(Named(client, state.round))
            self._answers.begin(open_round.opening.terms_max, state.round)
            self._facts.answerers = quiet_fleet.begun(state, self._facts.answerers)
            if self._unmasking is not None and state.masking is not None:
                self._unmasking.begin_round(state.masking)
            self._kept.fold_all(recovered.beginning.run, state)
            _log.info(
                "going on with round %d: %d of %d answered",
                state.round,
                len(state.answered),
                len(state.train),
            )
        else:
            _log.info("going on before round %d", state.round)
        return state

    def _check_promise(self, recovered: Recovered) -> None:
        """A run keeps what it has promised from its first round on, or is another run."""
        before = recovered.beginning.differential_privacy
        now = "" if self._plan is None else self._plan.chosen
        if self._rules.purpose == "train" and now != before:
            raise SettingsError(
                f"differential_privacy promises {now or 'nothing'}; the run in {self._folder.path}"
                f" began with {before or 'nothing'}, and what was promised before holds no more if"
                " it changes. Go on with that, or begin a run with --new"
            )

    def _without_outdated(self, recovered: Recovered) -> Recovered:
        """Where the run is, once all that was made under other settings is done with."""
        self._outdated = max(
            (number for number, settings in recovered.settings if settings != self._settings()),
            default=RoundId(0),
        )
        open_round = recovered.open_round
        if open_round is not None and open_round.number == self._outdated:
            _log.warning(
                "round %d was opened with other settings of training, limits, codec, seed,"
                " aggregation or lanes, or by another version of this program: it is given up, and"
                " the next one goes by the new ones",
                open_round.number,
            )
            # Whose answers are on a list that keyholders may have opened has taken part.
            listed = open_round.listed.clients if open_round.listed is not None else []
            counted = self._roster.took_part(listed)
            self._folder.give_up(
                open_round,
                recovered,
                self._model,
                "the settings were changed",
                counted,
                self._spent_by(open_round.number),
            )
            recovered = self._folder.recover_again()
        elif open_round is not None and self._is_last_too_soon(open_round, recovered.control):
            _log.warning(
                "round %d was to be the last evaluation, and more rounds are asked for: it is"
                " given up",
                open_round.number,
            )
            self._folder.give_up(
                open_round,
                recovered,
                self._model,
                "more rounds are asked for",
                privacy=self._spent_by(RoundId(open_round.number - 1)),
            )
            recovered = self._folder.recover_again()
        outdated = [named for named in recovered.unused if named.round <= self._outdated]
        if outdated:
            _log.warning(
                "late answers that were made with other settings count in no round: %d",
                len(outdated),
            )
            self._folder.ledger.set_aside(outdated)
            recovered = self._folder.recover_again()
        return recovered

    def _is_last_too_soon(self, open_round: OpenRound, control: orders.Control) -> bool:
        """Whether a run's last round, which nobody trains in, is open where others are to come."""
        if self._rules.purpose == "evaluate" or control.stopped_by:
            return False
        if self._roster.is_used_up(max(1, self._rules.clients_min)):
            return False
        count = self._rules.rounds
        return not open_round.opening.is_for_training and (count == 0 or open_round.number <= count)

    # The federation's seat

    def _is_run_elsewhere(self) -> bool:
        """Whether one has begun that is to be gone on with: none begins here then."""
        if self._has_begun or not self._seat.is_contested:
            return False
        folder = self._elsewhere()
        if folder is not None:
            self._fail(RunElsewhere(folder))
        return folder is not None

    def _take_seat(self, epoch: int) -> None:
        if not self._has_begun:
            self._folder.begin(self._beginning, self._model, self._carried())
            self._has_begun = True
            self._on_begin()
        self._folder.ledger.take_epoch(epoch)
        self._rules = replace(self._rules, epoch=epoch)

    def _stand_by(self) -> None:
        if not self._has_begun:
            _log.warning("that run is not found here: another begins when it is gone")

    def _on_cleared_board(self) -> None:
        if self._clears:
            self._clears -= 1
        elif isinstance(self._state, rounds.Collecting):
            # By a coordinator of before, in its last words: clients take it for the round's end.
            self._say_offer()

    def _act(self) -> None:
        """The seat is ours: say what there is to say, and hear what there is to hear."""
        self._acting = True
        # Not sooner: what came while we could not reply would be lost. Not later: who reads the
        # offer may reply at once.
        # Whoever else is there says so when it sees that the board is cleared.
        self._reception.open()
        self.link.listen_if_allowed(self._topics.any_order, self._no_orders)
        if self._desk_of_workers is not None:
            self.link.listen_if_allowed(self._topics.any_work, self._no_workers)
        self._welcome_broker()

    def _no_orders(self, reason: str) -> None:
        # All else works.
        _log.warning(
            "nobody can give orders: the broker does not let us read %s: %s",
            self._topics.any_order,
            reason,
        )

    def _no_workers(self, reason: str) -> None:
        _log.warning(
            "workers are not heard: the broker does not let us read %s: %s",
            self._topics.any_work,
            reason,
        )

    # What happens

    def _happen(self, event: rounds.Event) -> None:
        if self._ending:
            return
        before = self._state
        self._state, effects = rounds.step(before, event, self._rules, self._roster)
        for effect in effects:
            self._perform(effect, before, event.at)
        self._remember_refusals(before)
        control = self._state.past.control
        if control is not before.past.control:
            # After what follows from it: who was invited by an order is rather invited twice.
            self._folder.ledger.order(control)
        quiet_fleet.follow(self._facts.answerers, self._state)
        if _has_gone_on(before, self._state):
            self._facts.progressed_at = event.at
        if isinstance(event, rounds.Barred | rounds.Unbarred):
            self._client_pages.changed([event.client], urgently=True)
        if self._desk_of_workers is not None:
            is_so = rounds.waits_for_storing_alone(self._state, event.at, self._rules)
            self._desk_of_workers.hurry(is_so)
        self._status_is_due()

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkUp(_, packet_bytes_max, protocol, _, node):
                words = replace(event, node="").in_words
                _log.info("connected to %s (%s)", node or self._broker, words)
                self._facts.protocol = protocol
                self._packet_bytes_max = packet_bytes_max
                self._seat.connected()
            case LinkDown(reason, retry_in_s, hopeless=hopeless):
                if hopeless:
                    self._fail(Denied(reason))
                    return
                _log.warning("%s; %s", reason, next_try(retry_in_s))
                self._acting = False
                self._clears = 0
                self._seat.disconnected()
                if self._unmasking is not None:
                    self._unmasking.link_down()
                if self._desk_of_workers is not None:
                    self._desk_of_workers.deaf()
                self._happen(rounds.LinkDown(self._loop.now()))
            case NodeUp(node):
                self._welcome_node(node)
            case Refused(address, reason):
                _log.error("the broker refuses %s: %s", type(address).__name__, reason)
            case Acknowledged():
                # Asked for of nothing: who says it again waits for a reply of the peer's.
                pass
            case Unproven(address, reason, by_revoked_key):
                if isinstance(address, UpdatePart) and by_revoked_key:
                    self._reception.revoked.signed_by_revoked_key(address.client)
                self._on_unproven(address, reason)
            case Arrived(ModelChunk(digest, 0), first, retained=True) if first:
                # What came while we slept may be a successor's.
                if self._may_act:
                    self._models.found(digest, first)
            case Arrived(StatusPage(page), payload, retained=True):
                self._client_pages.found(page, payload)
            case Arrived(PresenceOf(client), payload, retained=retained) if payload:
                # Of who is in quarantine too: where it is then is known when that is over.
                self._on_presence(client, payload, retained=retained)
            case Arrived(address, payload):
                self._on_arrival(address, payload, event.author)
            case Strayed(client, topic, size_bytes):
                self._reception.strayed(client, topic, size_bytes)

    def _welcome_broker(self) -> None:
        # It may have lost everything it kept, or be another one with other limits.
        limit = room_for(self._config.transfer.chunk_bytes, self._packet_bytes_max)
        self._status.bytes_max = room_for(status.PAGE_BYTES_MAX, self._packet_bytes_max)
        if limit != self._model.ref.chunk_bytes:
            self._model = published_model.cut(self._model, limit)
        self._fit_gate()
        self._models.connected(closed.model for closed in self._state.past.settled)
        self._status.forget()
        self._client_pages.look(self._roster.names())
        now = self._loop.now()
        if self._unmasking is not None:
            self._unmasking.link_up()
        # While averaging, the next model is about to be ready: this one is done with.
        if isinstance(self._state, rounds.Averaging):
            self._happen(rounds.LinkUp(now))
        else:
            was_open = isinstance(self._state, rounds.Collecting)
            self._happen(rounds.ModelReady(now, self._model.ref))
            self._happen(rounds.LinkUp(now))
            if not isinstance(self._state, rounds.Collecting):
                # One that was withdrawn while the link was down may still stand there.
                self._say(_BOARD_CLEARED)
            elif was_open:
                self._say_offer()

    def _welcome_node(self, node: str) -> None:
        """Of a cluster whose nodes keep what is retained each for itself: this one was away."""
        _log.info("what clients and monitors read is written to %s, too", node)
        if self._may_act:
            self._models.publish_to(node)
            self._status.forget()
            self._client_pages.changed(self._roster.names())
            self._status_is_due()

    def _on_arrival(self, address: object, payload: bytes, author: Author | None) -> None:
        match address:
            case UpdatePart() if self._reception.hears(address, payload):
                self._incoming.heard(address, payload, author)
            case CoordinatorSeat() | SeatClaim():
                self._seat.heard(address, payload)
            case OfferBoard() if payload:
                self._seat.saw_offer(payload)
            case OfferBoard():
                self._on_cleared_board()
            case OrderOf(operator) if not self._topics.is_trial(self._topics.path(address)):
                self._desk.came(operator, payload)
            case WorkOf(worker) if self._desk_of_workers is not None and self._may_act:
                if not self._topics.is_trial(self._topics.path(address)):
                    self._desk_of_workers.came(worker, payload)
            case _:
                # Retained leftovers being cleared.
                return

    def _on_unproven(self, address: Address, reason: str) -> None:
        if isinstance(address, OrderOf):
            self._desk.refuse(address.operator, reason)
            return
        self._reception.unproven(address, reason)
        if self._broker.seal is None and isinstance(address, (CoordinatorSeat, OfferBoard)):
            # To take that seat would lose the epoch that the devices have seen.
            self._fail(KeysWanted(self._config.name))
            return
        match address:
            case CoordinatorSeat():
                self._seat.saw_unproven_seat()
            case OfferBoard():
                self._seat.saw_unproven_offer()
            case _:
                pass

    def _on_sign_of_life(self, client: ClientId) -> None:
        if client in self._roster.clients:
            self._client_pages.sign(client)

    def _on_presence(self, client: ClientId, payload: bytes, *, retained: bool) -> None:
        now = self._loop.now()
        try:
            presence = messages.read_presence(payload)
        except WireError as bad:
            self._reception.unread_presence(client, str(bad))
            return
        self._reception.door.know(client)
        if self._unmasking is not None and self._unmasking.is_keyholder(client):
            self._unmasking.on_presence(client, presence)
            return
        if presence.keys:
            # A keyholder, and none for this run: nobody invites it.
            return
        presence, is_no_news = self._client_pages.came(client, presence, retained=retained)
        if is_no_news:
            return
        if presence.online:
            self._reception.came(client, presence.session, retained=retained)
            self._happen(rounds.ClientCame(now, client, presence))
        else:
            self._happen(rounds.ClientLeft(now, client, presence.session))

    # Workers, which take in answers in our place

    def _workers_desk(self, token: str) -> Desk:
        config = self._config
        rules = lanes.Rules(
            lanes=self._rules.lanes,
            terms=config.workers.terms,
            hand_over_s=config.workers.hand_over_s,
            at_once=config.workers.at_once,
            name=token,
        )
        return Desk(
            self._loop,
            rules,
            deciding.digest(config),
            f"fedmqtt {__version__}",
            self._folder.uploads,
            tuple(codec_choice.chains(config)),
            say=self._say,
            listen=self._hear_lanes,
            now=self._now_of_workers,
            claim=lambda claim: self._incoming.claimed(claim),
            passed=lambda worker, passed: self._incoming.passed(worker, passed),
            summed=self._on_sum,
            lose=self._on_lost,
            changed=self._status_is_due,
        )

    def _now_of_workers(self) -> Now:
        state = self._state
        is_open = isinstance(state, rounds.Collecting)
        return Now(
            run=self._rules.run,
            round=RoundId(0) if isinstance(state, rounds.Finished) else state.round,
            size=self._division.size,
            shapes=self._division.shared.shapes,
            bits=self._answers.bits if is_open else 0,
            answer_bytes_max=self._answer_bytes_max,
            message_bytes_max=room_for(self._config.transfer.chunk_bytes, self._packet_bytes_max),
            limits=self._config.limits,
        )

    def _hear_lanes(self, own: frozenset[int]) -> None:
        """Listen to these, and to no others."""
        self._reception.door.hear(own)
        count = self._rules.lanes
        self._incoming.drop_pieces(lambda one, _: lane_of(one, count) in own)
        # What was half sent is of no use to who listens now.
        self._loop.post(self._ask_again)

    def _ask_again(self) -> None:
        """Who listens sends at once what it owes."""
        if isinstance(self._state, rounds.Collecting) and not self._ending:
            self._say_offer()

    def _on_sum(self, summed: Sum, path: Path) -> None:
        state = self._state
        assert isinstance(state, rounds.Collecting)
        self._answers.add_sum(summed, state.evaluate)
        reports = self._roster.knowledge.reports
        kept = [
            (Named(one.client, state.round), reports.get((one.client, state.round)))
            for one in summed.terms
        ]
        left_s = max(0.0, state.closes_at - self._loop.now())
        self._folder.ledger.keep_sum(kept, path, left_s, self._on_stored)
        _log.debug("a sum of %d answers", len(kept))

    def _on_lost(self, answers: tuple[Named, ...]) -> None:
        _log.info(
            "answers that a worker had not handed over: %d; they are owed again", len(answers)
        )
        self._happen(rounds.Lost(self._loop.now(), answers))
        self._ask_again()

    # At a site, where somebody above says when a round opens

    @property
    def open_from(self) -> Digest | None:
        """The model that the round began with which is open, or of which is being made what it
        comes to: it will be told above. None where there is none."""
        has_round = isinstance(self._state, rounds.Collecting) or self._closing is not None
        return self._model.ref.digest if has_round else None

    @property
    def is_collecting(self) -> bool:
        """Whether a round is open: it can be called off."""
        return isinstance(self._state, rounds.Collecting)

    @property
    def may_be_led(self) -> bool:
        """Whether a round can be opened by `lead`: none is open, and the run has begun."""
        return self._has_begun and isinstance(self._state, rounds.Waiting)

    @property
    def newest(self) -> tuple[RoundId, Array]:
        """The round that is open or comes next, and the numbers of the newest model."""
        number = RoundId(0) if isinstance(self._state, rounds.Finished) else self._state.round
        return number, self._model.flat

    def lead(self, flat: Array | None, lead: rounds.Lead) -> None:
        """Open a round, as soon as there are enough clients, from this model; None: from the
        newest. It must be that `may_be_led`."""
        assert self.may_be_led
        if self._unmasking is not None:
            # What is measured is said anew for each round.
            self._unmasking.renew()
        old = self._model
        if flat is not None and not np.array_equal(flat, old.flat):
            number, cut = old.trained_rounds + 1, old.ref.chunk_bytes
            self._model = published_model.make(old.layout, flat, number, cut)
            # Before anybody trains from it.
            self._folder.take_model(self._model, self._beginning.task)
            if self._may_act:
                self._models.publish()
        self._happen(rounds.LeadCame(self._loop.now(), self._model.ref, lead))
        self._models.clear_unwanted()

    def call_off(self, why: str) -> None:
        """What was led is wanted no more."""
        self._happen(rounds.CalledOff(self._loop.now(), why))

    def _tell_above(self, close: rounds.Close, made: PublishedModel) -> None:
        if self._above is None:
            return
        is_made = close.outcome == "averaged"
        shared = self._division.shared_of
        what = CameTo(
            round=close.round,
            base=self._model.ref.digest,
            made_model=is_made,
            reason=close.reason,
            clients=len(close.answered),
            # Under masks nobody tells how many it has.
            samples=self._answers.samples or len(close.answered),
            exact=self._answers.exact() if is_made and self._unmasking is None else None,
            words=self._answers.words if is_made else None,
            before=shared(self._model.flat),
            after=shared(made.flat),
            train_metrics=self._answers.train_metrics(),
            figures=self._answers.figures(),
        )
        self._above.comes_to(what)
        # After what follows from the round.
        above, number = self._above, close.round
        self._loop.post(lambda: above.closed(number))

    # Operators' orders

    def _on_order(self, order: Order) -> None:
        kept = self._models_kept()
        if order.what == "rollback" and order.round in kept:
            try:
                # Before anybody is told that it is done.
                self._folder.read_model(order.round, self._model.layout)
            except (CheckpointError, LedgerDamaged) as bad:
                _log.error("%s", bad)
                kept = tuple(one for one in kept if one != order.round)
        self._happen(rounds.OrderCame(self._loop.now(), order, kept))

    def _models_kept(self) -> tuple[RoundId, ...]:
        return tuple(one.round for one in self._folder.ledger.models())

    def _go_back(self, number: RoundId) -> None:
        """Make the model of this round the newest."""
        if self._ending:
            return
        control = self._state.past.control
        try:
            kept, flat, memory = self._folder.read_model(number, self._model.layout)
        except (KeyError, CheckpointError, LedgerDamaged) as bad:
            # It was there when the order came. To end here would be to end at each start.
            is_gone = isinstance(bad, KeyError)
            why = "it is not kept" if is_gone else bad
            _log.error("the rollback to the model of round %d is given up: %s", number, why)
            fault = "is not kept any more" if is_gone else "cannot be read any more"
            self._folder.ledger.order(orders.gone_back(control, number, fault))
            self._go_on(fault)
            return
        told = kept.checkpoint.memory
        if told is not None and told.strategy != local_method.remembering(self._config):
            # Of a strategy that was changed since.
            memory = {}
        stays = self._answers.remembers_clients
        gone_back = orders.gone_back(control, number)
        self._folder.go_back(kept, gone_back, remembers_clients=stays)
        self._answers.go_back(memory)
        trained, chunk_bytes = kept.checkpoint.trained_rounds, self._model.ref.chunk_bytes
        self._model = published_model.make(
            self._model.layout, flat, trained, chunk_bytes, self._answers.control
        )
        _log.warning("the model is that of round %d again: %s", number, self._model.digest[:12])
        self._models.publish()
        self._go_on()
        self._models.clear_unwanted()

    def _go_on(self, fault: str = "") -> None:
        if self._unmasking is not None:
            self._unmasking.renew()
        self._happen(rounds.ModelReady(self._loop.now(), self._model.ref, fault))

    # What to do about it

    def _perform(self, effect: rounds.Effect, before: rounds.State, at: Seconds) -> None:
        match effect:
            case Publish(OfferBoard(), Offer()):
                self._set_aside(frozenset(before.past.held) - {*self._state.past.held})
                self._begin_round()
                self._say_offer()
            case Publish():
                self._say(effect)
            case WakeAt(when):
                self._set_alarm(when)
            case Note(rounds.REFUSED, about):
                self._facts.refusals.append(about)
                client, _, reason = about.partition(": ")
                self._gate.say(ClientId(client), reason)
            case Note(what, about):
                _log.debug("%s: %s", what, about)
            case rounds.Blame(client, reason):
                self._reception.blame(client, reason, self._incoming.digest())
            case rounds.Admit(client):
                self._incoming.admit(client)
            case rounds.Accept(client):
                # As of after the event: it may have come into the round by it.
                assert isinstance(self._state, rounds.Collecting)
                named = Named(client, self._state.round)
                if self._incoming.is_with_a_worker:
                    # Its worker adds it up, and it is stored with the sum.
                    assert self._desk_of_workers is not None
                    self._desk_of_workers.take(named)
                    return
                self._fold(client, self._state)
                self._keep(named)
            case rounds.AcceptEvaluation(client, round_id):
                answer = self._incoming.answer
                assert isinstance(answer, Evaluation)
                self._answers.take_measures(client, answer.measures)
                self._keep(Named(client, round_id))
            case rounds.Hold(client, round_id):
                self._answers.take(Named(client, round_id))
                self._keep(Named(client, round_id))
            case rounds.Invite():
                self._invite_more(effect)
            case rounds.Remind(number, clients):
                self._remind(number, clients)
            case rounds.Shut(number, clients):
                self._folder.ledger.shut(number, clients)
            case rounds.Close():
                assert isinstance(before, rounds.Collecting)
                self._close(effect, before, at)
            case rounds.Answer(obeyed, is_new, told):
                if is_new:
                    self._folder.ledger.order(told)
                self._desk.tell(obeyed, is_new=is_new)
            case rounds.GoBack(number, dropped):
                self._give_up_late(dropped)
                self._loop.post(lambda: self._go_back(number))
            case rounds.Finish():
                if self.is_used_up:
                    _log.warning("%s", BUDGET_USED_UP)
                self._folder.ledger.finish()
                self._loop.stop()

    def _say(self, effect: Publish) -> None:
        if not self._may_act:
            return
        if effect == _BOARD_CLEARED:
            self._clears += 1
        self.link.perform(self._with_counted(effect))

    def _with_counted(self, effect: Publish) -> Publish:
        """A receipt tells its client what was counted last, where that has to know."""
        match effect:
            case Publish(Inbox(client), Receipt(run=self._rules.run) as receipt):
                if any(named.client == client for named in self._state.past.storing):
                    # It might be lost yet.
                    return effect
                counted = self._answers.counted_last(client)
                if counted is None:
                    return effect
                return Publish(effect.to, structs.replace(receipt, counted=counted))
            case _:
                return effect

    @property
    def _may_act(self) -> bool:
        return self._acting and self._seat.is_ours

    def _say_offer(self) -> None:
        """What is open now; said again, it invites only who has not answered yet."""
        if not isinstance(self._state, rounds.Collecting):
            self._say(_BOARD_CLEARED)
            return
        self._say(Publish(OfferBoard(), self._offer(self._state)))

    def _remind(self, number: RoundId, clients: Sequence[ClientId]) -> None:
        assert isinstance(self._state, rounds.Collecting)
        silent = [one for one in clients if not self._client_pages.is_at_work(one, number)]
        if not silent:
            return
        named = ", ".join(silent[:_NAMED]) + (", ..." if len(silent) > _NAMED else "")
        _log.info("round %d: silent so far, and told again (%d): %s", number, len(silent), named)
        offer = self._offer(self._state)
        for client in silent:
            self._say(Publish(Inbox(client), rounds.to_one(offer, client)))

    def _offer(self, state: rounds.Collecting) -> Offer:
        offer = rounds.offer(state, self._loop.now(), self._rules, self._roster)
        file = self._model.file
        small = len(file) <= SMALL_MODEL_BYTES and offer.model.digest == self._model.ref.digest
        if small:
            offer = structs.replace(offer, model_file=file)
        if self._rules.purpose == "train":
            offer = structs.replace(offer, sites=totals.terms(self._config, self._answers.bits))
        return offer

    def _begin_round(self) -> None:
        state = self._state
        assert isinstance(state, rounds.Collecting)
        self._answers.begin(state.terms_max, state.round)
        self._facts.answerers = quiet_fleet.begun(state, self._facts.answerers)
        if self._unmasking is not None:
            assert state.masking is not None
            self._unmasking.begin_round(state.masking)
            self._fit_gate()
        if self._answers.needs_bases:
            late = (named.round for named in state.past.held)
            oldest = min([RoundId(state.round - self._rules.late_rounds_max), *late])
            self._folder.keep_base(state.round, oldest)
        # Before anybody hears of it: a coordinator that comes back must not open it otherwise.
        self._folder.ledger.open_round(state.round, self._opening(state))
        if self._desk_of_workers is not None:
            self._desk_of_workers.round_changed()
        if state.is_quiet:
            _log.info("round %d: %s", state.round, quiet_fleet.drawn(state))
            return
        _log.info(
            "round %d: invited %d to %s, %d to evaluate",
            state.round,
            len(state.train),
            "describe" if self._rules.purpose == "describe" else "train",
            len(state.evaluate),
        )

    def _set_aside(self, dropped: frozenset[Named]) -> None:
        """What waited, and counts no more: its keys are gone."""
        if dropped:
            _log.warning("late answers whose keys are gone count in no round: %d", len(dropped))
            self._folder.ledger.set_aside(sorted(dropped, key=lambda one: (one.round, one.client)))

    def _give_up_late(self, dropped: Sequence[Named]) -> None:
        """What waited, and was made from models that are given up."""
        if dropped:
            for named in dropped:
                self._answers.leave_out(named)
            self._folder.ledger.set_aside(dropped)

    def _opening(self, state: rounds.Collecting) -> Opening:
        return recovery.opening(state, self._settings())

    def _invite_more(self, invite: rounds.Invite) -> None:
        state = self._state
        assert isinstance(state, rounds.Collecting)
        # Before they hear of it, as when a round opens.
        self._folder.ledger.invite(invite.round, self._opening(state))
        _log.debug("round %d: invited %d more to train", invite.round, len(invite.clients))
        self._say_offer()

    def _settings(self) -> str:
        return deciding.said(self._config, self._rules.purpose)

    def _keep(self, named: Named) -> None:
        state, now = self._state, self._loop.now()
        left_s = None
        if isinstance(state, rounds.Collecting):
            left_s = max(0.0, state.closes_at - now)
        report = self._roster.knowledge.reports.get((named.client, named.round))
        kept = self._incoming.kept(named, report)
        self._folder.ledger.keep(kept, left_s, self._on_stored)

    def _on_stored(self, answers: tuple[Named, ...]) -> None:
        self._happen(rounds.Stored(self._loop.now(), answers))

    def _remember_refusals(self, before: rounds.State) -> None:
        after = self._state
        if not isinstance(after, rounds.Collecting) or not isinstance(before, rounds.Collecting):
            return
        if (after.declined, after.rejected) != (before.declined, before.rejected):
            refusals = Refusals(declined=dict(after.declined), rejected=dict(after.rejected))
            self._folder.ledger.refuse(after.round, refusals)

    def _fold(self, client: ClientId, collecting: rounds.Collecting) -> None:
        update = self._incoming.answer
        assert isinstance(update, Update)
        self._answers.fold(client, update, evaluates=client in collecting.evaluate)
        self._count(update)
        _log.debug("accepted %s: %d samples", client, update.sample_count)

    def _count(self, update: Update) -> None:
        if self._rules.is_quiet:
            self._facts.answerers.count(update)

    def _close(self, close: rounds.Close, before: rounds.Collecting, at: Seconds) -> None:
        # Where all declined, it has a client's own words.
        close = replace(close, reason=printable(close.reason))
        self._facts.last_round = status.closed_round(
            status.open_round(before, self._rules, at),
            close,
            is_sealed=self._unmasking is not None and close.outcome == "averaged",
        )
        self._incoming.drop_pieces(lambda _client, number: self._may_count(number, close.round))
        self._closing = close
        # Of its sum, whatever becomes of it.
        self._participations = close.participations
        self._left_out = set()
        if close.outcome == "averaged":
            held = frozenset(close.held)
            self._folding = (one for one in self._folder.ledger.kept() if one.named in held)
            if self._unmasking is not None:
                if self._rules.mixes_masks:
                    counted = frozenset(Named(*one) for one in close.counted)
                    self._left_out = set(self._unmasking.weigh(counted))
                    kept_ = self._folder.ledger.kept()
                    self._folding = (one for one in kept_ if one.named in counted)
                self._open_sum(before.model.digest)
                return
            # After the rest of this event: the next round must not open within this one's closing.
            self._loop.post(self._average)
        else:
            self._answers.keep()
            self._conclude(self._model)

    def _open_sum(self, base: Digest) -> None:
        if self._ending:
            return
        close = self._closing
        assert self._unmasking is not None and close is not None
        if self._fold_next():
            self._loop.post(lambda: self._open_sum(base))
            return
        # What is to be opened then is written down, and asked for until it is there.
        self._unmasking.open(self._rules.run, close.round, base, close.reason, self._average)

    def _may_count(self, number: RoundId, closed: RoundId) -> bool:
        return number > closed or self._rules.late != "discard"

    def _average(self) -> None:
        if self._ending:
            return
        # One at a time, and others have their turn in between: who acts must not fall asleep.
        if self._fold_next():
            self._loop.post(self._average)
            return
        if self._answers.judges:
            # What it would be judged by is being changed.
            self._averaged(_at_once(self._made_of, self._model))
            return
        made = self._averager.submit(self._made_of, self._model)
        made.add_done_callback(lambda _: self._loop.post_from_thread(lambda: self._averaged(made)))

    def _made_of(self, old: PublishedModel) -> PublishedModel:
        """The next model, and what clients will fetch of it. Raises KeepModel."""
        shared = self._answers.finish(self._division.shared_of(old.flat))
        flat = self._division.with_shared(old.flat, shared)
        return downlink.following(old, flat, self._downlink, self._answers.control)

    def _averaged(self, made: Future[PublishedModel]) -> None:
        if self._ending:
            return
        self._conclude(self._next_model(made))
        if self._stopping:
            return
        self._models.publish()
        if self._unmasking is not None:
            # By what came of the round: ranges, and the clip norm.
            self._unmasking.renew()
        self._happen(rounds.ModelReady(self._loop.now(), self._model.ref))
        self._models.clear_unwanted()

    def _fold_next(self) -> bool:
        """Whether there was another late answer to fold."""
        assert self._closing is not None
        kept = next(self._folding, None)
        if kept is None:
            return False
        staleness = self._closing.round - kept.named.round
        if fault := self._kept.fold(kept, evaluates=False, staleness=staleness):
            self._left_out.add(kept.named)
            self._answers.leave_out(kept.named)
            client = kept.named.client
            _log.warning("the late answer of %s does not count any more: %s", client, fault)
        return True

    def _next_model(self, made: Future[PublishedModel]) -> PublishedModel:
        """The old one where the strategy makes none."""
        assert self._closing is not None
        old = self._model
        try:
            # It may have been cut anew meanwhile, for a broker with other limits.
            return published_model.cut(made.result(), old.ref.chunk_bytes)
        except KeepModel as why:
            self._closing = replace(self._closing, outcome="kept", reason=str(why))
            # They are used up with the others, and went into no model.
            self._left_out.update(self._closing.held)
            return old

    def _conclude(self, model: PublishedModel) -> None:
        """The round has come out like this; `model` is what the next one starts from."""
        close, self._closing = self._closing, None
        assert close is not None
        if self._facts.last_round is not None:
            self._facts.last_round = status.closed_round(self._facts.last_round, close)
        record = self._record(close)
        self._took_part(record)
        carried, learned = self._carried(), close.learned
        self._tell_above(close, model)
        self._answers.end()
        self._folder.close_round(
            record,
            close.held,
            carried,
            model,
            self._beginning,
            learned,
            local_method.remembering(self._config),
            self._answers.memory,
            self._participations,
            remembers_clients=self._answers.remembers_clients,
        )
        self._participations = {}
        self._model = model
        self._totals = self._totals.plus(record)
        self._facts.closed(record.line())
        self._client_pages.changed(close.invited | close.answered)
        there = self._roster.willing(self._rules.purpose)
        answered = [client for client, _ in close.counted]
        self._skew.closed(there, close.invited, answered, self._gate.out)
        is_refused = record.outcome == "kept" and not record.answered and bool(record.declined)
        _log.log(logging.WARNING if is_refused else logging.INFO, "%s", history.sentence(record))
        self._look_for_keys(there, close)
        self._on_round(record)

    def _look_for_keys(self, there: Sequence[ClientId], close: rounds.Close) -> None:
        """Of a broker to which anybody may come, nobody has credentials with keys."""
        is_silent = close.dropped == close.invited and not close.declined and not close.evaluated
        if self._broker.tls and self._broker.seal is None and there and close.invited and is_silent:
            if not self._has_told_of_keys:
                _log.warning("%s", KEYS_MAY_BE_WANTED)
            self._has_told_of_keys = True

    def _took_part(self, record: Record) -> None:
        if not self._rules.is_quiet:
            # A page of single clients.
            self._facts.participation.add(record)

    def _carried(self) -> Carried:
        past = self._state.past
        return Carried(pace=past.pace, late=past.late, typical_s=past.typical_s, sizes=past.sizes)

    def _set_alarm(self, at: Seconds) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, lambda: self._happen(rounds.Woke(self._loop.now())))

    def _refuse_unread(self, client: ClientId, number: RoundId, reason: str) -> None:
        # What is not read does not tell of which run it is.
        self._incoming.refuse(client, self._rules.run, number, reason)

    # Models

    @property
    def _answer_bytes_max(self) -> int:
        # A sum of many devices' changes has more to tell than one change.
        sums = exact_total.bytes_max(self._division.size) if self._config.sites.clients_max else 0
        return max(len(self._model.file), sums) + _ANSWER_OVERHEAD_BYTES

    def _fit_gate(self) -> None:
        """By the largest answers that are asked of anybody."""
        sums = self._unmasking.answer_bytes_max if self._unmasking is not None else 0
        self._gate.fit(max(self._answer_bytes_max, sums), self._model.ref.chunk_bytes)

    # For people

    def _tell_of_model(self, model: PublishedModel, chunk: ModelChunk, size_bytes: int) -> None:
        """How many bytes went out by which codec."""
        codec = "full" if chunk.digest == model.ref.digest else self._config.downlink_codec
        self._facts.published_model(codec, size_bytes, is_first=chunk.index == 0)

    def _record(self, close: rounds.Close) -> Record:
        return history.record(
            close,
            left_out=self._left_out,
            unfit=self._unmasking.unfit if self._unmasking is not None else {},
            closed=datetime.now(UTC).isoformat(timespec="milliseconds"),
            base=self._model.ref.digest,
            late_updates=max(0, self._state.past.late - self._totals.late),
            samples=self._answers.samples,
            train_metrics=self._answers.train_metrics(),
            figures=self._answers.figures(),
            codecs=self._answers.codecs,
            clipped=self._answers.clipped,
            bytes_received=self.link.bytes_received,
            bytes_published=self.link.bytes_sent,
            quarantined={client: term.why for client, term in self._gate.terms.items()},
            privacy=self.privacy,
        )

    def _status_is_due(self) -> None:
        if not self._is_status_due:
            self._is_status_due = True
            self._set_status_timer(status.interval_s(self._roster))

    def _set_status_timer(self, wait_s: Seconds) -> None:
        if self._status_timer is not None:
            self._status_timer.cancel()
        self._status_timer = self._loop.call_in(wait_s, self._say_status)

    def _say_status(self) -> None:
        self._is_status_due = False
        if not self._may_act:
            return
        facts = self._facts
        facts.bytes_received = self.link.bytes_received
        facts.bytes_published = self.link.bytes_sent
        if self._unmasking is not None:
            facts.waits_for = self._unmasking.waits_for(self._loop.now())
        if self._desk_of_workers is not None:
            facts.workers = self._desk_of_workers.standing()
        facts.orders_refused, facts.orders_repeated = self._desk.refused, self._desk.repeated
        facts.quarantined, facts.struck = self._gate.terms, self._gate.struck
        facts.model = ModelPage(
            digest=self._model.ref.digest,
            size_bytes=self._model.ref.size_bytes,
            delta_bytes=self._model.delta_bytes,
            parameters=self._model.flat.size,
            trained_rounds=self._model.trained_rounds,
            figures=self._totals.figures,
            figures_round=self._totals.figures_round,
            privacy=self.privacy,
        )
        if self._above is not None:
            self._above.stands_for(self._roster.willing_count("train"))
        pages = status.pages(self._state, self._roster, self._rules, facts, self._loop.now())
        self._status.say(pages)
        # What goes by time alone: that it still works, and how long nothing has gone on.
        self._set_status_timer(status.AS_OF_S)

    def _outs(self) -> Outs:
        return Outs(self._gate.terms, frozenset(self._reception.revoked.barred))

    def _end(self) -> None:
        self._ending = True
        self._withdraw()

    def _withdraw(self) -> None:
        """Say the last status, clear what is retained, and disconnect in good order."""
        self._ending = True
        self._facts.stopped = not self.is_finished
        if not self._may_act:
            # The seat may be ours all the same, where a run could not begin.
            self.link.close(self._seat.last_words())
            return
        self._say_status()
        self._client_pages.say_all(is_over=self.is_finished)
        cleared = [_BOARD_CLEARED, *self._models.all_cleared()]
        self.link.close(cleared + self._seat.last_words())


def _has_gone_on(before: rounds.State, after: rounds.State) -> bool:
    """Whether a round or a pause has begun or ended, or an answer has counted."""
    if type(before) is not type(after):
        return True
    if before.past.control.paused_by != after.past.control.paused_by:
        # Nothing was to go on meanwhile: to resume is no trouble.
        return True
    if not isinstance(before, rounds.Collecting) or not isinstance(after, rounds.Collecting):
        return False
    # Each answer makes another set of it.
    return before.answered is not after.answered or before.evaluated is not after.evaluated


def _at_once(
    make: Callable[[PublishedModel], PublishedModel], old: PublishedModel
) -> Future[PublishedModel]:
    made: Future[PublishedModel] = Future()
    try:
        made.set_result(make(old))
    except KeepModel as why:
        made.set_exception(why)
    return made
