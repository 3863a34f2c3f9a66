"""A broker of several nodes: the link goes on with another one when its own is lost."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import (
    BrokerUrl,
    BrokerUrlError,
    LinkDown,
    LinkUp,
    Node,
    NodeUp,
    Part,
    Refused,
    in_turn,
    parse_broker_url,
)
from fedmqtt.topics import Digest, ModelChunk, Topics
from tests.fedmqtt.own_brokers import free_port, own_broker
from tests.fedmqtt.peer import Peer, until
from tests.fedmqtt.stub_broker import (
    CONNACK_311,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Connection,
    Packet,
    StubBroker,
)

DIGEST = Digest("d" * 64)
CHUNKS = [ModelChunk(DIGEST, index) for index in range(40)]

speaks = pytest.mark.broker


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Links to be closed in the end."""
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.link.close()


def _address(*ports: int) -> str:
    return "mqtt://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def _at(port: int) -> str:
    return f"mqtt://127.0.0.1:{port}"


def test_an_address_names_all_nodes_of_a_cluster() -> None:
    found = parse_broker_url("mqtts://ann:p%2C@a,b:8884,[::1]:8885")
    others = (Node("b", 8884), Node("::1", 8885))
    assert found == BrokerUrl("a", 8883, True, "ann", "p,", others=others)
    assert str(found) == "mqtts://ann@a:8883,b:8884,[::1]:8885"
    assert parse_broker_url(str(found)).nodes == tuple(
        BrokerUrl(host, port, True, "ann") for host, port in (("a", 8883), *others)
    )


def test_a_node_that_is_named_twice_is_a_mistake() -> None:
    with pytest.raises(BrokerUrlError, match="a node is named twice") as error:
        parse_broker_url("mqtt://ann:secret@a,b,a:1883")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["mqtt://a,", "mqtt://,a", "mqtt://a,mqtt://b", "mqtt://a,b:x"])
def test_what_is_no_list_of_nodes_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BrokerUrlError, match="mqtt://a:1883,b:1883,c:1883"):
        parse_broker_url(text)


def test_a_broker_is_on_this_machine_if_all_its_nodes_are() -> None:
    assert parse_broker_url("mqtt://localhost,127.0.0.1:1884").is_this_machine
    assert not parse_broker_url("mqtt://localhost,pi.local").is_this_machine


def test_the_clients_of_a_lost_node_spread_over_the_others() -> None:
    broker = parse_broker_url("mqtt://a,b,c")
    orders = Counter(
        "".join(node.host for node in in_turn(broker, f"demo:pi-{number}")) for number in range(600)
    )
    # 100 of each, give or take five times the deviation.
    assert len(orders) == 6 and all(50 < count < 150 for count in orders.values())
    # In which order they are named does not matter.
    assert in_turn(parse_broker_url("mqtt://c,a,b"), "x") == in_turn(broker, "x")


@speaks
def test_a_link_whose_node_is_gone_goes_on_at_another_and_returns_when_that_is_gone(
    loop: EventLoop, tmp_path: Path, federation_name: str, peers: list[Peer]
) -> None:
    ports = free_port(), free_port()
    running = {port: ExitStack() for port in ports}
    for port in ports:
        running[port].enter_context(own_broker("mosquitto", tmp_path, port))
    try:
        peer = Peer(loop, _address(*ports), federation_name, "ann")
        peers.append(peer)
        first = peer.connect().node
        first_port, second_port = sorted(ports, key=lambda port: _at(port) != first)
        running[first_port].close()
        assert peer.next(LinkUp).node == _at(second_port)
        running[first_port].enter_context(own_broker("mosquitto", tmp_path, first_port))
        running[second_port].close()
        assert peer.next(LinkUp).node == first
    finally:
        for one in running.values():
            one.close()


@speaks
def test_a_fleet_spreads_over_the_nodes_and_each_finds_its_own_again(
    loop: EventLoop, tmp_path: Path, federation_name: str, peers: list[Peer]
) -> None:
    ports = free_port(), free_port()
    with (
        own_broker("mosquitto", tmp_path, ports[0]),
        own_broker("mosquitto", tmp_path, ports[1]),
    ):
        nodes = []
        for number in range(16):
            peer = Peer(loop, _address(*ports), federation_name, f"device-{number}")
            peers.append(peer)
            nodes.append(peer.connect().node)
            peer.link.cut(0.0)
            assert peer.next(LinkUp).node == nodes[-1]
        assert set(nodes) == set(map(_at, ports))


