"""The client table: what is found, in which order, and which columns have room."""

from msgspec import structs

from fedmqtt.status_pages import encode
from round_monitor import client_rows
from round_monitor.client_columns import NEED, ORDERS, arranged, fitting
from round_monitor.client_rows import Row
from tests.round_monitor.pages import a_client, board_of, mid_round

NOW = "2026-03-01T10:19:20+00:00"


def _rows() -> list[Row]:
    board = board_of(mid_round())
    for name, kbps in (("ann", 900.0), ("bob", 24_900.0), ("eve", None)):
        page = structs.replace(a_client(name), uplink_kbps=kbps)
        board.take(f"client/{name}", encode(page))
    return client_rows.rows(board)


def test_who_needs_a_look_comes_first() -> None:
    told = [(row.client, row.state) for row in _rows()]
    assert told == [
        ("cat", "rejected"),
        ("hal", "unable"),
        ("eve", "away"),
        ("dan", "working"),
        ("ann", "answered"),
        ("bob", "answered"),
        ("fay", "evaluated"),
        ("gus", "ready"),
    ]


def test_every_order_keeps_all_rows_and_can_be_turned_around() -> None:
    rows = _rows()
    for order in ORDERS:
        for reverse in (False, True):
            found = arranged(rows, "", order, reverse)
            assert sorted(row.client for row in found) == sorted(row.client for row in rows)
    assert arranged(rows, "", NEED, True) == rows[::-1]


def test_who_has_no_value_is_last_both_ways() -> None:
    for reverse, first in ((False, ["ann", "bob"]), (True, ["bob", "ann"])):
        found = arranged(_rows(), "", "uplink", reverse)
        assert [row.client for row in found[:2]] == first


def test_who_is_gone_does_nothing_whatever_its_old_page_says() -> None:
    rows = {str(row.client): row for row in _rows()}
    assert rows["eve"].does == "" and rows["eve"].last_seen == "2026-03-01T10:19:00+00:00"
    assert rows["ann"].does and rows["ann"].last_seen == ""


def test_columns_that_say_nothing_or_have_no_room_are_left_out() -> None:
    rows = _rows()
    wide = [column.name for column, _ in fitting(rows, 200, NOW)]
    assert wide == list(ORDERS[1:])
    narrow = [column.name for column, _ in fitting(rows, 60, NOW)]
    assert narrow == ["client", "state", "does, or why not"]
    without_pages = client_rows.rows(board_of(mid_round()))
    assert len(fitting(without_pages, 200, NOW)) == 3
    for width in range(20, 200):
        taken = sum(room + 2 for _, room in fitting(rows, width, NOW))
        assert taken <= max(width, 8 + 15 + 6)
