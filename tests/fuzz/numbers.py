"""What carries numbers: model files, deltas, codecs, whole answers, questions about data."""

import functools

import numpy as np

from coordinator.config import FederationConfig
from coordinator.sums.answers import Answers
from fedmqtt import (
    chunks,
    codec_chain,
    codec_chance,
    control,
    data_query,
    deltas,
    exact_total,
    messages,
)
from fedmqtt import weights as model_file
from fedmqtt.data_query import NumberQuery, QueryError
from fedmqtt.deltas import DeltaError
from fedmqtt.messages import Evaluation, Go, Update, WireError
from fedmqtt.settings import SettingsError
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fedmqtt.weights import Array, Layout, WeightsError
from tests.fuzz.decoder import Decoder, MadeNothing

LAYOUT = Layout((("w", (9, 7)), ("b", (7,)), ("none", (0, 3)), ("one", ())))
SIZE = LAYOUT.size
ANN, BASE = ClientId("ann"), Digest("ab" * 32)

CHAINS = (
    *("full", "float16", "bfloat16", "int8", "int4", "eden"),
    *("full+zstd", "int4+zstd", "part(share=0.3)+eden", "part(share=0.5,scaled=false)+int8+zstd"),
    *("topk(share=0.1)+full", "topk(share=0.3)+int8+zstd", "lowrank(rank=2)+bfloat16"),
    "lowrank(rank=1)+eden+zstd",
)
"""Each stage, alone where it can be, and chains of all kinds."""


def _numbers() -> Array:
    return np.linspace(-0.3, 0.3, SIZE, dtype=np.float32)[::-1].copy()


def _model(data: bytes) -> None:
    layout, flat = model_file.read(data)
    assert model_file.file_bytes(data) == len(data)
    again, numbers = model_file.read(model_file.write(layout, flat))
    assert again == layout and numbers.tobytes() == flat.tobytes()
    assert again.fingerprint == layout.fingerprint
    own, rest, behind = control.split(layout, flat)
    assert own.size == rest.size and (behind is None or rest.size + behind.size == flat.size)


def _models() -> list[bytes]:
    behind = control.beside(LAYOUT, SIZE)
    return [
        model_file.write(LAYOUT, _numbers()),
        model_file.write(behind, np.zeros(behind.size, np.float32)),
        model_file.write(Layout(()), np.zeros(0, np.float32)),
        _question(),
    ]


def _delta(data: bytes) -> None:
    made = deltas.apply(_numbers(), data, LAYOUT.shapes)
    assert made.shape == (SIZE,) and made.dtype == np.float32
    assert deltas.file_bytes(data) == len(data)


@functools.cache
def _deltas() -> list[bytes]:
    new = _numbers() * np.float32(1.1)
    new[LAYOUT.tensors[0][1][0] :][:20] = 0
    same = new.copy()
    same[:63] = _numbers()[:63]
    return [
        deltas.write(codec_chain.read(codec), BASE, 3, _numbers(), to, LAYOUT.shapes)[0]
        for codec in CHAINS
        for to in (new, same)
    ]


def _chain_name(data: bytes) -> None:
    chain = codec_chain.read(data.decode(errors="replace"))
    assert codec_chain.read(chain.text) == chain
    assert chain.size_bytes(SIZE, LAYOUT.shapes) >= 0


def _payload(data: bytes) -> None:
    """The first byte tells by which chain."""
    if not data:
        raise MadeNothing
    chain = codec_chain.read(CHAINS[data[0] % len(CHAINS)])
    sent = chain.unpack(data[1:], SIZE, chances(), LAYOUT.shapes)
    full = sent.full()
    assert full.shape == (SIZE,) and full.dtype == np.float32
    if chain.text == "full":
        assert full.tobytes() == data[1:]


def _total(data: bytes) -> None:
    total = exact_total.decode(data, SIZE)
    assert total.shape == (SIZE,) and total.dtype == np.int64
    assert exact_total.decode(exact_total.encode(total), SIZE).tobytes() == total.tobytes()


def _totals() -> list[bytes]:
    grid = np.rint(_numbers() * 2**20).astype(np.int64)
    return [exact_total.encode(one) for one in (grid, grid * 2**40, grid * 0)]


def _payloads() -> list[bytes]:
    return [
        bytes([at]) + bytes(codec_chain.read(text).encode(_numbers(), chances(), LAYOUT.shapes))
        for at, text in enumerate(CHAINS)
    ]


def chances() -> codec_chance.Chances:
    return codec_chance.of_answer(0, RoundId(1), ANN)


@functools.cache
def _answers() -> list[Answers]:
    found = []
    for codec in CHAINS:
        config = FederationConfig(name="ward-7", task="linear", codec=codec)
        answers = Answers(config, size=SIZE, terms_max=10, shapes=LAYOUT.shapes)
        answers.begin(terms_max=10)
        found.append(answers)
    return found


