"""Which of five activities is its owner at? 46 phones and watches of 23 people, real recordings.

A client is one device: "phone-01" to "phone-23" and "watch-01" to "watch-23", numbered by person.
Everyone sat, stood up, walked, turned and sat down again, several times over, carrying a phone and
wearing a watch. Each device has about 11,000 measurements of acceleration and
angular velocity at 103 Hz, and the question is asked of windows of 128 of them, 1.25 seconds.

    recording   |----|----|----|----|----|    label   seated | standing up | walking
    windows      [--------]                    kept: three quarters are "seated"
                      [--------]               dropped: too mixed to have an answer
                           [--------]          kept: "standing up"

People 1 to 17 train (`TRAINING_CLIENTS`), people 18 to 23 never do (`UNSEEN_CLIENTS`), so accuracy
on the latter says how well the model serves somebody new. With ten devices a round, 2 epochs,
batches of 16, learning rate 0.01 and momentum 0.9 it is 0.94 after 25 rounds (the worst of ten
seeds: 0.92), for 8 s of one core.

Data: Matey-Sanz, Casteleyn, Granell, Data in Brief 2023, 109809; CC BY 4.0, see
`phonewatch_data/LICENSE.md`. `phonewatch_devices` reads it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from learning_tasks.phonewatch_devices import (
    CLASS_NAMES,
    TRAINING_CLIENTS,
    UNSEEN_CLIENTS,
    Recordings,
    recordings_of,
)
from learning_tasks.pool import Pool
from learning_tasks.seam import TaskError

_WINDOW = 128
# Windows that overlap more are more to learn from, at twice the cost; to judge on, not.
_TRAIN_STRIDE = 32
_EVALUATE_STRIDE = 64
_PURITY = 0.75
_GRAVITY = 9.81  # m/s²


def build_model() -> nn.Module:
    """Windows (n, 6, 128) in g and rad/s to scores (n, 5); 36,069 numbers.

    The last layer sees where in the window something happened. Averaging over time instead, as is
    usual, cost 4 points of accuracy on people who were held out of the 17.
    """
    return nn.Sequential(
        WithMagnitudes(),
        _block(8, 32, kernel=9, stride=4),
        _block(32, 64, kernel=5, stride=2),
        _block(64, 64, kernel=5, stride=2),
        nn.Flatten(),
        nn.Linear(64 * 8, len(CLASS_NAMES)),
    )


def _block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    # GroupNorm instead of BatchNorm: a client's batches hold one person on one device, and
    # running statistics of such batches do not average into those of everybody.
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2),
        nn.GroupNorm(8, outputs),
        nn.ReLU(),
    )


class WithMagnitudes(nn.Module):
    """Windows (n, 6, 128) to (n, 8, 128): adds the lengths of both vectors, minus 1.

    They do not depend on which way round somebody carries the phone. Turning windows at random
    during training was tried for the same purpose, and did not help.
    """

    def forward(self, windows: Tensor) -> Tensor:
        acc, gyro = windows[:, :3], windows[:, 3:]
        lengths = [vectors.norm(dim=1, keepdim=True) - 1 for vectors in (acc, gyro)]
        return torch.cat([windows, *lengths], dim=1)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def load_data(data_dir: Path, client: str, purpose: str) -> TensorDataset:
    """One device's windows, float32 (n, 6, 128) in g and rad/s, and their classes, int64 (n,).

    They come from `<data_dir>/<client>.npz`, else from the archive that comes with this file. A
    device that trains does so on all of its recordings but the last, on which it evaluates; a
    device of `UNSEEN_CLIENTS` evaluates on all. Raises `TaskError` where there is no such device,
    or where an unseen one is to train.
    """
    if purpose == "train" and client in UNSEEN_CLIENTS:
        raise TaskError(
            f"{client} belongs to one of the people whom the model is judged on and must not see "
            "while it trains: invite it to evaluate only"
        )
    recordings = recordings_of(data_dir, client)
    last = len(recordings.offsets) - 2
    if purpose == "train":
        return _windows(recordings, range(last), _TRAIN_STRIDE)
    first = 0 if client in UNSEEN_CLIENTS else last
    return _windows(recordings, range(first, last + 1), _EVALUATE_STRIDE)


FEATURE_NAMES: dict[str, tuple[str, ...]] = {
    **{f"acceleration {axis}": () for axis in "xyz"},
    **{f"rotation {axis}": () for axis in "xyz"},
    "activity": CLASS_NAMES,
}


def features(data: TensorDataset) -> dict[str, NDArray[Any]]:
    """For statistics: acceleration in g, angular velocity in rad/s, and the windows' activities.

    Of each window its beginning, up to where the next one begins: no measurement counts twice.
    """
    windows, classes = (tensor.numpy() for tensor in data.tensors)
    found = {
        name: windows[:, channel, :_TRAIN_STRIDE].ravel()
        for channel, name in enumerate(list(FEATURE_NAMES)[:6])
    }
    return {**found, "activity": classes}


def load_pool(data_dir: Path, purpose: str) -> Pool:
    """The windows of all devices that train, or of the unseen people's ("test"), and whose each is.

    Windows that train overlap by three quarters, those to test on by half; a window overlaps with
    none of another recording.
    """
    clients = UNSEEN_CLIENTS if purpose == "test" else TRAINING_CLIENTS
    stride = _EVALUATE_STRIDE if purpose == "test" else _TRAIN_STRIDE
    pieces: list[tuple[Tensor, ...]] = []
    owners: list[str] = []
    recording_of: list[int] = []
    recording = 0
    for client in clients:
        recordings = recordings_of(data_dir, client)
        for i in range(len(recordings.offsets) - 1):
            pieces.append(_windows(recordings, [i], stride).tensors)
            owners += [client] * len(pieces[-1][1])
            recording_of += [recording] * len(pieces[-1][1])
            recording += 1
    inputs, targets = (torch.cat(tensors) for tensors in zip(*pieces, strict=True))
    return Pool(inputs, targets, owners, recording_of)


def _windows(recordings: Recordings, chosen: Sequence[int], stride: int) -> TensorDataset:
    acc = recordings.acc * np.float32(recordings.acc_scale / _GRAVITY)
    gyro = recordings.gyro * np.float32(recordings.gyro_scale)
    signals = np.concatenate([acc, gyro], axis=1)
    windows, classes = [], []
    for i in chosen:
        begin, end = recordings.offsets[i : i + 2]
        for start in range(begin, end - _WINDOW + 1, stride):
            labels = np.bincount(recordings.label[start : start + _WINDOW])
            if labels.max() >= _PURITY * _WINDOW:
                windows.append(signals[start : start + _WINDOW].T)
                classes.append(int(labels.argmax()))
    # Reshaped for a device too new to have a window: an empty set still says what is in it.
    inputs = np.array(windows, np.float32).reshape(-1, 6, _WINDOW)
    return TensorDataset(torch.from_numpy(inputs), torch.tensor(classes, dtype=torch.int64))
