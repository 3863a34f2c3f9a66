"""While a strategy takes its time, the coordinator hears, answers, and can be stopped or killed."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from broker_config.local_broker import RunningBroker
from coordinator.persistence import history
from fedmqtt.messages import Offer
from tests.coordinator import gated
from tests.coordinator.guests import Guest, Room, update
from tests.coordinator.persistence.test_restart import (
    CHANGES,
    SAMPLES,
    Federation,
    answer,
    back,
    come,
    kill,
)

pytestmark = pytest.mark.broker


class Slow(Federation):
    """A federation whose strategy waits at a gate. Its programs find it beside those that ship."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        self.url, self.name = url, name
        super().__init__(url, name, folder, more=f'[aggregation_settings]\ngate = "{self._gate}"\n')

    def open_gate(self) -> bool:
        """Whether somebody waited there."""
        try:
            os.close(os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as bad:
            if bad.errno != errno.ENXIO:
                raise
            return False
        return True


@pytest.fixture
def federation(
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Slow:
    parts = tmp_path / "parts"
    parts.mkdir()
    shutil.copy(gated.__file__, parts / "gated.py")
    plugin = f"from coordinator import aggregation\naggregation.__path__.append({str(parts)!r})\n"
    (parts / "sitecustomize.py").write_text(plugin)
    monkeypatch.setenv("PYTHONPATH", str(parts), prepend=os.pathsep)
    return Slow(mosquitto_broker.url, federation_name, tmp_path / "federation")


GATED = ["--set", "aggregation=gated"]
TWO_OF_THREE = ["--set", "rounds.cohort=2", "--set", "rounds.over_selection=1.5"]


def averaging(room: Room) -> None:
    """Wait until the strategy is at work."""
    room.page("coordinator", lambda page: page.state == "averaging")


def answer_late(guest: Guest, offer: Offer) -> None:
    name = str(guest.client)
    guest.say(update(offer, CHANGES[name], SAMPLES[name]), number=offer.round)


def refused_as_late(guest: Guest, offer: Offer) -> None:
    receipt = guest.receipt()
    assert not receipt.accepted and receipt.reason.startswith(f"late: round {offer.round} "), (
        receipt
    )


def test_who_comes_and_what_comes_late_is_heard_meanwhile(federation: Slow) -> None:
    with Room(federation.url, federation.name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*GATED, *TWO_OF_THREE):
            first = ann.offered(1)
            answer(ann, first)
            answer(bob, first)
            averaging(room)
            answer_late(cat, first)
            room.guest("dan").come(task=first.task, purposes=("train",))
            room.page("coordinator", lambda page: page.clients_online == 4)
            assert not any(offer and offer.round == 2 for offer in ann.offers)
            # It is not written down yet that the round has closed.
            assert not cat.has_mail
            room.wait(federation.open_gate)
            refused_as_late(cat, first)
            second = ann.offered(2)
            assert second.model.digest != first.model.digest


def test_told_to_stop_it_makes_the_model_first_and_holds_the_seat_meanwhile(
    federation: Slow,
) -> None:
    with Room(federation.url, federation.name) as room:
        ann, bob, cat = come(room, *CHANGES)
        with federation.coordinating(*GATED, *TWO_OF_THREE) as program:
            first = ann.offered(1)
            answer(ann, first)
            answer(bob, first)
            averaging(room)
            program.process.send_signal(signal.SIGINT)
            answer_late(cat, first)
            # Heard behind that, and behind the signal.
            cat.say(update(first, CHANGES["cat"], round=2), number=2)
            assert cat.receipt().reason == "round 2 has not been opened"
            room.wait(federation.open_gate)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 130
        assert program.said.startswith("stopped after 1 round")
        (record,) = history.read(federation.run / "history.jsonl")
        assert (record.outcome, record.answered) == ("averaged", ["ann", "bob"])
        assert not any(offer and offer.round == 2 for offer in ann.offers)
        with federation.coordinating(*GATED, *TWO_OF_THREE):
            second = back(room, ann, first)
            assert second.round == 2 and second.model.digest != first.model.digest
            # It has had no word, so it sends it again.
            answer_late(cat, first)
            refused_as_late(cat, first)


def test_killed_meanwhile_it_averages_again_and_the_model_is_the_same_to_the_last_bit(
    federation: Slow, tmp_path: Path
) -> None:
    words = [*GATED, "--set", "rounds.count=1"]
    with Room(federation.url, federation.name) as room:
        guests = come(room, *CHANGES)
        with federation.coordinating(*words) as program:
            for guest in guests:
                answer(guest, guests[0].offered(1))
            averaging(room)
            kill(room, program)
        with federation.coordinating(*words) as program:
            room.wait(federation.open_gate)
            room.wait(lambda: program.process.poll() is not None)
            assert program.wait() == 0
    name, folder = f"{federation.name}-u", tmp_path / "undisturbed"
    folder.mkdir()
    undisturbed = Federation(federation.url, name, folder)
    with Room(federation.url, name) as room:
        guests = come(room, *CHANGES)
        with undisturbed.coordinating("--set", "rounds.count=1") as program:
            for guest in guests:
                answer(guest, guests[0].offered(1))
            room.wait(lambda: program.process.poll() is not None)
    assert federation.model == undisturbed.model
