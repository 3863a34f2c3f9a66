import pytest

from coordinator.roster import Roster
from fedmqtt.messages import Presence, Purpose
from fedmqtt.topics import ClientId
from fleet_sim.promises import recount

ANN, BOB = ClientId("ann"), ClientId("bob")
BOTH: tuple[Purpose, ...] = ("train", "evaluate")


def here(
    session: str = "1", purposes: tuple[Purpose, ...] = BOTH, task: str = "t", wire: int = 1
) -> Presence:
    return Presence(online=True, session=session, purposes=purposes, task=task, wire=wire)


def test_who_is_there_and_willing_is_sorted() -> None:
    roster = Roster("t")
    roster.came(1, BOB, here())
    roster.came(2, ANN, here(purposes=("train",)))
    assert roster.willing("train") == [ANN, BOB]
    assert roster.willing("evaluate") == [BOB]
    assert (roster.willing_count("train"), roster.online_count) == (2, 2)
    recount(roster)


def test_willingness_is_what_was_said_last() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.came(5, ANN, here(purposes=()))
    assert roster.willing("train") == []
    assert roster.is_online(ANN)
    assert roster.clients[ANN].since == 1, "there all the time, whatever it was willing to do"
    recount(roster)


def test_a_will_of_another_session_is_not_believed() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here("2"))
    assert not roster.left(2, ANN, "1")
    assert roster.is_online(ANN)
    assert roster.left(3, ANN, "2")
    assert not roster.left(4, ANN, "2"), "gone already"
    assert not roster.is_online(ANN)
    assert roster.clients[ANN].since == 3
    assert not roster.left(5, BOB, "1"), "nobody has heard of bob"
    recount(roster)


def test_any_sign_of_life_makes_a_client_active() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.left(2, ANN, "1")
    roster.heard(3, ANN)
    assert roster.willing("train") == [ANN]
    assert roster.clients[ANN].since == 3
    roster.heard(4, ANN)
    assert roster.clients[ANN].since == 3
    # A stranger's update tells nothing of what it would do.
    roster.heard(5, BOB)
    assert not roster.is_online(BOB)
    recount(roster)


def test_who_cannot_take_part_is_seen_and_never_asked() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here(task="letters"))
    roster.came(1, BOB, here(wire=2))
    assert roster.online_count == 2
    assert roster.willing("train") == roster.able("evaluate") == []
    assert roster.clients[ANN].hindrance == "runs task 'letters', not 't'"
    assert roster.clients[BOB].hindrance == "speaks wire version 2, not 1"
    roster.came(2, BOB, here("2"))
    assert roster.willing("train") == [BOB]
    recount(roster)


def test_able_is_also_who_is_away() -> None:
    roster = Roster("t")
    roster.came(1, BOB, here())
    roster.came(1, ANN, here(purposes=("train",)))
    roster.left(2, BOB, "1")
    assert roster.able("evaluate") == [BOB]
    assert roster.willing("evaluate") == []
    recount(roster)


def test_who_was_silent_once_is_asked_again() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.missed(30, ANN, 30)
    assert roster.willing("train") == [ANN] and not roster.is_resting(ANN)
    assert roster.rest_ends_at() is None
    recount(roster)


def test_who_is_silent_again_and_again_rests_longer_and_longer() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.came(1, BOB, here())
    now = 0.0
    roster.missed(now, ANN, 30)
    for rest_s in (30, 60, 120):
        roster.missed(now, ANN, 30)
        assert roster.is_resting(ANN) and roster.rest_ends_at() == now + rest_s
        assert roster.willing("train") == [BOB] and roster.is_online(ANN)
        assert roster.able("evaluate") == [ANN, BOB], "it may return for a last evaluation"
        roster.end_rests(now + rest_s - 0.1)
        assert roster.is_resting(ANN)
        now += rest_s
        roster.end_rests(now)
        assert roster.willing("train") == [ANN, BOB] and roster.rest_ends_at() is None
        recount(roster)


def test_no_rest_is_for_ever() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    for _ in range(5000):
        roster.missed(0, ANN, 30)
    # 2 to the power of 5,000 would not fit a float, nor 1,024 rounds' time a patience.
    assert roster.rest_ends_at() == 30 * 1024


