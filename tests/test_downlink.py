"""Models that go down as deltas: real programs over a real broker, and what befalls them."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator import history
from tests.programs import Program, running, wait_until

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

NUMBERS = 6000
ROUNDS = 5

# A training ends when its gate is there: the n-th that this client has begun. What it makes depends
# on what it starts from, so that any other base would make another model.
_TASK = f"""
import time
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {{"w": np.zeros({NUMBERS}, np.float32)}}

def load_data(data_dir, client, purpose):
    return data_dir, client

def train(weights, data, training, seed, progress):
    data_dir, client = data
    number = len(list(data_dir.glob(f"begun-{{client}}-*"))) + 1
    (data_dir / f"begun-{{client}}-{{number}}").touch()
    while not (data_dir / f"{{client}}-{{number}}").exists():
        progress(0.5)
        time.sleep(0.01)
    goal = np.sin(np.arange({NUMBERS}) * len(client)).astype(np.float32)
    trained = weights["w"] + np.float32(0.5) * (goal - weights["w"])
    return Trained({{"w": trained}}, len(client), {{}})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


class Following:
    """A federation in which two of ann, bobby and catherine are there at a time."""

    def __init__(self, url: str, name: str, folder: Path, codec: str) -> None:
        self._url = url
        self._name = name
        self._folder = folder
        self._gates = folder / "gates"
        self._gates.mkdir(parents=True)
        self._task = folder / "gated.py"
        self._task.write_text(_TASK)
        self._config = folder / "federation.toml"
        self._config.write_text(
            f'name = "{name}"\ntask = "{self._task}"\ndownlink_codec = "{codec}"\n'
            "[evaluation]\nevery = 0\n[tuning]\nenabled = false\n"
            f"[rounds]\ncount = {ROUNDS}\ncohort = 2\nquorum = 2\nclients_min = 2\n"
            "over_selection = 1.0\ndeadline_s = 1000\naway_grace_s = 1000\n"
        )
        self._begun: dict[str, int] = {}
        self.run = folder / "run"

    @contextmanager
    def coordinating(self) -> Iterator[Program]:
        command = ("fedmqtt", "coordinator", str(self._config), "--broker", self._url)
        with running(self._folder, *command, "--run", str(self.run)) as program:
            yield program

    def client(self, who: str) -> AbstractContextManager[Program]:
        words = ["--broker", self._url, "--federation", self._name, "--id", who]
        words += ["--task", str(self._task), "--data", str(self._gates)]
        words += ["--state", str(self._folder / who)]
        words += ["--set", "link.resend_s=1", "--set", "link.retry_max_s=0.5"]
        return running(self._folder, "fedmqtt", "client", *words)

    def begins(self, who: str) -> None:
        """Wait until this client has begun to train once more."""
        number = self._begun[who] = self._begun.get(who, 0) + 1
        wait_until((self._gates / f"begun-{who}-{number}").exists)

    def answers(self, who: str, program: Program, number: int) -> None:
        """Let it end its training for this round, and wait for the receipt."""
        (self._gates / f"{who}-{self._begun[who]}").touch()
        program.wait_for(f"receipt: round {number} accepted")


def leaves(program: Program) -> None:
    program.process.terminate()
    program.wait()


def dies(program: Program) -> None:
    program.process.send_signal(signal.SIGKILL)
    program.process.wait()


def model_of_all_rounds(url: str, name: str, folder: Path, codec: str, *, unrest: bool) -> bytes:
    """Ann is always there; Bobby misses two rounds, and Catherine comes for those.

    With `unrest` the coordinator and Ann lose their power in the middle.
    """
    here = Following(url, name, folder, codec)
    with here.client("ann") as ann, here.coordinating() as coordinator:
        with here.client("bobby") as bobby:
            for number in (1, 2):
                here.begins("ann")
                here.begins("bobby")
                here.answers("bobby", bobby, number)
                if number == 1:
                    here.answers("ann", ann, number)
            bobby.wait_for("model by deltas (1)")
            leaves(bobby)
        with here.client("catherine") as catherine:
            here.answers("ann", ann, 2)
            here.begins("ann")
            here.begins("catherine")
            assert "model by deltas" not in catherine.log
            here.answers("ann", ann, 3)
            if unrest:
                dies(coordinator)
            with here.coordinating() if unrest else _same(coordinator) as coordinator:
                here.answers("catherine", catherine, 3)
                here.begins("catherine")
                here.begins("ann")
                assert catherine.log.count("model by deltas (1)") == 1
                here.answers("catherine", catherine, 4)
                leaves(catherine)
                with here.client("bobby") as bobby:
                    here.answers("ann", ann, 4)
                    here.begins("bobby")
                    bobby.wait_for("model by deltas (3)")
                    here.begins("ann")
                    assert ann.log.count("model by deltas (1)") == 4
                    if unrest:
                        dies(ann)
                        with here.client("ann") as again:
                            here.begins("ann")
                            here.answers("ann", again, 5)
                    else:
                        here.answers("ann", ann, 5)
                    here.answers("bobby", bobby, 5)
                    assert coordinator.wait() == 0, coordinator.log
    records = history.read(here.run / "history.jsonl")
    assert [record.answered for record in records] == [
        ["ann", "bobby"],
        ["ann", "bobby"],
        ["ann", "catherine"],
        ["ann", "catherine"],
        ["ann", "bobby"],
    ]
    found: bytes = load_file(here.run / "model.safetensors")["w"].tobytes()
    return found


@contextmanager
def _same(program: Program) -> Iterator[Program]:
    yield program


@pytest.mark.parametrize("codec", ["int4", "eden"])
def test_who_comes_who_misses_rounds_and_who_is_killed_all_train_from_the_same_models(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, codec: str
) -> None:
    url, name = mosquitto_broker.url, federation_name
    calm = model_of_all_rounds(url, f"{name}.calm", tmp_path / "calm", codec, unrest=False)
    wild = model_of_all_rounds(url, f"{name}.wild", tmp_path / "wild", codec, unrest=True)
    assert calm == wild
