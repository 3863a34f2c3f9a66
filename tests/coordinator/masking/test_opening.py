"""Whom the end of a masked round asks for what, and whose sums it takes: without a vector."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.masking import opening
from coordinator.masking.opening import (
    Ask,
    Came,
    Differ,
    Effect,
    GiveUp,
    Heard,
    Left,
    LinkDown,
    LinkUp,
    Refused,
    Rules,
    State,
    Take,
    Told,
    Tried,
    Try,
    Woke,
)
from fedmqtt.effects import WakeAt
from fedmqtt.topics import ClientId

A, B, C, D = range(4)
NAMES = {A: ClientId("kh-a"), B: ClientId("kh-b"), C: ClientId("kh-c"), D: ClientId("kh-d")}
TRUE = {seed: f"true {seed}".encode() for seed in range(8)}
FALSE = {seed: f"false {seed}".encode() for seed in range(8)}


def rules(places: int = 3, tolerated: int = 1) -> Rules:
    names = {place: NAMES[place] for place in range(places)}
    return Rules(places=places, tolerated=tolerated, names=names, timeout_s=10, deadline_s=100)


class Round:
    """One opening: what is asked and found is collected."""

    def __init__(self, there: set[int], of: Rules, possible: Mapping[int, bytes] = TRUE) -> None:
        self.rules, self.possible = of, possible
        self.done: list[Effect] = []
        self.state: State
        self.state, effects = opening.begin(0, there, of)
        self._do(effects, 0)

    def happen(self, event: opening.Event) -> list[Effect]:
        self.state, effects = opening.step(self.state, event, self.rules)
        before = len(self.done)
        self._do(effects, event.at)
        return self.done[before:]

    def tell(self, place: int, at: float = 1, of: Mapping[int, bytes] = TRUE) -> list[Effect]:
        """All that it holds, and the sums that it was asked for."""
        digests = {seed: of[seed] for seed in self.rules.held_by(place)}
        return self.happen(Told(at, place, digests, self.state.asked[place]))

    @property
    def asks(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for one in self.done:
            if isinstance(one, Ask):
                found.setdefault(one.place, set()).update(one.seeds)
        return found

    def _do(self, effects: list[Effect], at: float) -> None:
        for effect in effects:
            self.done.append(effect)
            if isinstance(effect, Try):
                possible = all(self.possible[seed] == one for seed, one in enumerate(effect.sums))
                self.happen(Tried(at, possible))


def taken(round_: Round) -> Take:
    (take,) = (one for one in round_.done if isinstance(one, Take))
    return take


def test_each_is_asked_for_one_seed_and_the_sum_is_taken_when_all_are_here() -> None:
    one = Round({A, B, C}, rules())
    assert one.asks == {A: {2}, B: {0}, C: {1}}
    for place in (A, B):
        assert not any(isinstance(each, Try) for each in one.tell(place))
    one.tell(C)
    assert taken(one) == Take((TRUE[0], TRUE[1], TRUE[2]), ())
    # What comes when all is over changes nothing.
    assert one.happen(Woke(1000)) == []


def test_one_that_is_away_is_passed_over() -> None:
    one = Round({A, C}, rules())
    assert set(one.asks) == {A, C} and one.asks[A] | one.asks[C] == {0, 1, 2}
    one.tell(A)
    one.tell(C)
    assert taken(one).wrong == ()


def test_one_that_is_silent_is_replaced_and_its_answer_counts_all_the_same() -> None:
    one = Round({A, B, C}, rules())
    one.tell(A)
    one.tell(C)
    assert one.happen(Woke(9.9)) == [WakeAt(10)]
    (ask, _) = one.happen(Woke(10))
    assert ask in (Ask(A, frozenset({0})), Ask(C, frozenset({0})))
    one.tell(B, at=11)
    assert taken(one).wrong == ()


def test_a_large_answer_that_is_on_its_way_is_waited_for() -> None:
    one = Round({A, B, C}, rules())
    one.tell(A)
    one.tell(C)
    one.happen(Heard(9, B))
    assert one.happen(Woke(10)) == [WakeAt(19)]
    assert any(isinstance(each, Ask) for each in one.happen(Woke(19)))


def test_who_comes_back_is_asked_again_for_what_it_owes() -> None:
    one = Round({A, B, C}, rules())
    one.happen(Left(1, B))
    assert one.happen(Came(2, B))[0] == Ask(B, frozenset({0}))
    one.tell(B)
    assert one.happen(Came(3, B)) == [WakeAt(10)]


def test_nobody_is_there_and_then_they_come() -> None:
    one = Round(set(), rules())
    assert one.asks == {}
    one.happen(Came(5, A))
    assert one.asks == {A: {1, 2}}
    one.happen(Came(6, B))
    # One that has nothing to send tells its digests.
    one.happen(Came(7, C))
    assert one.asks == {A: {1, 2}, B: {0}, C: set()}


def test_what_was_asked_over_a_link_that_broke_is_asked_again_and_nobody_is_late_for_it() -> None:
    one = Round({A, B, C}, rules())
    one.happen(LinkDown(1))
    assert one.happen(Woke(500)) == []
    asks = [each for each in one.happen(LinkUp(501)) if isinstance(each, Ask)]
    assert asks == [Ask(A, frozenset({2})), Ask(B, frozenset({0})), Ask(C, frozenset({1}))]
    assert not one.state.is_over
    (given_up,) = one.happen(Woke(600))
    assert isinstance(given_up, GiveUp)


def test_who_has_told_and_owes_more_is_asked_again_after_the_timeout() -> None:
    # A and C alone hold seed 1, B and C seed 0; B is away.
    one = Round({A, C}, rules())
    owes = one.asks[C]
    one.tell(A)
    held = one.rules.held_by(C)
    # It takes the receipt of an answer without its sums for that of one with them.
    one.happen(Told(2, C, {seed: TRUE[seed] for seed in held}, frozenset()))
    assert not any(isinstance(each, Ask) for each in one.happen(Woke(11.9)))
    again = one.happen(Woke(12))
    assert again == [Ask(C, frozenset(owes)), WakeAt(22)]
    assert one.happen(Woke(22)) == [Ask(C, frozenset(owes)), WakeAt(32)]
    one.tell(C, at=23)
    assert taken(one).wrong == ()


def test_who_was_silent_when_the_list_was_looked_at_is_asked_for_no_sum_that_others_have() -> None:
    held = rules()
    _, effects = opening.begin(0, {A, B, C}, held, frozenset({B}))
    asks = {each.place: set(each.seeds) for each in effects if isinstance(each, Ask)}
    assert asks[B] == set() and asks[A] | asks[C] == {0, 1, 2}
    # Where there is nobody else, it is.
    _, effects = opening.begin(0, {A, B}, held, frozenset({B}))
    asks = {each.place: set(each.seeds) for each in effects if isinstance(each, Ask)}
    assert asks == {A: {1, 2}, B: {0}}


def test_a_refusal_is_made_up_for_by_others_and_two_of_them_end_it() -> None:
    one = Round({A, B, C}, rules())
    (ask, _) = one.happen(Refused(1, B, "I know no such key"))
    assert isinstance(ask, Ask) and ask.seeds == {0}
    (given_up,) = one.happen(Refused(2, C, "4 clients, fewer than 50"))
    assert given_up == GiveUp(
        "kh-b opens no sum: I know no such key; kh-c opens no sum: 4 clients, fewer than 50"
    )


def test_at_the_deadline_it_is_said_who_was_not_heard_of() -> None:
    one = Round({A, B, C}, rules())
    one.tell(A)
    one.happen(Woke(10))
    (given_up,) = one.happen(Woke(100))
    assert given_up == GiveUp("nobody opened its sum in time: nothing was heard of kh-b and kh-c")


def test_of_three_that_hold_a_seed_the_one_that_differs_is_not_believed() -> None:
    one = Round({A, B, C, D}, rules(places=4))
    for place in (A, C, D):
        one.tell(place)
    effects = one.tell(B, of=FALSE)
    assert {each.seed for each in one.done if isinstance(each, Differ)} == {0, 2, 3}
    # What it sent is asked of another; then its word is nothing.
    (ask,) = (each for each in effects if isinstance(each, Ask))
    one.tell(ask.place)
    assert taken(one) == Take(tuple(TRUE[seed] for seed in range(4)), (B,))


def test_of_two_the_one_that_makes_the_sum_an_impossible_one_is_not_believed() -> None:
    # A is away: B and C alone say something of seed 0.
    one = Round({B, C}, rules())
    one.tell(B, of=FALSE)
    one.tell(C)
    assert any(isinstance(each, Differ) for each in one.done)
    for place in (A, B, C):
        if one.state.asked.get(place, frozenset()):
            one.tell(place, of=FALSE if place == B else TRUE)
    one.happen(Came(3, A))
    one.tell(A)
    assert taken(one) == Take((TRUE[0], TRUE[1], TRUE[2]), (B,))


def test_where_nobody_can_tell_who_is_right_the_model_is_kept() -> None:
    held = rules()
    state, effects = opening.begin(0, {A, B, C}, held)
    told = [
        Told(1, B, {0: TRUE[0], 2: TRUE[2]}, frozenset({0, 2})),
        Told(1, C, {0: FALSE[0], 1: TRUE[1]}, frozenset({0, 1})),
        Told(1, A, {1: TRUE[1], 2: TRUE[2]}, frozenset({1, 2})),
    ]
    for event in told:
        state, some = opening.step(state, event, held)
        effects += some
        while some and isinstance(some[-1], Try):
            # Either is one that answers can add up to.
            state, some = opening.step(state, Tried(2, True), held)
            effects += some
    assert effects[-1] == GiveUp(
        "kh-b and kh-c do not say the same, and nobody can tell who is right"
    )


def test_where_all_say_the_same_and_the_sum_is_none_somebody_else_is_to_blame() -> None:
    one = Round({A, B, C}, rules(), possible=FALSE)
    for place in (A, B, C):
        one.tell(place)
    assert one.done[-1] == GiveUp(
        "what is left without the masks is no sum of answers: the masks of somebody are not those"
        " of the seeds that it sealed"
    )


def test_what_a_keyholder_said_first_counts() -> None:
    one = Round({A, B, C}, rules())
    one.tell(A)
    one.tell(A, of=FALSE)
    one.tell(B)
    one.tell(C)
    assert taken(one).wrong == ()


def test_a_trusted_one_is_believed_where_its_sum_is_possible() -> None:
    one = Round({A}, rules(places=1, tolerated=0))
    one.tell(A)
    assert taken(one) == Take((TRUE[0],), ())
    other = Round({A}, rules(places=1, tolerated=0))
    other.tell(A, of=FALSE)
    assert isinstance(other.done[-1], GiveUp)


@given(
    shape=st.sampled_from([(1, 0), (3, 1), (4, 1), (4, 2), (5, 2)]),
    data=st.data(),
)
def test_it_ends_whatever_happens_and_takes_no_sum_that_is_not_the_true_one(
    shape: tuple[int, int], data: st.DataObject
) -> None:
    places, tolerated = shape
    names = {place: ClientId(f"kh-{place}") for place in range(places)}
    held = Rules(places=places, tolerated=tolerated, names=names, timeout_s=10, deadline_s=100)
    truth = {seed: f"true {seed}".encode() for seed in held.seeds}
    false = {seed: f"false {seed}".encode() for seed in held.seeds}
    one_of = st.integers(0, places - 1)
    liars = data.draw(st.sets(one_of, max_size=tolerated))
    one = Round(data.draw(st.sets(one_of)), held, truth)
    at = 0.0
    for _ in range(data.draw(st.integers(0, 25))):
        at += data.draw(st.sampled_from([0.0, 1.0, 11.0]))
        place = data.draw(one_of)
        what = data.draw(
            st.sampled_from(["tell", "tell", "tell", "came", "left", "refuse", "woke"])
        )
        if what == "tell" and place in one.state.asked:
            one.tell(place, at, false if place in liars else truth)
        elif what == "came":
            one.happen(Came(at, place))
        elif what == "left":
            one.happen(Left(at, place))
        elif what == "refuse":
            one.happen(Refused(at, place, "no"))
        else:
            one.happen(Woke(at))
    one.happen(Woke(at + 100))
    assert one.state.is_over
    ends = [each for each in one.done if isinstance(each, Take | GiveUp)]
    assert len(ends) == 1
    if isinstance(ends[0], Take):
        assert ends[0].sums == tuple(truth.values())
        assert set(ends[0].wrong) <= liars


@pytest.mark.parametrize("places", [3, 4])
def test_with_all_there_and_one_liar_the_true_sum_is_found(places: int) -> None:
    for liar in range(places):
        one = Round(set(range(places)), rules(places=places))
        answered: dict[int, frozenset[int]] = {}
        while not one.state.is_over:
            due = [p for p, asked in one.state.asked.items() if answered.get(p) != asked]
            assert due, "it waits for nobody"
            answered[due[0]] = one.state.asked[due[0]]
            one.tell(due[0], of=FALSE if due[0] == liar else TRUE)
        assert taken(one).wrong == (liar,)
