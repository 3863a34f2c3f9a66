"""A strategy's rounds, played by hand."""

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from coordinator import aggregation
from coordinator.aggregation import Memory, Round
from coordinator.rounds import Named
from fedmqtt import parts, settings
from fedmqtt.fixed_point import fraction_bits
from fedmqtt.topics import ClientId, RoundId
from fedmqtt.weights import Array

TERMS_MAX = 100
BITS = fraction_bits(10.0, 1000, TERMS_MAX)

Answer = tuple[Array, int, Named]
"""A change, its count of samples, and whose it is."""


def strategy_named(name: str) -> ModuleType:
    return parts.load(aggregation, name)


def answers(changes: Iterable[Any], samples: Sequence[int] = ()) -> list[Answer]:
    """Of clients whose names are in the order of their changes."""
    return [
        (
            np.asarray(change, np.float32),
            samples[n] if samples else 1,
            Named(ClientId(f"client-{n:04}"), RoundId(1)),
        )
        for n, change in enumerate(changes)
    ]


def play(
    strategy: ModuleType,
    base: Array,
    folded: Iterable[Answer],
    memory: Memory | None = None,
    *,
    bits: int = BITS,
    seed: int = 0,
    **given: Any,
) -> Array:
    """The model after one round; `memory` is as the round leaves it."""
    chosen = settings.convert(given, strategy.Settings, "settings")
    round_ = Round(
        size=base.size,
        bits=bits,
        terms_max=TERMS_MAX,
        seed=seed,
        memory={} if memory is None else memory,
    )
    built = strategy.build(chosen, round_)
    for change, sample_count, named in folded:
        built.fold(change, sample_count, named)
    after: Array = built.finish(base)
    return after
