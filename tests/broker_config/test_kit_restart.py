"""What a kit's broker keeps while it is stopped and started: on a real Mosquitto."""

from pathlib import Path

import pytest

from broker_config.kit import Kit
from broker_config.mosquitto import find_mosquitto
from fedmqtt import command_line
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.broker_config.raw_client import RawClient
from tests.patience import WITHIN_S

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_OFFER = f"fed/v1/{FEDERATION}/offer"


def test_what_is_retained_outlives_a_start_of_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made as by a person, in a folder that is named from where one stands."""
    monkeypatch.chdir(tmp_path)
    ports = plan(tmp_path)
    words = ["broker-kit", "kit", "--federation", FEDERATION, "--host", "localhost"]
    words += ["--port", str(ports.port), "--servers-port", str(ports.servers_port)]
    assert command_line.run(words) == 0
    folder = tmp_path / "kit"
    made = Kit(folder)
    # It is stopped by SIGTERM, as by an init system.
    with running_kit(made, folder) as broker:
        account = broker.account("coordinator")
        with RawClient(account, broker.servers_port, "before") as coordinator:
            assert not coordinator.refusal
            assert coordinator.publish(_OFFER, b"round 1", retain=True)
    # It runs as the kit's owner, also where root starts it: nobody else may look in here.
    store = folder / "data" / "mosquitto.db"
    assert store.stat().st_uid == folder.stat().st_uid
    with (
        running_kit(made, folder) as broker,
        RawClient(account, broker.servers_port, "after") as coordinator,
    ):
        assert not coordinator.refusal
        assert coordinator.subscribe(_OFFER)
        got = coordinator.messages.get(timeout=WITHIN_S)
        assert (got.topic, got.payload) == (_OFFER, b"round 1")
