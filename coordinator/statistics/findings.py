"""What the clients' sums come to, for people and for programs.

All figures are of those clients that answered in the last round that had enough of them; earlier
rounds only made its questions narrow.
"""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from coordinator.aggregation import Memory
from coordinator.config import Statistics
from coordinator.persistence.history import Record
from coordinator.statistics import refine, strategy
from fedmqtt import data_query
from fedmqtt.data_query import CategorySums, NumberQuery, NumberSums, Sums
from fedmqtt.topics import RoundId
from fedmqtt.weights import Layout

FILE_NAME = "statistics.json"
"""In a run's folder."""


class Quantile(Struct, frozen=True):
    """The sample of rank `share` lies at `low` or above it, and below `high`."""

    share: float
    low: float
    high: float


class Histogram(Struct, frozen=True):
    low: float
    high: float
    counts: list[int]
    """Of bins of equal width, each with its lower edge and without its upper one."""
    below: int
    above: int


class NumberFindings(Struct, frozen=True, kw_only=True, tag="number", tag_field="kind"):
    clients: int
    """That have the feature."""
    samples: int
    outside: int = 0
    """Samples that are in neither mean nor variance: they came when the scale was chosen."""
    mean: float | None
    variance: float | None
    """Of the population: divided by the samples."""
    histogram: Histogram | None
    quantiles: list[Quantile]


class CategoryFindings(Struct, frozen=True, kw_only=True, tag="category", tag_field="kind"):
    clients: int
    samples: int
    counts: dict[str, int]


class Withheld(Struct, frozen=True, kw_only=True, tag="withheld", tag_field="kind"):
    reason: str


Finding = NumberFindings | CategoryFindings | Withheld


class Findings(Struct, frozen=True, kw_only=True):
    federation: str
    task: str
    run: str
    round: RoundId
    """Of which the figures are."""
    clients: int
    """That answered in it."""
    answered: list[int]
    """In each round."""
    came: int
    """Clients in the last round that were not in the first."""
    left: int
    """Clients in the first round that were not in the last: their data is not in the figures."""
    features: dict[str, Finding]

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def findings(
    *,
    federation: str,
    task: str,
    run: str,
    layout: Layout,
    memory: Memory,
    records: Sequence[Record],
    categories: Mapping[str, Sequence[str]],
    settings: Statistics,
) -> Findings | None:
    """From what the run remembers; None where no round had enough clients."""
    if strategy.SUMS not in memory:
        return None
    asked = data_query.read_queries(layout.unflatten(memory[strategy.ASKED]))
    sums = data_query.read_sums(asked, memory[strategy.SUMS])
    high, low = memory[strategy.ROUND]
    number = RoundId(int(high) * 2**16 + int(low))
    used = [one for one in records if one.outcome == "averaged"]
    first, last = set(used[0].answered), set(used[-1].answered)
    return Findings(
        federation=federation,
        task=task,
        run=run,
        round=number,
        clients=len(last),
        answered=[len(one.answered) for one in records],
        came=len(last - first),
        left=len(first - last),
        features={
            name: _finding(query, sums[name], categories.get(name, ()), settings)
            for name, query in asked.items()
        },
    )


def _finding(
    query: data_query.Query, sums: Sums, categories: Sequence[str], settings: Statistics
) -> Finding:
    if sums.clients < settings.clients_min:
        return Withheld(reason=_too_few(sums.clients, settings.clients_min))
    if isinstance(sums, CategorySums):
        return CategoryFindings(
            clients=sums.clients,
            samples=sums.samples,
            counts=dict(zip(categories, sums.counts, strict=True)),
        )
    assert isinstance(query, NumberQuery)
    mean, variance = data_query.mean(query, sums), data_query.variance(query, sums)
    return NumberFindings(
        clients=sums.clients,
        samples=sums.samples,
        outside=sums.outside,
        mean=None if mean is None else float(mean),
        variance=None if variance is None else float(variance),
        histogram=None if query.is_first else _histogram(query, sums),
        quantiles=[] if query.is_first else _quantiles(query, sums, settings),
    )


def _too_few(clients: int, needed: int) -> str:
    if clients == 0:
        return "no client has a value"
    have = "1 client has values" if clients == 1 else f"{clients} clients have values"
    return f"only {have}, and nothing is told of fewer than {needed} (statistics.clients_min)"


def _histogram(query: NumberQuery, sums: NumberSums) -> Histogram:
    below, *counts, above = sums.histogram
    return Histogram(query.low, query.high, counts, below, above)


def _quantiles(query: NumberQuery, sums: NumberSums, settings: Statistics) -> list[Quantile]:
    found = []
    for share, bracket, counts in zip(
        settings.quantiles, query.brackets, sums.brackets, strict=True
    ):
        wanted = refine.rank(share, sums.samples)
        place = refine.bin_of(counts, wanted)
        if 0 < place < len(counts) - 1:
            ends = data_query.edges(*bracket, query.bracket_bins)
            low, high = refine.held(ends, counts, wanted, settings.samples_min)
        elif (inside := _in_histogram(query, sums, wanted)) is not None:
            # The clients have changed, and with them the quantile: the histogram still holds it.
            low, high = inside
        else:
            continue
        found.append(Quantile(share, low, high))
    return found


def _in_histogram(query: NumberQuery, sums: NumberSums, wanted: int) -> tuple[float, float] | None:
    place = refine.bin_of(sums.histogram, wanted)
    if not 0 < place < len(sums.histogram) - 1:
        return None
    ends = data_query.edges(query.low, query.high, query.bins)
    return float(ends[place - 1]), float(ends[place])
