"""The screen of `fedmqtt watch`: what each key does, at all sizes, whatever texts come."""

import unicodedata
from dataclasses import replace

import pytest
from msgspec import structs
from rich.cells import cell_len
from textual.geometry import Region

from fedmqtt.status_pages import ClientsPage, Page, RoundPage, encode
from fedmqtt.topics import ClientId
from round_monitor.board import Board
from round_monitor.client_rows import MARKS
from round_monitor.events import Event
from round_monitor.sights import Sight
from round_monitor.terminal.client_table import ClientTable
from round_monitor.terminal.panels import EventsPanel
from tests.round_monitor import ward
from tests.round_monitor.pages import (
    PAUSE_TOLD,
    PAUSED,
    REFUSAL_TOLD,
    REFUSED,
    a_client,
    board_of,
    coordinator,
    mid_round,
    names,
    open_round,
    ordered,
    reasons,
)
from tests.round_monitor.pilots import LARGE, NOW, SMALL, Watching

PANELS = ("round", "clients", "curves", "events")
HOSTILE = "[bold red]x[/] [@click=app.quit]y[/] \x1b[2J\x07\u202e$z {} :smile:"
SEEN = "[bold red]x[/] [@click=app.quit]y[/]"


def _fleet(count: int) -> dict[str, Page]:
    clients = names(*(f"phone-{number:04}" for number in range(count)))
    return {
        **mid_round(),
        "coordinator": coordinator(known=count),
        "round": open_round(invited=clients[:40], answered=clients[:10]),
        "clients": ClientsPage(online=clients, away=[], hindered={}),
    }


def _shown_panels(watching: Watching) -> set[str]:
    return {name for name in PANELS if watching.app.query_one(f"#{name}").display}


def test_the_first_screen_answers_the_three_questions() -> None:
    async def script(watching: Watching) -> None:
        assert watching.lines[1] == (" Health   Healthy: round 38: 6 of 10 answers from 13 invited")
        assert watching.lines[2].startswith(" Missing  5 away (phone-05, phone-18, watch-08 and 2")
        assert watching.lines[4].startswith(" Better   Yes: accuracy 0.857;")
        assert "38 of 60" in watching.text and "closes in 41 s" in watching.text

    Watching(board_of(ward.pages())).play(script)


def test_each_number_is_a_panel_and_tab_goes_through_them() -> None:
    async def script(watching: Watching) -> None:
        for key, panel in zip("1234", PANELS, strict=True):
            await watching.press(key)
            assert _shown_panels(watching) == {panel}
        await watching.press("tab")
        assert _shown_panels(watching) == {"round"}
        await watching.press("shift+tab")
        assert _shown_panels(watching) == {"events"}
        assert "10:19:48  ✗ watch-07 rejected: update norm 41.2 above the limit 10" in watching.text

    Watching(board_of(ward.pages())).play(script)


def test_what_operators_ordered_is_among_the_events() -> None:
    async def script(watching: Watching) -> None:
        await watching.press("4")
        assert f"10:19:48 » {PAUSE_TOLD}" in " ".join(watching.text.split())
        board = watching.sight.board
        board.take("orders", encode(ordered(PAUSED, REFUSED)), at="10:19:50")
        watching.sight = Sight(board, "")
        await watching.looked()
        assert f"10:19:50 ✗ {REFUSAL_TOLD}" in " ".join(watching.text.split())

    Watching(board_of({**mid_round(), "orders": ordered(PAUSED)})).play(script)


def test_events_stay_at_the_newest_until_somebody_scrolls_up() -> None:
    def happen(watching: Watching, first: int) -> None:
        events = watching.sight.board.events
        events.extend(Event("says", f"happened: {number}") for number in range(first, first + 40))
        watching.sight = replace(watching.sight)

    async def script(watching: Watching) -> None:
        events = watching.app.query_one(EventsPanel)
        happen(watching, 0)
        # A message after the other: what is told by the first is not laid out yet.
        for _ in range(3):
            events.draw(watching.sight, NOW)
        await watching.settled()
        assert "happened: 39" in watching.text
        await watching.press("4", "pageup")
        assert "happened: 39" not in watching.text
        happen(watching, 40)
        await watching.looked()
        assert "happened: 79" not in watching.text
        await watching.press("end")
        happen(watching, 80)
        await watching.looked()
        assert "happened: 119" in watching.text

    Watching(board_of(ward.pages())).play(script, LARGE)


