"""What the simulated coordinator has on its disk, and the queue in front of it.

    keep(answer) ──▶ queue ──▶ one group at a time, each takes a while ──▶ then()

`Disk` keeps what `coordinator/persistence/ledger.py` keeps, in its records, without files or
threads; a test holds the two against each other. It outlives the coordinator, the queue dies with
it.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from msgspec import structs

from coordinator import pacing
from coordinator.known import Knowledge, Known, Report
from coordinator.orders import NO_ORDERS, Control
from coordinator.persistence import recovery
from coordinator.persistence.ledger import Carried, Opening, OpenRound, Refusals
from coordinator.rounds import Close, Collecting, Named, Rules, Settled, Waiting
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, Digest, RoundId
from fleet_sim.clock import Clock

_NOBODY = Refusals(declined={}, rejected={})
_NO_MODEL = Digest("")


@dataclass(slots=True)
class Disk:
    """All its methods are done when they return: a transaction each."""

    epoch: int = 0
    model: Digest = _NO_MODEL
    """The newest."""
    carried: Carried | None = None
    openings: list[Opening] = field(default_factory=list)
    """Of round 1, 2, ..."""
    closed_count: int = 0
    closes_in_s: Seconds = 0.0
    refusals: Refusals = _NOBODY
    """Of the open round."""
    answers: dict[Named, RoundId | None] = field(default_factory=dict)
    """Accepted ones, as they came, and the round in whose closing each counted."""
    reports: dict[Named, Report] = field(default_factory=dict)
    """Of those that trained: what they told of their senders."""
    known: dict[ClientId, Known] = field(default_factory=dict)
    """Of each client, as of the last round that closed."""
    participations: dict[ClientId, int] = field(default_factory=dict)
    """What is counted of each client's, where they have an end."""
    control: Control = NO_ORDERS
    """What operators have ordered."""
    models: dict[RoundId, Digest] = field(default_factory=dict)
    """That one can go back to: by the round that made each."""
    is_finished: bool = False
    """There is nothing to go on with."""

    def begin(self, carried: Carried, model: Digest) -> None:
        self.carried, self.model = carried, model
        self.models[RoundId(0)] = model

    def order(self, control: Control) -> None:
        self.control = control

    def go_back(self, number: RoundId, control: Control) -> None:
        self.model, self.control = self.models[number], control

    def set_aside(self, answers: Collection[Named]) -> None:
        for named in answers:
            self.answers[named] = named.round

    def take_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def open_round(self, number: RoundId, opening: Opening) -> None:
        assert number == len(self.openings) + 1
        self.openings.append(opening)
        self.closes_in_s = opening.deadline_s
        self.refusals = _NOBODY

    def invite(self, number: RoundId, opening: Opening) -> None:
        assert number == len(self.openings) == self.closed_count + 1
        self.openings[-1] = opening

    def shut(self, number: RoundId, train: Collection[ClientId]) -> None:
        assert number == len(self.openings) == self.closed_count + 1
        self.openings[-1] = structs.replace(self.openings[-1], shut_with=sorted(train))

    def keep(self, named: Named, closes_in_s: Seconds | None, report: Report | None = None) -> None:
        assert named not in self.answers, "a name is unique"
        self.answers[named] = None
        if report is not None:
            self.reports[named] = report
        if closes_in_s is not None:
            self.closes_in_s = closes_in_s

    def refuse(self, number: RoundId, refusals: Refusals) -> None:
        if number == len(self.openings) > self.closed_count:
            self.refusals = refusals

    def close_round(self, close: Close, carried: Carried, model: Digest) -> None:
        number = close.round
        assert number == len(self.openings) == self.closed_count + 1
        in_time = [Named(client, number) for client in close.answered | close.evaluated]
        for named in (*in_time, *close.held):
            self.answers[named] = number
        self.closed_count += 1
        if model != self.model:
            self.models[close.round] = model
        self.carried, self.model = carried, model
        for client, number in close.counted:
            self.reports.pop(Named(client, number), None)
        for client, known in close.learned.items():
            if known is None:
                self.known.pop(client, None)
            else:
                self.known[client] = known
        self.participations.update(close.participations)
        if close.outcome == "evaluated":
            # Nothing follows; a crash right now must not evaluate the last model again.
            self.finish()

    def finish(self) -> None:
        self.is_finished = True

    def recover(self, at: Seconds, rules: Rules) -> Waiting | Collecting:
        """The machine's state as of the last thing that was written."""
        assert self.carried is not None
        return recovery.state(
            at,
            rules,
            self.carried,
            self._settled(rules.remembered_rounds),
            self._open_round(),
            [named for named, counted_in in self.answers.items() if counted_in is None],
            self.knowledge().reports,
            control=self.control,
        )

    def knowledge(self) -> Knowledge:
        unused = (named for named, counted_in in self.answers.items() if counted_in is None)
        reports = {
            (named.client, named.round): self.reports[named]
            for named in unused
            if named in self.reports
        }
        return Knowledge(dict(self.known), reports)

    def _settled(self, count: int) -> list[Settled]:
        return [
            recovery.settle(
                RoundId(number),
                self.openings[number - 1],
                frozenset(named.client for named in self.answers if named.round == number),
            )
            for number in range(max(1, self.closed_count + 1 - count), self.closed_count + 1)
        ]

    def _open_round(self) -> OpenRound | None:
        if len(self.openings) == self.closed_count:
            return None
        return OpenRound(
            number=RoundId(len(self.openings)),
            opening=self.openings[-1],
            closes_in_s=self.closes_in_s,
            refusals=self.refusals,
        )


