"""The dashboard in a real browser, at a real broker: what a person sees, hears and can do there."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from msgspec import structs

from broker_config.local_broker import BrokerError, RunningBroker
from fedmqtt import status_pages
from fedmqtt.status_pages import (
    ClientsPage,
    CodecCount,
    HistoryPage,
    OrderLine,
    ParticipationPage,
    Quarantined,
    RoundLine,
    TrafficPage,
)
from fedmqtt.topics import ClientId, RoundId
from tests.brokers import is_required
from tests.gated import Gated
from tests.other_brokers import running_nats
from tests.own_broker import free_port, mosquitto_at
from tests.round_monitor import pages, ward
from tests.round_monitor.chromium import Page
from tests.round_monitor.dashboards import dashboard, open_page, violations
from tests.round_monitor.pages import publish

HACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"

CURVES = "document.querySelectorAll('#charts figure:not([hidden]) .line').length > 3"
EVENTS = "[...document.querySelectorAll('#events-list li')].map(one => one.lastChild.textContent)"
SAYS = "document.querySelector('#health-says').textContent"

pytestmark = pytest.mark.broker


@pytest.fixture
def shown(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The ward, published on a broker without WebSockets: the page's address, and its name."""
    publish(mosquitto_broker.url, federation_name, ward.pages())
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        yield url, federation_name


# What is seen


def test_the_number_of_a_late_round_is_seen_whole(
    browser: Page, shown: tuple[str, str], mosquitto_broker: RunningBroker
) -> None:
    open_page(browser, shown[0])
    late = [RoundId(number) for number in range(131, 191)]
    page = ParticipationPage(rounds=late, clients={ClientId("ann"): "a" * 60}, clients_known=1)
    publish(mosquitto_broker.url, shown[1], {"participation": page})
    number = (
        "[...document.querySelectorAll('.fates thead span')].find(one => one.innerText === '165')"
    )
    browser.wait_for(number)
    browser.run(f"{number}.scrollIntoView({{ block: 'center' }})")
    # Its last digit lies over the next column, which has a number that is only heard.
    right = "(({ right, top, height }) => document.elementFromPoint(right - 2, top + height / 2))"
    assert browser.run(f"{right}({number}.getBoundingClientRect()).innerText") == "165"


def test_since_when_bytes_are_counted_is_told_where_that_differs(
    browser: Page, shown: tuple[str, str], mosquitto_broker: RunningBroker
) -> None:
    open_page(browser, shown[0])
    of_the_run = {"full": CodecCount(updates=3, bytes=1500)}
    page = TrafficPage(bytes_received=9, bytes_published=9, updates_by_codec=of_the_run)
    publish(mosquitto_broker.url, shown[1], {"traffic": page})
    told = "Updates by codec: of the whole run. All else: since the coordinator began."
    browser.wait_for(f"document.querySelector('#traffic-body').textContent.includes('{told}')")


def test_a_person_sees_whether_all_is_well_who_is_missing_and_how_good_the_model_is(
    browser: Page, shown: tuple[str, str]
) -> None:
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    # Its round should have closed in March 2026.
    assert browser.text("#health-word") == "Trouble"
    assert "Round 38 should have closed" in browser.text("#health-says")
    assert "5 away (phone-05, phone-18, watch-08 and 2 more)" in browser.text("#missing dd")
    assert browser.text("#trend dd").startswith("Yes: accuracy 0.8")
    assert browser.text("#round-title") == "Round 38 of 60"
    assert "6 of 10 answers" in browser.text("#round-body")
    assert "update norm 41.2 above the limit 10" in browser.text("#trouble-body")
    assert "61.5 MB" in browser.text("#traffic-body")
    assert "ε 1.89 of at most 4" in browser.text("#privacy-body")
    assert "watch-07 rejected: update norm" in browser.text("#events-list")
    # 25 clients at first, 37 rounds, the names, and how often each answered.
    assert browser.run("document.querySelectorAll('.fates tbody tr').length") == 25
    assert browser.run("document.querySelector('.fates tbody tr').cells.length") == 39


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_loads_nothing_of_others_and_has_nothing_to_complain_of(
    browser: Page, shown: tuple[str, str], width: int, dark: bool
) -> None:
    open_page(browser, shown[0], width, dark=dark)
    browser.wait_for(CURVES)
    here = shown[0].partition("#")[0]
    assert {url for url in browser.requested() if not url.startswith(here)} == set()
    assert browser.complaints() == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    # A browser's history is no place for it.
    assert "token" not in browser.run("location.href")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_everybody_can_use_it(
    browser: Page, shown: tuple[str, str], width: int, dark: bool
) -> None:
    open_page(browser, shown[0], width, dark=dark)
    browser.wait_for(CURVES)
    browser.run("document.querySelectorAll('details').forEach(one => (one.open = true))")
    assert violations(browser) == []


