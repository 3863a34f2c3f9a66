"""A run in numbers: how soon its model was how good, and how evenly it heard whom."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from round_monitor.run_files import JUDGE, Lab, Run

ACCURACY = "accuracy"
TARGETS = (0.80, 0.90, 0.95)
"""Accuracies that the summary tells the price of."""


@dataclass(frozen=True, slots=True)
class Point:
    """One model's figure, and what had been spent when that model was made."""

    rounds: int
    at_s: float
    bytes_moved: int
    value: float


def curve(run: Run, metric: str) -> list[Point]:
    """A metric of each model that was evaluated, by what it had cost to make.

    A round's figures are of the model that it *started* from: one that existed since the round
    before had closed.
    """
    points = []
    at_s, bytes_moved = 0.0, 0
    for line in run.rounds:
        if metric in line.figures:
            points.append(Point(line.number - 1, at_s, bytes_moved, line.figures[metric]))
        at_s, bytes_moved = line.at_s, line.bytes_moved
    return points


def training_curve(run: Run, metric: str) -> list[Point]:
    """A metric that clients measured while they trained, when the round closed that they did in."""
    return [
        Point(line.number, line.at_s, line.bytes_moved, line.training[metric])
        for line in run.rounds
        if metric in line.training
    ]


def metrics(runs: Sequence[Run]) -> list[str]:
    """Of all runs, what most look at first, then by name."""
    found = {name for run in runs for line in run.rounds for name in line.figures}
    first = [name for name in (ACCURACY, "macro_f1", "loss") if name in found]
    return first + sorted(found.difference(first))


def training_metrics(runs: Sequence[Run]) -> list[str]:
    return sorted({name for run in runs for line in run.rounds for name in line.training})


def reached(points: Sequence[Point], target: float) -> Point | None:
    """The first model that was at least so good."""
    return next((point for point in points if point.value >= target), None)


@dataclass(frozen=True, slots=True)
class Client:
    """How one client took part, over the whole run."""

    name: str
    invited: int
    answered: int
    """Answers that went into a model: in time, or late where late ones count."""
    dropped: int
    rejected: int
    surplus: int
    samples: int | None
    """What it holds, where the run tells; so with all below."""
    label_counts: tuple[int, ...]
    online_share: float | None
    dominant_label: int | None


def clients(run: Run) -> list[Client]:
    """All that could have trained, by name: those of the lab, else all who were ever invited."""
    tallies = run.tallies
    held = {one.client: one for one in run.lab.clients if one.client != JUDGE} if run.lab else {}
    names = held.keys() | tallies.invited.keys()
    found = []
    for name in sorted(names):
        one = held.get(name)
        found.append(
            Client(
                name=name,
                invited=tallies.invited[name],
                answered=tallies.answered[name] + tallies.late_counted[name],
                dropped=tallies.dropped[name],
                rejected=tallies.rejected[name],
                surplus=tallies.surplus[name],
                samples=one.samples if one else None,
                label_counts=tuple(one.label_counts) if one else (),
                online_share=one.online_share if one else None,
                dominant_label=one.dominant_label if one else None,
            )
        )
    return found


def jain(counts: Sequence[float]) -> float | None:
    """Jain's index of fairness: 1 where all have the same, 1/n where one has all. None for nothing.

    Source: Jain, Chiu and Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource
    Allocation in Shared Computer Systems", DEC TR-301, 1984, equation 1.
    """
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else None


def gini(counts: Sequence[float]) -> float | None:
    """Twice the area between the Lorenz curve and equality: 0 where all have the same."""
    total = sum(counts)
    if not total:
        return None
    n = len(counts)
    weighted = sum(rank * count for rank, count in enumerate(sorted(counts), 1))
    return 2 * weighted / (n * total) - (n + 1) / n


def lorenz(counts: Sequence[float]) -> list[tuple[float, float]]:
    """What share of all the least have: points (share of them, share of it), from (0, 0)."""
    total = sum(counts)
    if not total:
        return []
    points = [(0.0, 0.0)]
    so_far = 0.0
    for rank, count in enumerate(sorted(counts), 1):
        so_far += count
        points.append((rank / len(counts), so_far / total))
    return points


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's: Pearson's of the ranks, equals sharing their mean. None if one is constant."""
    if len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + end + 1) / 2
        start = end
    return ranks


@dataclass(frozen=True, slots=True)
class Label:
    """How one class of the data was heard."""

    label: int
    clients: int
    """Who hold more of it than of any other."""
    online_share: float | None
    """Their mean."""
    answers: float | None
    """Their mean number of answers that counted."""
    held: float
    """Its share of all samples."""
    heard: float
    """Its share of the samples trained on: a client's are heard once per answer."""

    @property
    def ratio(self) -> float | None:
        """1: as much as if all had answered equally often. Below: the model hears too little."""
        return self.heard / self.held if self.held else None


def labels(people: Sequence[Client]) -> list[Label]:
    """One for each class, where the run tells what clients hold; none if nobody answered."""
    count = max((len(one.label_counts) for one in people), default=0)
    held, heard = [0.0] * count, [0.0] * count
    for one in people:
        for label, samples in enumerate(one.label_counts):
            held[label] += samples
            heard[label] += samples * one.answered
    if not sum(held) or not sum(heard):
        return []
    groups: dict[int | None, list[Client]] = {}
    for one in people:
        groups.setdefault(one.dominant_label, []).append(one)
    found = []
    for label in range(count):
        group = groups.get(label, [])
        online = [one.online_share for one in group if one.online_share is not None]
        found.append(
            Label(
                label=label,
                clients=len(group),
                online_share=statistics.fmean(online) if online else None,
                answers=statistics.fmean(one.answered for one in group) if group else None,
                held=held[label] / sum(held),
                heard=heard[label] / sum(heard),
            )
        )
    return found


def mean_label(counts: Sequence[int]) -> float:
    total = sum(counts)
    return sum(label * count for label, count in enumerate(counts)) / total if total else 0.0


def held_by_lab(lab: Lab | None) -> tuple[tuple[str, int | None, tuple[int, ...]], ...]:
    """Who holds what, comparable between runs."""
    people = lab.clients if lab else []
    return tuple(
        (one.client, one.samples, tuple(one.label_counts)) for one in people if one.client != JUDGE
    )
