"""A model of 100 MB, through a broker that takes packets of 256 KiB at most."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator.persistence import history
from tests.long_vector import task_of
from tests.own_broker import free_port, mosquitto_at
from tests.programs import running, wait_until

PARAMETERS = 25_000_000
PACKET_BYTES_MAX = 256 * 1024


@pytest.mark.broker
def test_it_crosses_both_ways_and_leaves_nothing_behind(
    federation_name: str, tmp_path: Path
) -> None:
    task, config = tmp_path / "huge.py", tmp_path / "federation.toml"
    task.write_text(task_of(PARAMETERS))
    config.write_text(
        f'name = "{federation_name}"\ntask = "{task}"\n[evaluation]\nevery = 0\n'
        "[rounds]\ncount = 1\ncohort = 2\nover_selection = 1.0\n"
    )
    port, run = free_port(), tmp_path / "run"
    url = f"mqtt://127.0.0.1:{port}"
    client = ["fedmqtt", "client", "--broker", url, "--federation", federation_name]
    client += ["--task", str(task)]
    with (
        mosquitto_at(port, f"max_packet_size {PACKET_BYTES_MAX}"),
        running(tmp_path, *client, "--id", "a", "--state", str(tmp_path / "a")),
        running(tmp_path, *client, "--id", "bcd", "--state", str(tmp_path / "bcd")) as bcd,
        running(
            tmp_path, "fedmqtt", "coordinator", str(config), "--broker", url, "--run", str(run)
        ) as coordinator,
    ):
        wait_until(lambda: coordinator.process.poll() is not None, within_s=240)
        assert coordinator.wait() == 0, coordinator.log
        bcd.wait_for("receipt: round 1 accepted")
    (record,) = history.read(run / "history.jsonl")
    assert record.answered == ["a", "bcd"]
    # The mean of what they added: the lengths of their names.
    assert np.array_equal(
        load_file(run / "model.safetensors")["w"], np.full(PARAMETERS, 2.0, np.float32)
    )
    assert not list((run / "answers").iterdir()) and not list((run / "uploads").iterdir())
    for name in ("a", "bcd"):
        assert not list((tmp_path / name / "outbox").glob("*.answer"))
