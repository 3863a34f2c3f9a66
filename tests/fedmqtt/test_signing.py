"""What a signature is good for, and nothing else: one place, one federation, one writer."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fedmqtt import envelope, messages, signing
from fedmqtt.envelope import NO_KEYS, BadSignature, Seal
from fedmqtt.messages import Chunk, Decline, WireError
from fedmqtt.signing import BadKey, CoordinatorSeal, DeviceSeal, OperatorSeal, WorkerSeal
from fedmqtt.topics import (
    ANNOUNCE,
    CHANNELS,
    Address,
    ClientId,
    CoordinatorSeat,
    Digest,
    Inbox,
    LanesOf,
    ModelChunk,
    OfferBoard,
    OrderOf,
    OrderReply,
    PresenceOf,
    RoundId,
    RunId,
    SeatClaim,
    StatusPage,
    Topics,
    UpdatePart,
    WorkOf,
)

ANN, BOB, CAROL = ClientId("ann"), ClientId("bob"), ClientId("carol")
ONE, TWO = RoundId(1), RoundId(2)
SAID = messages.encode(Decline(run=RunId("r"), round=ONE, reason="on battery"))


@dataclass(frozen=True, slots=True)
class Federation:
    """With a key of its own."""

    name: str = "demo"
    key: str = signing.new_key()

    @property
    def topics(self) -> Topics:
        return Topics(self.name)

    def coordinator(self) -> CoordinatorSeal:
        return CoordinatorSeal(self.name, self.key)

    def device(self, name: ClientId, own: str = "") -> DeviceSeal:
        own = own or signing.new_key()
        given = signing.ticket(self.key, self.name, name, signing.public_key(own))
        return DeviceSeal(own, given, signing.public_key(self.key))

    def operator(self, name: ClientId, own: str = "") -> OperatorSeal:
        own = own or signing.new_key()
        given = signing.operator_ticket(self.key, self.name, name, signing.public_key(own))
        return OperatorSeal(own, given, signing.public_key(self.key))

    def worker(self, name: ClientId, own: str = "") -> WorkerSeal:
        own = own or signing.new_key()
        given = signing.worker_ticket(self.key, self.name, name, signing.public_key(own))
        return WorkerSeal(self.name, own, given, signing.public_key(self.key))


DEMO = Federation()
TWIN = Federation(key=signing.new_key())
"""Of the same name, and another kit."""
OTHER = Federation(name="other", key=DEMO.key)


def _crosses(
    writer: Seal,
    reader: Seal,
    to: Address,
    read_at: Address | None = None,
    topics: Topics | None = None,
) -> bytes:
    """What is read at an address of what was written to another."""
    topics, read_at = topics or DEMO.topics, read_at or to
    payload = writer.sealed(to, DEMO.topics.path(to), SAID)
    assert payload != SAID
    return reader.opened(read_at, topics.path(read_at), payload)


def _answer(client: ClientId = ANN, number: RoundId = ONE, part: str = "0") -> UpdatePart:
    return UpdatePart(3, client, number, part)


@pytest.mark.parametrize("to", [OfferBoard(), Inbox(ANN)], ids=str)
def test_a_device_reads_what_its_coordinator_says(to: Address) -> None:
    assert _crosses(DEMO.coordinator(), DEMO.device(ANN), to) == SAID


@pytest.mark.parametrize("to", [CoordinatorSeat(), SeatClaim(), OfferBoard()], ids=str)
def test_a_coordinator_reads_what_another_of_its_federation_says(to: Address) -> None:
    assert _crosses(DEMO.coordinator(), DEMO.coordinator(), to) == SAID


@pytest.mark.parametrize("part", ["0", ANNOUNCE])
def test_a_coordinator_reads_what_a_device_says(part: str) -> None:
    assert _crosses(DEMO.device(ANN), DEMO.coordinator(), _answer(part=part)) == SAID


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (Inbox(BOB), Inbox(ANN)),
        (OfferBoard(), Inbox(ANN)),
        (Inbox(ANN), OfferBoard()),
    ],
    ids=["another's", "an offer", "no offer"],
)
def test_what_a_coordinator_says_is_good_in_one_place(written: Address, read: Address) -> None:
    with pytest.raises(BadSignature, match="not what this federation's coordinator signed"):
        _crosses(DEMO.coordinator(), DEMO.device(ANN), written, read)


@pytest.mark.parametrize("federation", [TWIN, OTHER], ids=["of the same name", "of the same key"])
def test_what_a_coordinator_says_is_good_in_one_federation(federation: Federation) -> None:
    with pytest.raises(BadSignature, match="not what this federation's coordinator signed"):
        _crosses(DEMO.coordinator(), federation.device(ANN), OfferBoard(), topics=federation.topics)


@pytest.mark.parametrize(
    "read", [_answer(number=TWO), _answer(part=ANNOUNCE), _answer(part="1")], ids=str
)
def test_an_answer_is_good_in_one_round_and_place(read: UpdatePart) -> None:
    with pytest.raises(BadSignature, match="not for this round"):
        _crosses(DEMO.device(ANN), DEMO.coordinator(), _answer(), read)


def test_a_device_cannot_answer_for_another() -> None:
    with pytest.raises(BadSignature, match="a key that the federation did not give to bob"):
        _crosses(DEMO.device(ANN), DEMO.coordinator(), _answer(BOB))


def test_another_devices_ticket_does_not_help() -> None:
    mine, theirs = signing.new_key(), signing.new_key()
    ticket = signing.ticket(DEMO.key, DEMO.name, BOB, signing.public_key(theirs))
    thief = DeviceSeal(mine, ticket, signing.public_key(DEMO.key))
    with pytest.raises(BadSignature, match="a key that the federation did not give to bob"):
        _crosses(thief, DEMO.coordinator(), _answer(BOB))


def test_a_ticket_is_of_one_federation() -> None:
    """Also where two kits have one key, as a person may bring about by copying it."""
    with pytest.raises(BadSignature, match="did not give to ann"):
        _crosses(OTHER.device(ANN), DEMO.coordinator(), _answer())


def test_a_ticket_that_was_good_is_good_for_its_own_key_alone() -> None:
    """What was found good is remembered."""
    reader, own = DEMO.coordinator(), signing.new_key()
    assert _crosses(DEMO.device(ANN, own), reader, _answer()) == SAID
    assert _crosses(DEMO.device(ANN, own), reader, _answer(number=TWO)) == SAID
    with pytest.raises(BadSignature, match="did not give to ann"):
        _crosses(TWIN.device(ANN, own), reader, _answer())


def test_a_ticket_that_a_keyholder_knows_is_good_for_nothing_else() -> None:
    """What was found good is remembered, in a whole program."""
    own, others = (signing.as_bytes(signing.public_key(signing.new_key())) for _ in range(2))
    text = signing.ticket(DEMO.key, DEMO.name, ANN, signing.as_text(own))
    ticket, hurt = (signing.as_bytes(text, envelope.TICKET_BYTES) for _ in range(2))
    hurt = hurt[:-1] + bytes([hurt[-1] ^ 1])
    public = signing.public_key(DEMO.key)
    for _ in range(2):
        assert signing.ticket_holds(public, DEMO.name, ANN, own, ticket)
        for other in (
            (signing.public_key(TWIN.key), DEMO.name, ANN, own, ticket),
            (public, OTHER.name, ANN, own, ticket),
            (public, DEMO.name, BOB, own, ticket),
            (public, DEMO.name, ANN, others, ticket),
            (public, DEMO.name, ANN, own, hurt),
        ):
            assert not signing.ticket_holds(*other)


def test_who_signed_is_told_of_devices_answers_alone() -> None:
    own = signing.new_key()
    public = signing.public_key(own)
    ticket = signing.ticket(DEMO.key, DEMO.name, ANN, public)
    device = DeviceSeal(own, ticket, signing.public_key(DEMO.key))
    sealed = device.sealed(_answer(), DEMO.topics.path(_answer()), SAID)
    assert envelope.author(_answer(), sealed) == (
        signing.as_bytes(public),
        signing.as_bytes(ticket, envelope.TICKET_BYTES),
    )
    # Nobody has looked at the signature of what needs none.
    assert envelope.author(PresenceOf(ANN), sealed) is None
    assert envelope.author(_answer(), SAID) is None
    inbox = Inbox(ANN)
    offered = DEMO.coordinator().sealed(inbox, DEMO.topics.path(inbox), SAID)
    assert envelope.author(inbox, offered) is None


def test_a_key_that_was_revoked_is_refused_and_its_successor_is_not() -> None:
    old, new = signing.new_key(), signing.new_key()
    revoked: set[str] = set()
    reader = CoordinatorSeal(DEMO.name, DEMO.key, revoked.__contains__)
    assert _crosses(DEMO.device(ANN, old), reader, _answer()) == SAID
    revoked.add(signing.public_key(old))
    with pytest.raises(BadSignature, match="a key that was revoked"):
        _crosses(DEMO.device(ANN, old), reader, _answer())
    assert _crosses(DEMO.device(ANN, new), reader, _answer()) == SAID


def test_who_has_keys_asks_for_signatures() -> None:
    for reader, at, why in (
        (DEMO.device(ANN), OfferBoard(), "not signed by the federation"),
        (DEMO.device(ANN), Inbox(ANN), "not signed by the federation"),
        (DEMO.coordinator(), CoordinatorSeat(), "not signed by the federation"),
        (DEMO.coordinator(), SeatClaim(), "not signed by the federation"),
        (DEMO.coordinator(), OfferBoard(), "not signed by the federation"),
        (DEMO.coordinator(), _answer(), "not signed by its device"),
    ):
        with pytest.raises(BadSignature, match=why):
            reader.opened(at, DEMO.topics.path(at), SAID)


def test_the_table_of_topics_decides_what_a_device_wants_signed() -> None:
    places: list[Address] = [
        OfferBoard(),
        ModelChunk(Digest("a" * 64), 0),
        _answer(),
        Inbox(ANN),
        PresenceOf(ANN),
        CoordinatorSeat(),
        SeatClaim(),
        StatusPage("round"),
        OrderOf(CAROL),
        OrderReply(CAROL),
        WorkOf(CAROL),
        LanesOf(CAROL),
    ]
    assert {type(one) for one in places} == CHANNELS.keys()
    device = DEMO.device(ANN)
    for at in places:
        if CHANNELS[type(at)].signed:
            with pytest.raises(BadSignature):
                device.opened(at, DEMO.topics.path(at), SAID)
        else:
            assert device.opened(at, DEMO.topics.path(at), SAID) == SAID


def test_a_device_is_no_coordinator_and_a_coordinator_no_device() -> None:
    with pytest.raises(BadSignature, match="not signed by the federation"):
        DEMO.device(ANN).opened(OfferBoard(), DEMO.topics.offer, _sealed_answer())
    offer = DEMO.coordinator().sealed(OfferBoard(), DEMO.topics.offer, SAID)
    with pytest.raises(BadSignature, match="not signed by its device"):
        DEMO.coordinator().opened(_answer(), DEMO.topics.path(_answer()), offer)


ORDER = OrderOf(CAROL)


def test_an_operators_order_is_good_in_one_place() -> None:
    topic = DEMO.topics.path(ORDER)
    sealed = DEMO.operator(CAROL).sealed(ORDER, topic, SAID)
    assert DEMO.coordinator().opened(ORDER, topic, sealed) == SAID
    elsewhere = OrderOf(BOB)
    with pytest.raises(BadSignature, match="by which bob may give no orders"):
        DEMO.coordinator().opened(elsewhere, DEMO.topics.path(elsewhere), sealed)
    other = Federation("other", DEMO.key)
    with pytest.raises(BadSignature, match="by which carol may give no orders"):
        other.coordinator().opened(ORDER, other.topics.path(ORDER), sealed)
    # Of the same operator, to another topic of its own: there is none, but for what comes.
    with pytest.raises(BadSignature, match="not what its operator signed"):
        DEMO.coordinator().opened(ORDER, topic + "x", sealed)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(BadSignature):
            DEMO.coordinator().opened(ORDER, topic, bytes(altered))
        with pytest.raises(BadSignature):
            DEMO.coordinator().opened(ORDER, topic, sealed[:place])


def test_a_devices_key_gives_no_orders_and_an_operators_no_answers() -> None:
    own, topic = signing.new_key(), DEMO.topics.path(ORDER)
    of_device = signing.ticket(DEMO.key, "demo", CAROL, signing.public_key(own))
    federation = signing.public_key(DEMO.key)
    pretender = OperatorSeal(own, of_device, federation)
    with pytest.raises(BadSignature, match="may give no orders"):
        DEMO.coordinator().opened(ORDER, topic, pretender.sealed(ORDER, topic, SAID))
    with pytest.raises(BadSignature, match="not signed by an operator"):
        DEMO.coordinator().opened(ORDER, topic, DEMO.device(CAROL).sealed(ORDER, topic, SAID))
    with pytest.raises(BadSignature, match="not signed by an operator"):
        DEMO.coordinator().opened(ORDER, topic, DEMO.coordinator().sealed(ORDER, topic, SAID))

    of_operator = signing.operator_ticket(DEMO.key, "demo", ANN, signing.public_key(own))
    device = DeviceSeal(own, of_operator, federation)
    answer = _answer()
    with pytest.raises(BadSignature, match="did not give to ann"):
        sealed = device.sealed(answer, DEMO.topics.path(answer), SAID)
        DEMO.coordinator().opened(answer, DEMO.topics.path(answer), sealed)
    assert not signing.fits(own, of_operator, federation, "demo", ANN)
    assert signing.fits_operator(own, of_operator, federation, "demo", ANN)


def test_an_operator_believes_the_federation_alone() -> None:
    reply, operator = OrderReply(CAROL), DEMO.operator(CAROL)
    topic = DEMO.topics.path(reply)
    assert operator.opened(reply, topic, DEMO.coordinator().sealed(reply, topic, SAID)) == SAID
    other = Federation("demo", signing.new_key()).coordinator()
    for payload in (SAID, other.sealed(reply, topic, SAID)):
        with pytest.raises(BadSignature):
            operator.opened(reply, topic, payload)


def test_a_revoked_operator_gives_no_orders() -> None:
    own, topic = signing.new_key(), DEMO.topics.path(ORDER)
    sealed = DEMO.operator(CAROL, own).sealed(ORDER, topic, SAID)
    coordinator = CoordinatorSeal("demo", DEMO.key, lambda key: key == signing.public_key(own))
    with pytest.raises(BadSignature, match="revoked"):
        coordinator.opened(ORDER, topic, sealed)
    with pytest.raises(BadSignature, match="no key here"):
        NO_KEYS.opened(ORDER, topic, sealed)


WORK = WorkOf(ClientId("worker-1"))


def test_what_a_worker_says_is_good_in_one_place() -> None:
    topic = DEMO.topics.path(WORK)
    sealed = DEMO.worker(WORK.worker).sealed(WORK, topic, SAID)
    assert DEMO.coordinator().opened(WORK, topic, sealed) == SAID
    elsewhere = WorkOf(BOB)
    with pytest.raises(BadSignature, match="bob has no key by which a worker signs"):
        DEMO.coordinator().opened(elsewhere, DEMO.topics.path(elsewhere), sealed)
    other = Federation("other", DEMO.key)
    with pytest.raises(BadSignature, match="has no key by which a worker signs"):
        other.coordinator().opened(WORK, other.topics.path(WORK), sealed)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(BadSignature):
            DEMO.coordinator().opened(WORK, topic, bytes(altered))


def test_a_devices_key_adds_nothing_up_and_a_workers_gives_no_answers_and_no_orders() -> None:
    topic = DEMO.topics.path(WORK)
    with pytest.raises(BadSignature, match="not signed by a worker"):
        DEMO.coordinator().opened(WORK, topic, DEMO.device(WORK.worker).sealed(WORK, topic, SAID))
    own, federation = signing.new_key(), signing.public_key(DEMO.key)
    public = signing.public_key(own)
    of_device = signing.ticket(DEMO.key, "demo", WORK.worker, public)
    pretender = WorkerSeal("demo", own, of_device, federation)
    with pytest.raises(BadSignature, match="no key by which a worker signs"):
        DEMO.coordinator().opened(WORK, topic, pretender.sealed(WORK, topic, SAID))
    of_worker = signing.worker_ticket(DEMO.key, "demo", ANN, public)
    answer = DEMO.topics.path(_answer())
    with pytest.raises(BadSignature, match="did not give to ann"):
        device = DeviceSeal(own, of_worker, federation)
        DEMO.coordinator().opened(_answer(), answer, device.sealed(_answer(), answer, SAID))
    assert not signing.fits(own, of_worker, federation, "demo", ANN)
    assert not signing.fits_operator(own, of_worker, federation, "demo", ANN)
    assert signing.fits_worker(own, of_worker, federation, "demo", ANN)


def test_a_worker_asks_of_devices_what_a_coordinator_does() -> None:
    worker, topic = DEMO.worker(WORK.worker), DEMO.topics.path(_answer())
    assert worker.opened(_answer(), topic, _sealed_answer()) == SAID
    for payload in (
        SAID,
        Federation("demo", signing.new_key()).device(ANN).sealed(_answer(), topic, SAID),
    ):
        with pytest.raises(BadSignature):
            worker.opened(_answer(), topic, payload)
    told = LanesOf(WORK.worker)
    sealed = DEMO.coordinator().sealed(told, DEMO.topics.path(told), SAID)
    assert worker.opened(told, DEMO.topics.path(told), sealed) == SAID
    with pytest.raises(BadSignature, match="not signed by the federation"):
        worker.opened(told, DEMO.topics.path(told), SAID)


def test_a_revoked_worker_is_not_heard() -> None:
    own, topic = signing.new_key(), DEMO.topics.path(WORK)
    sealed = DEMO.worker(WORK.worker, own).sealed(WORK, topic, SAID)
    coordinator = CoordinatorSeal("demo", DEMO.key, lambda key: key == signing.public_key(own))
    with pytest.raises(BadSignature, match="revoked"):
        coordinator.opened(WORK, topic, sealed)


def _sealed_answer() -> bytes:
    return DEMO.device(ANN).sealed(_answer(), DEMO.topics.path(_answer()), SAID)


def test_who_has_no_keys_says_what_is_wrong_with_what_is_signed() -> None:
    for at, payload in (
        (OfferBoard(), DEMO.coordinator().sealed(OfferBoard(), DEMO.topics.offer, SAID)),
        (_answer(), _sealed_answer()),
    ):
        with pytest.raises(BadSignature, match=r"there is no key here .* `fedmqtt enroll`"):
            NO_KEYS.opened(at, DEMO.topics.path(at), payload)
        assert NO_KEYS.opened(at, DEMO.topics.path(at), SAID) == SAID
        assert NO_KEYS.sealed(at, DEMO.topics.path(at), SAID) == SAID


def test_what_is_not_signed_stays_as_it_is() -> None:
    digest = Digest("a" * 64)
    plain: list[Address] = [ModelChunk(digest, 0), PresenceOf(ANN), StatusPage("round")]
    assert {type(one) for one in plain} == {
        kind for kind, channel in CHANNELS.items() if not channel.signed
    }
    for seal in (DEMO.coordinator(), DEMO.device(ANN)):
        for address in plain:
            topic = DEMO.topics.path(address)
            assert seal.sealed(address, topic, SAID) == SAID
            assert seal.opened(address, topic, SAID) == SAID


def test_an_empty_message_clears_a_topic_and_is_not_signed() -> None:
    coordinator, device = DEMO.coordinator(), DEMO.device(ANN)
    for address in (OfferBoard(), CoordinatorSeat()):
        topic = DEMO.topics.path(address)
        assert coordinator.sealed(address, topic, b"") == b""
        assert coordinator.opened(address, topic, b"") == b""
    assert device.opened(OfferBoard(), DEMO.topics.offer, b"") == b""


def test_where_nothing_is_retained_nothing_is_cleared() -> None:
    """An empty answer would be refused as one that its device sent, which could forget the true
    one."""
    with pytest.raises(BadSignature, match="not signed by its device"):
        DEMO.coordinator().opened(_answer(), DEMO.topics.path(_answer()), b"")
    for seal, address in ((DEMO.device(ANN), Inbox(ANN)), (DEMO.coordinator(), SeatClaim())):
        with pytest.raises(BadSignature, match="not signed by the federation"):
            seal.opened(address, DEMO.topics.path(address), b"")


def test_a_piece_goes_without_a_signature() -> None:
    piece = messages.encode(Chunk(digest=Digest("b" * 64), data=memoryview(b"123")))
    topic = DEMO.topics.path(_answer())
    assert messages.is_piece(piece)
    assert DEMO.device(ANN).sealed(_answer(), topic, piece) == piece
    assert DEMO.coordinator().opened(_answer(), topic, piece) == piece


_values = st.one_of(st.binary(max_size=40), st.text(max_size=20), st.integers(0, 9), st.none())


@given(st.lists(st.tuples(st.sampled_from(["kind", "run", "round", "digest", "data"]), _values)))
def test_nothing_that_looks_like_a_piece_is_anything_else(fields: list[tuple[str, object]]) -> None:
    """Else an answer could come without its signature: as by a second `kind`."""
    kinds = [("kind", kind) for kind in ("update", "evaluation", "decline", "announce")]
    for more in (fields, [*kinds, *fields], [*fields, *kinds]):
        data = messages._PIECE_BEGINS + b"".join(
            msgspec.msgpack.encode(name) + msgspec.msgpack.encode(value) for name, value in more[:2]
        )
        with suppress(WireError):
            assert isinstance(messages.read_from_client(data), Chunk)


@given(st.data())
def test_a_changed_byte_or_a_cut_is_found(data: st.DataObject) -> None:
    for payload, reader, at in (
        (_sealed_answer(), DEMO.coordinator(), _answer()),
        (
            DEMO.coordinator().sealed(OfferBoard(), DEMO.topics.offer, SAID),
            DEMO.device(ANN),
            OfferBoard(),
        ),
    ):
        place = data.draw(st.integers(0, len(payload) - 1))
        other = data.draw(st.integers(1, 255))
        changed = bytearray(payload)
        changed[place] ^= other
        for hostile in (bytes(changed), payload[: place or 1], payload + b"x"):
            with pytest.raises(BadSignature):
                reader.opened(at, DEMO.topics.path(at), hostile)


@given(st.binary(min_size=1, max_size=400))
def test_any_bytes_are_opened_or_refused(payload: bytes) -> None:
    for reader, at in ((DEMO.coordinator(), _answer()), (DEMO.device(ANN), OfferBoard())):
        for hostile in (payload, b"\xc1\x01" + payload, b"\xc1\x02" + payload):
            with suppress(BadSignature):
                assert messages.is_piece(reader.opened(at, DEMO.topics.path(at), hostile))


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", "A" * 44, "\n" * 44])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadKey, match="a key "):
        signing.public_key(text)


def test_a_signature_is_what_the_page_says() -> None:
    """So that another program can be written from the page: docs/security.md."""
    own, at = signing.new_key(), _answer()
    topic = DEMO.topics.path(at)
    sealed = DEMO.device(ANN, own).sealed(at, topic, SAID)
    seed = signing._bytes(own, 32)
    said = b"fedmqtt 1 device\0" + topic.encode() + b"\0" + hashlib.sha256(SAID).digest()
    assert sealed[:2] == b"\xc1\x02"
    assert sealed[2:34] == bytes(SigningKey(seed).verify_key)
    assert sealed[98:162] == SigningKey(seed).sign(said).signature
    assert sealed[162:] == SAID
    federation = SigningKey(signing._bytes(DEMO.key, 32))
    ticket = b"fedmqtt 1 ticket\0demo\0ann\0" + sealed[2:34]
    assert sealed[34:98] == federation.sign(ticket).signature
    offer = DEMO.coordinator().sealed(OfferBoard(), DEMO.topics.offer, SAID)
    said = b"fedmqtt 1 coordinator\0fed/v1/demo/offer\0" + hashlib.sha256(SAID).digest()
    assert offer == b"\xc1\x01" + federation.sign(said).signature + SAID
