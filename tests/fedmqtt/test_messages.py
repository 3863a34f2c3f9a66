"""The wire is a format, not a library: golden bytes, read by two decoders.

`pytest --rewrite` writes `docs/vectors/*.bin` anew. A diff there is a change of the wire.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmqtt import messages
from fedmqtt.messages import (
    EVERYBODY,
    Announce,
    Answered,
    AnyMessage,
    Ask,
    Chunk,
    Claim,
    Claimed,
    Claims,
    Decline,
    Device,
    Entry,
    Evaluation,
    Go,
    Keyholder,
    Lanes,
    Masked,
    Masking,
    Measures,
    Method,
    ModelRef,
    Offer,
    Open,
    Opened,
    Order,
    OrderAnswer,
    Passed,
    Presence,
    Receipt,
    RoundKey,
    Seat,
    SiteTerms,
    SlowLinks,
    Sortition,
    Sum,
    SumOf,
    SumPiece,
    Term,
    TimeLeft,
    Training,
    Update,
    Verdicts,
    WireError,
    Working,
)
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

WIRE = Path(__file__).parents[2] / "docs" / "vectors"
A, B = Digest("a" * 64), Digest("b" * 64)
ONE, RUN = RoundId(1), RunId("r1")
ANN, BOB = ClientId("ann"), ClientId("bob")
SESSION = "00112233445566"
MEASURES = Measures(sample_count=3, metrics={"loss": 0.5}, confusion=((1, 0), (1, 1)))
MODEL = ModelRef(digest=A, size_bytes=300_000, chunk_bytes=131_072, fingerprint="0123456789abcdef")

ROUND_KEY = RoundKey(7, b"k" * 32, b"s" * 64)
MASKING = Masking(
    mode="keyholders",
    keyholders=(
        Keyholder(ClientId("kh-a"), 0, ROUND_KEY),
        Keyholder(ClientId("kh-b"), 1, ROUND_KEY),
    ),
    places=3,
    tolerated=1,
    floor=2,
    bits=24,
    value_bits=20,
    weight_max=255,
    samples_max=1000,
    change_max=1.0,
)
MASKED = Masked(
    exchange=b"x" * 32,
    sealed=(b"a" * 48, b"b" * 48),
    signature=b"s" * 64,
    commitments=b"c" * 32,
)
AUTHOR = b"d" * 32, b"t" * 64
OFFER = Offer(
    run=RUN,
    round=ONE,
    task="digits",
    model=MODEL,
    train=(ANN, BOB),
    evaluate=(),
    closes_in_s=60.0,
    training=Training(),
    codec="full",
    lanes=4,
    seed=7,
)

EXAMPLES: dict[str, AnyMessage] = {
    "offer": Offer(
        epoch=3,
        run=RUN,
        round=ONE,
        task="digits",
        model=MODEL,
        train=(ANN, BOB),
        evaluate=(ANN,),
        closes_in_s=60.0,
        training=Training(),
        codec="full",
        lanes=4,
        seed=7,
        spread_s=2.5,
        late_rounds=5,
        asynchronous=True,
        slow_links=SlowLinks(below_kbps=256.0, codec="eden"),
        method=Method(sends="gradient", personal=("*.bn*", "head.*"), fine_tune_epochs=2),
    ),
    "offer_to_sites": msgspec.structs.replace(
        OFFER,
        sites=SiteTerms(
            bits=31, change_max=64.0, samples_max=1_000_000, clients_max=50, weight_max=2_000_000
        ),
    ),
    "offer_by_sortition": msgspec.structs.replace(
        OFFER,
        train=(),
        sortition=Sortition(salt="7-aaaaaaaaaaaaaaaa", train=2**50, evaluate=EVERYBODY),
    ),
    "offer_of_a_quiet_federation": msgspec.structs.replace(
        OFFER,
        train=(),
        sortition=Sortition(
            salt="7-aaaaaaaaaaaaaaaa", train=2**50, evaluate=2**40, quiet=True, begin_s=12.5
        ),
    ),
    "offer_masked": msgspec.structs.replace(
        OFFER,
        masking=MASKING,
    ),
    "offer_noised": msgspec.structs.replace(
        OFFER,
        masking=msgspec.structs.replace(
            MASKING,
            weight_max=1,
            norm_max=0.5,
            noise=2.0,
            norm_steps=262_143,
            indicator=9.0,
            participations_max=20,
        ),
    ),
    "presence_of_a_keyholder": Presence(online=True, session="s1", keys=(ROUND_KEY,), floor=10),
    "update_of_a_quiet_federation": Update(
        run=RUN,
        round=ONE,
        base=A,
        fingerprint="0123456789abcdef",
        sample_count=1,
        codec="full",
        device=Device(program="fedmqtt 1.0", label="phone"),
        payload=memoryview(b"\x00" * 4),
    ),
    "update_masked": Update(
        run=RUN,
        round=ONE,
        base=A,
        fingerprint="0123456789abcdef",
        sample_count=1,
        codec="full",
        masked=MASKED,
        payload=memoryview(b"masked"),
    ),
    "update_of_site": Update(
        run=RUN,
        round=ONE,
        base=A,
        fingerprint="0123456789abcdef",
        sample_count=1200,
        codec="sum",
        sum_of=SumOf(clients=12, bits=31),
        payload=memoryview(b"whole numbers"),
    ),
    "open": Open(
        run=RUN,
        round=ONE,
        base=A,
        masking=MASKING,
        body=2,
        tail=3,
        digest=b"l" * 32,
        part=0,
        parts=1,
        entries=(
            Entry(ANN, 1, b"p" * 32, MASKED, *AUTHOR),
            Entry(BOB, 1, b"p" * 32, MASKED, *AUTHOR),
        ),
        seeds=(0, 1),
        answered=(Answered(ONE, A, 1), Answered(RoundId(2), B, 1)),
    ),
    "opened": Opened(
        run=RUN,
        round=ONE,
        digest=b"l" * 32,
        seeds=(0, 1),
        digests=(b"0" * 32, b"1" * 32),
        payload=memoryview(b"sums"),
    ),
    "opened_fit": Opened(run=RUN, round=ONE, digest=b"l" * 32, fit=True),
    "opened_refused": Opened(
        run=RUN, round=ONE, digest=b"l" * 32, refused="ann: not enrolled", unfit={ANN: "unenrolled"}
    ),
    "time_left": TimeLeft(run=RUN, round=ONE, closes_in_s=12.5),
    "go": Go(run=RUN, round=ONE, digest=B, ranges=((0, 3), (7, 8))),
    "receipt_accepted": Receipt(run=RUN, round=ONE, accepted=True, next_round_in_s=40.0),
    "receipt_refused": Receipt(
        run=RUN, round=ONE, accepted=False, reason="late: round 1 is closed"
    ),
    "presence": Presence(
        online=True,
        session="s1",
        task="digits",
        purposes=("train", "evaluate"),
        program="edge_client 0.1.0",
        label="phone",
        draws=True,
    ),
    "presence_will": Presence(online=False, session="s1"),
    "update": Update(
        run=RUN,
        round=ONE,
        base=A,
        fingerprint="0123456789abcdef",
        sample_count=120,
        codec="full",
        metrics={"loss": 0.25},
        measures=MEASURES,
        method="proximal=0.1 partial",
        steps=12,
        base_loss=0.75,
        payload=memoryview(bytes(range(8))),
    ),
    "evaluation": Evaluation(run=RUN, round=ONE, base=A, measures=MEASURES),
    "decline": Decline(run=RUN, round=ONE, reason="on battery"),
    "announce": Announce(run=RUN, round=ONE, digest=B, size_bytes=300_000, chunk_bytes=131_072),
    "chunk": Chunk(digest=B, data=memoryview(b"\x00\x01\x02")),
    "seat": Seat(epoch=3, token="t1", taken=True, run=RUN, where="server:4711", reply_to="t2"),
    "seat_will": Seat(epoch=3, token="t1", taken=False),
    "claim": Claim(token="t2"),
    "ask": Ask(token="0123456789abcdef"),
    "order_rollback": Order(
        token="00112233445566778899aabbccddeeff",
        word="ffeeddccbbaa99887766554433221100",
        what="rollback",
        round=ONE,
    ),
    "order_invite": Order(
        token="00112233445566778899aabbccddeeff",
        word="ffeeddccbbaa99887766554433221100",
        what="invite",
        client=ANN,
    ),
    "order_answer": OrderAnswer(
        reply_to="00112233445566778899aabbccddeeff", done=True, said="nothing was paused"
    ),
    "order_word": OrderAnswer(reply_to="0123456789abcdef", word="ffeeddccbbaa99887766554433221100"),
    "working": Working(
        token="0123456789abcdef",
        program="fedmqtt 0.1.0",
        settings=A,
        session=SESSION,
        version=2,
        said=7,
    ),
    "working_will": Working(token="0123456789abcdef", online=False),
    "claims": Claims(
        session=SESSION,
        number=8,
        claims=(
            Claimed(ANN, RUN, ONE, A, "f" * 16, "", False, True, 120, 0.5, B, b"\x01" * 32),
            Claimed(BOB, RUN, ONE, A, "f" * 16, "too large", False, True, 1, None, B, b""),
        ),
    ),
    "passed": Passed(
        session=SESSION,
        number=9,
        client=ANN,
        round=ONE,
        part="0",
        key=b"\x01" * 32,
        payload=memoryview(b"\x00\x01\x02"),
    ),
    "passed_part": Passed(
        session=SESSION,
        number=9,
        client=ANN,
        round=ONE,
        part="0",
        goes_on=True,
        payload=memoryview(b"\x00\x01"),
    ),
    "sumpiece": SumPiece(
        session=SESSION, number=10, index=0, count=2, digest=B, data=memoryview(b"\x00\x01")
    ),
    "sum": Sum(
        run=RUN,
        round=ONE,
        bits=30,
        weight=150,
        terms=(
            Term(ANN, 120, {"loss": 0.5}, "full", 8, MEASURES),
            Term(BOB, 30, {}, "int8", 6, None),
        ),
        payload=memoryview(bytes(range(16))),
    ),
    "lanes": Lanes(
        token="0123456789abcdef",
        session=SESSION,
        version=3,
        lanes=(0, 1, 5),
        said=4,
        run=RUN,
        round=ONE,
        size=15,
        shapes=((4, 3), (3,)),
        answer_bytes_max=2_000_000,
    ),
    "verdicts": Verdicts(
        session=SESSION,
        number=5,
        round=ONE,
        bits=30,
        taken=(ANN,),
        refused=((BOB, ONE),),
        admitted=(
            (ANN, Announce(run=RUN, round=ONE, digest=B, size_bytes=300_000, chunk_bytes=131_072)),
        ),
        collects=True,
    ),
}

Read = Callable[[bytes], AnyMessage]
READERS: list[Read] = [
    messages.read_offer,
    messages.read_presence,
    messages.read_from_client,
    messages.read_to_client,
    messages.read_among_coordinators,
    messages.read_from_operator,
    messages.read_order_answer,
    messages.read_from_worker,
    messages.read_to_worker,
    messages.read_sum,
]


def readers(message: AnyMessage) -> list[Read]:
    """Of all the places where it may lie."""
    if isinstance(message, Offer):
        # Said again to one client alone, it comes to that one's inbox.
        return [messages.read_offer, messages.read_to_client]
    return [reader(message)]


def reader(message: AnyMessage) -> Read:
    match message:
        case Offer():
            return messages.read_offer
        case Presence():
            return messages.read_presence
        case Receipt() | Go() | TimeLeft() | Open():
            return messages.read_to_client
        case Seat() | Claim():
            return messages.read_among_coordinators
        case Ask() | Order():
            return messages.read_from_operator
        case OrderAnswer():
            return messages.read_order_answer
        case Working() | Claims() | Passed() | SumPiece():
            return messages.read_from_worker
        case Lanes() | Verdicts():
            return messages.read_to_worker
        case Sum():
            return messages.read_sum
        case _:
            return messages.read_from_client


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bytes_on_the_wire_are_what_they_were(
    name: str, request: pytest.FixtureRequest
) -> None:
    message, golden = EXAMPLES[name], WIRE / f"{name}.bin"
    if request.config.getoption("--rewrite"):
        golden.write_bytes(messages.encode(message))
    assert messages.encode(message) == golden.read_bytes()
    assert reader(message)(golden.read_bytes()) == message


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_messagepack_library_reads_them(name: str) -> None:
    message = EXAMPLES[name]
    plain = msgpack.unpackb((WIRE / f"{name}.bin").read_bytes())
    assert plain["kind"] == type(message).__name__.lower()
    for field in msgspec.structs.fields(message):
        if getattr(message, field.name) is msgspec.UNSET:
            assert field.encode_name not in plain
            continue
        assert plain[field.encode_name] == simply(getattr(message, field.name))


def simply(value: Any) -> Any:
    """As a library without our types sees it."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes, memoryview))
    return msgpack.unpackb(msgpack.packb(plain))


