"""The settings that a run's questions are made by: it cannot be gone on with by others.

A question asks for so many bins, and for one bracket for each quantile, which the questions before
it have made narrow. They mean nothing for another quantile, and its sums would be read wrongly.
"""

from pathlib import Path
from typing import Any

import msgspec

from coordinator.config import Statistics
from fedmqtt.data_query import NumberQuery, Queries
from fedmqtt.settings import SettingsError

_KEYS = ("features", "quantiles", "bins", "ranges")


def written(settings: Statistics) -> str:
    """To be kept with the run."""
    return msgspec.json.encode(_of(settings), order="sorted").decode()


def check(run: Path, before: str, questions: Queries, settings: Statistics) -> None:
    """Raises SettingsError where the run in this folder began by others than these.

    `before`: by which, as `written`; empty where an older program began it, which did not write
    them down. Then its newest `questions` tell what they can.
    """
    now = _of(settings)
    then = msgspec.json.decode(before) if before else now | _seen(questions, settings)
    for key in _KEYS:
        if then[key] != now[key]:
            raise SettingsError(
                f"statistics.{key} is {_said(now[key])}; the run in {run} asks by"
                f" {_said(then[key])}. Go on with that, or begin a run with --new"
            )


def _of(settings: Statistics) -> dict[str, Any]:
    # As they are read back: JSON has no tuples.
    whole: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    return {key: whole[key] for key in _KEYS}


def _seen(questions: Queries, settings: Statistics) -> dict[str, Any]:
    """As far as the questions differ from those that would be asked by these settings."""
    seen: dict[str, Any] = {}
    for query in questions.values():
        if isinstance(query, NumberQuery):
            if len(query.brackets) != len(settings.quantiles):
                seen["quantiles"] = f"{len(query.brackets)} of them"
            if query.bins != settings.bins:
                seen["bins"] = query.bins
    return seen


def _said(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
