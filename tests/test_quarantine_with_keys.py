"""Limits and quarantine where there are keys: what the broker says in a device's name is not held
against that device."""

import json
from pathlib import Path

import pytest

from coordinator import quarantine_file
from coordinator.quarantine import Add, Lift, Term
from fedmqtt import messages
from fedmqtt.messages import Chunk, Receipt
from fedmqtt.topics import (
    ANNOUNCE,
    Digest,
    PresenceOf,
    RoundId,
    StatusPage,
)
from tests import test_signatures as keyed
from tests.broker_config.kit_broker import FEDERATION
from tests.broker_config.raw_client import RawClient
from tests.test_signatures import ANN, BOB, ONE, TOPICS, Taken, broker, taken

__all__ = ["broker", "taken"]

pytestmark = keyed.pytestmark

PIECE = messages.encode(Chunk(digest=Digest("b" * 64), data=memoryview(b"x")))


def _says(taken: Taken, topic: str, payload: bytes) -> None:
    with RawClient(
        taken.broker.account("coordinator"), taken.broker.servers_port, "taken:raw"
    ) as raw:
        assert raw.publish(topic, payload)


def _clients_page(taken: Taken, words: str, after: int = 0) -> None:
    taken.sees(lambda to, data: to == StatusPage("clients") and words.encode() in data, after)


@pytest.mark.parametrize("how", ["presence", "pieces", "stray"])
def test_what_the_broker_says_in_a_devices_name_is_no_strike(
    taken: Taken, tmp_path: Path, how: str
) -> None:
    with keyed._coordinator(tmp_path, keyed._file(taken.broker, "coordinator"), rounds=2):
        keyed._is_here(taken, BOB)
        _, offer = taken.offer(1)
        place = keyed._place(BOB, ONE, offer)
        for _ in range(6):
            match how:
                case "presence":
                    taken.says(PresenceOf(BOB), b"junk")
                case "pieces":
                    taken.says(keyed._place(BOB, ONE, offer, ANNOUNCE), PIECE)
                case _:
                    _says(taken, f"fed/v1/{FEDERATION}/update/0/bob/1/nonsense", b"x")
        taken.refusal("bob: ")
        before = len(taken.seen)
        taken.says(place, keyed._signed(taken, BOB, offer))
        assert taken.told(BOB, Receipt, before).accepted
        assert BOB not in quarantine_file.load(tmp_path / "run")


def test_what_a_device_signed_is_a_strike(taken: Taken, tmp_path: Path) -> None:
    with keyed._coordinator(tmp_path, keyed._file(taken.broker, "coordinator"), cohort=2):
        keyed._is_here(taken, BOB)
        keyed._is_here(taken, ANN)
        _, offer = taken.offer(1)
        place = keyed._place(BOB, ONE, offer)
        junk = keyed._seal(taken.broker.account("bob")).sealed(place, TOPICS.path(place), b"junk")
        for _ in range(5):
            taken.says(place, junk)
        _clients_page(taken, "5 messages refused")


def test_in_quarantine_nothing_is_refused_that_a_device_may_not_have_sent(
    taken: Taken, tmp_path: Path
) -> None:
    """Nor of a round that is to come; nor an answer that could count when it is out."""
    run = tmp_path / "run"
    with keyed._coordinator(tmp_path, keyed._file(taken.broker, "coordinator"), cohort=2):
        keyed._is_here(taken, BOB)
        keyed._is_here(taken, ANN)
        _, offer = taken.offer(1)
        quarantine_file.give(run, Add(client=BOB, term=Term(began=0.0, until=None, why="a test")))
        _clients_page(taken, "a test")
        for number in (RoundId(0), ONE, RoundId(777)):
            taken.says(keyed._place(BOB, number, offer), PIECE)
        signed = keyed._signed(taken, BOB, offer)
        taken.says(keyed._place(BOB, ONE, offer), signed)
        # Behind all that.
        taken.says(keyed._place(ANN, ONE, offer), b"junk")
        taken.refusal("ann: it is not signed by its device")
        assert not taken.has_been_told(BOB)
        before = len(taken.seen)
        quarantine_file.give(run, Lift(client=BOB))
        taken.sees(
            lambda to, data: (
                to == StatusPage("clients") and not json.loads(data or b"{}").get("quarantined", 1)
            ),
            before,
        )
        taken.says(keyed._place(BOB, ONE, offer), signed)
        assert taken.told(BOB, Receipt).accepted
