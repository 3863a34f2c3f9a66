"""A broker that was taken over, against the programs themselves: on a real Mosquitto, with a kit.

Whoever has the broker can publish anything to anybody. Here that is a second client with the
coordinator's account, which may write and read everything of the federation, and without its key.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_config import kit
from broker_config.mosquitto import find_mosquitto
from coordinator.persistence import history
from coordinator.persistence.history import Record
from fedmqtt import credentials, messages, signing, weights
from fedmqtt.credentials import Credentials
from fedmqtt.envelope import BY_DEVICE, BadSignature, Seal
from fedmqtt.messages import (
    EPOCH_MAX,
    Announce,
    Chunk,
    Go,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    Seat,
    Training,
)
from fedmqtt.signing import DeviceSeal
from fedmqtt.topics import (
    ANNOUNCE,
    Address,
    ClientId,
    CoordinatorSeat,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    RunId,
    StatusPage,
    Topics,
    UpdatePart,
    lane_of,
)
from tests.broker_config.kit_broker import FEDERATION, KitBroker, plan, running_kit
from tests.broker_config.raw_client import RawClient
from tests.coordinator.guests import update
from tests.long_vector import task_of
from tests.programs import Program, running, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

ANN, BOB = ClientId("ann"), ClientId("bob")
ONE, TWO = RoundId(1), RoundId(2)
PARAMETERS = 3000
"""More than an offer has room for: the model is fetched in chunks."""
TOPICS = Topics(FEDERATION)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitBroker]:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    made = kit.create(folder, plan(folder))
    for name in ("ann", "bob", "mallory"):
        made.enroll(name)
    with running_kit(made, folder) as started:
        yield started


class Taken:
    """The broker, in another's hands: sees what crosses it, and says what it likes."""

    def __init__(self, broker: KitBroker, stack: ExitStack) -> None:
        self.broker = broker
        self._stack = stack
        self.seen: list[tuple[Address, bytes]] = []
        account = broker.account("coordinator")
        self._writer = stack.enter_context(RawClient(account, broker.servers_port, "taken:writes"))
        self._reader = stack.enter_context(RawClient(account, broker.servers_port, "taken:reads"))
        assert not self._writer.refusal and not self._reader.refusal
        assert self._reader.subscribe(f"fed/v1/{FEDERATION}/#")

    def says(self, address: Address, payload: bytes, *, retain: bool = False) -> None:
        assert self._writer.publish(TOPICS.path(address), payload, retain=retain)

    def sees(self, holds: Callable[[Address, bytes], bool], after: int = 0) -> bytes:
        """The first message that is so, from the one with this number on; once it is there."""

        def found() -> bytes | None:
            while not self._reader.messages.empty():
                got = self._reader.messages.get()
                address = TOPICS.parse(got.topic)
                if address is not None:
                    self.seen.append((address, got.payload))
            return next((data for to, data in self.seen[after:] if holds(to, data)), None)

        wait_until(lambda: found() is not None)
        data = found()
        assert data is not None
        return data

    def offer(self, number: int, after: int = 0) -> tuple[bytes, Offer]:
        """The signed offer of this round, as it lay on the broker, and what it says."""

        def is_it(to: Address, data: bytes) -> bool:
            return to == OfferBoard() and bool(data) and self.read(data).round == number

        data = self.sees(is_it, after)
        return data, self.read(data)

    def read(self, signed: bytes) -> Offer:
        return messages.read_offer(self.ann.opened(OfferBoard(), TOPICS.offer, signed))

    @property
    def ann(self) -> Seal:
        return _seal(self.broker.account("ann"))

    def told(self, client: ClientId, kind: type[Receipt | Go], after: int = 0) -> Any:
        """What the coordinator says to a client of the kind."""
        topic = TOPICS.path(Inbox(client))

        def message(data: bytes) -> object:
            try:
                return messages.read_to_client(self.ann.opened(Inbox(client), topic, data))
            except BadSignature:
                return None  # Our own.

        return message(
            self.sees(
                lambda to, data: to == Inbox(client) and isinstance(message(data), kind), after
            )
        )

    def refusal(self, words: str) -> None:
        """Wait until the coordinator tells people of this refusal."""
        self.sees(
            lambda to, data: (
                to == StatusPage("coordinator")
                and any(words in one for one in json.loads(data or b"{}").get("refusals", []))
            )
        )

    def has_been_told(self, client: ClientId) -> bool:
        return any(to == Inbox(client) for to, _ in self.seen)


