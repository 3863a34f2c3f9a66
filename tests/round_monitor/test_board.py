"""What the board keeps, and what it makes of the difference between two pages."""

from msgspec import structs

from fedmqtt.status_pages import (
    LISTED_CLIENTS,
    OPENING,
    STOPPED,
    ClientPage,
    ClientsPage,
    HistoryPage,
    Page,
    Quarantined,
    encode,
)
from fedmqtt.topics import ClientId
from round_monitor.board import KEPT_EVENTS, Board
from round_monitor.events import Event, merged
from tests.round_monitor.pages import (
    PAUSE_TOLD,
    PAUSED,
    REFUSAL_TOLD,
    REFUSED,
    board_of,
    coordinator,
    line,
    mid_round,
    model,
    names,
    open_round,
    ordered,
    reasons,
)


def _told(*pages: tuple[str, Page]) -> list[str]:
    board = Board()
    for name, page in pages:
        board.take(name, encode(page))
    return [event.text for event in board.events]


def test_a_page_that_says_nothing_new_changes_nothing() -> None:
    board = Board()
    assert board.take("coordinator", encode(coordinator()))
    assert not board.take("coordinator", encode(coordinator()))
    assert board.take("coordinator", encode(coordinator(late_updates=1)))


def test_bytes_that_are_no_page_are_counted_and_keep_the_last_good_one() -> None:
    board = board_of(mid_round())
    for nonsense in (b"{", b"\xff\xfe", b"[]", b'{"round": "seven"}', b"[" * 100_000):
        assert board.take("round", nonsense)
    assert board.unreadable_count == 5
    assert board.unreadable_last.startswith("page round: ")
    assert board.round is not None
    assert board.round.round == 3


def test_a_page_of_a_newer_coordinator_is_passed_over() -> None:
    board = Board()
    assert not board.take("weather", b'{"sun": true}')
    assert (board.is_empty, board.unreadable_count) == (True, 0)


def test_an_empty_payload_withdraws_the_page() -> None:
    board = board_of(mid_round())
    complete_before = board.is_complete
    assert board.take("round", b"")
    assert board.round is None
    assert (complete_before, board.is_complete) == (True, False)
    assert not board.take("round", b"")


def test_no_text_of_a_page_can_steer_the_terminal() -> None:
    board = board_of({"coordinator": coordinator(says="all \x1b[31mred\x07 and \u202eback")})
    assert board.coordinator is not None
    assert board.coordinator.says == "all \ufffd[31mred\ufffd and \ufffdback"
    page = open_round(rejected={names("\x1bcat")[0]: "no\nnewline"})
    board.take("round", encode(page))
    assert board.events[-1].text == "\ufffdcat rejected: no\ufffdnewline"


def test_a_round_is_told_from_opening_to_end() -> None:
    answered = names("ann", "bob")
    end = structs.replace(
        open_round(answered=answered), open=False, outcome="averaged: cohort complete"
    )
    assert _told(
        ("round", open_round()),
        ("round", open_round(answered=names("ann"))),
        ("round", open_round(answered=answered)),
        ("round", open_round(answered=answered, rejected=reasons(cat="stale"))),
        ("round", end),
        ("history", HistoryPage(rounds=[line(3)])),
        ("round", open_round(4)),
    ) == [
        "round 3 opened: 5 invited, 4 wanted",
        "ann answered",
        "bob answered",
        "cat rejected: stale",
        "round 3 closed, averaged: cohort complete (2 of 5)",
        "round 4 opened: 5 invited, 4 wanted",
    ]


def test_a_round_opens_before_anybody_is_heard_of_and_a_last_evaluation_wants_no_answers() -> None:
    unheard = open_round(invited=[])
    last = structs.replace(open_round(4, invited=[]), wanted=0, evaluators=names("ann", "bob"))
    assert _told(
        ("round", unheard),
        ("round", structs.replace(unheard, open=False, outcome="kept: deadline")),
        ("history", HistoryPage(rounds=[])),
        ("round", last),
    ) == [
        "round 3 opened: 4 wanted",
        "round 3 closed, kept: deadline",
        "round 4 opened: 2 clients to evaluate",
    ]


def test_a_round_whose_end_was_missed_is_told_from_the_history() -> None:
    assert _told(
        ("history", HistoryPage(rounds=[])),
        ("round", open_round(3)),
        ("round", open_round(6)),
        ("history", HistoryPage(rounds=[line(3), line(4), line(5, outcome="kept")])),
    ) == [
        "round 3 opened: 5 invited, 4 wanted",
        "round 6 opened: 5 invited, 4 wanted",
        "round 3 closed, averaged: cohort complete (4 of 5)",
        "round 4 closed, averaged: cohort complete (4 of 5)",
        "round 5 closed, kept: cohort complete (4 of 5)",
    ]