def test_every_message_has_an_example_and_every_golden_file_a_message() -> None:
    kinds = {type(message) for message in EXAMPLES.values()}
    assert {kind.__name__ for kind in kinds} == {
        kind.__name__ for kind in messages.Message.__subclasses__()
    }
    assert {path.stem for path in WIRE.glob("*.bin")} == set(EXAMPLES)


def test_a_field_of_a_newer_version_is_ignored() -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES["update"]))
    newer = msgpack.packb(plain | {"mood": "good"})
    assert messages.read_from_client(newer) == EXAMPLES["update"]


def offer_with_deltas(**changes: Any) -> dict[str, Any]:
    """As MessagePack sees it: a model of the two before it, in two deltas."""
    offer = msgpack.unpackb(messages.encode(EXAMPLES["offer"]))
    deltas = changes.pop("deltas", [[b"\1" * 8, b"\2" * 32, 500], [b"\3" * 8, b"\4" * 32, 600]])
    return {**offer, "model": offer["model"] | {"deltas": deltas}}


def test_deltas_of_a_model_are_few_bytes_in_its_offer() -> None:
    data = msgpack.packb(offer_with_deltas())
    offer = messages.read_offer(data)
    assert [delta.digest for delta in offer.model.deltas] == ["02" * 32, "04" * 32]
    assert offer.model.deltas[1].changes(Digest("03" * 8 + "ff" * 24))
    assert not offer.model.deltas[1].changes(Digest("03" * 7 + "ff" * 25))
    assert messages.encode(offer) == data
    plain = messages.encode(EXAMPLES["offer"])
    assert len(data) - len(plain) <= 2 * 50 + 8
    assert offer.model.file_of(offer.model.deltas[0]) == msgspec.structs.replace(
        offer.model, digest=Digest("02" * 32), size_bytes=500, deltas=()
    )