def _answer(data: bytes) -> None:
    """A whole message of a client, taken as the coordinator does: by which codec, it says."""
    message = messages.read_from_client(data)
    if not isinstance(message, Update | Evaluation):
        raise MadeNothing
    faults = []
    for answers in _answers():
        fault = answers.check(ANN, message)
        assert isinstance(fault, str)
        faults.append(fault)
        if not fault and isinstance(message, Update):
            answers.fold(ANN, message, evaluates=False)
            assert np.isfinite(answers.finish(_numbers())).all()
            answers.begin(terms_max=10)
        answers.let_go()
    if all(faults):
        raise MadeNothing


def _whole_answers() -> list[bytes]:
    return [
        messages.encode(
            Update(
                run=RunId("r1"),
                round=RoundId(1),
                base=BASE,
                fingerprint=LAYOUT.fingerprint,
                sample_count=7,
                codec=codec_chain.read(text).text,
                metrics={"loss": 0.5},
                payload=memoryview(payload[1:]),
            )
        )
        for text, payload in zip(CHAINS, _payloads(), strict=True)
    ]


QUERIES: dict[str, data_query.Query] = {
    "x": NumberQuery(3, 4, 0.5, 2.0, -1.0, 3.0, ((0.0, 1.0), (1.5, 2.0))),
    "first": NumberQuery(2, 3),
    "kind": data_query.CategoryQuery(3),
}


def _question() -> bytes:
    return model_file.write(data_query.layout(QUERIES), data_query.write_queries(QUERIES))


def _asked(data: bytes) -> None:
    layout, flat = model_file.read(data)
    queries = data_query.read_queries(layout.unflatten(flat))
    written = data_query.write_queries(queries)
    again = data_query.read_queries(data_query.layout(queries).unflatten(written))
    assert again == queries
    # Whatever was asked can be answered, and the answer is believed.
    values = np.array([0.0, 1.0])
    sums = {name: data_query.sums_of(one, values) for name, one in queries.items()}
    assert data_query.fault(queries, data_query.write_sums(queries, sums), len(values)) == ""


def _told(data: bytes) -> None:
    """A client's sums, as float32."""
    size = data_query.layout(QUERIES).size
    flat = np.frombuffer(data.ljust(4 * size, b"\0")[: 4 * size], "<f4").astype(np.float32)
    if data_query.fault(QUERIES, flat, 3):
        raise MadeNothing
    sums = data_query.read_sums(QUERIES, flat)
    assert data_query.read_sums(QUERIES, data_query.write_sums(QUERIES, sums)) == sums
    first, second = sums["x"], sums["first"]
    assert 0 <= first.samples <= 3 and 0 <= second.samples <= 3


def _sums() -> list[bytes]:
    values = np.array([0.0, 1.0, 2.0])
    sums = {name: data_query.sums_of(one, values) for name, one in QUERIES.items()}
    return [data_query.write_sums(QUERIES, sums).tobytes()]


def _asked_again(data: bytes) -> None:
    """A coordinator's Go: which chunks of an answer to send."""
    go = messages.read_to_client(data)
    if not isinstance(go, Go):
        raise MadeNothing
    named = list(chunks.numbers(go.ranges, below=100))
    assert named == sorted(set(named)) and all(0 <= one < 100 for one in named)


def _orders() -> list[bytes]:
    ranges = (((0, 3), (7, 8)), ((0, 100),), ((5, 2), (2, 9), (-3, 4)), ())
    return [
        messages.encode(Go(run=RunId("r1"), round=RoundId(1), digest=BASE, ranges=one))
        for one in ranges
    ]


def _assembled(data: bytes) -> None:
    """Chunks of a file of 5,000 bytes: each byte tells a number, and whether it is as long as it
    has to be."""
    missing = chunks.Missing(5000, 1024)
    taken = set()
    for byte in data:
        index = byte & 0x7F
        start, stop = chunks.span(index, 5000, 1024)
        if missing.take(index, stop - start - (byte >> 7)):
            assert index < 5 and not byte >> 7 and index not in taken
            taken.add(index)
    assert set(chunks.numbers(missing.ranges(), 5)) == set(range(5)) - taken
    assert missing.left == 5 - len(taken)
    if not taken:
        raise MadeNothing


DECODERS = [
    Decoder("model_file", _model, _models, (WeightsError,)),
    Decoder("delta", _delta, _deltas, (DeltaError,)),
    Decoder("codec_name", _chain_name, lambda: [one.encode() for one in CHAINS], (SettingsError,)),
    Decoder("payload", _payload, _payloads, (ValueError,)),
    Decoder("total", _total, _totals, (ValueError,)),
    Decoder("answer", _answer, _whole_answers, (WireError,), beside_bytes=2 * 1024 * 1024),
    Decoder("question", _asked, lambda: [_question()], (WeightsError, QueryError)),
    Decoder("sums", _told, _sums),
    Decoder("go", _asked_again, _orders, (WireError,)),
    Decoder("chunks", _assembled, lambda: [bytes(range(5)), bytes([4, 132, 0, 0, 9])]),
]
