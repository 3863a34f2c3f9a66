"""Whose page is said next, and whose is taken away: seldom enough, few enough, oldest first."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.pages.page_agenda import EACH_S, PageAgenda
from fedmqtt.topics import ClientId

ANN, BOB, CAT, DAN = map(ClientId, ("ann", "bob", "cat", "dan"))
DAY_S = 86_400.0


def agenda(listed_max: int = 3) -> PageAgenda:
    return PageAgenda(listed_max, forget_s=7 * DAY_S)


def test_what_changed_first_is_said_first_and_no_more_than_there_is_room_for() -> None:
    pages = agenda()
    for client in (CAT, ANN, BOB):
        pages.sign(client, 0.0)
    pages.sign(CAT, 1.0)
    assert pages.take(0.0, 2) == ([CAT, ANN], [])
    assert pages.take(0.0, 2) == ([BOB], [])
    assert pages.is_empty


def test_what_is_urgent_goes_first_and_may_go_before_its_turn() -> None:
    pages = agenda(9)
    for client in (ANN, BOB, CAT, DAN):
        pages.sign(client, 0.0)
    pages.changed([CAT, DAN], urgently=True)
    assert pages.take(0.0, 0, 1) == ([CAT], [])
    # Of those that are not, no more than there is room for.
    assert pages.take(0.0, 0, 9) == ([DAN], [])
    assert pages.take(0.0, 1, 9) == ([ANN], [])
    # Who was said a moment ago waits, however urgent it is.
    pages.changed([CAT], urgently=True)
    assert pages.take(1.0, 9, 9) == ([BOB], [])
    assert pages.take(2.0, 9, 9) == ([CAT], [])


def test_a_page_that_was_just_said_waits_and_others_go_before_it() -> None:
    pages = agenda()
    pages.sign(ANN, 0.0)
    pages.take(10.0, 9)
    pages.sign(ANN, 1.0)
    pages.sign(BOB, 1.0)
    assert pages.take(10.0 + EACH_S / 2, 9) == ([BOB], [])
    assert not pages.is_empty
    assert pages.take(10.0 + EACH_S, 9) == ([ANN], [])


def test_of_more_clients_the_one_that_was_seen_longest_ago_loses_its_page() -> None:
    pages = agenda()
    for moment, client in enumerate((ANN, BOB, CAT)):
        pages.sign(client, moment)
    pages.sign(ANN, 3.0)
    pages.sign(DAN, 4.0)
    assert pages.take(0.0, 9) == ([ANN, CAT, DAN], [BOB])
    assert pages.seen(BOB) is None
    # It is heard of again, before its page is gone and after.
    pages.sign(BOB, 5.0)
    assert pages.take(9.0, 9) == ([BOB], [CAT])


def test_who_was_taken_off_the_list_and_comes_back_keeps_its_page() -> None:
    pages = agenda(listed_max=1)
    pages.sign(ANN, 0.0)
    pages.sign(BOB, 1.0)
    pages.sign(ANN, 2.0)
    assert pages.take(0.0, 9) == ([ANN], [BOB])


def test_what_an_earlier_page_says_is_older_than_what_is_heard_now() -> None:
    pages = agenda()
    pages.sign(CAT, 50.0)
    pages.page_says(ANN, 20.0)
    pages.page_says(BOB, 10.0)
    pages.page_says(CAT, 5.0)
    assert pages.seen(CAT) == 50.0
    pages.sign(DAN, 61.0)
    assert pages.take(0.0, 9) == ([CAT, ANN, DAN], [BOB])


def test_it_is_better_than_a_guess_whichever_comes_first() -> None:
    pages = agenda()
    pages.known(ANN, 50.0)
    pages.page_says(ANN, 5.0)
    pages.page_says(BOB, 6.0)
    pages.known(BOB, 50.0)
    assert (pages.seen(ANN), pages.seen(BOB)) == (5.0, 6.0)
    pages.page_says(ANN, 2.0)
    assert pages.seen(ANN) == 5.0


def test_who_is_silent_for_long_and_away_is_forgotten() -> None:
    pages = agenda()
    pages.sign(ANN, 0.0)
    pages.sign(BOB, 0.0)
    pages.sign(CAT, DAY_S)
    pages.take(0.0, 9)
    pages.forget_old(7 * DAY_S, {ANN}.__contains__)
    assert pages.is_empty
    pages.forget_old(7 * DAY_S + 1, {ANN}.__contains__)
    assert pages.take(9.0, 9) == ([], [BOB])
    assert pages.seen(ANN) == 0.0


def test_a_page_that_nobody_shall_have_is_taken_away() -> None:
    pages = agenda(listed_max=0)
    pages.stranger(ANN)
    assert pages.take(0.0, 9) == ([], [ANN])
    pages.sign(BOB, 0.0)
    assert pages.take(0.0, 9) == ([], [BOB])


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["sign", "known", "page"]))),
    st.integers(0, 4),
)
def test_it_remembers_no_more_than_the_list_whoever_makes_up_names(
    heard: list[tuple[str, str]], listed_max: int
) -> None:
    pages = agenda(listed_max)
    how = {"sign": pages.sign, "known": pages.known, "page": pages.page_says}
    lying: set[ClientId] = set()
    for moment, (name, what) in enumerate(heard):
        how[what](ClientId(name), float(moment))
        if moment % 3 == 0:
            said, gone = pages.take(moment * EACH_S, 100)
            lying = (lying | set(said)) - set(gone)
    for round_number in range(2):
        said, gone = pages.take((len(heard) + round_number) * EACH_S + 10, 100)
        lying = (lying | set(said)) - set(gone)
    assert pages.is_empty
    assert len(lying) <= listed_max
    assert all(pages.seen(client) is not None for client in lying)
