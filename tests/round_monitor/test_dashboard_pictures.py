"""What the dashboard looks like: `--rewrite` makes the pictures in docs/images anew."""

import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from tests.round_monitor import ward
from tests.round_monitor.chromium import Page
from tests.round_monitor.dashboards import dashboard, open_page
from tests.round_monitor.pages import a_client, publish, publish_bytes

IMAGES = Path(__file__).parents[2] / "docs" / "images"

_STOPPED_CLOCK = """
(() => {
  const at = %d, Real = Date;
  globalThis.Date = class extends Real {
    constructor(...moment) { super(...(moment.length ? moment : [at])); }
    static now() { return at; }
  };
})();
"""


@pytest.fixture
def url(mosquitto_broker: RunningBroker, tmp_path: Path) -> Iterator[str]:
    publish(mosquitto_broker.url, ward.FEDERATION, ward.pages())
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", ward.FEDERATION) as address:
        yield address


@pytest.mark.broker
@pytest.mark.parametrize(
    ("name", "width", "height", "dark"),
    [
        ("dashboard-light", 1280, 1520, False),
        ("dashboard-dark", 1280, 1520, True),
        ("dashboard-phone", 360, 1500, False),
    ],
)
def test_it_looks_like_this(
    browser: Page,
    url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    name: str,
    width: int,
    height: int,
    dark: bool,
) -> None:
    clock = _STOPPED_CLOCK % (datetime.fromisoformat(ward.NOW).timestamp() * 1000)
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=clock)["identifier"]
    browser.look(width, dark=dark)
    browser.go("about:blank")
    browser.go(url)
    browser.wait_for("document.querySelector('.fates tbody tr') && document.querySelector('.line')")
    # All of it has come, and is drawn.
    browser.wait_for("document.querySelector('#deadline').textContent.startsWith('Closes in 41 s')")
    browser.wait_for("document.querySelectorAll('.people tbody tr').length === 15")
    browser.wait_for("document.querySelector('#privacy-body').textContent.includes('1.89')")
    assert browser.text("#health-word") == "Healthy"
    rewrites = request.config.getoption("--rewrite")
    out = (IMAGES if rewrites else tmp_path) / f"{name}.png"
    browser.screenshot(out, width, height)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    assert _size(out) == _size(IMAGES / f"{name}.png") == (width, height)


@pytest.mark.broker
def test_one_client_looks_like_this(
    browser: Page,
    url: str,
    mosquitto_broker: RunningBroker,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    own = a_client(
        "watch-14",
        says="training for round 38, epoch 1 of 2, 40%",
        progress=0.4,
        round=38,
        answered_last=36,
        label="watch",
    )
    publish(mosquitto_broker.url, ward.FEDERATION, {"client/watch-14": own})
    clock = _STOPPED_CLOCK % (datetime.fromisoformat(ward.NOW).timestamp() * 1000)
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=clock)["identifier"]
    open_page(browser, f"{url}&client=watch-14", 900)
    browser.wait_for("document.querySelector('#client .fates')")
    browser.wait_for("document.querySelector('#client progress')")
    out = (IMAGES if request.config.getoption("--rewrite") else tmp_path) / "dashboard-client.png"
    browser.screenshot(out, 900, 700)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    # As a broker of the whole session keeps it, and others look at the ward without it.
    publish_bytes(mosquitto_broker.url, ward.FEDERATION, {"client/watch-14": b""})
    assert _size(out) == _size(IMAGES / "dashboard-client.png") == (900, 700)


def _size(picture: Path) -> tuple[int, int]:
    # PNG, 11.2.1: the first chunk begins with them.
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return int(width), int(height)
