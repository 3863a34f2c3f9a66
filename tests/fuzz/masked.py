"""What masked answers and their sums are made of: payloads, sums, seals, signatures, lists."""

import msgspec
import numpy as np

from coordinator.masking import masked_figures
from fedmqtt import committee_promise, envelope, masks_promise, messages, signing, unreadable
from fedmqtt.committee_promise import KEY
from fedmqtt.masking import attested, commitments, listing, packing, sealing, values
from fedmqtt.masking.attested import NotAttested
from fedmqtt.masking.commitments import NotCommitted
from fedmqtt.masking.committee import KeySum
from fedmqtt.masking.listing import Joining, NotAList
from fedmqtt.masking.measured import SAMPLES_MAX, VALUE_MAX, MeasuredSum
from fedmqtt.masking.packing import Words
from fedmqtt.masking.sealing import Exchange, NotOpened
from fedmqtt.masking.values import COUNTS, NotASum
from fedmqtt.messages import (
    COMMITMENT_BYTES,
    Entry,
    Keyholder,
    Masked,
    Masking,
    Measures,
    Open,
    RoundKey,
    WireError,
)
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from tests.fuzz.decoder import Decoder
from tests.fuzz.numbers import chances

ANN, RUN, ROUND, BASE = ClientId("ann"), RunId("r1"), RoundId(7), Digest("ab" * 32)
SIZE, TERMS, COUNT = 300, 5, 100

# Made once: these keys are nobody's.
_FEDERATION = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
_DEVICE = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="
_ROUND_KEYS = [bytes([number]) * 32 for number in (11, 12, 13)]
_EXCHANGE = Exchange(bytes([17]) * 32)
_SEEDS = bytes(range(32))
_PLAIN = Masking(
    mode="keyholders",
    keyholders=tuple(
        Keyholder(ClientId(f"kh-{place}"), place, RoundKey(5, Exchange(key).public, bytes(64)))
        for place, key in enumerate(_ROUND_KEYS)
    ),
    places=3,
    tolerated=1,
    floor=2,
    bits=values.bits_needed(12, TERMS),
    value_bits=12,
    change_max=1.0,
)
MASKINGS = (
    _PLAIN,
    msgspec.structs.replace(_PLAIN, share=0.3, weight_max=10, samples_max=100),
    msgspec.structs.replace(_PLAIN, rotate=True, value_bits=4, bits=values.bits_needed(4, TERMS)),
    msgspec.structs.replace(_PLAIN, rotate=True, share=0.5, ranges=(0.5, 2.0)),
    msgspec.structs.replace(_PLAIN, metrics=("loss", "mae"), classes=3),
    msgspec.structs.replace(_PLAIN, noise=1.0, norm_steps=2000, indicator=4.0),
    msgspec.structs.replace(_PLAIN, bits=values.bits_needed(12, 3 * TERMS), clients_max=3),
)
_BY_COMMITTEE = msgspec.structs.replace(
    _PLAIN, mode="committee", guard=committee_promise.guard_bits(TERMS)
)
_MEASURES = Measures(
    sample_count=9, metrics={"loss": 0.5}, confusion=((1, 0, 2), (0, 3, 0), (1, 1, 1))
)
assert masks_promise.fault(_PLAIN) == ""


def _payload(data: bytes) -> None:
    """The first byte tells how many bits a word has."""
    bits = 4 + data[0] % 29 if data else 4
    words = packing.from_payload(data[1:], COUNT, COUNTS, bits)
    assert words.shape == (COUNT + COUNTS,) and not (words[:COUNT] >> np.uint32(bits - 1) > 1).any()
    again = packing.to_payload(words, COUNT, bits)
    assert np.array_equal(packing.from_payload(again, COUNT, COUNTS, bits), words)


def _payloads() -> list[bytes]:
    words = (np.arange(COUNT + COUNTS) * 0x9E3779B1 % 2**32).astype(np.uint32)
    return [
        bytes([bits - 4]) + packing.to_payload(words, COUNT, bits) for bits in (4, 11, 24, 31, 32)
    ]


def _sum(data: bytes) -> None:
    """The first byte tells how it was masked."""
    how = MASKINGS[data[0] % len(MASKINGS)] if data else MASKINGS[0]
    body = values.body_size(how, SIZE)
    size = 4 * (body + values.tail_size(how, body))
    words = np.frombuffer(data[1 : 1 + size].ljust(size, b"\0"), "<u4").astype(np.uint32)
    found = values.from_sum(how, words, SIZE, TERMS, chances().shared)
    assert found.change.shape == (SIZE,) and np.isfinite(found.change).all()
    assert TERMS <= found.clients <= TERMS * how.clients_max
    assert found.clients <= found.weight <= found.clients * how.weight_max
    if found.measured is not None:
        _figures(found.measured)


def _figures(found: MeasuredSum) -> None:
    """Whatever clients sent, what is told is what they can have measured."""
    told, left_out = masked_figures.figures(found, TERMS, floor=3)
    if told is None:
        assert left_out
        return
    assert 3 <= told.clients <= TERMS and told.samples <= TERMS * SAMPLES_MAX
    assert all(abs(value) <= VALUE_MAX for value in told.metrics.values())
    assert told.confusion is None or sum(map(sum, told.confusion)) <= told.samples


def _sums() -> list[bytes]:
    def of(how: Masking) -> Words:
        change = np.linspace(-1.5, 1.5, SIZE, dtype=np.float32)
        return values.to_words(how, change, 3, chances(), _MEASURES) * np.uint32(TERMS)

    return [bytes([at]) + of(how).astype("<u4").tobytes() for at, how in enumerate(MASKINGS)]


