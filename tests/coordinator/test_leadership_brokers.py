"""Real brokers keep the order that `coordinator/leadership.py` relies on."""

from collections.abc import Iterator

import pytest

from broker_config.local_broker import RunningBroker
from fedmqtt.effects import Publish
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Claim, Seat, read_among_coordinators
from fedmqtt.mqtt_link import Arrived
from fedmqtt.topics import CoordinatorSeat, SeatClaim, Topics
from tests.fedmqtt.peer import Peer, loop, until

__all__ = ["loop"]

pytestmark = pytest.mark.broker

BIDS = 200


@pytest.fixture
def peers(loop: EventLoop) -> Iterator[list[Peer]]:
    """Links to be closed in the end."""
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.link.close()


def _coordinator(
    loop: EventLoop, broker: RunningBroker, federation: str, token: str, peers: list[Peer]
) -> Peer:
    topics = Topics(federation)
    subscribe = (topics.seat, topics.claim, topics.offer)
    peer = Peer(loop, broker.url, federation, f"coordinator.{token}", subscribe=subscribe)
    peers.append(peer)
    return peer


def _bid(token: str, number: int) -> Publish:
    return Publish(CoordinatorSeat(), Seat(epoch=number, token=token, taken=True))


def _bids(peer: Peer) -> list[tuple[str, int]]:
    said = [
        read_among_coordinators(arrived.payload)
        for arrived in peer.all(Arrived)
        if arrived.address == CoordinatorSeat()
    ]
    return [(seat.token, seat.epoch) for seat in said if isinstance(seat, Seat)]


def test_what_is_retained_comes_before_our_own_claim(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    first = _coordinator(loop, broker, federation_name, "ann", peers)
    first.connect()
    first.link.perform(_bid("ann", 1))
    first.arrival(CoordinatorSeat())
    for number in range(20):
        newcomer = _coordinator(loop, broker, federation_name, f"bob{number}", peers)
        newcomer.connect()
        # At once: neither the subscription nor what is retained has been confirmed.
        newcomer.link.perform(Publish(SeatClaim(), Claim(token=f"bob{number}")))
        newcomer.arrival(SeatClaim())
        assert _bids(newcomer) == [("ann", 1)]


def test_all_see_the_bids_of_all_in_one_order(
    loop: EventLoop, broker: RunningBroker, federation_name: str, peers: list[Peer]
) -> None:
    bidders = {
        token: _coordinator(loop, broker, federation_name, token, peers)
        for token in ("ann", "bob", "eve")
    }
    for token, peer in bidders.items():
        peer.connect()
        peer.link.perform(Publish(SeatClaim(), Claim(token=token)))
        peer.arrival(SeatClaim())
    for number in range(BIDS):
        for token, peer in bidders.items():
            peer.link.perform(_bid(token, number))
        loop.run_once(wait_max_s=0.001)
    count = BIDS * len(bidders)
    for peer in bidders.values():
        _wait_for_bids(loop, peer, count)
    orders = [_bids(peer) for peer in bidders.values()]
    assert orders[0] == orders[1] == orders[2]
    # And the last of them is what who comes now finds.
    newcomer = _coordinator(loop, broker, federation_name, "zoe", peers)
    newcomer.connect()
    newcomer.arrival(CoordinatorSeat())
    assert _bids(newcomer) == orders[0][-1:]


def _wait_for_bids(loop: EventLoop, peer: Peer, count: int) -> None:
    until(loop, lambda: len(_bids(peer)) >= count, f"{count} bids")
