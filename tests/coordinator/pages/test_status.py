"""What people are told: pages made from states, decodable, small, and said only when new."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from coordinator import rounds
from coordinator.concurrency import Place
from coordinator.intake import revoked_devices
from coordinator.pacing import Bounds
from coordinator.pages import status
from coordinator.pages.status import Facts, Status
from coordinator.roster import Roster
from coordinator.rounds import Named
from fedmqtt import status_pages
from fedmqtt.messages import ModelRef, Presence
from fedmqtt.status_pages import (
    HISTORY_ROUNDS,
    LISTED_CLIENTS,
    LISTED_LABELS,
    STOPPED,
    ClientsPage,
    CoordinatorPage,
    Figures,
    HistoryPage,
    ModelPage,
    PacePage,
    Page,
    RoundLine,
    RoundPage,
)
from fedmqtt.topics import ClientId, Digest, RoundId, RunId, StatusPage
from tests.coordinator.records import RECORD

ANN, BOB, CAT, DAN = map(ClientId, ("ann", "bob", "cat", "dan"))

MODEL = ModelRef(digest=Digest("ab" * 32), size_bytes=8, chunk_bytes=1024, fingerprint="f")

RULES = rounds.Rules(
    select=lambda clients, count, *_: tuple(clients[:count]),
    rounds=5,
    cohort=2,
    quorum=1,
    clients_min=2,
    pace=Bounds(
        over_selection=1.5,
        over_selection_min=1.0,
        over_selection_max=2.0,
        deadline_s=30.0,
        deadline_min_s=5.0,
        deadline_max_s=60.0,
    ),
    task="digits",
    run=RunId("first.1234"),
    epoch=7,
)

PAST = rounds.begin(RULES).past

OPEN = rounds.Collecting(
    round=RoundId(3),
    model=MODEL,
    train=frozenset((ANN, BOB, CAT)),
    evaluate=frozenset((DAN,)),
    opened_at=10.0,
    terms_max=100,
    closes_at=40.0,
    answered=frozenset((ANN,)),
    declined={CAT: "not charging"},
    away={BOB: 12.0, ANN: 13.0},
    past=replace(PAST, late=4, held=(Named(CAT, RoundId(2)), Named(DAN, RoundId(1)))),
)

FIGURES = Figures(
    clients=2, samples=9, metrics={"accuracy": 0.5}, confusion=tuple([(1,) * 50] * 50)
)


def facts(**others: Any) -> Facts:
    return Facts(
        federation="ward-7",
        run="first",
        program="fedmqtt",
        started=datetime(2026, 3, 1, 10, 15, tzinfo=UTC),
        **others,
    )


def roster(*online: ClientId) -> Roster:
    found = Roster("digits")
    for client in online:
        presence = Presence(online=True, session="1", task="digits", purposes=("train", "evaluate"))
        found.came(0.0, client, presence)
    return found


def pages(
    state: rounds.State, present: Roster | None = None, known: Facts | None = None
) -> dict[str, Page]:
    return status.pages(state, present or roster(), RULES, known or facts(), at=20.0)


def line(number: int) -> RoundLine:
    return RoundLine(
        round=RoundId(number),
        outcome="averaged",
        reason="cohort complete",
        invited=3,
        answered=2,
        dropped=1,
        declined=0,
        rejected=0,
        duration_s=1.0,
        train_metrics={},
    )


def model_page() -> ModelPage:
    return ModelPage(
        digest=MODEL.digest,
        size_bytes=8,
        parameters=2,
        trained_rounds=2,
        figures=FIGURES,
        figures_round=RoundId(3),
    )


@pytest.mark.parametrize(
    ("state", "doing", "says"),
    [
        (rounds.Waiting(RoundId(1), PAST), "starting", "preparing the first model"),
        (
            rounds.Waiting(RoundId(1), PAST, MODEL),
            "waiting",
            "waiting for clients: 1 willing, 2 needed",
        ),
        (OPEN, "collecting", "round 3: 1 of 2 answers from 3 invited"),
        (replace(OPEN, train=frozenset()), "collecting", "last evaluation: 0 of 1 clients"),
        (rounds.Averaging(RoundId(4), PAST), "averaging", "making the next model"),
        (rounds.Finished(PAST), "finished", "all rounds are done"),
    ],
)
def test_each_state_is_told_in_a_sentence(state: rounds.State, doing: str, says: str) -> None:
    page = pages(state, roster(ANN))["coordinator"]
    assert isinstance(page, CoordinatorPage)
    assert (page.state, page.says) == (doing, says)


def test_a_pause_with_enough_clients_is_called_a_pause() -> None:
    page = pages(rounds.Waiting(RoundId(2), PAST, MODEL, not_before=30.0), roster(ANN, BOB))
    told = page["coordinator"]
    assert isinstance(told, CoordinatorPage) and told.says == "pausing before the next round"


def test_a_site_with_enough_devices_waits_for_the_centre() -> None:
    rules, state = replace(RULES, is_led=True), rounds.Waiting(RoundId(2), PAST, MODEL)
    told = status.pages(state, roster(ANN, BOB), rules, facts(), 14.0)["coordinator"]
    assert isinstance(told, CoordinatorPage)
    assert told.says == "waiting for the centre to ask for a round"
    assert told.next_step == "round 2 opens when the centre asks for it"
    lacking = status.pages(state, roster(ANN), rules, facts(), 14.0)["coordinator"]
    assert isinstance(lacking, CoordinatorPage)
    assert lacking.says == "waiting for clients: 1 willing, 2 needed"


def test_clients_that_rest_after_they_declined_are_told_with_when_they_are_asked_again() -> None:
    both = roster(ANN, BOB)
    for client in (ANN, BOB):
        both.declined(20.0, client, 40.0)
        both.declined(20.0, client, 40.0)
    told = pages(rounds.Waiting(RoundId(3), PAST, MODEL), both)["coordinator"]
    assert isinstance(told, CoordinatorPage)
    assert told.says == "waiting for clients: 0 willing, 2 to be asked again later, 2 needed"
    assert told.next_step.startswith(
        "round 3 opens when 2 more clients are willing; who declined or was silent is asked again"
    )


def test_an_asynchronous_round_tells_how_many_are_at_work_on_any() -> None:
    rules = replace(RULES, concurrency=3, cohort=10)
    place = Place(RoundId(1), 0.0, until=30.0)
    past = replace(OPEN.past, at_work={BOB: place, DAN: place})
    built = status.pages(replace(OPEN, past=past), roster(ANN), rules, facts(), 14.0)
    told, page = built["coordinator"], built["round"]
    assert isinstance(told, CoordinatorPage) and isinstance(page, RoundPage)
    assert told.says == "round 3: 3 of 10 answers, 2 of them to older rounds; 2 at work"
    assert told.at_work == 2 and page.wanted == 10
    waiting = rounds.Waiting(RoundId(4), past, MODEL)
    told = status.pages(waiting, roster(BOB, DAN), rules, facts(), 14.0)["coordinator"]
    assert isinstance(told, CoordinatorPage)
    assert told.says == "waiting for one of 2 at work, or for other clients"


@pytest.mark.parametrize("concurrency", [0, 3], ids=["synchronous", "asynchronous"])
def test_a_last_evaluation_wants_no_answers(concurrency: int) -> None:
    rules = replace(RULES, concurrency=concurrency)
    state = replace(OPEN, train=frozenset(), answered=frozenset())
    page = status.pages(state, roster(ANN), rules, facts(), 14.0)["round"]
    assert isinstance(page, RoundPage) and page.wanted == 0


def test_an_open_round_tells_who_is_awaited_and_why_others_are_not() -> None:
    page = pages(OPEN)["round"]
    assert isinstance(page, RoundPage)
    assert (page.run, page.round, page.open) == ("first.1234", 3, True)
    assert (page.wanted, page.quorum) == (2, 1)
    assert page.invited == [ANN, BOB, CAT] and page.answered == [ANN]
    # Ann is gone too, but has answered: nobody waits for her.
    assert page.away == [BOB]
    assert page.declined == {CAT: "not charging"}
    assert page.evaluators == [DAN] and page.evaluated == []
    opened, closes = map(datetime.fromisoformat, (page.opened, page.closes))
    assert abs((closes - opened) - timedelta(seconds=30)) <= timedelta(seconds=1)


def test_a_closed_round_tells_how_it_ended() -> None:
    answered = frozenset((ANN, BOB))
    close = rounds.Close(
        round=RoundId(3),
        outcome="averaged",
        reason="cohort complete",
        invited=OPEN.train,
        answered=answered,
        evaluated=frozenset(),
        declined=OPEN.declined,
        rejected={DAN: "not invited"},
        surplus=frozenset(),
        duration_s=5.0,
        pace=PAST.pace,
    )
    page = status.closed_round(status.open_round(OPEN, RULES, 20.0), close)
    assert not page.open and page.outcome == "averaged: cohort complete"
    assert page.answered == [ANN, BOB] and page.rejected == {DAN: "not invited"}
    # Bob was away, and his answer closed the round.
    assert page.away == []
    told = pages(rounds.Averaging(RoundId(4), PAST), known=facts(last_round=page))
    assert told["round"] == page


def test_a_coordinator_that_was_stopped_leaves_no_round_open() -> None:
    told = pages(OPEN, known=facts(stopped=True))
    page = told["round"]
    assert isinstance(page, RoundPage) and not page.open and page.outcome == STOPPED


@pytest.mark.parametrize(
    ("state", "goes_on_with"),
    [
        (OPEN, "round 3"),
        (rounds.Waiting(RoundId(5), PAST, MODEL), "round 5"),
        (rounds.Averaging(RoundId(6), PAST), "the last evaluation"),
    ],
)
def test_a_coordinator_that_was_stopped_tells_what_it_will_go_on_with(
    state: rounds.State, goes_on_with: str
) -> None:
    page = pages(state, known=facts(stopped=True))["coordinator"]
    assert isinstance(page, CoordinatorPage)
    says = f"stopped; starting it again goes on with {goes_on_with}"
    assert (page.state, page.says) == ("stopped", says)


def test_a_run_without_an_end_has_no_last_evaluation_to_go_on_with() -> None:
    state = rounds.Waiting(RoundId(9), PAST, MODEL)
    rules = replace(RULES, rounds=0)
    page = status.pages(state, roster(), rules, facts(stopped=True), at=20.0)["coordinator"]
    assert isinstance(page, CoordinatorPage) and page.says.endswith("goes on with round 9")


def test_the_pace_is_told_with_its_reasons() -> None:
    pace = replace(
        PAST.pace,
        over_selection=1.25,
        over_selection_reason="invites 5 for 4",
        deadline_s=12.5,
        deadline_reason="closes after 12 s",
    )
    told = PacePage(
        round=RoundId(4),
        over_selection=1.25,
        over_selection_reason="invites 5 for 4",
        deadline_s=12.5,
        deadline_reason="closes after 12 s",
    )
    past = replace(PAST, pace=pace)
    # Of the next round, as soon as one has closed; and of that round, while it is open.
    assert pages(rounds.Averaging(RoundId(4), past))["pace"] == told
    assert pages(replace(OPEN, round=RoundId(4), past=past))["pace"] == told


def test_the_coordinator_counts_late_answers_and_its_predecessors() -> None:
    page = pages(OPEN)["coordinator"]
    assert isinstance(page, CoordinatorPage)
    assert (page.late_updates, page.late_held, page.epoch) == (4, 2, 7)


def test_clients_are_listed_with_what_hinders_them() -> None:
    present = roster(ANN, BOB)
    present.came(0.0, CAT, Presence(online=True, session="1", task="letters"))
    present.left(1.0, BOB, "1")
    page = pages(OPEN, present)["clients"]
    assert isinstance(page, ClientsPage)
    assert page.online == [ANN, CAT] and page.away == [BOB]
    assert page.hindered == {CAT: "runs task 'letters', not 'digits'"}


def test_a_revoked_client_is_not_said_to_be_away() -> None:
    present = roster(ANN, BOB, CAT)
    present.bar(BOB, revoked_devices.WHY)
    present.left(1.0, BOB, "1")
    present.left(1.0, CAT, "1")
    page = pages(OPEN, present)["coordinator"]
    assert isinstance(page, CoordinatorPage)
    assert "; away: cat; revoked: bob" in page.health_why


def test_labels_are_told_and_how_many_clients_have_each() -> None:
    present = Roster("digits")
    for client, label in ((ANN, "phone"), (BOB, "watch"), (CAT, "phone"), (DAN, "")):
        here = Presence(online=True, session="1", task="digits", label=label)
        present.came(0.0, client, here)
    present.left(1.0, CAT, "1")
    page = pages(OPEN, present)["clients"]
    assert isinstance(page, ClientsPage)
    assert page.labels == {ANN: "phone", BOB: "watch", CAT: "phone"}
    assert list(page.label_counts.items()) == [("phone", 2), ("watch", 1)]


def test_a_label_of_each_clients_own_does_not_make_the_page_large() -> None:
    present = Roster("digits")
    for n in range(LISTED_CLIENTS + 5):
        here = Presence(online=True, session="1", task="digits", label=f"own {n:04}")
        present.came(0.0, ClientId(f"c{n:04}"), here)
    page = pages(OPEN, present)["clients"]
    assert isinstance(page, ClientsPage)
    assert len(page.labels) == LISTED_CLIENTS
    assert list(page.label_counts) == [f"own {n:04}" for n in range(LISTED_LABELS)]


def test_skew_is_told_as_it_is() -> None:
    page = pages(OPEN, known=facts(skew="2 of 9 clients ..."))["coordinator"]
    assert isinstance(page, CoordinatorPage) and page.skew == "2 of 9 clients ..."


def test_every_page_decodes_as_what_it_is() -> None:
    known = facts(model=model_page(), lines=[line(1), line(2)])
    known.participation.add(RECORD)
    for state in (rounds.Waiting(RoundId(1), PAST), OPEN, rounds.Finished(PAST)):
        for name, page in pages(state, roster(ANN), known).items():
            assert status_pages.decode(name, status_pages.encode(page)) == page
    assert pages(OPEN, known=known).keys() == status_pages.PAGES.keys()


class Said:
    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.status = Status(self._publish)

    def _publish(self, page: StatusPage, text: bytes) -> None:
        self.told.append((page.page, text))

    def take(self) -> list[str]:
        names, self.told = [name for name, text in self.told if text], []
        return names

    def take_away(self) -> list[str]:
        names, self.told = [name for name, text in self.told if not text], []
        return names


def test_only_what_has_changed_is_said() -> None:
    said, history = Said(), HistoryPage(rounds=[line(1)])
    said.status.say({"history": history, "model": model_page()})
    assert said.take() == ["history", "model"]
    said.status.say({"history": history, "model": model_page()})
    assert said.take() == []
    said.status.say({"history": HistoryPage(rounds=[line(1), line(2)]), "model": model_page()})
    assert said.take() == ["history"]


def test_pages_of_which_there_is_none_are_taken_away_as_they_are_of_an_earlier_run() -> None:
    said = Said()
    others = pages(OPEN).keys() - {"round"}
    said.status.say({name: page for name, page in pages(OPEN).items() if name in others})
    away = said.take_away()
    assert "round" in away and not others & set(away)
    said.status.say(pages(OPEN))
    assert said.take() == ["round"]
    # Another broker may hold them, or the same one that was told so in vain.
    said.status.forget()
    said.status.say({})
    assert said.take_away() == list(status_pages.PAGES)


def test_a_broker_that_may_have_forgotten_is_told_all_again() -> None:
    said = Said()
    said.status.say({"model": model_page()})
    said.status.forget()
    said.status.say({"model": model_page()})
    assert said.take() == ["model", "model"]


def test_a_page_that_is_too_long_is_shortened_until_it_fits() -> None:
    said = Said()
    said.status.bytes_max = 3000
    crowd = [ClientId(f"client-{number:03}") for number in range(300)]
    long = structs.replace(
        status.open_round(OPEN, RULES, 20.0),
        invited=crowd,
        rejected={client: "x" * 100 for client in crowd},
    )
    history = HistoryPage(rounds=[line(number) for number in range(1, 101)])
    clients = ClientsPage(online=crowd, away=crowd, hindered={})
    said.status.say({"round": long, "history": history, "clients": clients, "model": model_page()})
    told = {name: status_pages.decode(name, text) for name, text in said.told if text}
    assert all(len(text) <= 3000 for _, text in said.told)
    assert isinstance(told["round"], RoundPage) and told["round"].invited[0] == crowd[0]
    # The newest rounds stay, and of the model what is not the matrix.
    assert isinstance(told["history"], HistoryPage) and told["history"].rounds[-1] == line(100)
    assert isinstance(told["model"], ModelPage) and told["model"].figures is not None
    assert told["model"].figures.metrics == {"accuracy": 0.5}
    assert isinstance(told["clients"], ClientsPage) and told["clients"].online[0] == crowd[0]


def test_a_page_that_cannot_be_shortened_is_not_said_rather_than_losing_the_connection() -> None:
    said = Said()
    said.status.bytes_max = 50
    said.status.say(pages(OPEN))
    assert "coordinator" not in said.take()


def test_lists_of_clients_are_cut_where_a_page_would_grow_with_the_fleet() -> None:
    crowd = frozenset(ClientId(f"client-{number}") for number in range(LISTED_CLIENTS + 5))
    reasons = dict.fromkeys(crowd, "no")
    page = status.open_round(
        replace(OPEN, train=crowd, declined=reasons, rejected=reasons), RULES, 20.0
    )
    listed: list[Any] = [page.invited, page.declined, page.rejected]
    assert [len(each) for each in listed] == [LISTED_CLIENTS] * 3


def test_no_more_lines_are_kept_than_the_page_tells() -> None:
    known = facts()
    for number in range(1, 3 * HISTORY_ROUNDS):
        known.closed(line(number))
    assert len(known.lines) == HISTORY_ROUNDS
    page = pages(OPEN, known=known)["history"]
    assert isinstance(page, HistoryPage)
    assert page.rounds[-1].round == 3 * HISTORY_ROUNDS - 1 and len(page.rounds) == HISTORY_ROUNDS
