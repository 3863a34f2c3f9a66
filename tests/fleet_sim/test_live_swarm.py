"""A fleet of real clients whose network, power and hardware are made up, at a real broker."""

import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from coordinator.config import Transfer
from edge_client import config as owner
from edge_client import session
from edge_client.conditions import Conditions
from edge_client.config import ClientConfig
from edge_client.trainer_pool import TrainerPool
from fedmqtt.effects import Seconds
from fedmqtt.event_loop import EventLoop
from fedmqtt.folder_lock import FolderInUse
from fedmqtt.messages import Update, read_presence, task_name
from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url
from fedmqtt.topics import ClientId, PresenceOf
from fleet_sim.failures import TRAINER_DIED
from fleet_sim.hardware import Battery, Charge, Hardware
from fleet_sim.links import Bandwidth, Link
from fleet_sim.live_client import LiveClient, LivePlan
from fleet_sim.live_swarm import LiveSwarm, LiveSwarmError, allow_descriptors
from learning_tasks import linear
from tests.coordinator.guests import Room, federation_config
from tests.edge_client.coordinator_side import Coordinator
from tests.edge_client.jobs import LINEAR, model_file, task_file
from tests.fedmqtt.peer import until

pytestmark = pytest.mark.broker

ANN = ClientId("ann")

SLOW = Hardware(ms_per_sample=0.0, start_s=1e6)

# Model and answers have 100 kB.
_LARGE_TASK = """
import numpy as np
from learning_tasks.seam import Trained

def initial_weights(seed):
    return {"w": np.zeros(25_000, np.float32)}

def load_data(data_dir, client, purpose):
    return None

def train(weights, data, training, seed, progress):
    return Trained({name: array + 1 for name, array in weights.items()}, 10, {})

def evaluate(weights, data):
    raise AssertionError("nobody is asked to evaluate")
"""


def template(url: str, federation: str, task: str = LINEAR, **more: Any) -> ClientConfig:
    link = owner.Link(will_delay_s=0, retry_max_s=0.2, resend_s=1.0, chunk_bytes=16_384)
    return ClientConfig(broker=url, federation=federation, id="x", task=task, link=link, **more)


@contextmanager
def swarming(
    loop: EventLoop, config: ClientConfig, folder: Path, *plans: LivePlan, **more: Any
) -> Iterator[LiveSwarm]:
    """A swarm at work, and its trainers, for as long as the block lasts."""
    pool = TrainerPool(loop, keep_warm_s=1000.0)
    broker = parse_broker_url(config.broker)
    swarm = LiveSwarm(loop, broker, config, plans, pool, folder / "swarm", **more)
    swarm.start()
    try:
        yield swarm
    finally:
        swarm.stop()
        pool.close()


def presences(room: Room, client: ClientId) -> list[bool]:
    """Online or not, as the broker told it, without repetitions."""
    told: list[bool] = []
    for arrived in room.traffic:
        if arrived.address == PresenceOf(client) and arrived.payload:
            online = read_presence(arrived.payload).online
            if told[-1:] != [online]:
                told.append(online)
    return told


# Connectivity


def test_without_weather_everybody_takes_part(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    names = ["ann", "bob", "cat"]
    rounds = {"count": 2, "cohort": 3, "quorum": 3, "clients_min": 3}
    config = federation_config(url, federation_name, rounds, task=LINEAR)
    plans = [LivePlan(name=name, purposes=("train",)) for name in names]
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name), tmp_path, *plans) as swarm,
        room.coordinating(config, linear.initial_weights(0), tmp_path / "run") as running,
    ):
        room.ended(running)
        assert swarm.bytes_up > 0 and swarm.bytes_down > 0
        assert (swarm.cuts, swarm.crashes, swarm.overruns.jobs) == (0, 0, 0)
    assert [sorted(record.answered) for record in running.records] == [names, names]


