"""`fedmqtt export tensorboard`, read back by TensorBoard's own reader."""

import resource
import signal
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from broker_config.local_broker import RunningBroker
from round_monitor.export.tensorboard import Curves
from tests.programs import running, wait_until
from tests.round_monitor import pages
from tests.round_monitor.export import growing_run
from tests.round_monitor.export.growing_run import Points


def _read(logdir: Path) -> dict[str, Points]:
    """What TensorBoard shows of this folder, by run; each number as often as it is there."""
    reader = EventMultiplexer(purge_orphaned_data=False).AddRunsFromDirectory(str(logdir))
    reader.Reload()
    return {
        run: {
            tag: [(event.step, event.value) for event in reader.Scalars(run, tag)]
            for tag in tags["scalars"]
        }
        for run, tags in reader.Runs().items()
    }


def _single(points: Points) -> Points:
    """As float32, which event files hold."""
    import numpy as np

    return {
        name: [(step, float(np.float32(value))) for step, value in those]
        for name, those in points.items()
    }


def test_each_round_is_a_step_of_each_curve(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    for last in (1, 3):
        curves.take("run.7", growing_run.lines(1, last))
    curves.close()
    assert _read(tmp_path) == {"run.7": _single(growing_run.points(growing_run.lines(1, 3)))}


def test_another_run_is_another_curve(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.take("run.7", growing_run.lines(1, 2))
    curves.take("run.8", growing_run.lines(1, 1))
    curves.take("", [])
    curves.close()
    assert _read(tmp_path) == {
        "run.7": _single(growing_run.points(growing_run.lines(1, 2))),
        "run.8": _single(growing_run.points(growing_run.lines(1, 1))),
    }


def test_started_again_it_goes_on_and_makes_no_file_while_nothing_is_new(tmp_path: Path) -> None:
    for last in (2, 2, 4):
        curves = Curves(tmp_path)
        curves.take("run.7", growing_run.lines(1, last))
        curves.close()
    assert len(list((tmp_path / "run.7").iterdir())) == 2
    assert _read(tmp_path) == {"run.7": _single(growing_run.points(growing_run.lines(1, 4)))}


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_what_a_kill_cut_short_is_written_once(tmp_path: Path, cut: int) -> None:
    first = Curves(tmp_path)
    first.take("run.7", growing_run.lines(1, 3))
    first.close()
    (path,) = (tmp_path / "run.7").iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    second = Curves(tmp_path)
    second.take("run.7", growing_run.lines(1, 4))
    second.close()
    read = _read(tmp_path)["run.7"]
    assert {name: sorted(those) for name, those in read.items()} == _single(
        growing_run.points(growing_run.lines(1, 4))
    )


@pytest.mark.broker
def test_a_program_that_is_killed_and_started_again_doubles_nothing(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    logdir = tmp_path / "curves"
    words = [
        *("fedmqtt", "export", "tensorboard", "--logdir", str(logdir)),
        *("--broker", broker.url, "--federation", federation_name),
    ]
    run = f"{federation_name}/run.7"

    def has(last: int) -> bool:
        losses = _read(logdir).get(run, {}).get("train/loss", [])
        return len(losses) >= last

    pages.publish(broker.url, federation_name, growing_run.told("run.7", 3))
    with running(tmp_path, *words) as program:
        wait_until(lambda: has(3))
        program.process.send_signal(signal.SIGKILL)
    pages.publish(broker.url, federation_name, growing_run.told("run.7", 5))
    with running(tmp_path, *words) as program:
        wait_until(lambda: has(5))
        with running(tmp_path, *words) as second:
            assert second.wait() == 1
        assert f"{logdir / federation_name} is in use by process" in second.log
    assert program.wait() == 0, program.log
    assert _read(logdir) == {run: _single(growing_run.points(growing_run.lines(1, 5)))}


def test_a_folder_that_cannot_be_made_ends_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    logdir = str(tmp_path / "file")
    words = ("--logdir", logdir, "--broker", "mqtt://127.0.0.1:1", "--federation", "f")
    with running(tmp_path, "fedmqtt", "export", "tensorboard", *words) as program:
        assert program.wait() == 1
    assert program.log.splitlines()[-1] == (
        f"fedmqtt export tensorboard: {logdir}/f: Not a directory; give --logdir a folder that can"
        " be made"
    )


@pytest.mark.broker
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_disk_without_room_ends_it_with_a_sentence_and_then_it_goes_on(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url, logdir = mosquitto_broker.url, tmp_path / "curves"
    words = [
        *("fedmqtt", "export", "tensorboard", "--logdir", str(logdir)),
        *("--broker", url, "--federation", federation_name),
    ]
    with running(tmp_path, *words) as program:
        program.wait_for("nothing published for a federation")
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (2000, 2000))
        pages.publish(url, federation_name, growing_run.told("run.7", 30))
        assert program.wait() == 1
    assert program.log.splitlines()[-1] == (
        f"fedmqtt export tensorboard: {logdir / federation_name}: File too large"
    )
    assert "Traceback" not in program.log
    run = f"{federation_name}/run.7"

    def has(last: int) -> bool:
        return len(_read(logdir).get(run, {}).get("train/loss", [])) >= last

    with running(tmp_path, *words):
        wait_until(lambda: has(30))
    wanted = growing_run.points(growing_run.lines(1, 30))
    read = _read(logdir)[run]
    assert {name: sorted(those) for name, those in read.items()} == _single(wanted)
