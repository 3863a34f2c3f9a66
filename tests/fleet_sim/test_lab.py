"""The lab as a whole: always the same for a seed, and the same as real clients would come to."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator import round_rules, rounds
from coordinator.models import checkpoint
from coordinator.persistence import history
from coordinator.sums.answers import Answers
from edge_client import trainer
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt import messages, weights
from fedmqtt.messages import Update
from fedmqtt.topics import RunId
from fleet_sim import fleet as fleets
from fleet_sim.lab_page import LabPage
from fleet_sim.simulate_command import Result, simulate
from learning_tasks.split_data import JUDGE
from tests.fleet_sim.lab_fleets import fleet, protocol, stormy, torch_task
from tests.patience import ENDS_WITHIN_S

ROOT = Path(__file__).parent.parent.parent


def command(fleet_file: Path, hash_seed: int, *words: str) -> dict[str, Any]:
    """The result of `fedmqtt simulate`, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "fedmqtt", "simulate", str(fleet_file), "--json", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def digests(folder: Path) -> list[str]:
    files = ("model.safetensors", "history.jsonl")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files]


# Always the same


def test_a_seed_gives_the_same_run_to_the_last_bit_on_any_hash_seed_and_any_processes(
    tmp_path: Path,
) -> None:
    of = stormy(tmp_path)
    runs, folders = [], []
    for n in range(3):
        folders.append(tmp_path / f"run-{n}")
        words = ["--run", str(folders[-1]), "--processes", str(n + 1)]
        runs.append(command(tmp_path / "fleet.toml", n, *words))
    folders.append(tmp_path / "here")
    runs.append(msgspec.to_builtins(simulate(of, folders[-1], repeat="")))
    for one in runs:
        one.pop("run")
    assert runs[0] == runs[1] == runs[2] == runs[3]
    assert len({tuple(digests(folder)) for folder in folders}) == 1
    # It was a storm, and something was learned in it all the same.
    assert runs[0]["finished"] and runs[0]["dropped"] > 0 and runs[0]["late"] > 0
    other = simulate(
        fleets.read(tmp_path / "fleet.toml", ["seed=2"]), tmp_path / "other", repeat=""
    )
    assert other.trace != runs[0]["trace"]
    assert digests(tmp_path / "other") != digests(tmp_path / "here")


def test_without_learning_it_is_always_the_same_too(tmp_path: Path) -> None:
    of = stormy(tmp_path)
    traces = []
    for _ in range(2):
        lab = protocol(of)
        lab.run()
        traces.append((lab.trace, lab.clock.now, lab.broker.bytes_up, lab.broker.bytes_down))
    assert traces[0] == traces[1]


@pytest.mark.parametrize(
    ("text", "federation", "evaluate"),
    [
        ("[device]\nms_per_sample = 50.0\n[faults]\ntrainer_crashes = 0.3", "", "clients"),
        (
            "[device]\nms_per_sample = 50.0\nspread = 1.5",
            "late = { policy = 'weigh', rounds_max = 5 }",
            "clients",
        ),
        ("[link]\nlatency_s = 3.0", "", "clients"),
        ("[device]\nms_per_sample = 50.0", "", "test"),
    ],
    ids=["crashes", "late", "latency", "judge"],
)
def test_clients_that_sleep_until_they_are_invited_change_nothing(
    tmp_path: Path, text: str, federation: str, evaluate: str
) -> None:
    of = fleet(
        tmp_path,
        f"clients = 60\n{text}",
        rounds="count = 8\ncohort = 5\nquorum = 3\nclients_min = 60\n",
        federation=federation,
        evaluate=evaluate,
        over_selection=1.5,
        every=2,
    )
    found, simulated = [], []
    for sleeps in (True, False):
        lab = protocol(of, sleeps=sleeps)
        lab.run()
        assert lab.is_finished
        found.append((lab.outcome, lab.clock.now))
        simulated.append(len(lab.devices))
    assert found[0] == found[1]
    # Some were never invited.
    assert simulated[0] < simulated[1] == 60


