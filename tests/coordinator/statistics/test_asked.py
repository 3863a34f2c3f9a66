"""A run's questions are gone on with by the settings that they were made by, and by no others."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from coordinator.config import FederationConfig, Statistics
from coordinator.models import published_model
from coordinator.pacing import Pace
from coordinator.persistence.ledger import Carried
from coordinator.persistence.run_folder import RunFolder
from coordinator.service import Service
from coordinator.statistics import asked, job, refine
from fedmqtt import data_query
from fedmqtt.data_query import Queries
from fedmqtt.event_loop import EventLoop
from fedmqtt.settings import SettingsError
from tests.coordinator.statistics.asking import Asking, Fleet

BEFORE = Statistics(quantiles=(0.25, 0.5), ranges={"age": (0.0, 100.0)}, rounds=5)
CHANGED: dict[str, Any] = {
    "features": ("age",),
    "quantiles": (0.25, 0.75),
    "bins": 32,
    "ranges": {},
}
TOLD = {
    "features": 'statistics.features is ["age"]; the run in RUN asks by [].',
    "quantiles": "statistics.quantiles is [0.25,0.75]; the run in RUN asks by [0.25,0.5].",
    "bins": "statistics.bins is 32; the run in RUN asks by 64.",
    "ranges": 'statistics.ranges is {}; the run in RUN asks by {"age":[0.0,100.0]}.',
}


def config(settings: Statistics) -> FederationConfig:
    return job.settle(FederationConfig(name="ward", task="task.py", statistics=settings))


def first(settings: Statistics) -> Queries:
    return {"age": refine.first(0, settings), "class": refine.first(3, settings)}


def begun(run: Path, by: str) -> None:
    """A run that was killed before its first round opened."""
    queries = first(BEFORE)
    layout = data_query.layout(queries)
    folder = RunFolder(run, lambda action: None, lambda failure: None)
    model = published_model.make(layout, data_query.write_queries(queries), 0, 1024)
    carried = Carried(pace=Pace(over_selection=1.0, deadline_s=60.0), late=0, typical_s=0.0)
    folder.begin(folder.name_run("task.py", layout, by), model, carried)
    folder.ledger.close()


def go_on(run: Path, settings: Statistics) -> None:
    loop = EventLoop()
    try:
        service = Service(loop, config(settings), None, run, purpose="describe")
        assert service.has_begun
    finally:
        loop.close()


@pytest.mark.parametrize("key", CHANGED)
def test_other_questions_are_refused_by_the_key_that_was_changed(key: str, tmp_path: Path) -> None:
    begun(tmp_path, asked.written(BEFORE))
    with pytest.raises(SettingsError) as told:
        go_on(tmp_path, structs.replace(BEFORE, **{key: CHANGED[key]}))
    assert str(told.value).startswith(TOLD[key].replace("RUN", str(tmp_path)))
    assert str(told.value).endswith("Go on with that, or begin a run with --new")


def test_how_often_and_of_how_many_may_be_changed(tmp_path: Path) -> None:
    begun(tmp_path, asked.written(BEFORE))
    go_on(tmp_path, structs.replace(BEFORE, rounds=9, clients_min=2, samples_min=1))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("quantiles", (0.5,), "asks by 2 of them."), ("bins", 32, "asks by 64.")],
)
def test_a_run_of_a_version_that_did_not_write_them_down_is_known_by_its_questions(
    key: str, value: Any, told: str, tmp_path: Path
) -> None:
    begun(tmp_path, "")
    with pytest.raises(SettingsError, match=f"statistics.{key} is .*{told}"):
        go_on(tmp_path, structs.replace(BEFORE, **{key: value}))
    go_on(tmp_path, BEFORE)


def test_questions_that_have_become_narrow_are_those_of_the_same_settings(tmp_path: Path) -> None:
    asking = Asking({"age": (), "class": ("a", "b", "c")}, BEFORE, tmp_path)
    people: Fleet = {f"c{n}": {"age": [20.0 + n, 50.0 - n], "class": [n % 3, 1]} for n in range(5)}
    for _ in range(3):
        asking.round(people)
        queries = data_query.read_queries(asking.layout.unflatten(asking.asked))
        asked.check(tmp_path, "", queries, BEFORE)
