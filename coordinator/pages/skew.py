"""Do a few clients give most of the answers? Said so that somebody can do something about it.

A model of whoever answers most is not one of everybody: where half of the clients answered nine
times as often as the others, plain averaging lost 9 points of accuracy. Nothing else shows it.

    x_i   answers of client i in the last rounds; m in all
    e_i   what uniform selection gives it: an equal share of each round's answers, from the first of
          these rounds in which i was there to the last
    J     = m / sum_i (x_i^2 / e_i)               1: everybody as expected; 1/n: one gives them all
    X     = m (1/J - 1)                           Pearson's statistic, about n - 1 by chance alone

J is Jain's index of fairness (Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and
Discrimination for Resource Allocation in Shared Computer Systems", DEC-TR-301, 1984, equation 2)
with expected shares as weights; by chance alone it is 1 / (1 + (n - 1) / m). Skew is told of when J
is far below that, and X so far above n - 1 that chance does it once in millions of times (by the
approximation of Wilson and Hilferty, "The Distribution of Chi-Square", PNAS 1931), and never before
each client could be expected to have answered several times: in a small or a young federation a few
answers more or less mean nothing. Drawing without replacement, as rounds do, spreads answers more
evenly than that chance.

Newcomers are not held to rounds before they came, nor is who left for good to those after, nor who
was in quarantine to any until it was out. Pure.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field

from fedmqtt.topics import ClientId

ROUNDS = 100
"""Of the last so many rounds."""

EXPECTED_MIN = 5.0
"""Answers per client, on average, before anything is said: Cochran's rule for such statistics."""

FAIRNESS_MAX = 0.75
"""Of what chance alone gives. Half of the clients answering 5 times as often as the others is 0.69,
3 times as often 0.8."""

_NAMED_MAX = 2
"""Of so many who give few answers, it is said who they are."""

DEVIATIONS_MIN = 5.0
"""Of a normal distribution: once in 3.5 million times. Each round asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """A few clients gave most of the answers."""

    clients: int
    """That were there in the last rounds."""
    rounds: int
    few: int
    """So many of them gave half of the answers."""
    fairness: float
    """J."""
    by_chance: float
    """J, were everybody as likely to be invited as any other."""
    seldom: tuple[ClientId, ...] = ()
    """Those who gave less than half of their share, by name."""

    def sentence(self, policy: str, cohort: int, aggregation: str = "fedavg") -> str:
        """What is the case, and what to do, where this policy selects for cohorts of this size."""
        prefers = policy in _PREFERRING and cohort < self.clients
        # Where nearly all are invited as it is, nobody's turn could come much more often.
        is_passed_over = policy not in ("round_robin", *_PREFERRING) and 2 * cohort <= self.clients
        seldom_there = _SELDOM_COUNTED if aggregation in _CURES else _SELDOM_THERE
        advice = _EXPLORE if prefers else _IN_TURN if is_passed_over else seldom_there
        return (
            f"{self._who} of the last {self.rounds} rounds (fairness {self.fairness:.2f},"
            f" {self.by_chance:.2f} by chance alone): {advice}"
        )

    @property
    def _who(self) -> str:
        if 0 < len(self.seldom) <= _NAMED_MAX:
            # Of three clients one is always few: what tells something is who is missing.
            return f"{' and '.join(self.seldom)} gave few of the answers"
        return f"{self.few} of {self.clients} clients gave half of the answers"


_IN_TURN = 'set selection = "round_robin", which invites first who was invited least recently'
_SELDOM_THERE = (
    "who gives few is seldom there when a round opens, or drops out; set aggregation ="
    ' "mifa", by which it counts as much all the same, or lengthen rounds.pause_s or'
    " rounds.deadline_s until it can take part"
)
_CURES = ("mifa", "fedvarp", "fedau", "inverse_participation")
_SELDOM_COUNTED = (
    "who gives few is seldom there when a round opens, or drops out; this aggregation makes up for"
    " much of it, and longer rounds.pause_s or rounds.deadline_s would let it take part"
)
_PREFERRING = ("by_speed", "power_of_choice", "oort")
_EXPLORE = (
    "selection prefers some clients; if the model should be everybody's, raise"
    ' selection_settings.explore or set selection = "round_robin"'
)


def can_be_told(clients: int, cohort: int) -> bool:
    """Whether so many clients could each be expected to answer often enough in the last rounds."""
    return EXPECTED_MIN * clients <= ROUNDS * cohort


@dataclass(slots=True)
class _Seen:
    """In the rounds that are looked at, counted from the run's beginning."""

    first: int
    last: int
    answers: int = 0