def test_who_measures_does_not_change_who_is_online(tmp_path: Path) -> None:
    shares = []
    for evaluate in ("test", "clients"):
        of = stormy(tmp_path, evaluate)
        result = simulate(of, tmp_path / evaluate, repeat="")
        page = msgspec.json.decode((tmp_path / evaluate / "lab.json").read_bytes(), type=LabPage)
        shares.append([client.rank for client in page.clients])
        assert result.rounds == 6
    assert shares[0] == shares[1]


# The same as real clients


@pytest.mark.parametrize("codec", ["full", "part(share=0.25)+eden+zstd"])
def test_alone_it_makes_the_model_that_real_trainers_and_a_real_sum_make(
    tmp_path: Path, codec: str
) -> None:
    rounds_of = "count = 2\ncohort = 3\nquorum = 3\nclients_min = 5\n"
    task, said = torch_task(tmp_path), f'codec = "{codec}"\n'
    of = fleet(tmp_path, "clients = 5", rounds=rounds_of, task=task, federation=said)
    run = tmp_path / "run"
    simulate(of, run, repeat="", alone=True)
    records = history.read(run / "history.jsonl")
    federation = of.federation
    layout, flat = checkpoint.load(run / "initial_model.safetensors")
    rules = round_rules.from_config(federation)
    terms = rounds.terms_max(round_rules.invited_max(federation), rules)
    for record in records[:2]:
        assert len(record.answered) == 3
        model = tmp_path / f"model-{record.round}"
        model.write_bytes(weights.write(layout, flat))
        assert weights.digest(model.read_bytes()) == record.base
        answers = Answers(federation, flat.size, terms)
        answers.begin(terms)
        # In another order than the lab's: the sum is exact.
        for client in reversed(record.answered):
            outbox = tmp_path / f"outbox-{record.round}-{client}"
            job = Job(
                client=client,
                purpose="train",
                task=federation.task,
                data_dir=str(run / "data"),
                model_path=str(model),
                outbox=str(outbox),
                run=RunId("by-hand"),
                round=record.round,
                base=weights.digest(model.read_bytes()),
                measure_base=False,
                fingerprint=layout.fingerprint,
                training=federation.training,
                codec=federation.codec,
                seed=federation.seed,
            )
            answer = trainer.work(job, lambda fraction: None)
            update = messages.read_from_client(Outbox(outbox).read(answer))
            assert isinstance(update, Update) and not answers.check(client, update)
            answers.fold(client, update, evaluates=False)
            answers.let_go()
        assert answers.samples == record.samples
        flat = answers.finish(flat)
    found = layout.flatten(load_file(run / "model.safetensors"))
    assert np.array_equal(found, flat)
    assert not np.array_equal(flat, checkpoint.load(run / "initial_model.safetensors")[1])


def test_together_it_learns_the_same_within_rounding(tmp_path: Path) -> None:
    rounds_of = "count = 2\ncohort = 5\nquorum = 5\nclients_min = 5\n"
    of = fleet(tmp_path, "clients = 5", rounds=rounds_of, task=torch_task(tmp_path))
    for alone in (True, False):
        simulate(of, tmp_path / f"alone-{alone}", repeat="", alone=alone)
    one, other = (load_file(tmp_path / f"alone-{a}" / "model.safetensors") for a in (True, False))
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], atol=1e-5)


# The judge


def test_nothing_ever_happens_to_the_judge(tmp_path: Path) -> None:
    result = simulate(stormy(tmp_path), tmp_path / "run", repeat="")
    assert result.finished
    records = history.read(tmp_path / "run" / "history.jsonl")
    assert [one.evaluated for one in records] == [[JUDGE]] * len(records)
    assert all(one.figures is not None for one in records)


