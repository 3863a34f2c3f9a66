"""From a task's pool to `split.npz`: what is written, always the same, and what is refused."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from fedmqtt.parts import UnknownPart
from fedmqtt.settings import SettingsError
from fedmqtt.topics import is_name
from fleet_sim.split import holdings, make_split
from fleet_sim.splits import SplitError, dirichlet
from learning_tasks import split_data
from learning_tasks.loading import load_task
from learning_tasks.seam import TaskError

ROOT = Path(__file__).parent.parent.parent
PHONEWATCH = "learning_tasks.phonewatch"

TASK = """
import torch
from learning_tasks.pool import Pool
CLASS_NAMES = ("low", "middle", "high")
OWNERS = None
RECORDINGS = None
TARGETS = torch.arange(60) % 3
def build_model(): return torch.nn.Linear(1, 3)
def load_pool(data_dir, purpose):
    count = len(TARGETS)
    return Pool(torch.arange(float(count)).reshape(count, 1), TARGETS, OWNERS, RECORDINGS)
def loss(outputs, targets): return torch.nn.functional.cross_entropy(outputs, targets)
"""


def _task(folder: Path, **changes: str) -> str:
    """The path of a task whose pool has 60 samples of three classes in turn."""
    path = folder / "my_task.py"
    path.write_text(TASK)
    for name, value in changes.items():
        line = next(line for line in TASK.splitlines() if line.startswith(f"{name} = "))
        path.write_text(path.read_text().replace(line, f"{name} = {value}"))
    return str(path)


def _make(
    task: str,
    folder: Path,
    *,
    kind: str = "iid",
    settings: Any = None,
    clients: int = 4,
    seed: int = 0,
    held_out: float = 0.2,
) -> split_data.Split:
    path = make_split(task, folder, kind, settings or {}, clients, seed, held_out, folder / "split")
    assert path == folder / "split" / "split.npz"
    return split_data.read(path.parent)


def test_clients_find_what_the_split_gives_them(tmp_path: Path) -> None:
    name = _task(tmp_path)
    split = _make(name, tmp_path)
    task = load_task(name)
    found = []
    for client in split.clients:
        for purpose, count in (("train", 12), ("evaluate", 3)):
            data = task.load_data(tmp_path / "split", client, purpose)
            assert isinstance(data, TensorDataset)
            inputs, targets = data.tensors
            assert len(inputs) == count
            assert torch.equal(inputs[:, 0] % 3, targets)
            found += inputs[:, 0].tolist()
    assert sorted(found) == list(range(60))


def test_the_split_says_how_it_was_made(tmp_path: Path) -> None:
    split = _make(_task(tmp_path), tmp_path, kind="quantity", settings={"law": "lognormal"}, seed=7)
    assert json.loads(split.made_by) == {
        "task": str(tmp_path / "my_task.py"),
        "kind": "quantity",
        "settings": {"law": "lognormal", "spread": 1.0},
        "clients": 4,
        "seed": 7,
        "held_out": 0.2,
    }
    assert split.data_dir == str(tmp_path.resolve())


def test_clients_are_numbered_with_as_many_digits_as_it_takes(tmp_path: Path) -> None:
    split = _make(_task(tmp_path, TARGETS="torch.arange(10_001) % 3"), tmp_path, clients=10_001)
    assert (split.clients[0], split.clients[-1]) == ("client-00001", "client-10001")
    split = _make(_task(tmp_path), tmp_path, clients=2)
    assert split.clients == ("client-0001", "client-0002")


def test_owners_keep_their_names(tmp_path: Path) -> None:
    task = _task(tmp_path, OWNERS='["Hamlet/FIRST CLOWN", "bob", "ann"] * 20')
    split = _make(task, tmp_path, kind="owners", clients=0)
    assert split.clients == ("Hamlet-FIRST-CLOWN", "ann", "bob")
    assert all(map(is_name, split.clients))
    parts = zip(split.train, split.held_out, strict=True)
    # Sample i is of class i mod 3, and so is its owner.
    assert [{*(np.concatenate(part) % 3).tolist()} for part in parts] == [{0}, {2}, {1}]


@pytest.mark.parametrize(
    "owners", ['["judge", "ann", "bob"] * 20', '["a b", "a/b", "c"] * 20', '["..", "a", "b"] * 20']
)
def test_owners_whose_names_cannot_be_those_of_clients_are_refused(
    tmp_path: Path, owners: str
) -> None:
    with pytest.raises(SplitError, match="owners' names must differ"):
        _make(_task(tmp_path, OWNERS=owners), tmp_path, kind="owners", clients=3)


def test_real_devices_hold_what_they_recorded(tmp_path: Path) -> None:
    make_split(PHONEWATCH, tmp_path, "owners", {}, 0, 1, 0.2, tmp_path)
    held = holdings(tmp_path)
    assert len(held) == 34
    assert (held[0].client, held[-1].client) == ("phone-01", "watch-17")
    assert sum(one.samples for one in held) == 6734
    # Whole recordings are held out, of about ten that each device has.
    assert all(0.05 < one.held_out / one.samples < 0.4 for one in held)
    assert {one.dominant_label for one in held} == {"walking"}
    task = load_task(PHONEWATCH)
    judged = task.load_data(tmp_path, "judge", "evaluate")
    assert isinstance(judged, TensorDataset)
    assert len(judged) == 1204


def test_no_recording_is_trained_on_and_evaluated_on(tmp_path: Path) -> None:
    # Recordings of five samples; each client of the IID split holds parts of nearly all twelve.
    task = _task(tmp_path, RECORDINGS="[i // 5 for i in range(60)]")
    split = _make(task, tmp_path, held_out=0.3)
    for train, out in zip(split.train, split.held_out, strict=True):
        assert set((train // 5).tolist()).isdisjoint((out // 5).tolist())
        assert 1 <= len(out) <= 8
        assert len(train) + len(out) == 15


@pytest.mark.parametrize(
    ("held_out", "counts"), [(0.0, {0}), (0.01, {1}), (0.2, {3}), (0.5, {7, 8}), (0.999, {14})]
)
def test_the_share_held_out_is_at_least_one_sample_and_never_all(
    tmp_path: Path, held_out: float, counts: set[int]
) -> None:
    split = _make(_task(tmp_path), tmp_path, held_out=held_out)
    assert {len(out) for out in split.held_out} <= counts
    assert all(len(t) + len(o) == 15 for t, o in zip(split.train, split.held_out, strict=True))


def test_who_has_one_sample_or_one_recording_trains_on_it(tmp_path: Path) -> None:
    split = _make(_task(tmp_path), tmp_path, clients=60)
    assert {(len(t), len(o)) for t, o in zip(split.train, split.held_out, strict=True)} == {(1, 0)}
    split = _make(_task(tmp_path, RECORDINGS="[0] * 60"), tmp_path, clients=4)
    assert {(len(t), len(o)) for t, o in zip(split.train, split.held_out, strict=True)} == {(15, 0)}


def test_holdings_count_what_a_client_has_held_out_or_not(tmp_path: Path) -> None:
    task = _task(tmp_path, OWNERS='["ann"] * 4 + ["bob"] * 56')
    _make(task, tmp_path, kind="owners", clients=2, held_out=0.25)
    ann = holdings(tmp_path / "split")[0]
    # Classes 0, 1, 2, 0.
    assert (ann.client, ann.samples, ann.held_out) == ("ann", 4, 1)
    assert ann.label_counts == {"low": 2, "middle": 1, "high": 1}
    assert (ann.mean_label, ann.dominant_label) == (0.75, "low")


def test_numbers_instead_of_classes_can_be_split_and_have_a_mean(tmp_path: Path) -> None:
    path = Path(_task(tmp_path, TARGETS="torch.arange(60.0)"))
    path.write_text(path.read_text().replace("CLASS_NAMES = (", "metrics = lambda o, t: ("))
    _make(str(path), tmp_path, kind="shards", settings={"shards": 1})
    held = holdings(tmp_path / "split")
    assert sorted(one.mean_label for one in held) == [7.0, 22.0, 37.0, 52.0]
    assert all(one.label_counts == {} and one.dominant_label is None for one in held)


def test_settings_may_come_as_the_struct_of_their_kind(tmp_path: Path) -> None:
    task = _task(tmp_path)
    table = _make(task, tmp_path, kind="dirichlet", settings={"alpha": 0.1})
    struct = _make(task, tmp_path, kind="dirichlet", settings=dirichlet.Settings(alpha=0.1))
    assert table.made_by == struct.made_by
    assert all(np.array_equal(a, b) for a, b in zip(table.train, struct.train, strict=True))


def test_a_seed_is_another_split_and_another_part_held_out(tmp_path: Path) -> None:
    task = _task(tmp_path, OWNERS='["ann"] * 30 + ["bob"] * 30')
    one, two = (_make(task, tmp_path, kind="owners", clients=2, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.held_out[0], two.held_out[0])
    one, two = (_make(task, tmp_path, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.train[0], two.train[0])


PROGRAM = """
import sys
from pathlib import Path
from fleet_sim.split import make_split
task, folder = sys.argv[1], Path(sys.argv[2])
for kind in ("owners", "iid", "shards", "dirichlet", "quantity"):
    make_split(task, folder, kind, {}, 3, 11, 0.2, folder / kind)
