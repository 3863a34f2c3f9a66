"""A client that is killed, at any moment, has lost nothing that it had finished.

Real processes, ended as a flat battery ends them.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.disclosed import Disclosed
from edge_client.disclosed_file import DisclosedFile
from edge_client.outbox import Outbox
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import (
    Chunk,
    FromClient,
    Go,
    Method,
    Update,
    encode,
    read_from_client,
    task_name,
)
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId
from tests.edge_client.client_process import Client, client
from tests.edge_client.coordinator_side import RUN, Coordinator
from tests.edge_client.jobs import LINEAR, model_file, task_file
from tests.edge_client.little_disk import little_disk
from tests.fedmqtt.own_brokers import free_port, own_broker
from tests.fedmqtt.peer import until
from tests.programs import wait_until

pytestmark = pytest.mark.broker

UPDATE = Update(
    run=RUN,
    round=RoundId(7),
    base=Digest("b" * 64),
    fingerprint="f",
    sample_count=3,
    codec="full",
    payload=memoryview(bytes(50_000)),
)


class Phone:
    """What outlasts the program: the folder, and the federation that it takes part in."""

    def __init__(self, coordinator: Coordinator, url: str, federation: str, folder: Path) -> None:
        self.coordinator = coordinator
        self.outbox = folder / "state" / "outbox"
        self._url = url
        self._federation = federation
        self._folder = folder

    def life(self, *more: str, task: str = LINEAR) -> AbstractContextManager[Client]:
        """The program, from a start to its end."""
        words = ("--data", str(self._folder), *more)
        return client(self._url, self._federation, self._folder / "state", *words, task=task)

    def offer(self, number: int, task: str = LINEAR, **changes: Any) -> None:
        model = self.coordinator.publish_model(model_file())
        self.coordinator.offer(number, model, task_name(task), **changes)

    def owes(self) -> list[str]:
        return sorted(path.name for path in self.outbox.glob("*.answer"))

    def told(self) -> Disclosed:
        return DisclosedFile(self.outbox.parent, self._federation).read()

    def receive(self, loop: EventLoop, number: int) -> None:
        self.coordinator.receipt("ann", number)
        until(loop, lambda: not self.owes(), "an empty outbox")

    def deliver(self, loop: EventLoop, answer: FromClient) -> None:
        """The next life sends it, the same to the last byte; the one after has nothing to send."""
        self.coordinator.link.perform(Publish(OfferBoard(), None))
        assert isinstance(answer, Update)
        with self.life() as killed:
            assert self.coordinator.answer("ann") == answer
            self.receive(loop, answer.round)
            killed.end_by(signal.SIGKILL)
        with self.life():
            # What is owed goes out at once, before anything that is asked.
            self.offer(100)
            following = self.coordinator.answer("ann")
            assert isinstance(following, Update)
            assert following.round == 100


@pytest.fixture
def phone(
    loop: EventLoop, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> Iterator[Phone]:
    coordinator = Coordinator(loop, broker.url, federation_name)
    yield Phone(coordinator, broker.url, federation_name, tmp_path)
    coordinator.link.close([Publish(OfferBoard(), None)])


class PatientTask:
    """It says that it trains, and ends when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._started = folder / "started"
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        lines = '(here / "started").touch()\n(here / "gate").read_text()'
        self.path = task_file(folder, "waits", lines)

    def wait_until_it_trains(self, loop: EventLoop) -> None:
        until(loop, self._started.exists, "a training")
        self._started.unlink()

    def end(self) -> None:
        self._gate.write_text("")


@pytest.fixture
def patient(tmp_path: Path) -> PatientTask:
    return PatientTask(tmp_path)


def _finish_unheard(loop: EventLoop, phone: Phone, patient: PatientTask) -> None:
    with phone.life(task=patient.path) as killed:
        phone.offer(1, patient.path)
        patient.wait_until_it_trains(loop)
        # From now on it neither hears its trainer nor says anything to the broker.
        killed.process.send_signal(signal.SIGSTOP)
        patient.end()
        wait_until(lambda: bool(phone.owes()))
        killed.end_by(signal.SIGKILL)


def test_killed_in_the_instant_in_which_its_answer_is_finished(
    loop: EventLoop, phone: Phone, patient: PatientTask
) -> None:
    _finish_unheard(loop, phone, patient)
    outbox = Outbox(phone.outbox)
    (answer,) = outbox.answers()[0]
    phone.deliver(loop, read_from_client(outbox.read(answer)))


def test_killed_between_its_answer_and_the_receipt(loop: EventLoop, phone: Phone) -> None:
    with phone.life() as killed:
        phone.offer(1)
        answer = phone.coordinator.answer("ann")
        killed.end_by(signal.SIGKILL)
    phone.deliver(loop, answer)


