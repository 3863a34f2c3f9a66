"""A site between both: to its agent the trainers, to its coordinator the one who leads.

    agent ──Job──▶ lead a round from its model ──▶ coordinator
          ◀─Done── outbox ◀── ready, on disk ◀── what it came to

While the centre is out of reach an answer that is ready waits here, and rounds of the site's own
add to it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordinator.config import FederationConfig
from coordinator.rounds import Lead
from coordinator.sites import above
from coordinator.sites.above import AsMasked, CameTo
from edge_client.outbox import Outbox
from edge_client.trainer_pool import Report, Ticket, TrainerPool
from edge_client.training_job import Done, Failed, FromTrainer, Job, Rebuild
from fedmqtt import personal, weights
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop, Timer
from fedmqtt.messages import Measures
from fedmqtt.topics import Digest, RoundId, RunId
from fedmqtt.weights import Array, WeightsError
from site_aggregator import combining, terms
from site_aggregator.combining import NoAnswer
from site_aggregator.config import SiteConfig
from site_aggregator.kept_job import Asked, KeptJob
from site_aggregator.reports import Ready, Reports
from site_aggregator.terms import NotHere

_HAND_UP_SHARE = 0.1
"""Of the time until the centre's round is over, that is for what the site's came to."""
_GONE_ON = "the centre has gone on"

_log = logging.getLogger("site")


class Coordinator(Protocol):
    """Of the site: `coordinator.service.Service`."""

    @property
    def open_from(self) -> Digest | None: ...
    @property
    def is_collecting(self) -> bool: ...
    @property
    def may_be_led(self) -> bool: ...
    @property
    def newest(self) -> tuple[RoundId, Array]: ...
    def lead(self, flat: Array | None, lead: Lead) -> None: ...
    def call_off(self, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The coordinator that is wanted: its settings, its folder, and what it begins with."""

    settings: FederationConfig
    folder: Path
    asked: Asked

    def is_served_by(self, other: "Wanted | None") -> bool:
        now = (self.settings, self.folder)
        return other is not None and now == (other.settings, other.folder)


@dataclass(slots=True)
class _Task:
    """What the agent waits for."""

    asked: Asked
    ticket: Ticket
    rounds: int = 0
    """Of the site's, that are part of what is ready."""
    is_led: bool = False
    """A round is open for it."""
    measures: Measures | None = None
    """Of the centre's model."""
    fault: str = ""
    """Why the last round for it came to nothing."""

    @property
    def job(self) -> Job:
        return self.asked.job


