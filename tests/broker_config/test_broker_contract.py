"""What every broker we work with must do; each test runs against each broker that can be had."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from select import select
from urllib.parse import urlsplit

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.event_loop import EventLoop
from tests.broker_config import broker_facts, cluster_facts
from tests.broker_config.plain_client import PlainClient, Will, connected
from tests.fedmqtt.peer import loop

__all__ = ["loop"]

pytestmark = pytest.mark.broker

CHUNK_BYTES = 128 * 1024
CHUNKS = 8


def test_a_latecomer_fetches_a_retained_model_chunk_by_chunk(
    any_broker: RunningBroker, federation_name: str
) -> None:
    chunks = {f"{federation_name}/model/{i}": bytes([i]) * CHUNK_BYTES for i in range(CHUNKS)}
    with connected(any_broker.url, f"{federation_name}-coordinator") as coordinator:
        for topic, chunk in chunks.items():
            coordinator.publish(topic, chunk, retain=True)

    with connected(any_broker.url, f"{federation_name}-ann") as ann:
        for topic in chunks:
            ann.subscribe(topic)
        fetched = [ann.receive() for _ in chunks]

    assert {message.topic: message.payload for message in fetched} == chunks
    assert all(message.retain for message in fetched)


def test_a_retained_message_is_gone_when_it_was_cleared(
    any_broker: RunningBroker, federation_name: str
) -> None:
    with connected(any_broker.url, f"{federation_name}-coordinator") as coordinator:
        coordinator.publish(f"{federation_name}/model/old", b"superseded", retain=True)
        coordinator.publish(f"{federation_name}/model/old", b"", retain=True)
        coordinator.publish(f"{federation_name}/model/new", b"current", retain=True)

    with connected(any_broker.url, f"{federation_name}-ann") as ann:
        ann.subscribe(f"{federation_name}/model/old")
        ann.subscribe(f"{federation_name}/model/new")
        assert ann.receive().payload == b"current"
        _assert_nothing_is_on_its_way(ann, federation_name)


def test_a_client_gets_only_what_it_subscribed_to(
    any_broker: RunningBroker, federation_name: str
) -> None:
    with (
        connected(any_broker.url, f"{federation_name}-ann") as ann,
        connected(any_broker.url, f"{federation_name}-coordinator") as coordinator,
    ):
        ann.subscribe(f"{federation_name}/model/+")
        coordinator.publish(f"{federation_name}/model/0", b"for ann", retain=True)
        ann.receive()
        with connected(any_broker.url, f"{federation_name}-bob") as bob:
            _assert_nothing_is_on_its_way(bob, federation_name)


@pytest.mark.parametrize("goes", ["vanish", "fall_silent"])
def test_the_will_tells_those_who_listen_and_those_who_come_later(
    any_broker: RunningBroker, federation_name: str, goes: str
) -> None:
    will = Will(f"{federation_name}/presence/ann", b"offline")
    with connected(any_broker.url, f"{federation_name}-coordinator") as coordinator:
        coordinator.subscribe(f"{federation_name}/presence/+")
        # The broker sees at once that who vanished is gone, and of who is silent after a while.
        patience_s = 1 if goes == "fall_silent" else 60
        with connected(
            any_broker.url, f"{federation_name}-ann", will=will, keepalive_s=patience_s
        ) as ann:
            ann.publish(will.topic, b"online", retain=True)
            assert coordinator.receive().payload == b"online"
            getattr(ann, goes)()
            assert coordinator.receive().payload == b"offline"

    with connected(any_broker.url, f"{federation_name}-latecomer") as latecomer:
        latecomer.subscribe(will.topic)
        assert latecomer.receive().payload == b"offline"


def test_an_offline_client_finds_its_receipts_when_it_is_back(
    any_broker: RunningBroker, federation_name: str
) -> None:
    inbox = f"{federation_name}/inbox/ann"
    with connected(any_broker.url, f"{federation_name}-ann", clean_session=False) as ann:
        ann.subscribe(inbox)

    with connected(any_broker.url, f"{federation_name}-coordinator") as coordinator:
        for i in range(10):
            coordinator.publish(inbox, bytes([i]))

    with connected(any_broker.url, f"{federation_name}-ann", clean_session=False) as ann:
        receipts = [ann.receive() for _ in range(10)]
        assert ann.session_present

    assert [receipt.payload for receipt in receipts] == [bytes([i]) for i in range(10)]
    assert not any(receipt.retain for receipt in receipts)


@pytest.mark.parametrize("clean_session", [True, False])
def test_a_client_that_comes_back_before_it_was_missed_takes_over(
    any_broker: RunningBroker, federation_name: str, clean_session: bool
) -> None:
    name = f"{federation_name}-ann"
    with connected(any_broker.url, name, clean_session=clean_session) as older:
        older.subscribe(f"{federation_name}/offer")
        older.fall_silent()
        with (
            connected(any_broker.url, name, clean_session=clean_session) as newer,
            connected(any_broker.url, f"{federation_name}-coordinator") as coordinator,
        ):
            newer.subscribe(f"{federation_name}/offer")
            coordinator.publish(f"{federation_name}/offer", b"round 1")
            assert newer.receive().payload == b"round 1"
            older.wait_until_hung_up()


def test_of_namesakes_that_come_in_the_same_instant_one_stays(
    any_broker: RunningBroker, federation_name: str
) -> None:
    address = urlsplit(any_broker.url)
    name = f"{federation_name}-ann".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name
    connect = bytes([0x10, len(body)]) + body
    with ExitStack() as links:
        sockets = [
            links.enter_context(socket.create_connection((address.hostname, address.port), 30))
            for _ in range(12)
        ]
        for one in sockets:
            one.sendall(connect)
        hung_up: set[socket.socket] = set()
        while len(hung_up) < len(sockets) - 1:
            readable, _, _ = select(set(sockets) - hung_up, [], [], 30)
            assert readable, f"{len(sockets) - len(hung_up)} of one name are still connected"
            hung_up |= {one for one in readable if not _read(one)}
        (last,) = set(sockets) - hung_up
        last.sendall(b"\xc0\x00")
        received = b""
        while not received.endswith(b"\xd0\x00"):
            received += (more := _read(last))
            assert more, "the last one was hung up too"


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionError:
        return b""


def test_sixty_clients_come_at_once_and_each_gets_the_offer(
    any_broker: RunningBroker, federation_name: str
) -> None:
    def come(i: int) -> bytes:
        with connected(any_broker.url, f"{federation_name}-{i}") as client:
            client.subscribe(f"{federation_name}/inbox/{i}")
            client.subscribe(f"{federation_name}/offer")
            return bytes(client.receive().payload)

    with connected(any_broker.url, f"{federation_name}-coordinator") as coordinator:
        coordinator.publish(f"{federation_name}/offer", b"round 1", retain=True)
    with ThreadPoolExecutor(60) as pool:
        assert list(pool.map(come, range(60))) == [b"round 1"] * 60


def test_a_broker_is_what_the_page_says_of_it(
    any_broker: RunningBroker, broker_kind: str, loop: EventLoop, federation_name: str
) -> None:
    found = broker_facts.find(loop, any_broker.url, federation_name)
    if broker_kind not in broker_facts.KEPT.names:
        pytest.skip(f"nothing is written yet of {any_broker.name}, which is {found}")
    # `python -m tests.broker_table` writes it anew.
    assert found == broker_facts.FOUND[broker_kind]


def test_the_pages_have_the_tables_of_what_was_found() -> None:
    for kept in (broker_facts.KEPT, cluster_facts.KEPT):
        assert kept.found().keys() == kept.names.keys()
        assert kept.is_on_page(), f"`python -m tests.broker_table` writes {kept.page}"


def _assert_nothing_is_on_its_way(client: PlainClient, federation_name: str) -> None:
    # Brokers keep the order: what was on its way arrives before what the client now sends itself.
    client.subscribe(f"{federation_name}/fence")
    client.publish(f"{federation_name}/fence", b"")
    assert client.receive().topic == f"{federation_name}/fence"
