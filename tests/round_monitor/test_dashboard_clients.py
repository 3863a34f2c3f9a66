"""Clients on the dashboard, in a real browser: the table that is sorted, and one of them alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from fedmqtt import status_pages
from fedmqtt.status_pages import ClientPage
from fedmqtt.topics import ClientId, RoundId
from round_monitor.client_columns import arranged
from round_monitor.client_rows import rows
from tests.round_monitor import pages, ward
from tests.round_monitor.chromium import Page
from tests.round_monitor.dashboards import dashboard, open_page, violations
from tests.round_monitor.pages import publish

pytestmark = pytest.mark.broker

NAMES = "[...document.querySelectorAll('.people tbody th')].map(one => one.textContent)"
SORTED = "[...document.querySelectorAll('.people [aria-sort]')]"
CLIENT = "!document.querySelector('#client').hidden"
ALL = "!document.querySelector('#known').hidden"
TITLE = "document.querySelector('#client-title').textContent"
FOCUSED = "document.activeElement.textContent"


def _own(name: str, **more: Any) -> ClientPage:
    page = ClientPage(
        client=ClientId(name),
        state="online",
        says="waiting",
        since="2026-03-01T09:40:00+00:00",
        last_seen="2026-03-01T10:18:50+00:00",
        rounds_invited=0,
        rounds_answered=0,
        program="fedmqtt 0.4.0",
        as_of="2026-03-01T10:18:51+00:00",
    )
    return structs.replace(page, **more)


OWN = [
    _own("phone-01", rounds_invited=9, rounds_answered=5, uplink_kbps=900.0, duration_s=65.0),
    _own("phone-02", rounds_invited=7, rounds_answered=6, uplink_kbps=24_900.0),
    _own(
        "phone-07",
        doing="training",
        says="training for round 38: epoch 2 of 5",
        round=RoundId(38),
        progress=0.4,
        rounds_invited=12,
        rounds_answered=9,
        answered_last=RoundId(36),
        duration_s=48.0,
        uplink_kbps=5_000.0,
        label="phone",
    ),
]


PAGES: dict[str, status_pages.Page] = ward.pages() | {f"client/{one.client}": one for one in OWN}


@pytest.fixture
def shown(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The ward with pages of three clients: the page's address, and the broker's."""
    publish(mosquitto_broker.url, federation_name, PAGES)
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        yield url, mosquitto_broker.url


def _open(browser: Page, url: str, width: int = 1280, *, dark: bool = False) -> None:
    open_page(browser, url, width, dark=dark)
    browser.wait_for(f"{NAMES}.length === 15 && document.querySelector('.people progress')")


def _click(browser: Page, column: str) -> None:
    heads = "[...document.querySelectorAll('.people thead button')]"
    browser.run(f"{heads}.find(one => one.textContent === {json.dumps(column)}).click()")


# The table


@pytest.mark.parametrize("column", ["client", "answered", "takes", "uplink", "label"])
@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_sorted_as_in_a_terminal(
    browser: Page, shown: tuple[str, str], column: str, reverse: bool
) -> None:
    board = pages.board_of(PAGES)
    _open(browser, shown[0])
    browser.run("document.querySelector('#clients-body > button').click()")
    for _ in range(1 + reverse):
        _click(browser, column)
    wanted = [row.client for row in arranged(rows(board), "", column, reverse)]
    assert browser.run(NAMES) == wanted
    way = "descending" if reverse else "ascending"
    told = browser.run(f"{SORTED}.map(one => [one.textContent, one.getAttribute('aria-sort')])")
    assert told == [[column, way]]
    words = "falling" if reverse else "rising"
    assert browser.text("#clients-body [role=status]") == f"sorted by {column}, {words}"


def test_it_is_sorted_with_the_keyboard_and_stays_so(
    browser: Page, shown: tuple[str, str], federation_name: str
) -> None:
    _open(browser, shown[0])
    told = browser.run(f"{SORTED}.map(one => [one.textContent, one.getAttribute('aria-sort')])")
    assert told == [["state", "ascending"]]
    browser.run(
        "[...document.querySelectorAll('.people thead button')]"
        ".find(one => one.textContent === 'takes').focus()"
    )
    browser.press("Enter")
    assert browser.run(NAMES)[:2] == ["phone-07", "phone-01"]
    assert browser.run(FOCUSED) == "takes"
    browser.press("Enter")
    # What nobody knows is last, whichever way.
    assert browser.run(NAMES)[:2] == ["phone-01", "phone-07"]
    slower = structs.replace(OWN[2], duration_s=90.0)
    publish(shown[1], federation_name, {"client/phone-07": slower})
    browser.wait_for(f"{NAMES}[0] === 'phone-07'")


