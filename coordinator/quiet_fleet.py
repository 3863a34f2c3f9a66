"""What people are told of a fleet that says nothing: counts, of no single client."""

from collections import Counter
from dataclasses import dataclass, field

from coordinator import fleet_size, rounds
from fedmqtt import sortition
from fedmqtt.logs import printable
from fedmqtt.messages import Device, Update
from fedmqtt.status_pages import LISTED_LABELS, QuietFleet
from fedmqtt.topics import RoundId

_KINDS_MAX = 1000
"""Devices may call themselves anything: more kinds than these are not told apart."""
_OTHERS = "others"
_NO_ROUND = RoundId(0)


@dataclass(slots=True)
class Answerers:
    """Of one round: what they are."""

    round: RoundId = _NO_ROUND
    one_in: float = 0.0
    answered: int = 0
    rejected: int = 0
    declined: int = 0
    programs: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)

    def count(self, update: Update) -> None:
        """One that counted in this round."""
        _count(self.codecs, update.codec)
        match update.device:
            case Device(program=program, label=label):
                _count(self.programs, program)
                _count(self.labels, label)
            case _:
                # By a program of before.
                pass


def begun(state: rounds.Collecting, before: Answerers) -> Answerers:
    """A round is open; the last evaluation leaves who trained before."""
    if not sortition.trains_quietly(state.sortition) or state.sortition is None:
        return before
    return Answerers(round=state.round, one_in=1 / sortition.share(state.sortition.train))


def drawn(state: rounds.Collecting) -> str:
    """How many of them are, and by what belief, as a sentence."""
    by, sizes = state.sortition, fleet_size.estimate(state.past.sizes)
    assert by is not None
    return (
        f"draws {_in_words(by.train)} to train, {_in_words(by.evaluate)} to evaluate;"
        f" about {sizes.size:,} would answer ({sizes.low:,} to {sizes.high:,})"
    )


def follow(answerers: Answerers, state: rounds.State) -> None:
    """As the machine counts them."""
    if isinstance(state, rounds.Collecting) and state.round == answerers.round:
        answerers.answered = len(state.answered)
        answerers.rejected = len(state.rejected)
        answerers.declined = len(state.declined)


def page(state: rounds.State, rules: rounds.Rules, answerers: Answerers) -> QuietFleet | None:
    """None where each client says that it is there."""
    if not rules.is_quiet:
        return None
    follow(answerers, state)
    sizes = fleet_size.estimate(state.past.sizes)
    return QuietFleet(
        declared=rules.fleet,
        estimate=sizes.size,
        low=sizes.low,
        high=sizes.high,
        one_in=round(answerers.one_in, 2),
        answered=answerers.answered,
        rejected=answerers.rejected,
        declined=answerers.declined,
        programs=_most(answerers.programs),
        labels=_most(answerers.labels),
        codecs=_most(answerers.codecs),
    )


def sentence(fleet: QuietFleet) -> str:
    """How many there are, as a part of a sentence: an estimate, and said to be one."""
    return f"about {fleet.estimate:,} clients would answer ({fleet.low:,} to {fleet.high:,})"


def _in_words(threshold: int) -> str:
    if threshold == 0:
        return "nobody"
    one_in = 1 / sortition.share(threshold)
    if one_in < 1.05:
        return "every client" if one_in == 1 else "nearly every client"
    return f"one client in {one_in:,.0f}" if one_in >= 10 else f"one client in {one_in:.2g}"


def _count(counts: Counter[str], kind: str) -> None:
    if kind:
        counts[kind if kind in counts or len(counts) < _KINDS_MAX else _OTHERS] += 1


def _most(counts: Counter[str]) -> dict[str, int]:
    frequent = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return {printable(kind): count for kind, count in frequent[:LISTED_LABELS]}
