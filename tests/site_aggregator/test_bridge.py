"""Two Mosquittos joined by a bridge: the site knows its own alone, and the line between is cut."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker_config.local_broker import RunningBroker
from edge_client.config import ClientConfig
from fedmqtt.topics import ClientId
from site_aggregator import bridge
from site_aggregator.bridge import BridgeError
from tests.faults.proxy import proxy_to
from tests.own_broker import free_port, mosquitto_at
from tests.programs import wait_until
from tests.site_aggregator.two_levels import Federation, model_of

DEVICES = ("ann", "bob", "eve")


def bridge_lines(config: Path, address: str) -> list[str]:
    """As the owner of a site is told them."""
    words = ("site", str(config), "--insecure", "--print-bridge", address)
    told = subprocess.run(
        [sys.executable, "-m", "fedmqtt", *words], capture_output=True, text=True, check=True
    )
    return told.stdout.splitlines()


def test_the_bridge_carries_what_one_client_reads_and_writes_and_nothing_else(
    tmp_path: Path,
) -> None:
    config = tmp_path / "site.toml"
    config.write_text(
        'task = "t"\n[centre]\nbroker = "mqtt://localhost"\nfederation = "all"\nid = "north"\n'
        '[devices]\nname = "north-ward"\n'
    )
    lines = bridge_lines(config, "centre.example.org:1883")
    assert "address centre.example.org:1883" in lines
    assert "cleansession false" in lines
    assert [line for line in lines if line.startswith("topic")] == [
        "topic fed/v1/all/offer in 1",
        "topic fed/v1/all/model/+/+ in 1",
        "topic fed/v1/all/inbox/north in 1",
        "topic fed/v1/all/presence/north out 1",
        "topic fed/v1/all/update/+/north/+/+ out 1",
    ]


CENTRE = ClientConfig(federation="all", id=ClientId("north"), broker="mqtt://h", task="t")


@pytest.mark.parametrize(
    "address",
    [
        *("", "nonsense", ":1883", "h:0", "h:18x", "h:99999", "::1:1883", "mqtt://h:1883"),
        *("a b:1883", "h:1883 other:1883", "h:1883\ntopic # both 0"),
    ],
)
def test_what_is_no_place_of_a_broker_goes_into_no_file(address: str) -> None:
    with pytest.raises(BridgeError, match="expected the host and the port"):
        bridge.block(CENTRE, address)


def test_an_ipv6_address_has_no_brackets_in_mosquittos_settings() -> None:
    assert "address ::1:8883" in bridge.block(CENTRE, "[::1]:8883").splitlines()


@pytest.mark.broker
def test_a_site_behind_a_bridge_that_is_cut_counts_once_and_exactly(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    flat = Federation(tmp_path / "flat", f"{federation_name}-flat", rounds=2)
    flat.open_gates(*DEVICES)
    with flat.coordinating(url, 3) as alone, flat.devices(url, flat.name, *DEVICES):
        assert alone.wait() == 0, alone.log

    two = Federation(tmp_path / "two", federation_name, rounds=2)
    two.open_gates("ann", "eve")
    own_port = free_port()
    own = f"mqtt://127.0.0.1:{own_port}"
    with ExitStack() as stack:
        line = stack.enter_context(proxy_to(url))
        config = two.write_site("north", own, own)
        where = urlsplit(line.url)
        lines = bridge_lines(config, f"{where.hostname}:{where.port}")
        # Sooner than an owner would want it to be tried again.
        lines[lines.index("restart_timeout 2 30")] = "restart_timeout 1"
        stack.enter_context(mosquitto_at(own_port, *lines))
        centre = stack.enter_context(two.coordinating(url, 2, "[sites]\nclients_max = 2\n"))
        stack.enter_context(two.site("north", own, own))
        names = two.devices(own, two.own_name("north"), "ann", "bob")
        ann, _ = stack.enter_context(names)
        stack.enter_context(two.devices(url, two.name, "eve"))
        ann.wait_for("receipt: round 1 accepted")
        line.refuse()
        two.open_gates("bob", rounds=range(1, 2))
        wait_until(lambda: two.rounds_at("north") == 1)
        line.let_in()
        two.open_gates("bob")
        assert centre.wait() == 0, centre.log
    *rounds, _ = two.records()
    assert [record.answered for record in rounds] == [["eve", "north"]] * 2
    assert model_of(two.run) == model_of(flat.run)
