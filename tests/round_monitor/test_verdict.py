"""What every view shows first: is it healthy, who is missing, does the model still improve?"""

import pytest
from msgspec import structs

from fedmqtt.status_pages import (
    ClientsPage,
    CoordinatorPage,
    HistoryPage,
    Page,
    Quarantined,
    encode,
)
from fedmqtt.topics import ClientId
from round_monitor import client_rows, verdict
from round_monitor.board import Board
from tests.fedmqtt.test_improvement import TRENDS
from tests.round_monitor.pages import (
    QUIET,
    a_client,
    board_of,
    coordinator,
    line,
    mid_round,
    names,
    open_round,
)

NOW = "2026-03-01T10:17:00+00:00"
PAGE = structs.replace(
    coordinator(), health="ok", health_why="all is well", as_of="2026-03-01T10:15+00:00"
)


def _with(page: CoordinatorPage, **others: Page) -> Board:
    return board_of({**mid_round(), "coordinator": page, **others})


def test_it_is_what_the_coordinator_says() -> None:
    assert verdict.health(_with(PAGE), NOW) == ("ok", "all is well")
    troubled = structs.replace(PAGE, health="trouble", health_why="nobody answers")
    assert verdict.health(_with(troubled), NOW) == ("trouble", "nobody answers")


def test_of_a_quiet_fleet_an_estimate_is_told_and_nobody_is_missing() -> None:
    page = structs.replace(PAGE, clients_online=0, clients_known=0, fleet=QUIET)
    assert verdict.missing(_with(page)) == (
        "ok",
        "Nobody says whether it is there; about 48,393 (44,376 to 52,773) would answer",
    )


def test_one_that_is_silent_for_minutes_is_trouble() -> None:
    told = verdict.health(_with(PAGE), "2026-03-01T10:19:30+00:00")
    assert told.state == "trouble"
    assert told.sentence.startswith("Nothing from the coordinator for 4 min 30 s: it is gone")


def test_once_it_is_heard_its_silence_is_counted_by_our_own_clock() -> None:
    board = _with(PAGE)
    board.heard_at = "2026-03-01T10:19:00+00:00"
    assert verdict.health(board, "2026-03-01T10:19:30+00:00").state == "ok"
    assert verdict.health(board.copy(), "2026-03-01T10:19:30+00:00").state == "ok"


def test_a_round_that_should_have_closed_is_trouble() -> None:
    late = "2026-03-01T10:20:{:02}+00:00"
    page = structs.replace(PAGE, as_of=late.format(0))
    assert verdict.health(_with(page), late.format(10)).state == "ok"
    told = verdict.health(_with(page), late.format(11))
    assert told.state == "trouble"
    assert told.sentence.startswith("Round 3 should have closed 11 s ago")


def test_one_that_is_done_may_be_silent_and_one_that_stopped_is_trouble() -> None:
    closed = structs.replace(open_round(), open=False)
    done = structs.replace(PAGE, state="finished")
    later = "2026-03-02T10:15:00+00:00"
    assert verdict.health(_with(done, round=closed), later) == ("ok", "all is well")
    stopped = structs.replace(PAGE, state="stopped", says="stopped after round 3")
    told = verdict.health(_with(stopped, round=closed), later)
    assert told == ("trouble", "The coordinator has stopped: stopped after round 3")


def test_one_of_before_is_judged_by_its_last_rounds() -> None:
    old = structs.replace(PAGE, health_why="", as_of="")
    assert verdict.health(_with(old), NOW) == ("ok", old.says)
    kept = HistoryPage(rounds=[line(number, outcome="kept") for number in range(1, 6)])
    told = verdict.health(_with(old, history=kept), NOW)
    assert told == ("trouble", "None of the last 5 rounds made a new model: cohort complete")
    waits = structs.replace(old, state="waiting", says="waiting for clients")
    assert verdict.health(_with(waits), NOW) == ("waiting", "waiting for clients")


def test_trouble_without_a_sentence_is_trouble_still() -> None:
    silent = structs.replace(PAGE, health="trouble", health_why="", state="waiting", says="waiting")
    assert verdict.health(_with(silent), NOW) == ("trouble", "waiting")


