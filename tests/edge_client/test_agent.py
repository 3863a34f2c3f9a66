"""The agent's whole life, against a coordinator that the test plays over a real broker."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker_config.local_broker import RunningBroker
from edge_client import disclosed, models, outbox, session
from edge_client.agent import Agent, state_dir_fault
from edge_client.conditions import Conditions, Reading
from edge_client.config import ClientConfig, Link
from edge_client.disclosed_file import DisclosedFile
from edge_client.outbox import Outbox
from edge_client.trainer_pool import TrainerPool
from fedmqtt import pace, weights
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import (
    EVERYBODY,
    Chunk,
    Decline,
    Evaluation,
    Go,
    Method,
    Presence,
    SlowLinks,
    Sortition,
    Training,
    Update,
    encode,
    read_from_client,
    task_name,
)
from fedmqtt.mqtt_link import Arrived, parse_broker_url
from fedmqtt.topics import (
    Address,
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    UpdatePart,
)
from tests.edge_client.coordinator_side import RUN, Coordinator
from tests.edge_client.jobs import LINEAR, model_file, task_file
from tests.faults.proxy import proxy_to
from tests.fedmqtt.own_brokers import free_port, own_broker
from tests.fedmqtt.peer import until
from tests.offers import offer

pytestmark = pytest.mark.broker

ANN = ClientId("ann")

# Its answers have 100 kB.
_LARGE_TASK = """
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {"w": np.zeros(25_000, np.float32)}

def load_data(data_dir, client, purpose):
    return None

def train(weights, data, training, seed, progress):
    return Trained({"w": weights["w"] + 1}, 10, {})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


def _link(**settings: Any) -> Link:
    """As on a device, but that the broker tells of a lost link at once."""
    return Link(will_delay_s=0, retry_max_s=0.2, **settings)


class Device:
    """Where an agent lives: its folder outlasts it."""

    def __init__(self, loop: EventLoop, url: str, federation: str, folder: Path) -> None:
        self._loop = loop
        self._pool = TrainerPool(loop)
        self.folder = folder
        self.url = url
        self.federation = federation
        self.agents: list[Agent] = []
        self.happened: list[session.Event] = []

    def start(self, task: str = LINEAR, **settings: Any) -> Agent:
        agent = self.make(task, **settings)
        agent.start()
        return agent

    def make(self, task: str = LINEAR, **settings: Any) -> Agent:
        """One that does nothing yet."""
        reading = settings.pop("reading", Reading)
        settings.setdefault("link", _link())
        config = ClientConfig(
            broker=self.url,
            federation=self.federation,
            id="ann",
            task=task,
            data=str(self.folder),
            state=str(self.folder / "state"),
            **settings,
        )
        agent = Agent(
            self._loop,
            parse_broker_url(self.url),
            config,
            self._pool,
            self.happened.append,
            reading,
        )
        self.agents.append(agent)
        return agent

    def outbox(self) -> Outbox:
        return Outbox(self.folder / "state" / "outbox")

    def owes(self) -> list[int]:
        # Not `answers`: it sweeps away what a trainer is just writing.
        files = self.outbox().folder.glob("*.answer")
        return sorted(int(path.name.split("-")[-2]) for path in files)

    def has_seen(self, kind: type[session.Event]) -> bool:
        return any(isinstance(event, kind) for event in self.happened)

    def end(self) -> None:
        for agent in self.agents:
            agent.stop()
        self._pool.close()


@pytest.fixture
def coordinator(
    loop: EventLoop, broker: RunningBroker, federation_name: str
) -> Iterator[Coordinator]:
    coordinator = Coordinator(loop, broker.url, federation_name)
    yield coordinator
    coordinator.link.close([Publish(OfferBoard(), None)])


