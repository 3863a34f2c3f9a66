"""The MQTT that the simulator offers is the one that brokers offer, faults included."""

from random import Random

from fedmqtt.effects import Seconds
from fedmqtt.messages import Presence, Receipt
from fedmqtt.topics import (
    Address,
    Inbox,
    OfferBoard,
    PresenceOf,
    RoundId,
)
from fleet_sim.broker import COORDINATOR, Broker, Message
from fleet_sim.clock import Clock, stream
from fleet_sim.weather import Weather
from tests.offers import ANN, RUN, offer


def receipt(number: int) -> Receipt:
    return Receipt(run=RUN, round=RoundId(number), accepted=True)


class Table:
    """A broker, a coordinator, and what ann has read."""

    def __init__(self, **faults: object) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock, Random("broker"), Weather(**faults))  # type: ignore[arg-type]
        self.read: list[Message] = []
        self.left: list[Seconds | None] = []
        self.lay_there: list[bool] = []
        self.heard: list[Message] = []
        self.broker.connect(
            COORDINATOR, lambda to, message, left, there: self.heard.append(message)
        )

    def connect(self, session: str = "1") -> None:
        self.broker.connect(ANN, self._read, Presence(online=False, session=session))

    def say(self, to: Address, message: Message) -> None:
        self.broker.publish(COORDINATOR, to, message)

    def wait(self, seconds: Seconds) -> None:
        until = self.clock.now + seconds
        self.clock.at(until, lambda: None)
        self.clock.run(until=lambda: self.clock.now >= until)

    def _read(self, to: Address, message: Message, left: Seconds | None, retained: bool) -> None:
        self.read.append(message)
        self.left.append(left)
        self.lay_there.append(retained)


def test_messages_of_one_link_keep_their_order() -> None:
    table = Table(delay_s=5.0)
    table.connect()
    for number in range(20):
        table.say(Inbox(ANN), receipt(number))
    table.wait(60)
    assert table.read == [receipt(number) for number in range(20)]


def test_the_offer_hangs_there_for_who_comes_late_with_less_time_left() -> None:
    table = Table()
    table.say(OfferBoard(), offer(1))
    table.wait(50)
    table.connect()
    table.wait(1)
    assert table.read == [offer(1)]
    assert table.left[0] is not None
    assert 8 < table.left[0] < 10.2
    table.say(OfferBoard(), offer(2))
    table.wait(1)
    assert table.lay_there == [True, False], "what is said now is told from what was there"


def test_an_offer_that_has_expired_is_not_shown_unless_the_broker_cannot_count() -> None:
    for counts_down in (True, False):
        table = Table(counts_down=counts_down)
        table.say(OfferBoard(), offer(1))
        table.wait(70)
        table.connect()
        table.wait(1)
        assert table.read == ([] if counts_down else [offer(1)])
        assert table.left == ([] if counts_down else [None])


def test_a_cleared_offer_is_told_once_and_gone() -> None:
    table = Table()
    table.connect()
    table.say(OfferBoard(), offer(1))
    table.say(OfferBoard(), None)
    table.wait(1)
    assert table.read == [offer(1), None]
    table.broker.disconnect(ANN, politely=True)
    table.connect()
    table.wait(1)
    assert table.read == [offer(1), None]


def test_a_session_keeps_so_many_messages_and_drops_the_rest_in_silence() -> None:
    table = Table(queue_max=3)
    table.connect()
    table.broker.disconnect(ANN, politely=True)
    for number in range(5):
        table.say(Inbox(ANN), receipt(number))
    table.wait(1)
    table.connect()
    table.wait(1)
    assert table.read == [receipt(0), receipt(1), receipt(2)]
    assert table.broker.dropped_count == 2


def test_what_was_on_the_wire_when_the_link_broke_comes_again() -> None:
    table = Table(delay_s=5.0)
    table.connect()
    table.say(Inbox(ANN), receipt(1))
    table.wait(0.01)
    table.broker.disconnect(ANN, politely=False)
    table.wait(100)
    assert receipt(1) not in table.read
    table.connect("2")
    table.wait(100)
    assert table.read.count(receipt(1)) == 1


def test_a_will_can_come_after_the_next_birth_and_stays() -> None:
    table = Table(will_s=10.0)
    table.connect("1")
    table.broker.disconnect(ANN, politely=False)
    table.connect("2")
    table.broker.publish(ANN, PresenceOf(ANN), Presence(online=True, session="2"))
    table.wait(20)
    will = Presence(online=False, session="1")
    assert table.heard == [Presence(online=True, session="2"), will]
    assert table.read[-1] == will, "ann can read that she is said to be gone"


def test_after_a_lost_link_the_last_messages_are_repeated_in_their_order() -> None:
    table = Table(duplication=1.0)
    table.connect()
    table.say(Inbox(ANN), receipt(1))
    table.say(Inbox(ANN), receipt(2))
    table.wait(1)
    assert table.read == 4 * [receipt(1)] + 4 * [receipt(2)], "each twice, on both of its ways"
    table.broker.weather = Weather(duplication=0.0)
    table.broker.disconnect(ANN, politely=True)
    table.broker.weather = Weather(duplication=1.0)
    table.connect()
    table.wait(1)
    assert table.read[8:] == 6 * [receipt(2)], "the last three, each twice"


def test_who_says_goodbye_leaves_no_will() -> None:
    table = Table()
    table.connect()
    table.broker.disconnect(ANN, politely=True)
    table.wait(100)
    assert table.heard == []


def test_copies_and_losses_are_drawn() -> None:
    table = Table(loss=0.3, duplication=0.3)
    table.connect()
    for number in range(300):
        table.say(Inbox(ANN), receipt(number))
    table.wait(100)
    copies = [table.read.count(receipt(number)) for number in range(300)]
    # Twice on its way to the broker, and each of them twice from there.
    assert {0, 1, 2} < set(copies) <= {0, 1, 2, 3, 4}
    assert 60 < copies.count(0) < 120


def test_the_coordinator_s_own_words_reach_the_broker_and_a_phone_s_may_not() -> None:
    table = Table(loss=1.0)
    table.connect()
    table.say(OfferBoard(), offer(1))
    table.broker.publish(ANN, PresenceOf(ANN), Presence(online=True, session="1"))
    table.wait(1)
    assert list(table.broker.retained) == [OfferBoard()]


def test_streams_have_names_of_their_own() -> None:
    assert stream(7, "client", "ann").random() == stream(7, "client", "ann").random()
    assert stream(7, "client", "ann").random() != stream(7, "client", "bob").random()
    assert stream(7, "client", "ann").random() != stream(8, "client", "ann").random()
    # The same in every process and on every machine: seeded by text, not by a hash.
    assert round(stream(7, "network").random(), 6) == 0.145022


def test_equal_moments_happen_in_the_order_in_which_they_were_planned() -> None:
    clock, happened = Clock(), list[int]()
    for number in range(5):
        clock.at(3.0, happened.append, number)
    clock.at(1.0, happened.append, 9)
    clock.run(until=lambda: False)
    assert happened == [9, 0, 1, 2, 3, 4]
    assert clock.now == 3.0