def test_presence_follows_the_intervals(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    # Virtual hours in fractions of a second; the second and the third are one.
    intervals = [(0.0, 3600.0), (7200.0, 9000.0), (9000.0, 10_800.0), (14_400.0, math.inf)]
    plan = LivePlan(name="ann", intervals=intervals)
    later = LivePlan(name="bob", intervals=iter([(7200.0, math.inf)]))
    never = LivePlan(name="cat", intervals=())
    with (
        Room(url, federation_name) as room,
        swarming(
            room.loop, template(url, federation_name), tmp_path, plan, later, never, speed=7200.0
        ) as swarm,
    ):
        room.wait(lambda: swarm.clock.now() > 18_000 and swarm.connected_count == 2)
        room.wait(lambda: len(presences(room, ANN)) >= 5)
        assert presences(room, ANN) == [True, False, True, False, True]
        room.wait(lambda: presences(room, ClientId("bob")) == [True])
        assert presences(room, ClientId("cat")) == []
        online = [client.is_online for client in swarm.clients.values()]
        assert online == [True, True, False]
        assert swarm.connected_count == 2


def test_no_more_connect_at_a_time_than_allowed(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    plans = [LivePlan(name=f"client-{number}") for number in range(150)]
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name), tmp_path, *plans) as swarm,
    ):
        room.wait(lambda: swarm.connected_count == 150)
        assert swarm.gate.most_inside == 64
        # All at once are thrown out, as when a broker restarts.
        for client in swarm.clients.values():
            client.leave()
        assert swarm.connected_count == 0
        for client in swarm.clients.values():
            client.come()
        room.wait(lambda: swarm.connected_count == 150)
        assert swarm.gate.most_inside == 64


def test_who_leaves_while_it_connects_does_not_get_through(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    plans = [LivePlan(name=name, intervals=()) for name in ("ann", "bob")]
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name), tmp_path, *plans) as swarm,
    ):
        ann, bob = swarm.clients.values()
        ann.come()
        room.wait(lambda: ann.weather.is_connecting)
        # It knocks, and has no answer yet.
        room.loop.run_once(wait_max_s=0)
        ann.leave()
        bob.come()
        room.wait(lambda: presences(room, bob.name) == [True])
        # Its will may have been said; that it is there was not.
        assert not ann.is_connected and True not in presences(room, ANN)


def test_a_silent_departure_leaves_the_broker_in_the_dark(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    plan = LivePlan(name="ann", intervals=[(0.0, 0.5), (1.0, math.inf)], silent_share=1.0)
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name), tmp_path, plan) as swarm,
    ):
        client = swarm.clients[ANN]
        room.wait(lambda: presences(room, ANN) == [True])
        room.wait(lambda: not client.is_online)
        # Nobody has been told: not the client, not the broker.
        assert client.is_connected
        room.wait(lambda: client.is_online)
        owner = room.guest("owner")
        assert client.agent is not None
        # What comes after the silence comes over the same connection.
        carried = client.agent.link.bytes_received
        owner.leave()
        owner.shout(PresenceOf(ANN), b"")
        room.wait(lambda: client.agent is not None and client.agent.link.bytes_received > carried)
        assert presences(room, ANN) == [True]


# Links


def test_transfers_go_on_where_they_were_cut(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    task = tmp_path / "large.py"
    task.write_text(_LARGE_TASK)
    url = mosquitto_broker.url
    # A cut in every 60 kB on average; model and answer have 100 kB each.
    line = Link(up=Bandwidth(600_000), down=Bandwidth(600_000), cut_every_s=0.1, latency_s=0.001)
    config = federation_config(
        url,
        federation_name,
        {"count": 3, "cohort": 2, "quorum": 2, "clients_min": 2, "away_grace_s": 1000.0},
        task=str(task),
        transfer=Transfer(chunk_bytes=16_384, stall_s=0.5),
    )
    initial = {"w": np.zeros(25_000, np.float32)}
    plans = [LivePlan(name=name, purposes=("train",), link=line) for name in ("ann", "bob")]
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name, str(task)), tmp_path, *plans) as swarm,
        room.coordinating(config, initial, tmp_path / "run") as running,
    ):
        room.ended(running)
        assert swarm.cuts > 0
    assert [len(record.answered) for record in running.records] == [2, 2, 2]


