"""What a new run's first moments leave behind when the disk ends there."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedmqtt import messages
from fedmqtt.messages import Seat
from fedmqtt.topics import CoordinatorSeat
from tests.coordinator.guests import Room
from tests.coordinator.test_command import GOOD, NOWHERE, run, write
from tests.edge_client.little_disk import little_disk
from tests.own_broker import free_port, mosquitto_at
from tests.programs import running

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a file's size is limited from outside here"
)


@pytest.mark.parametrize("room_bytes", [0, 3072, 10_000])
def test_a_full_disk_at_the_first_start_is_in_nobodys_way_later(
    tmp_path: Path, room_bytes: int
) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"w": np.zeros(4, np.float32)}, start)
    lines = f'runs = "{tmp_path}/runs"\ninitial_model = "{start}"\n'
    config = write(tmp_path, GOOD + lines)
    with little_disk(room_bytes):
        ended = run(config, "--broker", NOWHERE)
    assert ended.returncode == 2 and "ledger.db: " in ended.stderr
    assert list((tmp_path / "runs").iterdir()) == []
    with running(tmp_path, "fedmqtt", "coordinator", str(config), "--broker", NOWHERE) as later:
        later.wait_for("cannot reach")


def test_an_empty_ledger_holds_no_run_to_go_on_with(tmp_path: Path) -> None:
    left = tmp_path / "runs" / "ward-7-20260101-000000"
    left.mkdir(parents=True)
    (left / "ledger.db").touch()
    config = write(tmp_path, GOOD + f'runs = "{tmp_path}/runs"\n')
    with running(tmp_path, "fedmqtt", "coordinator", str(config), "--broker", NOWHERE) as program:
        program.wait_for("cannot reach")
        assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.broker
def test_who_cannot_begin_its_run_leaves_the_seat(federation_name: str, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"w": np.zeros(100_000, np.float32)}, start)
    text = f'name = "{federation_name}"\ntask = "learning_tasks.linear"\n'
    config = write(tmp_path, text + f'runs = "{tmp_path}/runs"\ninitial_model = "{start}"\n')
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    with running(tmp_path, "fedmqtt", "coordinator", str(config), "--broker", url) as program:
        program.wait_for("cannot reach")
        # Enough for the ledger, not for the model.
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        with mosquitto_at(port), Room(url, federation_name) as room:
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 1
            assert "File too large" in program.log
            room.wait(lambda: bool(_seats(room)) and not _seats(room)[-1].taken)
    assert list((tmp_path / "runs").iterdir()) == []


def _seats(room: Room) -> list[Seat]:
    """What was said on the seat's topic, oldest first."""
    said = [one.payload for one in room.traffic if one.address == CoordinatorSeat()]
    seats = [messages.read_among_coordinators(payload) for payload in said if payload]
    return [seat for seat in seats if isinstance(seat, Seat)]