def test_what_the_judge_carries_is_not_the_fleets(tmp_path: Path) -> None:
    carried = []
    for every in (0, 1):
        of = fleet(
            tmp_path,
            "clients = 3",
            rounds="count = 4\ncohort = 3\nquorum = 3\nclients_min = 3\npause_s = 60.0\n",
            evaluate="test",
            every=every,
        )
        lab = protocol(of)
        lab.run()
        assert lab.is_finished
        measured = [one.evaluated for one in lab.records]
        # The last model is measured in a round of its own.
        assert all(one == [JUDGE] for one in measured) if every else not any(measured)
        carried.append((lab.marks[3].bytes_up, lab.outcome.bytes_up))
    assert carried[0] == carried[1]


def test_clients_measure_on_what_they_hold_back(tmp_path: Path) -> None:
    of = fleet(
        tmp_path,
        "clients = 5",
        rounds="count = 2\ncohort = 5\nquorum = 5\nclients_min = 5\n",
        task=torch_task(tmp_path),
        every=1,
    )
    simulate(of, tmp_path / "run", repeat="")
    records = history.read(tmp_path / "run" / "history.jsonl")
    assert of.config.data.held_out == pytest.approx(0.2)
    for record in records:
        assert len(record.evaluated) == 5
        assert record.figures is not None and record.figures.samples == 5 * round(0.2 * 240 / 5)


# The run's folder


def test_a_run_leaves_its_history_its_model_and_what_the_lab_knows(tmp_path: Path) -> None:
    of = stormy(tmp_path)
    run = tmp_path / "run"
    result: Result = simulate(of, run, repeat="fedmqtt simulate fleet.toml")
    records = history.read(run / "history.jsonl")
    page = msgspec.json.decode((run / "lab.json").read_bytes(), type=LabPage)
    assert set(load_file(run / "model.safetensors")) == {
        "0.weight", "0.bias", "2.weight", "2.bias"
    }  # fmt: skip
    assert (page.mode, page.seed, page.title) == ("virtual", 1, "lab")
    assert (page.trace, page.repeat) == (result.trace, "fedmqtt simulate fleet.toml")
    assert [mark.round for mark in page.rounds] == [record.round for record in records]
    for mark, record in zip(page.rounds, records, strict=True):
        assert mark.bytes_up == record.bytes_received
        assert mark.bytes_down == record.bytes_published
        hours, minutes, seconds = record.closed[11:].partition("+")[0].split(":")
        of_day = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        assert of_day == pytest.approx(mark.closed_s, abs=0.001)
        assert record.closed.startswith("2024-01-01T")
    assert len(page.clients) == 8 and sum(one.samples or 0 for one in page.clients) == 240
    for one in page.clients:
        assert sum(one.label_counts) == one.samples
        assert one.dominant_label == int(np.argmax(one.label_counts))
        assert one.online_share is not None and 0.0 < one.online_share < 1.0
    assert page.weather["link.cut_every_s"] == "3.0"
    assert page.weather["connectivity.settings.online_s"] == "120.0"
    assert page.weather["faults.reboot_s"] == "60.0"


def test_the_fleet_as_it_was_used_plays_the_same_run(tmp_path: Path) -> None:
    first = simulate(stormy(tmp_path), tmp_path / "one", repeat="")
    again = simulate(fleets.read(tmp_path / "one" / "fleet.toml"), tmp_path / "two", repeat="")
    assert again.trace == first.trace
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def test_answers_that_have_their_receipts_are_not_kept(tmp_path: Path) -> None:
    of = fleet(
        tmp_path,
        "clients = 4\n[link]\njitter_s = 0.1",
        rounds="count = 30\ncohort = 4\nquorum = 4\nclients_min = 4\n",
    )
    lab = protocol(of)
    lab.run()
    assert lab.is_finished and len(lab.records) == 30
    assert len(lab.devices) == 4
    # Those of the last round may be on their way.
    assert len(lab._scene.contents) <= 4
