"""A strategy's rounds, played by hand."""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from coordinator import aggregation
from coordinator.aggregation import Memory, Round
from coordinator.config import Limits
from coordinator.rounds import Named
from coordinator.sums.client_store import ClientStore
from coordinator.sums.resolution import fraction_bits
from fedmqtt import parts, settings
from fedmqtt.fixed_point import remembered_bits
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array

TERMS_MAX = 100

Answer = tuple[Array, int, Named]
"""A change, its count of samples, and whose it is."""


def strategy_named(name: str) -> ModuleType:
    return parts.load(aggregation, name)


def answers(changes: Iterable[Any], samples: Sequence[int] = (), number: int = 1) -> list[Answer]:
    """To this round, of clients whose names are in the order of their changes."""
    return [
        (
            np.asarray(change, np.float32),
            samples[n] if samples else 1,
            Named(ClientId(f"client-{n:04}"), RoundId(number)),
        )
        for n, change in enumerate(changes)
    ]


def bits_for(
    strategy: ModuleType, chosen: Any, change_max: float = 10.0, samples_max: int = 1000
) -> int:
    """Of its sum of `TERMS_MAX` answers within these limits."""
    limits = Limits(change_max=change_max, samples_max=samples_max)
    return fraction_bits(strategy, chosen, limits, TERMS_MAX)


def store_for(strategy: ModuleType, chosen: Any, size: int) -> ClientStore | None:
    """A new one, where it needs one."""
    asks = hasattr(strategy, "stores") and strategy.stores(chosen)
    return ClientStore(None, size) if asks else None


def play(
    strategy: ModuleType,
    base: Array,
    folded: Iterable[Answer],
    memory: Memory | None = None,
    *,
    change_max: float = 10.0,
    samples_max: int = 1000,
    seed: int = 0,
    number: int = 1,
    store: ClientStore | None = None,
    is_awaited: Callable[[ClientId], bool] = lambda client: False,
    **given: Any,
) -> Array:
    """The model after one round; `memory` and `store` are as the round leaves them."""
    chosen = settings.convert(given, strategy.Settings, "settings")
    round_ = Round(
        size=base.size,
        bits=bits_for(strategy, chosen, change_max, samples_max),
        remembered_bits=remembered_bits(change_max),
        terms_max=TERMS_MAX,
        seed=seed,
        number=RoundId(number),
        memory={} if memory is None else memory,
        store=store or store_for(strategy, chosen, base.size),
        is_awaited=is_awaited,
    )
    built = strategy.build(chosen, round_)
    for change, sample_count, named in folded:
        built.fold(change, sample_count, named)
    after: Array = built.finish(base)
    return after