def _hidden(data: bytes) -> None:
    """One answer for a committee, of whose key all masks are known to be zero."""
    words = _of_one(data)
    assert words.shape == (COUNT + COUNTS,) and not (words[:COUNT] >> _BY_COMMITTEE.bits).any()
    assert np.array_equal(_of_one(_without_key(words)), words)


def _of_one(data: bytes) -> Words:
    total = KeySum(_BY_COMMITTEE, "home", COUNT, COUNTS)
    total.add(data)
    return total.open([])


def _without_key(words: Words) -> bytes:
    """As `committee.hide` would make it with a key and errors of zero."""
    guard = _BY_COMMITTEE.guard
    spread = words[COUNT:].astype("<u4").view(np.uint8)
    sent = np.concatenate([words[:COUNT], spread.astype(np.uint32)]) << np.uint32(guard)
    key = packing.pack(np.zeros(KEY, np.uint32), guard)
    return key + packing.to_payload(sent, COUNT, _BY_COMMITTEE.bits + guard)


def _answers_to_committees() -> list[bytes]:
    words = (np.arange(COUNT + COUNTS) * 0x9E3779B1 % 2**32).astype(np.uint32)
    words[:COUNT] &= np.uint32(2**_BY_COMMITTEE.bits - 1)
    return [_without_key(words)]


def _context() -> bytes:
    return sealing.context("home", RUN, ROUND, ANN, BASE, ClientId("kh-0"), 5)


def _sealed(data: bytes) -> None:
    """The client's public key, and what it has sealed."""
    assert sealing.open_sealed(_ROUND_KEYS[0], data[:32], _context(), data[32:]) == _SEEDS


def _seals() -> list[bytes]:
    public = _PLAIN.keyholders[0].key.public
    return [_EXCHANGE.public + _EXCHANGE.seal(public, _context(), _SEEDS)]


def _committed(data: bytes) -> None:
    """The seeds of the keyholder at the first place, and what their client committed to."""
    share, told = data[: len(_SEEDS)].ljust(len(_SEEDS), b"\0"), data[len(_SEEDS) :]
    keys = commitments.keys(_PLAIN, 0, _committing(), share, told)
    # Of the seed that it does not hold nothing can be wrong.
    assert share == _SEEDS and len(set(keys)) == 2


def _commitments() -> list[bytes]:
    drawn = [bytes(16), _SEEDS[:16], _SEEDS[16:]]
    told = [commitments.expand(_committing(), at, one)[1] for at, one in enumerate(drawn)]
    return [_SEEDS + b"".join(told)]


def _committing() -> bytes:
    return commitments.context("home", RUN, ROUND, ANN, BASE, _EXCHANGE.public)


def _entry(name: ClientId = ANN) -> Entry:
    exchange, sealed, payload = _EXCHANGE.public, (bytes(48),) * 3, bytes(32)
    committed = bytes(range(COMMITMENT_BYTES)) * 3
    public = signing.public_key(_DEVICE)
    masking = attested.masking_digest(_PLAIN)
    what = ("home", name, RUN, ROUND, BASE, masking)
    said = attested.said(*what, exchange, sealed, committed, payload)
    masked = Masked(
        exchange=exchange,
        sealed=sealed,
        signature=attested.sign(_DEVICE, said),
        commitments=committed,
    )
    ticket = signing.ticket(_FEDERATION, "home", name, public)
    author = signing.as_bytes(public), signing.as_bytes(ticket, envelope.TICKET_BYTES)
    return Entry(name, 2, payload, masked, *author)


_ENTRY = _entry()


def _attested(data: bytes) -> None:
    entry = msgspec.msgpack.decode(data, type=Entry)
    public, masking = signing.public_key(_FEDERATION), attested.masking_digest(_PLAIN)
    attested.check("home", public, RUN, ROUND, BASE, masking, entry)
    # How often it is in the sum is not its sender's affair.
    assert msgspec.structs.replace(entry, times=2) == _ENTRY


def _list(data: bytes) -> None:
    part = messages.read_to_client(data)
    if not isinstance(part, Open):
        return
    whole = Joining(entries_max=10).take(part)
    if whole is None:
        return
    cut = listing.parts(whole, len(data) + 64)
    assert [one.entries for one in cut] == [whole.entries]
    assert cut[0].digest == whole.digest == listing.digest(whole)


def asked(masking: Masking) -> Open:
    """A list of two answers."""
    return Open(
        run=RUN,
        round=ROUND,
        base=BASE,
        masking=masking,
        body=SIZE,
        tail=COUNTS,
        digest=bytes(32),
        part=0,
        parts=1,
        entries=(_ENTRY, _entry(ClientId("bob"))),
        seeds=(0, 2),
    )


def _lists() -> list[bytes]:
    whole = asked(_PLAIN)
    one = listing.parts(whole, 100_000)
    two = listing.parts(whole, len(messages.encode(one[0])) - 1)
    return [messages.encode(part) for part in (*one, *two)]


DECODERS = [
    Decoder("masked_payload", _payload, _payloads, (ValueError,)),
    Decoder("hidden_answer", _hidden, _answers_to_committees, (ValueError, NotASum)),
    Decoder("opened_sum", _sum, _sums, (NotASum,)),
    Decoder("sealed_seeds", _sealed, _seals, (NotOpened,)),
    Decoder("committed_seeds", _committed, _commitments, (NotCommitted,)),
    Decoder(
        "attested",
        _attested,
        lambda: [msgspec.msgpack.encode(_ENTRY)],
        (NotAttested, *unreadable.MESSAGE),
    ),
    Decoder("answer_list", _list, _lists, (WireError, NotAList)),
]
