"""What is told of one client on its page, without a broker."""

from coordinator.intake import revoked_devices
from coordinator.intake.quarantine import Term
from coordinator.pages import client_page
from coordinator.pages.client_page import Outs
from coordinator.roster import Roster
from fedmqtt.messages import Activity, Presence
from fedmqtt.status_pages import ClientPage
from fedmqtt.topics import ClientId

ANN = ClientId("ann")


def page(outs: Outs) -> ClientPage:
    return client_page.page(ANN, Roster("digits"), None, outs, seen=0.0, now=60.0, at=60.0)


def test_who_is_out_is_told_why_in_one_sentence() -> None:
    told = page(Outs(revoked=frozenset((ANN,))))
    assert (told.state, told.says) == ("revoked", revoked_devices.WHY)
    assert told.says == "revoked: it is enrolled no more"
    told = page(Outs(quarantined={ANN: Term(began=0.0, until=None, why="5 floods")}))
    assert (told.state, told.says) == ("quarantined", "quarantined: 5 floods")


def test_a_site_tells_for_how_many_devices_it_stands() -> None:
    roster = Roster("digits")
    here = Presence(online=True, session="s1", task="digits", purposes=("train",))
    roster.came(0.0, ANN, here)
    told = client_page.page(ANN, roster, Activity(devices=12), Outs(), seen=0.0, now=1.0, at=1.0)
    assert (told.says, told.devices) == ("waiting (for 12 devices)", 12)