# Power


class Bench:
    """One live client and a coordinator that the test plays."""

    def __init__(self, loop: EventLoop, url: str, federation: str, folder: Path) -> None:
        self.loop = loop
        self.coordinator = Coordinator(loop, url, federation)
        self.config = template(url, federation)
        self.folder = folder

    def owes(self) -> int:
        return len(list((self.folder / "swarm" / "ann" / "outbox").glob("*.answer")))

    def offer(self, number: int) -> None:
        self.coordinator.offer(number, self.coordinator.publish_model(model_file()), LINEAR)


@pytest.fixture
def bench(mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path) -> Iterator[Bench]:
    loop = EventLoop()
    bench = Bench(loop, mosquitto_broker.url, federation_name, tmp_path)
    yield bench
    bench.coordinator.link.close()
    loop.close()


def reborn(bench: Bench, client: LiveClient, at: Seconds) -> None:
    """The device loses its power, and starts again at that moment."""
    before = client.agent
    client.crash(until=at)
    assert client.agent is None
    until(bench.loop, lambda: client.agent is not None, "a restart")
    assert client.agent is not before


def test_a_crash_loses_memory_and_not_the_outbox(bench: Bench) -> None:
    plan = LivePlan(name="ann", purposes=("train",))
    with swarming(bench.loop, bench.config, bench.folder, plan) as swarm:
        bench.coordinator.presence("ann", online=True)
        bench.offer(7)
        answer = bench.coordinator.answer("ann")
        assert isinstance(answer, Update) and bench.owes() == 1
        client = swarm.clients[ANN]
        carried = swarm.bytes_up
        reborn(bench, client, swarm.clock.now() + 0.1)
        # No goodbye: it was the will that told of it.
        bench.coordinator.presence("ann", online=False)
        assert client.agent is not None and client.agent.state.seen is None
        assert bench.coordinator.answer("ann") == answer
        bench.coordinator.receipt("ann", 7)
        until(bench.loop, lambda: bench.owes() == 0, "an empty outbox")
        assert swarm.crashes == 1 and swarm.bytes_up > carried


def test_a_crash_at_work_leaves_no_answer(bench: Bench) -> None:
    working: list[bool] = []

    def watch(client: ClientId, event: session.Event) -> None:
        if isinstance(event, session.ModelFetched):
            working.append(True)

    plan = LivePlan(name="ann", purposes=("train",), hardware=SLOW)
    with swarming(bench.loop, bench.config, bench.folder, plan, watch=watch) as swarm:
        bench.coordinator.presence("ann", online=True)
        bench.offer(7)
        # Finished here, long before the device has; then its power fails.
        until(bench.loop, lambda: bench.owes() == 1, "an answer")
        reborn(bench, swarm.clients[ANN], swarm.clock.now() + 0.1)
        assert bench.owes() == 0
        # The offer still stands, and it begins from the beginning.
        until(bench.loop, lambda: len(working) == 2, "new work")


def test_crashes_come_when_they_are_planned(bench: Bench) -> None:
    outages = iter([(1000.0, 1500.0), (3000.0, 3500.0)])
    plan = LivePlan(name="ann", outages=outages)
    with swarming(bench.loop, bench.config, bench.folder, plan, speed=5000.0) as swarm:
        for _ in range(2):
            until(bench.loop, lambda: swarm.clients[ANN].agent is None, "a crash")
            until(bench.loop, lambda: swarm.clients[ANN].agent is not None, "a restart")
        assert swarm.crashes == 2 and swarm.clock.now() > 3000.0