@pytest.fixture
def taken(broker: KitBroker) -> Iterator[Taken]:
    with ExitStack() as stack:
        hostile = Taken(broker, stack)
        yield hostile
        for kind in (OfferBoard(), CoordinatorSeat(), PresenceOf(ANN), PresenceOf(BOB)):
            hostile.says(kind, b"", retain=True)


def _seal(account: Credentials) -> Seal:
    made = account.seal()
    assert made is not None
    return made


def _file(broker: KitBroker, name: str) -> Path:
    return broker.folder / "accounts" / f"{name}.toml"


def _changed(broker: KitBroker, name: str, folder: Path, **changes: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(credentials.render(msgspec.structs.replace(broker.account(name), **changes)))
    path.chmod(0o600)
    return path


def _task(folder: Path) -> Path:
    path = folder / "adds.py"
    path.write_text(task_of(PARAMETERS))
    return path


@contextmanager
def _client(folder: Path, file: Path) -> Iterator[Program]:
    words = ("fedmqtt", "client", "--credentials", str(file), "--task", str(_task(folder)))
    state = ("--state", str(folder / f"state-{file.stem}"), "--set", "link.retry_max_s=0.5")
    with running(folder, *words, *state) as client:
        client.wait_for("connected")
        yield client


@contextmanager
def _coordinator(
    folder: Path, file: Path | None, *words: str, rounds: int = 1, cohort: int = 1
) -> Iterator[Program]:
    config = folder / "federation.toml"
    config.write_text(
        f'name = "{FEDERATION}"\ntask = "{_task(folder)}"\n[evaluation]\nevery = 0\n'
        f"[rounds]\ncount = {rounds}\ncohort = {cohort}\nquorum = {cohort}\n"
        f"clients_min = {cohort}\nover_selection = 1.0\ndeadline_s = 1000\n"
        "[transfer]\nchunk_bytes = 4096\n"
    )
    run = ("--credentials", str(file or ""), "--run", str(folder / "run"))
    with running(folder, "fedmqtt", "coordinator", str(config), *run, *words) as coordinator:
        yield coordinator


def _records(folder: Path) -> list[Record]:
    return history.read(folder / "run" / "history.jsonl")


def _forged_offer(client: ClientId) -> Offer:
    """Of a round that no coordinator opened."""
    return Offer(
        epoch=EPOCH_MAX,
        run=RunId("hostile"),
        round=RoundId(99),
        task="adds",
        model=ModelRef(
            digest=Digest("e" * 64), size_bytes=12_000, chunk_bytes=4096, fingerprint="x"
        ),
        train=(client,),
        evaluate=(),
        closes_in_s=1000.0,
        training=Training(),
        codec="full",
        lanes=1,
        seed=7,
    )


def test_a_round_that_the_broker_made_up_is_not_trained_in(taken: Taken, tmp_path: Path) -> None:
    offer = messages.encode(_forged_offer(ANN))
    mallory = _seal(taken.broker.account("mallory"))
    forged = [
        offer,
        # A federation's key of its own, and a device's that the federation knows.
        signing.CoordinatorSeal(FEDERATION, signing.new_key()).sealed(
            OfferBoard(), TOPICS.offer, offer
        ),
        mallory.sealed(UpdatePart(0, ANN, ONE, "0"), TOPICS.offer, offer),
    ]
    receipt = Receipt(run=RunId("hostile"), round=ONE, accepted=True)
    with _client(tmp_path, _file(taken.broker, "ann")) as client:
        for one in forged:
            taken.says(OfferBoard(), one, retain=True)
        taken.says(Inbox(ANN), messages.encode(receipt))
        client.wait_for(f"dropped what came in {TOPICS.offer}: it is not signed by the federation")
        with _coordinator(tmp_path, _file(taken.broker, "coordinator")) as coordinator:
            assert coordinator.wait() == 0, coordinator.log
        client.wait_for("receipt: round 1 accepted")
        assert "round 1: train" in client.log
        assert "round 99" not in client.log
        # One sentence, however often it was tried.
        assert client.log.count("dropped what came in") == 1
    (record,) = _records(tmp_path)
    assert record.answered == ["ann"]


def test_a_model_that_the_broker_changed_is_not_trained(taken: Taken, tmp_path: Path) -> None:
    here = Presence(online=True, session="1", task="adds", purposes=("train",), draws=True)
    with _coordinator(tmp_path, _file(taken.broker, "coordinator")) as coordinator:
        taken.says(PresenceOf(ANN), messages.encode(here), retain=True)
        _, offer = taken.offer(1)
        chunk = ModelChunk(offer.model.digest, 1)
        size = len(taken.sees(lambda to, data: to == chunk))
        # It would put the right one in its place when it goes in good order.
        coordinator.process.kill()
    taken.says(chunk, b"\x01" * size, retain=True)
    with _client(tmp_path, _file(taken.broker, "ann")) as client:
        client.wait_for("the model arrived damaged: its SHA-256 is not the offered one")
        assert "round 1: train" not in client.log
        # The run goes on, and what lay there was put right.
        with _coordinator(
            tmp_path, _file(taken.broker, "coordinator"), "--set", "rounds.deadline_s=2"
        ) as coordinator:
            coordinator.wait_for("going on with round 1")
    assert not list((tmp_path / "state-ann" / "outbox").glob("*.answer"))


def test_an_old_offer_and_anothers_mail_are_not_acted_on(taken: Taken, tmp_path: Path) -> None:
    ann = _file(taken.broker, "ann")
    with (
        _client(tmp_path, ann) as client,
        _coordinator(tmp_path, _file(taken.broker, "coordinator"), rounds=2) as coordinator,
    ):
        old, offer = taken.offer(1)
        assert coordinator.wait() == 0, coordinator.log
        client.wait_for("receipt: round 2 accepted")
        taken.says(OfferBoard(), old, retain=True)
        # In another place, it is no better than one that was made up. It comes after the other.
        taken.says(Inbox(ANN), old)
        client.wait_for("it is not what this federation's coordinator signed")
        assert client.log.count(f"round {offer.round}: train") == 1
    assert [record.answered for record in _records(tmp_path)] == [["ann"], ["ann"]]


def test_a_device_that_was_started_again_knows_what_it_has_done(
    taken: Taken, tmp_path: Path
) -> None:
    """A signature does not grow old; and what is left of that: who has lost its state cannot tell
    an old offer from a new one. Its answer counts nowhere."""
    ann = _file(taken.broker, "ann")
    with (
        _client(tmp_path, ann) as client,
        _coordinator(tmp_path, _file(taken.broker, "coordinator"), rounds=2) as coordinator,
    ):
        old, offer = taken.offer(1)
        assert coordinator.wait() == 0, coordinator.log
        client.wait_for("receipt: round 2 accepted")
    run = offer.run
    chunks = {to: data for to, data in taken.seen if _is_of(to, offer.model) and data}
    for to, data in chunks.items():
        taken.says(to, data, retain=True)
    taken.says(OfferBoard(), old, retain=True)
    with _client(tmp_path, ann) as client:
        # It comes after the offer, which lies there.
        taken.says(Inbox(ANN), old)
        client.wait_for("it is not what this federation's coordinator signed")
        assert "round 1: train" not in client.log
    (tmp_path / "again").mkdir()
    before = len(taken.seen)
    with _client(tmp_path / "again", ann):
        answer = taken.sees(lambda to, data: _is_answer(to, data), before)
    with _coordinator(tmp_path / "again", _file(taken.broker, "coordinator")) as coordinator:
        before = len(taken.seen)
        _is_here(taken, BOB)
        _, offer = taken.offer(1, before)
        taken.says(_place(ANN, ONE, offer), answer)
        receipt = taken.told(ANN, Receipt, before)
        assert (receipt.accepted, receipt.run) == (False, run)
        # Another run's: it counts in none.
        taken.says(_place(BOB, ONE, offer), _signed(taken, BOB, offer))
        assert coordinator.wait() == 0, coordinator.log
    for to in chunks:
        taken.says(to, b"", retain=True)
    assert [record.answered for record in _records(tmp_path)] == [["ann"], ["ann"]]
    assert [record.answered for record in _records(tmp_path / "again")] == [["bob"]]


def test_a_coordinator_without_keys_does_not_take_the_seat_of_one_with(
    taken: Taken, tmp_path: Path
) -> None:
    """Its epoch would be a new federation's first, and the devices would hear nobody after it."""
    keyless = _changed(taken.broker, "coordinator", tmp_path, **_WITHOUT)
    other = tmp_path / "keyless"
    other.mkdir()

    def turned_away() -> None:
        with _coordinator(other, keyless) as coordinator:
            assert coordinator.wait() == 2, coordinator.log
            assert "is signed: a coordinator with keys leads it" in coordinator.log
            assert "--credentials KIT/accounts/coordinator.toml" in coordinator.log

    with _coordinator(tmp_path, _file(taken.broker, "coordinator")) as coordinator:
        seat = taken.sees(lambda to, data: to == CoordinatorSeat() and bool(data))
        turned_away()
        coordinator.process.kill()
        turned_away()
    told = {data for to, data in taken.seen if to == CoordinatorSeat()}
    assert told == {seat}


def _is_of(to: Address, model: ModelRef) -> bool:
    return isinstance(to, ModelChunk) and to.digest == model.digest


def _is_answer(to: Address, data: bytes) -> bool:
    return isinstance(to, UpdatePart) and to.client == ANN and data.startswith(BY_DEVICE)


def _answer_to(offer: Offer, **wrong: Any) -> bytes:
    return messages.encode(update(offer, [1.0] * PARAMETERS, **wrong))


def _place(client: ClientId, number: RoundId, offer: Offer, part: str = "0") -> UpdatePart:
    return UpdatePart(lane_of(client, offer.lanes), client, number, part)


def _signed(taken: Taken, client: ClientId, offer: Offer) -> bytes:
    """Its answer, as the device itself sends it."""
    place = _place(client, offer.round, offer)
    seal = _seal(taken.broker.account(client))
    return seal.sealed(place, TOPICS.path(place), _answer_to(offer))


def _is_here(taken: Taken, client: ClientId, session: str = "1") -> None:
    here = Presence(online=True, session=session, task="adds", purposes=("train",), draws=True)
    taken.says(PresenceOf(client), messages.encode(here), retain=True)


def test_an_answer_that_its_device_did_not_sign_is_refused(taken: Taken, tmp_path: Path) -> None:
    """And the device's own counts all the same: no word of the refusal reaches it."""
    broker = taken.broker
    bob, mallory = broker.account("bob"), broker.account("mallory")
    alien = signing.new_key()
    own = signing.new_key()
    forgers: dict[str, Seal] = {
        # Her own key, in bob's name; and with bob's ticket, which everybody on the broker has seen.
        "a key that the federation did not give to bob": _seal(mallory),
        "given to bob": DeviceSeal(mallory.signing_key, bob.ticket, bob.federation_key),
        "to bob": DeviceSeal(
            own,
            signing.ticket(alien, FEDERATION, "bob", signing.public_key(own)),
            signing.public_key(alien),
        ),
    }
    with _coordinator(tmp_path, _file(broker, "coordinator"), rounds=2) as coordinator:
        _is_here(taken, BOB)
        _, offer = taken.offer(1)
        place = _place(BOB, ONE, offer)
        answer = _answer_to(offer)
        # Whoever has the broker cannot end the coordinator either.
        hostile = Seat(epoch=EPOCH_MAX, token="x", taken=True, where="elsewhere")
        taken.says(CoordinatorSeat(), messages.encode(hostile), retain=True)
        taken.says(place, answer)
        taken.refusal("bob: it is not signed by its device")
        for forger in forgers.values():
            taken.says(place, forger.sealed(place, TOPICS.path(place), answer))
        taken.refusal("bob: it is signed by a key that the federation did not give to bob")
        changed = bytearray(_seal(bob).sealed(place, TOPICS.path(place), answer))
        changed[-1] ^= 1
        taken.says(place, bytes(changed))
        taken.refusal("bob: it is not what its device signed, or not for this round")
        # An empty one, and a piece of nothing where none belongs: refused without a receipt too.
        taken.says(place, b"")
        stray = messages.encode(Chunk(digest=Digest("b" * 64), data=memoryview(b"x")))
        taken.says(_place(BOB, ONE, offer, ANNOUNCE), stray)
        taken.refusal("bob: part 'announce' is no place for Chunk")
        assert not taken.has_been_told(BOB)
        signed = _signed(taken, BOB, offer)
        taken.says(place, signed)
        assert taken.told(BOB, Receipt).accepted
        # The next round: the answer to the one before does for no other.
        _, offer = taken.offer(2)
        place = _place(BOB, TWO, offer)
        before = len(taken.seen)
        taken.says(place, signed)
        taken.refusal("bob: it is not what its device signed, or not for this round")
        taken.says(place, _signed(taken, BOB, offer))
        assert taken.told(BOB, Receipt, before).round == TWO
        assert coordinator.wait() == 0, coordinator.log
        assert coordinator.log.count("dropped what came in") == 1
    records = _records(tmp_path)
    assert [(record.outcome, record.answered) for record in records] == [
        ("averaged", ["bob"]),
        ("averaged", ["bob"]),
    ]


def test_a_large_answer_is_signed_by_its_digest(taken: Taken, tmp_path: Path) -> None:
    broker, bob = taken.broker, taken.broker.account("bob")
    with _coordinator(tmp_path, _file(broker, "coordinator")) as coordinator:
        _is_here(taken, BOB)
        _, offer = taken.offer(1)
        answer = _answer_to(offer)
        announced = Announce(
            run=offer.run,
            round=ONE,
            digest=weights.digest(answer),
            size_bytes=len(answer),
            chunk_bytes=8192,
        )
        place = _place(BOB, ONE, offer, ANNOUNCE)
        whole = messages.encode(announced)
        taken.says(place, whole)
        taken.refusal("bob: it is not signed by its device")
        assert not taken.has_been_told(BOB)
        pieces = [answer[start : start + 8192] for start in range(0, len(answer), 8192)]
        for hostile in (True, False):
            before = len(taken.seen)
            taken.says(place, _seal(bob).sealed(place, TOPICS.path(place), whole))
            assert taken.told(BOB, Go, before).digest == announced.digest
            for index, piece in enumerate(pieces):
                data = bytes(len(piece)) if hostile else piece
                chunk = Chunk(digest=announced.digest, data=memoryview(data))
                taken.says(_place(BOB, ONE, offer, str(index)), messages.encode(chunk))
            if hostile:
                # The device still owes it, hears nothing of that, and announces it again.
                taken.refusal("bob: the chunks do not add up to what was announced")
        assert taken.told(BOB, Receipt).accepted
        assert coordinator.wait() == 0, coordinator.log


def test_a_device_that_was_revoked_is_refused_by_the_coordinator_too(
    taken: Taken, tmp_path: Path
) -> None:
    """Also where the broker lets it in still; and from the moment on in which the list changes."""
    broker = taken.broker
    broker.kit.enroll("stolen")
    stolen = ClientId("stolen")
    account = broker.account("stolen")
    revoked = ("--revoked", str(broker.folder / "revoked-devices"))
    with _coordinator(tmp_path, _file(broker, "coordinator"), *revoked, cohort=2) as coordinator:
        _is_here(taken, BOB)
        _is_here(taken, stolen)
        _, offer = taken.offer(1)
        broker.kit.revoke("stolen")
        place = _place(stolen, ONE, offer)
        answer = _answer_to(offer)
        taken.says(place, _seal(account).sealed(place, TOPICS.path(place), answer))
        taken.refusal("stolen: it is signed by a key that was revoked")
        # Enrolled again, it has another key. The round does not wait for it, so it is the first.
        broker.kit.enroll("stolen")
        for client in (stolen, BOB):
            taken.says(_place(client, ONE, offer), _signed(taken, client, offer))
        assert coordinator.wait() == 0, coordinator.log
    taken.says(PresenceOf(stolen), b"", retain=True)
    (record,) = _records(tmp_path)
    assert sorted(record.answered) == ["bob", "stolen"]


def test_a_round_does_not_wait_for_a_device_that_was_revoked(taken: Taken, tmp_path: Path) -> None:
    """Its presence lies there still: the broker may have passed on neither its answer nor its
    last words. It takes part again by its next key, also where the list does not tell of that."""
    broker = taken.broker
    gone = ClientId("gone")
    broker.kit.enroll("gone")
    listed = tmp_path / "copy-of-the-list"
    listed.write_bytes((broker.folder / "revoked-devices").read_bytes())
    old = _seal(broker.account("gone"))
    words = ("--revoked", str(listed))
    two = ("--set", "rounds.quorum=2", "--set", "rounds.clients_min=2")
    file, others = _file(broker, "coordinator"), (ANN, BOB)

    def answer_all(offer: Offer) -> None:
        for client in others:
            taken.says(_place(client, offer.round, offer), _signed(taken, client, offer))

    with _coordinator(tmp_path, file, *words, *two, rounds=5, cohort=3) as coordinator:
        for client in others:
            _is_here(taken, client)
        _, offer = taken.offer(1)
        _is_here(taken, gone)
        answer_all(offer)
        _, offer = taken.offer(2)
        assert set(offer.train) == {*others, gone}
        # It would wait for all three: its deadline is 1000 s away.
        answer_all(offer)
        broker.kit.revoke("gone")
        before = len(taken.seen)
        listed.write_bytes((broker.folder / "revoked-devices").read_bytes())
        _, offer = taken.offer(3, before)
        assert set(offer.train) == {*others}
        taken.sees(_is_barred, before)
        # Enrolled again, which the copy does not say: nobody knows, until it comes.
        broker.kit.enroll("gone")
        before = len(taken.seen)
        _is_here(taken, gone, session="2")
        taken.sees(_is_not_barred, before)
        answer_all(offer)
        _, offer = taken.offer(4, before)
        assert set(offer.train) == {*others, gone}
        # What is signed by the old key bars it, as the list says.
        place = _place(gone, offer.round, offer)
        before = len(taken.seen)
        taken.says(place, old.sealed(place, TOPICS.path(place), _answer_to(offer)))
        taken.sees(_is_barred, before)
        # What is signed by the new one counts, and lets it in.
        before = len(taken.seen)
        taken.says(place, _signed(taken, gone, offer))
        assert taken.told(gone, Receipt, before).accepted
        taken.sees(_is_not_barred, before)
        assert coordinator.log.count("revoked, and not invited any more: gone") == 1
    taken.says(PresenceOf(gone), b"", retain=True)


def _is_barred(to: Address, data: bytes) -> bool:
    return to == StatusPage("clients") and "gone" in json.loads(data or b"{}").get("hindered", {})


def _is_not_barred(to: Address, data: bytes) -> bool:
    return to == StatusPage("clients") and "gone" not in json.loads(data or b"{}")["hindered"]


def test_what_was_accepted_counts_after_a_restart(taken: Taken, tmp_path: Path) -> None:
    """The ledger holds what was checked; the run goes on from it, and asks for signatures again."""
    file = _file(taken.broker, "coordinator")
    with _coordinator(tmp_path, file, cohort=2) as coordinator:
        _is_here(taken, ANN)
        _is_here(taken, BOB)
        _, offer = taken.offer(1)
        taken.says(_place(BOB, ONE, offer), _signed(taken, BOB, offer))
        assert taken.told(BOB, Receipt).accepted
        coordinator.process.kill()
    before = len(taken.seen)
    with _coordinator(tmp_path, file, cohort=2) as coordinator:
        coordinator.wait_for("going on with round 1: 1 of 2 answered")
        _, offer = taken.offer(1, before)
        taken.says(_place(ANN, ONE, offer), _answer_to(offer))
        taken.refusal("ann: it is not signed by its device")
        taken.says(_place(ANN, ONE, offer), _signed(taken, ANN, offer))
        assert coordinator.wait() == 0, coordinator.log
    (record,) = _records(tmp_path)
    assert record.answered == ["ann", "bob"]


_WITHOUT = {"federation_key": "", "signing_key": "", "ticket": ""}


def test_a_kit_without_keys_goes_on_as_before(taken: Taken, tmp_path: Path) -> None:
    ann = _changed(taken.broker, "ann", tmp_path, **_WITHOUT)
    file = _changed(taken.broker, "coordinator", tmp_path, **_WITHOUT)
    with _client(tmp_path, ann) as client, _coordinator(tmp_path, file) as coordinator:
        assert coordinator.wait() == 0, coordinator.log
        client.wait_for("receipt: round 1 accepted")
    assert "Devices that have keys" not in coordinator.log
    for program in (client, coordinator):
        assert program.log.count("these credentials hold no keys: nothing is signed") == 1


def test_a_coordinator_without_keys_is_not_heard_by_who_has_them(
    taken: Taken, tmp_path: Path
) -> None:
    file = _changed(taken.broker, "coordinator", tmp_path, **_WITHOUT)
    with _client(tmp_path, _file(taken.broker, "ann")) as client, _coordinator(tmp_path, file):
        client.wait_for("it is not signed by the federation")
        assert "round 1: train" not in client.log


def test_a_coordinator_without_keys_that_nobody_answers_says_what_may_be_wanted(
    taken: Taken, tmp_path: Path
) -> None:
    """Where it came before one that has keys, nothing else tells."""
    file = _changed(taken.broker, "coordinator", tmp_path, **_WITHOUT)
    short = ("--set", "rounds.deadline_s=1")
    with _coordinator(tmp_path, file, *short, rounds=3) as coordinator:
        _is_here(taken, ANN)
        coordinator.wait_for("Devices that have keys hear no coordinator without")
        coordinator.wait_for("round 3")
        assert coordinator.log.count("Devices that have keys") == 1


def test_a_device_without_keys_says_what_it_needs(taken: Taken, tmp_path: Path) -> None:
    """It does not train for nothing."""
    ann = _changed(taken.broker, "ann", tmp_path, **_WITHOUT)
    file = _file(taken.broker, "coordinator")
    with _client(tmp_path, ann) as client, _coordinator(tmp_path, file):
        client.wait_for("it is signed, and there is no key here to check it with")
        assert "round 1: train" not in client.log


@pytest.mark.parametrize("case", ["no such file", "no keys", "no credentials"])
def test_a_list_that_would_be_in_vain_is_refused(taken: Taken, tmp_path: Path, case: str) -> None:
    listed = taken.broker.folder / "revoked-devices"
    file, given, why = {
        "no such file": (_file(taken.broker, "coordinator"), tmp_path / "none", "No such file"),
        "no keys": (
            _changed(taken.broker, "coordinator", tmp_path, **_WITHOUT),
            listed,
            "coordinator.toml holds none",
        ),
        "no credentials": (None, listed, "no credentials are given"),
    }[case]
    with _coordinator(tmp_path, file, "--revoked", str(given)) as coordinator:
        assert coordinator.wait() == 2
    (said,) = coordinator.log.strip().splitlines()
    assert said.startswith("fedmqtt coordinator: ") and why in said
