"""Whatever happens to workers, each answer is in the sum once, and no bit of the model changes."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from coordinator.config import FederationConfig, Workers
from fedmqtt import messages
from fedmqtt.messages import Announce, SumPiece, Update
from fedmqtt.mqtt_link import Part
from fedmqtt.topics import ClientId, Digest, RunId
from tests.coordinator.workers.world import (
    ANSWER_BYTES_MAX,
    ROUND,
    SIZE,
    World,
    alone,
    model,
    updates_of,
)

CLIENTS = [ClientId(f"c{number}") for number in range(14)]


def config(**more: object) -> FederationConfig:
    workers = Workers(lanes=8, terms=3, hand_over_s=1.0, at_once=2)
    return FederationConfig(name="ward-7", task="t", workers=workers, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_workers_add_up_what_the_coordinator_would(count: int, tmp_path: Path) -> None:
    sent = updates_of(CLIENTS, 1)
    world = World(tmp_path, config(), CLIENTS)
    for number in range(count):
        world.start(f"w{number}")
    world.settle()
    assert not world.desk.own
    for client, one in sent.items():
        world.send(client, one)
        world.settle()
    assert world.closed
    assert world.by_workers == len(CLIENTS)
    assert sorted(world.receipts) == sorted(CLIENTS)
    assert model(world.answers) == alone(config(), sent)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("seed", range(40))
def test_workers_that_come_go_and_are_killed_change_no_bit(
    seed: int, count: int, tmp_path: Path
) -> None:
    chance = Random(f"{seed}/{count}")
    sent = updates_of(CLIENTS, seed)
    world = World(tmp_path, config(), CLIENTS)
    names = [f"w{number}" for number in range(count)]
    for _ in range(chance.randrange(100, 400)):
        _one_thing(world, sent, names, chance)
        # In no sum twice, and receipted only once it is in one.
        assert len(set(world.counted)) == len(world.counted)
    for _ in range(40):
        # From now on nothing fails; clients send again what they owe.
        if world.closed:
            break
        for client, one in sent.items():
            if client not in world.receipts:
                world.send(client, one)
        world.settle()
        world.pass_time(6.0)
        world.settle()
    assert world.closed
    assert sorted(world.counted) == sorted(CLIENTS)
    assert model(world.answers) == alone(config(), sent)


def _one_thing(
    world: World, sent: dict[ClientId, Update], names: list[str], chance: Random
) -> None:
    waiting = world.waiting()
    match chance.choices(
        ["send", "deliver", "turn", "time", "start", "kill", "end", "cut", "lose"],
        [6, 30, 15, 3, 3, 1, 0.5, 1, 2],
    )[0]:
        case "send":
            # Copies too.
            client = chance.choice(CLIENTS)
            world.send(client, sent[client])
        case "deliver" if waiting:
            world.deliver(*chance.choice(waiting))
        case "turn":
            world.turn()
        case "time":
            world.pass_time(chance.choice([0.1, 1.0, 5.0, 21.0]))
        case "start" if absent := [one for one in names if ClientId(one) not in world.workers]:
            world.start(chance.choice(absent))
        case "kill" if world.workers:
            world.kill(chance.choice(sorted(world.workers)))
        case "end" if world.workers:
            name = chance.choice(sorted(world.workers))
            world.workers[name].stop()
            world.kill(name)
        case "cut" if world.workers:
            name = chance.choice(sorted(world.workers))
            world.wires[name].cut()
            world.connect(name)
        case "lose" if waiting:
            # As a broker does whose queue for somebody is full.
            chance.choice(waiting)[1].popleft()
        case _:
            pass


def test_a_worker_of_other_settings_is_told_so_and_takes_nothing_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = updates_of(CLIENTS, 1)
    world = World(tmp_path, config(), CLIENTS)
    world.start("w0", config(seed=5))
    world.settle()
    assert "its federation.toml is not the coordinator's" in caplog.text
    for client, one in sent.items():
        world.send(client, one)
        world.settle()
    assert world.closed and world.by_workers == 0
    assert model(world.answers) == alone(config(), sent)


def test_a_worker_to_which_no_coordinator_speaks_tells_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, config(), CLIENTS)
    world.start("w0")
    told = "no coordinator gives us lanes: none runs, or workers.lanes is not set there"
    for _ in range(3):
        world.pass_time(5.0)
    assert told not in caplog.text
    for _ in range(9):
        world.pass_time(5.0)
    assert caplog.text.count(told) == 1
    # One that comes is heard, and one that falls silent is told of again.
    world.settle()
    assert world.desk.standing() == {"w0": "takes 8 of 8 lanes"}
    world.wires[ClientId("w0")].cut()
    world.connect(ClientId("w0"))
    for _ in range(9):
        world.pass_time(5.0)
    assert caplog.text.count(told) == 2


def test_people_are_told_who_takes_answers_in_whenever_that_changes(tmp_path: Path) -> None:
    world = World(tmp_path, config(), CLIENTS)
    for name, settings in (("w0", config()), ("w1", config()), ("w2", config(seed=5))):
        world.start(name, settings)
        world.settle()
    world.kill(ClientId("w0"))
    world.settle()
    why = (
        "gets no lanes: its federation.toml is not the coordinator's: codec, seed, limits,"
        " training, aggregation and lanes must be the same"
    )
    half = "takes 4 of 8 lanes"
    assert world.standings == [
        {"w0": "takes 8 of 8 lanes"},
        {"w0": half, "w1": half},
        {"w0": half, "w1": half, "w2": why},
        {"w1": "takes 8 of 8 lanes", "w2": why},
    ]


def test_an_update_with_a_fault_is_refused_wherever_it_is_found(tmp_path: Path) -> None:
    sent = updates_of(CLIENTS, 1)
    world = World(tmp_path, config(), CLIENTS)
    world.start("w0")
    world.settle()
    bad = structs.replace(sent[CLIENTS[0]], payload=memoryview(b"1234"))
    world.send(CLIENTS[0], bad)
    world.settle()
    assert world.refused == {CLIENTS[0]: "tensors of other shapes: 4 bytes where 20 belong"}
    # A better one counts.
    for client, one in sent.items():
        world.send(client, one)
        world.settle()
    assert world.closed and world.by_workers == len(CLIENTS)
    assert model(world.answers) == alone(config(), sent)


def test_a_sum_that_never_ends_does_not_fill_the_disk(tmp_path: Path) -> None:
    sent = updates_of(CLIENTS[:1], 1)
    world = World(tmp_path, config(), CLIENTS[:1])
    world.start("w0")
    world.settle()
    wire, written = world.wires[ClientId("w0")], tmp_path / "sums"
    stream = wire.stream

    def endless(parts: Iterator[Part]) -> None:
        (part,) = parts
        piece = messages.read_from_worker(part.payload)
        assert isinstance(piece, SumPiece)
        for ahead in range(9):
            data = memoryview(bytes(ANSWER_BYTES_MAX))
            number, index = piece.number + ahead, piece.index + ahead
            more = structs.replace(piece, count=9, number=number, index=index, data=data)
            wire.up.append(messages.encode(more))

    wire.stream = endless  # type: ignore[method-assign]
    for client, one in sent.items():
        world.send(client, one)
    largest = 0
    world.turn()
    while waiting := world.waiting():
        world.deliver(*waiting[0])
        world.turn()
        largest = max([largest, *(path.stat().st_size for path in written.iterdir())])
    # Of one answer: as many bytes as it may have had itself, and the numbers.
    assert ANSWER_BYTES_MAX <= largest <= 2 * ANSWER_BYTES_MAX + 8 * SIZE
    assert world.owing() == CLIENTS[:1] and not any(written.iterdir())
    # What it has lost is sent again.
    wire.stream = stream  # type: ignore[method-assign]
    for client, one in sent.items():
        world.send(client, one)
    world.settle()
    assert world.closed and model(world.answers) == alone(config(), sent)


def test_what_is_said_of_many_at_once_fits_small_packets(tmp_path: Path) -> None:
    # Names as long as they may be, and a fault with the length of a receipt's.
    clients = [ClientId(f"{number:064}") for number in range(300)]
    sent, packet = updates_of(clients, 1), 8_000
    world = World(tmp_path, config(), clients)
    world.message_bytes_max = packet
    world.start("w0")
    world.connect(ClientId("w0"), packet)
    world.settle()
    wire = world.wires[ClientId("w0")]
    # Of the last one nothing is wrong, or the round would be over.
    for client in clients[:-1]:
        announce = Announce(
            run=RunId("r" * 128),
            round=ROUND,
            digest=Digest("0" * 64),
            size_bytes=2**40,
            chunk_bytes=1024,
        )
        world.desk.admit(wire.name, client, announce)
        world.shout(client, messages.encode(structs.replace(sent[client], codec="c" * 200)))
    world.settle()
    assert sorted(world.refused) == clients[:-1]
    assert max(wire.largest, world.largest) < packet
    for client, one in sent.items():
        world.send(client, one)
    world.settle()
    assert world.closed and world.by_workers == len(clients)
    assert max(wire.largest, world.largest) < packet
