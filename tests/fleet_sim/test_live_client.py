"""What is drawn for one live client is drawn apart from all else that is drawn for it."""

from collections import Counter
from pathlib import Path

from edge_client.config import ClientConfig
from edge_client.trainer_pool import TrainerPool
from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import parse_broker_url
from fleet_sim.connect_gate import ConnectGate
from fleet_sim.live_client import LiveClient, LivePlan, Surroundings
from fleet_sim.live_clock import LiveClock
from tests.fleet_sim.lab_fleets import LINEAR, fleet, names

URL = "mqtt://localhost:1"
CLIENTS = 2000


def _quarters(values: list[float]) -> list[int]:
    """In which quarter of all each one lies, from 0 to 3."""
    order = sorted(range(len(values)), key=values.__getitem__)
    places = {n: place for place, n in enumerate(order)}
    return [places[n] * 4 // len(values) for n in range(len(values))]


def test_when_a_link_breaks_first_tells_nothing_of_its_width(tmp_path: Path) -> None:
    text = f"clients = {CLIENTS}\n[link]\ncut_every_s = 60.0\nup = {{ kbps = 100.0, spread = 1.0 }}"
    crew = fleet(tmp_path, text, rounds="").crew(names(CLIENTS))
    loop = EventLoop()
    pool = TrainerPool(loop)
    here = Surroundings(
        loop,
        LiveClock(loop),
        parse_broker_url(URL),
        ConnectGate(loop),
        pool,
        lambda client, event: None,
        seed=1,
    )
    widths, cuts = [], []
    for n in range(CLIENTS):
        link = crew[n].link
        config = ClientConfig(broker=URL, federation="f", id=crew[n].client, task=LINEAR)
        client = LiveClient(here, config, LivePlan(name=crew[n].client, link=link))
        widths.append(link.up.bytes_per_s)
        seconds = 0
        while client.weather.survives(1.0):
            seconds += 1
        cuts.append(seconds + n / CLIENTS / 2)
    pool.close()
    loop.close()
    together = Counter(zip(_quarters(widths), _quarters(cuts), strict=True))
    expected = CLIENTS / 16
    chi_square = sum(
        (together[width, cut] - expected) ** 2 / expected for width in range(4) for cut in range(4)
    )
    # With 9 degrees of freedom; by chance it is above 28 once in a thousand.
    assert chi_square < 28