# Hardware


def test_conditions_are_read_from_the_plan(bench: Bench) -> None:
    charge = Charge(Battery(training_h=8.0), plugged=[(3600.0, math.inf)], level=0.5)
    hardware = Hardware(ms_per_sample=1.0, start_s=0.0, charge=charge)
    config = template(
        bench.config.broker,
        bench.config.federation,
        conditions=Conditions(charging=True, check_s=60.0),
    )
    plan = LivePlan(name="ann", purposes=("train",), hardware=hardware)
    with swarming(bench.loop, config, bench.folder, plan, speed=3600.0):
        told = bench.coordinator.presence("ann", online=True, purposes=())
        assert "not charging" in told.note
        bench.coordinator.presence("ann", online=True, purposes=("train",))


def test_an_empty_battery_ends_the_device_until_it_is_charged(bench: Bench) -> None:
    # It reads 0 percent when it has been used for half of its 30 hours, and is charged an hour
    # later.
    charge = Charge(Battery(training_h=8.0), plugged=[(16 * 3600.0, math.inf)], level=0.5)
    hardware = Hardware(ms_per_sample=1.0, start_s=0.0, charge=charge)
    plan = LivePlan(name="ann", hardware=hardware)
    with swarming(bench.loop, bench.config, bench.folder, plan, speed=36_000.0) as swarm:
        client = swarm.clients[ANN]
        bench.coordinator.presence("ann", online=True)
        until(bench.loop, lambda: client.agent is None, "a battery that is empty")
        assert 14.8 * 3600 < swarm.clock.now() < 16 * 3600
        bench.coordinator.presence("ann", online=False)
        until(bench.loop, lambda: client.agent is not None, "a battery that is charged")
        assert swarm.clock.now() >= 16 * 3600
        bench.coordinator.presence("ann", online=True)
        assert swarm.crashes == 0


def test_what_does_not_fit_into_its_memory_is_declined(bench: Bench) -> None:
    hardware = Hardware(ms_per_sample=1.0, start_s=0.0, memory_mb=0.0001)
    plan = LivePlan(name="ann", purposes=("train",), hardware=hardware)
    with swarming(bench.loop, bench.config, bench.folder, plan):
        bench.coordinator.presence("ann", online=True)
        bench.offer(7)
        assert "model_bytes_max = 25" in str(bench.coordinator.answer("ann"))


def test_a_fault_of_the_trainer_is_declined_as_a_real_one_is(bench: Bench) -> None:
    plan = LivePlan(name="ann", purposes=("train",), dies_after=lambda job: 0.5)
    with swarming(bench.loop, bench.config, bench.folder, plan):
        bench.coordinator.presence("ann", online=True)
        bench.offer(7)
        declined = bench.coordinator.answer("ann")
        assert TRAINER_DIED in str(declined) and bench.owes() == 0


# The whole