@speaks
@pytest.mark.parametrize("name", ["ann", "bob", "cat", "dan"])
def test_nodes_that_are_not_there_are_passed_by(
    loop: EventLoop, tmp_path: Path, name: str, peers: list[Peer]
) -> None:
    # Names that begin at different nodes.
    nobody, there, neither = free_port(), free_port(), free_port()
    with own_broker("mosquitto", tmp_path, there):
        peer = Peer(loop, _address(nobody, there, neither), "test", name)
        peers.append(peer)
        assert peer.connect().node == _at(there)


@speaks
@pytest.mark.parametrize("name", ["ann", "bob"])
def test_a_node_that_does_not_know_our_account_ends_nothing_while_another_does(
    loop: EventLoop, tmp_path: Path, name: str, peers: list[Peer]
) -> None:
    refusing, there = free_port(), free_port()
    with (
        own_broker("mosquitto", tmp_path, refusing, ["allow_anonymous false"]),
        own_broker("mosquitto", tmp_path, there),
    ):
        peer = Peer(loop, _address(refusing, there), "test", name)
        peers.append(peer)
        assert peer.connect().node == _at(there)
        assert not any(down.hopeless for down in peer.all(LinkDown))


@speaks
@pytest.mark.parametrize(("absent", "tries"), [(0, 2), (1, 3)])
def test_who_no_node_lets_in_is_told_that_there_is_no_hope(
    loop: EventLoop, tmp_path: Path, peers: list[Peer], absent: int, tries: int
) -> None:
    # By each once; where one of three cannot be reached, by one of the others again.
    ports, nobody = (free_port(), free_port()), [free_port()] * absent
    with (
        own_broker("mosquitto", tmp_path, ports[0], ["allow_anonymous false"]),
        own_broker("mosquitto", tmp_path, ports[1], ["allow_anonymous false"]),
    ):
        peer = Peer(loop, _address(*ports, *nobody), "test", "ann")
        peers.append(peer)
        peer.link.open()
        last = peer.next(LinkDown, lambda down: down.hopeless)
        assert "does not let us in" in last.reason
        denials = [down for down in peer.all(LinkDown) if "let us in" in down.reason]
        assert len(denials) == tries


@speaks
def test_a_model_is_written_to_each_node_that_keeps_for_itself_what_is_retained(
    loop: EventLoop, tmp_path: Path, federation_name: str, peers: list[Peer]
) -> None:
    ports = free_port(), free_port()
    topics = Topics(federation_name)

    def lying(port: int) -> dict[ModelChunk, bytes]:
        reader = Peer(
            loop,
            _at(port),
            federation_name,
            f"reader-{len(peers)}",
            subscribe=(topics.path(CHUNKS[0]), topics.path(CHUNKS[-1])),
        )
        peers.append(reader)
        reader.connect()
        return {one: reader.arrival(one).payload for one in (CHUNKS[0], CHUNKS[-1])}

    # Two that know nothing of each other, and speak 3.1.1.
    with own_broker("embedded", tmp_path, ports[0]), own_broker("embedded", tmp_path, ports[1]):
        writer = Peer(loop, _address(*ports), federation_name, "writer", copied=(ModelChunk,))
        peers.append(writer)
        own = writer.connect().node
        assert writer.next(NodeUp).node in set(map(_at, ports)) - {own}
        writer.link.stream(Part(chunk, bytes([chunk.index])) for chunk in CHUNKS)
        until(loop, lambda: not writer.link.is_sending)
        for port in ports:
            assert lying(port) == {CHUNKS[0]: b"\x00", CHUNKS[-1]: bytes([39])}


@speaks
def test_a_node_that_comes_back_is_told_of_so_that_it_is_written_to(
    loop: EventLoop, tmp_path: Path, federation_name: str, peers: list[Peer]
) -> None:
    ports = free_port(), free_port()
    with ExitStack() as stack:
        running = {port: stack.enter_context(ExitStack()) for port in ports}
        for port in ports:
            running[port].enter_context(own_broker("embedded", tmp_path, port))
        writer = Peer(loop, _address(*ports), federation_name, "writer", copied=(ModelChunk,))
        peers.append(writer)
        own = writer.connect().node
        other = next(port for port in ports if _at(port) != own)
        assert writer.next(NodeUp).node == _at(other)
        running[other].close()
        # Nobody waits for it meanwhile.
        writer.link.stream(Part(chunk, b"x") for chunk in CHUNKS)
        until(loop, lambda: not writer.link.is_sending)
        running[other].enter_context(own_broker("embedded", tmp_path, other))
        assert writer.next(NodeUp).node == _at(other)
        # It is another node that was lost.
        assert not writer.all(LinkDown)
        said = writer.link.bytes_sent
        writer.link.stream_to(_at(other), (Part(chunk, b"y") for chunk in CHUNKS[:1]))
        reader = Peer(
            loop,
            _at(other),
            federation_name,
            "reader",
            subscribe=(Topics(federation_name).path(CHUNKS[0]),),
        )
        peers.append(reader)
        reader.connect()
        assert reader.arrival(CHUNKS[0]).payload == b"y"
        # And not to its own, once more.
        assert writer.link.bytes_sent == said