class Upward:
    """Of one site. Raises OSError."""

    def __init__(
        self,
        loop: EventLoop,
        config: SiteConfig,
        pool: TrainerPool,
        restart: Callable[[], None],
        stands_for: Callable[[int], None],
        found: Callable[[Done], None],
        signing_key: str = "",
    ) -> None:
        """`pool`: for models that come as deltas. `signing_key`: the site's at the centre, for
        answers that are masked. `restart` is called when another coordinator is
        `wanted` than the one that is served; `found` with the answer to the round that an earlier
        life took up and this one `goes_on` with, where no task waits for it."""
        self._loop = loop
        self._config = config
        self._pool = pool
        self._restart = restart
        self._tell_devices = stands_for
        self._tell_found = found
        self._kept = KeptJob(config.state / "asked")
        self._reports = Reports(config.state / "ready")
        self._outbox = Outbox(config.state / "outbox")
        self._coordinator: Coordinator | None = None
        self._served: Wanted | None = None
        self._task: _Task | None = None
        self._is_online = False
        self._offline_since: Seconds = loop.now()
        self._alone = 0
        """Rounds of the site's own since the centre was heard last."""
        self._is_alone = False
        """One of them is open, or waits for devices."""
        self._is_called_off = False
        """Nobody wants what the round that is open comes to."""
        self._led_from = RoundId(0)
        """The round that was led last has this number, or a later one."""
        self._begun: tuple[RunId, RoundId] | None = None
        """What an earlier life took up, as the centre calls it, and is open still, while the agent
        knows of no task for it."""
        self._has_told_of_mean = False
        self._timer: Timer | None = None
        self._is_ending = False
        self.asked = self._kept.read(signing_key)
        """What the centre asked last, in an earlier life."""
        self.wanted: Wanted | None = None
        if self.asked is not None:
            try:
                self.wanted = self._wanted(self.asked)
            except NotHere as why:
                _log.warning("the site does not go on by itself: %s", why)

    # The coordinator that is there

    def serve(self, coordinator: Coordinator, by: Wanted) -> None:
        self._coordinator, self._served = coordinator, by
        # Another run has numbers of its own.
        self._led_from = RoundId(0)
        self._settle_ready(coordinator)

    def served(self) -> None:
        """It is gone."""
        self._coordinator, self._served = None, None
        self._is_alone = self._is_called_off = False
        if self._task is not None:
            self._task.is_led = False

    def cannot(self, why: str) -> None:
        """No coordinator can be made as it is wanted: the centre is told, and may ask otherwise."""
        _log.error("%s", why)
        task, self._task, self.wanted = self._task, None, None
        if task is not None:
            _say(task.ticket, Failed(reason=why))

    def end(self) -> None:
        """The program does. What is under way is gone on with at its next start."""
        self._is_ending = True

    def _settle_ready(self, coordinator: Coordinator) -> None:
        """What was ready when the site ended is as good as its ledger says."""
        number, _ = coordinator.newest
        for ready in self._reports.all():
            if ready.made_by >= number:
                self._reports.drop(ready)

    def hand_over_what_was_ready(self) -> None:
        """At the start, before the agent looks what it owes."""
        for ready in self._reports.all():
            self._put_in_outbox(ready)
        if self.asked is None or self._coordinator is None:
            return
        job = self.asked.job
        is_answered = self._outbox.has(job.run, job.round)
        if self._coordinator.open_from == job.base and not is_answered:
            self._begun = job.run, job.round

    @property
    def goes_on(self) -> tuple[RunId, RoundId] | None:
        """What the agent is to count as begun, at its start: its answer may be `found`."""
        is_trained = self.asked is not None and self.asked.job.purpose == "train"
        # (What was measured counts for nothing once the centre has gone on.)
        return self._begun if is_trained else None

    # The agent's trainers

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket:
        if isinstance(job, Rebuild):
            return self._pool.submit(job, report)
        ticket = Ticket(job, report)
        self._loop.post(lambda: self._take(job, ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        if isinstance(ticket.job, Rebuild):
            self._pool.cancel(ticket)
            return
        task, ticket.report = self._task, None
        if task is None or task.ticket is not ticket or self._is_ending:
            # What is ready at the end is handed over at the next start.
            return
        self._task = None
        for ready in self._ready_for(task.job):
            self._reports.drop(ready)
        # Out of reach, what is open is as good as a round of the site's own.
        if task.is_led and self._coordinator is not None and self._is_online:
            self._call_off(self._coordinator, _GONE_ON)

    def _take(self, job: Job, ticket: Ticket) -> None:
        if ticket.report is None:
            return
        try:
            layout, base = weights.read(Path(job.model_path).read_bytes())
            if layout.fingerprint != job.fingerprint:
                raise NotHere(f"the model is not built as it was offered ({job.fingerprint})")
            asked = Asked(job, layout, base)
            wanted = self._wanted(asked)
        except (NotHere, WeightsError) as why:
            _say(ticket, Failed(reason=str(why)))
            return
        except OSError as bad:
            _say(ticket, Failed(reason=f"the model {bad.filename}: {bad.strerror}"))
            return
        self._task = task = _Task(asked, ticket)
        if self._ready_for(job):
            # By an earlier life, or while the line was cut.
            self._begun = None
            self._hand_up(task)
            return
        self._hand_over_what_went_on()
        for other in self._reports.all():
            # Its round is one that nobody waits for.
            self._reports.drop(other)
        before, self.asked = self.asked, asked
        self._kept.keep(asked)
        if not wanted.is_served_by(self._served):
            self.wanted = wanted
            self._restart()
            return
        self._join_or_lead(task, before)

    def _join_or_lead(self, task: _Task, before: Asked | None) -> None:
        coordinator, job = self._coordinator, task.job
        assert coordinator is not None
        opened = coordinator.open_from
        if opened is None:
            self._consider()
        elif opened == job.base and before is not None and _same_round(before.job, job):
            # Begun by an earlier life.
            task.is_led = True
        else:
            self._call_off(coordinator, "the centre asks for another round")

    def _call_off(self, coordinator: Coordinator, why: str) -> None:
        # Where none is open yet, no end of it will be told; and what is closed comes to something.
        self._is_called_off = coordinator.is_collecting
        coordinator.call_off(why)

    def _wanted(self, asked: Asked) -> Wanted:
        settings = terms.devices_settings(self._config.devices, asked.job)
        # A run of its own for each of the centre's, whose rounds have numbers of their own.
        return Wanted(settings, self._config.runs / asked.job.run, asked)

    # The line to the centre

    def centre_came(self) -> None:
        if self._alone:
            _log.info("the centre is back: %s", self._what_becomes_of_own_rounds())
        self._is_online, self._alone = True, 0
        # After the agent has taken it in.
        self._loop.post(self._consider)

    def _what_becomes_of_own_rounds(self) -> str:
        if self._task is None:
            return "no answer waits for it, so what the site's own rounds came to is given up"
        number = self._task.job.round
        if self._task.job.purpose == "evaluate":
            return (
                f"what waits for it is what devices measured in round {number}, so what the site's"
                " own rounds came to is given up"
            )
        return f"what the site's own rounds came to is in the answer to round {number}"

    def centre_left(self) -> None:
        if self._is_online:
            self._is_online, self._offline_since = False, self._loop.now()
        self._consider()

    # What the coordinator tells, and is told

    def bits(self) -> int | None:
        """Of fraction, in exact sums of the site."""
        if self.asked is None or self.asked.job.purpose != "train":
            # What is said then is of a sum of no answers: finer than any that a site would begin
            # with, as it does when it starts again.
            return None
        sites = self.asked.job.sites
        return None if sites is None else sites.bits

    def as_masked(self) -> AsMasked | None:
        """How devices' changes are added up, for an answer that is masked."""
        return None if self.asked is None else terms.as_masked(self.asked.job)

    def stands_for(self, devices: int) -> None:
        self._tell_devices(devices)

    def comes_to(self, what: CameTo) -> None:
        task, asked = self._task, self.asked
        if asked is None:
            return
        job = asked.job if task is None else task.job
        # (One of the site's own that an earlier life began is known by the model that it made.)
        is_own = self._is_alone or what.made_model
        if self._is_called_off or (job.purpose == "evaluate" and is_own):
            return
        is_first = what.base == job.base and (task is None or not task.rounds)
        if task is not None and not task.is_led and not task.rounds:
            # Of a round that the task does not know.
            return
        if task is None and (self._is_alone or not is_first or self._begun is None):
            # It was given up, or is of the site's own.
            return
        try:
            self._keep_ready(job, what, task, is_first=is_first)
        except NoAnswer as why:
            _log.warning("round %d: %s", what.round, why)
            if task is not None:
                task.fault = str(why)

    def _keep_ready(self, job: Job, what: CameTo, task: _Task | None, *, is_first: bool) -> None:
        if job.purpose == "evaluate":
            answer = combining.evaluation(job, what)
            self._reports.put(answer, what.round)
            if task is not None:
                task.rounds = self._config.rounds_per_report
            return
        if not what.made_model:
            raise NoAnswer(f"the site's round made no model: {what.reason}")
        if job.mask is None and job.sites is None:
            # Asked for under a mask, and the key by which that is signed is gone.
            return
        measures = None if task is None else task.measures
        if is_first and job.measure_base:
            measures = above.measures(what.figures)
        if is_first:
            update = combining.one_round(job, what, measures, tells=self._config.tells_measures)
            self._tell_of_mean(job, what)
        else:
            assert task is not None
            update = combining.several(job, what, self._shared_base(task), measures)
        self._reports.put(update, what.round)
        if task is not None:
            task.rounds, task.measures = task.rounds + 1, measures

    def _tell_of_mean(self, job: Job, what: CameTo) -> None:
        """Once in a row of them: it is less than the site's owner may think."""
        is_mean = combining.is_mean_of_devices(job, what)
        if is_mean and not self._has_told_of_mean:
            _log.warning(
                "round %d: the answer is the mean of the devices' changes, each of which counts for"
                ' one, and not their exact sum: docs/sites.md, "With masks", says when that is so',
                job.round,
            )
        self._has_told_of_mean = is_mean

    def _shared_base(self, task: _Task) -> Array:
        division = personal.division(task.asked.layout, task.job.method.personal)
        return division.shared_of(task.asked.base)

    def may_lead(self) -> None:
        """The coordinator's run has begun."""
        self._consider()

    def closed(self, number: RoundId) -> None:
        self._hand_over_what_went_on()
        if number < self._led_from:
            # Another one was led before this was told.
            return
        if self._is_alone and not self._is_online and self._alone >= self._config.rounds_alone:
            _log.info("the site's own rounds are over: it waits for the centre")
        task, self._is_alone, self._is_called_off = self._task, False, False
        if task is not None and task.is_led:
            task.is_led = False
            fault, task.fault = task.fault, ""
            if fault and not task.rounds:
                self._task = None
                _say(task.ticket, Failed(reason=fault))
            elif fault:
                # What the rounds before came to is better than nothing.
                task.rounds = max(task.rounds, self._config.rounds_per_report)
        self._consider()

    def _consider(self) -> None:
        """What is next, now that something has changed."""
        task = self._task
        if task is not None and task.rounds and self._is_whole(task):
            if self._is_online or not self._config.rounds_alone:
                self._hand_up(task)
            task = None
        coordinator = self._coordinator
        if coordinator is None or not coordinator.may_be_led:
            return
        if task is None:
            self._go_on_alone(coordinator)
        elif not task.is_led:
            self._lead(coordinator, task)

    def _is_whole(self, task: _Task) -> bool:
        return task.rounds >= self._config.rounds_per_report

    def _lead(self, coordinator: Coordinator, task: _Task) -> None:
        job, now = task.job, self._loop.now()
        left_s = (job.closes_at - now) * (1 - _HAND_UP_SHARE)
        rounds_left = self._config.rounds_per_report - task.rounds
        lead = Lead(
            round=job.round,
            closes_by=now + left_s / rounds_left,
            trains=job.purpose == "train",
            measures=terms.are_measured(self._config.devices, job) and not task.rounds,
        )
        task.is_led, self._is_alone = True, False
        self._open(coordinator, None if task.rounds else task.asked.base, lead)

    def _go_on_alone(self, coordinator: Coordinator) -> None:
        """While the centre is out of reach."""
        if self._is_online or self._is_alone or self._alone >= self._config.rounds_alone:
            return
        begins_at = self._offline_since + self._config.alone_after_s
        if self._loop.now() < begins_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(begins_at, self._consider)
            return
        self._alone, self._is_alone = self._alone + 1, True
        _log.info(
            "the centre is out of reach: round %d of %d of the site's own",
            self._alone,
            self._config.rounds_alone,
        )
        if self._task is not None:
            self._task.is_led = True
        self._open(coordinator, None, Lead(round=RoundId(0)))

    def _open(self, coordinator: Coordinator, flat: Array | None, lead: Lead) -> None:
        self._led_from, _ = coordinator.newest
        # What was called off has ended, told or not.
        self._is_called_off = False
        coordinator.lead(flat, lead)

    # Up

    def _ready_for(self, job: Job) -> list[Ready]:
        return [one for one in self._reports.all() if one.is_for(job.run, job.round)]

    def _hand_up(self, task: _Task) -> None:
        """Into the outbox, and to the agent."""
        self._task = None
        done: FromTrainer = Failed(reason="what the site's round came to was lost by the disk")
        for ready in self._ready_for(task.job):
            done = self._put_in_outbox(ready) or done
        _say(task.ticket, done)

    def _hand_over_what_went_on(self) -> None:
        """Without a task: as a client's answer that is late, it is the centre's to count."""
        goes_on, self._begun = self.goes_on, None
        if goes_on is None:
            return
        for ready in self._reports.all():
            if ready.is_for(*goes_on) and (done := self._put_in_outbox(ready)) is not None:
                self._tell_found(done)

    def _put_in_outbox(self, ready: Ready) -> Done | None:
        data = self._reports.read(ready)
        done = None
        if data is not None:
            answer = self._outbox.put(ready.run, ready.round, [data])
            # Before what is ready is gone.
            self._outbox.settle(answer)
            done = Done(
                run=answer.run,
                round=answer.round,
                digest=answer.digest,
                size_bytes=answer.size_bytes,
            )
        self._reports.drop(ready)
        return done


def _say(ticket: Ticket, said: FromTrainer) -> None:
    if ticket.report is not None:
        ticket.report(said)


def _same_round(one: Job, other: Job) -> bool:
    return (one.run, one.round, one.base) == (other.run, other.round, other.base)
