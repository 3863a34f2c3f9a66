"""Strikes and quarantines: when one begins, how long it lasts, and that it always ends."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.intake import quarantine
from coordinator.intake.quarantine import CLIENTS_MAX, MARKS_MAX, Add, Lift, Quarantine, Rules, Term
from fedmqtt.topics import ClientId, Digest

ANN, BOB = ClientId("ann"), ClientId("bob")
HOUR = 3600.0
RULES = Rules(strikes=3, within_s=HOUR, first_s=600.0, longest_s=24 * HOUR)


def book(rules: Rules = RULES) -> Quarantine:
    return Quarantine({}, rules)


def term(of: Quarantine, client: ClientId = ANN) -> Term:
    found = of.term(client)
    assert found is not None
    return found


def strike_out(of: Quarantine, at: float) -> Term:
    for _ in range(RULES.strikes - 1):
        assert of.strike(at, ANN, "noise") is None
    found = of.strike(at, ANN, "noise")
    assert found is not None
    return found


def test_so_many_strikes_within_the_window_lead_to_quarantine() -> None:
    held = book()
    assert held.strike(0.0, ANN, "noise") is None
    assert held.strike(600.0, ANN, "NaN") is None
    assert held.strike(700.0, BOB, "noise") is None
    assert held.strike(1200.0, ANN, "too far") == Term(
        began=1200.0, until=1800.0, why="3 messages refused in 20 minutes, the last: too far"
    )
    assert held.term(BOB) is None
    assert list(held.terms) == [ANN]
    assert list(held.struck) == [BOB]


def test_strikes_that_are_older_than_the_window_are_forgotten() -> None:
    held = book()
    for i in range(50):
        assert held.strike(i * 1900.0, ANN, "noise") is None
    assert len(held.standings[ANN].strikes) == 2


def test_a_quarantine_ends_by_itself_and_each_further_one_is_twice_as_long() -> None:
    held, at = book(), 1000.0
    for lasts_s in (600.0, 1200.0, 2400.0):
        began = strike_out(held, at)
        assert began.until == at + lasts_s
        assert held.pass_time(at + lasts_s - 1) == []
        assert held.pass_time(at + lasts_s) == [ANN]
        assert held.term(ANN) is None
        at += lasts_s + 10


def test_it_never_lasts_longer_than_the_longest() -> None:
    held, at = book(), 0.0
    for _ in range(30):
        began = strike_out(held, at)
        assert began.until is not None
        assert began.until - at <= RULES.longest_s
        at = began.until
        assert held.pass_time(at) == [ANN]
    assert strike_out(held, at).until == at + RULES.longest_s


def test_who_stays_out_for_long_begins_with_the_first_again() -> None:
    held = book()
    strike_out(held, 0.0)
    held.pass_time(600.0)
    back = 600.0 + RULES.longest_s
    assert held.pass_time(back - 1) == [] and ANN in held.standings
    held.pass_time(back)
    assert held.standings == {}
    assert strike_out(held, back).until == back + 600.0


def test_in_quarantine_nothing_more_is_held_against_it() -> None:
    held = book()
    began = strike_out(held, 0.0)
    for at in range(1, 500):
        assert held.strike(float(at), ANN, "noise") == began
    held.pass_time(600.0)
    assert held.strike(601.0, ANN, "noise") is None


def test_a_person_lifts_it_and_nothing_is_left() -> None:
    held = book()
    strike_out(held, 0.0)
    assert held.obey(1.0, Lift(client=ANN)) is None
    assert held.standings == {}
    assert strike_out(held, 2.0).until == 602.0


def test_a_person_shuts_one_out_until_then_or_for_good() -> None:
    held = book()
    for_good = Term(began=0.0, until=None, why="by hand")
    assert held.obey(0.0, Add(client=ANN, term=for_good)) == for_good
    assert held.pass_time(1e12) == []
    until_ten = Term(began=0.0, until=10.0, why="by hand")
    assert held.obey(1.0, Add(client=BOB, term=until_ten)) == until_ten
    assert held.pass_time(10.0) == [BOB]
    # Read only when it is over, as by a coordinator that was not there.
    assert held.obey(11.0, Add(client=BOB, term=until_ten)) is None


def test_without_strikes_in_the_settings_nobody_is_shut_out_but_by_hand() -> None:
    held = book(Rules(strikes=0, within_s=HOUR, first_s=1.0, longest_s=1.0))
    assert all(held.strike(0.0, ANN, "noise") is None for _ in range(100))
    assert len(held.standings[ANN].strikes) <= 1


def test_one_strike_is_enough_where_that_is_set() -> None:
    held = book(Rules(strikes=1, within_s=HOUR, first_s=60.0, longest_s=60.0))
    assert held.strike(5.0, ANN, "noise") == Term(
        began=5.0, until=65.0, why="1 message refused in 1 second, the last: noise"
    )


def test_a_clock_that_was_set_back_makes_no_quarantine_longer() -> None:
    held = book()
    year = 365 * 24 * HOUR
    strike_out(held, year)
    assert held.pass_time(0.0) == []
    assert held.pass_time(600.0) == [ANN]


def test_what_is_remembered_is_bounded_and_who_is_shut_out_goes_last() -> None:
    held = book()
    strike_out(held, 0.0)
    for i in range(CLIENTS_MAX + 5):
        held.strike(1.0, ClientId(f"c{i}"), "noise" * 1000)
    assert len(held.standings) == CLIENTS_MAX
    assert held.term(ANN) is not None
    assert len(held.standings[ClientId(f"c{CLIENTS_MAX}")].last) == quarantine.REASON_MAX


moments = st.lists(st.tuples(st.sampled_from(["strike", "pass"]), st.floats(0, 4000)), max_size=120)


@given(moments, st.integers(1, 5))
def test_it_begins_exactly_at_that_many_strikes_in_the_window_and_always_ends(
    steps: list[tuple[str, float]], count: int
) -> None:
    rules = Rules(strikes=count, within_s=HOUR, first_s=600.0, longest_s=24 * HOUR)
    held, at = Quarantine({}, rules), 0.0
    since_last: list[float] = []
    for what, pause_s in steps:
        at += pause_s
        held.pass_time(at)
        if what == "pass" or held.term(ANN) is not None:
            continue
        since_last = [one for one in since_last if at - one < HOUR] + [at]
        shut_out = held.strike(at, ANN, "noise") is not None
        assert shut_out == (len(since_last) >= count)
        if shut_out:
            since_last = []
            until = term(held).until
            assert until is not None and 599.9 < until - at < 24.001 * HOUR
    held.pass_time(at + 24 * HOUR)
    assert held.term(ANN) is None


@given(moments)
def test_kept_and_read_again_it_goes_on_as_if_nothing_had_been(
    steps: list[tuple[str, float]],
) -> None:
    held, again, at = book(), book(), 0.0
    for what, pause_s in steps:
        at += pause_s
        again = Quarantine(again.standings, RULES)
        if what == "strike":
            assert held.strike(at, ANN, "noise") == again.strike(at, ANN, "noise")
        else:
            assert held.pass_time(at) == again.pass_time(at)
        assert held.standings == again.standings


def test_spans_and_ends_are_told_as_people_say_them() -> None:
    words = {0.2: "1 second", 61: "61 seconds", 1200: "20 minutes", 5400: "2 hours"}
    words |= {24 * HOUR: "24 hours", 72 * HOUR: "3 days"}
    assert {span: quarantine.in_words(span) for span in words} == words
    at = 1_700_000_000.0  # 22:13:20 UTC
    ends = {600.0: "until 22:23 UTC", 2 * HOUR: "until 00:13 UTC in 1 day"}
    ends |= {50 * HOUR: "until 00:13 UTC in 3 days"}
    for span, told in ends.items():
        one = Term(began=at, until=at + span, why="noise")
        assert quarantine.until(one, at) == told
    assert quarantine.until(Term(began=at, until=None, why=""), at) == "until it is lifted"


def test_a_clock_that_is_wrong_for_a_moment_changes_nothing() -> None:
    """As that of a machine without a battery, until the network has set it."""
    held, now = book(), 1.7e9
    week = Term(began=now, until=now + 7 * 24 * HOUR, why="by hand")
    held.obey(now, Add(client=ANN, term=week))
    assert held.strike(now, BOB, "noise") is None
    kept = dict(held.standings)
    assert held.pass_time(0.0) == []
    assert held.pass_time(now + 60) == []
    assert held.standings == kept
    assert held.pass_time(now + 7 * 24 * HOUR) == [ANN]


def test_a_clock_that_stays_wrong_ends_a_quarantine_also_over_restarts() -> None:
    held = book()
    strike_out(held, 1.7e9)
    for at in (0.0, 500.0, 100.0, 599.0):
        held = Quarantine(held.standings, RULES)
        assert held.pass_time(at) == []
    assert held.pass_time(600.0) == [ANN]


def test_what_a_person_wanted_is_never_forgotten_and_of_others_it_is_told() -> None:
    held = book()
    strike_out(held, 0.0)
    for_good = Term(began=0.0, until=None, why="by hand")
    for i in range(CLIENTS_MAX):
        held.obey(1.0, Add(client=ClientId(f"c{i}"), term=for_good))
    assert held.take_evicted() == [ANN] and held.take_evicted() == []
    assert held.strike(2.0, BOB, "noise") is None
    assert len(held.terms) == CLIENTS_MAX and BOB not in held.standings
    held.obey(2.0, Add(client=BOB, term=for_good))
    assert len(held.terms) == CLIENTS_MAX + 1


def test_a_copy_of_what_was_a_strike_is_none() -> None:
    held = book()
    for _ in range(5):
        assert held.strike(0.0, ANN, "noise", Digest("a" * 64)) is None
    assert len(held.standings[ANN].strikes) == 1
    # Another's, or what nobody signed, is for itself.
    assert held.strike(0.0, BOB, "noise", Digest("a" * 64)) is None
    assert list(held.struck) == [ANN, BOB]
    assert held.strike(0.0, ANN, "noise", Digest("b" * 64)) is None
    assert held.strike(0.0, ANN, "noise") is not None


def test_what_was_a_strike_once_is_none_when_all_else_is_forgotten() -> None:
    held = book()
    for letter in "abc":
        held.strike(0.0, ANN, "noise", Digest(letter * 64))
    assert held.term(ANN) is not None
    held.obey(1.0, Lift(client=ANN))
    held.pass_time(1.0)
    assert held.term(ANN) is None
    held.pass_time(100 * RULES.longest_s)
    for letter in "abc":
        assert held.strike(200 * RULES.longest_s, ANN, "noise", Digest(letter * 64)) is None
    assert held.struck == {}


def test_of_one_client_no_more_than_some_are_remembered() -> None:
    held = book(replace(RULES, strikes=0))
    for number in range(10 * MARKS_MAX):
        held.strike(0.0, ANN, "noise", Digest(f"{number:064}"[::-1]))
    marks = held.standings[ANN].marks
    assert len(marks) == MARKS_MAX and all(len(mark) == 16 for mark in marks)