def test_a_page_that_cannot_be_read_is_trouble_until_one_can() -> None:
    board = _with(PAGE)
    assert board.take("coordinator", b'{"health": "critical"}')
    assert verdict.health(board, NOW) == ("trouble", verdict.UNREADABLE)
    assert verdict.health(board.copy(), NOW) == ("trouble", verdict.UNREADABLE)
    assert verdict.health(board, NOW, "no connection") == ("trouble", "no connection")
    # The same as before: nothing is new on it, and yet all is well again.
    assert board.take("coordinator", encode(PAGE))
    assert verdict.health(board, NOW) == ("ok", "all is well")


def test_other_pages_that_cannot_be_read_are_named_beside_the_verdict() -> None:
    board = _with(PAGE)
    for name in ("round", "history", "client/ann", "client/bob"):
        board.take(name, b"{")
    assert verdict.health(board, NOW) == (
        "ok",
        "all is well; 4 pages cannot be read: client/ann, client/bob, history and 1 more",
    )


def test_without_a_broker_it_waits_at_first_and_is_trouble_later() -> None:
    assert verdict.health(Board(), NOW, "connecting").state == "waiting"
    assert verdict.health(_with(PAGE), NOW, "no connection") == ("trouble", "no connection")
    assert verdict.health(Board(), NOW).state == "waiting"


def test_who_is_missing_is_named_with_the_reason() -> None:
    told = verdict.missing(_with(PAGE))
    assert told.state == "waiting"
    assert told.sentence == (
        "1 away (eve), 1 cannot take part (hal), 1 rejected (cat); 7 of 8 clients online"
    )


def test_whoever_the_list_shows_as_away_is_missing() -> None:
    there = ClientsPage(
        online=names("ann"), away=[], hindered={}, refused={ClientId("mia"): "5 messages: no key"}
    )
    one = structs.replace(PAGE, clients_online=1, clients_known=1)
    board = board_of(
        {"coordinator": one, "clients": there, "client/zoe": a_client("zoe", state="away")}
    )
    away = [row.client for row in client_rows.rows(board) if row.state == "away"]
    assert away == ["mia", "zoe"]
    assert verdict.missing(board) == ("waiting", "2 away (mia, zoe); 1 of 1 client online")


def test_who_was_revoked_is_not_away_as_well() -> None:
    there = ClientsPage(online=names("ann"), away=names("bob", "eve"), hindered={})
    three = structs.replace(PAGE, clients_online=1, clients_known=3)
    board = board_of(
        {"coordinator": three, "clients": there, "client/eve": a_client("eve", state="revoked")}
    )
    # One of the two that are wanted is not few.
    said = "1 away (bob), 1 revoked (eve); 1 of 3 clients online"
    assert verdict.missing(board) == ("waiting", said)


def test_nobody_missing_is_good_and_more_than_half_is_trouble() -> None:
    closed = structs.replace(open_round(), open=False)
    there = ClientsPage(online=names("ann", "bob"), away=[], hindered={})
    whole = structs.replace(PAGE, clients_online=2, clients_known=2)
    board = _with(whole, round=closed, clients=there)
    assert verdict.missing(board) == ("ok", "Nobody: 2 of 2 clients online")
    few = structs.replace(PAGE, clients_online=1, clients_known=3)
    lost = ClientsPage(
        online=names("ann"),
        away=names("bob", "cat"),
        hindered={},
        quarantined={ClientId("ann"): Quarantined(until="", why="noise")},
    )
    told = verdict.missing(_with(few, round=closed, clients=lost))
    assert told == ("trouble", "2 away (bob, cat), 1 in quarantine (ann); 1 of 3 clients online")
    assert verdict.missing(Board()).state == "waiting"


def test_whether_the_model_improves_is_what_the_coordinator_says() -> None:
    says = structs.replace(PAGE, better="no", better_why="No: accuracy 0.825; it was better")
    rises = HistoryPage(rounds=[line(number, number / 10) for number in range(1, 8)])
    board = _with(says, history=rises)
    assert verdict.trend(board) == ("waiting", "No: accuracy 0.825; it was better")
    board = _with(structs.replace(says, better="early", better_why="accuracy 0.1"), history=rises)
    assert verdict.trend(board) == ("ok", "accuracy 0.1")


@pytest.mark.parametrize("case", TRENDS)
def test_of_one_of_before_it_is_found_by_the_same_rule(case: str) -> None:
    lines, better, why = TRENDS[case]
    state = "ok" if better in ("yes", "early") else "waiting"
    assert verdict.trend(_with(PAGE, history=HistoryPage(rounds=lines))) == (state, why)
