"""A trainer's work takes as long as the device would: real trainers, a clock in the test's hand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_client.outbox import Outbox
from edge_client.trainer_pool import TrainerPool
from edge_client.training_job import Done, Failed, FromTrainer, Job, Progress, Rebuild, Rebuilt
from fedmqtt import codec_chain, deltas, weights
from fedmqtt.effects import Seconds
from fedmqtt.messages import Method, Training, Update, read_from_client
from fleet_sim.device_trainers import Device as Played
from fleet_sim.device_trainers import DeviceTrainers, Overruns
from fleet_sim.failures import TRAINER_DIED
from fleet_sim.hardware import Battery, Charge, Hardware
from fleet_sim.live_clock import LiveClock
from tests.edge_client.jobs import job, model_file, task_file
from tests.fleet_sim.hand_clock import HandLoop


class Device:
    def __init__(self, folder: Path) -> None:
        self.loop = HandLoop()
        self.folder = folder
        self.overruns = Overruns()
        self.pool = TrainerPool(self.loop, keep_warm_s=1e9)
        self.said: list[FromTrainer] = []
        # Empty after an hour of training, from half full; it lasts for ever without.
        self.charge = Charge(Battery(training_h=2.0, idle_h=1e9), [], 0.5)

    def trainers(
        self,
        work_s: Seconds,
        dies_after: Callable[[Job], float | None] = lambda job: None,
        speed: float = 1.0,
    ) -> DeviceTrainers:
        clock = LiveClock(self.loop, speed)
        played = Played(Hardware(0.0, work_s, charge=self.charge))
        return DeviceTrainers(clock, self.pool, played, dies_after, self.overruns)

    @property
    def answers(self) -> int:
        return len(list((self.folder / "outbox").glob("*.answer")))

    def works(self, trainers: DeviceTrainers) -> None:
        """Until the answer is there, in truth."""
        self.loop.until(lambda: trainers.withheld == 1)
        assert self.answers == 1

    @property
    def ends(self) -> list[FromTrainer]:
        return [one for one in self.said if not isinstance(one, Progress)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.pool.close()
    device.loop.close()


def test_an_answer_is_told_of_when_the_devices_time_has_passed(device: Device) -> None:
    trainers = device.trainers(100.0)
    trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    device.loop.pass_until(99.0)
    assert device.ends == []
    device.loop.pass_until(100.0)
    (done,) = device.ends
    assert isinstance(done, Done)
    # The file is there, whole, and as it was told.
    (answer,), damaged = Outbox(device.folder / "outbox").answers()
    assert (answer.digest, damaged) == (done.digest, ())
    assert device.overruns.jobs == 0


def test_a_model_is_made_of_deltas_in_no_time_of_the_device(device: Device) -> None:
    trainers = device.trainers(100.0)
    old, new = model_file(), model_file(plus=1.0)
    (device.folder / "old").write_bytes(old)
    chain, (_, before), (_, after) = codec_chain.read("full"), weights.read(old), weights.read(new)
    delta, _ = deltas.write(chain, weights.digest(old), 1, before, after)
    (device.folder / "delta").write_bytes(delta)
    order = Rebuild(
        base_path=str(device.folder / "old"),
        delta_paths=[str(device.folder / "delta")],
        model_path=str(device.folder / "new.model"),
        digest=weights.digest(new),
    )
    trainers.submit(order, device.said.append)
    device.loop.until(lambda: bool(device.said))
    assert device.said == [Rebuilt()]
    assert (device.folder / "new.model").read_bytes() == new
    # One that is given up is heard of no more: the next job's answer comes alone.
    trainers.cancel(trainers.submit(order, device.said.append))
    trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    assert device.said[1:] == [one for one in device.said[1:] if isinstance(one, Progress)]


def test_the_devices_time_runs_at_the_swarms_speed(device: Device) -> None:
    trainers = device.trainers(100.0, speed=100.0)
    trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    device.loop.pass_until(0.99)
    assert device.ends == []
    device.loop.pass_until(1.0)
    assert len(device.ends) == 1


def test_who_stops_before_its_time_has_no_answer(device: Device) -> None:
    trainers = device.trainers(100.0)
    ticket = trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    trainers.cancel(ticket)
    assert device.answers == 0
    device.loop.pass_until(1000.0)
    assert device.ends == []


def test_what_would_be_remembered_with_an_answer_goes_with_it(device: Device) -> None:
    trainers, memory = device.trainers(100.0), device.folder / "memory"
    remembers = job(device.folder, codec="topk(share=0.5)+full", memory=str(memory))
    ticket = trainers.submit(remembers, device.said.append)
    device.works(trainers)
    assert len(list(memory.iterdir())) == 1
    trainers.cancel(ticket)
    assert device.answers == 0 and list(memory.iterdir()) == []


def test_who_stops_while_it_works_in_truth_hears_nothing(device: Device) -> None:
    task = task_file(device.folder, "slow", "for n in range(10**9):\n    progress(0.0)")
    trainers = device.trainers(100.0)
    ticket = trainers.submit(job(device.folder, task=task), device.said.append)
    device.loop.settle()
    trainers.cancel(ticket)
    trainers.cancel(ticket)
    # The pool's trainer is free for the next one.
    trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    device.loop.pass_until(1000.0)
    assert len(device.ends) == 1 and isinstance(device.ends[0], Done)


def test_a_trainer_that_dies_takes_the_answer_with_it(device: Device) -> None:
    trainers = device.trainers(100.0, lambda job: 0.25)
    trainers.submit(job(device.folder), device.said.append)
    # Finished here, and not on the device.
    device.works(trainers)
    device.loop.pass_until(24.0)
    assert device.ends == []
    device.loop.pass_until(25.0)
    assert device.ends == [Failed(reason=TRAINER_DIED)] and device.answers == 0
    device.loop.pass_until(1000.0)
    assert len(device.ends) == 1


def test_a_trainer_that_dies_on_the_device_stops_working_here(device: Device) -> None:
    task = task_file(device.folder, "slow", "for n in range(10**9):\n    progress(0.0)")
    trainers = device.trainers(100.0, lambda job: 0.25)
    trainers.submit(job(device.folder, task=task), device.said.append)
    device.loop.settle()
    device.loop.pass_until(25.0)
    assert device.ends == [Failed(reason=TRAINER_DIED)]
    # The pool's trainer is free for the next one.
    others = device.trainers(100.0)
    others.submit(job(device.folder), device.said.append)
    device.works(others)


def test_what_really_fails_is_told_at_once(device: Device) -> None:
    task = task_file(device.folder, "bad", "raise TaskError('no data')")
    device.trainers(100.0).submit(job(device.folder, task=task), device.said.append)
    device.loop.until(lambda: bool(device.ends))
    assert device.ends == [Failed(reason="no data")]


def test_work_that_takes_longer_here_than_there_is_counted(device: Device) -> None:
    device.trainers(10.0).submit(job(device.folder), device.said.append)
    device.loop.at = 25.0
    device.loop.until(lambda: bool(device.ends))
    assert (device.overruns.jobs, device.overruns.worst_s) == (1, 15.0)


def test_work_drains_the_battery_for_as_long_as_it_lasts(device: Device) -> None:
    trainers = device.trainers(7200.0)
    ticket = trainers.submit(job(device.folder), device.said.append)
    device.works(trainers)
    device.loop.pass_until(1800.0)
    assert device.charge.reading(1800.0).battery == 25
    trainers.cancel(ticket)
    assert device.charge.reading(7200.0).battery == 25


def test_work_takes_as_long_as_there_is_data(tmp_path: Path) -> None:
    played = Played(Hardware(10.0, 5.0), train_samples=300, evaluate_samples=60)
    epochs = Training(epochs=2)
    # 10 ms for each of 600 samples; measuring takes a third of that.
    assert played.work_s(job(tmp_path, training=epochs)) == 5.0 + 6.0
    assert played.work_s(job(tmp_path, training=epochs, measure_base=True)) == 5.0 + 6.0 + 0.2
    assert played.work_s(job(tmp_path, purpose="evaluate")) == 5.0 + 0.2
    assert Played().work_s(job(tmp_path)) == 0.0


def test_who_is_too_slow_makes_the_steps_that_its_device_has_time_for(device: Device) -> None:
    # 60 samples in 6 batches, 10 s each: 63 s with the start of the trainer.
    played = Played(Hardware(1000.0, 3.0), train_samples=60)
    clock = LiveClock(device.loop, 1.0)
    trainers = DeviceTrainers(clock, device.pool, played, lambda job: None, device.overruns)
    work = job(
        device.folder,
        training=Training(batch_size=10),
        method=Method(partial=True),
        stop_at=clock.now() + 47.0,
    )
    trainers.submit(work, device.said.append)
    device.works(trainers)
    device.loop.pass_until(42.0)
    assert device.ends == []
    device.loop.pass_until(43.0)
    (done,) = device.ends
    assert isinstance(done, Done)
    (answer,), _ = Outbox(device.folder / "outbox").answers()
    update = read_from_client(Outbox(device.folder / "outbox").read(answer))
    assert isinstance(update, Update) and update.steps == 4
