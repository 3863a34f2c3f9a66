"""Writes docs/vectors/*.json: what the golden bytes beside them say, and vectors of what is no
message (of masks: `mask_vectors.py`): `python -m tests.protocol_reference`.

The bytes of messages are those in docs/vectors/*.bin, which `pytest tests/fedmqtt --rewrite`
records. Keys, names and numbers are made up, and the same each time.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from fedmqtt import chunks, codec_chain, codec_chance, deltas, signing, sortition, weights
from fedmqtt.messages import (
    PURPOSES,
    Announce,
    AnyMessage,
    Ask,
    Chunk,
    Claim,
    Claims,
    Decline,
    Evaluation,
    Go,
    Lanes,
    Offer,
    Open,
    Opened,
    Order,
    OrderAnswer,
    Passed,
    Presence,
    Receipt,
    Seat,
    Sum,
    SumPiece,
    TimeLeft,
    Update,
    Verdicts,
    Working,
)
from fedmqtt.topics import (
    ANNOUNCE,
    CHANNELS,
    Address,
    ClientId,
    CoordinatorSeat,
    Inbox,
    LanesOf,
    OfferBoard,
    OrderOf,
    OrderReply,
    PresenceOf,
    RoundId,
    SeatClaim,
    Topics,
    UpdatePart,
    WorkOf,
    lane_of,
)
from fedmqtt.weights import Array, Layout
from tests import mask_vectors
from tests.fedmqtt.test_messages import EXAMPLES
from tests.fedmqtt.test_weights import NET_LAYOUT

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "docs" / "vectors"
MESSAGES = VECTORS / "messages.json"
ENCODINGS = VECTORS / "encodings.json"
MASKS = VECTORS / "masks.json"

FEDERATION = "demo"
TOPICS = Topics(FEDERATION)
ANN = ClientId("ann")
ONE = RoundId(1)
_LANES = 4
_SEED = 7
_INT_MAX = 2**53
"""Beyond it JSON's numbers are not exact everywhere."""
_CODECS = ("full", "float16", "bfloat16", "int8", "int4", "part(share=0.5)+full")
"""Those whose bytes are the same on every machine, whatever it rounds or compresses by."""


def files() -> dict[Path, str]:
    told = {MESSAGES: messages(), ENCODINGS: encodings(), MASKS: mask_vectors.masks_file()}
    return {path: _text(one) for path, one in told.items()}


def messages() -> list[dict[str, Any]]:
    """Of each golden file: where it would be published, and what any MessagePack library reads."""
    return [_message(name, message) for name, message in EXAMPLES.items()]


def address_of(message: AnyMessage, client: ClientId = ANN) -> Address:
    """Where it goes: of an answer, as part of that of `client` to round 1."""
    match message:
        case Offer():
            return OfferBoard()
        case Presence():
            return PresenceOf(client)
        case Receipt() | Go() | TimeLeft() | Open():
            return Inbox(client)
        case Seat():
            return CoordinatorSeat()
        case Claim():
            return SeatClaim()
        case Announce():
            return UpdatePart(lane_of(client, _LANES), client, ONE, ANNOUNCE)
        case Update() | Evaluation() | Decline() | Chunk() | Opened():
            return UpdatePart(lane_of(client, _LANES), client, ONE, "0")
        case Ask() | Order():
            return OrderOf(client)
        case OrderAnswer():
            return OrderReply(client)
        case Working() | Claims() | Passed() | SumPiece() | Sum():
            # (A sum is what its pieces come to.)
            return WorkOf(client)
        case Lanes() | Verdicts():
            return LanesOf(client)


def encodings() -> dict[str, Any]:
    """Of all that is no message."""
    return {
        "model_file": _model_file(),
        "delta_file": _delta_file(),
        "lanes": [
            {"client": client, "lanes": lanes, "lane": lane_of(ClientId(client), lanes)}
            for client in ("ann", "bob", "pi-3")
            for lanes in (1, 4, 64)
        ],
        "sortition": [_draw("7-aaaaaaaaaaaaaaaa", 1, purpose) for purpose in PURPOSES],
        "chunks": [_spans(*sizes) for sizes in ((2500, 1024), (2048, 1024), (1, 1024))],
        "chance": _chance(),
        "codecs": [_codec(codec) for codec in _CODECS],
        "signatures": _signatures(),
    }


def _message(name: str, message: AnyMessage) -> dict[str, Any]:
    data = (VECTORS / f"{name}.bin").read_bytes()
    where = address_of(message)
    channel = CHANNELS[type(where)]
    return {
        "name": name,
        "topic": TOPICS.path(where),
        "written_by": channel.writer,
        "retained": channel.retain,
        "signed_with_keys": channel.signed and not isinstance(message, Chunk),
        "fields": plain(msgpack.unpackb(data)),
        "hex": data.hex(),
    }


