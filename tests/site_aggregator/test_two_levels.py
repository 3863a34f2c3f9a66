"""Two levels are one federation: real programs, and a real broker for each site."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.own_broker import free_ports, mosquitto_at
from tests.programs import wait_until
from tests.site_aggregator.two_levels import DEVICES, SITES, Federation, model_of

pytestmark = pytest.mark.broker


@pytest.fixture
def own_brokers() -> Iterator[dict[str, str]]:
    """The address of each site's own."""
    with ExitStack() as stack:
        ports = dict(zip(SITES, free_ports(len(SITES)), strict=True))
        for port in ports.values():
            stack.enter_context(mosquitto_at(port))
        yield {name: f"mqtt://127.0.0.1:{port}" for name, port in ports.items()}


def test_a_quiet_site_gives_the_same(
    mosquitto_broker: RunningBroker,
    own_brokers: dict[str, str],
    federation_name: str,
    tmp_path: Path,
) -> None:
    """Its devices say that they are there to nobody, and see for themselves whom it asks."""
    url, devices = mosquitto_broker.url, SITES["south"]
    made = []
    for is_quiet in (False, True):
        name = f"{federation_name}-{is_quiet}"
        two = Federation(tmp_path / name, name, rounds=2)
        two.open_gates(*DEVICES)
        with ExitStack() as stack:
            centre = stack.enter_context(two.coordinating(url, 2, "[sites]\nclients_max = 8\n"))
            measured = "[devices.evaluation]\nclients = 2"
            own = own_brokers["south"]
            site = two.site("south", url, own, devices=measured, is_quiet=is_quiet)
            stack.enter_context(site)
            stack.enter_context(two.devices(own, two.own_name("south"), *devices))
            stack.enter_context(two.devices(url, two.name, "eve"))
            assert centre.wait() == 0, centre.log
        *rounds, last = two.records()
        for record in rounds:
            assert (record.outcome, record.answered) == ("averaged", ["eve", "south"])
            assert record.samples == sum(10 + ord(name[0]) for name in (*devices, "eve"))
        assert last.outcome == "evaluated"
        assert last.figures is not None and last.figures.samples == 30
        made.append(model_of(two.run))
    heard, unheard = made
    assert unheard == heard


def test_two_levels_make_the_model_of_one_to_the_last_bit(
    mosquitto_broker: RunningBroker,
    own_brokers: dict[str, str],
    federation_name: str,
    tmp_path: Path,
) -> None:
    url = mosquitto_broker.url
    flat = Federation(tmp_path / "flat", f"{federation_name}-flat", rounds=3)
    flat.open_gates(*DEVICES)
    with flat.coordinating(url, 5) as alone, flat.devices(url, flat.name, *DEVICES):
        assert alone.wait() == 0, alone.log

    two = Federation(tmp_path / "two", federation_name, rounds=3)
    two.open_gates(*DEVICES)
    with ExitStack() as stack:
        centre = stack.enter_context(two.coordinating(url, 3, "[sites]\nclients_max = 2\n"))
        for name, devices in SITES.items():
            stack.enter_context(two.site(name, url, own_brokers[name]))
            stack.enter_context(two.devices(own_brokers[name], two.own_name(name), *devices))
        stack.enter_context(two.devices(url, two.name, "eve"))
        assert centre.wait() == 0, centre.log

    *rounds, last = two.records()
    for record in rounds:
        assert (record.outcome, record.answered) == ("averaged", ["eve", "north", "south"])
        # ann to eve: 10 + ord(name[0]) each.
        assert record.samples == sum(10 + ord(name[0]) for name in DEVICES)
        assert record.figures is not None and record.figures.samples == 50
    assert last.outcome == "evaluated"
    assert last.figures is not None and last.figures.metrics["accuracy"] == 0.7
    assert model_of(two.run) == model_of(flat.run)
    for number, record in enumerate(two.site_records("north"), 1):
        assert record.round == number
    wait_until(lambda: len(two.site_records("north")) == 4)