def test_who_is_on_a_clients_link_stays_there_when_the_table_changes(
    browser: Page, shown: tuple[str, str], federation_name: str
) -> None:
    _open(browser, shown[0])
    _click(browser, "takes")
    browser.run("document.querySelector('.people tbody a').focus()")
    assert browser.run(FOCUSED) == "phone-07"
    slower = structs.replace(OWN[2], duration_s=90.0)
    publish(shown[1], federation_name, {"client/phone-07": slower})
    browser.wait_for(f"{NAMES}[1] === 'phone-07'")
    assert browser.run(FOCUSED) == "phone-07"


# One client


def test_one_client_is_looked_at_and_left_again(browser: Page, shown: tuple[str, str]) -> None:
    _open(browser, shown[0])
    _click(browser, "takes")
    browser.run("document.querySelector('.people tbody a').focus()")
    browser.press("Enter")
    browser.wait_for(CLIENT)
    assert browser.run(TITLE).endswith("phone-07")
    # Whoever listens hears where they are.
    assert browser.run(FOCUSED).endswith("phone-07")
    assert browser.run("document.title").startswith("phone-07 · ")
    body = browser.run("document.querySelector('#client').innerText")
    for told in (
        "answered", "training for round 38: epoch 2 of 5", "9 of 12", "round 36", "48 s",
        "5.0 Mbit/s", "fedmqtt 0.4.0", "phone", "online for", "ROUNDS IT WAS INVITED TO",
        "as of",
    ):  # fmt: skip
        assert told.lower() in body.lower(), told
    assert browser.run("document.querySelector('#client progress').value") == 40
    # The client, 37 rounds, and how often it answered.
    assert browser.run("document.querySelector('#client .fates tbody tr').cells.length") == 39
    assert browser.run(f"!({ALL})")
    # The three answers are still there.
    assert browser.text("#missing dd").startswith("5 away")
    browser.run("document.querySelector('#back').click()")
    browser.wait_for(ALL)
    assert browser.run(FOCUSED) == "phone-07"
    browser.run("history.back()")
    browser.wait_for(CLIENT)
    assert browser.run(TITLE).endswith("phone-07")
    assert browser.complaints() == []


def test_a_link_leads_to_a_client_also_after_a_reload(
    browser: Page, shown: tuple[str, str], federation_name: str
) -> None:
    open_page(browser, f"{shown[0]}&federation={federation_name}&client=watch-07")
    browser.wait_for(f"{CLIENT} && {TITLE}.endsWith('watch-07')")
    browser.wait_for(
        "document.querySelector('#client-body').textContent.includes('update norm 41.2 above')"
    )
    assert "label" in browser.text("#client-body")
    again = browser.run("location.href")
    browser.go("about:blank")
    browser.go(again)
    browser.wait_for(f"{CLIENT} && {TITLE}.endsWith('watch-07')")
    assert browser.run("location.hash").endswith("client=watch-07")


def test_what_it_does_goes_on_while_it_is_looked_at(
    browser: Page, shown: tuple[str, str], federation_name: str
) -> None:
    open_page(browser, f"{shown[0]}&client=phone-07")
    browser.wait_for("document.querySelector('#client progress')?.value === 40")
    farther = structs.replace(OWN[2], progress=0.8)
    publish(shown[1], federation_name, {"client/phone-07": farther})
    browser.wait_for("document.querySelector('#client progress')?.value === 80")


def test_a_client_that_nobody_knows_is_told(browser: Page, shown: tuple[str, str]) -> None:
    name = "<img src=x onerror='window.hacked = 1'>"
    open_page(browser, f"{shown[0]}&client={name}")
    browser.wait_for(
        "document.querySelector('#client-body').textContent.includes('No page names this client')"
    )
    assert browser.run(TITLE) == name
    assert browser.run("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_everybody_can_use_it(
    browser: Page, shown: tuple[str, str], width: int, dark: bool
) -> None:
    open_page(browser, f"{shown[0]}&client=phone-07", width, dark=dark)
    browser.wait_for("document.querySelector('#client .fates tbody tr')")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert violations(browser) == []
