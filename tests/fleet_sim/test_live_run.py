"""A fleet at a real broker, with the real coordinator: the same as in virtual time, as far as that
can be, and told as well when it ends too soon."""

import shlex
import signal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt.folder_lock import FolderLock
from fleet_sim import fleet as fleets
from fleet_sim.fleet import Fleet
from fleet_sim.lab_page import LabPage
from fleet_sim.live_run import LiveRunError, run_live
from fleet_sim.simulate_command import Result, simulate, simulate_live
from tests.fleet_sim.lab_fleets import fleet, large_task, names, samples, torch_task
from tests.programs import running

pytestmark = pytest.mark.broker

CALM = "clients = 4\n[device]\nms_per_sample = 1.0\n[faults]\nhalf_open = 0.0\n"
ALL = "cohort = 3\nquorum = 3\nclients_min = 4\n"


def named(name: str, folder: Path, text: str, **more: Any) -> Fleet:
    """A fleet whose federation no other test knows."""
    fleet(folder, text, **more)
    return fleets.read(folder / "fleet.toml", [f"federation.name={name}"])


def live(of: Fleet, folder: Path, broker: RunningBroker, speed: float = 10.0) -> Result:
    return simulate_live(of, folder, repeat="", broker=broker.url, speed=speed, processes=1)


def page(folder: Path) -> LabPage:
    return msgspec.json.decode((folder / "lab.json").read_bytes(), type=LabPage)


def who(folder: Path) -> list[tuple[str, list[str], list[str], list[str]]]:
    return [
        (one.outcome, list(one.invited), list(one.answered), list(one.evaluated))
        for one in history.read(folder / "history.jsonl")
    ]


# As in virtual time


def test_a_calm_fleet_makes_the_same_rounds_and_the_same_model_in_both_modes(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    of = named(
        federation_name,
        tmp_path,
        CALM,
        rounds=f"count = 2\n{ALL}",
        task=torch_task(tmp_path),
        evaluate="test",
        every=1,
    )
    simulate(of, tmp_path / "virtual", repeat="", alone=True)
    result = live(of, tmp_path / "live", mosquitto_broker)
    assert result.finished and result.answered == 6
    assert who(tmp_path / "live") == who(tmp_path / "virtual")
    models = [load_file(tmp_path / mode / "model.safetensors") for mode in ("virtual", "live")]
    assert list(models[0]) == list(models[1])
    assert all(np.array_equal(models[0][name], models[1][name]) for name in models[0])


def test_a_run_in_which_nothing_is_learned_comes_to_its_end_in_both_modes(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    of = named(
        federation_name,
        tmp_path,
        f"{CALM}trainer_crashes = 1.0\n",
        rounds=f"count = 2\n{ALL}",
        task=torch_task(tmp_path),
    )
    virtual = simulate(of, tmp_path / "virtual", repeat="", alone=True)
    result = live(of, tmp_path / "live", mosquitto_broker)
    assert result.finished and virtual.finished
    assert (result.rounds, result.invited, result.answered) == (2, 6, 0)
    assert (virtual.rounds, virtual.invited, virtual.answered) == (2, 6, 0)
    assert who(tmp_path / "live") == who(tmp_path / "virtual")


# The fleet's time


def test_the_fleets_time_does_not_run_before_the_coordinator_does(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    of = named(
        federation_name,
        tmp_path,
        f"hours_max = 0.001\n{CALM}",
        rounds=f"count = 2\n{ALL}",
        task=torch_task(tmp_path),
    )
    # A third of a millisecond: not enough to start a program in.
    result = live(of, tmp_path / "live", mosquitto_broker, speed=10_000.0)
    assert not result.finished and result.rounds == 0
    # Its settings lie there from the moment in which its run has begun.
    assert (tmp_path / "live" / "federation.toml").exists()


def test_what_is_carried_for_the_next_round_is_not_marked_for_the_last(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    parameters, clients, count = 250_000, 2, 4
    text = f"clients = {clients}\n[device]\nms_per_sample = 0.0\nstart_s = 0.0\n"
    of = named(
        federation_name,
        tmp_path,
        text,
        rounds=f"count = {count}\ncohort = 2\nclients_min = 2\n",
        task=large_task(tmp_path, parameters),
    )
    run = tmp_path / "run"
    run.mkdir()
    told: list[Record] = []
    crew = of.crew(names(clients))
    outcome = run_live(
        of,
        crew,
        samples,
        tmp_path,
        run,
        broker=mosquitto_broker.url,
        speed=1.0,
        processes=1,
        on_round=told.append,
    )
    assert outcome.is_finished and [one.round for one in told] == [1, 2, 3, 4]
    model_bytes = 4 * parameters
    for number, mark in enumerate(outcome.marks, start=1):
        models = number * clients
        assert models <= mark.bytes_down / model_bytes < models + 0.5
        assert models <= mark.bytes_up / model_bytes < models + 0.5


# What is longer than it should be is told


def test_what_does_not_keep_up_with_the_speed_is_told_before_it_begins(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of = named(
        federation_name,
        tmp_path,
        f"hours_max = 0.001\n{CALM}",
        rounds=f"count = 2\n{ALL}",
        task=torch_task(tmp_path),
    )
    live(of, tmp_path / "fast", mosquitto_broker, speed=100.0)
    assert "--speed 100 is too fast for some waits: the coordinator's keepalive is 500 s" in (
        capsys.readouterr().err
    )


# Ended too soon


def test_ctrl_c_keeps_what_is_there_and_says_where(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    fleet(
        tmp_path,
        CALM,
        rounds=f"count = 100000\n{ALL}",
        task=torch_task(tmp_path),
    )
    run = tmp_path / "run"
    words = shlex.split(
        f"fedmqtt simulate {tmp_path / 'fleet.toml'} --run {run} --set"
        f" federation.name={federation_name} --live --speed 10 --broker {mosquitto_broker.url}"
    )
    with running(tmp_path, *words) as program:
        program.wait_for("round 2 ")
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130, program.log
    assert "Traceback" not in program.log
    assert f"stopped; what there is lies in {run}" in program.log
    marks = page(run).rounds
    assert len(marks) >= 2 and len(history.read(run / "history.jsonl")) >= 2
    assert (run / "model.safetensors").exists() and (run / "fleet.toml").exists()


def test_a_coordinator_that_ends_early_is_told_of_and_what_there_is_is_kept(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    of = named(
        federation_name, tmp_path, CALM, rounds=f"count = 2\n{ALL}", task=torch_task(tmp_path)
    )
    run = tmp_path / "run"
    run.mkdir()
    # As if another used it.
    lock = FolderLock(run)
    with pytest.raises(LiveRunError, match=r"ended early; .*coordinator\.log says why"):
        live(of, run, mosquitto_broker)
    lock.release()
    assert "is in use" in (run / "coordinator.log").read_text()
    assert page(run).rounds == [] and (run / "fleet.toml").exists()
