"""The three answers in a terminal and in a browser: one rule, in the same words."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from fedmqtt.status_pages import ClientsPage, HistoryPage, Page, Quarantined, encode
from fedmqtt.topics import ClientId, RoundId
from round_monitor import verdict
from tests.fedmqtt.test_improvement import TRENDS
from tests.round_monitor import ward
from tests.round_monitor.chromium import Page as Tab
from tests.round_monitor.dashboards import dashboard
from tests.round_monitor.pages import (
    QUIET,
    a_client,
    board_of,
    coordinator,
    line,
    mid_round,
    model,
    names,
    open_round,
    pace,
    sent,
)

NOW = "2026-03-01T10:19:20+00:00"
LATER = "2026-03-01T11:00:00+00:00"

_SAID = structs.replace(
    coordinator(), health="ok", health_why="all is well", as_of="2026-03-01T10:19:00+00:00"
)
_CLOSED = structs.replace(open_round(), open=False)
_LOST = ClientsPage(
    online=names("ann"),
    away=names("bob", "cat", "dan", "eve"),
    hindered={},
    quarantined={ClientId("ann"): Quarantined(until="2026-03-01T14:05:00+00:00", why="noise")},
)


def _measured(*values: float, metric: str = "accuracy") -> HistoryPage:
    lines = []
    for number, value in enumerate(values, 1):
        told = line(number, 0.5)
        assert told.figures is not None
        told = structs.replace(told, figures=structs.replace(told.figures, metrics={metric: value}))
        lines.append(told)
    return HistoryPage(rounds=lines)


_KEPT = HistoryPage(rounds=[line(number, outcome="kept") for number in range(1, 6)])


def _altered(**fields: object) -> dict[str, Page | bytes]:
    """A page of a coordinator that is well, but for these fields."""
    told = json.loads(encode(_SAID)) | fields
    return {"coordinator": json.dumps(told).encode()}


def _without(*fields: str) -> dict[str, Page | bytes]:
    told = json.loads(encode(_SAID))
    return {"coordinator": json.dumps({k: v for k, v in told.items() if k not in fields}).encode()}


def _alone(**more: object) -> dict[str, Page | bytes]:
    """One client, which is online."""
    there = ClientsPage(online=names("ann"), away=[], hindered={})
    page = structs.replace(_SAID, clients_online=1, clients_known=1)
    return {"coordinator": page, "clients": structs.replace(there, **more)}


UNREADABLE: dict[str, dict[str, Page | bytes]] = {
    "no JSON": {"coordinator": b"{"},
    "a list": {"coordinator": b"[]"},
    "null": {"coordinator": b"null"},
    "not UTF-8": {"coordinator": b'{"says": "\xff"}'},
    "only a few words": {
        "coordinator": b'{"health":"trouble","state":"broken","says":"HELP"}',
    },
    "an unknown health": _altered(health="critical"),
    "an unknown state": _altered(state="recovering"),
    "an unknown word on the model": _altered(better="perhaps"),
    "health is no text": _altered(health=None),
    "the sentence is a number": _altered(health_why=7),
    "the time is a list": _altered(as_of=[]),
    "the round is a text": _altered(round="3"),
    "the round is a half": _altered(round=2.5),
    "a count is null": _altered(clients_known=None),
    "keyholders are a list": _altered(keyholders=["k1"]),
    "a keyholder is a number": _altered(keyholders={"k1": 1}),
    "workers are a list": _altered(workers=["w0"]),
    "a worker is a number": _altered(workers={"w0": 1}),
    "a refusal is a number": _altered(refusals=["one", 2]),
    "refusals are a text": _altered(refusals="none"),
    "a round that was not confirmed is a text": _altered(unconfirmed=["3"]),
    **{
        f"{field} is missing": _without(field)
        for field in ("state", "says", "run", "round", "clients_known", "protocol")
    },
}
"""Pages of a coordinator that no view takes for well."""

CASES: dict[str, tuple[Mapping[str, Page | bytes], str]] = {
    **{f"unreadable: {name}": (pages, NOW) for name, pages in UNREADABLE.items()},
    "a field that is new": (_altered(weather="rain"), NOW),
    "one of two that are gone was revoked": (
        {
            "coordinator": structs.replace(_SAID, clients_online=1, clients_known=3),
            "clients": ClientsPage(online=names("ann"), away=names("bob", "eve"), hindered={}),
            "client/eve": a_client("eve", state="revoked"),
        },
        NOW,
    ),
    "a quiet fleet": ({"coordinator": structs.replace(_SAID, fleet=QUIET)}, NOW),
    "fields of before alone": (
        _without("health", "health_why", "better", "better_why", "as_of", "version", "epoch"),
        NOW,
    ),
    "trouble without a word": (_altered(health="trouble", health_why=""), NOW),
    "waiting without a word": (_altered(health="waiting", health_why=""), NOW),
    "trouble without a word, and it waits": (
        _altered(health="trouble", health_why="", state="waiting", says="waiting for 2 clients"),
        NOW,
    ),
    "another page cannot be read": ({**mid_round(), "coordinator": _SAID, "history": b"[]"}, NOW),
    "nothing": ({"model": model()}, NOW),
    "mid round": (mid_round(), NOW),
    "a ward": (ward.pages(), NOW),
    "overdue": (ward.pages(), LATER),
    "overdue for days": (ward.pages(), "2026-03-04T12:00:00+00:00"),
    "says it is well": ({**mid_round(), "coordinator": _SAID}, NOW),
    "says the other answers too": (
        {
            **mid_round(),
            "coordinator": structs.replace(_SAID, health_why=f"{_SAID.says}; bob away"),
        },
        NOW,
    ),
    "silent": ({"coordinator": _SAID, "round": _CLOSED}, LATER),
    "finished long ago": (
        {"coordinator": structs.replace(_SAID, state="finished"), "round": _CLOSED},
        LATER,
    ),
    "stopped": ({"coordinator": structs.replace(_SAID, state="stopped")}, NOW),
    "in trouble": (
        {"coordinator": structs.replace(_SAID, health="trouble", health_why="nobody answers")},
        NOW,
    ),
    "of before, waiting": (
        {"coordinator": structs.replace(coordinator("waiting for 2 clients"), state="waiting")},
        NOW,
    ),
    "of before, without models": ({"coordinator": coordinator(), "history": _KEPT}, NOW),
    "of before, finished": (
        {"coordinator": structs.replace(coordinator(), state="finished")},
        NOW,
    ),
    "many lost": ({**mid_round(), "clients": _LOST}, NOW),
    "a stranger was refused": (_alone(refused={ClientId("mia"): "5 messages: no key"}), NOW),
    "one of long ago has a page": (
        _alone() | {"client/mia": a_client("mia", state="away", doing="")},
        NOW,
    ),
    "some of both": (
        _alone(away=names("bob"), refused={ClientId("mia"): "no key", ClientId("bob"): "no key"}),
        NOW,
    ),
    "counts of many": ({"coordinator": coordinator(known=5000)}, NOW),
    "some measured otherwise": (
        {
            "history": HistoryPage(
                rounds=[
                    *_measured(2.0, metric="loss").rounds,
                    *(
                        structs.replace(one, round=RoundId(one.round + 1))
                        for one in _measured(0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5).rounds
                    ),
                ]
            )
        },
        NOW,
    ),
    "improves": ({"history": _measured(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}, NOW),
    "does not": ({"history": _measured(0.9, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)}, NOW),
    "loss falls": ({"history": _measured(9, 8, 7, 6, 5, 4, metric="loss")}, NOW),
    "loss rises": ({"history": _measured(12, 108, 7, 6, 50, 4000, 8e-5, metric="loss")}, NOW),
    "says that it does not": (
        {
            **mid_round(),
            "coordinator": structs.replace(_SAID, better="no", better_why="No: it was better"),
            "history": _measured(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        },
        NOW,
    ),
    "says that it is early": (
        {"coordinator": structs.replace(_SAID, better="early", better_why="loss 1.000")},
        NOW,
    ),
    **{
        f"improves: {name}": ({"history": HistoryPage(rounds=lines)}, NOW)
        for name, (lines, _, _) in TRENDS.items()
    },
    "another metric": ({"history": _measured(*range(8), metric="mean_words")}, NOW),
}

_ASKED = """
(async () => {
  const [{ Board }, { health, missing, trend }] =
    await Promise.all([import("/board.js"), import("/health.js")]);
  return %s.map(([pages, now]) => {
    const board = new Board("ward-7"), at = Date.parse(now);
    for (const [name, bytes] of pages) board.take(name, new Uint8Array(bytes), true, at);
    const link = { isUp: true, isNew: false, sentence: "" };
    const told = [health(board, link, at), missing(board), trend(board)];
    return told.map(({ state, sentence }) => [state, sentence]);
  });
})()
"""


@pytest.mark.broker
def test_terminal_and_browser_answer_alike(
    browser: Tab, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    cases = [
        [[[name, list(sent(page))] for name, page in pages.items()], now]
        for pages, now in CASES.values()
    ]
    words = ("--federation", federation_name)
    with dashboard(tmp_path, mosquitto_broker.url, *words) as url:
        browser.go("about:blank")
        browser.go(url)
        told: list[Any] = browser.settled(_ASKED % json.dumps(cases))
    for (name, (pages, now)), in_browser in zip(CASES.items(), told, strict=True):
        in_terminal = [list(one) for one in verdict.answers(board_of(pages), now)]
        if "coordinator" not in pages:
            # What the link says stands in the sentence's place.
            in_terminal[0][1] = in_browser[0][1] = ""
        assert in_terminal == in_browser, name


_HEARD = """
(async () => {
  const [{ Board }, { health }] = await Promise.all([import("/board.js"), import("/health.js")]);
  const [said, page, at] = %s, board = new Board("ward-7");
  const link = { isUp: true, isNew: false, sentence: "" };
  board.take("coordinator", new Uint8Array(said), true, at);
  return [[123], page].map((bytes) => {
    board.take("pace", new Uint8Array(bytes), false, at);
    return health(board, link, at).sentence;
  });
})()
"""


@pytest.mark.broker
def test_in_a_browser_bytes_that_nobody_can_read_are_no_sign_of_life(
    browser: Tab, mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    at = datetime.fromisoformat(LATER).timestamp() * 1000
    given = json.dumps([list(encode(_SAID)), list(encode(pace())), at])
    with dashboard(tmp_path, mosquitto_broker.url, "--federation", federation_name) as url:
        browser.go("about:blank")
        browser.go(url)
        before, after = browser.settled(_HEARD % given)
    assert before == (
        "Nothing from the coordinator for 41 min 00 s: it is gone, or cut off from the broker;"
        " 1 page cannot be read: pace"
    )
    assert after == "all is well"


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_coordinator_whose_page_cannot_be_read_is_never_well(case: str) -> None:
    told = verdict.health(board_of(UNREADABLE[case]), NOW)
    assert told == ("trouble", verdict.UNREADABLE)
    # What it said before is no news of now.
    told = verdict.health(
        board_of({"model": model(), "coordinator": _SAID} | UNREADABLE[case]), NOW
    )
    assert told == ("trouble", verdict.UNREADABLE)