def test_a_client_of_before_reads_an_offer_with_deltas_as_one_without() -> None:
    class ModelRef(msgspec.Struct):
        digest: str

    class Offer(msgspec.Struct, tag_field="kind", tag="offer"):
        model: ModelRef

    told = msgspec.msgpack.decode(msgpack.packb(offer_with_deltas()), type=Offer)
    offer = EXAMPLES["offer"]
    assert isinstance(offer, messages.Offer) and told.model.digest == offer.model.digest


@pytest.mark.parametrize(
    "delta",
    [
        [b"\1" * 7, b"\2" * 32, 500],
        [b"\1" * 9, b"\2" * 32, 500],
        [b"\1" * 8, b"\2" * 31, 500],
        [b"\1" * 8, b"\2" * 32, 0],
        [b"\1" * 8, b"\2" * 32, 2**40 + 1],
        ["12345678", b"\2" * 32, 500],
        [b"\1" * 8, b"\2" * 32],
    ],
)
def test_a_delta_that_cannot_be_is_refused(delta: list[object]) -> None:
    with pytest.raises(WireError):
        messages.read_offer(msgpack.packb(offer_with_deltas(deltas=[delta])))


def test_more_deltas_than_an_offer_has_room_for_are_refused() -> None:
    many = [[b"\1" * 8, b"\2" * 32, 500]] * (messages.DELTAS_MAX + 1)
    with pytest.raises(WireError):
        messages.read_offer(msgpack.packb(offer_with_deltas(deltas=many)))
    messages.read_offer(msgpack.packb(offer_with_deltas(deltas=many[:-1])))


