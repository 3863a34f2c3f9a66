"""What is somebody doing who carries a phone at the waist? 30 people, six activities.

The data is one pool whose samples have owners: "subject-01" to "subject-30", whole people. It is
`ucihar_features.npz` in `data_dir`, which does not come with this program (its licence forbids
commercial use), with

    X        float32 (n, 561)  the published features of windows of 2.56 s, each from -1 to 1
    y        uint8 (n,)        position in CLASS_NAMES
    subject  uint8 (n,)        whose window it is, from 1
    is_test  bool (n,)         the official test people, 9 of 30
    bout     int16 (n,)        the stretch of one activity it is from; such windows overlap by half

No client trains on a test person, so accuracy on the test pool says how well the model serves
somebody new. With ten of the other 21 people a round, 2 epochs, batches of 16 and a learning rate
of 0.03 it passes 0.90 after 8 to 14 rounds (five seeds) and is 0.93 after 50, for 5 s of one core.
On the windows themselves, with the convolutional network of `phonewatch`, 30 rounds did not reach
0.90 and took ten times the computing.

Data: Anguita, Ghio, Oneto, Parra, Reyes-Ortiz, "Human Activity Recognition on Smartphones using a
Multiclass Hardware-Friendly Support Vector Machine", IWAAL 2012.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from learning_tasks.pool import Pool
from learning_tasks.seam import TaskError

CLASS_NAMES = ("walking", "upstairs", "downstairs", "sitting", "standing", "lying")

_FILE_NAME = "ucihar_features.npz"
_FEATURES = 561


def build_model() -> nn.Module:
    """Features (n, 561) to scores (n, 6); 36,358 numbers.

    Most features lie near one end of their range, few of them around 0. Bringing each window's
    own to mean 0 and variance 1 was worth two points of accuracy after 30 rounds.
    """
    return nn.Sequential(
        nn.LayerNorm(_FEATURES, elementwise_affine=False),
        nn.Linear(_FEATURES, 64),
        nn.ReLU(),
        nn.Linear(64, len(CLASS_NAMES)),
    )


def load_pool(data_dir: Path, purpose: str) -> Pool:
    """The windows of the people who train, or of the official test people ("test")."""
    path = data_dir / _FILE_NAME
    try:
        with np.load(path, allow_pickle=False) as file:  # noqa: TID251
            chosen = file["is_test"] == (purpose == "test")
            features, classes, people, bouts = (
                file[name][chosen] for name in ("X", "y", "subject", "bout")
            )
    except FileNotFoundError as error:
        raise TaskError(
            f"there is no {path}: give the folder with the features of UCI HAR"
        ) from error
    except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise TaskError(f"{path} is not a file of UCI HAR's features ({error})") from error
    if features.shape[1:] != (_FEATURES,):
        raise TaskError(f"{path} needs {_FEATURES} features, and has X of shape {features.shape}")
    return Pool(
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(classes.astype(np.int64)),
        owners=tuple(f"subject-{person:02}" for person in people.tolist()),
        recordings=tuple(bouts.tolist()),
    )


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)
