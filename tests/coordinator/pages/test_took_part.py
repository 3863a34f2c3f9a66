"""Who took part in which of the last rounds: one letter for each, and as many as people look at."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from coordinator.pages.took_part import Participation, halved
from fedmqtt.messages import Decline
from fedmqtt.status_pages import PARTICIPANTS, PARTICIPATION_ROUNDS, ParticipationPage
from fedmqtt.topics import ClientId, RoundId
from tests.coordinator.guests import Room
from tests.coordinator.persistence.test_restart import CHANGES, Federation, answer, back, come, kill
from tests.coordinator.records import RECORD

NOBODY: dict[str, Any] = {
    "invited": [], "answered": [], "dropped": [], "surplus": [], "declined": {}, "rejected": {},
    "evaluated": [], "late_counted": [], "quarantined": {},
}  # fmt: skip


def _page(*rounds: dict[str, Any]) -> ParticipationPage:
    participation = Participation()
    for number, told in enumerate(rounds, 1):
        participation.add(structs.replace(RECORD, round=RoundId(number), **(NOBODY | told)))
    page = participation.page()
    assert page is not None
    return page


def _names(*names: str) -> list[ClientId]:
    return [ClientId(name) for name in names]


def test_each_fate_has_its_letter() -> None:
    all_of_them = _names("ann", "bob", "cat", "dan", "eve", "fay")
    page = _page(
        {
            "invited": all_of_them,
            "answered": _names("ann"),
            "dropped": _names("bob", "cat"),
            "declined": {ClientId("cat"): "not charging"},
            "rejected": {ClientId("dan"): "too large"},
            "surplus": _names("eve"),
            "quarantined": {ClientId("gus"): "3 strikes"},
        },
        {
            "invited": _names("ann"),
            "answered": _names("ann"),
            "late_counted": [(ClientId("fay"), RoundId(1))],
        },
    )
    assert page.rounds == [1, 2]
    assert page.clients == {
        "ann": "aa", "bob": "d.", "cat": "n.", "dan": "r.", "eve": "s.", "fay": ".l", "gus": "q.",
    }  # fmt: skip
    assert page.clients_known == 7


def test_an_evaluation_is_no_round_to_take_part_in() -> None:
    page = _page(
        {"invited": _names("ann"), "answered": _names("ann")}, {"evaluated": _names("ann")}
    )
    assert page.rounds == [1]


def test_before_the_first_round_has_closed_there_is_no_page() -> None:
    assert Participation().page() is None


def test_the_last_rounds_are_told_and_who_is_in_none_of_them_is_forgotten() -> None:
    first = {"invited": _names("old"), "answered": _names("old")}
    later = {"invited": _names("ann"), "answered": _names("ann")}
    page = _page(first, *[later] * PARTICIPATION_ROUNDS)
    assert page.rounds == list(range(2, PARTICIPATION_ROUNDS + 2))
    assert page.clients == {"ann": "a" * PARTICIPATION_ROUNDS}


def test_of_many_clients_those_are_listed_that_were_there_last() -> None:
    early = _names(*(f"a{n:03}" for n in range(PARTICIPANTS)))
    late = _names(*(f"z{n:03}" for n in range(10)))
    page = _page({"invited": early, "dropped": early}, {"invited": late, "dropped": late})
    assert len(page.clients) == PARTICIPANTS
    assert page.clients.keys() >= set(late)
    assert list(page.clients) == sorted(page.clients)
    assert page.clients_known == PARTICIPANTS + 10
    half = halved(page)
    assert len(half.clients) == PARTICIPANTS // 2 and half.clients.keys() >= set(late)


@pytest.mark.broker
def test_a_coordinator_that_was_killed_tells_of_the_rounds_before(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    made = Federation(mosquitto_broker.url, federation_name, tmp_path)
    three = ("--set", "rounds.count=3", "--set", "rounds.quorum=1")
    with Room(mosquitto_broker.url, federation_name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with made.coordinating(*three) as program:
            first = ann.offered(1)
            for guest in (ann, bob, cat):
                answer(guest, first)
            page = room.page("participation")
            assert (page.rounds, page.clients) == ([1], {"ann": "a", "bob": "a", "cat": "a"})
            second = ann.offered(2)
            kill(room, program)
        room.forget()
        with made.coordinating(*three) as program:
            again = back(room, ann, second)
            page = room.page("participation")
            assert (page.rounds, page.clients["ann"]) == ([1], "a")
            cat.say(Decline(run=again.run, round=again.round, reason="on battery"), number=2)
            for guest in (ann, bob):
                answer(guest, again)
            page = room.page("participation", lambda page: len(page.rounds) == 2)
            assert page.clients == {"ann": "aa", "bob": "aa", "cat": "an"}
            kill(room, program)
