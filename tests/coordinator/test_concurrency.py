"""Who has a place at work, in cases that stories of rounds would take long to reach."""

from coordinator import concurrency
from coordinator.concurrency import Place, Places
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT, DAN = (ClientId(name) for name in ("ann", "bob", "cat", "dan"))
ONE, TWO, THREE = RoundId(1), RoundId(2), RoundId(3)


def places(**numbers: int) -> Places:
    return {ClientId(who): Place(RoundId(n), 0.0, until=30.0) for who, n in numbers.items()}


def test_an_older_answer_does_not_free_the_place_of_a_newer_invitation() -> None:
    before = places(ann=3, bob=1)
    assert concurrency.left(before, ANN, TWO) == before
    assert concurrency.left(before, ANN, THREE).keys() == {BOB}
    # As it may come for a round to which it was not even invited.
    assert concurrency.left(before, BOB, TWO).keys() == {ANN}
    assert concurrency.left(before, CAT, THREE) == before


def test_a_second_departure_does_not_begin_the_grace_anew() -> None:
    gone = concurrency.away(places(ann=1), ANN, 4.0)
    assert concurrency.away(gone, ANN, 9.0)[ANN].away_since == 4.0
    assert concurrency.away(gone, ANN, None) == places(ann=1)


def test_a_place_ends_by_whichever_comes_first() -> None:
    gone = concurrency.away(places(ann=2, bob=2, cat=1), BOB, 12.0)
    assert concurrency.next_end(gone, grace_s=10.0) == 22.0
    assert concurrency.next_end(gone, grace_s=100.0) == 30.0
    assert concurrency.next_end({}, grace_s=10.0) is None
    kept, silent = concurrency.cleared(gone, 22.0, 10.0, oldest=2)
    # Bob was known to be gone, cat at work in vain: neither of them was silent.
    assert kept.keys() == {ANN} and not silent
    assert concurrency.cleared(gone, 30.0, 100.0, oldest=1) == ({}, [ANN, CAT])


def test_a_coordinator_that_is_back_waits_for_the_newest_invited_who_owe() -> None:
    invitations = [
        (THREE, frozenset({ANN, BOB}), frozenset({BOB})),
        (TWO, frozenset({CAT, ANN}), frozenset[ClientId]()),
        # Bob gave up this one, or he had not answered the third.
        (ONE, frozenset({BOB, DAN}), frozenset[ClientId]()),
    ]
    found = concurrency.recovered(invitations, 10, at=100.0, patience_s=30.0)
    back = {ANN: THREE, CAT: TWO, DAN: ONE}
    assert found == {
        client: Place(number, None, until=130.0, away_since=100.0)
        for client, number in back.items()
    }
    few = concurrency.recovered(invitations, 2, at=100.0, patience_s=30.0)
    assert few.keys() == {ANN, CAT}


def test_time_in_which_nobody_could_be_heard_is_nobodys_silence() -> None:
    gone = concurrency.away(places(ann=1, bob=1), BOB, 5.0)
    again = concurrency.heard_again(gone, deaf_s=60.0, until=70.0)
    assert again == {
        ANN: Place(ONE, 60.0, until=90.0),
        BOB: Place(ONE, 60.0, until=90.0, away_since=70.0),
    }
