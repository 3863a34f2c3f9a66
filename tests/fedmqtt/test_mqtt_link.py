"""The link keeps a session with a broker up, whatever happens between the two."""

import hashlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop, OnReady
from fedmqtt.messages import Presence, read_offer, read_presence
from fedmqtt.mqtt_link import (
    RECEIVE_BYTES_MAX,
    STREAM_WINDOW,
    BrokerUrl,
    BrokerUrlError,
    LinkDown,
    LinkEvent,
    LinkOptions,
    LinkUp,
    MqttLink,
    Part,
    Refused,
    parse_broker_url,
    room_for,
)
from fedmqtt.topics import (
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    StatusPage,
    Topics,
    UpdatePart,
)
from tests.fedmqtt.own_brokers import KINDS, Door, free_port, own_broker
from tests.fedmqtt.peer import Peer, until
from tests.fedmqtt.stub_broker import (
    CONNACK_5,
    CONNACK_311,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Connection,
    Packet,
    StubBroker,
    puback,
    suback,
)
from tests.offers import offer

ANN = ClientId("ann")
DIGEST = Digest("d" * 64)
MB = 1024 * 1024

speaks = pytest.mark.broker


@pytest.fixture
def peers(loop: EventLoop) -> Iterator[list[Peer]]:
    """Links to be closed in the end."""
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.link.close()


def _all(federation: str) -> str:
    return f"fed/v1/{federation}/#"


def _presence_of(session: str, *, online: bool) -> Publish:
    return Publish(PresenceOf(ANN), Presence(online=online, session=session))


def _will(token: str) -> Publish:
    return _presence_of(token, online=False)


def _said(peer: Peer) -> tuple[bool, str]:
    """What is said next of ann's presence: online, and in which session."""
    presence = read_presence(peer.arrival(PresenceOf(ANN)).payload)
    return presence.online, presence.session


# Addresses of brokers


def test_an_address_says_how_to_reach_the_broker() -> None:
    assert parse_broker_url("mqtt://pi.local") == BrokerUrl("pi.local", 1883)
    assert parse_broker_url("mqtts://[::1]/") == BrokerUrl("::1", 8883, tls=True)
    full = parse_broker_url("mqtt://ann:p%40ss%2F@10.0.0.1:1884")
    assert full == BrokerUrl("10.0.0.1", 1884, username="ann", password="p@ss/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "http://localhost",
        "mqtt://",
        "mqtt://host:port",
        "mqtt://host:0",
        "mqtt://host:70000",
        "mqtt://host/topic",
        "mqtt://host?qos=1",
        "mqtt://host#x",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BrokerUrlError, match=r"expected mqtt://host\[:port\]"):
        parse_broker_url(text)


def test_a_password_is_never_shown() -> None:
    ann = parse_broker_url("mqtts://ann%40home:secret@host")
    assert (str(ann), ann.place) == ("mqtts://ann%40home@host:8883", "mqtts://host:8883")
    assert str(parse_broker_url("mqtt://[::1]:1884")) == "mqtt://[::1]:1884"
    with pytest.raises(BrokerUrlError) as error:
        parse_broker_url("mqtt://ann:se#cret@host")
    assert "cret" not in str(error.value)
    assert "# as %23" in str(error.value)


# Versions of the protocol


