"""Where a scenario plays: it makes federations, and turns what became of one into a row.

    def broker_killed(stage: Stage) -> Row:
        with stage.federation(Plan()) as fed:
            ...                                  # start it, hurt it, heal it
            return stage.row(fed, "what happened, for the table")

A row is measured against the undisturbed run of a plan, which is run once and shared.
"""

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import monotonic, sleep

import numpy as np

from fedmqtt import messages
from fedmqtt.messages import Evaluation, Update
from fedmqtt.weights import Array
from tests.faults.accounts import Books, Debt, audit
from tests.faults.arrangement import NOTHING_SHARED, ON_A_LAPTOP, Ground
from tests.faults.federation import Federation, Lives, TookTooLong, federation
from tests.faults.plan import COORDINATOR, Plan

_TO_RECEIVE_S = 3.0
_LOOK_EVERY_S = 0.05


class Requirement(Exception):
    """What a scenario requires beyond what its row says did not hold."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Requirement(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `faults` says why the scenario failed; empty if it did not."""

    fault: str
    ended: bool = False
    """By itself: the coordinator's rounds came to their end, and it said so."""
    stall_s: float | None = None
    """The longest time without a round that closed."""
    usual_s: float | None = None
    """The same, of the undisturbed run."""
    lost: int = 0
    twice: int = 0
    model: str = ""
    """How it compares with that of the undisturbed run."""
    difference: float | None = None
    """The largest of any of its numbers; None where the models are identical."""
    note: str = ""
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Played:
    """What remains of a run that is over."""

    books: Books
    stall_s: float
    exit_code: int
    run_count: int


@dataclass(slots=True)
class _Undisturbed:
    lock: threading.Lock = field(default_factory=threading.Lock)
    played: Played | None = None


class Theatre:
    """What all scenarios of a benchmark share: the seed, a folder, the undisturbed runs."""

    def __init__(self, folder: Path, seed: int, ground: Ground = NOTHING_SHARED) -> None:
        self.folder = folder
        self.seed = seed
        self.ground = ground
        self._lock = threading.Lock()
        self._undisturbed: dict[Plan, _Undisturbed] = {}

    def undisturbed(self, plan: Plan) -> Played:
        """The run of this plan in which nothing happens."""
        with self._lock:
            kept = self._undisturbed.setdefault(plan, _Undisturbed())
            number = list(self._undisturbed).index(plan)
        with kept.lock:
            if kept.played is None:
                with federation(self.folder / f"undisturbed-{number}", plan, self.ground) as fed:
                    fed.start()
                    kept.played = finish(fed)
            return kept.played


@dataclass(frozen=True, slots=True)
class Stage:
    """One scenario's part of the theatre."""

    theatre: Theatre
    name: str
    fault: str
    kills: int
    """How often the scenario that kills the coordinator does so."""
    outage_s: float
    """How long what is cut off is away."""

    @property
    def chance(self) -> Random:
        """The same each time it is asked for: ask once."""
        return Random(f"{self.theatre.seed}/{self.name}")

    @contextmanager
    def federation(self, plan: Plan) -> Iterator[Federation]:
        """On the ground that there is."""
        plan = self._arranged(plan)
        with federation(self.theatre.folder / self.name, plan, self.theatre.ground) as fed:
            yield fed

    def row(
        self,
        fed: Federation,
        note: str,
        *,
        same: bool = True,
        like: Plan | None = None,
        on_a_laptop: bool = False,
    ) -> Row:
        """Wait for the end, check the books, compare with the undisturbed run.

        `same`: the same answers must have counted, so that the models must be identical. `like` is
        the plan of the undisturbed run, if it is not the scenario's own. `on_a_laptop`: that is run
        on one Mosquitto, with the ledger in a file, without workers and standby.
        """
        played = finish(fed)
        model = self._arranged(like or _without_way(fed.plan))
        if on_a_laptop:
            model = replace(model, arrangement=ON_A_LAPTOP)
        usual = self.theatre.undisturbed(model)
        books, other = played.books, usual.books
        alike = np.array_equal(books.model, other.model)
        agreeing = books.counted == other.counted
        faults = books.mistakes + [f"even undisturbed: {each}" for each in other.mistakes]
        if played.exit_code != 0:
            faults.append(f"the coordinator ended with exit code {played.exit_code}")
        if played.run_count != 1:
            faults.append(f"{played.run_count} runs have a history: it began anew")
        if agreeing and not alike:
            faults.append("the same answers counted, and the model is another")
        if same and not agreeing:
            faults.append(f"other answers counted than undisturbed: {books.counted}")
        return Row(
            fault=self.fault,
            ended=played.exit_code == 0,
            stall_s=played.stall_s,
            usual_s=usual.stall_s,
            lost=len(books.lost),
            twice=len(books.twice),
            model=_comparison(agreeing, alike, books),
            difference=None if alike else largest_difference(books.model, other.model),
            note=note,
            faults=tuple(faults),
        )

    def _arranged(self, plan: Plan) -> Plan:
        return replace(plan, arrangement=self.theatre.ground.arrangement)


