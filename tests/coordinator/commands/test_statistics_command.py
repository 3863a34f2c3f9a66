"""`fedmqtt statistics` and `fedmqtt evaluate` as people meet them: a sentence for each mistake."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from coordinator.config import FederationConfig, Statistics
from coordinator.statistics import job
from fedmqtt import data_query, settings
from fedmqtt.data_query import CATEGORIES_MAX
from fedmqtt.settings import SettingsError
from tests.patience import WITHIN_S

GOOD = 'name = "ward-7"\ntask = "learning_tasks.linear"\n'

_MANY = """
from learning_tasks.linear import evaluate, initial_weights, load_data, train

FEATURE_NAMES = {{"age": (), "town": tuple(map(str, range({count})))}}

def features(data):
    raise AssertionError("the coordinator has no data")
"""


def run(folder: Path, command: str, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    path = folder / "federation.toml"
    path.write_text(text + f'runs = "{folder / "runs"}"\n')
    return subprocess.run(
        [sys.executable, "-m", "fedmqtt", command, str(path), *words],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["--set", 'statistics.features=["age"]'],
            "statistics.features: the task learning_tasks.linear has no feature 'age'; choose from:"
            " measurement 1, measurement 2",
        ),
        (
            ["--set", "statistics.ranges={age = [0.0, 1.0]}"],
            "statistics.ranges: the task learning_tasks.linear has no feature 'age'",
        ),
        (
            ["--set", "statistics.ranges={class = [1.0, 1.0]}"],
            "statistics.ranges: 'class' goes from 1 to 1; it must begin before it ends",
        ),
        (["--set", "statistics.quantiles=[1.5]"], "statistics.quantiles: expected"),
        (["--set", "statistics.clients_min=1"], "statistics.clients_min: expected"),
        (["--set", "task=no.such"], "no statistics: there is no module no"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    words: list[str], complaint: str, tmp_path: Path
) -> None:
    told = run(tmp_path, "statistics", GOOD, *words)
    assert told.returncode == 2
    assert told.stderr.startswith("fedmqtt statistics: ") and complaint in told.stderr
    # What was begun for nothing is taken away.
    assert not list((tmp_path / "runs").glob("statistics/*"))


def test_a_feature_with_more_categories_than_can_be_counted_is_named(tmp_path: Path) -> None:
    task = tmp_path / "many.py"
    for count, is_too_many in ((CATEGORIES_MAX, False), (CATEGORIES_MAX + 1, True)):
        task.write_text(_MANY.format(count=count))
        config = FederationConfig(name="ward-7", task=str(task))
        if is_too_many:
            wanted = r"statistics.features: 'town' of the task .* has 2048 categories, and at most"
            with pytest.raises(SettingsError, match=wanted):
                job.first_questions(config)
            chosen = Statistics(features=("age",))
            job.first_questions(structs.replace(config, statistics=chosen))
        else:
            layout, flat = job.first_questions(config)
            asked = data_query.read_queries(layout.unflatten(flat))
            assert asked["town"] == data_query.CategoryQuery(count)


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    told = run(tmp_path, "evaluate", GOOD, "--model", "nowhere.safetensors")
    assert told.returncode == 2
    assert told.stderr == ("fedmqtt evaluate: initial model nowhere.safetensors: no such file\n")


def test_training_settings_do_not_reach_into_statistics(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        "statistics",
        GOOD,
        *("--set", "codec=eden", "--set", "rounds.count=99", "--set", "aggregation=krum"),
        *("--set", "late.policy=weigh", "--print-config"),
        *("--set", "limits.strikes=2", "--set", "limits.messages_per_s=7"),
    )
    assert told.returncode == 0, told.stderr
    path = tmp_path / "told.toml"
    path.write_text(told.stdout)
    found = settings.read(path, [], FederationConfig)
    assert (found.codec, found.rounds.count, found.late.policy) == ("full + zstd", 5, "discard")
    assert (found.rounds.quorum, found.rounds.clients_min) == (3, 3)
    # Whom the operator listens to, and how often, is no matter of training.
    assert (found.limits.strikes, found.limits.messages_per_s) == (2, 7)