def first_carried(rules: Rules) -> Carried:
    """Before the first round."""
    return Carried(pace=pacing.begin(rules.pace), late=0, typical_s=0.0)


Write = Callable[[], None]


class DiskQueue:
    """Of one life of the coordinator: what waits is committed in groups, in its order."""

    def __init__(self, clock: Clock, chance: random.Random, commit_s: Seconds) -> None:
        self._clock = clock
        self._chance = chance
        self._commit_s = commit_s
        self._waiting: list[tuple[Write, Write | None]] = []
        self._under_way: list[tuple[Write, Write | None]] = []
        self._commit = 0
        """Counts commits, so that one which did not wait for its time does not happen again."""
        self._is_lost = False

    def soon(self, write: Write, then: Write | None = None) -> None:
        """`then` is called when it is written, if the coordinator lives to hear it."""
        self._waiting.append((write, then))
        if not self._under_way:
            self._begin_commit()

    def now(self, write: Write) -> None:
        """After all that waits, and before anything else."""
        self._finish_commit([*self._under_way, *self._waiting])
        self._under_way, self._waiting = [], []
        self._commit += 1
        write()

    def lose_power(self) -> None:
        """What is under way may have got through, whole; what waits has not."""
        if self._under_way and self._chance.random() < 0.5:
            for write, _ in self._under_way:
                write()
        self._is_lost = True

    def _begin_commit(self) -> None:
        self._under_way, self._waiting = self._waiting, []
        self._commit += 1
        took_s = self._chance.random() * 2 * self._commit_s
        self._clock.after(took_s, self._committed, self._commit)

    def _committed(self, commit: int) -> None:
        if self._is_lost or commit != self._commit:
            return
        group, self._under_way = self._under_way, []
        self._finish_commit(group)
        if self._waiting:
            self._begin_commit()

    def _finish_commit(self, group: list[tuple[Write, Write | None]]) -> None:
        for write, _ in group:
            write()
        thens = [then for _, then in group if then is not None]
        if thens:
            # Not at once: the coordinator hears of it when it has done what it is doing, if then.
            self._clock.after(0.0, self._tell, thens)

    def _tell(self, thens: list[Write]) -> None:
        for then in thens:
            if not self._is_lost:
                then()