def test_an_event_is_told_whole_beside_a_scrollbar_too() -> None:
    async def script(watching: Watching) -> None:
        long = " ".join("a" * (number % 7 + 1) for number in range(60))
        watching.sight.board.events.extend(Event("says", f"{n}: {long}") for n in range(40))
        watching.sight = replace(watching.sight)
        await watching.press("4")
        told = [line for line in watching.lines if "a aa aaa" in line]
        assert told and not [line for line in told if "\N{HORIZONTAL ELLIPSIS}" in line]

    Watching(board_of(ward.pages())).play(script, SMALL)


def test_a_large_screen_has_all_panels_and_one_of_them_can_be_zoomed() -> None:
    async def script(watching: Watching) -> None:
        assert _shown_panels(watching) == set(PANELS)
        for title in ("1 Round", "2 Clients", "3 Curves", "4 Events"):
            assert f" {title} " in watching.text
        await watching.press("3", "z")
        assert _shown_panels(watching) == {"curves"}
        assert "training loss" in watching.text
        await watching.press("z")
        assert _shown_panels(watching) == set(PANELS)

    Watching(board_of(ward.pages())).play(script, LARGE)


def test_what_is_frozen_stays_until_the_key_is_pressed_again() -> None:
    async def script(watching: Watching) -> None:
        await watching.press("p")
        await watching.publish({**mid_round(), "coordinator": coordinator(says="round 4: all new")})
        assert "all new" not in watching.text
        assert "PAUSED at " in watching.lines[0] and "p goes on" in watching.lines[0]
        await watching.press("2", "4", "1")
        assert "all new" not in watching.text
        await watching.press("space")
        assert "all new" in watching.text and "PAUSED" not in watching.text

    Watching(board_of(mid_round())).play(script)


def test_clients_are_found_by_name_state_reason_and_label() -> None:
    async def script(watching: Watching) -> None:
        table = watching.app.query_one(ClientTable)
        for words, found in (
            ("PHONE-03", ["phone-03"]),
            ("quarantine", ["watch-09"]),
            ("not charging", ["phone-03"]),
            ("watch", [c for c in ward.CLIENTS if c.startswith("watch")]),
            ("nobody", []),
        ):
            await watching.press("slash")
            await watching.write(words)
            assert sorted(table.clients) == found
            assert f"{len(found)} of 46" in watching.text
            await watching.press("escape")
            assert len(table.clients) == 46

    Watching(board_of(ward.pages())).play(script)


def test_keys_that_are_letters_are_letters_where_one_writes() -> None:
    async def script(watching: Watching) -> None:
        await watching.press("slash")
        await watching.write("q1 sp")
        assert watching.app.is_running and not watching.app.is_frozen
        assert watching.app.query_one("#find").has_focus
        await watching.press("enter", "p")
        assert watching.app.is_frozen

    Watching(board_of(mid_round())).play(script)


def test_clients_are_sorted_by_keys_and_by_the_head() -> None:
    async def script(watching: Watching) -> None:
        table = watching.app.query_one(ClientTable)
        await watching.press("2")
        by_need = ["cat", "hal", "eve", "dan", "ann", "bob", "fay", "gus"]
        assert table.clients == by_need
        await watching.press("s")
        assert table.clients == sorted(by_need) and "client ▲" in watching.text
        await watching.press("r")
        assert table.clients == sorted(by_need, reverse=True) and "client ▼" in watching.text
        place = next(i for i, line in enumerate(watching.lines) if "state" in line)
        await watching.pilot.click(offset=(watching.lines[place].index("state"), place))
        await watching.settled()
        assert "state ▲" in watching.text
        order = list(MARKS)
        states = [line.split()[2] for line in watching.lines[place + 1 : place + 9]]
        assert states == sorted(
            states, key=lambda state: [s.split()[0] for s in order].index(state)
        )

    Watching(board_of(mid_round())).play(script)


