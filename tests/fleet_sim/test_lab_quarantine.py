"""Who sends what is refused again and again is shut out of a simulated run as of a real one."""

from pathlib import Path

from fedmqtt.topics import ClientId
from fleet_sim.lab import Lab
from tests.fleet_sim.lab_fleets import fleet, learning

MALLORY = ClientId("client-2")

# What one client gives grows to where nobody's change may be; it goes on at it for ever.
_TASK = """
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {"w": np.zeros(4, np.float32)}

def load_data(data_dir, client, purpose):
    return {"of": client}

def train(weights, data, training, seed, progress):
    by = 1e9 if data["of"] == "client-2" else 1
    return Trained({name: array + np.float32(by) for name, array in weights.items()}, 10, {})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


def _ran(folder: Path, limits: str) -> Lab:
    path = folder / "hostile.py"
    path.write_text(_TASK)
    of = fleet(
        folder,
        "clients = 3",
        rounds="count = 30\ncohort = 3\nquorum = 2\nclients_min = 2\npause_s = 60",
        federation=limits,
        task=str(path),
    )
    with learning(of) as lab:
        lab.run()
        return lab


def test_a_client_is_shut_out_and_comes_back_when_its_time_is_over(tmp_path: Path) -> None:
    lab = _ran(tmp_path, "limits = { strikes = 3, quarantine_s = 600.0 }")
    assert lab.is_finished
    inside = [MALLORY in record.quarantined for record in lab.records]
    invited = [MALLORY in record.invited for record in lab.records]
    began = inside.index(True)
    assert sum(invited[: began + 1]) == 3
    assert "3 messages refused in" in lab.records[began].quarantined[MALLORY]
    # Ten minutes, and a round a minute: nobody asks it meanwhile, and then it is asked again.
    over = inside.index(False, began)
    assert 8 <= over - began <= 11 and not any(invited[began + 1 : over])
    assert any(invited[over:])
    heard = {client for record in lab.records for client in record.answered}
    assert heard == {"client-0", "client-1"}


def test_where_nothing_leads_to_quarantine_it_is_refused_in_each_round(tmp_path: Path) -> None:
    lab = _ran(tmp_path, "limits = { strikes = 0 }")
    asked = [[MALLORY] if MALLORY in record.invited else [] for record in lab.records]
    assert asked[1:] == [[MALLORY]] * 29
    assert [list(record.rejected) for record in lab.records] == asked
    assert not any(record.quarantined for record in lab.records)
