"""Where a run was when its coordinator ended, however it ended: from the ledger back to the state.

`state` is a pure function of what the ledger holds; the rest reads and checks.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator import concurrency, pacing, rounds
from coordinator.aggregation import Memory
from coordinator.concurrency import Places
from coordinator.known import Answer, Knowledge, Known, Report
from coordinator.models import checkpoint, published_files
from coordinator.models.checkpoint import CheckpointError
from coordinator.orders import NO_ORDERS, Control
from coordinator.persistence.history import Record
from coordinator.persistence.ledger import (
    Beginning,
    Carried,
    Checkpoint,
    Ledger,
    Opening,
    OpenRound,
)
from coordinator.persistence.run_errors import LedgerDamaged
from coordinator.rounds import Collecting, Named, Past, Rules, Settled, Waiting
from coordinator.sums import strategy_memory
from fedmqtt import weights
from fedmqtt.deltas import Delta
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array, Layout

_NONE = RoundId(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A run that can be gone on with."""

    beginning: Beginning
    layout: Layout
    flat: Array
    trained_rounds: int
    strategy: str
    """The one that made the model, where it remembers something."""
    memory: Memory
    records: list[Record]
    carried: Carried
    settled: tuple[Settled, ...]
    open_round: OpenRound | None
    settings: tuple[tuple[RoundId, str], ...]
    """Under which each of the last rounds was opened, and the open one."""
    published: tuple[Array, tuple[Delta, ...]] | None
    """What clients were given for the model, where it is not the model itself."""
    unused: tuple[Named, ...]
    """Accepted answers that no model contains yet, in the order in which they came."""
    known: dict[ClientId, Known]
    reports: dict[Answer, Report]
    """Of those of the unused answers that trained."""
    participations: dict[ClientId, int]
    """What is counted of each client's, where they have an end."""
    control: Control
    """What operators have ordered."""

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge(dict(self.known), dict(self.reports))


def opening(state: Collecting, settings: str = "") -> Opening:
    """What the ledger must hold of an open round."""
    return Opening(
        model=state.model,
        train=sorted(state.train),
        evaluate=sorted(state.evaluate),
        deadline_s=state.closes_at - state.opened_at,
        terms_max=state.terms_max,
        settings=settings,
        sortition=state.sortition,
        masking=state.masking,
    )


def read(ledger: Ledger, folder: Path) -> Recovered | None:
    """What the ledger of this run's folder holds; None for a run that has not begun.

    Raises LedgerError, and CheckpointError where the model is damaged or gone.
    """
    beginning = ledger.beginning()
    if beginning is None:
        return None
    layout = Layout(tuple((name, tuple(shape)) for name, shape in beginning.tensors))
    newest = ledger.checkpoint()
    flat = _newest_model(folder, newest, layout)
    given = newest.published
    ledger.tidy()
    closed, open_round = ledger.closed_rounds(), ledger.open_round_now()
    # Not the answers: all of them may be more than there is memory.
    unused = [(kept.named, kept.report) for kept in ledger.kept()]
    openings = [(number, opening) for number, opening, _ in closed]
    if open_round is not None:
        openings.append((open_round.number, open_round.opening))
    return Recovered(
        beginning=beginning,
        layout=layout,
        flat=flat,
        trained_rounds=newest.trained_rounds,
        strategy=newest.memory.strategy if newest.memory else "",
        memory=strategy_memory.load(folder, newest.memory) if newest.memory else {},
        published=published_files.load(folder, given, layout) if given else None,
        records=ledger.records(),
        carried=ledger.carried(),
        settled=tuple(settle(number, opening, answered) for number, opening, answered in closed),
        open_round=open_round,
        settings=tuple((number, opening.settings) for number, opening in openings),
        unused=tuple(named for named, _ in unused),
        known=ledger.known(),
        reports={
            (named.client, named.round): report for named, report in unused if report is not None
        },
        participations=ledger.participations(),
        control=ledger.control(),
    )


def read_model(folder: Path, named: Checkpoint, layout: Layout) -> Array:
    """The flat vector of a model that the ledger tells of.

    Raises CheckpointError or LedgerDamaged.
    """
    path = folder / named.file
    flat = checkpoint.load_as(path, layout)
    if weights.digest(weights.write(layout, flat)) != named.digest:
        raise LedgerDamaged(f"model {path} is not the model that its ledger tells of")
    return flat