@speaks
def test_version_5_is_spoken_where_the_broker_does(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    peers.append(Peer(loop, broker.url, federation_name, "ann"))
    spoken = peers[0].connect().protocol
    assert spoken == ("MQTT 3.1.1" if "amqtt" in broker.name else "MQTT 5")
    assert peers[0].all(LinkDown) == []


@speaks
def test_a_broker_that_closes_twice_on_version_5_without_a_word_gets_3_1_1(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    with closing(Door(broker.url, thrown_out=2)) as door:
        peers.append(Peer(loop, door.url, federation_name, "ann", subscribe=("x",)))
        assert peers[0].connect().protocol == "MQTT 3.1.1"
        assert len(peers[0].all(LinkDown)) == 1


def test_one_that_closes_once_may_have_been_starting(
    loop: EventLoop, mosquitto_broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    with closing(Door(mosquitto_broker.url, thrown_out=1)) as door:
        peers.append(Peer(loop, door.url, federation_name, "ann", subscribe=("x",)))
        assert peers[0].connect().protocol == "MQTT 5"


def test_each_attempt_begins_with_version_5(loop: EventLoop, stub: StubBroker) -> None:
    """A proxy before a broker that is being upgraded lets in, and throws out, for a while."""
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    for level in (5, 5, 4, 5, 4):
        connection = _connection(loop, stub)
        assert _received(loop, connection).protocol_level == level
        if level == 4:
            connection.send(CONNACK_311)
            assert peer.next(LinkUp).protocol == "MQTT 3.1.1"
        connection.hang_up()
    # After the first of version 5, and after each of 3.1.1.
    until(loop, lambda: len(peer.all(LinkDown)) == 3)
    peer.link.close()


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"])
def test_a_refused_version_5_is_followed_by_3_1_1(
    loop: EventLoop, stub: StubBroker, answer: bytes
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    connection = _connection(loop, stub)
    assert connection.receive().protocol_level == 5
    connection.send(answer)
    assert _connection(loop, stub).receive().protocol_level == 4
    assert peer.events == []
    peer.link.close()


@pytest.mark.parametrize(
    ("shared", "asks"), [(b"", False), (b"\x2a\x01", False), (b"\x2a\x00", True)]
)
def test_a_broker_without_shared_subscriptions_is_asked_by_name(
    loop: EventLoop, stub: StubBroker, shared: bytes, asks: bool
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    connection = _connection(loop, stub)
    assert connection.receive().kind == CONNECT
    body = b"\x00\x00" + bytes([len(shared)]) + shared
    connection.send(bytes([0x20, len(body)]) + body)
    assert peer.next(LinkUp).retained_by_name is asks
    peer.link.ask_by_name([PresenceOf(ANN)] * 150)
    peer.link.publish(PresenceOf(ANN), b"behind it")
    said = [_received(loop, connection).kind]
    while said[-1] != PUBLISH:
        said.append(_received(loop, connection).kind)
    # In two, as one would be too large for some brokers.
    assert said == ([SUBSCRIBE, SUBSCRIBE, PUBLISH] if asks else [PUBLISH])
    peer.link.close()


def test_aws_is_asked_by_name_for_what_fits(
    loop: EventLoop, stub: StubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    here = lambda _host, *others: resolve("127.0.0.1", *others)  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", here)
    peer = Peer(loop, stub.url.replace("127.0.0.1", "x.iot.eu-central-1.amazonaws.com"), "f", "ann")
    peer.link.open()
    connection = _connection(loop, stub)
    assert connection.receive().kind == CONNECT
    connection.send(CONNACK_5)
    assert peer.next(LinkUp).retained_by_name
    peer.link.ask_by_name([PresenceOf(ANN)] * 150)
    peer.link.publish(PresenceOf(ANN), b"behind it")
    said = [_received(loop, connection) for _ in range(4)]
    assert [packet.kind for packet in said] == [SUBSCRIBE, SUBSCRIBE, SUBSCRIBE, PUBLISH]
    topic = peer.topics.path(PresenceOf(ANN)).encode()
    assert [packet.body.count(topic) for packet in said[:3]] == [8, 8, 8]
    peer.link.close()


def test_a_refusal_for_another_reason_is_told(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    connection = _connection(loop, stub)
    connection.receive()
    connection.send(b"\x20\x03\x00\x97\x00")
    down = peer.next(LinkDown)
    assert down.reason == f"{stub.url} refused the connection: Quota exceeded"
    assert not down.hopeless
    peer.link.close()


def test_who_is_not_let_in_is_told_that_there_is_no_hope(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    connection = _connection(loop, stub)
    connection.receive()
    connection.send(b"\x20\x03\x00\x86\x00")
    down = peer.next(LinkDown)
    assert down.reason.startswith(f"{stub.url} does not let us in: Bad user name or password. ")
    assert down.hopeless
    peer.link.close()


# Coming back


def test_pauses_grow_at_random_and_never_above_the_cap(loop: EventLoop) -> None:
    port = free_port()
    base_s, max_s = 1e-6, 1e-4
    peer = Peer(
        loop, f"mqtt://127.0.0.1:{port}", "f", "ann", retry_base_s=base_s, retry_max_s=max_s
    )
    peer.link.open()
    pauses = [peer.next(LinkDown).retry_in_s or 0.0 for _ in range(40)]
    peer.link.close()
    for attempt, pause in enumerate(pauses):
        assert 0 <= pause <= min(max_s, base_s * 2**attempt)
    # All of 40 within the first bound: a chance of one in 10^70.
    assert max(pauses) > base_s
    assert len(set(pauses)) > 1


def test_a_broker_that_throws_out_whom_it_let_in_is_not_stormed(
    loop: EventLoop, stub: StubBroker
) -> None:
    """As when two clients have one name: each connection ends the other's."""
    base_s = 1e-6
    peer = Peer(loop, stub.url, "f", "ann", retry_base_s=base_s, retry_max_s=1e-3)
    peer.link.open()
    pauses: list[float] = []
    for _ in range(20):
        connection = _accept(loop, stub)
        peer.next(LinkUp)
        connection.hang_up()
        pauses.append(peer.next(LinkDown).retry_in_s or 0.0)
    peer.link.close()
    assert max(pauses) > base_s


def _pauses(loop: EventLoop, spread_s: float, pause_s: float) -> list[float]:
    peer = Peer(
        loop,
        f"mqtt://127.0.0.1:{free_port()}",
        "f",
        "ann",
        retry_base_s=pause_s,
        retry_max_s=pause_s,
    )
    peer.link.spread_s = spread_s
    peer.link.open()
    pauses = [peer.next(LinkDown).retry_in_s or 0.0 for _ in range(40)]
    peer.link.close()
    return pauses


def test_a_large_fleet_returns_over_the_time_that_its_coordinator_gave(loop: EventLoop) -> None:
    pauses = _pauses(loop, spread_s=1e-3, pause_s=1e-9)
    # All of 40 in the first half of it: a chance of one in 10^12.
    assert 0.5e-3 < max(pauses) <= 1e-3
    assert min(pauses) < 0.5e-3


def test_a_small_fleet_s_clients_keep_to_their_own_pauses(loop: EventLoop) -> None:
    pauses = _pauses(loop, spread_s=1e-9, pause_s=1e-3)
    assert 0.5e-3 < max(pauses) <= 1e-3


def test_a_broker_may_say_that_a_namesake_has_come(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    _accept(loop, stub).send(b"\xe0\x02\x8e\x00")
    down = peer.next(LinkDown)
    assert (down.thrown_out, down.taken_over) == (True, True)
    _accept(loop, stub).send(b"\xe0\x02\x8b\x00")
    down = peer.next(LinkDown)
    assert (down.thrown_out, down.taken_over) == (True, False)
    assert "Server shutting down" in down.reason
    peer.link.close()


def test_who_is_thrown_out_knows_it_from_a_loss(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann", keepalive_s=1)
    peer.link.open()
    _connection(loop, stub).hang_up()
    # Before it was let in: there was nothing to be thrown out of.
    assert not peer.next(LinkDown).thrown_out
    _accept(loop, stub).hang_up()
    peer.next(LinkUp)
    assert peer.next(LinkDown).thrown_out
    silent = _accept(loop, stub)
    peer.next(LinkUp)
    assert not peer.next(LinkDown).thrown_out, "nothing was heard for longer than the keepalive"
    silent.hang_up()
    _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.cut(back_in_s=None)
    assert not peer.next(LinkDown).thrown_out
    peer.link.close()


def test_nobody_there_is_said_in_words(loop: EventLoop) -> None:
    port = free_port()
    peer = Peer(loop, f"mqtt://127.0.0.1:{port}", "f", "ann")
    peer.link.open()
    assert peer.next(LinkDown).reason == f"cannot reach mqtt://127.0.0.1:{port}: Connection refused"
    peer.link.close()


@speaks
@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_restarts_is_found_again_and_subscriptions_with_it(
    loop: EventLoop, tmp_path: Path, kind: str, federation_name: str, peers: list[Peer]
) -> None:
    port = free_port()
    with own_broker(kind, tmp_path, port) as url:
        for name in ("ann", "bob"):
            peers.append(Peer(loop, url, federation_name, name, subscribe=(_all(federation_name),)))
        first = [peer.connect().token for peer in peers]
    for peer in peers:
        reason = peer.next(LinkDown).reason
        assert "lost" in reason and "Unspecified" not in reason
    with own_broker(kind, tmp_path, port):
        again = [peer.next(LinkUp).token for peer in peers]
        assert len({*first, *again}) == 4
        ann, bob = peers
        bob.link.publish(StatusPage("round"), b"hello")
        assert ann.arrival(StatusPage("round")).payload == b"hello"
        for peer in peers:
            peer.link.close()


@speaks
def test_a_cut_looks_like_a_loss_and_ends_by_itself(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    watcher = Peer(
        loop,
        broker.url,
        federation_name,
        "watcher",
        subscribe=(Topics(federation_name).any_presence,),
    )
    ann = Peer(loop, broker.url, federation_name, "ann", will=_will)
    peers += [watcher, ann]
    watcher.connect()
    first = ann.connect()
    ann.link.perform(_presence_of(first.token, online=True))
    assert _said(watcher) == (True, first.token)
    ann.link.cut(back_in_s=0.01)
    assert ann.next(LinkDown) == LinkDown("link cut", 0.01)
    assert not ann.link.is_up
    assert _said(watcher) == (False, first.token)
    assert ann.next(LinkUp).token != first.token


@speaks
def test_who_is_cut_for_good_stays_away_until_it_is_opened(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    peers.append(Peer(loop, broker.url, federation_name, "ann"))
    ann = peers[0]
    ann.connect()
    ann.link.cut(back_in_s=None)
    assert ann.next(LinkDown).retry_in_s is None
    ann.link.open()
    ann.next(LinkUp)


@speaks
def test_a_late_will_is_told_from_the_new_connection_and_corrected(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    """A second connection of the same name ends the first, and the broker speaks its will."""
    presence = Topics(federation_name).path(PresenceOf(ANN))
    watcher = Peer(loop, broker.url, federation_name, "watcher", subscribe=(presence,))
    old = Peer(
        loop, broker.url, federation_name, "ann", will=_will, retry_base_s=60, retry_max_s=60
    )
    new = Peer(loop, broker.url, federation_name, "ann", will=_will, subscribe=(presence,))
    peers += [watcher, old, new]
    watcher.connect()
    first = old.connect().token
    old.link.perform(_presence_of(first, online=True))
    assert _said(watcher) == (True, first)
    second = new.connect().token
    # Whether or not the will came before its birth, the new connection sees what is kept of it.
    new.link.perform(_presence_of(second, online=True))
    while (last := _said(watcher)) != (True, second):
        assert last == (False, first)
    old.link.close()
    new.link.cut(None)
    assert _said(watcher) == (False, second)


@speaks
def test_who_closes_says_its_last_words_and_not_its_will(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    watcher = Peer(loop, broker.url, federation_name, "watcher", subscribe=(_all(federation_name),))
    ann = Peer(loop, broker.url, federation_name, "ann", will=_will)
    peers += [watcher, ann]
    watcher.connect()
    ann.connect()
    before = len(ann.events)
    # More than may be on the way at a time: the last word must wait for its turn.
    for number in range(100):
        ann.link.publish(UpdatePart(0, ANN, RoundId(1), str(number)), bytes(1000))
    ann.link.close([_presence_of("goodbye", online=False)])
    assert not ann.link.is_up
    watcher.arrival(UpdatePart(0, ANN, RoundId(1), "99"))
    assert _said(watcher) == (False, "goodbye")
    # The broker has nothing to add: the next word about ann is the one that is published next.
    watcher.link.perform(_presence_of("last", online=True))
    assert _said(watcher) == (True, "last")
    assert ann.events[before:] == []


def test_closing_ends_though_the_broker_takes_nothing(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.publish(Inbox(ANN), bytes(20 * MB))
    peer.link.close([_presence_of("goodbye", online=False)])
    broker.hang_up()
    assert not peer.link.is_up
    assert peer.all(LinkDown) == []


def test_closing_while_nobody_answers_ends_the_attempts(loop: EventLoop) -> None:
    peer = Peer(loop, f"mqtt://127.0.0.1:{free_port()}", "f", "ann", retry_base_s=0, retry_max_s=0)
    peer.link.open()
    peer.next(LinkDown)
    peer.link.close([_presence_of("goodbye", online=False)])
    count = len(peer.events)
    for _ in range(5):
        loop.run_once(wait_max_s=0)
    assert len(peer.events) == count


@speaks
def test_who_leaves_says_goodbye_and_comes_back_by_itself(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    watcher = Peer(loop, broker.url, federation_name, "watcher", subscribe=(_all(federation_name),))
    inbox = Topics(federation_name).path(Inbox(ANN))
    ann = Peer(loop, broker.url, federation_name, "ann", will=_will, subscribe=(inbox,))
    peers += [watcher, ann]
    watcher.connect()
    first = ann.connect()
    before = len(ann.events)
    # More than may be on the way at a time: the last word must wait for its turn.
    for number in range(100):
        ann.link.publish(UpdatePart(0, ANN, RoundId(1), str(number)), bytes(1000))
    ann.link.leave([_presence_of("goodbye", online=False)], back_in_s=0.01)
    assert not ann.link.is_up
    watcher.arrival(UpdatePart(0, ANN, RoundId(1), "99"))
    assert _said(watcher) == (False, "goodbye")
    back = ann.next(LinkUp)
    assert back.token != first.token
    assert ann.events[before:] == [back], "it left as it was told to: there is nothing to tell"
    # The broker had nothing to add, and lets it hear again.
    watcher.link.perform(_presence_of("last", online=True))
    assert _said(watcher) == (True, "last")
    watcher.link.publish(Inbox(ANN), b"welcome")
    assert ann.arrival(Inbox(ANN)).payload == b"welcome"


def test_what_arrives_while_one_leaves_is_not_handled(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.leave([_presence_of("goodbye", online=False)], back_in_s=1000.0)
    goodbye = _received(loop, broker)
    assert goodbye.kind == PUBLISH
    topic = b"fed/v1/f/inbox/ann"
    broker.send(bytes([0x30, 2 + len(topic) + 1]) + len(topic).to_bytes(2) + topic + b"\x00")
    broker.send(puback(goodbye.mid))
    assert _received(loop, broker).kind == DISCONNECT
    broker.hang_up()
    assert peer.events == [peer.events[0]]
    # The program wants it back before the time has come.
    peer.link.open()
    _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.close()


def test_leaving_ends_though_the_broker_takes_nothing(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    silent = _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.leave([_presence_of("goodbye", online=False)], back_in_s=0.0)
    _accept(loop, stub)
    peer.next(LinkUp)
    assert peer.all(LinkDown) == []
    silent.hang_up()
    peer.link.close()


def test_who_closes_while_it_is_away_does_not_come_back(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.leave([], back_in_s=0.0)
    assert _received(loop, broker).kind == DISCONNECT
    peer.link.close()
    for _ in range(5):
        loop.run_once(wait_max_s=0)
    assert not stub.has_caller()


def test_there_is_nothing_to_leave_without_a_link(loop: EventLoop) -> None:
    peer = Peer(loop, f"mqtt://127.0.0.1:{free_port()}", "f", "ann")
    peer.link.open()
    peer.next(LinkDown)
    peer.link.leave([_presence_of("goodbye", online=False)], back_in_s=1000.0)
    # It goes on trying as before.
    peer.next(LinkDown)
    peer.link.close()


# Another network


class Shaky:
    """A network that lets nobody connect before it is told to, and hands out one byte at a time."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.asked: list[Callable[[], None]] = []
        self.done_count = 0
        self.wrapped: list[Drip] = []
        self.watched: set[int] = set()

    def ask(self, connect: Callable[[], None]) -> None:
        self.asked.append(connect)

    def done(self) -> None:
        self.done_count += 1

    def wrap(self, sock: socket.socket) -> socket.socket:
        self.wrapped.append(Drip(sock.family, sock.type, sock.proto, sock.detach()))
        return self.wrapped[-1]

    def watch(self, fd: int, on_ready: OnReady, *, write: bool = False) -> None:
        self.watched.add(fd)
        self._loop.watch(fd, on_ready, write=write)

    def unwatch(self, fd: int) -> None:
        self.watched.discard(fd)
        self._loop.unwatch(fd)


class Drip(socket.socket):
    sent_count = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        return super().recv(1, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        Drip.sent_count += 1
        return super().send(data[:1], flags)


def test_a_link_connects_through_its_network_and_when_that_lets_it(
    loop: EventLoop, stub: StubBroker
) -> None:
    network = Shaky(loop)
    events: list[LinkEvent] = []
    options = LinkOptions(client_id="ann", retry_base_s=0.01, retry_max_s=0.01)
    link = MqttLink(loop, parse_broker_url(stub.url), Topics("f"), options, events.append, network)
    link.open()
    until(loop, lambda: len(network.asked) == 1)
    loop.run_once(wait_max_s=0)
    assert not stub.has_caller() and network.wrapped == []
    network.asked[0]()
    done_before = network.done_count
    connection = _accept(loop, stub)
    until(loop, lambda: link.is_up)
    # It was let in once, and is not waited for any more. All it said went through the network.
    assert network.done_count == done_before + 1
    assert len(network.wrapped) == 1 and Drip.sent_count > 10
    assert network.watched == {network.wrapped[0].fileno()}
    connection.hang_up()
    # It returns as it came: by asking.
    until(loop, lambda: len(network.asked) == 2)
    assert network.watched == set() and not stub.has_caller()
    link.close()
    assert network.done_count > done_before + 1


# Messages


@speaks
def test_a_retained_offer_arrives_later_with_less_time(
    loop: EventLoop, mosquitto_broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    coordinator = Peer(loop, mosquitto_broker.url, federation_name, "coordinator")
    early = Peer(
        loop,
        mosquitto_broker.url,
        federation_name,
        "early",
        subscribe=(Topics(federation_name).offer,),
    )
    peers += [coordinator, early]
    coordinator.connect()
    early.connect()
    coordinator.link.perform(Publish(OfferBoard(), offer(closes_in_s=600)))
    arrived = early.arrival(OfferBoard())
    assert arrived.expires_in_s == 600
    # The broker counts whole seconds: read again until one has passed.
    while arrived.expires_in_s == 600:
        early.link.subscribe([OfferBoard()])
        arrived = early.arrival(OfferBoard())
    assert arrived.expires_in_s is not None and arrived.expires_in_s < 600
    assert read_offer(arrived.payload).closes_in_s == 600


@speaks
def test_a_retained_message_is_cleared_by_none(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    everything = _all(federation_name)
    ann = Peer(loop, broker.url, federation_name, "ann", subscribe=(everything,))
    peers.append(ann)
    ann.connect()
    ann.link.perform(Publish(OfferBoard(), offer(closes_in_s=60)))
    assert ann.arrival(OfferBoard()).payload
    ann.link.perform(Publish(OfferBoard(), None))
    assert ann.arrival(OfferBoard()).payload == b""
    late = Peer(loop, broker.url, federation_name, "late", subscribe=(everything,))
    peers.append(late)
    late.connect()
    late.link.publish(StatusPage("round"), b"{}")
    assert late.arrival(StatusPage("round")).payload == b"{}"
    assert [event for event in late.events if getattr(event, "address", None) == OfferBoard()] == []


@speaks
def test_nothing_is_sent_while_the_link_is_down(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    watcher = Peer(loop, broker.url, federation_name, "watcher", subscribe=(_all(federation_name),))
    ann = Peer(loop, broker.url, federation_name, "ann")
    peers += [watcher, ann]
    watcher.connect()
    taken: list[Part] = []
    for word in (b"before", b"while away"):
        ann.link.publish(StatusPage("word"), word)
        ann.link.stream(_taking(taken, [Part(StatusPage("word"), word)]))
        ann.link.subscribe([OfferBoard()])
        ann.link.unsubscribe([OfferBoard()])
        if not ann.link.is_up and word == b"before":
            ann.connect()
            ann.link.cut(back_in_s=0.01)
    ann.next(LinkUp)
    ann.link.publish(StatusPage("word"), b"after")
    assert watcher.arrival(StatusPage("word")).payload == b"after"
    assert taken == []
    assert ann.link.bytes_sent == len(f"fed/v1/{federation_name}/status/word") + len(b"after")


@speaks
def test_bytes_are_counted_on_both_sides(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    reader = Peer(loop, broker.url, federation_name, "reader", subscribe=(_all(federation_name),))
    writer = Peer(loop, broker.url, federation_name, "writer")
    peers += [reader, writer]
    reader.connect()
    writer.connect()
    writer.link.publish(Inbox(ANN), bytes(1000))
    writer.link.stream(iter([Part(Inbox(ANN), bytes(500))]))
    reader.arrival(Inbox(ANN))
    reader.arrival(Inbox(ANN))
    total = 1500 + 2 * len(f"fed/v1/{federation_name}/inbox/ann")
    assert (writer.link.bytes_sent, reader.link.bytes_received) == (total, total)


@speaks
def test_topics_of_others_are_not_for_us(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    ann = Peer(
        loop,
        broker.url,
        federation_name,
        "ann",
        subscribe=(_all(f"{federation_name}-2"), _all(federation_name)),
    )
    other = Peer(loop, broker.url, f"{federation_name}-2", "other")
    peers += [ann, other]
    ann.connect()
    other.connect()
    other.link.publish(Inbox(ANN), b"foreign", None)
    ann.link.publish(Inbox(ANN), b"ours")
    assert ann.arrival(Inbox(ANN)).payload == b"ours"


# Streams


def test_a_stream_keeps_to_its_window(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    taken: list[Part] = []
    peer.link.stream(_taking(taken, _parts(30)))
    packets = []
    for acknowledged in range(30):
        loop.run_once(wait_max_s=0)
        until(loop, lambda: len(taken) == min(30, acknowledged + STREAM_WINDOW))  # noqa: B023
        loop.run_once(wait_max_s=0)
        assert len(taken) == min(30, acknowledged + STREAM_WINDOW)
        packets.append(_received(loop, broker))
        broker.send(puback(packets[-1].mid))
    assert all(packet.kind == PUBLISH for packet in packets)
    assert [packet.body[-1] for packet in packets] == list(range(30))
    peer.link.close()


def test_what_the_broker_has_not_acknowledged_is_on_its_way(
    loop: EventLoop, stub: StubBroker
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    here, other = StatusPage("round"), StatusPage("model")
    peer.link.publish(here, b"x")
    assert peer.link.is_on_its_way(here)
    assert not peer.link.is_on_its_way(other)
    broker.send(puback(_received(loop, broker).mid))
    until(loop, lambda: not peer.link.is_on_its_way(here))
    peer.link.publish(here, b"x")
    broker.hang_up()
    peer.next(LinkDown)
    assert not peer.link.is_on_its_way(here)
    peer.link.close()


def test_a_stream_ends_with_the_connection(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    taken: list[Part] = []
    peer.link.stream(_taking(taken, _parts(30)))
    peer.link.stream(_taking(taken, _parts(30)))
    assert len(taken) == STREAM_WINDOW
    assert _received(loop, broker).kind == PUBLISH
    broker.hang_up()
    peer.next(LinkDown)
    again = _accept(loop, stub)
    peer.next(LinkUp)
    peer.link.publish(StatusPage("round"), b"fresh")
    assert _received(loop, again).body.endswith(b"fresh")
    assert len(taken) == STREAM_WINDOW
    again.hang_up()
    peer.link.close()


@speaks
def test_large_streams_arrive_whole_and_one_after_the_other(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    reader = Peer(
        loop,
        broker.url,
        federation_name,
        "reader",
        subscribe=(_all(federation_name),),
    )
    writer = Peer(loop, broker.url, federation_name, "writer")
    peers += [reader, writer]
    reader.connect()
    writer.connect()
    whole = hashlib.sha256(b"seed").digest() * (8 * MB // 32)
    chunk = 128 * 1024
    pieces = [whole[start : start + chunk] for start in range(0, len(whole), chunk)]
    for round_id in (1, 2):
        addresses = [UpdatePart(0, ANN, RoundId(round_id), str(i)) for i in range(len(pieces))]
        writer.link.stream(map(Part, addresses, pieces))
    for round_id in (1, 2):
        for number, piece in enumerate(pieces):
            assert (
                reader.arrival(UpdatePart(0, ANN, RoundId(round_id), str(number))).payload == piece
            )
    assert reader.all(LinkDown) == writer.all(LinkDown) == []


# What brokers demand


@speaks
def test_a_publish_that_the_broker_does_not_allow_is_told(
    loop: EventLoop, tmp_path: Path, federation_name: str, peers: list[Peer]
) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite fed/v1/{federation_name}/presence/ann\n")
    with own_broker("mosquitto", tmp_path, free_port(), [f"acl_file {acl}"]) as url:
        ann = Peer(loop, url, federation_name, "ann")
        ann.connect()
        ann.link.publish(PresenceOf(ANN), b"allowed")
        ann.link.publish(PresenceOf(ClientId("bob")), b"forged")
        assert ann.next(Refused) == Refused(PresenceOf(ClientId("bob")), "Not authorized")
        assert ann.link.is_up
        ann.link.close()


def test_a_subscription_that_the_broker_does_not_allow_is_told(
    loop: EventLoop, stub: StubBroker
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    chunks = [ModelChunk(DIGEST, 0), ModelChunk(DIGEST, 1)]
    peer.link.subscribe(chunks)
    broker.send(suback(_received(loop, broker).mid, 1, 0x87))
    assert peer.next(Refused) == Refused(chunks[1], "Not authorized")
    peer.link.close()


def test_a_client_that_may_not_hear_anything_does_not_pass_for_connected(
    loop: EventLoop, stub: StubBroker
) -> None:
    peer = Peer(loop, stub.url, "f", "ann", subscribe=("fed/v1/f/offer", "fed/v1/f/inbox/ann"))
    peer.link.open()
    broker = _accept(loop, stub)
    peer.next(LinkUp)
    request = _received(loop, broker)
    assert request.kind == SUBSCRIBE
    broker.send(suback(request.mid, 0x87, 1))
    reason = peer.next(LinkDown).reason
    assert reason == f"{stub.url} does not let us read fed/v1/f/offer: Not authorized"
    peer.link.close()


@pytest.mark.parametrize(
    ("limit", "room"), [(None, 131_072), (2_000_000, 131_072), (20_000, 18_976), (1500, 1024)]
)
def test_a_message_leaves_room_for_what_goes_beside_it(limit: int | None, room: int) -> None:
    assert room_for(131_072, limit) == room


@speaks
def test_the_largest_packet_of_the_broker_is_known(
    loop: EventLoop, tmp_path: Path, federation_name: str
) -> None:
    with own_broker("mosquitto", tmp_path, free_port(), ["max_packet_size 20000"]) as url:
        ann = Peer(loop, url, federation_name, "ann")
        assert ann.connect().packet_bytes_max == 20000
        ann.link.close()


@speaks
def test_what_the_broker_cannot_carry_is_refused_here_and_the_connection_lives(
    loop: EventLoop, tmp_path: Path, federation_name: str
) -> None:
    with own_broker("mosquitto", tmp_path, free_port(), ["max_packet_size 20000"]) as url:
        ann = Peer(loop, url, federation_name, "ann", subscribe=(_all(federation_name),))
        ann.connect()
        part = UpdatePart(0, ANN, RoundId(1), "0")
        ann.link.publish(part, bytes(20_000))
        assert ann.next(Refused) == Refused(part, "20000 bytes; the broker takes packets of 20000")
        ann.link.publish(part, bytes(19_000))
        assert len(ann.arrival(part).payload) == 19_000
        assert ann.all(LinkDown) == []
        ann.link.close()


@speaks
def test_no_more_is_on_the_way_than_the_broker_takes(
    loop: EventLoop, tmp_path: Path, federation_name: str
) -> None:
    with own_broker("mosquitto", tmp_path, free_port(), ["max_inflight_messages 2"]) as url:
        ann = Peer(loop, url, federation_name, "ann", subscribe=(_all(federation_name),))
        ann.connect()
        for number in range(100):
            ann.link.publish(UpdatePart(0, ANN, RoundId(1), str(number)), bytes(5000))
        for number in range(100):
            ann.arrival(UpdatePart(0, ANN, RoundId(1), str(number)))
        assert ann.all(LinkDown) == []
        ann.link.close()


def test_a_keepalive_that_the_broker_sets_is_kept(loop: EventLoop, stub: StubBroker) -> None:
    peer = Peer(loop, stub.url, "f", "ann", keepalive_s=1000)
    peer.link.open()
    broker = _connection(loop, stub)
    assert broker.receive().kind == CONNECT
    broker.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # Property 19, server keep alive: 1 s.
    peer.next(LinkUp)
    assert _received(loop, broker).kind == PINGREQ
    peer.link.close()


@pytest.mark.parametrize(
    "nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 40, b"\xff" * 40]
)
def test_a_server_that_is_no_broker_is_a_lost_link(
    loop: EventLoop, stub: StubBroker, nonsense: bytes
) -> None:
    peer = Peer(loop, stub.url, "f", "ann")
    peer.link.open()
    for _ in (5, 4):
        connection = _connection(loop, stub)
        connection.receive()
        connection.send(nonsense)
        connection.hang_up()
    peer.next(LinkDown)
    peer.link.close()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a certificate for 127.0.0.1 that signs itself: cert.pem and key.pem."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *words.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def _encrypted(certificate: Path, folder: Path) -> Iterator[str]:
    files = [f"certfile {certificate / 'cert.pem'}", f"keyfile {certificate / 'key.pem'}"]
    with own_broker("mosquitto", folder, free_port(), files) as url:
        yield url.replace("mqtt://", "mqtts://")


@speaks
def test_large_messages_arrive_over_tls(
    loop: EventLoop, certificate: Path, tmp_path: Path, federation_name: str
) -> None:
    with _encrypted(certificate, tmp_path) as url:
        ca = str(certificate / "cert.pem")
        ann = Peer(loop, url, federation_name, "ann", tls_ca=ca, subscribe=(_all(federation_name),))
        ann.connect()
        ann.link.stream(iter([Part(Inbox(ANN), bytes([n]) * MB) for n in range(8)]))
        for number in range(8):
            assert ann.arrival(Inbox(ANN)).payload == bytes([number]) * MB
        ann.link.close()


@speaks
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    loop: EventLoop, certificate: Path, tmp_path: Path, federation_name: str
) -> None:
    with _encrypted(certificate, tmp_path) as url:
        ann = Peer(loop, url, federation_name, "ann")
        ann.link.open()
        assert "certificate" in ann.next(LinkDown).reason
        ann.link.close()


@speaks
def test_who_comes_unencrypted_to_a_port_for_tls_is_told_of_mqtts(
    loop: EventLoop, certificate: Path, tmp_path: Path, federation_name: str
) -> None:
    with _encrypted(certificate, tmp_path) as url:
        ann = Peer(loop, url.replace("mqtts://", "mqtt://"), federation_name, "ann")
        ann.link.open()
        reason = ann.next(LinkDown).reason
        assert "hung up before it answered" in reason and reason.endswith("begins with mqtts://")
        ann.link.close()


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_ca_that_is_none_is_refused_at_once(
    loop: EventLoop, tmp_path: Path, content: str | None
) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(BrokerUrlError, match=r"tls_ca '.*ca\.pem' is no file of certificates"):
        Peer(loop, "mqtts://127.0.0.1", "f", "ann", tls_ca=str(ca))


# Playing the broker


def _connection(loop: EventLoop, stub: StubBroker) -> Connection:
    """The next connection of a client that is about to connect, its CONNECT on the way."""
    connection = stub.accept(lambda: loop.run_once(wait_max_s=0.05))
    loop.run_once(wait_max_s=0)
    return connection


def _accept(loop: EventLoop, stub: StubBroker) -> Connection:
    connection = _connection(loop, stub)
    assert connection.receive().kind == CONNECT
    connection.send(CONNACK_5)
    return connection


def _received(loop: EventLoop, connection: Connection) -> Packet:
    until(loop, connection.has_more, "a packet")
    return connection.receive()


def _parts(count: int) -> list[Part]:
    return [Part(UpdatePart(0, ANN, RoundId(1), str(n)), bytes([n])) for n in range(count)]


def _taking(taken: list[Part], parts: list[Part]) -> Iterator[Part]:
    for part in parts:
        taken.append(part)
        yield part


def test_a_retained_message_that_paho_cannot_read_locks_nobody_out(
    loop: EventLoop, mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    # MQTT allows U+FEFF in a property; paho ends the connection over it, at every connect anew.
    mine = Topics(federation_name).path(PresenceOf(ANN))
    url = parse_broker_url(mosquitto_broker.url)
    with socket.create_connection((url.host, url.port)) as raw:
        hello = _text("MQTT") + bytes([5, 2, 0, 60, 0]) + _text("evil")
        raw.sendall(bytes([0x10, len(hello)]) + hello)
        assert raw.recv(1) == b"\x20"
        strange = b"\x26" + _text("k\ufeff") + _text("v")
        words = _text(mine) + bytes([len(strange)]) + strange + b"kept"
        raw.sendall(bytes([0x31, len(words)]) + words)
        ann = Peer(loop, mosquitto_broker.url, federation_name, "ann", subscribe=(mine,))
        ann.link.open()
        assert ann.arrival(PresenceOf(ANN)).payload == b"kept"
        assert ann.all(LinkUp)[-1].protocol == "MQTT 3.1.1"
        ann.link.publish(PresenceOf(ANN), b"")
        ann.link.close()


@speaks
def test_more_than_we_want_to_hold_does_not_reach_us(
    loop: EventLoop, tmp_path: Path, federation_name: str
) -> None:
    with own_broker("mosquitto", tmp_path, free_port(), []) as url:
        ann = Peer(loop, url, federation_name, "ann", subscribe=(_all(federation_name),))
        ann.connect()
        part = UpdatePart(0, ANN, RoundId(1), "0")
        ann.link.publish(part, bytes(RECEIVE_BYTES_MAX + 1))
        ann.link.publish(part, b"small")
        assert ann.arrival(part).payload == b"small"
        assert ann.all(LinkDown) == []
        ann.link.close()


def _text(text: str) -> bytes:
    """As MQTT writes it: two bytes of length, then UTF-8."""
    return len(text.encode()).to_bytes(2) + text.encode()
