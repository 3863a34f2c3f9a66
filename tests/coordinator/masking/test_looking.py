"""Who is left out of a list before anybody opens it: decided without a list."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.masking import looking, opening
from coordinator.masking.looking import Ask, Effect, GiveUp, Looked, Rules, Settle, State
from coordinator.masking.opening import NOBODY, Came, Left, LinkDown, LinkUp, Refused, Woke
from fedmqtt.effects import WakeAt
from fedmqtt.masking import seeds
from fedmqtt.messages import WhyUnfit
from fedmqtt.topics import ClientId

A, B, C = range(3)
ANN, BOB, CAT, DAN, EVE = map(ClientId, ("ann", "bob", "cat", "dan", "eve"))
ALL = frozenset({ANN, BOB, CAT, DAN, EVE})
FIT: dict[ClientId, WhyUnfit] = {}


def names(*clients: ClientId) -> dict[ClientId, WhyUnfit]:
    """What one says that finds what these sealed to be nonsense."""
    return dict.fromkeys(clients, "seal")


def rules(places: int = 3, tolerated: int = 1, fewest: int = 3) -> Rules:
    names = {place: ClientId(f"kh-{'abcde'[place]}") for place in range(places)}
    of_opening = opening.Rules(
        places=places, tolerated=tolerated, names=names, timeout_s=10, deadline_s=100
    )
    return Rules(opening=of_opening, clients=ALL, fewest=fewest)


def run(
    there: set[int], *events: looking.Event, held: Rules | None = None
) -> tuple[State, list[Effect]]:
    """The state in the end, and all that was ordered."""
    held = held or rules()
    state, done = looking.begin(0, there, held)
    for event in events:
        state, effects = looking.step(state, event, held)
        done += effects
    return state, done


def end(done: Sequence[Effect]) -> Settle | GiveUp:
    (found,) = (one for one in done if isinstance(one, Settle | GiveUp))
    return found


def is_open(done: Sequence[Effect]) -> bool:
    return not any(isinstance(one, Settle | GiveUp) for one in done)


def test_all_that_are_there_look_and_a_list_that_is_fit_stays_as_it_is() -> None:
    fit = [Looked(1, place, FIT) for place in (A, B, C)]
    _, done = run({A, B, C}, *fit[:2])
    assert [one for one in done if isinstance(one, Ask)] == [Ask(A), Ask(B), Ask(C)]
    # Two could open it, and the third may yet find somebody unfit.
    assert is_open(done) and done[-1] == WakeAt(10)
    _, done = run({A, B, C}, *fit)
    assert end(done) == Settle({}, NOBODY)


def test_whoever_one_of_them_names_is_left_out() -> None:
    looked = [
        Looked(1, A, names(EVE)),
        Looked(2, B, {EVE: "unenrolled", DAN: "seal"}),
        Looked(3, C, FIT),
    ]
    _, done = run({A, B, C}, *looked)
    assert end(done) == Settle({DAN: {B: "seal"}, EVE: {A: "seal", B: "unenrolled"}}, NOBODY)


def test_who_is_not_on_the_list_is_not_left_out_of_it() -> None:
    _, done = run({A, B}, Looked(1, A, names(ClientId("zoe"))), Looked(1, B, FIT))
    assert end(done) == Settle({}, NOBODY)


def test_one_that_is_away_is_not_waited_for_and_one_that_is_silent_not_for_long() -> None:
    looked = [Looked(1, A, FIT), Looked(1, B, FIT)]
    assert end(run({A, B}, *looked)[1]) == Settle({}, NOBODY)
    _, done = run({A, B, C}, *looked, Woke(9.9))
    assert is_open(done)
    assert end(run({A, B, C}, *looked, Woke(10))[1]) == Settle({}, frozenset({C}))
    assert end(run({A, B, C}, *looked, Left(2, C))[1]) == Settle({}, NOBODY)


def test_one_alone_cannot_open_it_so_the_others_are_waited_for() -> None:
    state, done = run({A}, Looked(1, A, FIT), Woke(50))
    assert is_open(done) and done[-1] == WakeAt(100)
    state, effects = looking.step(state, Came(60, C), rules())
    assert effects[0] == Ask(C)
    _, effects = looking.step(state, Looked(61, C, names(ANN)), rules())
    assert end(effects) == Settle({ANN: {C: "seal"}}, NOBODY)
    assert end(run({A}, Looked(1, A, FIT), Woke(100))[1]) == GiveUp(
        "too few keyholders looked at its list in time: nothing was heard of kh-b and kh-c"
    )


def test_who_is_silent_is_asked_again_and_its_word_counts_when_it_comes() -> None:
    state, done = run({A, B}, Looked(1, A, FIT), Woke(10))
    assert [one for one in done if isinstance(one, Ask)] == [Ask(A), Ask(B), Ask(B)]
    assert done[-1] == WakeAt(20)
    _, effects = looking.step(state, Looked(11, B, FIT), rules())
    assert end(effects) == Settle({}, NOBODY)


def test_where_too_few_would_be_left_the_fewest_keyholders_do_not_count() -> None:
    everybody = Looked(1, B, names(*ALL))
    _, done = run({A, B, C}, Looked(1, A, names(EVE)), everybody, Looked(1, C, FIT))
    # Without B. It is said all the same that it named eve, too.
    assert end(done) == Settle({EVE: {A: "seal", B: "seal"}}, NOBODY)
    # Two cannot do without either.
    _, done = run({A, B}, Looked(1, A, FIT), everybody)
    assert is_open(done)
    _, done = run({A, B}, Looked(1, A, FIT), everybody, Came(2, C), Looked(3, C, FIT))
    assert end(done) == Settle({}, NOBODY)
    _, done = run(
        {A, B}, Looked(1, A, FIT), everybody, Came(2, C), Looked(3, C, names(*ALL - {ANN}))
    )
    assert end(done) == GiveUp(
        "too few of its answers can be opened, 3 are needed: kh-b finds 5 of 5 clients unfit;"
        " kh-c finds 4 of 5 clients unfit"
    )


def test_of_two_lists_that_as_many_open_the_longer_one_is_chosen() -> None:
    two = names(ANN, BOB)
    looked = [Looked(1, A, two), Looked(1, B, names(CAT)), Looked(1, C, FIT)]
    _, done = run({A, B, C}, *looked)
    assert end(done) == Settle({CAT: {B: "seal"}}, NOBODY)


def test_a_refusal_that_is_no_clients_fault_is_made_up_for_or_ends_it() -> None:
    refuse = Refused(1, B, "I know no such key")
    _, done = run({A, B, C}, refuse, Looked(1, A, FIT), Looked(1, C, FIT))
    assert end(done) == Settle({}, NOBODY)
    _, done = run({A, B, C}, refuse, Refused(2, C, "5 clients, fewer than 50"))
    assert end(done) == GiveUp(
        "keyholders open nothing of its list: kh-b opens no sum: I know no such key; kh-c opens no"
        " sum: 5 clients, fewer than 50; nothing was heard of kh-a"
    )
    # It may have been for what is mended.
    _, done = run({A, B}, refuse, Looked(1, A, FIT), Came(5, B))
    assert done[-2:] == [Ask(B), WakeAt(15)]


def test_who_was_killed_while_it_looked_is_asked_again_when_it_is_back() -> None:
    state, done = run({A, B}, Looked(1, A, FIT), Left(2, B))
    assert is_open(done)
    state, effects = looking.step(state, Came(3, B), rules())
    assert effects == [Ask(B), WakeAt(13)]
    # Over a new connection, of which no leaving was heard.
    state, effects = looking.step(state, Came(4, B), rules())
    assert effects == [Ask(B), WakeAt(14)]
    # What it said before counts, and it is not asked for that again.
    state, effects = looking.step(state, Came(5, A), rules())
    assert effects == [WakeAt(14)]
    assert end(looking.step(state, Looked(6, B, FIT), rules())[1]) == Settle({}, NOBODY)


def test_a_single_one_that_is_trusted_decides_alone() -> None:
    trusted = rules(places=1, tolerated=0)
    _, done = run({A}, Looked(1, A, names(EVE)), held=trusted)
    assert end(done) == Settle({EVE: {A: "seal"}}, NOBODY)
    assert isinstance(end(run({A}, Looked(1, A, names(*ALL)), held=trusted)[1]), GiveUp)


def test_nobody_is_late_for_a_link_that_broke_and_who_has_not_looked_is_asked_again() -> None:
    state, done = run({A, B, C}, Looked(1, A, FIT), LinkDown(2), Woke(500))
    assert is_open(done)
    state, effects = looking.step(state, LinkUp(502), rules())
    assert effects == [Ask(B), Ask(C), WakeAt(512)]
    state, effects = looking.step(state, Woke(599), rules())
    assert is_open(effects)
    assert isinstance(end(looking.step(state, Woke(600), rules())[1]), GiveUp)


@pytest.mark.parametrize("event", [Looked(9, A, names(*ALL)), Came(9, A), Woke(9)])
def test_what_comes_when_it_is_settled_changes_nothing(event: looking.Event) -> None:
    state, _ = run({A, B}, Looked(1, A, FIT), Looked(1, B, FIT))
    assert looking.step(state, event, rules()) == (state, [])


EVENTS = st.tuples(
    st.sampled_from(["fit", "names", "refused", "came", "left", "woke", "down", "up"]),
    st.integers(0, 4),
    st.sets(st.sampled_from(sorted(ALL))),
)


@given(
    shape=st.sampled_from([(1, 0), (3, 1), (4, 2), (5, 2)]),
    there=st.sets(st.integers(0, 4)),
    steps=st.lists(EVENTS, max_size=25),
)
def test_it_ends_once_and_leaves_enough_that_enough_keyholders_open(
    shape: tuple[int, int], there: set[int], steps: list[tuple[str, int, set[ClientId]]]
) -> None:
    held = rules(*shape)
    state, done = looking.begin(0, there, held)
    said: dict[int, dict[ClientId, WhyUnfit]] = {}
    at = 0.0
    for what, place, some in steps:
        at += 3
        unfit = names(*some) if what == "names" else FIT
        happened: dict[str, looking.Event] = {
            "fit": Looked(at, place, FIT),
            "names": Looked(at, place, unfit),
            "refused": Refused(at, place, "no"),
            "came": Came(at, place),
            "left": Left(at, place),
            "woke": Woke(at),
            "down": LinkDown(at),
            "up": LinkUp(at),
        }
        if not state.is_over and place < shape[0]:
            if what in ("fit", "names"):
                said[place] = unfit
            if what == "refused":
                said.pop(place, None)
        state, effects = looking.step(state, happened[what], held)
        done += effects
    for event in (LinkUp(at), Woke(at + 200)):
        state, effects = looking.step(state, event, held)
        done += effects
    assert state.is_over
    settled = end(done)
    if isinstance(settled, Settle):
        left = ALL - settled.unfit.keys()
        assert len(left) >= held.fewest
        content = [place for place, unfit in said.items() if not unfit.keys() & left]
        assert seeds.assign(*shape, content) is not None
        for client, places in settled.unfit.items():
            naming = {place for place, unfit in said.items() if client in unfit}
            assert places.keys() == naming != set()
