"""What strategies ask of clients beyond plain SGD: the lab's clients do what real trainers do."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator import local_method, round_rules, rounds
from coordinator.models import checkpoint, published_model
from coordinator.persistence import history
from coordinator.persistence.history import Record
from coordinator.sums.answers import Answers
from edge_client import trainer
from edge_client.device_memory import DeviceMemory
from edge_client.outbox import Outbox
from edge_client.training_job import Job
from fedmqtt import messages, personal, weights
from fedmqtt.messages import Evaluation, Update
from fedmqtt.settings import SettingsError
from fedmqtt.status_pages import Figures
from fedmqtt.topics import ClientId, RunId
from fleet_sim import fleet as fleets
from fleet_sim.fleet import Fleet
from fleet_sim.lab_tensors import Tensors
from fleet_sim.simulate_command import simulate
from tests.fleet_sim.lab_fleets import LINEAR, fleet, learning

ALL_FIVE = "count = 3\ncohort = 5\nquorum = 5\nclients_min = 5\n"

_TORCH = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from learning_tasks import linear
from learning_tasks.pool import Pool

CLASS_NAMES = ("a", "b", "c")

def build_model():
    return nn.Sequential({layers})

def load_pool(data_dir, purpose):
    found = [linear.load_data(data_dir, f"c{{i}}", "train") for i in range(8)]
    inputs = torch.cat([torch.from_numpy(one.inputs) for one in found])
    return Pool(inputs, torch.cat([torch.from_numpy(one.classes) for one in found]))

def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)
"""
NORMALISED = "nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)"
PLAIN = "nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)"


def torch_task(folder: Path, layers: str) -> str:
    path = folder / "mine.py"
    path.write_text(_TORCH.format(layers=layers))
    return str(path)


class ByHand:
    """A run again, without its machines: real trainers, each with a state folder of its own."""

    def __init__(self, of: Fleet, run: Path, folder: Path) -> None:
        self._federation = of.federation
        self._run, self._folder = run, folder
        self.records = history.read(run / "history.jsonl")
        self.layout, self.flat = checkpoint.load(run / "initial_model.safetensors")
        self._training = local_method.training(of.federation)
        self._method = local_method.asked(of.federation)
        self._division = personal.division(self.layout, self._method.personal)
        rules = round_rules.from_config(of.federation)
        self._terms = rounds.terms_max(round_rules.invited_max(of.federation), rules)
        self._answers = Answers(of.federation, self._division.size, self._terms)
        self._control = self._answers.control
        self.updates: list[Update] = []

    def play(self, record: Record) -> Figures | None:
        """The figures of the round; `flat` is the model after it."""
        path = self._folder / f"model-{record.round}"
        model = published_model.make(self.layout, self.flat, 0, 1024, self._control)
        path.write_bytes(model.file)
        assert weights.digest(path.read_bytes()) == record.base
        self._answers.begin(self._terms, record.round)
        # In another order than the lab's.
        for client in sorted({*record.answered, *record.evaluated}, reverse=True):
            answer = self._answer(client, record, path)
            assert not self._answers.check(client, answer)
            if isinstance(answer, Update):
                evaluates = client in record.evaluated
                self._answers.fold(client, answer, evaluates=evaluates)
                self.updates.append(answer)
            else:
                self._answers.take_measures(client, answer.measures)
            self._answers.let_go()
        figures = self._answers.figures()
        if record.outcome == "averaged":
            found = self._answers.finish(self._division.shared_of(self.flat))
            self.flat = self._division.with_shared(self.flat, found)
            self._control = self._answers.control
        return figures

    def _answer(self, client: ClientId, record: Record, model: Path) -> Update | Evaluation:
        state = self._folder / "clients" / client
        job = Job(
            client=client,
            purpose="train" if client in record.answered else "evaluate",
            task=self._federation.task,
            data_dir=str(self._run / "data"),
            model_path=str(model),
            outbox=str(state / "outbox"),
            run=RunId("by-hand"),
            round=record.round,
            base=weights.digest(model.read_bytes()),
            measure_base=client in record.evaluated,
            fingerprint=self.layout.fingerprint,
            training=self._training,
            codec=self._federation.codec,
            seed=self._federation.seed,
            method=self._method,
            memory=str(state / "memory"),
        )
        kept = trainer.work(job, lambda fraction: None)
        # What it remembers, where it does, is that of an answer that counted.
        DeviceMemory(Path(job.memory)).settle(kept, True, record.round)
        answer = messages.read_from_client(Outbox(Path(job.outbox)).read(kept))
        assert isinstance(answer, Update | Evaluation)
        return answer


