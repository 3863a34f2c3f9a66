"""By their tokens a client tells its own words from those of another of its name.

What it does about them is told in the stories (`scripts/namesake*.txt`, `own_will*.txt`).
"""

import pytest

from fedmqtt import own_presence
from fedmqtt.messages import Presence
from fedmqtt.own_presence import OwnPresence


def _says(token: str, *, online: bool = True) -> Presence:
    return Presence(online=online, session=token)


def _of(*words: str) -> OwnPresence:
    """After these: `+t1` connects, `t1` is shown online, `-t1` offline."""
    own = OwnPresence()
    for word in words:
        if word.startswith("+"):
            own = own_presence.connected(own, word[1:])
        else:
            shown = _says(word.removeprefix("-"), online=not word.startswith("-"))
            own, _ = own_presence.seen(own, shown)
    return own


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("connections", [1, 2, 32])
def test_its_own_words_are_never_a_stranger_s(connections: int, online: bool) -> None:
    """A session of the broker may hold those of many connections that did not last."""
    tokens = [f"t{number}" for number in range(connections)]
    now = f"t{connections}"
    own = _of("+first", "first", *(f"+{token}" for token in tokens), f"+{now}")
    for token in tokens:
        assert own_presence.seen(own, _says(token, online=online))[1] == "fine"
    own, _ = own_presence.seen(own, _says(now))
    for token in tokens:
        assert own_presence.seen(own, _says(token, online=online))[1] == "late"


def test_its_own_birth_is_fine_and_its_own_end_is_not() -> None:
    own = _of("+t1", "t1")
    assert own.is_heard
    assert own_presence.seen(own, _says("t1")) == (own, "fine")
    assert own_presence.seen(own, _says("t1", online=False)) == (own, "late")
    assert not own_presence.born_again(own).is_heard
    assert not OwnPresence().is_heard
    assert not _of("+t1", "t1", "+t2").is_heard
    # Some brokers say the will of the connection that throws an older one out.
    assert own_presence.seen(_of("+t1", "t1", "+t2"), _says("t2", online=False))[1] == "fine"


def test_what_it_remembers_is_bounded() -> None:
    assert _of("+t1").earlier == ()
    own = _of(*(f"+t{number}" for number in range(100)))
    assert own.earlier == tuple(f"t{number}" for number in range(67, 99))
    own = _of("+t1", *(f"x{number}" for number in range(100)))
    assert own.from_before == tuple(f"x{number}" for number in range(68, 100))


def test_who_was_there_before_is_a_stranger_once_it_speaks_after_us() -> None:
    own = _of("+t1", "x1", "-x2", "t1")
    assert own_presence.seen(own, _says("x1"))[1] == "stranger"
    assert own_presence.seen(own, _says("x2", online=False))[1] == "late", "a will, perhaps"
    # At the next connection it may lie there still, or come back with what a broker had saved.
    own = own_presence.connected(own, "t2")
    assert own_presence.seen(own, _says("x1"))[1] == "fine"
    assert own_presence.seen(own, _says("x2", online=False))[1] == "fine"
    assert own_presence.seen(own, _says("x3"))[1] == "stranger"


def test_the_will_of_a_connection_that_it_never_heard_of_is_no_stranger_s() -> None:
    """The broker accepted it, and the link broke before it could say so."""
    own = _of("+t1", "t1", "+t2")
    own, verdict = own_presence.seen(own, _says("lost", online=False))
    assert verdict == "fine"
    assert own_presence.seen(own, _says("lost", online=False))[1] == "fine"


def test_the_will_of_an_earlier_life_may_come_twice() -> None:
    own, verdict = own_presence.seen(_of("+t1", "t1"), _says("x1", online=False))
    assert verdict == "late"
    # Said again because of the first, and the copy comes before the broker shows it.
    own, verdict = own_presence.seen(own_presence.born_again(own), _says("x1", online=False))
    assert verdict == "fine"
    assert own_presence.seen(own, _says("x2"))[1] == "stranger"


def test_an_earlier_life_whose_will_came_late_is_no_stranger_after_a_restored_broker() -> None:
    own = _of("+t1", "t1", "-x1", "+t2")
    assert own_presence.seen(own, _says("x1"))[1] == "fine"
    assert own_presence.seen(own, _says("x2"))[1] == "stranger"
