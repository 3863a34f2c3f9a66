"""My task: is the machine idle, working or faulty? Change this file into yours.

The program reads four things from it, and nothing else: CLASS_NAMES, build_model, load_data and
loss. Every client needs the same copy of this file. The data stays where it is.
"""

import csv
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

# The columns of a client's file, and what the model is to tell from them.
INPUTS = ("temperature", "vibration", "current")
CLASS_NAMES = ("idle", "working", "faulty")


def build_model() -> nn.Module:
    """The model that all clients train together.

    Keep it small: it travels to each client and back in every round. This one has 115 numbers.
    Prefer GroupNorm or LayerNorm to BatchNorm, whose statistics are each client's own.
    """
    return nn.Sequential(
        nn.Linear(len(INPUTS), 16),
        nn.ReLU(),
        nn.Linear(16, len(CLASS_NAMES)),
    )


def load_data(data_dir: Path, client: str, purpose: str) -> TensorDataset:
    """One client's own data: float32 inputs (n, 3) and classes (n,) as positions in CLASS_NAMES.

    `purpose` is "train" or "evaluate"; keep the two apart, or the accuracy is too good to be true.
    Any torch Dataset of (input, target) will do; a TensorDataset is the fastest.

    Here it is `<data_dir>/<client>.csv` with a header and one measurement a line:

        temperature,vibration,current,state
        41.5,0.2,1.1,idle
    """
    # Without --data the measurements are invented; with it, a missing file is an error.
    path = data_dir / f"{client}.csv"
    rows = invent_rows(client) if data_dir == Path() else read_rows(path)
    # Every fifth measurement is kept back to judge the model by.
    rows = [row for i, row in enumerate(rows) if (i % 5 == 4) == (purpose == "evaluate")]
    inputs = torch.tensor([[float(row[name]) for name in INPUTS] for row in rows])
    classes = torch.tensor([CLASS_NAMES.index(row["state"]) for row in rows])
    return TensorDataset(scale(inputs), classes)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """What training makes smaller: the mean over the batch.

    To predict a number instead of a class, use nn.functional.mse_loss and delete CLASS_NAMES. To
    report more than the loss, define

        def metrics(outputs, targets):
            return {"error_degrees": (outputs - targets).abs().mean().item()}
    """
    return nn.functional.cross_entropy(outputs, targets)


def scale(inputs: Tensor) -> Tensor:
    """Bring every column to about -1 to 1, with the same constants on every client.

    Constants, and not each client's own mean: a machine that runs hot must still look hot.
    """
    return (inputs - torch.tensor([50.0, 1.0, 3.0])) / torch.tensor([15.0, 1.0, 2.0])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def invent_rows(client: str, count: int = 200) -> list[dict[str, str]]:
    """Measurements of a machine that does not exist, so that this file runs before you have data.

    Each client gets its own machine, a little warmer or colder than the others, and always the
    same one. Delete this function once your clients have files.
    """
    chance = random.Random(client)
    machine = chance.gauss(0, 3)
    # Per state: mean temperature in °C, vibration in mm/s, current in A.
    means = {"idle": (35, 0.2, 1.0), "working": (55, 1.0, 4.0), "faulty": (62, 2.2, 3.6)}
    rows = []
    for _ in range(count):
        state = chance.choice(CLASS_NAMES)
        temperature, vibration, current = means[state]
        rows.append(
            {
                "temperature": f"{chance.gauss(temperature + machine, 4):.1f}",
                "vibration": f"{abs(chance.gauss(vibration, 0.4)):.2f}",
                "current": f"{abs(chance.gauss(current, 0.6)):.2f}",
                "state": state,
            }
        )
    return rows
