"""What makes a run of statistics out of a federation's settings, and its first questions."""

from collections.abc import Mapping, Sequence

from msgspec import structs

from coordinator import task_process
from coordinator.config import (
    Evaluation,
    FederationConfig,
    LateAnswers,
    Sites,
    SlowLinks,
    TrainingSettings,
    Tuning,
)
from coordinator.statistics import refine
from fedmqtt import data_query
from fedmqtt.data_query import CATEGORIES_MAX, VALUE_MAX
from fedmqtt.settings import SettingsError
from fedmqtt.weights import Array, Layout
from fedmqtt.whole_numbers import DIGIT_MAX

FOLDER = "statistics"
"""Below `runs`: an unfinished run of one kind must not be gone on with as one of the other."""

_ALL = 100_000
"""Clients in a round: more than are there, mostly. With so many the sums still fit."""


def settle(config: FederationConfig) -> FederationConfig:
    """Whatever the file says of training, here everybody is asked, and each answer is exact."""
    asked = config.statistics
    if config.differential_privacy.noise != "none":
        raise SettingsError(
            f'differential_privacy.noise is "{config.differential_privacy.noise}", and statistics'
            " are sums without noise: they would tell what it is to hide. To have them all the"
            " same, leave the section out"
        )
    for name, (low, high) in asked.ranges.items():
        if not -VALUE_MAX < low < high < VALUE_MAX:
            raise SettingsError(
                f"statistics.ranges: {name!r} goes from {low:g} to {high:g}; it must begin before"
                f" it ends, within {VALUE_MAX:.3g}"
            )
    return structs.replace(
        config,
        runs=f"{config.runs}/{FOLDER}",
        initial_model="",
        # Most digits are zeros.
        codec="full + zstd",
        rounds=structs.replace(
            config.rounds,
            mode="synchronous",
            count=asked.rounds,
            cohort=_ALL,
            over_selection=1.0,
            quorum=asked.clients_min,
            clients_min=asked.clients_min,
        ),
        tuning=Tuning(enabled=False),
        late=LateAnswers(),
        sites=Sites(),
        selection="uniform",
        selection_settings={},
        aggregation="fedavg",
        aggregation_settings={},
        evaluation=Evaluation(every=0),
        # Nobody trains: what is asked of those who do would be asked in vain.
        training=TrainingSettings(),
        slow_links=SlowLinks(),
        downlink_codec="full",
        # Sums are larger than changes; who is heard, and how much of it, is the operator's matter.
        limits=structs.replace(config.limits, change_max=DIGIT_MAX, samples_max=2**28),
    )


def first_questions(config: FederationConfig) -> tuple[Layout, Array]:
    """About the features of the task that the settings name. Raises SettingsError."""
    there = features(config.task)
    for key, names in (("features", config.statistics.features), ("ranges", _ranged(config))):
        if unknown := [name for name in names if name not in there]:
            raise SettingsError(
                f"statistics.{key}: the task {config.task} has no feature {unknown[0]!r}; choose"
                f" from: {', '.join(there)}"
            )
    chosen = config.statistics.features or tuple(there)
    for name in chosen:
        if len(there[name]) > CATEGORIES_MAX:
            raise SettingsError(
                f"statistics.features: {name!r} of the task {config.task} has"
                f" {len(there[name])} categories, and at most {CATEGORIES_MAX} can be counted; list"
                " the features to be described, without it"
            )
    queries = {name: refine.first(len(there[name]), config.statistics) for name in chosen}
    return data_query.layout(queries), data_query.write_queries(queries)


def features(task: str) -> Mapping[str, Sequence[str]]:
    """Those that the task names, each with its categories. Raises SettingsError."""
    try:
        found: dict[str, list[str]] = task_process.ask("learning_tasks.features", task)
    except SettingsError as bad:
        raise SettingsError(f"no statistics: {bad}") from bad
    return found


def _ranged(config: FederationConfig) -> Sequence[str]:
    return tuple(config.statistics.ranges)