def test_clients_share_one_copy_of_a_model(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    rounds = {"count": 1, "cohort": 3, "quorum": 3, "clients_min": 3}
    config = federation_config(url, federation_name, rounds, task=LINEAR)
    plans = [LivePlan(name=name, purposes=("train",)) for name in ("ann", "bob", "cat")]
    with (
        Room(url, federation_name) as room,
        swarming(room.loop, template(url, federation_name), tmp_path, *plans),
        room.coordinating(config, linear.initial_weights(0), tmp_path / "run") as running,
    ):
        room.ended(running)
    files = list((tmp_path / "swarm").glob("*/models/*.model"))
    assert len(files) == 3 and len({path.stat().st_ino for path in files}) == 1


def test_what_the_judge_carries_is_not_the_fleets(bench: Bench) -> None:
    plans = [LivePlan(name="ann"), LivePlan(name="judge", is_counted=False)]
    with swarming(bench.loop, bench.config, bench.folder, *plans) as swarm:
        ann, judge = (swarm.clients[ClientId(name)] for name in ("ann", "judge"))
        # Each says that it is there, and reads that it has.
        until(bench.loop, lambda: min(ann.bytes_down, judge.bytes_down) > 0, "births")
        assert (swarm.bytes_up, swarm.bytes_down) == (ann.bytes_up, ann.bytes_down)


def test_when_it_stops_the_broker_tells_of_all(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    plans = [
        LivePlan(name="ann"),
        LivePlan(name="bob", link=Link(latency_s=0.01)),
        LivePlan(name="cat", silent_share=1.0, intervals=[(0.0, 0.3)]),
    ]
    with Room(url, federation_name) as room:
        with swarming(room.loop, template(url, federation_name), tmp_path, *plans) as swarm:
            names = list(swarm.clients)
            room.wait(lambda: all(presences(room, name) == [True] for name in names))
            room.wait(lambda: not swarm.clients[ClientId("cat")].is_online)
        room.wait(lambda: all(presences(room, name) == [True, False] for name in names))
        # Its folder is free for the next.
        with swarming(room.loop, template(url, federation_name), tmp_path, *plans):
            room.wait(lambda: all(presences(room, name)[2:3] == [True] for name in names))


def test_two_swarms_do_not_share_a_folder(bench: Bench) -> None:
    plan = LivePlan(name="ann")
    with (
        swarming(bench.loop, bench.config, bench.folder, plan),
        pytest.raises(FolderInUse),
        swarming(bench.loop, bench.config, bench.folder, plan),
    ):
        raise AssertionError("the folder was given twice")


def test_too_many_clients_for_this_machine_are_refused_with_numbers() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("nothing limits open files here")
    with pytest.raises(LiveSwarmError, match=rf"{hard + 512} open files.* may have {hard}"):
        allow_descriptors(hard)


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    try:
        allow_descriptors(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (812, hard)
        allow_descriptors(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (812, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_weather_on_links_is_refused_where_they_are_encrypted(tmp_path: Path) -> None:
    loop = EventLoop()
    pool = TrainerPool(loop)
    with pytest.raises(LiveSwarmError, match="without TLS"):
        LiveSwarm(
            loop,
            BrokerUrl("localhost", 8883, tls=True),
            template("mqtts://localhost", "f"),
            [LivePlan(name="ann", link=Link())],
            pool,
            tmp_path,
        )
    loop.close()


# Models


def test_work_on_an_older_version_that_waits_its_turn_finds_its_model(
    bench: Bench, tmp_path: Path
) -> None:
    wait = "while not (here / 'go').exists():\n    progress(0.0)\nreturn again()"
    config = structs.replace(bench.config, task=task_file(tmp_path, "waits", wait))
    names = [ClientId(name) for name in ("ann", "bob", "cat")]
    plans = [LivePlan(name=name, purposes=("train",), data=str(tmp_path)) for name in names]
    fetched: list[ClientId] = []

    def watch(client: ClientId, event: session.Event) -> None:
        if isinstance(event, session.ModelFetched):
            fetched.append(client)

    def version(number: int, *train: ClientId) -> None:
        model = bench.coordinator.publish_model(model_file(plus=float(number)))
        asked = {"train": train, "asynchronous": True, "late_rounds": 5}
        bench.coordinator.offer(number, model, task_name(config.task), **asked)
        until(bench.loop, lambda: set(train) <= set(fetched), f"the model of round {number}")

    more: dict[str, Any] = {"models_kept": 1, "watch": watch}
    with swarming(bench.loop, config, tmp_path, *plans, **more):
        for name in names:
            bench.coordinator.presence(name, online=True)
        # One process for all: one of two is at work, the other waits for its turn.
        version(1, *names[:2])
        version(2, names[2])
        (tmp_path / "go").touch()
        for name in names[:2]:
            answer = bench.coordinator.answer(name)
            assert isinstance(answer, Update) and answer.round == 1
