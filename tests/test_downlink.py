"""Models that go down as deltas: real programs over a real broker, and what befalls them."""

import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from tests.gated import Gated
from tests.programs import Program, wait_until

pytestmark = pytest.mark.broker

NUMBERS = 6000
ROUNDS = 5

# A training ends when its gate is there: the n-th that this client has begun. What it makes depends
# on what it starts from, so that any other base would make another model.
_TASK = f"""
def initial_weights(seed):
    return {{"w": np.zeros({NUMBERS}, np.float32)}}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    number = len(list(data_dir.glob(f"begun-{{client}}-*"))) + 1
    (data_dir / f"begun-{{client}}-{{number}}").touch()
    wait_for_gate(data_dir, client, number, progress)
    goal = np.sin(np.arange({NUMBERS}) * len(client)).astype(np.float32)
    trained = weights["w"] + np.float32(0.5) * (goal - weights["w"])
    return Trained({{"w": trained}}, len(client), {{}})
"""


class Following(Gated):
    """A federation in which two of ann, bobby and catherine are there at a time."""

    def __init__(self, url: str, name: str, folder: Path, codec: str) -> None:
        rounds = f"count = {ROUNDS}\ncohort = 2\nquorum = 2\nclients_min = 2\nover_selection = 1.0"
        super().__init__(
            url, name, folder, task=_TASK, rounds=rounds, more=f'downlink_codec = "{codec}"'
        )
        self._begun: dict[str, int] = {}

    def begins(self, who: str) -> None:
        """Wait until this client has begun to train once more."""
        number = self._begun[who] = self._begun.get(who, 0) + 1
        wait_until((self.gates / f"begun-{who}-{number}").exists)

    def answers(self, who: str, program: Program, number: int) -> None:
        """Let it end its training for this round, and wait for the receipt."""
        self.open_gate(who, self._begun[who])
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
            with here.coordinating() if unrest else nullcontext(coordinator) as coordinator:
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


@pytest.mark.parametrize("codec", ["int4", "eden"])
def test_who_comes_who_misses_rounds_and_who_is_killed_all_train_from_the_same_models(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path, codec: str
) -> None:
    url, name = mosquitto_broker.url, federation_name
    calm = model_of_all_rounds(url, f"{name}.calm", tmp_path / "calm", codec, unrest=False)
    wild = model_of_all_rounds(url, f"{name}.wild", tmp_path / "wild", codec, unrest=True)
    assert calm == wild