def test_the_payload_is_a_view_and_not_a_copy() -> None:
    data = messages.encode(EXAMPLES["update"])
    update = messages.read_from_client(data)
    assert isinstance(update, Update)
    assert update.payload.obj is data


def test_an_offer_is_read_in_an_inbox_as_on_the_board() -> None:
    for offer in (one for one in EXAMPLES.values() if isinstance(one, Offer)):
        assert messages.read_to_client(messages.encode(offer)) == offer


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_of_one_direction_is_none_of_the_other(name: str) -> None:
    for other in READERS:
        if other not in readers(EXAMPLES[name]):
            with pytest.raises(WireError):
                other(messages.encode(EXAMPLES[name]))


@pytest.mark.parametrize(
    "change",
    [
        {"round": -1},
        {"round": 2**31 + 1},
        {"round": 1.5},
        {"run": ""},
        {"run": "r" * 129},
        {"run": "../r"},
        {"run": ".r"},
        {"run": "r/1"},
        {"run": "r\n"},
        {"run": None},
        {"base": "a" * 63},
        {"base": "A" * 64},
        {"base": "a" * 64 + "\n"},
        {"sample_count": 0},
        {"sample_count": 2**53 + 1},
        {"metrics": {"m" * 201: 1.0}},
        {"metrics": {f"m{number}": 1.0 for number in range(101)}},
        {"payload": "text"},
        {"fingerprint": "f" * 201},
        {"kind": "offer"},
        {"kind": None},
        {"measures": {"sample_count": 1, "confusion": [[-1]]}},
        {"measures": {"sample_count": 1, "confusion": [[0]] * 1001}},
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_not_a_message(change: dict[str, Any]) -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES["update"]))
    with pytest.raises(WireError):
        messages.read_from_client(msgpack.packb(plain | change))


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("time_left", "closes_in_s"),
        ("receipt_accepted", "next_round_in_s"),
        ("offer", "closes_in_s"),
        ("offer", "spread_s"),
    ],
)
def test_a_time_that_is_none_is_refused(name: str, field: str, seconds: float) -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES[name]))
    with pytest.raises(WireError):
        reader(EXAMPLES[name])(msgpack.packb(plain | {field: seconds}))