def _newest_model(folder: Path, newest: Checkpoint, layout: Layout) -> Array:
    path = folder / newest.file
    try:
        return read_model(folder, newest, layout)
    except CheckpointError as bad:
        why = f"{bad}; it is the newest model of its run"
        # A model goes when the ledger has named its successor: what is there instead is newer.
        if not path.exists() and (other := next(path.parent.glob("*.safetensors"), None)):
            why += f" by its ledger, which is older than {other.relative_to(folder)}"
        raise CheckpointError(why) from bad


def settle(number: RoundId, opening: Opening, answered: frozenset[ClientId]) -> Settled:
    """A closed round, of which the ledger tells this."""
    return Settled(
        number,
        answered,
        opening.model,
        frozenset([*opening.train, *(opening.shut_with or ())]),
        opening.sortition,
        is_shut=opening.shut_with is not None,
        masking=opening.masking,
    )


def state(
    at: Seconds,
    rules: Rules,
    carried: Carried,
    settled: Sequence[Settled],
    open_round: OpenRound | None,
    unused: Sequence[Named],
    trained: Container[Answer] = (),
    outdated: RoundId = _NONE,
    control: Control = NO_ORDERS,
) -> Waiting | Collecting:
    """The machine's state as of the last thing that was written. Answers to rounds up to `outdated`
    count no more, so nobody is at work on those.

    `trained`: which of the unused answers are updates. With sortition they tell who came into the
    open round after its opening, and for what.
    """
    past = Past(
        pace=pacing.resume(carried.pace, rules.pace),
        settled=tuple(settled),
        late=carried.late,
        held=tuple(one for one in unused if not _is_of(one, open_round)),
        typical_s=carried.typical_s,
        # The time until there is a link is given back too.
        deaf_since=at,
        control=control,
    )
    outdated = max(outdated, RoundId(control.valid_from - 1))
    if open_round is None:
        following = settled[-1].round + 1 if settled else 1
        past = replace(past, at_work=_at_work(at, rules, past, None, outdated))
        return Waiting(RoundId(following), past)
    opening = open_round.opening
    train, evaluate = frozenset(opening.train), frozenset(opening.evaluate)
    heard = frozenset(one.client for one in unused if _is_of(one, open_round))
    if opening.sortition is not None:
        updates = {client for client in heard if (client, open_round.number) in trained}
        came = updates.union(opening.shut_with or ())
        evaluate = (evaluate - (came - train)) | (heard - updates)
        train |= came
    closes_at = at + open_round.closes_in_s
    resumed = rounds.resume(
        Collecting(
            round=open_round.number,
            model=opening.model,
            train=train,
            evaluate=evaluate,
            sortition=opening.sortition,
            train_max=rounds.room(len(opening.train)),
            evaluate_max=rounds.room(len(opening.evaluate)),
            is_shut=opening.shut_with is not None,
            opened_at=closes_at - opening.deadline_s,
            closes_at=closes_at,
            terms_max=opening.terms_max,
            masking=opening.masking,
            closing=open_round.listed.reason if open_round.listed is not None else "",
            answered=heard & train,
            evaluated=heard & evaluate,
            declined=open_round.refusals.declined,
            rejected=open_round.refusals.rejected,
            past=past,
        ),
        at,
    )
    at_work = _at_work(at, rules, past, resumed, outdated)
    return replace(resumed, past=replace(past, at_work=at_work))


def _at_work(
    at: Seconds, rules: Rules, past: Past, open_round: Collecting | None, outdated: RoundId
) -> Places:
    if open_round is not None and open_round.is_last_evaluation:
        return {}
    invitations = [
        (one.round, one.train, one.answered)
        for one in reversed(past.settled[-rules.late_rounds_max :])
        if one.round > outdated
    ]
    if open_round is not None:
        done = open_round.train - open_round.outstanding
        invitations.insert(0, (open_round.round, open_round.train, done))
    return concurrency.recovered(invitations, rules.concurrency, at, past.pace.deadline_s)


def _is_of(named: Named, open_round: OpenRound | None) -> bool:
    return open_round is not None and named.round == open_round.number
