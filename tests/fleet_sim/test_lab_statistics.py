"""Statistics in the lab: the machines, tasks and sums of real programs, and a fleet of nobody's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from coordinator.config import Statistics
from coordinator.statistics import job
from coordinator.statistics.findings import CategoryFindings, Findings, NumberFindings
from fedmqtt.weights import layout_of
from fleet_sim import lab_statistics
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab, Lesson
from fleet_sim.training.trainers import Trainers
from learning_tasks import linear
from tests.fleet_sim.lab_fleets import LINEAR, STORMY, fleet, names, samples

SETTINGS = Statistics(rounds=4)
ROUNDS = "cohort = 4\nquorum = 2\nclients_min = 3\ndeadline_s = 60.0\n"


@contextmanager
def describing(of: Fleet, folder: Path) -> Iterator[tuple[Fleet, Lab]]:
    of = replace(of, federation=structs.replace(of.federation, statistics=SETTINGS))
    settled = lab_statistics.settle(of)
    layout, flat = job.first_questions(settled.federation)
    with Trainers(settled.federation.task, folder, together=1, processes=0) as trainers:
        lesson = Lesson(layout=layout, flat=flat, trainers=trainers, folder=folder)
        crew = of.crew(names(of.config.clients))
        yield settled, Lab(settled, crew, samples, lesson)


def found_in(settled: Fleet, lab: Lab) -> Findings:
    found = lab_statistics.found_in(lab, settled, "run")
    assert found is not None
    return found


@pytest.mark.parametrize("weather", ["clients = 6", STORMY], ids=["fair", "stormy"])
def test_a_simulated_fleet_tells_what_its_data_is(weather: str, tmp_path: Path) -> None:
    of = fleet(tmp_path, weather, rounds=ROUNDS)
    with describing(of, tmp_path) as (settled, lab):
        lab.run()
    assert lab.is_finished
    found = found_in(settled, lab)
    *_, last = [one for one in lab.records if one.outcome == "averaged"]
    assert found.clients == len(last.answered) >= 3
    data = [linear.load_data(tmp_path, client, "train") for client in last.answered]
    values = np.concatenate([one.inputs[:, 0] for one in data]).astype(float)
    number, classes = found.features["measurement 1"], found.features["class"]
    assert isinstance(number, NumberFindings) and isinstance(classes, CategoryFindings)
    assert number.samples == len(values)
    assert number.mean == pytest.approx(values.mean(), rel=1e-12)
    assert number.variance == pytest.approx(values.var(), rel=1e-12)
    counted = np.bincount(np.concatenate([one.classes for one in data]), minlength=3)
    assert list(classes.counts.values()) == counted.tolist()
    for one in number.quantiles:
        assert one.low <= np.quantile(values, one.share, method="inverted_cdf") < one.high


def test_the_same_seed_tells_the_same_to_the_last_bit(tmp_path: Path) -> None:
    told = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with describing(fleet(folder, STORMY, rounds=ROUNDS), folder) as (settled, lab):
            lab.run()
        told.append((lab.trace, found_in(settled, lab)))
    assert told[0] == told[1]


def test_a_simulated_fleet_has_figures_for_each_kind_of_device(tmp_path: Path) -> None:
    text = 'clients = 7\n[device]\nlabels = "names"\n'
    of = fleet(tmp_path, text, rounds=ROUNDS + "count = 1\n", every=1)
    crew = of.crew([*(f"phone-{n}" for n in range(3)), *(f"watch-{n}" for n in range(4))])
    weights = linear.initial_weights(0)
    layout = layout_of(weights)
    with Trainers(LINEAR, tmp_path, together=1, processes=0) as trainers:
        lesson = Lesson(layout=layout, flat=layout.flatten(weights), trainers=trainers)
        lab = Lab(of, crew, samples, lesson)
        lab.run()
    last = lab.records[-1].figures
    assert last is not None and last.clients == 7
    assert {label: one.clients for label, one in last.groups.items()} == {"watch": 4, "phone": 3}