def _subscription(loop: EventLoop, connection: Connection) -> Packet:
    until(loop, connection.has_more, "a SUBSCRIBE")
    packet = connection.receive()
    assert packet.kind == SUBSCRIBE
    return packet


def _suback_311(mid: int, code: int) -> bytes:
    return b"\x90\x03" + mid.to_bytes(2) + bytes([code])


def _speaking_311(loop: EventLoop, stub: StubBroker) -> Connection:
    def connection() -> Connection:
        return stub.accept(lambda: loop.run_once(wait_max_s=0.05))

    first = connection()
    assert first.receive().protocol_level == 5
    # It refuses that version.
    first.send(b"\x20\x02\x00\x01")
    second = connection()
    assert second.receive().protocol_level == 4
    second.send(CONNACK_311)
    return second


def _subscriber(loop: EventLoop, stub: StubBroker, peers: list[Peer]) -> tuple[Peer, Connection]:
    peer = Peer(loop, stub.url, "f", "ann", subscribe=("fed/v1/f/offer",))
    peers.append(peer)
    peer.link.open()
    return peer, _speaking_311(loop, stub)


def test_a_subscription_that_a_cluster_refuses_once_is_asked_for_again(
    loop: EventLoop, stub: StubBroker, peers: list[Peer]
) -> None:
    peer, broker = _subscriber(loop, stub, peers)
    first = _subscription(loop, broker)
    broker.send(_suback_311(first.mid, 0x80))
    again = _subscription(loop, broker)
    # As the first one, but for its number.
    assert again.mid != first.mid and again.body[2:] == first.body[2:]
    broker.send(_suback_311(again.mid, 1))
    # So it is with a chunk: its owner hears of it once.
    peer.link.subscribe(CHUNKS[:1])
    for _ in range(2):
        broker.send(_suback_311(_subscription(loop, broker).mid, 0x80))
    broker.send(_suback_311(_subscription(loop, broker).mid, 1))
    assert [one.address for one in peer.all(Refused)] == CHUNKS[:1]
    assert not peer.all(LinkDown)


def test_a_subscription_that_is_always_refused_ends_the_connection(
    loop: EventLoop, stub: StubBroker, peers: list[Peer]
) -> None:
    peer, broker = _subscriber(loop, stub, peers)
    for _ in range(5):
        assert not peer.all(LinkDown)
        broker.send(_suback_311(_subscription(loop, broker).mid, 0x80))
    assert "does not let us read fed/v1/f/offer" in peer.next(LinkDown).reason


def test_what_is_refused_and_no_longer_wanted_is_not_asked_for_again(
    loop: EventLoop, stub: StubBroker, peers: list[Peer]
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peers.append(peer)
    peer.link.open()
    broker = _speaking_311(loop, stub)
    peer.next(LinkUp)
    peer.link.subscribe(CHUNKS[:1])
    broker.send(_suback_311(_subscription(loop, broker).mid, 0x80))
    peer.next(Refused)
    peer.link.unsubscribe(CHUNKS[:1])
    peer.link.subscribe(CHUNKS[1:2])
    until(loop, broker.has_more)
    assert broker.receive().kind == UNSUBSCRIBE
    assert CHUNKS[1].digest.encode() + b"/1" in _subscription(loop, broker).body
    loop.call_in(1.5, loop.stop)
    loop.run()
    assert not broker.has_more()


def test_a_node_that_closes_on_version_5_is_asked_again_before_another_is(
    loop: EventLoop, stub: StubBroker, peers: list[Peer]
) -> None:
    other = StubBroker()
    both = f"{stub.url},{other.url.removeprefix('mqtt://')}"
    peer = Peer(loop, both, "f", "ann")
    peers.append(peer)
    peer.link.open()
    until(loop, lambda: stub.has_caller() or other.has_caller())
    first, second = (stub, other) if stub.has_caller() else (other, stub)
    for level in (5, 5, 4):
        connection = first.accept(lambda: loop.run_once(wait_max_s=0.05))
        assert connection.receive().protocol_level == level
        connection.hang_up()
    assert second.accept(lambda: loop.run_once(wait_max_s=0.05)).receive().protocol_level == 5
    other.close()