def test_a_masked_round_has_no_end_before_its_sum_is_open() -> None:
    closed = structs.replace(open_round(), open=False, outcome=OPENING, invited=[], answered=[])
    kept = structs.replace(closed, outcome="kept: too few keyholders")
    told = [f"round 3 takes no more answers: {OPENING}", "round 3 closed, kept: too few keyholders"]
    assert _told(("round", closed), ("round", kept)) == told
    assert _told(("round", closed), ("round", structs.replace(closed, dropped=1))) == told[:1]
    lines = HistoryPage(rounds=[line(3, outcome="kept")])
    seen = _told(("round", closed), ("round", kept), ("history", lines))
    assert seen == told


def test_a_keyholder_that_comes_or_goes_is_told_and_what_it_is_blamed_for() -> None:
    here, away = {ClientId("kh-a"): "ready"}, {ClientId("kh-a"): "away"}
    pages = [structs.replace(coordinator(), keyholders=told) for told in (here, away)]
    pages.append(structs.replace(pages[1], keyholder_faults=["kh-a sends nonsense"]))
    assert _told(*(("coordinator", page) for page in pages)) == [
        "keyholder kh-a: away",
        "kh-a sends nonsense",
    ]


def test_workers_that_come_and_go_are_told_with_what_they_do() -> None:
    alone, two = {"w0": "takes 8 of 8 lanes"}, {"w0": "takes 4 of 8 lanes"}
    two |= {"w1": "takes 4 of 8 lanes"}
    pages = [structs.replace(coordinator(), workers=told) for told in ({}, alone, two, two, alone)]
    assert _told(*(("coordinator", page) for page in pages)) == [
        "worker w0 takes 8 of 8 lanes",
        "worker w0 takes 4 of 8 lanes",
        "worker w1 takes 4 of 8 lanes",
        "worker w0 takes 8 of 8 lanes",
        "worker w1 is gone",
    ]


def test_a_round_goes_on_with_its_coordinator() -> None:
    answered = names("ann")
    page = structs.replace(open_round(answered=answered), run="first")
    stopped = structs.replace(page, open=False, outcome=STOPPED)
    again = structs.replace(
        page, opened="2026-03-01T10:08:00+00:00", answered=[*answered, *names("bob")]
    )
    end = structs.replace(again, open=False, outcome="averaged: cohort complete")
    told = [
        "round 3 opened: 5 invited, 4 wanted",
        "ann answered",
        "round 3 stopped with its coordinator (1 of 5)",
        "round 3 goes on",
        "bob answered",
        "round 3 closed, averaged: cohort complete (2 of 5)",
    ]
    assert _told(*(("round", one) for one in (page, stopped, again, end))) == told
    # Killed, it had no last words.
    assert _told(("round", page), ("round", again)) == [*told[:2], *told[3:5]]
    # What went on between two looks is told in one, and its end once.
    end_seen = [("round", end), ("history", HistoryPage(rounds=[line(3)]))]
    for looks in (end_seen, end_seen[::-1]):
        assert sum("closed" in what for what in _told(("round", stopped), *looks)) == 1
    # A new run has a round 3 too.
    other = structs.replace(again, run="second")
    assert _told(("round", page), ("round", other))[2] == "round 3 opened: 5 invited, 4 wanted"


def test_who_comes_late_is_told_the_last_round_and_the_open_one() -> None:
    history = HistoryPage(rounds=[line(1), line(2)])
    page = open_round(answered=names("ann", "bob"))
    assert _told(("history", history), ("round", page)) == [
        "round 2 closed, averaged: cohort complete (4 of 5)",
        "round 3 opened: 5 invited, 4 wanted",
        "ann, bob answered",
    ]


def test_many_clients_at_once_are_one_event() -> None:
    clients = names("ann", "bob", "cat", "dan", "eve")
    page = open_round(declined=dict.fromkeys(clients, "not charging"))
    assert _told(("round", open_round()), ("round", page))[1:] == [
        "ann, bob, cat and 2 more declined: not charging"
    ]


def test_clients_come_and_go() -> None:
    def page(*online: str, hindered: str = "") -> ClientsPage:
        return ClientsPage(
            online=names(*online), away=[], hindered=reasons(bob=hindered) if hindered else {}
        )

    assert _told(
        ("clients", page("ann", "bob")),
        ("clients", page("bob", "cat")),
        ("clients", page("bob", "cat", hindered="not charging")),
    ) == [
        "2 clients online",
        "cat came online",
        "ann left",
        "bob cannot take part: not charging",
    ]


def test_who_is_refused_shut_out_and_let_in_is_told_with_the_reason() -> None:
    def page(refused: str = "", why: str = "") -> ClientsPage:
        out = {ClientId("bob"): Quarantined(until="", why=why)} if why else {}
        told = reasons(bob=refused) if refused else {}
        return ClientsPage(online=names("bob"), away=[], hindered={}, refused=told, quarantined=out)

    assert _told(
        ("clients", page()),
        ("clients", page("1 refused lately, the last: noise")),
        ("clients", page(why="5 messages refused in 2 hours, the last: noise")),
        ("clients", page()),
    )[1:] == [
        "bob refused: 1 refused lately, the last: noise",
        "bob in quarantine: 5 messages refused in 2 hours, the last: noise",
        "bob out of quarantine",
    ]


