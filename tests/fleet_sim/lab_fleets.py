"""Small fleets for the lab's tests: who is in them, what they learn, how to look at them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedmqtt.messages import Purpose
from fedmqtt.topics import ClientId
from fedmqtt.weights import layout_of
from fleet_sim import fleet as fleets
from fleet_sim.fleet import Fleet
from fleet_sim.lab import Lab, Lesson
from fleet_sim.training.trainers import Trainers
from learning_tasks.loading import load_task

LINEAR = "learning_tasks.linear"
SAMPLES = 100

# Nobody measures, and nothing is learned from one round for the next: what a test is about is all
# that happens.
_FEDERATION = """
[federation]
name = "lab"
task = '{task}'
tuning = {{ enabled = false }}
evaluation = {{ every = {every} }}
training = {{ epochs = 1, batch_size = 10, learning_rate = 0.1 }}
{federation}
[federation.rounds]
over_selection = {over_selection}
{rounds}
"""

_LARGE_TASK = """
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {{"w": np.zeros({size}, np.float32)}}

def load_data(data_dir, client, purpose):
    return None

def train(weights, data, training, seed, progress):
    return Trained({{name: array + 1 for name, array in weights.items()}}, 10, {{}})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


def large_task(folder: Path, size: int) -> str:
    """A task whose model has so many numbers; each training adds 1 to all of them."""
    path = folder / "large_task.py"
    path.write_text(_LARGE_TASK.format(size=size))
    return str(path)


def fleet(
    folder: Path,
    text: str,
    *,
    rounds: str,
    federation: str = "",
    task: str = LINEAR,
    evaluate: str = "clients",
    over_selection: float = 1.0,
    every: int = 0,
) -> Fleet:
    """`text`: whatever of fleet.toml is not the federation; its sections last."""
    path = folder / "fleet.toml"
    rest = _FEDERATION.format(
        task=task,
        federation=federation,
        rounds=rounds,
        over_selection=over_selection,
        every=every,
    )
    path.write_text(f"{text}\n[data]\nsplit = 'iid'\nevaluate = '{evaluate}'\n{rest}")
    return fleets.read(path)


def names(count: int) -> list[str]:
    return [f"client-{n}" for n in range(count)]


def samples(client: ClientId, purpose: Purpose) -> int:
    return SAMPLES


def protocol(of: Fleet, keys: Sequence[float] | None = None, *, sleeps: bool = True) -> Lab:
    """A lab in which nothing is learned."""
    return Lab(of, of.crew(names(of.config.clients), keys), samples, None, sleeps=sleeps)


@contextmanager
def learning(of: Fleet) -> Iterator[Lab]:
    """A lab that trains each client alone, in this process."""
    task = of.federation.task
    weights = load_task(task).initial_weights(of.federation.seed)
    layout = layout_of(weights)
    with Trainers(task, of.folder, together=1, processes=0) as trainers:
        lesson = Lesson(layout=layout, flat=layout.flatten(weights), trainers=trainers)
        yield Lab(of, of.crew(names(of.config.clients)), samples, lesson)


def at(lab: Lab, moment: float, look: Callable[[], None]) -> None:
    """Look at it when its clock says so."""
    lab.clock.at(moment, look)


def in_roster(lab: Lab) -> set[str]:
    """Who is there, as the coordinator believes."""
    return {client for client, entry in lab.server.roster.clients.items() if entry.online}


_TORCH_TASK = """
import torch
from learning_tasks.pool import Pool

CLASS_NAMES = ("low", "middle", "high")

def build_model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

def load_pool(data_dir, purpose):
    chance = torch.Generator().manual_seed(1 if purpose == "train" else 2)
    inputs = torch.randn(240, 4, generator=chance)
    return Pool(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long())

def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)
"""

STORMY = """
clients = 8
hours_max = 24
[connectivity]
kind = "markov"
follows_data = 0.5
settings = { online_s = 120.0, offline_s = 40.0, spread = 0.5 }
[link]
latency_s = 0.1
jitter_s = 0.5
loss = 0.05
duplicates = 0.1
cut_every_s = 3.0
up = { kbps = 5.0, spread = 0.5 }
down = { kbps = 40.0, spread = 0.5 }
[device]
ms_per_sample = 400.0
spread = 0.7
battery = { training_h = 0.5, charging = "markov" }
conditions = { battery_min = 20 }
[faults]
polite = 0.2
half_open = 0.3
reboots_per_day = 200.0
trainer_crashes = 0.1
"""
STORMY_ROUNDS = "count = 6\ncohort = 4\nquorum = 2\nclients_min = 3\ndeadline_s = 60.0\n"
STORMY_FEDERATION = "late = { policy = 'weigh', rounds_max = 5 }\n"


def torch_task(folder: Path) -> str:
    """A task with 240 samples of three classes for the lab to share out."""
    path = folder / "little_task.py"
    path.write_text(_TORCH_TASK)
    return str(path)


def stormy(folder: Path, evaluate: str = "test") -> Fleet:
    """A fleet with some of everything that goes wrong, which learns the little torch task."""
    return fleet(
        folder,
        STORMY,
        rounds=STORMY_ROUNDS,
        federation=STORMY_FEDERATION,
        task=torch_task(folder),
        evaluate=evaluate,
        over_selection=1.5,
        every=1,
    )
