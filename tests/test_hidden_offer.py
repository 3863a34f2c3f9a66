"""A client that its broker never shows the board: real programs, over a real Mosquitto.

Mosquitto grants a subscription that its list of rights forbids, and passes nothing on: to the
client that is as with a cluster that has lost an offer on its way.
"""

import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from coordinator.persistence import history
from fedmqtt.topics import Topics
from tests.gated import Gated
from tests.own_broker import free_port, mosquitto_at

pytestmark = pytest.mark.broker

ROUNDS = 2
_TASK = """
CHANGES = {"ann": 1.0, "bob": 3.0}

def initial_weights(seed):
    return {"w": np.zeros(1, np.float32)}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    return Trained({"w": weights["w"] + np.float32(CHANGES[client])}, 10, {})
"""


def test_who_is_not_shown_the_offer_is_told_and_takes_part(
    federation_name: str, tmp_path: Path
) -> None:
    board, rights, port = Topics(federation_name).offer, tmp_path / "rights", free_port()
    rights.write_text(
        "\n".join(["topic readwrite #", "user bob", "topic readwrite #", f"topic deny {board}", ""])
    )
    lines = [f"acl_file {rights}"]
    if os.geteuid() == 0:
        # Else it becomes its own user, who cannot read the rights.
        lines.append("user root")

    def federation(account: str, folder: Path) -> Gated:
        rounds = f"count = {ROUNDS}\ncohort = 2\nquorum = 2\nclients_min = 2"
        url = f"mqtt://{account}127.0.0.1:{port}"
        return Gated(url, federation_name, folder, task=_TASK, rounds=rounds, more="")

    one, hidden = federation("", tmp_path / "one"), federation("bob@", tmp_path / "hidden")
    with mosquitto_at(port, *lines), one.client("ann") as ann, hidden.client("bob") as bob:
        for client in (ann, bob):
            client.wait_for("connected")
        with one.coordinating() as coordinator:
            assert coordinator.wait() == 0, coordinator.log
        assert "silent so far, and told again (1): bob" in coordinator.log
    closed = history.read(one.run / "history.jsonl")
    assert [record.answered for record in closed] == [["ann", "bob"]] * ROUNDS
    # The mean of 1 and 3, twice.
    assert load_file(one.run / "model.safetensors")["w"].tolist() == [4.0]