@dataclass(slots=True)
class Turnout:
    """Who answered in the last rounds, and who could have."""

    _rounds: deque[tuple[ClientId, ...]] = field(default_factory=deque)
    """Whose answers went into each, oldest first."""
    _seen: dict[ClientId, _Seen] = field(default_factory=dict)
    _count: int = 0
    """Of all rounds so far."""

    def closed(
        self,
        there: Iterable[ClientId],
        invited: Iterable[ClientId],
        answered: Collection[ClientId],
        out: Collection[ClientId] = (),
    ) -> None:
        """A round has closed; `there` are those that could have been invited to train, `out` those
        in quarantine. Nothing is known of these any more: they begin anew when it is over."""
        self._count += 1
        for clients in (there, invited, answered):
            for client in clients:
                self._seen.setdefault(client, _Seen(self._count, self._count)).last = self._count
        for client in answered:
            self._seen[client].answers += 1
        self._rounds.append(tuple(answered))
        if len(self._rounds) > ROUNDS:
            for client in self._rounds.popleft():
                self._seen[client].answers -= 1
            oldest = self._count - ROUNDS + 1
            self._seen = {one: seen for one, seen in self._seen.items() if seen.last >= oldest}
        self._forget(self._seen.keys() & set(out))

    def _forget(self, clients: Set[ClientId]) -> None:
        if not clients:
            return
        for client in clients:
            del self._seen[client]
        self._rounds = deque(
            tuple(one for one in answered if one not in clients) for answered in self._rounds
        )

    def skew(self) -> Skew | None:
        """None where there is none, or too little is known."""
        seen = list(self._seen.values())
        total, clients = sum(one.answers for one in seen), len(seen)
        if clients < 2 or total < EXPECTED_MIN * clients:
            return None
        expected = self._expected(seen)
        spread = sum(
            one.answers**2 / e for one, e in zip(seen, expected, strict=True) if one.answers
        )
        fairness = total / spread
        by_chance = 1 / (1 + (clients - 1) / total)
        chi_square = total * (1 / fairness - 1)
        if fairness >= FAIRNESS_MAX * by_chance:
            return None
        if _deviations(chi_square, clients - 1) < DEVIATIONS_MIN:
            return None
        return Skew(
            clients=clients,
            rounds=len(self._rounds),
            few=_few(sorted((one.answers for one in seen), reverse=True)),
            fairness=fairness,
            by_chance=by_chance,
            seldom=self._seldom(expected),
        )

    def _seldom(self, expected: list[float]) -> tuple[ClientId, ...]:
        shares = zip(self._seen.items(), expected, strict=True)
        return tuple(sorted(name for (name, one), share in shares if one.answers < share / 2))

    def _expected(self, seen: list[_Seen]) -> list[float]:
        """Of each, an equal share of each round's answers among those that were there.

        In two passes over the rounds, not one for each client.
        """
        oldest, length = self._count - len(self._rounds) + 1, len(self._rounds)
        came, left = [0] * (length + 1), [0] * (length + 1)
        for one in seen:
            came[max(0, one.first - oldest)] += 1
            left[one.last - oldest + 1] += 1
        there, until = 0, [0.0]
        for number, answers in enumerate(self._rounds):
            there += came[number] - left[number]
            until.append(until[-1] + (len(answers) / there if there else 0.0))
        return [until[one.last - oldest + 1] - until[max(0, one.first - oldest)] for one in seen]


def _deviations(chi_square: float, freedom: int) -> float:
    """As how many standard deviations of a normal distribution it is as unlikely."""
    step = 2 / (9 * freedom)
    return (math.cbrt(chi_square / freedom) - (1 - step)) / math.sqrt(step)


def _few(counts: list[int]) -> int:
    """How many of the largest make up half of all."""
    half, together = sum(counts) / 2, 0
    for i, count in enumerate(counts):
        together += count
        if together >= half:
            return i + 1
    return len(counts)
