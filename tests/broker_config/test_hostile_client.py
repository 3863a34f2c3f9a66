"""What a device that does as it likes can do to a broker of the kit: on a real Mosquitto."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config import kit
from broker_config.kit import Login
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials
from fedmqtt.credentials import Credentials
from tests.broker_config.kit_broker import FEDERATION, KitBroker, look_again, plan, running_kit
from tests.broker_config.raw_client import RawClient
from tests.patience import WITHIN_S

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_ROOT = f"fed/v1/{FEDERATION}"
_LOGINS: tuple[Login, ...] = ("password", "certificate")


@pytest.fixture(scope="module", params=_LOGINS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KitBroker]:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    made = kit.create(folder, plan(folder, request.param))
    made.enroll("pi-3")
    made.enroll("mallory")
    with running_kit(made, folder) as running:
        yield running


@pytest.fixture
def mallory(broker: KitBroker) -> Iterator[RawClient]:
    with RawClient(broker.account("mallory"), broker.port, "demo:mallory") as client:
        assert not client.refusal
        yield client


@pytest.fixture
def coordinator(broker: KitBroker) -> Iterator[RawClient]:
    account = broker.account("coordinator")
    with RawClient(account, broker.servers_port, "demo::coordinator:1") as client:
        assert not client.refusal
        assert client.subscribe(f"{_ROOT}/#")
        yield client


def test_it_can_do_what_a_device_does(mallory: RawClient, coordinator: RawClient) -> None:
    for topic in ("presence/mallory", "update/3/mallory/7/0", "update/3/mallory/7/announce"):
        assert mallory.publish(f"{_ROOT}/{topic}"), topic
        assert coordinator.messages.get(timeout=WITHIN_S).topic == f"{_ROOT}/{topic}"
    assert mallory.subscribe(f"{_ROOT}/inbox/mallory")
    assert coordinator.publish(f"{_ROOT}/inbox/mallory", b"for you")
    assert mallory.messages.get(timeout=WITHIN_S).payload == b"for you"


@pytest.mark.parametrize(
    "topic",
    [
        "update/3/pi-3/7/0",
        "presence/pi-3",
        "offer",
        "model/" + "0" * 64 + "/0",
        "inbox/pi-3",
        "inbox/mallory",
        "seat",
        "claim",
        "status/round",
        "status/client/pi-3",
    ],
)
def test_it_cannot_write_what_is_not_its_own(mallory: RawClient, topic: str) -> None:
    assert not mallory.publish(f"{_ROOT}/{topic}")
    # As one clears what is retained there.
    assert not mallory.publish(f"{_ROOT}/{topic}", b"", retain=True)


def test_what_is_retained_stays(mallory: RawClient, coordinator: RawClient) -> None:
    coordinator.publish(f"{_ROOT}/offer", b"round 1", retain=True)
    assert coordinator.messages.get(timeout=WITHIN_S).payload == b"round 1"
    assert not mallory.publish(f"{_ROOT}/offer", b"", retain=True)
    mallory.subscribe(f"{_ROOT}/offer")
    assert mallory.messages.get(timeout=WITHIN_S).payload == b"round 1"


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "+/#",
        f"{_ROOT}/#",
        f"{_ROOT}/update/#",
        f"{_ROOT}/inbox/pi-3",
        f"{_ROOT}/inbox/+",
        f"{_ROOT}/presence/+",
        "$SYS/#",
    ],
)
def test_it_hears_nothing_of_others(
    broker: KitBroker, mallory: RawClient, coordinator: RawClient, topic_filter: str
) -> None:
    mallory.subscribe(topic_filter)
    with RawClient(broker.account("pi-3"), broker.port, "demo:pi-3") as other:
        assert other.publish(f"{_ROOT}/update/3/pi-3/7/0", b"an update")
        assert other.publish(f"{_ROOT}/presence/pi-3", b"here")
    coordinator.publish(f"{_ROOT}/inbox/pi-3", b"a receipt")
    # It hears its own, so what came before has been passed on to whoever may hear it.
    mallory.subscribe(f"{_ROOT}/inbox/mallory")
    coordinator.publish(f"{_ROOT}/inbox/mallory", b"the end")
    heard = [mallory.messages.get(timeout=WITHIN_S)]
    while heard[-1].payload != b"the end":
        heard.append(mallory.messages.get(timeout=WITHIN_S))
    others = [one for one in heard if "pi-3" in one.topic or one.topic.startswith("$SYS")]
    assert others == []


def test_it_cannot_take_anothers_session(broker: KitBroker, mallory: RawClient) -> None:
    with RawClient(broker.account("pi-3"), broker.port, "demo:pi-3") as other:
        assert other.subscribe(f"{_ROOT}/inbox/pi-3")
        with RawClient(broker.account("mallory"), broker.port, "demo:pi-3") as thief:
            assert not thief.refusal
            # Its session is named by its account: it has thrown out itself.
            assert mallory.await_end()
            assert other.publish(f"{_ROOT}/presence/pi-3")


def test_it_cannot_connect_where_coordinators_do_and_do_more(broker: KitBroker) -> None:
    account = broker.account("mallory")
    with RawClient(account, broker.servers_port, "demo::coordinator:2") as client:
        assert not client.publish(f"{_ROOT}/offer")


def test_a_monitor_writes_nothing(broker: KitBroker, coordinator: RawClient) -> None:
    with RawClient(broker.account("monitor"), broker.servers_port, "watch") as monitor:
        assert not monitor.refusal
        for topic in ("status/round", "offer", "presence/pi-3", "update/0/pi-3/1/0"):
            assert not monitor.publish(f"{_ROOT}/{topic}"), topic
        monitor.subscribe(f"{_ROOT}/status/#")
        coordinator.publish(f"{_ROOT}/status/round", b"{}")
        assert monitor.messages.get(timeout=WITHIN_S).topic == f"{_ROOT}/status/round"


def test_without_an_account_nobody_gets_in(broker: KitBroker, tmp_path: Path) -> None:
    stranger = kit.create(tmp_path / "other", plan(tmp_path / "other", broker.kit.plan.login))
    stranger.enroll("mallory")
    theirs = credentials.read(tmp_path / "other" / "accounts" / "mallory.toml")
    ours = broker.account("mallory")
    forged = Credentials(
        federation=ours.federation,
        id="mallory",
        broker=ours.broker,
        password=theirs.password,
        certificate=theirs.certificate,
        key=theirs.key,
        ca=ours.ca,
    )
    with RawClient(forged, broker.port, "demo:mallory") as client:
        assert client.refusal
    # And a broker of another CA is not believed.
    with RawClient(theirs, broker.port, "demo:mallory") as client:
        assert "certificate verify failed" in client.refusal


def test_who_is_revoked_gets_in_no_more(broker: KitBroker) -> None:
    broker.kit.enroll("lost-phone")
    look_again(broker)
    account = broker.account("lost-phone")
    with RawClient(account, broker.port, "demo:lost-phone") as client:
        assert not client.refusal
        assert client.publish(f"{_ROOT}/presence/lost-phone")
        broker.kit.revoke("lost-phone")
        look_again(broker)
        # The connection that it still has is good for nothing.
        assert not client.publish(f"{_ROOT}/presence/lost-phone")
    with RawClient(account, broker.port, "demo:lost-phone") as client:
        assert client.refusal
