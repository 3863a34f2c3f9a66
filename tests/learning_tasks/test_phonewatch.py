"""Phones and watches: whose data is whose, what a window is, and that devices learn together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedmqtt.messages import Training
from learning_tasks import phonewatch, phonewatch_devices
from learning_tasks.loading import load_task
from learning_tasks.phonewatch_devices import CLIENTS, TRAINING_CLIENTS, UNSEEN_CLIENTS
from learning_tasks.seam import TaskError

NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("devices")
    phonewatch_devices.split_by_device(directory)
    return directory


def test_the_devices_of_seventeen_people_train_and_those_of_six_never_do() -> None:
    assert (len(TRAINING_CLIENTS), len(UNSEEN_CLIENTS), len(set(CLIENTS))) == (34, 12, 46)
    trained = {client[-2:] for client in TRAINING_CLIENTS}
    assert trained.isdisjoint(client[-2:] for client in UNSEEN_CLIENTS)
    assert {"phone-17", "watch-01"} <= set(TRAINING_CLIENTS)
    assert {"phone-18", "watch-23"} <= set(UNSEEN_CLIENTS)


def test_every_device_has_a_file_of_its_own_and_the_files_hold_every_row_once(split: Path) -> None:
    assert {path.stem for path in split.iterdir()} == set(CLIENTS)
    rows = 0
    for path in split.iterdir():
        with np.load(path, allow_pickle=False) as file:  # noqa: TID251
            assert (
                file["offsets"][-1] == len(file["acc"]) == len(file["gyro"]) == len(file["label"])
            )
            rows += len(file["label"])
    assert rows == 521_766


@pytest.mark.parametrize(
    ("client", "purpose"),
    [("phone-01", "train"), ("watch-17", "evaluate"), ("watch-23", "evaluate")],
)
def test_a_device_reads_the_same_from_its_own_file(split: Path, client: str, purpose: str) -> None:
    own = phonewatch.load_data(split, client, purpose).tensors
    shipped = phonewatch.load_data(NOWHERE, client, purpose).tensors
    assert all(torch.equal(a, b) for a, b in zip(own, shipped, strict=True))


def test_a_device_that_has_its_file_never_opens_the_archive(
    split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phonewatch_devices, "_ARCHIVE", NOWHERE)
    phonewatch_devices._archive.cache_clear()
    assert len(phonewatch.load_data(split, "watch-07", "train")) > 0


def test_windows_are_in_g_and_rad_per_second(tmp_path: Path) -> None:
    _write(tmp_path / "mine.npz", [np.zeros(128, np.uint8)] * 2)
    windows, classes = phonewatch.load_data(tmp_path, "mine", "train").tensors
    assert (windows.shape, windows.dtype) == ((1, 6, 128), torch.float32)
    assert (classes.shape, classes.dtype) == ((1,), torch.int64)
    assert torch.allclose(windows[0, :3], torch.tensor(1.0))
    assert torch.allclose(windows[0, 3:], torch.tensor(2.0))


def test_a_window_counts_when_three_quarters_of_it_are_one_activity(tmp_path: Path) -> None:
    # 224 rows, seated for 96 and then walking: windows begin at 0, 32, 64 and 96.
    label = np.array([0] * 96 + [2] * 128, np.uint8)
    _write(tmp_path / "mine.npz", [label, label])
    _, classes = phonewatch.load_data(tmp_path, "mine", "train").tensors
    # 0: 96 of 128 are seated, exactly enough. 32: 64 and 64, dropped. 64: 96 walking. 96: all.
    assert classes.tolist() == [0, 2, 2]


def test_windows_never_span_two_recordings(tmp_path: Path) -> None:
    short, long = np.full(100, 1, np.uint8), np.full(128, 2, np.uint8)
    _write(tmp_path / "mine.npz", [short, short, long, long])
    assert phonewatch.load_data(tmp_path, "mine", "train").tensors[1].tolist() == [2]


def test_a_training_device_is_judged_on_the_recording_it_did_not_train_on(tmp_path: Path) -> None:
    _write(tmp_path / "mine.npz", [np.full(128, i, np.uint8) for i in range(3)])
    assert phonewatch.load_data(tmp_path, "mine", "train").tensors[1].tolist() == [0, 1]
    assert phonewatch.load_data(tmp_path, "mine", "evaluate").tensors[1].tolist() == [2]


def test_a_device_of_an_unseen_person_is_judged_on_everything(tmp_path: Path) -> None:
    _write(tmp_path / "watch-18.npz", [np.full(128, i, np.uint8) for i in range(3)])
    assert phonewatch.load_data(tmp_path, "watch-18", "evaluate").tensors[1].tolist() == [0, 1, 2]


def test_a_device_of_an_unseen_person_refuses_to_train() -> None:
    with pytest.raises(TaskError, match=r"phone-18 belongs to .* invite it to evaluate only"):
        phonewatch.load_data(NOWHERE, "phone-18", "train")


def test_a_device_too_new_to_have_a_window_is_told_so(tmp_path: Path) -> None:
    _write(tmp_path / "mine.npz", [np.zeros(128, np.uint8)])
    with pytest.raises(TaskError, match="mine has no samples to train with"):
        load_task("learning_tasks.phonewatch").load_data(tmp_path, "mine", "train")


def test_the_lab_shares_out_what_the_training_devices_recorded(split: Path) -> None:
    pool = phonewatch.load_pool(NOWHERE, "train")
    assert set(pool.owners or ()) == set(TRAINING_CLIENTS)
    own = [
        phonewatch.load_data(NOWHERE, "phone-03", "train").tensors[0],
        # Its last recording, which in the lab it may train on too: every other window.
        phonewatch.load_data(NOWHERE, "phone-03", "evaluate").tensors[0],
    ]
    its = pool.inputs[torch.tensor([owner == "phone-03" for owner in pool.owners or ()])]
    assert torch.equal(its[: len(own[0])], own[0])
    assert len(own[1]) > 0
    assert all(any(torch.equal(window, other) for other in its) for window in own[1])
    # A device's own file gives the same.
    assert phonewatch.load_pool(split, "train").digest == pool.digest


def test_the_lab_tests_on_what_is_evaluated_of_unseen_people() -> None:
    pool = phonewatch.load_pool(NOWHERE, "test")
    assert set(pool.owners or ()) == set(UNSEEN_CLIENTS)
    parts = [phonewatch.load_data(NOWHERE, client, "evaluate").tensors for client in UNSEEN_CLIENTS]
    assert torch.equal(pool.inputs, torch.cat([inputs for inputs, _ in parts]))
    assert torch.equal(pool.targets, torch.cat([targets for _, targets in parts]))


def test_a_recording_in_the_pool_is_of_one_device() -> None:
    pool = phonewatch.load_pool(NOWHERE, "train")
    owner_of = set(zip(pool.recordings or (), pool.owners or (), strict=True))
    assert len(owner_of) == len({recording for recording, _ in owner_of}) > len(TRAINING_CLIENTS)


def test_an_unknown_device_is_told_which_there_are() -> None:
    with pytest.raises(TaskError, match=r"phone-24 is none of the devices .* phone-01 to phone-23"):
        phonewatch.load_data(NOWHERE, "phone-24", "train")


@pytest.mark.parametrize("content", [b"not an archive", b"PK\x03\x04 half a download"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "phone-01.npz").write_bytes(content)
    with pytest.raises(TaskError, match=r"phone-01\.npz is not a file of phonewatch recordings"):
        phonewatch.load_data(tmp_path, "phone-01", "train")


def test_split_tells_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert phonewatch_devices.main(["split"]) == 2
    assert "usage: python -m learning_tasks.phonewatch_devices split DIR" in capsys.readouterr().err


def test_the_docstring_counts_the_model_right() -> None:
    count = sum(p.numel() for p in phonewatch.build_model().parameters())
    assert f"{count:,} numbers" in str(phonewatch.build_model.__doc__)


def test_ten_devices_a_round_learn_what_serves_new_people() -> None:
    task = load_task("learning_tasks.phonewatch")
    chance = np.random.default_rng(0)
    training = Training(epochs=2, batch_size=16, learning_rate=0.01, momentum=0.9)
    weights = task.initial_weights(0)
    for _ in range(8):
        answers = [
            task.train(weights, task.load_data(NOWHERE, client, "train"), training, 0, _silent)
            for client in chance.choice(TRAINING_CLIENTS, 10, replace=False)
        ]
        total = sum(answer.sample_count for answer in answers)
        weights = {
            name: np.sum([a.weights[name] * np.float32(a.sample_count / total) for a in answers], 0)
            for name in weights
        }
    judged = [
        task.evaluate(weights, task.load_data(NOWHERE, client, "evaluate"))
        for client in UNSEEN_CLIENTS
    ]
    right = sum(e.metrics["accuracy"] * e.sample_count for e in judged)
    # 25 rounds reach 0.94; always saying "walking" would be right in 0.6 of the windows.
    assert right / sum(e.sample_count for e in judged) >= 0.8


def _write(path: Path, labels: list[np.ndarray[tuple[int], np.dtype[np.uint8]]]) -> None:
    """A device's file with one recording per array of labels: 1 g and 2 rad/s on every axis."""
    offsets = np.cumsum([0, *map(len, labels)], dtype=np.int32)
    shape = (offsets[-1], 3)
    np.savez(
        path,
        acc=np.full(shape, 9.81 * 500, np.int16),
        gyro=np.full(shape, 2 * 1500, np.int16),
        label=np.concatenate(labels),
        offsets=offsets,
        acc_scale=np.float64(1 / 500),
        gyro_scale=np.float64(1 / 1500),
    )


def _silent(fraction: float) -> None:
    pass
