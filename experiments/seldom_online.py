"""What becomes of people who are seldom online, or never together with the others?

    labels a client holds     walking ... lying
    its rank                  by chance (follows_data = 0), or in that order (1)
    its rank decides          markov: how often it is online      rarely ... nearly always
                              diurnal: at what time of the day    midnight ... midnight

HAR, 21 clients, five a round. By `owners` each client is a person, and everybody did everything.
By `shards` each holds two stretches of the data sorted by activity (McMahan's non-IID split): then
some activities are seldom online, or sleep when others are awake. The test people are always the
same nine, who never train.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

from experiments.cells import Cell, Played
from experiments.people import Task, fleet_of

SPLITS = ("owners", "shards")

WEATHER = {
    # Odds of being online from 1:60 to 60:1 for nine of ten clients; a round every two minutes.
    "markov": (
        "connectivity.kind=markov",
        "connectivity.settings.online_s=600.0",
        "connectivity.settings.offline_s=600.0",
        "connectivity.settings.spread=2.5",
        "federation.rounds.pause_s=120.0",
    ),
    # Eight hours a day, begun at any hour; a round every half hour for three days.
    "diurnal": (
        "connectivity.kind=diurnal",
        "connectivity.settings.lasts_h=8.0",
        "connectivity.settings.zones_h=24.0",
        "federation.rounds.pause_s=1800.0",
    ),
}

SELDOM = (*WEATHER["markov"], "connectivity.follows_data=1.0")
"""What data a client has decides how often it is online."""

_ROUNDS = 144
_COUNTED = 48
"""The last rounds, over which recalls are means: a day of the diurnal weather."""


@dataclass(frozen=True, slots=True)
class Choice:
    split: str
    weather: str
    follows_data: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of one choice, over its seeds; by class."""

    choice: Choice
    online: list[float]
    """Which share of the time somebody who holds the class is there, weighted by samples."""
    recall: list[float]
    """Mean over the last rounds."""
    worst: list[float]
    """The lowest recall in any of them, mean over seeds."""
    accuracy: float
    seeds: int


def choices(weathers: Sequence[str]) -> list[Choice]:
    return [Choice(*one) for one in product(SPLITS, weathers, (0.0, 1.0))]


def cells(choice: Choice, task: Task, seeds: Sequence[int]) -> Iterator[Cell]:
    for seed in seeds:
        name = f"har-{choice.split}-{choice.weather}-follows-{choice.follows_data:g}-seed-{seed}"
        sets = (
            f"data.split={choice.split}",
            "clients=21",
            f"connectivity.follows_data={choice.follows_data:g}",
            *WEATHER[choice.weather],
            f"federation.rounds.count={_ROUNDS}",
            "federation.rounds.cohort=5",
            "federation.rounds.clients_min=3",
        )
        yield fleet_of(task, name, seed, sets)


def outcome(choice: Choice, played: Sequence[Played]) -> Outcome:
    recalls = [_recalls(one) for one in played]
    return Outcome(
        choice=choice,
        online=_means([_online(one) for one in played]),
        recall=_means([_means(one) for one in recalls]),
        worst=_means([[min(column) for column in zip(*one, strict=True)] for one in recalls]),
        accuracy=mean(
            record.figures.metrics["accuracy"]
            for one in played
            for record in one.records[-_COUNTED:]
            if record.figures is not None
        ),
        seeds=len(played),
    )


def _recalls(played: Played) -> list[list[float]]:
    """By class, of each of the last rounds that was measured."""
    return [
        [row[i] / sum(row) for i, row in enumerate(record.figures.confusion)]
        for record in played.records[-_COUNTED:]
        if record.figures is not None and record.figures.confusion is not None
    ]


def _online(played: Played) -> list[float]:
    clients = played.page.clients
    classes = range(len(clients[0].label_counts))
    totals = [sum(one.label_counts[label] for one in clients) for label in classes]
    return [
        sum(one.label_counts[label] * (one.online_share or 0.0) for one in clients)
        / max(1, totals[label])
        for label in classes
    ]


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [mean(column) for column in zip(*rows, strict=True)]