"""


def test_the_file_is_the_same_to_the_last_byte_whatever_python_salts_its_hashes_with(
    tmp_path: Path,
) -> None:
    task = _task(tmp_path, OWNERS='["ann", "bob", "cat", "dan"] * 15')
    digests = []
    for salt in ("0", "1", "random"):
        subprocess.run(
            [sys.executable, "-c", PROGRAM, task, str(tmp_path)],
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": salt},
        )
        found = sorted(tmp_path.glob("*/split.npz"))
        assert len(found) == 5
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in found])
    assert digests[0] == digests[1] == digests[2]


def test_the_same_seed_splits_alike_on_every_machine(tmp_path: Path) -> None:
    # Written down once: numpy promises the stream of a bit generator, and these draws rest on it.
    split = _make(_task(tmp_path), tmp_path, clients=12, seed=3, held_out=0.2)
    assert (split.train[0].tolist(), split.held_out[0].tolist()) == ([2, 4, 30, 48], [38])


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"kind": "writers"},
            UnknownPart,
            "unknown splits 'writers'; choose one of: dirichlet, iid",
        ),
        ({"kind": "shards", "settings": {"shard": 2}}, SettingsError, "unknown key shard; choose"),
        ({"kind": "dirichlet", "settings": {"alpha": 0}}, SettingsError, "alpha: expected"),
        ({"kind": "quantity", "settings": {"law": "pareto"}}, SettingsError, "lognormal, power"),
        ({"held_out": 1.0}, SplitError, "1.0 cannot be the share held out"),
        ({"held_out": -0.1}, SplitError, "-0.1 cannot be the share held out"),
        ({"held_out": float("nan")}, SplitError, "nan cannot be the share held out"),
        ({"clients": 61}, SplitError, "60 samples cannot be shared out among 61 clients"),
        ({"clients": 0}, SplitError, "60 samples cannot be shared out among 0 clients"),
        ({"kind": "owners", "clients": 0}, SplitError, "nobody owns these samples by nature"),
    ],
)
def test_an_impossible_split_is_refused_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        _make(_task(tmp_path), tmp_path, **changes)
    assert not (tmp_path / "split").exists()


def test_a_task_that_has_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"learning_tasks\.linear has no load_pool"):
        _make("learning_tasks.linear", tmp_path)
    with pytest.raises(TaskError, match="this task has no load_pool"):
        _make("learning_tasks.starter_task", tmp_path)


def test_classes_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"CLASS_NAMES has 3 names, .* go from 0 to 3"):
        _make(_task(tmp_path, TARGETS="torch.arange(60) % 4"), tmp_path)
    with pytest.raises(TaskError, match=r"targets are classes, int64, .* are float32"):
        _make(_task(tmp_path, TARGETS="torch.zeros(60)"), tmp_path)


@pytest.mark.parametrize("kind", ["iid", "quantity", "shards"])
def test_a_column_of_numbers_is_shared_out_as_the_numbers_themselves(
    tmp_path: Path, kind: str
) -> None:
    numbers = "torch.arange(60.0)"
    row = _make(_task(tmp_path, TARGETS=numbers, CLASS_NAMES="()"), tmp_path, kind=kind)
    column = f"{numbers}.reshape(60, 1)"
    found = _make(_task(tmp_path, TARGETS=column, CLASS_NAMES="()"), tmp_path, kind=kind)
    assert [own.tolist() for own in found.train] == [own.tolist() for own in row.train]
    assert found.label_means.tolist() == row.label_means.tolist() != [0.0] * 4


def test_a_pool_without_samples_is_refused_with_its_folder(tmp_path: Path) -> None:
    task = _task(tmp_path, TARGETS="torch.zeros(0, dtype=torch.int64)", OWNERS="[]")
    with pytest.raises(TaskError, match=rf"no samples to train with in {re.escape(str(tmp_path))}"):
        _make(task, tmp_path, kind="owners")


# As the characters of a text.
TWO_EACH = {"TARGETS": "torch.arange(120).reshape(60, 2)", "CLASS_NAMES": "()"}


@pytest.mark.parametrize("kind", ["dirichlet", "shards"])
def test_targets_of_more_than_one_number_cannot_be_split_by_label(
    tmp_path: Path, kind: str
) -> None:
    said = rf"the split {kind} needs one label .* shape \(60, 2\): .* \(iid, owners, quantity\)"
    with pytest.raises(SplitError, match=said):
        _make(_task(tmp_path, **TWO_EACH), tmp_path, kind=kind)


@pytest.mark.parametrize("kind", ["iid", "owners", "quantity"])
def test_targets_of_more_than_one_number_go_with_their_samples(tmp_path: Path, kind: str) -> None:
    task = _task(tmp_path, OWNERS='["ann", "bob", "cat", "dan"] * 15', **TWO_EACH)
    split = _make(task, tmp_path, kind=kind)
    for client in split.clients:
        data = load_task(task).load_data(tmp_path / "split", client, "train")
        assert isinstance(data, TensorDataset)
        inputs, targets = data.tensors
        assert torch.equal(targets, torch.cat([2 * inputs, 2 * inputs + 1], dim=1))
    assert split.label_means.tolist() == [0.0] * 4


def test_targets_of_more_than_one_number_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"each sample is of one class, .* shape \(60, 2\)"):
        _make(_task(tmp_path, TARGETS=TWO_EACH["TARGETS"]), tmp_path)