def test_a_client_of_before_labels_has_none() -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES["presence"]))
    del plain["label"]
    assert messages.read_presence(msgpack.packb(plain)).label == ""


@pytest.mark.parametrize("label", ["x" * 41, "phone\n", "a\x1b[2J", "téléphone", "a/b", 7])
def test_a_label_is_a_short_word(label: object) -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES["presence"]))
    assert messages.read_presence(msgpack.packb(plain | {"label": "site 7_b-2.x"})).online
    with pytest.raises(WireError):
        messages.read_presence(msgpack.packb(plain | {"label": label}))


def test_nobody_is_asked_to_stay_away_for_more_than_an_hour() -> None:
    plain = msgpack.unpackb(messages.encode(EXAMPLES["offer"]))
    with pytest.raises(WireError):
        messages.read_offer(msgpack.packb(plain | {"spread_s": 3601.0}))


HOSTILE = {
    "nothing": b"",
    "no kind": b"\x80",
    "not a map": b"\x93\x01\x02\x03",
    "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "a kind of 4 GiB": b"\x81\xa4kind\xdb\xff\xff\xff\xff",
    "a payload of 4 GiB": b"\x82\xa4kind\xa6update\xa7payload\xc6\xff\xff\xff\xff",
    "nested lists": b"\x91" * 100_000,
    "nested lists in a field that nobody knows": b"\x82\xa4kind\xa6update\xa4mood"
    + b"\x91" * 100_000,
    "nested maps": b"\x81\xa1a" * 100_000,
    "half a letter": b"\x81\xa4kind\xa1\xc3",
    "an extension type": b"\xc7\x04\x01abcd",
    "what msgpack never uses": b"\xc1",
    "two messages": messages.encode(EXAMPLES["decline"]) * 2,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_a_wire_error(data: bytes) -> None:
    for read in READERS:
        with pytest.raises(WireError):
            read(data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_cut_short_anywhere_is_a_wire_error(name: str) -> None:
    data = messages.encode(EXAMPLES[name])
    for length in range(len(data)):
        with pytest.raises(WireError):
            reader(EXAMPLES[name])(data[:length])


@given(st.binary(max_size=200))
def test_noise_is_a_message_or_a_wire_error(data: bytes) -> None:
    for read in READERS:
        with suppress(WireError):
            read(data)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_a_flipped_byte_is_a_message_or_a_wire_error(name: str, data: st.DataObject) -> None:
    damaged = bytearray(messages.encode(EXAMPLES[name]))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(WireError):
        reader(EXAMPLES[name])(bytes(damaged))