@pytest.fixture
def device(
    loop: EventLoop, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> Iterator[Device]:
    device = Device(loop, broker.url, federation_name, tmp_path)
    yield device
    device.end()


@pytest.fixture
def large_task(tmp_path: Path) -> str:
    path = tmp_path / "large.py"
    path.write_text(_LARGE_TASK)
    return str(path)


def _large_model() -> bytes:
    initial = {"w": np.zeros(25_000, np.float32)}
    layout = weights.layout_of(initial)
    return weights.write(layout, layout.flatten(initial))


# A round


def test_a_round_from_the_offer_to_the_receipt(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.start()
    born = coordinator.presence("ann", online=True)
    assert (born.task, born.purposes, born.note) == (task_name(LINEAR), ("train", "evaluate"), "")
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR))
    update = coordinator.answer("ann")
    assert isinstance(update, Update)
    assert (update.round, update.base, update.sample_count) == (1, model.digest, 60)
    assert device.owes() == [1]
    coordinator.receipt("ann", 1)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_an_offer_that_is_said_to_it_alone_is_taken_up_once_as_one_on_the_board(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    file = model_file()
    said = coordinator.offer_of(1, coordinator.ref(file), task_name(LINEAR), model_file=file)
    for _ in range(2):
        coordinator.link.perform(Publish(Inbox(ANN), said))
    update = coordinator.answer("ann")
    assert isinstance(update, Update) and update.round == 1
    # The board's comes late: it is no news, and what is owed is sent again.
    coordinator.link.perform(Publish(OfferBoard(), said))
    assert coordinator.answer("ann") == update
    coordinator.receipt("ann", 1)
    until(loop, lambda: not device.owes(), "an empty outbox")
    works = [one for one in device.happened if isinstance(one, session.Finished)]
    assert len(works) == 1


def test_a_download_that_stands_still_is_asked_for_again(
    coordinator: Coordinator, device: Device, large_task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "STALLED_S", 0.2)
    agent = device.start(large_task)
    coordinator.presence("ann", online=True)
    subscribe, lost = agent.link.subscribe, list[Address]()

    def lose_the_first(addresses: Iterable[Address]) -> None:
        asked = list(addresses)
        if lost:
            subscribe(asked)
        lost.extend(asked)

    monkeypatch.setattr(agent.link, "subscribe", lose_the_first)
    model = coordinator.publish_model(_large_model())
    coordinator.offer(1, model, task_name(large_task))
    update = coordinator.answer("ann")
    assert isinstance(update, Update) and update.base == model.digest
    assert isinstance(lost[0], ModelChunk)


def test_an_asynchronous_round_that_is_about_to_close_stops_nobody_in_partial_work(
    coordinator: Coordinator, device: Device
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    asked = {"method": Method(partial=True), "asynchronous": True, "late_rounds": 9}
    # All of what is left is for sending.
    coordinator.offer(1, model, task_name(LINEAR), closes_in_s=1.0, **asked)
    update = coordinator.answer("ann")
    assert isinstance(update, Update)
    assert update.steps == Training().steps(60) > 1


def test_its_owners_label_comes_with_its_presence(coordinator: Coordinator, device: Device) -> None:
    device.start(label="site 7")
    assert coordinator.presence("ann", online=True).label == "site 7"


def test_rounds_follow_one_another(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    for number in (1, 2, 3):
        coordinator.offer(number, model, task_name(LINEAR))
        update = coordinator.answer("ann")
        assert isinstance(update, Update)
        assert update.round == number
        coordinator.receipt("ann", number, accepted=number != 2)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_an_old_offer_that_comes_again_does_not_replace_the_newer_ones_model(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    old, new = model_file(), model_file(plus=1.0)
    for number, file in ((1, old), (2, new), (1, old)):
        coordinator.offer(number, coordinator.ref(file), task_name(LINEAR), model_file=file)
        if number == 2:
            coordinator.answer("ann")
    coordinator.receipt("ann", 2)
    until(loop, lambda: not device.owes(), "the receipt, behind the old offer")
    (kept,) = (device.folder / "state" / "models").glob("*.model")
    assert kept.stem == coordinator.ref(new).digest


def test_a_client_that_comes_late_finds_the_open_offer(
    coordinator: Coordinator, device: Device
) -> None:
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR), train=(), evaluate=(ANN,))
    device.start()
    answer = coordinator.answer("ann")
    assert isinstance(answer, Evaluation)
    assert answer.measures.sample_count == 30


def test_who_is_not_invited_does_nothing(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    agent = device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR), train=(ClientId("bob"),))
    until(loop, lambda: device.has_seen(session.Offered))
    assert agent.state.job is None


def test_who_sees_by_sortition_that_it_is_invited_needs_no_name(
    coordinator: Coordinator, device: Device
) -> None:
    device.start()
    assert coordinator.presence("ann", online=True).draws
    # It comes with its offer, and lies nowhere else.
    file = model_file()
    drawn = Sortition(salt="s", train=EVERYBODY, evaluate=EVERYBODY)
    nobody: dict[str, Any] = {"train": (), "evaluate": (), "model_file": file}
    coordinator.offer(1, coordinator.ref(file), task_name(LINEAR), sortition=drawn, **nobody)
    update = coordinator.answer("ann")
    assert isinstance(update, Update)
    assert update.measures is not None and update.measures.sample_count == 30


def test_who_is_not_drawn_does_nothing(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    agent = device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    drawn = Sortition(salt="s", train=0, evaluate=0)
    coordinator.offer(1, model, task_name(LINEAR), sortition=drawn)
    until(loop, lambda: device.has_seen(session.Offered))
    assert agent.state.job is None


def test_a_large_answer_is_announced_and_sent_when_the_coordinator_says_go(
    loop: EventLoop, coordinator: Coordinator, device: Device, large_task: str
) -> None:
    device.start(large_task, link=_link(chunk_bytes=10_000))
    coordinator.presence("ann", online=True)
    coordinator.offer(1, coordinator.publish_model(_large_model()), task_name(large_task))
    announce = coordinator.announced("ann")
    assert announce.chunk_bytes == 10_000
    assert announce.size_bytes > 100_000
    update = coordinator.collect("ann", announce)
    assert isinstance(update, Update)
    assert update.payload.nbytes == 100_000
    coordinator.receipt("ann", 1)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_chunks_fit_the_largest_packet_of_the_broker(
    loop: EventLoop, tmp_path: Path, federation_name: str, large_task: str
) -> None:
    with own_broker("mosquitto", tmp_path, free_port(), ["max_packet_size 20000"]) as url:
        coordinator = Coordinator(loop, url, federation_name)
        device = Device(loop, url, federation_name, tmp_path)
        agent = device.start(large_task)
        coordinator.presence("ann", online=True)
        coordinator.offer(1, coordinator.publish_model(_large_model()), task_name(large_task))
        announce = coordinator.announced("ann")
        assert 10_000 < announce.chunk_bytes < 20_000
        assert isinstance(coordinator.collect("ann", announce), Update)
        assert agent.link.is_up
        device.end()
        coordinator.link.close()


# Coming and going


def test_who_vanishes_while_it_works_delivers_when_it_is_back(
    loop: EventLoop, coordinator: Coordinator, device: Device, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    task = task_file(tmp_path, "waits", '(here / "gate").read_text()')
    agent = device.start(task)
    coordinator.presence("ann", online=True)
    coordinator.offer(1, coordinator.publish_model(model_file()), task_name(task))
    until(loop, lambda: isinstance(agent.state.job, session.Working))
    agent.link.cut(None)
    coordinator.presence("ann", online=False)
    (tmp_path / "gate").write_text("")
    until(loop, lambda: device.has_seen(session.Finished))
    assert device.owes() == [1]
    agent.link.open()
    assert isinstance(coordinator.answer("ann"), Update)
    coordinator.receipt("ann", 1)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_who_vanishes_while_it_fetches_goes_on_when_it_is_back(
    loop: EventLoop, coordinator: Coordinator, device: Device, large_task: str
) -> None:
    agent = device.start(large_task)
    coordinator.presence("ann", online=True)
    whole = _large_model()
    model = coordinator.publish_model(whole)
    # The chunk in the middle is not there yet.
    coordinator.link.publish(ModelChunk(model.digest, 12), b"")
    coordinator.offer(1, model, task_name(large_task))
    arrived = model.size_bytes // 2
    until(loop, lambda: agent.link.bytes_received > arrived)
    agent.link.cut(0.01)
    coordinator.presence("ann", online=False)
    coordinator.presence("ann", online=True)
    coordinator.link.publish(ModelChunk(model.digest, 12), whole[12 * 4096 : 13 * 4096])
    assert isinstance(coordinator.answer("ann"), Update)


def test_a_model_that_was_cut_anew_while_it_was_fetched_is_fetched_in_its_new_chunks(
    loop: EventLoop, coordinator: Coordinator, device: Device, large_task: str
) -> None:
    agent = device.start(large_task)
    coordinator.presence("ann", online=True)
    whole = _large_model()
    model = coordinator.publish_model(whole)
    # A chunk that is not there: the fetch does not end.
    coordinator.link.publish(ModelChunk(model.digest, 12), b"")
    coordinator.offer(1, model, task_name(large_task))
    arrived = model.size_bytes // 2
    until(loop, lambda: agent.link.bytes_received > arrived)
    coordinator.offer(1, coordinator.publish_model(whole, 2048), task_name(large_task))
    assert isinstance(coordinator.answer("ann"), Update)


def test_an_answer_of_an_earlier_life_is_delivered_by_the_next(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    update = Update(
        run=RUN,
        round=RoundId(7),
        base=Digest("b" * 64),
        fingerprint="f",
        sample_count=3,
        codec="full",
        payload=memoryview(b"learned"),
    )
    device.outbox().put(RUN, RoundId(7), [encode(update)])
    device.start()
    assert coordinator.answer("ann") == update
    coordinator.receipt("ann", 7)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_an_answer_is_sent_again_until_its_receipt(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.outbox().put(RUN, RoundId(7), [b"whatever"])
    device.start(link=_link(resend_s=0.05))
    for _ in range(3):
        coordinator.next(Arrived, lambda arrived: arrived.payload == b"whatever")
    coordinator.receipt("ann", 7)
    until(loop, lambda: not device.owes(), "an empty outbox")


def test_answers_whose_files_have_gone_are_given_up_and_told(
    loop: EventLoop, coordinator: Coordinator, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody tidied the state folder up while the agent was running."""
    small = device.outbox().put(RUN, RoundId(7), [b"whatever"])
    large = device.outbox().put(RUN, RoundId(8), [bytes(5000)])
    agent = device.start(link=_link(resend_s=0.05, chunk_bytes=1024))
    announce = coordinator.announced("ann")
    device.outbox().forget(small)
    device.outbox().forget(large)
    go = Go(run=RUN, round=announce.round, digest=announce.digest, ranges=((0, 5),))
    coordinator.link.perform(Publish(Inbox(ANN), go))
    until(loop, lambda: not agent.state.owed, "nothing that is owed")
    for lost in (small, large):
        path = device.outbox().folder / f"r-{lost.round}-{lost.digest}.answer"
        told = f"the answer to round {lost.round} is lost: {path}: No such file or directory"
        assert caplog.messages.count(told) == 1
    coordinator.presence("ann", online=True, note="is lost")
    # The next round is as if nothing had been.
    coordinator.offer(9, coordinator.publish_model(model_file()), task_name(LINEAR))
    until(loop, lambda: device.owes() == [9])


def test_a_large_answer_that_is_damaged_while_it_is_sent_is_given_up(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    large = device.outbox().put(RUN, RoundId(8), [bytes(5000)])
    agent = device.start(link=_link(chunk_bytes=1024))
    announce = coordinator.announced("ann")
    path = device.outbox().folder / f"r-8-{large.digest}.answer"
    os.truncate(path, 3000)
    go = Go(run=RUN, round=announce.round, digest=announce.digest, ranges=((0, 5),))
    coordinator.link.perform(Publish(Inbox(ANN), go))
    first = coordinator.answer("ann")
    assert isinstance(first, Chunk)
    declined = coordinator.answer("ann")
    assert isinstance(declined, Decline)
    assert (declined.run, declined.round) == (RUN, 8)
    assert declined.reason.endswith("it is shorter than it was")
    assert agent.state.owed == ()
    assert path.with_suffix(".damaged").exists()


def test_a_large_answer_with_a_changed_bit_is_given_up_before_all_of_it_is_sent(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    """Its coordinator could only ask for all of it again, and again."""
    large = device.outbox().put(RUN, RoundId(8), [bytes(5000)])
    agent = device.start(link=_link(chunk_bytes=1024))
    announce = coordinator.announced("ann")
    path = device.outbox().folder / f"r-8-{large.digest}.answer"
    with path.open("r+b") as file:
        file.write(b"\1")
    go = Go(run=RUN, round=announce.round, digest=announce.digest, ranges=((0, 5),))
    coordinator.link.perform(Publish(Inbox(ANN), go))
    until(loop, lambda: device.has_seen(session.AnswerGone))
    declined = coordinator.answer("ann")
    while isinstance(declined, Chunk):
        declined = coordinator.answer("ann")
    assert isinstance(declined, Decline)
    assert declined.reason == f"{path}: its bytes have changed"
    assert agent.state.owed == ()
    assert path.with_suffix(".damaged").exists()
    assert _chunks_sent(coordinator) == 4, "all but the last"


def _chunks_sent(coordinator: Coordinator) -> int:
    answers = [one for one in coordinator.all(Arrived) if isinstance(one.address, UpdatePart)]
    return sum(isinstance(read_from_client(one.payload), Chunk) for one in answers)


def test_a_newer_go_takes_the_place_of_the_one_that_is_being_answered(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    """The newer one names what is missing by now: nothing else need be sent."""
    chunk_count = 2000
    device.outbox().put(RUN, RoundId(8), [bytes(1024 * chunk_count)])
    device.start(link=_link(chunk_bytes=1024))
    announce = coordinator.announced("ann")
    for ranges in (((0, chunk_count),), ((chunk_count - 1, chunk_count),)):
        go = Go(run=RUN, round=announce.round, digest=announce.digest, ranges=ranges)
        coordinator.link.perform(Publish(Inbox(ANN), go))
    coordinator.answer("ann", str(chunk_count - 1))
    assert _chunks_sent(coordinator) < chunk_count


def test_over_a_slow_link_nothing_is_said_twice(
    loop: EventLoop, coordinator: Coordinator, device: Device, broker: RunningBroker
) -> None:
    """Neither when a timer runs out nor when the coordinator asks again."""
    chunk_bytes, chunk_count = 32 * 1024, 4
    link = _link(chunk_bytes=chunk_bytes, resend_s=0.05)
    with proxy_to(broker.url) as slow:
        slow.throttle(60_000)
        device.url = slow.url
        device.outbox().put(RUN, RoundId(7), [bytes(chunk_bytes)])
        agent = device.start(link=link)
        coordinator.next(Arrived, lambda arrived: len(arrived.payload) == chunk_bytes)
        coordinator.receipt("ann", 7)
        until(loop, lambda: not device.owes(), "an empty outbox")
        assert agent.link.bytes_sent < 1.5 * chunk_bytes
        agent.stop()

        device.outbox().put(RUN, RoundId(8), [bytes(chunk_bytes * chunk_count)])
        agent = device.start(link=_link(chunk_bytes=chunk_bytes))
        announce = coordinator.announced("ann")
        everything = ((0, chunk_count),)
        go = Go(run=RUN, round=announce.round, digest=announce.digest, ranges=everything)
        for _ in range(5):
            coordinator.link.perform(Publish(Inbox(ANN), go))
        coordinator.answer("ann", str(chunk_count - 1))
        assert agent.link.bytes_sent < 1.5 * chunk_bytes * chunk_count


def test_who_finds_its_link_slow_answers_by_the_codec_for_slow_links(
    loop: EventLoop,
    coordinator: Coordinator,
    device: Device,
    broker: RunningBroker,
    large_task: str,
) -> None:
    model = coordinator.publish_model(_large_model())
    slow_links = SlowLinks(below_kbps=1_600.0, codec="int8")
    codecs = []
    with proxy_to(broker.url) as slow:
        # 800 kbit/s, and less where the machine is busy.
        slow.throttle(100_000)
        device.url = slow.url
        agent = device.start(task=large_task, link=_link(chunk_bytes=128 * 1024))
        coordinator.presence("ann", online=True)
        for number in (1, 2, 3):
            coordinator.offer(number, model, task_name(large_task), slow_links=slow_links)
            update = coordinator.answer("ann")
            assert isinstance(update, Update)
            codecs.append(update.codec)
            coordinator.receipt("ann", number)
            until(loop, lambda: not device.owes(), "an empty outbox")
        # Where the offer names none, all answer alike.
        coordinator.offer(4, model, task_name(large_task))
        update = coordinator.answer("ann")
        assert isinstance(update, Update)
        codecs.append(update.codec)
        agent.stop()
    assert codecs == ["full", "int8", "int8", "full"]


def test_a_damaged_answer_is_set_aside_and_told(
    coordinator: Coordinator, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    answer = device.outbox().put(RUN, RoundId(7), [b"whatever"])
    (path,) = device.outbox().folder.iterdir()
    path.write_bytes(b"what")
    device.start()
    note = coordinator.presence("ann", online=True).note
    aside = device.outbox().folder / f"r-7-{answer.digest}.damaged"
    assert note == f"damaged and set aside, not sent: {aside}"
    told = [record.levelname for record in caplog.records if record.message == note]
    assert told == ["ERROR"]


def test_a_disk_that_does_not_keep_an_answer_is_told(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    """It is not lost as long as there is power, so it is owed as before."""
    agent = device.start()
    coordinator.presence("ann", online=True)
    coordinator.offer(1, coordinator.publish_model(model_file()), task_name(LINEAR))
    coordinator.answer("ann")
    (path,) = device.outbox().folder.iterdir()
    path.unlink()
    # There is nothing that the kernel could force to a disk here, and it says so.
    path.symlink_to("/dev/null")
    note = coordinator.presence("ann", online=True, note="outbox: ").note
    assert note == "outbox: [Errno 22] Invalid argument"
    assert len(agent.state.owed) == 1


def _only_the_kernel_has_it(device: Device) -> None:
    """Puts in the place of the one answer what cannot be forced to a disk: the kernel says so."""
    (path,) = device.outbox().folder.iterdir()
    path.unlink()
    path.symlink_to("/dev/null")


def test_what_an_earlier_life_left_is_forced_to_the_disk_too(
    loop: EventLoop, tmp_path: Path, federation_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have ended before it did that itself."""
    device = Device(loop, f"mqtt://127.0.0.1:{free_port()}", federation_name, tmp_path)
    device.outbox().put(RUN, RoundId(7), [b"whatever"])
    agent = device.start()
    _only_the_kernel_has_it(device)
    until(loop, lambda: agent.state.trouble == "outbox: [Errno 22] Invalid argument")
    device.end()
    assert caplog.messages.count("outbox: [Errno 22] Invalid argument") == 2, "and tried at the end"


def test_what_is_owed_is_on_the_disk_when_the_agent_has_stopped(
    loop: EventLoop, tmp_path: Path, federation_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(loop, f"mqtt://127.0.0.1:{free_port()}", federation_name, tmp_path)
    device.outbox().put(RUN, RoundId(7), [b"whatever"])
    agent = device.start()
    _only_the_kernel_has_it(device)
    agent.stop()
    assert caplog.messages.count("outbox: [Errno 22] Invalid argument") == 1
    device.end()


def test_what_has_its_receipt_or_is_on_the_disk_is_not_forced_there_again(
    loop: EventLoop, coordinator: Coordinator, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SD card wears out."""
    forced: list[str] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        fsync(file)
        forced.append(str(Path(f"/proc/self/fd/{file}").readlink()))

    monkeypatch.setattr(os, "fsync", watched)
    kept = device.outbox().put(RUN, RoundId(7), [b"whatever"])
    device.outbox().put(RUN, RoundId(8), [b"whatever else"])
    agent = device.start()
    coordinator.next(Arrived, lambda arrived: arrived.payload == b"whatever else")
    coordinator.receipt("ann", 8)
    until(loop, lambda: device.owes() == [7])
    until(loop, lambda: len(forced) >= 2)
    agent.stop()
    folder = device.outbox().folder
    assert forced == [str(folder / f"r-7-{kept.digest}.answer"), str(folder)]


def test_leftovers_that_cannot_be_removed_are_told_and_hinder_nothing(
    coordinator: Coordinator, device: Device
) -> None:
    state = device.folder / "state"
    stuck = [state / "outbox" / "x.part", state / "models" / "y.part"]
    for folder in stuck:
        folder.mkdir(parents=True)
    device.start()
    note = coordinator.presence("ann", online=True).note
    names = ", ".join(f"{folder}: Is a directory" for folder in stuck)
    assert note == f"cannot be removed: {names}"
    coordinator.offer(1, coordinator.publish_model(model_file()), task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


def test_the_late_will_of_an_old_connection_is_corrected(
    coordinator: Coordinator, device: Device
) -> None:
    device.start()
    born = coordinator.presence("ann", online=True)
    late = Presence(online=False, session="of an old connection")
    coordinator.link.perform(Publish(PresenceOf(ANN), late))
    coordinator.presence("ann", online=False)
    assert coordinator.presence("ann", online=True) == born


def test_each_connection_has_its_own_session(coordinator: Coordinator, device: Device) -> None:
    agent = device.start()
    born = coordinator.presence("ann", online=True)
    agent.link.cut(0.01)
    assert coordinator.presence("ann", online=False).session == born.session
    assert coordinator.presence("ann", online=True).session != born.session


def test_who_is_stopped_says_goodbye(coordinator: Coordinator, device: Device) -> None:
    agent = device.start()
    born = coordinator.presence("ann", online=True)
    agent.stop()
    assert coordinator.presence("ann", online=False).session == born.session


@pytest.mark.parametrize("comes_with_its_offer", [True, False])
def test_who_loses_its_power_says_nothing_and_starts_no_more_work(
    loop: EventLoop, coordinator: Coordinator, device: Device, comes_with_its_offer: bool
) -> None:
    agent = device.start()
    born = coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    small = model_file() if comes_with_its_offer else b""
    coordinator.offer(1, model, task_name(LINEAR), model_file=small)
    until(loop, lambda: agent.state.job is not None, "an invitation")
    agent.vanish()
    happened = len(device.happened)
    # It is the broker that tells of it, by its will.
    assert coordinator.presence("ann", online=False).session == born.session
    assert not agent.link.is_up and device.owes() == []
    assert len(device.happened) == happened
    # Its next life is invited to the same round, and remembers nothing of it.
    device.start()
    assert isinstance(coordinator.answer("ann"), Update)
    assert device.owes() == [1]


# Two of one name

NAMESAKE = "another client calls itself 'ann': give each device an id of its own"


def _say_who_is_who(loop: EventLoop, coordinator: Coordinator, devices: list[Device]) -> None:
    """Two clients of one name, until both have noticed."""
    first = devices[0].start()
    until(loop, lambda: first.state.own.is_heard)
    second = devices[1].start()
    until(loop, lambda: NAMESAKE in first.state.trouble and NAMESAKE in second.state.trouble)
    coordinator.presence("ann", online=True, note=NAMESAKE)


@pytest.fixture
def namesakes(
    loop: EventLoop, broker: RunningBroker, federation_name: str, tmp_path: Path
) -> Iterator[list[Device]]:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    devices = [Device(loop, broker.url, federation_name, folder) for folder in folders]
    yield devices
    for device in devices:
        device.end()


def test_two_clients_of_one_name_both_notice_and_tell(
    loop: EventLoop,
    coordinator: Coordinator,
    namesakes: list[Device],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _say_who_is_who(loop, coordinator, namesakes)
    told = [record.levelname for record in caplog.records if NAMESAKE in record.message]
    assert told.count("ERROR") == 2


def test_whoever_looks_later_still_reads_why_the_link_is_lost_again_and_again(
    loop: EventLoop, federation_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker of 3.1.1 does not say that it throws one out for the other."""
    with own_broker("embedded", tmp_path, free_port()) as url:
        devices = [Device(loop, url, federation_name, tmp_path / name) for name in ("a", "b")]
        first = devices[0].start()
        until(loop, lambda: first.state.own.is_heard)
        second = devices[1].start()
        until(loop, lambda: NAMESAKE in first.state.trouble and NAMESAKE in second.state.trouble)
        caplog.clear()
        until(loop, lambda: any(NAMESAKE in message for message in caplog.messages))
        told = next(record for record in caplog.records if NAMESAKE in record.message)
        assert told.levelname == "WARNING"
        assert "next try in" in told.message
        for each in devices:
            each.end()


def test_two_clients_of_one_name_lose_nothing(
    loop: EventLoop, coordinator: Coordinator, namesakes: list[Device]
) -> None:
    for number, device in enumerate(namesakes):
        device.outbox().put(RUN, RoundId(number + 1), [b"whatever %d" % number])
    _say_who_is_who(loop, coordinator, namesakes)

    def have_arrived() -> set[bytes]:
        return {one.payload for one in coordinator.all(Arrived)}

    until(loop, lambda: have_arrived() >= {b"whatever 0", b"whatever 1"})

    def are_receipted() -> bool:
        # The one that is thrown out just now does not hear it, and would send its answer again.
        for number, device in enumerate(namesakes):
            if device.owes():
                coordinator.receipt("ann", number + 1)
        return not any(device.owes() for device in namesakes)

    until(loop, are_receipted)


# Pace


def test_a_lost_link_is_told_once_until_it_is_back(
    loop: EventLoop, tmp_path: Path, federation_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    device = Device(loop, f"mqtt://127.0.0.1:{port}", federation_name, tmp_path)

    def attempts() -> int:
        return len([one for one in device.happened if isinstance(one, session.Disconnected)])

    agent = device.start()
    until(loop, lambda: attempts() > 5)
    assert caplog.text.count(f"cannot reach mqtt://127.0.0.1:{port}: Connection refused") == 1
    with own_broker("mosquitto", tmp_path, port):
        until(loop, lambda: agent.link.is_up)
    before = attempts()
    until(loop, lambda: attempts() > before + 5)
    assert caplog.text.count(f"cannot reach mqtt://127.0.0.1:{port}: Connection refused") == 2
    device.end()


def test_after_an_outage_it_returns_at_the_pace_that_the_coordinator_gave(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    agent = device.start()
    coordinator.presence("ann", online=True)
    coordinator.offer(1, coordinator.publish_model(model_file()), "cooking", spread_s=12.5)
    coordinator.answer("ann")
    assert agent.link.spread_s == 12.5


def test_before_any_offer_it_spreads_its_return_within_its_own_longest_pause(
    loop: EventLoop, tmp_path: Path, federation_name: str
) -> None:
    device = Device(loop, f"mqtt://127.0.0.1:{free_port()}", federation_name, tmp_path)
    for retry_max_s, spread_s in ((60.0, pace.UNTOLD_SPREAD_S), (0.2, 0.2)):
        agent = device.start(link=Link(retry_max_s=retry_max_s))
        assert agent.link.spread_s == spread_s
    device.end()


def test_between_rounds_a_device_on_a_battery_goes_offline_and_is_back_in_time(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.start(link=_link(leave_from_s=0.5))
    born = coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)
    coordinator.receipt("ann", 1, next_round_in_s=0.5)
    left_at = loop.now()
    assert coordinator.presence("ann", online=False).session == born.session
    back = coordinator.presence("ann", online=True)
    assert back.session != born.session
    assert loop.now() - left_at >= 0.45, "it was away until a tenth of the time was left"
    coordinator.offer(2, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


# What hinders


def test_a_trainer_that_crashes_is_seen_by_people_and_by_the_coordinator(
    coordinator: Coordinator, device: Device, tmp_path: Path
) -> None:
    task = task_file(tmp_path, "crashes", "if training.epochs == 1: os._exit(3)")
    device.start(task)
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(task))
    reason = "the trainer ended with exit code 3; its log says why"
    assert coordinator.presence("ann", online=True, note=reason).note == f"round 1: {reason}"
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason=reason)
    # The next round is as if nothing had been.
    coordinator.offer(2, model, task_name(task), training=Training(epochs=2))
    assert isinstance(coordinator.answer("ann"), Update)


def test_a_full_disk_costs_one_round(
    coordinator: Coordinator, device: Device, tmp_path: Path
) -> None:
    full = "if training.epochs == 1: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))"
    task = task_file(tmp_path, "fills", full)
    device.start(task)
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(task))
    outbox = tmp_path / "state" / "outbox"
    reason = f"the answer cannot be kept in {outbox}: File too large"
    assert coordinator.presence("ann", online=True, note=reason).note == f"round 1: {reason}"
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason=reason)
    assert list(outbox.iterdir()) == []
    coordinator.offer(2, model, task_name(task), training=Training(epochs=2))
    # What is over is not told for ever.
    while coordinator.presence("ann", online=True).note:
        pass
    assert isinstance(coordinator.answer("ann"), Update)


def test_a_disk_without_room_for_the_model_costs_one_round(
    coordinator: Coordinator, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    models = device.folder / "state" / "models"
    (models / f"{model.digest}.part").symlink_to("/dev/full")
    coordinator.offer(1, model, task_name(LINEAR))
    reason = f"the model cannot be kept in {models}: No space left on device"
    assert coordinator.presence("ann", online=True, note=reason).note == f"round 1: {reason}"
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason=reason)
    assert [record.levelname for record in caplog.records if reason in record.message] == ["ERROR"]
    assert list(models.iterdir()) == []
    coordinator.offer(2, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


def test_what_could_not_be_counted_is_not_begun(coordinator: Coordinator, device: Device) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    in_its_place = device.folder / "state" / f"disclosed-{device.federation}"
    in_its_place.mkdir()
    coordinator.offer(1, model, task_name(LINEAR))
    declined = coordinator.answer("ann")
    assert isinstance(declined, Decline)
    assert declined.reason.startswith("what this round tells cannot be kept: ")
    assert declined.reason.endswith(": Is a directory")
    in_its_place.rmdir()
    coordinator.offer(2, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)
    assert in_its_place.is_file()


def test_what_counts_on_no_disk_is_not_sent_until_it_does(
    loop: EventLoop,
    coordinator: Coordinator,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in the book of what was told, nor, should that not be written, in the outbox."""
    answer = b"an answer"
    device.outbox().put(RUN, RoundId(1), [answer])
    book = DisclosedFile(device.folder / "state", device.federation)
    book.keep(disclosed.begin(book.read(), offer(1), "train"))
    agent = device.make(link=_link(resend_s=0.2))
    book.path.unlink()
    book.path.mkdir()

    def fails(file: int) -> None:
        os.close(file)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(outbox, "force_to_disk", fails)
        agent.start()
        coordinator.presence("ann", online=True, note="outbox: [Errno 5] Input/output error")
        tries = len([one for one in device.happened if isinstance(one, session.Troubled)])
        until(
            loop,
            lambda: (
                tries + 2
                <= len([one for one in device.happened if isinstance(one, session.Troubled)])
            ),
            "two more attempts",
        )
        told = coordinator.all(Arrived)
        assert not any(isinstance(one.address, UpdatePart) for one in told)
    # It lies there by what was begun: that will count at a start.
    coordinator.next(Arrived, lambda one: one.payload == answer)
    book.path.rmdir()
    coordinator.receipt("ann", 1)
    until(loop, lambda: not device.owes(), "an empty outbox")
    assert DisclosedFile(device.folder / "state", device.federation).read().bare


def test_an_outbox_without_room_declines_and_keeps_what_is_owed(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    device.outbox().put(RUN, RoundId(7), [bytes(1000)])
    device.start(outbox_bytes_max=1001)
    coordinator.presence("ann", online=True)
    coordinator.next(Arrived, lambda arrived: arrived.payload == bytes(1000))
    model = coordinator.publish_model(model_file())
    coordinator.offer(8, model, task_name(LINEAR))
    declined = coordinator.answer("ann")
    assert isinstance(declined, Decline)
    assert "outbox_bytes_max = 1001" in declined.reason
    assert device.owes() == [7]
    coordinator.receipt("ann", 7, accepted=False)
    until(loop, lambda: not device.owes(), "an empty outbox")
    coordinator.offer(9, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


def test_a_model_that_is_too_large_is_declined(coordinator: Coordinator, device: Device) -> None:
    device.start(model_bytes_max=100)
    coordinator.presence("ann", online=True)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR))
    limit = "more than this client's model_bytes_max = 100"
    reason = f"the model has {model.size_bytes} bytes, {limit}"
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason=reason)


def test_another_task_is_declined(coordinator: Coordinator, device: Device) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    coordinator.offer(1, coordinator.publish_model(model_file()), "cooking")
    declined = coordinator.answer("ann")
    assert isinstance(declined, Decline)
    assert "cooking" in declined.reason


def test_the_owners_conditions_are_looked_at_again_and_again(
    coordinator: Coordinator, device: Device
) -> None:
    now = [Reading(charging=False)]
    device.start(conditions=Conditions(charging=True, check_s=0.02), reading=lambda: now[0])
    unwilling = coordinator.presence("ann", online=True)
    assert (unwilling.purposes, unwilling.note) == ((), "not charging")
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR))
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason="not charging")
    now[0] = Reading(charging=True)
    coordinator.presence("ann", online=True, purposes=("train", "evaluate"))
    coordinator.offer(2, model, task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


def test_work_stops_when_the_device_is_unplugged(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    now = [Reading(charging=True)]
    agent = device.start(conditions=Conditions(charging=True, check_s=0.02), reading=lambda: now[0])
    coordinator.presence("ann", online=True)
    endless = Training(epochs=10_000, batch_size=1)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR), training=endless)
    until(loop, lambda: isinstance(agent.state.job, session.Working))
    now[0] = Reading(charging=False)
    assert coordinator.answer("ann") == Decline(run=RUN, round=RoundId(1), reason="not charging")
    assert agent.state.job is None
    assert device.owes() == []


def test_an_offer_that_is_withdrawn_ends_the_work(
    loop: EventLoop, coordinator: Coordinator, device: Device
) -> None:
    agent = device.start()
    coordinator.presence("ann", online=True)
    endless = Training(epochs=10_000, batch_size=1)
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name(LINEAR), training=endless)
    until(loop, lambda: isinstance(agent.state.job, session.Working))
    coordinator.link.perform(Publish(OfferBoard(), None))
    until(loop, lambda: agent.state.job is None)
    # The next round needs the trainer for itself.
    coordinator.offer(2, model, task_name(LINEAR))
    update = coordinator.answer("ann")
    assert isinstance(update, Update)
    assert update.round == 2


def test_nonsense_is_logged_with_its_topic_and_ignored(
    loop: EventLoop, coordinator: Coordinator, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.start()
    coordinator.presence("ann", online=True)
    for address in (OfferBoard(), Inbox(ANN), PresenceOf(ANN)):
        coordinator.link.publish(address, b"\xc1 nonsense")
    until(loop, lambda: caplog.text.count("unreadable message in ") == 3)
    for topic in ("offer", "inbox/ann", "presence/ann"):
        assert f"unreadable message in fed/v1/{device.federation}/{topic}: " in caplog.text
    coordinator.offer(1, coordinator.publish_model(model_file()), task_name(LINEAR))
    assert isinstance(coordinator.answer("ann"), Update)


# Its folder


def test_a_state_folder_is_made_or_its_trouble_told(tmp_path: Path) -> None:
    assert state_dir_fault(tmp_path / "a" / "b") == ""
    assert list((tmp_path / "a" / "b").iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    assert state_dir_fault(file) == f"state folder {file}: File exists"
    assert state_dir_fault(file / "sub") == f"state folder {file / 'sub'}: Not a directory"
