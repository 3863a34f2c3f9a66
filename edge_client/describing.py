"""How a device answers questions about its data: with sums over its samples, and nothing else.

Used by the trainer alone. What cannot be summed up is refused with a sentence for the owner.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmqtt import data_query, whole_numbers
from fedmqtt.data_query import VALUE_MAX, CategoryQuery, Numbers, Query, QueryError
from fedmqtt.weights import Array, Weights
from learning_tasks.features import Features
from learning_tasks.seam import TaskError

_SAMPLES_MAX = 2**28
"""As many as an update may be of."""


def answer(tensors: Weights, named: Features, found: Mapping[str, Any]) -> tuple[Array, int]:
    """The sums that are asked for, in the layout of `tensors`, and over how many samples at most.

    `named` are the features that the task has, `found` the values of this client's data. A feature
    that is in the task and not in the data has no samples. Raises TaskError.
    """
    try:
        queries = data_query.read_queries(tensors)
    except QueryError as bad:
        raise TaskError(f"the coordinator asks what cannot be answered: {bad}") from bad
    sums, most = {}, 0
    for name, query in queries.items():
        _check_kind(name, query, named)
        values = _values(name, query, found.get(name, ()))
        most = max(most, len(values))
        sums[name] = data_query.sums_of(query, values)
    if most == 0:
        raise TaskError("there is no sample of any feature that is asked for")
    flat = data_query.write_sums(queries, sums)
    assert whole_numbers.are_digits(flat)
    return flat, most


def _check_kind(name: str, query: Query, named: Features) -> None:
    if name not in named:
        choices = ", ".join(named)
        raise TaskError(
            f"the coordinator asks for the feature {name!r}; this client's task has: {choices}"
        )
    categories = query.count if isinstance(query, CategoryQuery) else 0
    if categories != len(named[name]):
        raise TaskError(
            f"the coordinator asks for {categories} categories of {name!r}; this client's task has"
            f" {len(named[name])}: both must run the same task file"
        )


def _values(name: str, query: Query, values: Any) -> Numbers:
    """As doubles, shape (n,)."""
    try:
        found: Numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as bad:
        raise TaskError(f"the feature {name!r} is not made of numbers: {bad}") from bad
    if found.ndim != 1:
        raise TaskError(f"the feature {name!r} has shape {found.shape}: one number a sample")
    if len(found) > _SAMPLES_MAX:
        raise TaskError(f"the feature {name!r} has {len(found)} samples, above {_SAMPLES_MAX}")
    if wrong := int(np.count_nonzero(~np.isfinite(found))):
        raise TaskError(
            f"the feature {name!r} has {wrong} values that are not finite: correct the data, or"
            " leave them out in the task's features()"
        )
    if isinstance(query, CategoryQuery):
        if not np.isin(found, np.arange(query.count)).all():
            raise TaskError(
                f"the feature {name!r} has a value that is no category: 0 to {query.count - 1}"
            )
    elif len(found) and np.abs(found).max() >= VALUE_MAX:
        raise TaskError(
            f"the feature {name!r} has a value of {np.abs(found).max():.3g}; at most"
            f" {VALUE_MAX:.3g} can be described"
        )
    return found
