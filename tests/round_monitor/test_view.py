"""The screen: what a person must find on it, at the sizes terminals have, without colour."""

import io

import pytest
from msgspec import structs
from rich.cells import cell_len
from rich.console import Console

from fedmqtt.status_pages import (
    ClientsPage,
    Figures,
    GroupFigures,
    HistoryPage,
    Page,
    Privacy,
    Quarantined,
    encode,
)
from fedmqtt.topics import ClientId
from round_monitor.board import Board
from round_monitor.view import render, state_lines
from tests.round_monitor.pages import (
    QUIET,
    board_of,
    coordinator,
    figures,
    line,
    mid_round,
    model,
    names,
    open_round,
    pace,
    reasons,
)

HEADING = "Mosquitto 2.0.11 (started here, port 41234)"
NOW = "2026-03-01T10:19:48+00:00"


def _screen(board: Board, width: int = 80, encoding: str = "utf-8", **more: str) -> list[str]:
    """The lines as a terminal without colour shows them."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, no_color=True, force_terminal=False)
    console.print(render(board, HEADING, more.get("now", NOW), more.get("trouble", "")))
    file.seek(0)
    return file.read().splitlines()


def _panel(board: Board, width: int, height: int) -> str:
    """What `fedmqtt watch` has on a screen of this size beside answers, curves and events."""
    return "\n".join(line.plain for line in state_lines(board, NOW, "", width, height))


def _many(count: int) -> dict[str, Page]:
    clients = [f"phone-{i:03}" for i in range(count)]
    return {
        **mid_round(),
        "coordinator": coordinator(known=count),
        "round": open_round(invited=names(*clients[:40]), answered=names(*clients[:10])),
        "clients": ClientsPage(online=names(*clients), away=[], hindered={}),
    }


@pytest.mark.parametrize("width", [80, 120, 40, 200])
@pytest.mark.parametrize("clients", [8, 46, 100, 1000])
def test_nothing_is_wider_than_the_screen(width: int, clients: int) -> None:
    pages = mid_round() if clients == 8 else _many(clients)
    lines = _screen(board_of(pages), width)
    assert max(cell_len(text) for text in lines) <= width


def test_who_is_in_quarantine_or_on_the_way_there_is_named_with_the_reason() -> None:
    out = {ClientId("cat"): Quarantined(until="2026-03-01T14:05:00+00:00", why="noise")}
    page = ClientsPage(
        online=names("ann", "cat"),
        away=[],
        hindered={},
        quarantined=out,
        refused=reasons(ann="2 refused lately, the last: tensors of another task"),
    )
    text = "\n".join(_screen(board_of({**mid_round(), "clients": page}), 120))
    assert "⊘ cat" in text and "1 in quarantine" in text
    assert "cat is in quarantine until 2026-03-01 14:05 UTC: noise" in text
    assert "ann: 2 refused lately, the last: tensors of another task" in text


def test_why_who_cannot_take_part_does_not_is_told_once_for_all_of_whom_it_is_true() -> None:
    charging = [f"phone-{number}" for number in range(5)]
    weaker = (
        "this client's answers would be masked for one aggregator, and its owner asks for at least"
        " 'keyholders' (privacy.at_least)"
    )
    hindered = reasons(**{"hal": weaker}) | {ClientId(one): "not charging" for one in charging}
    page = ClientsPage(online=names("hal", *charging), away=[], hindered=hindered)
    board = board_of({**mid_round(), "clients": page})
    lines = [line.strip() for line in _screen(board)]
    assert "phone-0, phone-1, phone-2 and 2 more: not charging" in lines
    assert weaker in " ".join(lines)
    # There it is in the table of clients.
    assert "not charging" not in _panel(board, 80, 60)


def test_who_can_read_an_answer_is_told() -> None:
    lines = _screen(board_of(mid_round()))
    (line,) = [line for line in lines if line.startswith(" Privacy")]
    assert line.split(maxsplit=1)[1] == "plain: the coordinator can read each device's answer"


def test_of_many_reasons_why_clients_cannot_take_part_the_first_are_told() -> None:
    hindered = {ClientId(f"pi-{number}"): f"reason {number}" for number in range(7)}
    page = ClientsPage(online=sorted(hindered), away=[], hindered=hindered)
    text = "\n".join(_screen(board_of({**mid_round(), "clients": page})))
    assert "pi-3: reason 3" in text and "reason 4" not in text
    assert "and 3 more reasons" in text


@pytest.mark.parametrize("width", [80, 120])
def test_all_that_matters_is_on_the_screen(width: int) -> None:
    lines = _screen(board_of(mid_round()), width)
    text = "\n".join(lines)
    for fact in (
        "fedmqtt · ward-7 · run 20260301-101500",
        HEADING,
        "round 3: 2 of 4 answers from 5 invited",
        "3 of 10",
        "█░",
        "closes in 12 s",
        "5 invited  2 answered  1 away  0 declined  1 rejected  quorum 2",
        "over-selection 1.25",
        "deadline 1 min 12 s",
        "7 online of 8 known",
        "accuracy  0.750  ▁█  from 0.250, best 0.500",
        "macro-F1  0.375",
        "on 1,234 samples of 2 clients, at the start of round 3",
        "received 12.3 MB   published 335 kB, once for all   model 167 kB",
        "10:19:48  ✗ cat rejected: update norm 41.2 above the limit 10",
    ):
        assert fact in text
    assert "\x1b" not in text


def test_what_a_model_is_to_those_who_hold_the_last_one_is_told() -> None:
    pages = mid_round()
    pages["model"] = structs.replace(model(), delta_bytes=21_000)
    text = "\n".join(_screen(board_of(pages), 120))
    assert "model 167 kB, delta 21.0 kB" in text


def test_each_client_has_a_cell_that_says_what_it_does_without_colour() -> None:
    text = "\n".join(_screen(board_of(mid_round())))
    cells = ("✓ ann", "✓ bob", "✗ cat", "● dan", "– eve", "◆ fay", "○ gus", "! hal")
    assert [cell for cell in cells if cell not in text] == []
    legend = "✓ 2 answered ◆ 1 evaluated ● 1 working ○ 1 ready ! 1 unable – 1 away ✗ 1 rejected"
    assert legend.replace(" 2 ", " ").replace(" 1 ", " ") in text
    wide = "\n".join(_screen(board_of(mid_round()), 120))
    assert legend in wide.replace("   ", " ")


def test_a_hundred_clients_are_a_grid_in_tens() -> None:
    lines = _screen(board_of(_many(100)))
    tens = "✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓   ● ● ● ● ● ● ● ● ● ●   ● ● ● ● ● ● ● ● ● ●"
    assert f"          {tens}" in lines
    assert "          ✓ 10 answered   ● 30 working   ○ 60 ready" in lines


def test_of_more_clients_only_counts_are_shown() -> None:
    text = "\n".join(_screen(board_of(_many(101))))
    assert "✓ 10 answered   ● 30 working   ○ 61 ready" in text
    assert "✓ ✓" not in text


def test_counts_of_a_list_that_was_cut_say_so() -> None:
    pages = {**_many(1000), "coordinator": coordinator(known=5000)}
    text = "\n".join(_screen(board_of(pages), 120))
    assert "4,999 online of 5,000 known; the counts below are of 1,000 that the pages list" in text


def test_of_a_quiet_fleet_an_estimate_is_shown_as_one() -> None:
    page = structs.replace(coordinator(known=0), clients_online=0, fleet=QUIET)
    pages = {name: one for name, one in mid_round().items() if name != "clients"}
    text = "\n".join(_screen(board_of({**pages, "coordinator": page}), 120))
    assert "about 48,393 would answer, by an estimate: 44,376 to 52,773" in text
    assert "of those who answered, labelled 480 phone, 120 watch" in text
    assert "online of" not in text


def test_an_empty_board_is_a_calm_screen() -> None:
    text = "\n".join(_screen(Board()))
    assert "Waiting: Nothing is known of a coordinator so far" in text
    assert "Events" not in text


def test_trouble_is_the_first_thing_said() -> None:
    lines = _screen(board_of(mid_round()), trouble="no connection, trying again: refused")
    after_title = next(i for i, text in enumerate(lines) if text.startswith("─")) + 1
    assert lines[after_title] == " Health   Trouble: no connection, trying again: refused"
    assert "round 3: 2 of 4 answers from 5 invited" in "\n".join(lines)


def test_a_round_long_overdue_says_so() -> None:
    text = "\n".join(_screen(board_of(mid_round()), now="2026-03-01T10:22:05+00:00"))
    assert "overdue by 2 min 05 s" in text


def test_a_closed_round_shows_how_it_ended_and_who_dropped_out() -> None:
    page = structs.replace(
        open_round(answered=names("ann", "bob")), open=False, outcome="averaged: deadline"
    )
    text = "\n".join(_screen(board_of({**mid_round(), "round": page})))
    assert "2 of 4 answers   averaged: deadline" in text
    assert "5 invited  2 answered  3 dropped" in text


def test_a_large_screen_has_room_for_why_the_pace_is_so() -> None:
    reasons = (
        "over-selection 1.25: invites 5 for 4: 90%",
        "deadline 1 min 12 s: closes after 72 s",
    )
    for width, height, shown in [(80, 24, False), (120, 40, True)]:
        text = _panel(board_of(mid_round()), width, height)
        assert [reason in text for reason in reasons] == [shown, shown]


def test_when_a_round_has_closed_the_pace_is_the_nexts() -> None:
    page = structs.replace(open_round(), open=False, outcome="kept: deadline")
    pages = {**mid_round(), "round": page, "pace": pace(4)}
    assert "next: over-selection 1.25  deadline 1 min 12 s" in _panel(board_of(pages), 80, 24)
    assert "next: over-selection 1.25: invites 5" in "\n".join(_screen(board_of(pages)))
    assert "next:" not in "\n".join(_screen(board_of(mid_round())))


def test_the_last_evaluation_counts_evaluators() -> None:
    page = structs.replace(
        open_round(11, invited=[]),
        wanted=0,
        evaluators=names("ann", "bob", "cat"),
        evaluated=names("ann"),
    )
    text = "\n".join(_screen(board_of({**mid_round(), "round": page})))
    assert "last evaluation" in text
    assert "1 of 3 answers" in text


def test_a_round_of_which_nobody_trains_yet_is_no_last_evaluation() -> None:
    # As in a quiet federation: who measures may be heard of first.
    page = structs.replace(open_round(invited=[]), evaluators=names("ann"), evaluated=names("ann"))
    text = "\n".join(_screen(board_of({**mid_round(), "round": page})))
    assert "last evaluation" not in text
    assert "0 of 4 answers" in text


def test_figures_of_another_kind_are_shown_by_their_names() -> None:
    page = model()
    assert page.figures is not None
    other = structs.replace(page, figures=structs.replace(page.figures, metrics={"mse": 0.125}))
    assert "mse       0.125" in "\n".join(_screen(board_of({"model": other})))


def with_groups(count: int) -> dict[str, Page]:
    found = model()
    assert found.figures is not None
    groups = {
        f"kind {n}": GroupFigures(clients=3 + n, samples=9, metrics=figures(0.5).metrics)
        for n in range(count)
    }
    told = structs.replace(found.figures, groups=groups)
    return {**mid_round(), "model": structs.replace(found, figures=told)}


def test_each_kind_of_device_has_a_line_of_figures() -> None:
    text = "\n".join(_screen(board_of(with_groups(2)), 120))
    assert "kind 0        accuracy 0.500  macro-F1 0.250  3 clients" in text
    assert "kind 1        accuracy 0.500  macro-F1 0.250  4 clients" in text


def test_many_kinds_of_devices_do_not_fill_the_screen() -> None:
    text = "\n".join(_screen(board_of(with_groups(20)), 120))
    assert "kind 5" in text and "kind 6" not in text
    assert "and 14 more groups" in text
    assert "and 18 more groups" in _panel(board_of(with_groups(20)), 80, 24)


def test_what_went_wrong_is_counted() -> None:
    board = board_of({**mid_round(), "coordinator": coordinator(late_updates=3)})
    board.take("round", b"{")
    text = "\n".join(_screen(board))
    assert "3 late updates, 1 unreadable page: page round: " in text
    holding = structs.replace(coordinator(late_updates=3), late_held=2)
    board.take("coordinator", encode(holding))
    assert "3 late updates, 2 of them held, 1 unreadable page" in "\n".join(_screen(board))


def test_that_a_few_give_most_answers_is_told_whole_with_what_to_do() -> None:
    said = (
        "5 of 46 clients gave half of the answers of the last 100 rounds (fairness 0.41, 0.95 by"
        ' chance alone): set selection = "round_robin", which invites first who was invited least'
        " recently"
    )
    skewed = structs.replace(coordinator(), skew=said)
    for width in (80, 120):
        lines = _screen(board_of({**mid_round(), "coordinator": skewed}), width)
        assert said in " ".join(" ".join(lines).split())
        assert max(cell_len(text) for text in lines) <= width
    calm = "\n".join(_screen(board_of(mid_round())))
    assert "gave half" not in calm and "Also" not in calm


def test_what_a_model_may_show_of_a_device_is_told_where_there_is_noise() -> None:
    spent = Privacy(
        epsilon=1.2345,
        delta=1e-5,
        epsilon_max=4.377,
        participations=3,
        participations_max=20,
        noise_multiplier=4.0,
        clip_norm=1.0,
    )
    for measured in (model().figures, None):
        page = structs.replace(model(), privacy=spent, figures=measured)
        text = "\n".join(_screen(board_of({**mid_round(), "model": page})))
        assert "epsilon 1.23 of 4.38 at delta 1e-05" in text
        assert "of the models alone" not in text
        both = structs.replace(page, privacy=structs.replace(spent, epsilon_of_models=0.6789))
        text = "\n".join(_screen(board_of({**mid_round(), "model": both})))
        assert "epsilon 1.23 of 4.38 at delta 1e-05, of the models alone 0.679" in text
    assert "epsilon" not in "\n".join(_screen(board_of(mid_round())))


def test_kinds_of_devices_are_counted_by_their_labels() -> None:
    clients = mid_round()["clients"]
    assert isinstance(clients, ClientsPage)
    labelled = structs.replace(clients, label_counts={"phone": 1204, "watch": 3})
    text = "\n".join(_screen(board_of({**mid_round(), "clients": labelled})))
    assert "labelled 1,204 phone, 3 watch" in text
    assert "labelled" not in "\n".join(_screen(board_of(mid_round())))


def test_an_ascii_terminal_gets_ascii() -> None:
    pages = {**mid_round(), "coordinator": coordinator(says="première ronde")}
    text = "\n".join(_screen(board_of(pages), encoding="ascii"))
    for fact in ("# ann", "x cat", "* dan", "- eve", "e fay", "! hal", "premi?re ronde", "_#"):
        assert fact in text


@pytest.mark.parametrize("name", ["loss", "error_watts"])
def test_of_losses_and_errors_the_least_is_the_best(name: str) -> None:
    def measured(value: float) -> Figures:
        return Figures(clients=2, samples=1234, metrics={name: value}, confusion=None)

    found = enumerate((4.0, 1.0, 2.0), start=1)
    lines = [structs.replace(line(number), figures=measured(value)) for number, value in found]
    page = structs.replace(model(), figures=measured(2.0))
    pages = {**mid_round(), "model": page, "history": HistoryPage(rounds=lines)}
    text = "\n".join(_screen(board_of(pages), 120))
    assert f"{name:8}  2.000" in text and "from 4.000, best 1.000" in text


def test_a_long_history_fits_its_line() -> None:
    lines = [line(number, number / 100) for number in range(1, 101)]
    text = _screen(board_of({**mid_round(), "history": HistoryPage(rounds=lines)}))
    assert any("best 1.000" in shown for shown in text)


def test_whether_all_is_well_stands_above_all_else() -> None:
    page = structs.replace(
        coordinator(),
        health="trouble",
        health_why="the last 3 rounds made no model",
        as_of="2026-03-01T10:19+00:00",
    )
    lines = _screen(board_of(mid_round() | {"coordinator": page}))
    assert lines[3] == " Health   Trouble: the last 3 rounds made no model"
    assert "eve" in next(line for line in lines if line.startswith(" Missing"))
    assert "0.500" in next(line for line in lines if line.startswith(" Better"))