def asking(folder: Path, *words: str, task: str = LINEAR, every: int = 0) -> Fleet:
    """Five clients that all take part in each of three rounds."""
    fleet(folder, "clients = 5", rounds=ALL_FIVE, task=task, every=every)
    return fleets.read(folder / "fleet.toml", [f"federation.{word}" for word in words])


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (PLAIN, ["aggregation=fedprox", "aggregation_settings.mu=0.5"]),
        (NORMALISED, ["aggregation=fedsgd"]),
        (NORMALISED, ["aggregation=fedsgd", 'training.personal=["1.*"]']),
        (PLAIN, ["aggregation=fednova"]),
        (PLAIN, ["aggregation=qfedavg", "aggregation_settings.q=2.0"]),
        (NORMALISED, ['training.personal=["1.*"]', "codec=eden"]),
        (PLAIN, ["aggregation=fedadam", 'training.personal=["2.*"]', "training.proximal=0.1"]),
        (PLAIN, ["evaluation.fine_tune_epochs=2"]),
        (NORMALISED, ["evaluation.fine_tune_epochs=1", 'training.personal=["3.*", "*.bias"]']),
        (NORMALISED, ["aggregation=scaffold", "training.epochs=3"]),
        (PLAIN, ["aggregation=scaffold", 'training.personal=["2.*"]', "codec=int8"]),
    ],
    ids=[
        *["prox", "sgd", "own sgd", "nova", "fair", "fedbn", "fedper", "tuned", "both"],
        *["scaffold", "scaffold-personal"],
    ],
)
def test_the_lab_does_what_real_trainers_do_to_the_last_bit(
    tmp_path: Path, layers: str, words: list[str]
) -> None:
    of = asking(tmp_path, *words, task=torch_task(tmp_path, layers), every=1)
    run = tmp_path / "run"
    simulate(of, run, repeat="", alone=True)
    again = ByHand(of, run, tmp_path)
    before = again.flat
    assert [len(record.answered) for record in again.records] == [5, 5, 5, 0]
    for record in again.records:
        assert again.play(record) == record.figures
    found = again.layout.flatten(load_file(run / "model.safetensors"))
    np.testing.assert_array_equal(found, again.flat)
    assert not np.array_equal(found, before)


def test_layers_that_stay_on_the_device_keep_their_first_values_in_the_published_model(
    tmp_path: Path,
) -> None:
    with learning(asking(tmp_path, 'training.personal=["bias"]')) as lab:
        lab.run()
    assert lab.tensors is not None
    named = lab.tensors.layout.unflatten(lab.tensors.flat)
    assert not named["bias"].any() and named["weight"].any()


def test_running_statistics_of_ones_own_are_the_same_from_other_processes(tmp_path: Path) -> None:
    words = ("aggregation=fedsgd", 'training.personal=["1.*"]')
    of = asking(tmp_path, *words, task=torch_task(tmp_path, NORMALISED), every=1)
    figures = []
    for processes in (1, 2):
        run = tmp_path / f"{processes}"
        simulate(of, run, repeat="", alone=True, processes=processes)
        figures.append([one.figures for one in history.read(run / "history.jsonl")])
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    "words",
    [
        ["aggregation=fedsgd"],
        ["aggregation=qfedavg", 'training.personal=["2.*"]', "training.proximal=0.1"],
        ["aggregation=scaffold", "training.epochs=3", "training.weight_decay=0.01"],
    ],
    ids=["sgd", "fair", "scaffold"],
)
def test_together_they_are_trained_as_alone_within_rounding(
    tmp_path: Path, words: list[str]
) -> None:
    of = asking(tmp_path, *words, task=torch_task(tmp_path, PLAIN))
    found = []
    for alone in (True, False):
        simulate(of, tmp_path / f"{alone}", repeat="", alone=alone)
        named = load_file(tmp_path / f"{alone}" / "model.safetensors")
        found.append(np.concatenate([named[name].ravel() for name in sorted(named)]))
    one, other = found
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=1e-4)


