"""Statistics and evaluation of whole federations: real programs over a real broker."""

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from broker_config.local_broker import RunningBroker
from learning_tasks import linear, phonewatch
from tests.programs import Program, running, wait_until

pytestmark = pytest.mark.broker

LINEAR = "learning_tasks.linear"
NAMES = ("ann", "bob", "cat")
ALL = 'purposes=["train", "evaluate", "describe"]'


def write_config(folder: Path, federation: str, task: str, more: str = "") -> Path:
    path = folder / "federation.toml"
    path.write_text(
        f'name = "{federation}"\ntask = "{task}"\nruns = "{folder / "runs"}"\n'
        f"[rounds]\ndeadline_s = 100\nretry_s = 0\n[evaluation]\nfinal_deadline_s = 100\n{more}"
    )
    return path


@contextmanager
def clients(
    folder: Path, broker: RunningBroker, federation: str, task: str, **words: tuple[str, ...]
) -> Iterator[dict[str, Program]]:
    """By name, each with settings of its own."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                running(
                    folder,
                    *("fedmqtt", "client", "--broker", broker.url, "--federation", federation),
                    *("--id", name, "--task", task, "--data", str(folder)),
                    *("--state", str(folder / "state" / name), "--set", "link.resend_s=1"),
                    *("--set", "trainer.keep_warm_s=100"),
                    *(word for one in settings for word in ("--set", one)),
                )
            )
            for name, settings in words.items()
        }


def test_what_is_told_is_what_numpy_finds_in_all_clients_data(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    with (
        clients(tmp_path, broker, federation_name, LINEAR, **dict.fromkeys(NAMES, (ALL,))),
        running(
            tmp_path, "fedmqtt", "statistics", str(config), "--broker", broker.url, "--json"
        ) as statistics,
    ):
        assert statistics.wait() == 0, statistics.log
    told = json.loads(statistics.said)
    assert (told["clients"], told["answered"]) == (3, [3] * 5)
    data = [linear.load_data(tmp_path, name, "train") for name in NAMES]
    inputs = np.concatenate([one.inputs for one in data]).astype(np.float64)
    classes = np.concatenate([one.classes for one in data])
    for column in range(4):
        found, values = told["features"][f"measurement {column + 1}"], inputs[:, column]
        assert (found["clients"], found["samples"]) == (3, 180)
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert found["variance"] == pytest.approx(values.var(), rel=1e-12)
        assert sum(found["histogram"]["counts"]) == 180
        for one in found["quantiles"]:
            exact = np.quantile(values, one["share"], method="inverted_cdf")
            assert one["low"] <= exact < one["high"]
    counted = np.bincount(classes, minlength=3)
    assert list(told["features"]["class"]["counts"].values()) == counted.tolist()
    # The same in the run's folder; and nothing of it where a training run would look.
    (folder,) = (tmp_path / "runs" / "statistics").iterdir()
    assert json.loads((folder / "statistics.json").read_text()) == told
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["statistics"]


def test_a_client_whose_owner_did_not_allow_it_is_not_asked(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    settings = {**dict.fromkeys(NAMES, (ALL,)), "dan": ()}
    with (
        clients(tmp_path, mosquitto_broker, federation_name, LINEAR, **settings) as those,
        running(
            tmp_path, "fedmqtt", "statistics", str(config), "--broker", mosquitto_broker.url
        ) as statistics,
    ):
        assert statistics.wait() == 0, statistics.log
        assert "describe" not in those["dan"].log
    assert "3 clients, in round 5 of 5: all figures are of these" in statistics.said
    assert "measurement 1" in statistics.said and "class: 180 samples" in statistics.said


def test_devices_with_data_that_has_holes_say_so_and_the_others_are_described(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    rows = [[1.0, 2.0, 3.0, 4.0, 0], [2.0, 3.0, 4.0, 5.0, 1]] * 5
    for name in ("dan", *NAMES):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["nan", *rows[0][1:]], *rows] if name == "dan" else rows)
    config = write_config(tmp_path, federation_name, LINEAR)
    with (
        clients(
            tmp_path,
            mosquitto_broker,
            federation_name,
            LINEAR,
            **dict.fromkeys(("dan", *NAMES), (ALL,)),
        ) as those,
        running(
            tmp_path,
            *("fedmqtt", "statistics", str(config), "--broker", mosquitto_broker.url),
            *("--set", "statistics.rounds=2", "--set", "statistics.clients_min=4"),
            *("--set", "rounds.clients_min=4", "--json"),
        ) as statistics,
    ):
        those["dan"].wait_for("'measurement 1' has 1 values that are not finite")
        # Three of four answered, and four were wanted: nothing is told.
        assert statistics.wait() == 1, statistics.log
    assert "in no round 4 clients answered" in statistics.log
    assert statistics.said == ""


@pytest.mark.parametrize("moment", ["round 2 averaged", "round 3: invited 3 to describe"])
def test_a_coordinator_that_is_killed_goes_on_with_the_same_questions(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, moment: str
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    words = ("fedmqtt", "statistics", str(config), "--broker", mosquitto_broker.url, "--json")
    with clients(
        tmp_path, mosquitto_broker, federation_name, LINEAR, **dict.fromkeys(NAMES, (ALL,))
    ) as those:
        with running(tmp_path, *words, "--run", str(tmp_path / "steady")) as steady:
            assert steady.wait() == 0, steady.log
        those["ann"].wait_for("round 5: describe")
        with running(tmp_path, *words, "--run", str(tmp_path / "killed")) as killed:
            killed.wait_for(moment)
            killed.process.kill()
        with running(tmp_path, *words, "--run", str(tmp_path / "killed")) as again:
            assert again.wait() == 0, again.log
    first, second = json.loads(steady.said), json.loads(again.said)
    assert "going on" in again.log
    assert first["features"] == second["features"]


def test_phones_and_watches_are_described(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    task = "learning_tasks.phonewatch"
    names = ("phone-01", "watch-01", "phone-02")
    config = write_config(tmp_path, federation_name, task)
    with (
        clients(tmp_path, mosquitto_broker, federation_name, task, **dict.fromkeys(names, (ALL,))),
        running(
            tmp_path,
            *("fedmqtt", "statistics", str(config), "--broker", mosquitto_broker.url, "--json"),
        ) as statistics,
    ):
        assert statistics.wait() == 0, statistics.log
    told = json.loads(statistics.said)["features"]
    data = [phonewatch.features(phonewatch.load_data(tmp_path, name, "train")) for name in names]
    for name in phonewatch.FEATURE_NAMES:
        values = np.concatenate([one[name] for one in data])
        assert told[name]["samples"] == len(values)
        if name == "activity":
            counted = np.bincount(values, minlength=5)
            assert list(told[name]["counts"].values()) == counted.tolist()
        else:
            assert told[name]["mean"] == pytest.approx(values.astype(float).mean(), rel=1e-9)


def test_a_model_is_evaluated_as_it_is_and_by_kind_of_device(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    settings = {f"{kind}-{n}": (f"label={kind}",) for kind in ("phone", "watch") for n in range(3)}
    with (
        clients(tmp_path, broker, federation_name, LINEAR, **settings),
        running(
            tmp_path,
            *("fedmqtt", "evaluate", str(config), "--broker", broker.url),
            *("--set", "rounds.clients_min=6"),
        ) as evaluate,
    ):
        assert evaluate.wait() == 0, evaluate.log
    lines = evaluate.said.splitlines()
    assert lines[0] == "measured by 6 clients"
    rows = {line.split()[0]: line.split()[1:3] for line in lines[2:5]}
    assert rows == {"all": ["6", "180"], "phone": ["3", "90"], "watch": ["3", "90"]}
    # The untrained model has zeros everywhere, takes all for class 0, and still does.
    found = [linear.load_data(tmp_path, name, "evaluate").classes for name in settings]
    accuracy = np.mean(np.concatenate(found) == 0)
    assert lines[2].split()[3] == f"{accuracy:.4g}"
    (folder,) = (tmp_path / "runs" / "evaluations").iterdir()
    (record,) = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    assert record["outcome"] == "evaluated" and record["invited"] == []
    assert record["figures"]["groups"].keys() == {"phone", "watch"}


def test_a_run_of_one_kind_is_not_gone_on_with_as_another(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    where = (str(config), "--broker", mosquitto_broker.url, "--run", str(tmp_path / "run"))
    with running(tmp_path, "fedmqtt", "statistics", *where) as waiting:
        wait_until((tmp_path / "run" / "federation.toml").exists)
        waiting.process.kill()
    with running(tmp_path, "fedmqtt", "coordinator", *where) as coordinator:
        assert coordinator.wait() == 2
    assert "is of another kind: `fedmqtt statistics` goes on with those" in coordinator.log


@pytest.mark.parametrize("command", ["statistics", "evaluate"])
def test_one_that_is_stopped_while_nobody_is_there_says_so(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, command: str
) -> None:
    config = write_config(tmp_path, federation_name, LINEAR)
    where = (str(config), "--broker", mosquitto_broker.url, "--run", str(tmp_path / "run"))
    with running(tmp_path, "fedmqtt", command, *where) as program:
        wait_until((tmp_path / "run" / "federation.toml").exists)
        program.process.terminate()
        assert program.wait() == 130
    told = {"statistics": "in no round 3 clients", "evaluate": "no client has measured the model"}
    assert told[command] in program.log and "Traceback" not in program.log