def test_curves_are_read_with_the_keyboard(browser: Page, shown: tuple[str, str]) -> None:
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    browser.run("document.querySelector('#charts .slider').focus()")
    assert browser.text("#charts output").startswith("Round 37: accuracy 0.8")
    browser.press("ArrowLeft")
    assert browser.text("#charts output").startswith("Round 35: accuracy 0.8")
    said = browser.run("document.querySelector('#charts .slider').getAttribute('aria-valuetext')")
    assert said == browser.text("#charts output")
    browser.press("Home")
    assert browser.text("#charts output").startswith("Round 1: accuracy 0.2")


def test_curves_are_read_where_they_are_pointed_at(browser: Page, shown: tuple[str, str]) -> None:
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    left, top = browser.run(
        "(() => { const e = document.querySelector('#charts svg.picture'); e.scrollIntoView();"
        " const r = e.getBoundingClientRect(); return [r.x, r.y]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 48, y=top + 100)
    browser.wait_for("document.querySelector('#charts output').textContent.startsWith('Round 1:')")


def test_clients_are_found_by_name_and_by_state(browser: Page, shown: tuple[str, str]) -> None:
    names = "[...document.querySelectorAll('.people tbody th')].map(one => one.textContent)"
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    # Those come first who may need somebody.
    assert browser.run(names)[:2] == ["watch-07", "watch-09"]
    browser.run("document.querySelector('#find').focus()")
    browser.call("Input.insertText", text="PHONE-1")
    assert sorted(browser.run(names)) == [f"phone-1{n}" for n in range(10)]
    browser.run(
        "(() => { const e = document.querySelector('#state'); e.value = 'away';"
        " e.dispatchEvent(new Event('change')); })()"
    )
    assert browser.run(names) == ["phone-18"]


def test_orders_are_no_trouble_and_among_what_happened(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    told = pages.ordered(pages.PAUSED)
    broker = mosquitto_broker.url
    publish(broker, federation_name, {"round": pages.open_round(), "orders": told})
    with dashboard(tmp_path, broker, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 3'")
        browser.wait_for(f"{EVENTS}.includes({json.dumps(pages.PAUSE_TOLD)})")
        both = pages.ordered(pages.PAUSED, pages.REFUSED)
        publish(broker, federation_name, {"orders": both, "coordinator": pages.coordinator()})
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 3 of 10'")
        assert browser.text("#trouble-body") == ""
        assert browser.run("document.querySelector('#trouble').hidden")
        # In the words of the terminal, each once, the newest first.
        browser.wait_for(f"{EVENTS}.includes({json.dumps(pages.REFUSAL_TOLD)})")
        events = [one for one in browser.run(EVENTS) if " ordered " in one]
        assert events == [pages.REFUSAL_TOLD, pages.PAUSE_TOLD]
        # What was told as done, and has come to nothing.
        back = structs.replace(pages.PAUSED, done=False, result="given up: it is not kept")
        publish(broker, federation_name, {"orders": pages.ordered(back, pages.REFUSED)})
        gone = "carol ordered pause, and it is not done: given up: it is not kept (2026-"
        browser.wait_for(f"{EVENTS}[0].startsWith({json.dumps(gone)})")


def test_a_round_of_which_nobody_trains_yet_is_no_last_evaluation(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    # As in a quiet federation: who measures may be heard of first.
    page = structs.replace(pages.open_round(invited=[]), evaluators=pages.names("ann"))
    broker = mosquitto_broker.url
    publish(broker, federation_name, {"round": pages.open_round(2)})
    with dashboard(tmp_path, broker, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 2'")
        publish(broker, federation_name, {"round": page})
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 3'")
        browser.wait_for(f"{EVENTS}.includes('round 3 opened: 4 wanted')")
        last = structs.replace(page, round=RoundId(4), wanted=0)
        publish(broker, federation_name, {"round": last})
        browser.wait_for("document.querySelector('#round-title').textContent === 'Last evaluation'")
        browser.wait_for(f"{EVENTS}.includes('round 4 opened: 1 client to evaluate')")


def test_workers_that_come_and_go_are_among_what_happened(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    broker, half = mosquitto_broker.url, "takes 4 of 8 lanes"
    alone, both = {"w0": "takes 8 of 8 lanes"}, {"w0": half, "w1": half}

    def now_there(told: dict[str, str]) -> None:
        workers = {ClientId(name): does for name, does in told.items()}
        page = structs.replace(pages.coordinator(), workers=workers)
        publish(broker, federation_name, {"round": pages.open_round(), "coordinator": page})

    now_there(alone)
    with dashboard(tmp_path, broker, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 3 of 10'")
        now_there(both)
        browser.wait_for(f"{EVENTS}.includes('worker w1 {half}')")
        now_there(alone)
        browser.wait_for(f"{EVENTS}.includes('worker w1 is gone')")
        # In the words of the terminal, the newest first; who comes is not told who was there.
        events = [one for one in browser.run(EVENTS) if one.startswith("worker ")]
        assert sorted(events[:2]) == ["worker w0 takes 8 of 8 lanes", "worker w1 is gone"]
        assert sorted(events[2:]) == [f"worker w0 {half}", f"worker w1 {half}"]


def test_each_page_that_a_coordinator_tells_is_read(browser: Page, shown: tuple[str, str]) -> None:
    open_page(browser, shown[0])
    here = shown[0].partition("#")[0]
    read = browser.settled(f"import('{here}pages.js').then(pages => pages.PAGES)")
    assert sorted(read) == sorted(status_pages.PAGES)


def test_nothing_that_was_published_is_run(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    hacked = ClientId(HACK)
    people = {hacked: HACK}
    told = ward.pages()
    line = pages.line(1, 0.5)
    told |= {
        "coordinator": structs.replace(
            pages.coordinator(says=HACK), task=HACK, run=HACK, skew=HACK, refusals=[HACK]
        ),
        "round": structs.replace(
            pages.open_round(invited=[hacked], rejected=people, declined=people),
            answered=[hacked],
            opened=HACK,
            closes=HACK,
        ),
        "history": HistoryPage(
            rounds=[structs.replace(line, reason=HACK, train_metrics={HACK: 1.0, "__proto__": 2.0})]
        ),
        "participation": ParticipationPage(
            rounds=[RoundId(1)], clients={hacked: "a"}, clients_known=1
        ),
        "clients": ClientsPage(
            online=[hacked, ClientId("__proto__")],
            away=[],
            labels=people,
            label_counts={HACK: 1},
            hindered=people,
            quarantined={hacked: Quarantined(until=HACK, why=HACK)},
            refused=people,
        ),
        "orders": pages.ordered(OrderLine(at=HACK, by=HACK, order=HACK, done=True, result=HACK)),
    }
    publish(mosquitto_broker.url, federation_name, told)
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for("document.querySelector('#clients-body').textContent.includes('<script>')")
        assert HACK[:30] in browser.text("#health-says")
        assert browser.run("typeof window.hacked") == "undefined"
        assert browser.run("document.querySelectorAll('script').length") == 1
        assert browser.run("document.querySelectorAll('img, iframe').length") == 0
        assert browser.complaints() == []


def test_even_as_html_it_would_not_run_and_nothing_can_be_sent_elsewhere(
    browser: Page, shown: tuple[str, str]
) -> None:
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    browser.run(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(HACK)})")
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.hacked = 1'}))"
    )
    # Another port is another origin, whoever listens there.
    told = browser.settled("fetch('http://127.0.0.1:9/?told').then(() => 'sent', () => 'kept')")
    assert told == "kept"
    assert browser.run("typeof window.hacked") == "undefined"
    complaints = str(browser.complaints())
    for directive in ("script-src", "connect-src"):
        assert directive in complaints


def test_pages_that_are_none_are_told_and_passed_over(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    wrong = RoundLine(
        round=RoundId(1), outcome="", reason="", invited=0, answered=0, dropped=0, declined=0,
        rejected=0, duration_s=0, train_metrics={},
    )  # fmt: skip
    told = {"coordinator": pages.coordinator(), "history": HistoryPage(rounds=[wrong])}
    publish(mosquitto_broker.url, federation_name, told)
    hostile = (b"no JSON", b"[]", b'{"rounds": 7}', b'{"rounds": [null, 7, {"figures": []}]}')
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for(f"{SAYS}.startsWith('round 3: 2 of 4')")
        for payload in hostile:
            pages.publish_bytes(mosquitto_broker.url, federation_name, {"history": payload})
        pages.publish_bytes(mosquitto_broker.url, federation_name, {"round": b"\xff"})
        browser.wait_for(
            "document.querySelector('#trouble-body').textContent.includes('3 status pages that')"
        )
        assert browser.complaints() == []


def test_a_client_tells_what_it_does_and_how_far_it_is(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    own = {
        "client": "dan", "state": "online", "says": "training for round 3: epoch 2 of 5",
        "doing": "training", "progress": 0.4, "rounds_invited": 9, "rounds_answered": 7,
        "duration_s": 65.0, "uplink_kbps": 24_900.0, "label": "phone",
    }  # fmt: skip
    gone = own | {"client": "eve", "state": "away", "last_seen": "2026-03-01T10:00:00+00:00"}
    publish(mosquitto_broker.url, federation_name, pages.mid_round())
    told = {f"client/{one['client']}": json.dumps(one).encode() for one in (own, gone)}
    pages.publish_bytes(mosquitto_broker.url, federation_name, told)
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        open_page(browser, url)
        browser.wait_for("document.querySelector('.people progress')")
        rows = browser.run(
            "[...document.querySelectorAll('.people tbody tr')]"
            ".map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        )
        dan = next(row for row in rows if row[0] == "dan")
        assert dan[2:8] == [
            "training for round 3: epoch 2 of 5", "", "7 of 9", "1 min 05 s", "24.9 Mbit/s", "",
        ]  # fmt: skip
        assert browser.run("document.querySelector('.people progress').value") == 40
        # What it did before it went is no news.
        eve = next(row for row in rows if row[0] == "eve")
        assert eve[1].endswith("away") and eve[2] == "" and eve[7].endswith("h ago")


def test_a_coordinators_own_word_on_its_health_is_told_as_long_as_it_is_there(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    says = {
        "state": "waiting", "says": "waiting for clients", "health": "trouble",
        "health_why": "nothing has gone on for 2 h", "next_step": "round 4 opens when 2 are there",
    }  # fmt: skip

    def say(**more: str) -> None:
        page = structs.replace(pages.coordinator(), **(says | more))
        publish(mosquitto_broker.url, federation_name, {"coordinator": page})

    say(as_of="2026-03-01T10:00+00:00")
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        open_page(browser, url)
        # Nobody knows when what lay there was said, but by what it says itself.
        browser.wait_for(f"{SAYS}.startsWith('Nothing from the coordinator for ')")
        assert browser.text("#health-word") == "Trouble"
        say(as_of="2026-03-01T10:01+00:00")
        # It was said just now, whatever its clock shows.
        browser.wait_for(f"{SAYS} === 'nothing has gone on for 2 h'")
        assert browser.text("#next") == "Next: round 4 opens when 2 are there"
        say(as_of="2026-03-01T10:02+00:00", health="ok", health_why="all is well")
        browser.wait_for(f"{SAYS} === 'all is well'")
        assert browser.text("#health-word") == "Healthy"
        say(state="stopped", says="stopped; starting it again goes on with round 4")
        browser.wait_for(f"{SAYS}.startsWith('The coordinator has stopped')")


# Where it comes from


def test_one_federation_of_several_is_chosen(browser: Page, tmp_path: Path) -> None:
    port = free_port()
    with mosquitto_at(port):
        broker = f"mqtt://127.0.0.1:{port}"
        for name in ("alpha", "beta"):
            publish(broker, name, {"coordinator": pages.coordinator(says=f"this is {name}")})
        with dashboard(tmp_path, broker) as url:
            open_page(browser, url)
            browser.wait_for("document.querySelectorAll('#federations option').length === 2")
            assert browser.text("#name") == "alpha"
            browser.run(
                "(() => { const e = document.querySelector('#federations'); e.value = 'beta';"
                " e.dispatchEvent(new Event('change')); })()"
            )
            assert browser.text("#name") == "beta"
            assert browser.text("#health-says") == "this is beta"


def test_a_link_to_another_federation_leads_nowhere_where_one_was_asked_for(
    browser: Page, shown: tuple[str, str]
) -> None:
    open_page(browser, shown[0])
    browser.wait_for(CURVES)
    client = ward.CLIENTS[0]
    browser.run(f"location.hash = '#federation=another&client={client}'")
    # Its client is looked at all the same, and the page is not empty.
    browser.wait_for("!document.querySelector('#client').hidden")
    assert browser.text("#name") == shown[1]
    assert client in browser.text("#client-title")


def test_it_comes_back_after_its_broker(browser: Page, tmp_path: Path) -> None:
    port = free_port()
    broker = f"mqtt://127.0.0.1:{port}"
    with ExitStack() as first, dashboard(tmp_path, broker, "--federation", "ward") as url:
        first.enter_context(mosquitto_at(port))
        publish(broker, "ward", pages.mid_round())
        open_page(browser, url)
        browser.wait_for("document.querySelector('#round-title').textContent === 'Round 3 of 10'")
        first.close()
        browser.wait_for(f"{SAYS}.includes('No connection to {broker}')")
        browser.wait_for(
            f"{SAYS}.includes('trying again each second') && {SAYS}.includes('efused')"
        )
        assert browser.text("#stale").startswith("All below is as it was at ")
        # What was known is still there to be read.
        assert browser.text("#round-title") == "Round 3 of 10"
        with mosquitto_at(port):
            publish(broker, "ward", {"round": pages.open_round(4)})
            browser.wait_for(
                "document.querySelector('#round-title').textContent === 'Round 4 of 10'"
            )
            assert browser.run("document.querySelector('#stale').hidden")
        assert browser.complaints() == []


def test_another_dashboard_at_its_place_asks_for_its_own_address(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    publish(mosquitto_broker.url, federation_name, {"coordinator": pages.coordinator()})
    words = ("--federation", federation_name, "--port", str(free_port()))
    with dashboard(tmp_path, mosquitto_broker.url, *words) as url:
        open_page(browser, url)
        browser.wait_for(f"{SAYS}.startsWith('round 3: 2 of 4')")
        # The token is not in the address any more, and not asked for again.
        browser.go(browser.run("location.href"))
        browser.wait_for(f"{SAYS}.startsWith('round 3: 2 of 4')")
    browser.wait_for(f"{SAYS}.includes('`fedmqtt dashboard` does not answer')")
    with dashboard(tmp_path, mosquitto_broker.url, *words) as again:
        browser.wait_for(f"{SAYS}.includes('open the address that `fedmqtt dashboard` printed')")
        open_page(browser, again)
        browser.wait_for(f"{SAYS}.startsWith('round 3: 2 of 4')")


def test_a_page_of_another_origin_reaches_nothing(
    browser: Page, shown: tuple[str, str], tmp_path: Path
) -> None:
    here, _, token = shown[0].partition("#token=")
    (tmp_path / "index.html").write_text("<!doctype html><title>another</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.go(f"http://127.0.0.1:{server.server_port}/")
        socket = f"ws{here.removeprefix('http')}broker?{token}"
        opened = browser.settled(
            f"new Promise(done => {{ const socket = new WebSocket({json.dumps(socket)}, ['mqtt']);"
            " socket.onopen = () => done('open'); socket.onclose = () => done('refused'); })"
        )
        assert opened == "refused"
        asked = {"headers": {"Authorization": f"Bearer {token}"}}
        for url, words in ((here, {}), (f"{here}connection.json", asked)):
            got = f"fetch({json.dumps(url)}, {json.dumps(words)}).then(a => a.text(), () => 'none')"
            assert browser.settled(got) == "none"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_broker_with_websockets_is_reached_without_the_relay(
    browser: Page, tmp_path: Path
) -> None:
    port = free_port()
    more = f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n'
    socket = f"ws://127.0.0.1:{port}/mqtt"
    with ExitStack() as stack:
        try:
            broker = stack.enter_context(running_nats(more))
        except BrokerError as missing:
            if is_required("nats"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        publish(broker.url, "ward", pages.mid_round())
        words = ("--federation", "ward", "--websocket", socket)
        open_page(browser, stack.enter_context(dashboard(tmp_path, broker.url, *words)))
        browser.wait_for("document.querySelectorAll('#charts .line').length > 1")
        assert browser.sockets() == [socket]
        assert browser.complaints() == []


def test_a_client_that_is_cut_is_away_and_who_answers_makes_curves(
    browser: Page, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    state = (
        "[...document.querySelectorAll('.people tbody tr')]"
        ".find(row => row.cells[0].textContent === 'bob')?.cells[1].textContent ?? ''"
    )
    gated = Gated(
        mosquitto_broker.url,
        federation_name,
        tmp_path / "federation",
        task=TASK,
        rounds="count = 2\ncohort = 2\nquorum = 1\nclients_min = 2\nover_selection = 1.0",
        more="",
    )
    with (
        gated.coordinating(),
        gated.client("ann"),
        gated.client("bob") as bob,
        dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url,
    ):
        open_page(browser, url)
        browser.wait_for(f"({state}).includes('working')")
        os.kill(bob.process.pid, signal.SIGKILL)
        browser.wait_for(f"({state}).includes('away')")
        assert "1 away (bob)" in browser.text("#missing dd")
        gated.open_gate("ann", 1)
        browser.wait_for("document.querySelector('#round-body').textContent.includes('1 of 2')")
        gated.open_gate("bob", 1)
        with gated.client("bob"):
            browser.wait_for(f"{SAYS}.includes('all rounds are done')")
        browser.wait_for("document.querySelectorAll('.fates .fate.a').length === 4")
        # The losses of two trainings.
        browser.wait_for("document.querySelector('#charts output').textContent.includes('0.500')")
        assert browser.run("document.querySelectorAll('#charts .mark').length") >= 2
        assert browser.complaints() == []


TASK = """
def initial_weights(seed):
    return {"w": np.zeros(1, np.float32)}

def train(weights, data, training, seed, progress):
    data_dir, client = data
    wait_for_gate(data_dir, client, 1, progress)
    return Trained({"w": weights["w"] + 1}, 1, {"loss": 0.5}, 1)
"""