@pytest.mark.parametrize("says", ["came", "heard"])
def test_a_word_ends_a_rest_and_all_that_was_held_against_a_client(says: str) -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    for _ in range(3):
        roster.missed(30, ANN, 30)
    if says == "came":
        roster.came(31, ANN, here("2"))
        # That it is there is no answer: silence goes on counting.
        roster.missed(60, ANN, 30)
        assert roster.rest_ends_at() == 60 + 120
    roster.heard(61, ANN)
    assert roster.willing("train") == [ANN] and roster.rest_ends_at() is None
    roster.missed(90, ANN, 30)
    assert not roster.is_resting(ANN), "once may be chance"
    recount(roster)


def test_who_declines_rounds_that_nobody_answers_rests_until_it_comes_again() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.heard(1, ANN)
    roster.declined(1, ANN, 5)
    assert roster.willing("train") == [ANN], "once may be chance"
    for rest_s in (5, 10, 20):
        # To decline is a sign of life, and none of willingness.
        roster.heard(2, ANN)
        roster.declined(2, ANN, 5)
        assert roster.rest_ends_at() == 2 + rest_s and roster.resting_count == 1
        recount(roster)
    roster.came(3, ANN, here())
    assert roster.resting_count == 1, "it tells what it does"
    roster.came(3, ANN, here(purposes=("train",)))
    assert roster.willing("train") == [ANN] and roster.resting_count == 0
    roster.declined(4, ANN, 5)
    roster.came(5, ANN, here("2"))
    assert roster.willing("train") == [ANN] and roster.resting_count == 0
    roster.answered([ANN])
    roster.declined(9, ANN, 5)
    assert not roster.is_resting(ANN), "it does answer"
    recount(roster)


def test_a_rest_does_not_outlast_what_keeps_a_client_from_taking_part() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    for _ in range(2):
        roster.missed(30, ANN, 30)
    roster.left(40, ANN, "1")
    roster.end_rests(60)
    assert roster.willing("train") == [], "rested, and gone"
    recount(roster)


def test_a_stranger_has_nothing_to_rest_from() -> None:
    roster = Roster("t")
    for _ in range(3):
        # Invited before a restart, and not seen since.
        roster.missed(30, ANN, 30)
    assert roster.rest_ends_at() is None and roster.clients == {}
    roster.came(40, ANN, here())
    assert roster.willing("train") == [ANN]
    recount(roster)


def test_who_returns_has_been_there_since_then() -> None:
    roster = Roster("t")
    roster.came(1, ANN, here())
    roster.left(2, ANN, "1")
    roster.came(7, ANN, here("2"))
    assert roster.clients[ANN].since == 7


def test_what_its_owner_calls_it_is_known_from_its_presence() -> None:
    roster = Roster("t")
    for label in ("phone", "watch"):
        roster.came(1, ANN, Presence(online=True, session="1", task="t", label=label))
        assert roster.knowledge.clients[ANN].label == label


def test_where_clients_draw_a_program_that_cannot_is_never_asked() -> None:
    roster = Roster("t", by_sortition=True)
    old, new = here(), Presence(online=True, session="1", purposes=BOTH, task="t", draws=True)
    roster.came(1, ANN, old)
    roster.came(1, BOB, new)
    assert roster.willing("train") == roster.able("evaluate") == [BOB]
    assert roster.clients[ANN].hindrance == "is of a version that knows no sortition"
    assert roster.is_willing(BOB, "train") and not roster.is_willing(ANN, "train")
    roster.came(2, BOB, Presence(online=True, session="1", purposes=(), task="t", draws=True))
    assert not roster.is_willing(BOB, "train")


def test_the_first_of_several_rests_to_end_is_told() -> None:
    roster = Roster("t")
    for client, at in ((ANN, 30), (BOB, 20)):
        roster.came(1, client, here())
        roster.missed(at, client, 30)
        roster.missed(at, client, 30)
    assert roster.rest_ends_at() == 50
    roster.end_rests(50)
    assert roster.willing("train") == [BOB] and roster.rest_ends_at() == 60
    recount(roster)
