"""The dashboard at a kit's broker, which asks who comes, and is of a CA that no browser knows."""

from pathlib import Path

import pytest

from broker_config import kit
from broker_config.kit import Login
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.programs import running
from tests.round_monitor import pages
from tests.round_monitor.chromium import Page
from tests.round_monitor.dashboards import address

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

SAYS = "document.querySelector('#health-says').textContent"


@pytest.mark.parametrize("login", ["password", "certificate"])
def test_a_monitors_credentials_are_all_that_it_needs(
    browser: Page, tmp_path: Path, login: Login
) -> None:
    folder = tmp_path / "kit"
    accounts = folder / "accounts"
    with running_kit(kit.create(folder, plan(folder, login)), folder):
        _, broker = credentials.broker_of(accounts / "coordinator.toml", ("coordinator",))
        pages.publish(broker, FEDERATION, {"coordinator": pages.coordinator(says="all is well")})
        words = ("--credentials", str(accounts / "monitor.toml"), "--port", "0")
        with running(tmp_path, "fedmqtt", "dashboard", *words) as program:
            browser.look(1280)
            # A page of before may still have looked for its own relay, which is gone.
            browser.go("about:blank")
            browser.events.clear()
            browser.go(address(program))
            browser.wait_for(f"{SAYS} === 'all is well'")
            assert browser.complaints() == []
            # Whoever has the token can log in as the monitor; what comes without it tells nothing.
            assert credentials.read(accounts / "monitor.toml").password in _asked(browser)


def _asked(browser: Page) -> str:
    token = browser.run("sessionStorage.getItem('token')")
    headers = f"{{headers: {{Authorization: 'Bearer {token}'}}}}"
    answer = browser.settled(f"fetch('connection.json', {headers}).then(answer => answer.text())")
    assert isinstance(answer, str)
    return answer