def test_figures_are_told_once_for_each_model() -> None:
    later = structs.replace(model(0.75), size_bytes=1)
    assert _told(("model", model(0.5, 2)), ("model", model(0.75, 3)), ("model", later)) == [
        "accuracy 0.500, macro-F1 0.250 on 1,234 samples of 2 clients",
        "accuracy 0.750, macro-F1 0.375 on 1,234 samples of 2 clients",
    ]


def test_the_coordinator_is_quoted_when_it_waits_or_ends() -> None:
    def page(state: str, says: str) -> Page:
        return structs.replace(coordinator(says), state=state)

    assert _told(
        ("coordinator", page("waiting", "waiting for clients: 1 willing, 2 needed")),
        ("coordinator", page("collecting", "round 1: 0 of 4 answers")),
        ("coordinator", page("averaging", "making the next model")),
        ("coordinator", page("waiting", "pausing before the next round")),
        ("coordinator", page("finished", "all rounds are done")),
    ) == ["waiting for clients: 1 willing, 2 needed", "all rounds are done"]


def test_an_order_is_told_with_who_gave_it_when_and_what_came_of_it() -> None:
    assert _told(
        ("orders", ordered()),
        ("orders", ordered(PAUSED)),
        ("orders", ordered(PAUSED, REFUSED)),
    ) == [PAUSE_TOLD, REFUSAL_TOLD]
    # Of what was ordered before somebody looked, the last.
    assert _told(("orders", ordered(PAUSED, REFUSED))) == [REFUSAL_TOLD]


def test_an_order_that_comes_to_nothing_is_told_again() -> None:
    back = structs.replace(PAUSED, order="rollback 2", result="the next round trains from it")
    gone = structs.replace(back, done=False, result="given up: it is not kept")
    assert _told(("orders", ordered(back, REFUSED)), ("orders", ordered(gone, REFUSED)))[1:] == [
        "carol ordered rollback 2, and it is not done: given up: it is not kept"
        " (2026-03-01 10:18:07 UTC)"
    ]


def test_the_log_forgets_but_counts() -> None:
    board = Board()
    for number in range(KEPT_EVENTS + 50):
        board.take("round", encode(open_round(number)))
    assert (len(board.events), board.event_count) == (KEPT_EVENTS, KEPT_EVENTS + 50)
    assert [event.text for event in board.newest_events(KEPT_EVENTS + 49)] == [
        f"round {KEPT_EVENTS + 49} opened: 5 invited, 4 wanted"
    ]
    assert len(board.newest_events(0)) == KEPT_EVENTS
    assert board.newest_events(board.event_count) == []


def test_what_clients_do_one_after_the_other_is_shown_once() -> None:
    ann = Event("answered", "answered", ("ann",), at="10:00")
    bob = Event("answered", "answered", ("bob",), at="10:01")
    closed = Event("closed", "round 1 closed")
    shown = merged([ann, bob, closed, closed, ann])
    assert [event.text for event in shown] == [
        "ann, bob answered",
        "round 1 closed",
        "round 1 closed",
        "ann answered",
    ]
    assert shown[0].at == "10:01"


def _client_page(name: str, **others: object) -> ClientPage:
    page = ClientPage(
        client=ClientId(name),
        state="online",
        says="waiting",
        since="2026-03-01T10:15:00+00:00",
        last_seen="2026-03-01T10:15:00+00:00",
        rounds_invited=1,
        rounds_answered=1,
    )
    return structs.replace(page, **others)


def test_each_client_s_page_is_kept_by_its_name_until_it_is_withdrawn() -> None:
    board = Board()
    assert board.take("client/ann", encode(_client_page("ann")))
    assert not board.take("client/ann", encode(_client_page("ann")))
    assert board.take("client/ann", encode(_client_page("ann", doing="training\x1b[2J")))
    assert board.each_client["ann"].doing == "training\ufffd[2J"
    assert board.is_empty, "a page of a client is none of the coordinator's"
    assert board.take("client/ann", b"")
    assert not board.take("client/ann", b"")
    assert not board.each_client


def test_more_clients_than_a_coordinator_tells_of_are_not_kept() -> None:
    board = Board()
    for number in range(LISTED_CLIENTS + 5):
        board.take(f"client/c{number}", encode(_client_page(f"c{number}")))
    assert len(board.each_client) == LISTED_CLIENTS
    assert board.take("client/c0", encode(_client_page("c0", doing="training")))
    assert board.take("client/c1", b"{")
    assert board.unreadable_count == 1


def test_what_cannot_be_read_is_remembered_by_name_and_never_without_end() -> None:
    board = Board()
    for number in range(LISTED_CLIENTS + 5):
        board.take(f"client/c{number}", b"{")
    assert len(board.unreadable) == LISTED_CLIENTS
    assert board.take("coordinator", b"{") and "coordinator" in board.unreadable
    # Withdrawn, or readable again: nothing is wrong with it any more.
    assert board.take("coordinator", b"") and "coordinator" not in board.unreadable
    assert board.take("client/c0", encode(_client_page("c0")))
    assert "client/c0" not in board.unreadable and "client/c1" in board.unreadable
