"""What a keyholder owes the coordinator, and when it says it again."""

from collections.abc import Sequence

from fedmqtt.effects import WakeAt
from fedmqtt.messages import Go, Receipt
from fedmqtt.topics import Digest, RoundId, RunId
from keyholder import sending
from keyholder.sending import (
    Connected,
    Disconnected,
    Effect,
    Event,
    Gone,
    Ready,
    Received,
    Send,
    SendChunks,
    Settled,
    State,
    Sums,
    Tell,
    Woke,
)

RUN, THREE = RunId("r"), RoundId(3)
SMALL = Sums(RUN, THREE, Digest("a" * 64), 100)
LARGE = Sums(RUN, THREE, Digest("b" * 64), 5000)
OTHER = Sums(RUN, RoundId(4), Digest("c" * 64), 100)
HERE = Connected(0.0, 1024)
RECEIPT = Receipt(run=RUN, round=THREE, accepted=True)


def _run(*events: Event) -> list[Effect]:
    """What the last of these events leads to, but for alarms."""
    return [one for one in _all(events) if not isinstance(one, WakeAt)]


def _all(events: Sequence[Event]) -> list[Effect]:
    state, effects = State(), list[Effect]()
    for event in events:
        state, effects = sending.step(state, event)
    return effects


def test_it_is_sent_at_once_and_at_each_connect_until_its_receipt() -> None:
    assert _run(HERE, Ready(1.0, SMALL)) == [Send(SMALL)]
    assert _run(Ready(1.0, SMALL)) == []
    assert _run(Ready(1.0, SMALL), HERE) == [Send(SMALL)]
    assert _run(HERE, Ready(1.0, SMALL), Disconnected(), HERE) == [Send(SMALL)]
    settled = (HERE, Ready(1.0, SMALL), Received(2.0, RECEIPT))
    assert _run(*settled) == [Settled(SMALL, RECEIPT)]
    assert _run(*settled, Disconnected(), HERE) == []


def test_without_a_receipt_it_is_sent_again_and_less_and_less_often() -> None:
    come = (HERE, Ready(0.0, SMALL))
    assert WakeAt(20.0) in _all(come)
    assert _run(*come, Woke(19.0)) == []
    assert _all((*come, Woke(20.0))) == [Send(SMALL), WakeAt(60.0)]
    assert _run(*come, Disconnected(), Woke(20.0)) == []


def test_a_large_one_is_announced_and_sent_by_what_is_asked_for() -> None:
    (said,) = _run(HERE, Ready(0.0, LARGE))
    assert isinstance(said, Tell)
    assert (said.announce.digest, said.announce.size_bytes) == (LARGE.digest, 5000)
    assert (said.announce.round, said.announce.chunk_bytes) == (THREE, 1024)
    go = Go(run=RUN, round=THREE, digest=LARGE.digest, ranges=((1, 3),))
    come = (HERE, Ready(0.0, LARGE), Received(15.0, go))
    assert _run(*come) == [SendChunks(LARGE, ((1, 3),), 1024)]
    # It is being taken: no second announcement at 20.
    assert _run(*come, Woke(20.0)) == []
    assert _run(HERE, Ready(0.0, LARGE), Disconnected(), Received(1.0, go)) == []
    other = Go(run=RUN, round=THREE, digest=SMALL.digest, ranges=((0, 1),))
    assert _run(HERE, Ready(0.0, LARGE), Received(1.0, other)) == []


def test_what_is_said_last_in_a_round_is_what_is_owed() -> None:
    come = (HERE, Ready(0.0, SMALL), Ready(1.0, OTHER), Ready(2.0, LARGE), Disconnected(), HERE)
    sent, told = _run(*come)
    assert sent == Send(OTHER) and isinstance(told, Tell) and told.announce.digest == LARGE.digest
    other = Receipt(run=RUN, round=RoundId(4), accepted=True)
    assert _run(*come, Received(3.0, other)) == [Settled(OTHER, other)]


def test_what_is_gone_is_owed_no_more() -> None:
    assert _run(HERE, Ready(0.0, SMALL), Gone(SMALL), Disconnected(), HERE) == []


def test_a_receipt_of_another_round_settles_nothing() -> None:
    other = Receipt(run=RunId("another"), round=THREE, accepted=True)
    assert _run(HERE, Ready(0.0, SMALL), Received(1.0, other)) == []