def test_numbers_are_sorted_as_numbers_and_who_has_none_comes_last() -> None:
    board = board_of(mid_round())
    for name, seconds in (("ann", 9.0), ("bob", 100.0), ("cat", None)):
        board.take(f"client/{name}", encode(a_client(name, duration_s=seconds)))

    async def script(watching: Watching) -> None:
        await watching.press("2")
        for reverse in (False, True):
            watching.app.query_one(ClientTable).post_message(ClientTable.HeadClicked("takes"))
            await watching.settled()
            clients = watching.app.query_one(ClientTable).clients
            assert clients[:2] == (["bob", "ann"] if reverse else ["ann", "bob"])

    Watching(board).play(script)


def test_all_of_one_client_and_of_its_neighbours() -> None:
    board = board_of(mid_round())
    board.take("client/dan", encode(a_client("dan")))

    async def script(watching: Watching) -> None:
        await watching.press("slash", "d", "a", "n", "enter", "enter")
        for fact in (
            "dan",
            "● working",
            "training for round 3, epoch 1 of 2, 25%",
            "██████░",
            "3 of 4 rounds it was invited to, last round 2",
            "21 s",
            "24.9 Mbit/s",
            "2026-03-01 10:19:00 UTC, 20 s ago",
            "2026-03-01 10:19:08 UTC, 12 s ago",
        ):
            assert fact in watching.text
        await watching.press("escape", "escape", "2", "home", "enter")
        assert watching.lines[0].strip() == "cat"
        assert "update norm 41.2 above the limit 10" in watching.text
        await watching.press("down", "down")
        assert watching.lines[0].strip() == "eve"
        assert "dd" in watching.text and "d dropped   . not invited" in watching.text
        await watching.publish(
            {**mid_round(), "clients": ClientsPage(online=[], away=[], hindered={})}
        )
        assert "away" in watching.text
        await watching.press("escape")
        assert watching.app.query_one(ClientTable).client == "eve"

    Watching(board).play(script)


def test_help_tells_the_keys_and_q_ends_it() -> None:
    async def script(watching: Watching) -> None:
        await watching.press("question_mark")
        assert "freeze what is shown" in watching.text
        await watching.press("escape")
        assert "freeze what is shown" not in watching.text
        await watching.press("q")
        assert not watching.app.is_running

    Watching(board_of(mid_round())).play(script)


