"""Limits and quarantine where there are keys: what the broker says in a device's name is not held
against that device, and a flood of what nobody signed is kept out all the same."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from msgspec import structs

from coordinator.intake import quarantine_file
from coordinator.intake.quarantine import CLEAN, Add, Lift, Term
from fedmqtt import messages, weights
from fedmqtt.messages import Announce, Chunk, Go, Offer, Receipt
from fedmqtt.topics import (
    ANNOUNCE,
    Address,
    ClientId,
    Digest,
    PresenceOf,
    RoundId,
    StatusPage,
    UpdatePart,
)
from tests import test_signatures as keyed
from tests.broker_config.kit_broker import FEDERATION
from tests.broker_config.raw_client import RawClient
from tests.programs import wait_until
from tests.test_signatures import ANN, BOB, ONE, TOPICS, Taken, broker, taken

__all__ = ["broker", "taken"]

pytestmark = keyed.pytestmark

MALLORY = ClientId("mallory")
JUNK = b"junk"
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
        for number in range(5):
            _signs(taken, place, b"junk %d" % number)
        _clients_page(taken, "5 messages refused")


def test_announcements_of_one_digest_are_a_strike_each(taken: Taken, tmp_path: Path) -> None:
    """The digest is its sender's to choose: what it signed is not the same."""
    with keyed._coordinator(tmp_path, keyed._file(taken.broker, "coordinator"), cohort=2):
        keyed._is_here(taken, BOB)
        keyed._is_here(taken, ANN)
        _, offer = taken.offer(1)
        early = keyed._place(BOB, ONE, offer, ANNOUNCE)
        for number in range(5):
            huge = Announce(
                run=offer.run,
                round=ONE,
                digest=Digest("d" * 64),
                size_bytes=2**40 - number,
                chunk_bytes=4096,
            )
            _signs(taken, early, messages.encode(huge))
        _clients_page(taken, "5 messages refused")


def test_what_a_device_signed_is_one_strike_however_often_the_broker_says_it_again(
    taken: Taken, tmp_path: Path
) -> None:
    """Also to a coordinator that was started again. Else a broker that was taken over could shut
    out whoever has had anything refused."""
    file, four = keyed._file(taken.broker, "coordinator"), ("--set", "limits.strikes=5")
    with keyed._coordinator(tmp_path, file, *four, cohort=2) as coordinator:
        keyed._is_here(taken, BOB)
        keyed._is_here(taken, ANN)
        _, offer = taken.offer(1)
        for _ in range(3):
            _is_refused_four_things(taken, offer)
        _clients_page(taken, "4 refused lately")
        wait_until(lambda: len(_marks(tmp_path)) == 4)
        coordinator.process.kill()
    before = len(taken.seen)
    with keyed._coordinator(tmp_path, file, *four, cohort=2):
        taken.offer(1, before)
        _is_refused_four_things(taken, offer)
        before = len(taken.seen)
        taken.says(keyed._place(BOB, ONE, offer), keyed._signed(taken, BOB, offer))
        assert taken.told(BOB, Receipt, before).accepted


def _is_refused_four_things(taken: Taken, offer: Offer) -> None:
    """Of bob's: junk, an answer to another task, an announcement of too much, and an answer to yet
    another task, in pieces."""
    place, early = keyed._place(BOB, ONE, offer), keyed._place(BOB, ONE, offer, ANNOUNCE)
    large = keyed._answer_to(offer, fingerprint="e" * 16)
    announced = Announce(
        run=offer.run,
        round=ONE,
        digest=weights.digest(large),
        size_bytes=len(large),
        chunk_bytes=len(large),
    )
    huge = structs.replace(announced, digest=Digest("d" * 64), size_bytes=2**40)
    for to, message in (
        (place, JUNK),
        (place, keyed._answer_to(offer, fingerprint="f" * 16)),
        (early, messages.encode(huge)),
    ):
        before = len(taken.seen)
        _signs(taken, to, message)
        assert taken.told(BOB, Receipt, before).blamed
    before = len(taken.seen)
    _signs(taken, early, messages.encode(announced))
    taken.told(BOB, Go, before)
    chunk = Chunk(digest=announced.digest, data=memoryview(large))
    taken.says(keyed._place(BOB, ONE, offer), messages.encode(chunk))
    assert taken.told(BOB, Receipt, before).blamed


def _signs(taken: Taken, place: UpdatePart, message: bytes) -> None:
    """Its device; and it is said by whoever has got hold of it."""
    seal = keyed._seal(taken.broker.account(place.client))
    taken.says(place, seal.sealed(place, TOPICS.path(place), message))


def _marks(folder: Path) -> tuple[str, ...]:
    return quarantine_file.load(folder / "run").get(BOB, CLEAN).marks


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


@contextmanager
def _flooding(taken: Taken, address: Address, payload: bytes) -> Iterator[None]:
    """Of mallory's, by her own account."""
    account, stop = taken.broker.account("mallory"), Event()
    with RawClient(account, taken.broker.port, "mallory") as raw:
        assert not raw.refusal

        def flood() -> None:
            while not stop.is_set():
                raw.shout(TOPICS.path(address), payload)

        thread = Thread(target=flood)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("kind", ["unsigned", "forged"])
def test_a_flood_of_what_nobody_signed_is_not_listened_to(
    taken: Taken, tmp_path: Path, kind: str
) -> None:
    place = UpdatePart(0, MALLORY, ONE, "0")
    other = keyed._seal(taken.broker.account("bob"))
    forged = other.sealed(place, TOPICS.path(place), JUNK)
    # Large pieces: so many as four whole answers have may come at once.
    limits = ("--set", "limits.messages_per_s=5", "--set", "transfer.chunk_bytes=1048576")
    file = keyed._file(taken.broker, "coordinator")
    with keyed._coordinator(tmp_path, file, *limits) as coordinator:
        keyed._is_here(taken, BOB)
        _, offer = taken.offer(1)
        with _flooding(taken, place, forged if kind == "forged" else JUNK):
            coordinator.wait_for("mallory is not listened to until ")
            coordinator.wait_for("mallory floods us and goes on: the others are listened to")
            taken.says(keyed._place(BOB, ONE, offer), keyed._signed(taken, BOB, offer))
            assert coordinator.wait() == 0, coordinator.log
    assert not taken.has_been_told(MALLORY)
    assert MALLORY not in quarantine_file.load(tmp_path / "run")
    (record,) = keyed._records(tmp_path)
    assert record.answered == ["bob"]