def plain(value: Any) -> Any:
    """In JSON: bytes are {"hex": ...}, numbers beyond 2^53 {"int": ...}."""
    match value:
        case bytes():
            return {"hex": value.hex()}
        case bool():
            return value
        case int() if abs(value) > _INT_MAX:
            return {"int": str(value)}
        case list():
            return [plain(one) for one in value]
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case _:
            return value


def _model_file() -> dict[str, Any]:
    data = (VECTORS / "weights.model").read_bytes()
    layout, flat = weights.read(data)
    assert layout == NET_LAYOUT
    return {
        "hex": data.hex(),
        "tensors": [[name, list(shape)] for name, shape in layout.tensors],
        "numbers": flat.tolist(),
        "sha256": weights.digest(data),
        "fingerprint_of": "w:2x3:f4;b:2:f4;scale::f4",
        "fingerprint": layout.fingerprint,
    }


def _numbers() -> Array:
    """Of a change: small, of both signs, with a zero and one that codecs round."""
    return np.array([0, 1, -1, 0.3, -0.25, 3, 0.125, -2, 0.0625, 1.5, -0.75, 2.5], np.float32)


def _delta_file() -> dict[str, Any]:
    layout = Layout((("weight", (4, 2)), ("bias", (4,))))
    old, change = np.arange(12, dtype=np.float32), _numbers()
    base = weights.digest(weights.write(layout, old))
    chain = codec_chain.read("int8")
    file, made = deltas.write(chain, base, 2, old, old + change, layout.shapes)
    new = weights.write(layout, made)
    return {
        "base_hex": weights.write(layout, old).hex(),
        "base_sha256": base,
        "hex": file.hex(),
        "sha256": hashlib.sha256(file).hexdigest(),
        "numbers": made.tolist(),
        "model_sha256": weights.digest(new),
    }


def _draw(salt: str, number: int, purpose: Any) -> dict[str, Any]:
    clients = [ClientId("ann"), ClientId("bob")]
    drawn = sortition.draws(salt, RoundId(number), purpose, clients)
    named = dict(zip(clients, map(plain, drawn), strict=True))
    return {"salt": salt, "round": number, "purpose": purpose, "draws": named}


def _spans(size_bytes: int, chunk_bytes: int) -> dict[str, Any]:
    count = chunks.count(size_bytes, chunk_bytes)
    spans = [list(chunks.span(index, size_bytes, chunk_bytes)) for index in range(count)]
    return {"size_bytes": size_bytes, "chunk_bytes": chunk_bytes, "spans": spans}


def _chance() -> dict[str, Any]:
    chances = codec_chance.of_answer(_SEED, ONE, ANN)
    return {
        "seed": _SEED,
        "round": ONE,
        "client": ANN,
        "own": chances.own.name,
        "shared": chances.shared.name,
        "rounding_words_own": [str(word) for word in chances.own.words("rounding", 4)],
        "part_words_shared": [str(word) for word in chances.shared.words("part", 4)],
    }


def _codec(text: str) -> dict[str, Any]:
    chain, numbers = codec_chain.read(text), _numbers()
    chances = codec_chance.of_answer(_SEED, ONE, ANN)
    data = bytes(chain.encode(numbers, chances))
    return {
        "codec": chain.text,
        "numbers": numbers.tolist(),
        "hex": data.hex(),
        "decoded": chain.decode(data, numbers.size, chances).tolist(),
    }


def _signatures() -> dict[str, Any]:
    federation, device = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    public = signing.public_key(device)
    ticket = signing.ticket(federation, FEDERATION, ANN, public)
    as_federation = signing.CoordinatorSeal(FEDERATION, federation)
    as_device = signing.DeviceSeal(device, ticket, signing.public_key(federation))
    sealed = []
    for name in ("offer", "receipt_accepted", "update", "announce", "chunk"):
        message = EXAMPLES[name]
        where = address_of(message)
        seal = as_federation if CHANNELS[type(where)].writer == "coordinator" else as_device
        topic, data = TOPICS.path(where), (VECTORS / f"{name}.bin").read_bytes()
        published = seal.sealed(where, topic, data)
        sealed.append({"message": name, "topic": topic, "published_hex": published.hex()})
    return {
        "federation": FEDERATION,
        "client": ANN,
        "federation_signing_key": federation,
        "federation_key": signing.public_key(federation),
        "signing_key": device,
        "public_key": public,
        "ticket": ticket,
        "sealed": sealed,
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
