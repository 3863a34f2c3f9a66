"""Views at RabbitMQ, which brings nothing retained to wildcards: they ask for it by name."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker_config.local_broker import BrokerError, RunningBroker
from fedmqtt.status_pages import Page
from tests.brokers import is_required
from tests.other_brokers import running_rabbitmq
from tests.patience import WITHIN_S
from tests.round_monitor import pages, ward
from tests.round_monitor.chromium import Page as Tab
from tests.round_monitor.dashboards import dashboard, open_page
from tests.round_monitor.pages import publish

pytestmark = pytest.mark.broker

REVOKED = "revoked: it is enrolled no more"
PAGES: dict[str, Page] = {
    **ward.pages(),
    "client/phone-07": pages.a_client("phone-07", progress=0.4),
    "client/phone-08": pages.a_client(
        "phone-08", state="revoked", doing="", says=REVOKED, why_not=REVOKED
    ),
}

ROW = "[...document.querySelectorAll('.people tbody tr')].find(row => row.innerText.includes('%s'))"


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RunningBroker]:
    try:
        with running_rabbitmq() as broker:
            yield broker
    except BrokerError as missing:
        if is_required("rabbitmq"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def _sees_all(browser: Tab, rabbitmq: RunningBroker, federation: str) -> None:
    browser.wait_for("document.querySelector('.people progress')?.value === 40")
    browser.wait_for(f"({ROW % 'phone-08'})?.innerText.includes('revoked')")
    assert "revoked (phone-08)" in browser.text("#missing dd")
    assert browser.text("#round-title") == "Round 38 of 60"
    # What is said from now on comes as well.
    farther = pages.a_client("phone-07", progress=0.8)
    publish(rabbitmq.url, federation, {"client/phone-07": farther})
    browser.wait_for("document.querySelector('.people progress')?.value === 80")
    assert browser.complaints() == []


def test_a_browser_sees_each_page_and_each_clients(
    browser: Tab, rabbitmq: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    publish(rabbitmq.url, federation_name, PAGES)
    with dashboard(tmp_path, rabbitmq.url, "--federation", federation_name) as url:
        open_page(browser, url)
        _sees_all(browser, rabbitmq, federation_name)


def test_a_federation_that_nobody_named_is_asked_for_once_it_says_something(
    browser: Tab, rabbitmq: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    publish(rabbitmq.url, federation_name, PAGES)
    with dashboard(tmp_path, rabbitmq.url) as url:
        open_page(browser, url)
        # Nothing says that there is one, until it speaks; a coordinator does each minute.
        says = "document.querySelector('#health-says').textContent"
        browser.wait_for(f"{says}.includes('nothing is published for any federation so far')")
        publish(rabbitmq.url, federation_name, {"traffic": PAGES["traffic"]})
        _sees_all(browser, rabbitmq, federation_name)


def test_a_script_gets_each_page_and_each_clients(
    rabbitmq: RunningBroker, federation_name: str
) -> None:
    publish(rabbitmq.url, federation_name, PAGES)
    words = ("--broker", rabbitmq.url, "--federation", federation_name, "--once", "--json")
    ended = subprocess.run(
        [sys.executable, "-m", "fedmqtt", "watch", *words],
        capture_output=True,
        check=True,
        timeout=WITHIN_S,
    )
    told = json.loads(ended.stdout)
    assert all(told[name] is not None for name in ward.pages())
    assert told["client"]["phone-08"]["state"] == "revoked"
    assert "revoked (phone-08)" in told["missing"]["says"]