def test_killed_while_it_sends(loop: EventLoop, phone: Phone) -> None:
    small = ("--set", "link.chunk_bytes=1024")
    Outbox(phone.outbox).put(RUN, RoundId(7), [encode(UPDATE)])
    with phone.life(*small) as killed:
        announce = phone.coordinator.announced("ann")
        go = Go(run=RUN, round=RoundId(7), digest=announce.digest, ranges=((0, 50),))
        phone.coordinator.link.perform(Publish(Inbox(ClientId("ann")), go))
        assert isinstance(phone.coordinator.answer("ann", "3"), Chunk)
        killed.end_by(signal.SIGKILL)
    with phone.life(*small):
        assert phone.coordinator.announced("ann") == announce
        assert phone.coordinator.collect("ann", announce) == UPDATE
        phone.receive(loop, 7)


def test_started_on_a_full_disk_it_sends_what_it_owes(loop: EventLoop, phone: Phone) -> None:
    """The receipt lets go of just what fills the disk."""
    Outbox(phone.outbox).put(RUN, RoundId(7), [encode(UPDATE)])
    with ExitStack() as life:
        # Its own limit from its first moment on; ours is lifted again.
        with little_disk(0):
            life.enter_context(phone.life())
        assert phone.coordinator.answer("ann") == UPDATE
        phone.receive(loop, 7)


def test_on_a_full_disk_an_answer_is_sent_and_let_go_when_it_can_be_counted(
    loop: EventLoop, phone: Phone, patient: PatientTask
) -> None:
    _finish_unheard(loop, phone, patient)
    with ExitStack() as life:
        with little_disk(0):
            life.enter_context(phone.life(task=patient.path))
        assert isinstance(phone.coordinator.answer("ann"), Update)
        phone.coordinator.receipt("ann", 1)
        assert phone.coordinator.presence("ann", online=True, note="outbox: ").note
        assert len(phone.owes()) == 1 and not phone.told().bare
    with phone.life(task=patient.path):
        assert isinstance(phone.coordinator.answer("ann"), Update)
        phone.receive(loop, 1)
        assert phone.told().bare


def test_killed_while_it_trains(loop: EventLoop, phone: Phone, patient: PatientTask) -> None:
    with phone.life(task=patient.path) as killed:
        phone.offer(1, patient.path)
        patient.wait_until_it_trains(loop)
        killed.end_by(signal.SIGKILL)
    assert phone.owes() == []
    with phone.life(task=patient.path):
        # The offer is still there, and nothing has been answered.
        patient.wait_until_it_trains(loop)
        patient.end()
        assert isinstance(phone.coordinator.answer("ann"), Update)
        assert len(phone.owes()) == 1
        phone.receive(loop, 1)


def test_finished_without_a_broker_and_kept_through_many_lives_without_one(
    loop: EventLoop, federation_name: str, tmp_path: Path, patient: PatientTask
) -> None:
    port = free_port()
    with ExitStack() as first_broker:
        url = first_broker.enter_context(own_broker("mosquitto", tmp_path, port))
        coordinator = Coordinator(loop, url, federation_name)
        phone = Phone(coordinator, url, federation_name, tmp_path)
        with phone.life(task=patient.path) as life:
            phone.offer(1, patient.path)
            patient.wait_until_it_trains(loop)
            coordinator.link.close()
            first_broker.close()
            life.says("lost")
            patient.end()
            wait_until(lambda: bool(phone.owes()))
            life.end_by(signal.SIGKILL)
    for number in (signal.SIGKILL, signal.SIGTERM):
        with phone.life() as life:
            life.says("cannot reach")
            life.end_by(number)
    outbox = Outbox(phone.outbox)
    (answer,) = outbox.answers()[0]
    with own_broker("mosquitto", tmp_path, port):
        phone.coordinator.connect()
        phone.deliver(loop, read_from_client(outbox.read(answer)))
        coordinator.link.close()


def test_what_it_remembers_outlives_it_and_waits_for_the_receipt(
    loop: EventLoop, phone: Phone
) -> None:
    method = Method(difference=True, fraction_bits=24)
    memory = phone.outbox.with_name("memory")
    with phone.life() as killed:
        phone.offer(1, method=method)
        first = phone.coordinator.answer("ann")
        assert isinstance(first, Update) and first.since == 0
        killed.end_by(signal.SIGKILL)
    (pending,) = memory.iterdir()
    assert pending.suffix == ".pending"
    phone.coordinator.link.perform(Publish(OfferBoard(), None))
    with phone.life() as killed:
        assert phone.coordinator.answer("ann") == first
        phone.receive(loop, 1)
        killed.end_by(signal.SIGKILL)
    assert [path.name for path in memory.iterdir()] == [f"{RUN}.memory"]
    with phone.life():
        phone.offer(2, method=method)
        second = phone.coordinator.answer("ann")
        assert isinstance(second, Update) and second.since == 1
        # It is refused, and what it belongs to goes with it.
        phone.coordinator.receipt("ann", 2, accepted=False)
        until(loop, lambda: not phone.owes(), "an empty outbox")
    assert [path.name for path in memory.iterdir()] == [f"{RUN}.memory"]
