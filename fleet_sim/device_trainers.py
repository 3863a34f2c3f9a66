"""Work that takes as long as on the device that is played, though a few processes share it all."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from edge_client.agent import Trainers
from edge_client.trainer_pool import Report, Ticket, forget_unsent
from edge_client.training_job import Done, Failed, FromTrainer, Job, Rebuild
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import Timer
from fleet_sim.failures import TRAINER_DIED
from fleet_sim.hardware import Hardware
from fleet_sim.live_clock import LiveClock
from fleet_sim.work_time import WorkTime


@dataclass(slots=True)
class _Work:
    real: Ticket
    takes_s: Seconds
    ready_at: Seconds
    done: Done | None = None
    """Finished here; not yet on the device."""
    timer: Timer | None = None
    """Of its answer, or of its trainer's death."""
    dies: bool = False
    """Its trainer will, before it is done."""


@dataclass(slots=True)
class Overruns:
    """How often the work took longer here than on the device: this machine is too slow for the
    speed that was asked for, and what is late by it is late for no reason of the fleet's."""

    jobs: int = 0
    worst_s: Seconds = 0.0
    """Virtual seconds beyond the device's time."""


@dataclass(frozen=True, slots=True)
class Device:
    """What does a client's work, as it is played. Without `hardware` that takes no time."""

    hardware: Hardware | None = None
    train_samples: int = 0
    evaluate_samples: int = 0
    felt: Callable[[], None] = lambda: None
    """Called when its battery will be another than was foreseen."""

    def work_s(self, job: Job) -> Seconds:
        """From the start of a trainer to its answer."""
        if self.hardware is None:
            return 0.0
        work = self._work_time(self.hardware, job)
        return work.of_steps_s(job.steps_max) if job.steps_max else work.total_s

    def in_time(self, job: Job, now: Seconds) -> Job:
        """The same job, with as many steps as the device makes in the time that there is: the clock
        of the programs here says nothing about that."""
        steps = 0
        if self.hardware is not None and job.stop_at < math.inf:
            steps, _ = self._work_time(self.hardware, job).within(job.stop_at - now)
        return structs.replace(job, stop_at=math.inf, steps_max=steps)

    def _work_time(self, hardware: Hardware, job: Job) -> WorkTime:
        return WorkTime(
            hardware=hardware,
            purpose=job.purpose,
            measures=job.measure_base,
            train_samples=self.train_samples,
            evaluate_samples=self.evaluate_samples,
            training=job.training,
            method=job.method,
        )

    def uses_power(self, begin: Seconds, end: Seconds) -> None:
        if self.hardware is not None:
            self.hardware.train(begin, end)
            self.felt()


class DeviceTrainers:
    """One client's trainers. `dies_after` says after which share of its time a job kills its
    trainer; None: it does not.

    A finished answer is told of when the device's time has passed. Until then it does not exist: a
    device that crashes or stops meanwhile has none.
    """

    def __init__(
        self,
        clock: LiveClock,
        trainers: Trainers,
        device: Device,
        dies_after: Callable[[Job], float | None],
        overruns: Overruns,
    ) -> None:
        self._clock = clock
        self._trainers = trainers
        self._device = device
        self._dies_after = dies_after
        self._overruns = overruns
        self._works: dict[Ticket, _Work] = {}

    @property
    def withheld(self) -> int:
        """Answers that are finished here, and not yet on the device."""
        return sum(work.done is not None for work in self._works.values())

    def submit(self, job: Job | Rebuild, report: Report) -> Ticket:
        if isinstance(job, Rebuild):
            # To add a few numbers is nothing beside training.
            return self._trainers.submit(job, report)
        job = self._device.in_time(job, self._clock.now())
        ticket = Ticket(job, report)
        real = self._trainers.submit(job, lambda said: self._said(ticket, said))
        now = self._clock.now()
        work_s = self._device.work_s(job)
        work = self._works[ticket] = _Work(real, work_s, now + work_s)
        self._device.uses_power(now, now + work_s)
        share = self._dies_after(job)
        if share is not None:
            work.dies = True
            work.timer = self._clock.call_in(share * work_s, lambda: self._die(ticket))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        ticket.report = None
        if ticket in self._works:
            self._give_up(ticket)
        elif isinstance(ticket.job, Rebuild):
            self._trainers.cancel(ticket)

    def _die(self, ticket: Ticket) -> None:
        self._give_up(ticket)
        _report(ticket, Failed(reason=TRAINER_DIED))

    def _give_up(self, ticket: Ticket) -> None:
        work = self._works.pop(ticket)
        self._stop_using_power()
        if work.done is None:
            self._trainers.cancel(work.real)
        else:
            assert isinstance(ticket.job, Job)
            forget_unsent(ticket.job, work.done)
        if work.timer is not None:
            work.timer.cancel()

    def _said(self, ticket: Ticket, said: FromTrainer) -> None:
        match said:
            case Done():
                work = self._works[ticket]
                work.done = said
                self._note(work)
                if not work.dies:
                    work.timer = self._clock.call_at(
                        work.ready_at, lambda: self._finish(ticket, said)
                    )
            case Failed():
                work = self._works.pop(ticket)
                if work.timer is not None:
                    work.timer.cancel()
                self._stop_using_power()
                _report(ticket, said)
            case _:
                _report(ticket, said)

    def _note(self, work: _Work) -> None:
        late_s = self._clock.now() - work.ready_at
        # Where no time was asked for, any is too long.
        if late_s > 0 and work.takes_s > 0:
            self._overruns.jobs += 1
            self._overruns.worst_s = max(self._overruns.worst_s, late_s)

    def _stop_using_power(self) -> None:
        now = self._clock.now()
        self._device.uses_power(now, now)

    def _finish(self, ticket: Ticket, done: Done) -> None:
        del self._works[ticket]
        _report(ticket, done)


def _report(ticket: Ticket, said: FromTrainer) -> None:
    if ticket.report is not None:
        ticket.report(said)
