"""What is known of clients: from the rounds that closed, by hand."""

import pytest

from coordinator import known
from coordinator.known import Knowledge, Known, Report
from fedmqtt.topics import ClientId, RoundId

ANN, BOB, CAT = map(ClientId, ("ann", "bob", "cat"))


def rounds(*numbers: int) -> list[RoundId]:
    return [RoundId(number) for number in numbers]


def nobody(client: ClientId) -> bool:
    return False


def test_a_round_tells_of_all_it_invited_and_more_of_those_that_answered() -> None:
    knowledge = Knowledge()
    one, two = rounds(1, 2)
    knowledge.reports[ANN, one] = Report(samples=30, loss=0.5, took_s=7.0)
    learned = knowledge.closed(one, {ANN, BOB}, [(ANN, one)], nobody)
    ann = Known(
        invited=1,
        invited_last=one,
        answered=1,
        answered_last=one,
        took_s=(7.0,),
        samples=30,
        loss=0.5,
    )
    assert learned == {ANN: ann, BOB: Known(invited=1, invited_last=one)}
    assert learned == knowledge.clients and not knowledge.reports
    assert knowledge.closed(two, {BOB}, [], nobody) == {BOB: Known(invited=2, invited_last=two)}


def test_the_duration_is_the_median_of_the_last_five() -> None:
    knowledge = Knowledge()
    assert Known().duration_s is None
    medians = []
    for number, took_s in enumerate([9.0, 1.0, 5.0, 2.0, 4.0, 3.0], start=1):
        knowledge.reports[ANN, RoundId(number)] = Report(1, None, took_s)
        knowledge.closed(RoundId(number), {ANN}, [(ANN, RoundId(number))], nobody)
        medians.append(knowledge.clients[ANN].duration_s)
    # Of two, the lower one. The 9 is the sixth last at the end.
    assert medians == [9.0, 1.0, 5.0, 2.0, 4.0, 3.0]
    assert knowledge.clients[ANN].took_s == (1.0, 5.0, 2.0, 4.0, 3.0)


def test_a_late_answer_counts_and_says_nothing_of_speed_nor_more_than_a_newer_one() -> None:
    knowledge = Knowledge()
    one, two, three = rounds(1, 2, 3)
    knowledge.closed(one, {ANN, BOB}, [], nobody)
    knowledge.reports[ANN, one] = Report(samples=10, loss=9.0)
    knowledge.reports[BOB, one] = Report(samples=20, loss=8.0)
    knowledge.reports[ANN, two] = Report(samples=11, loss=0.1, took_s=4.0)
    knowledge.closed(two, {ANN}, [(ANN, two)], nobody)
    knowledge.closed(three, set(), [(ANN, one), (BOB, one)], nobody)
    ann, bob = knowledge.clients[ANN], knowledge.clients[BOB]
    assert (ann.answered, ann.answered_last, ann.samples, ann.loss) == (2, two, 11, 0.1)
    assert (bob.answered, bob.answered_last, bob.samples, bob.loss) == (1, one, 20, 8.0)
    assert (ann.took_s, bob.took_s) == ((4.0,), ())


def test_an_answer_that_tells_no_loss_leaves_the_one_before() -> None:
    knowledge = Knowledge()
    one, two = rounds(1, 2)
    knowledge.reports[ANN, one] = Report(5, 0.7, 1.0)
    knowledge.closed(one, {ANN}, [(ANN, one)], nobody)
    knowledge.reports[ANN, two] = Report(6, None, 1.0)
    knowledge.closed(two, {ANN}, [(ANN, two)], nobody)
    assert (knowledge.clients[ANN].samples, knowledge.clients[ANN].loss) == (6, 0.7)


def test_a_label_is_what_the_client_said_last() -> None:
    knowledge = Knowledge()
    knowledge.said(ANN, "")
    assert not knowledge.clients, "who says nothing takes no room"
    knowledge.said(ANN, "phone")
    knowledge.closed(RoundId(1), {ANN}, [], nobody)
    knowledge.said(ANN, "watch")
    assert knowledge.clients[ANN] == Known(invited=1, invited_last=RoundId(1), label="watch")


def test_of_too_many_those_are_forgotten_that_are_away_and_were_invited_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known, "CLIENTS_MAX", 2)
    knowledge = Knowledge()
    one, two, three = rounds(1, 2, 3)
    knowledge.closed(one, {ANN}, [], nobody)
    knowledge.closed(two, {BOB}, [], nobody)
    learned = knowledge.closed(three, {CAT}, [], lambda client: client == ANN)
    assert learned == {BOB: None, CAT: Known(invited=1, invited_last=three)}
    assert knowledge.clients.keys() == {ANN, CAT}
    # Everybody is there: nobody is forgotten.
    knowledge.closed(RoundId(4), {BOB}, [], lambda client: True)
    assert knowledge.clients.keys() == {ANN, BOB, CAT}
