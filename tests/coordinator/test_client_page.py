"""What a client's own page says of it, without a broker."""

from coordinator import client_page
from coordinator.client_page import Outs
from coordinator.roster import Roster
from fedmqtt.effects import Seconds
from fedmqtt.topics import ClientId

ANN = ClientId("ann")


def test_who_was_revoked_is_said_to_be_so_once() -> None:
    outs = Outs(revoked=frozenset([ANN]))
    page = client_page.page(ANN, Roster("task"), None, outs, seen=0.0, now=0.0, at=Seconds(0.0))
    assert (page.state, page.says) == ("revoked", "revoked: it is enrolled no more")