# Partial work: for most of these devices a round is too short

SLOW = "clients = 12\n[device]\nms_per_sample = 200.0\nspread = 0.5\nstart_s = 1.0"
DEADLINE = "count = 4\ncohort = 12\nquorum = 3\nclients_min = 12\ndeadline_s = 20.0\n"


def answered(folder: Path, federation: str) -> list[int]:
    with learning(fleet(folder, SLOW, rounds=DEADLINE, federation=federation)) as lab:
        lab.run()
    return [len(record.answered) for record in lab.records]


def test_who_is_too_slow_sends_what_it_has_where_partial_work_counts(tmp_path: Path) -> None:
    assert answered(tmp_path, 'aggregation = "fednova"') == [12] * 4
    whole = answered(
        tmp_path, 'aggregation = "fednova"\naggregation_settings = { partial = false }'
    )
    assert whole == answered(tmp_path, "") and 3 < max(whole) < 9


@pytest.mark.parametrize(
    ("word", "key"),
    [("evaluation.fine_tune_epochs=1", "fine_tune"), ('training.personal=["bias"]', "personal")],
)
def test_a_judge_cannot_measure_models_that_differ_between_clients(
    tmp_path: Path, word: str, key: str
) -> None:
    fleet(tmp_path, "clients = 5", rounds=ALL_FIVE, evaluate="test")
    with pytest.raises(SettingsError, match=rf"data\.evaluate: with federation\..*{key}"):
        fleets.read(tmp_path / "fleet.toml", [f"federation.{word}"])


def test_a_pattern_that_matches_no_layer_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    of = asking(tmp_path, 'training.personal=["x"]')
    with pytest.raises(SettingsError, match="it has: weight, bias"), learning(of):
        pass


_QUADRATIC = """
import numpy as np
from learning_tasks.seam import Trained

LOCAL_METHODS = ("steps", "correction")

def initial_weights(seed):
    return {"w": np.zeros(3000, np.float32)}

def load_data(data_dir, client, purpose):
    return np.random.default_rng(list(client.encode())).normal(size=3000).astype(np.float32)

def train(weights, data, training, seed, progress, correction=None):
    w = weights["w"].copy()
    for _ in range(10):
        w -= np.float32(training.learning_rate) * (w - data + correction["w"])
    return Trained({"w": w}, 10, {}, 10, corrected=("w",))

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_a_control_comes_by_deltas_too_and_in_rounds_of_either_mode(
    tmp_path: Path, mode: str
) -> None:
    task = tmp_path / "quadratic.py"
    task.write_text(_QUADRATIC)
    words = ["aggregation=scaffold", "downlink_codec=int8", "codec=int8", "rounds.count=40"]
    words += ["rounds.cohort=2", "rounds.quorum=1", f'rounds.mode="{mode}"', "rounds.concurrency=4"]
    with learning(asking(tmp_path, *words, task=str(task))) as lab:
        lab.run()
        assert lab.is_finished and isinstance(lab.tensors, Tensors)
        newest = lab.tensors.published
    assert newest.trained_rounds == 40 and newest.deltas
    assert newest.published.size == 2 * newest.flat.size
    wanted = [
        np.random.default_rng(list(f"client-{n}".encode())).normal(size=3000) for n in range(5)
    ]
    away = np.linalg.norm(newest.flat - np.mean(wanted, axis=0))
    assert away < 0.05 * np.linalg.norm(np.mean(wanted, axis=0))