def test_it_follows_the_size_of_its_terminal() -> None:
    async def script(watching: Watching) -> None:
        for width, height, panels in (
            (150, 45, set(PANELS)),
            (80, 24, {"clients"}),
            (30, 8, {"clients"}),
            (1, 1, {"clients"}),
            (200, 60, set(PANELS)),
        ):
            await watching.pilot.resize_terminal(width, height)
            await watching.settled()
            assert len(watching.lines) == height
            assert all(cell_len(line) <= width for line in watching.lines)
            assert _shown_panels(watching) == panels

    watching = Watching(board_of(ward.pages()))

    async def on_clients(same: Watching) -> None:
        await same.press("2")
        await script(same)

    watching.play(on_clients)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_without_colour_nothing_has_one_and_the_cursor_still_shows(size: tuple[int, int]) -> None:
    async def script(watching: Watching) -> None:
        for key in ("1", "2", "3", "4", "slash", "question_mark"):
            await watching.press(key)
            styles = [part.style for line in watching.segments for part in line if part.style]
            for style in styles:
                assert style.color is None or style.color.is_default
                assert style.bgcolor is None or style.bgcolor.is_default
        await watching.press("escape", "escape", "2")
        at_cursor = [
            "".join(part.text for part in line if part.style and part.style.reverse)
            for line in watching.segments
        ]
        assert any("watch-07" in text for text in at_cursor)

    Watching(board_of(ward.pages()), colour=False).play(script, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_ascii_terminal_gets_ascii(size: tuple[int, int]) -> None:
    async def script(watching: Watching) -> None:
        for key in ("1", "2", "enter", "escape", "3", "4", "question_mark"):
            await watching.press(key)
            assert watching.text.isascii()
            assert "?" not in watching.text.replace("? Help", "")
        await watching.press("escape", "2")
        assert "x rejected" in watching.text and "q in quarantine" in watching.text

    Watching(board_of(ward.pages()), ascii_only=True).play(script, size)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_hostile_texts_are_texts(size: tuple[int, int]) -> None:
    board = Board()
    name = ClientId(HOSTILE)
    page = ClientsPage(online=[name], away=names("eve"), hindered={}, labels={name: HOSTILE})
    pages = {
        **mid_round(),
        "coordinator": structs.replace(coordinator(says=HOSTILE), federation=HOSTILE, run=HOSTILE),
        "round": open_round(
            invited=[name], rejected={name: HOSTILE}, declined=reasons(dan=HOSTILE)
        ),
        "clients": page,
    }
    for told, one in pages.items():
        board.take(told, encode(one), at="10:19:48")
    board.take(f"client/{HOSTILE}", encode(a_client(HOSTILE, says=HOSTILE, label=HOSTILE)))

    async def script(watching: Watching) -> None:
        for key in ("1", "2", "enter", "escape", "3", "4"):
            await watching.press(key)
            if key != "3":
                assert SEEN[:20] in watching.text
            steering = [c for c in watching.text if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
            assert set(steering) <= {"\n"}
        await watching.press("slash")
        await watching.write("bold red")
        assert watching.app.query_one(ClientTable).clients != []
        for line in range(size[1]):
            await watching.pilot.click(offset=(30, line))
        assert watching.app.is_running

    Watching(board).play(script, size)


def test_a_thousand_clients_can_be_gone_through_and_the_cursor_stays_on_one() -> None:
    async def script(watching: Watching) -> None:
        table = watching.app.query_one(ClientTable)
        await watching.press("2", "s", "end")
        assert table.client == "phone-0999" and "phone-0999" in watching.text
        await watching.press("home", "pagedown", "down")
        there = table.client
        assert there in watching.text
        fleet = _fleet(1000)
        fleet["round"] = open_round(invited=names(there), rejected={ClientId(there): "too large"})
        await watching.publish(fleet)
        assert table.client == there
        await watching.press("s", "r", "s", "s", "s", "s", "s", "s", "s")
        assert table.client == there

    Watching(board_of(_fleet(1000))).play(script)


def test_a_broker_that_lets_nobody_in_ends_it_with_the_reason() -> None:
    async def script(watching: Watching) -> None:
        watching.sight = Sight(Board(), "no connection", denied="the broker refuses this account")
        await watching.looked()
        assert watching.app.return_value == "the broker refuses this account"

    Watching(Board()).play(script)


def test_trouble_on_the_way_to_the_broker_is_told_first() -> None:
    async def script(watching: Watching) -> None:
        await watching.publish(mid_round(), lost="no connection, trying again: refused")
        assert watching.lines[1] == " Health   Trouble: no connection, trying again: refused"

    Watching(board_of(mid_round())).play(script)


def test_only_lines_that_changed_are_drawn_anew() -> None:
    async def script(watching: Watching) -> None:
        asked: list[Region] = []
        table = watching.app.query_one(ClientTable)
        await watching.press("2")
        drawn = table.refresh

        def refresh(*regions: Region, **options: bool) -> ClientTable:
            asked.extend(regions or [Region(0, 0, *table.size)])
            return drawn(*regions, **options)

        table.refresh = refresh  # type: ignore[method-assign]
        await watching.publish(mid_round())
        assert asked == []
        page = mid_round()["round"]
        assert isinstance(page, RoundPage)
        more = structs.replace(page, answered=names("ann", "bob", "dan"))
        await watching.publish({**mid_round(), "round": more})
        assert 0 < len(asked) <= 8 and all(region.height == 1 for region in asked)
        assert "dan       ✓ answered" in watching.text

    Watching(board_of(mid_round())).play(script)