def play(scenario: Callable[[Stage], Row], stage: Stage) -> Row:
    """A row whatever happens: what a scenario stumbles over is its fault."""
    try:
        return scenario(stage)
    except (TookTooLong, Requirement) as unmet:
        return Row(fault=stage.fault, faults=(str(unmet),))
    except Exception as bad:
        # A mistake of the benchmark, or books that cannot be read at all. The others go on.
        traceback.print_exc()
        return Row(fault=stage.fault, faults=(f"{type(bad).__name__}: {bad}",))


def finish(fed: Federation) -> Played:
    """Wait until the run is over and its clients know, then check its books."""
    exit_code = fed.wait_for_end()
    if not fed.records:
        raise Requirement(f"no round has closed; the coordinator ended with exit code {exit_code}")
    _let_receipts_come(fed)
    receipts = {who: fed.receipts(who) for who in fed.clients}
    books = audit(fed.run, receipts, _owed(fed))
    run_count, stall_s = fed.run_count, fed.closings.longest_stall_s(books.records[0].duration_s)
    if books.lost:
        # Late answers: whether they are owed for ever is up to the coordinator that comes next.
        _ask_the_next_coordinator(fed)
        books = audit(fed.run, receipts, _owed(fed))
    return Played(books, stall_s, exit_code, run_count)


def _without_way(plan: Plan) -> Plan:
    return replace(plan, persistent=False, proxied=(), disturbance=None)


def _comparison(agreeing: bool, alike: bool, books: Books) -> str:
    if agreeing:
        return "identical" if alike else "DIFFERENT"
    return "NOT exact" if books.wrong else "exact"


def largest_difference(model: Array, other: Array) -> float:
    """Of two numbers in the same place. In double precision: both are exact in it."""
    return float(np.max(np.abs(model.astype(np.float64) - other.astype(np.float64))))


def _let_receipts_come(fed: Federation) -> None:
    """The last ones are on their way when the coordinator ends."""
    give_up_at = monotonic() + _TO_RECEIVE_S
    while any(_owed(fed).values()) and monotonic() < give_up_at:
        sleep(_LOOK_EVERY_S)


def _owed(fed: Federation) -> Mapping[str, set[Debt]]:
    return {who: set(filter(None, map(_debt, fed.outbox(who)))) for who in fed.clients}


def _debt(answer: Path) -> Debt | None:
    try:
        message = messages.read_from_client(answer.read_bytes())
    except FileNotFoundError:
        # Its receipt has just come.
        return None
    assert isinstance(message, Update | Evaluation)
    return Debt(message.run, message.round)


def _ask_the_next_coordinator(fed: Federation) -> None:
    for who, lives in fed.clients.items():
        if fed.outbox(who) and not lives.is_running:
            fed.start_client(who)
    # Without an end: a client asks again after ever longer pauses.
    following: Lives = fed.another(COORDINATOR, "--set", "rounds.count=0")
    fed.start_program(following)
    # What is owed even then is found in the outboxes.
    with suppress(TookTooLong):
        fed.wait(lambda: not any(_owed(fed).values()), "the end of all debts")
    following.now.process.kill()
