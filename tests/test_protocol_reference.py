"""The protocol's reference and vectors are what the code says, and what other libraries read."""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from nacl.signing import VerifyKey
from numpy.typing import NDArray

from fedmqtt import deltas, weights
from fedmqtt.messages import Message
from tests import protocol_reference
from tests.fedmqtt.test_messages import EXAMPLES
from tests.protocol_vectors import ENCODINGS, MESSAGES, VECTORS, plain

TOLD: list[dict[str, Any]] = json.loads(MESSAGES.read_text(encoding="utf-8"))
CODED: dict[str, Any] = json.loads(ENCODINGS.read_text(encoding="utf-8"))
_ENVELOPES = {b"\xc1\x01": (64,), b"\xc1\x02": (32, 64, 64)}
"""By how they begin: how long what follows is, before the message."""


def test_the_reference_and_the_vectors_are_as_the_code_has_them() -> None:
    for path, text in protocol_reference.files().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} is old: python -m tests.protocol_reference"
        )


@pytest.mark.parametrize("kind", [*Message.__subclasses__(), *protocol_reference.records()])
def test_every_field_is_described(kind: type[Message]) -> None:
    lacking = [name for name, told in protocol_reference.described(kind).items() if not told]
    assert lacking == [], f"{kind.__name__}: {lacking} have no docstring"


@pytest.mark.parametrize("told", TOLD, ids=lambda told: str(told["name"]))
def test_a_vector_is_its_file_and_says_what_is_in_it(told: dict[str, Any]) -> None:
    data = (VECTORS / f"{told['name']}.bin").read_bytes()
    assert bytes.fromhex(told["hex"]) == data
    assert plain(msgpack.unpackb(data)) == told["fields"]
    assert told["topic"].startswith("fed/v1/demo/")


def test_each_file_of_bytes_is_described() -> None:
    assert {told["name"] for told in TOLD} == set(EXAMPLES)
    assert {path.stem for path in VECTORS.glob("*.bin")} == set(EXAMPLES)


def test_the_model_file_is_read_by_hand() -> None:
    told = CODED["model_file"]
    data = bytes.fromhex(told["hex"])
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    assert unpacker.unpack() == {"format": "fedmqtt-weights-1", "tensors": told["tensors"]}
    numbers = np.frombuffer(data[unpacker.tell() :], "<f4")
    assert numbers.tolist() == told["numbers"]
    assert hashlib.sha256(data).hexdigest() == told["sha256"]
    named = hashlib.sha256(told["fingerprint_of"].encode()).hexdigest()
    assert named[:16] == told["fingerprint"]


def test_a_delta_file_makes_the_model_that_it_names() -> None:
    told = CODED["delta_file"]
    base = bytes.fromhex(told["base_hex"])
    assert hashlib.sha256(base).hexdigest() == told["base_sha256"]
    file = bytes.fromhex(told["hex"])
    assert hashlib.sha256(file).hexdigest() == told["sha256"]
    layout, old = weights.read(base)
    made = deltas.apply(old, file, layout.shapes)
    assert made.tolist() == told["numbers"]
    assert weights.digest(weights.write(layout, made)) == told["model_sha256"]


def test_lanes_and_draws_are_those_of_other_libraries() -> None:
    for told in CODED["lanes"]:
        assert zlib.crc32(told["client"].encode()) % told["lanes"] == told["lane"]
    for told in CODED["sortition"]:
        head = f"{told['salt']}/{told['round']}/{told['purpose']}/"
        for client, draw in told["draws"].items():
            drawn = hashlib.sha256(f"{head}{client}".encode()).digest()[:7]
            assert int.from_bytes(drawn, "big") == int(draw["int"])


def words(seed: str, count: int) -> NDArray[np.uint64]:
    """Random bits, as docs/protocol.md says how they are made."""
    digest = hashlib.sha256(seed.encode()).digest()
    return np.random.PCG64(int.from_bytes(digest, "big")).random_raw(count).astype("<u8")


def test_the_chance_of_codecs_is_made_as_the_protocol_says() -> None:
    told = CODED["chance"]
    own = f"codec/own/{told['seed']}/{told['round']}/{told['client']}"
    shared = f"codec/shared/{told['seed']}/{told['round']}"
    assert (told["own"], told["shared"]) == (own, shared)
    assert told["rounding_words_own"] == [str(one) for one in words(f"{own}/rounding", 4)]
    assert told["part_words_shared"] == [str(one) for one in words(f"{shared}/part", 4)]


def _upper_halves(data: bytes) -> NDArray[np.float32]:
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _of_int4(data: bytes, size: int) -> NDArray[np.float32]:
    blocks = -(-size // 64)
    pairs = np.frombuffer(data[2 * blocks :], np.uint8).astype(np.int64)
    levels = np.concatenate([pairs & 15, pairs >> 4])[:size] - 8
    found: NDArray[np.float32] = levels * np.repeat(_upper_halves(data[: 2 * blocks]), 64)[:size]
    return found


def _of_int8(data: bytes, size: int) -> NDArray[np.float32]:
    blocks = -(-size // 1024)
    steps = np.repeat(np.frombuffer(data[: 4 * blocks], "<f4"), 1024)[:size]
    found: NDArray[np.float32] = np.frombuffer(data[4 * blocks :], np.int8) * steps
    return found


def _of_part(data: bytes, size: int) -> NDArray[np.float32]:
    """Of half of the numbers, in full precision."""
    kept = -(-size // 2)
    drawn = words(f"{CODED['chance']['shared']}/part", kept).view("<u4")[:kept]
    found = np.zeros(size, np.float32)
    for i, (value, chance) in enumerate(zip(np.frombuffer(data, "<f4"), drawn, strict=True)):
        start, stop = i * size // kept, (i + 1) * size // kept
        found[start + (int(chance) * (stop - start) >> 32)] = value
    return found


_BY_HAND: dict[str, Callable[[bytes, int], NDArray[Any]]] = {
    "full": lambda data, size: np.frombuffer(data, "<f4"),
    "float16": lambda data, size: np.frombuffer(data, "<f2"),
    "bfloat16": lambda data, size: _upper_halves(data),
    "int8": _of_int8,
    "int4": _of_int4,
    "part(share=0.5)+full": _of_part,
}


@pytest.mark.parametrize("told", CODED["codecs"], ids=lambda told: str(told["codec"]))
def test_numbers_are_coded_as_the_protocol_says(told: dict[str, Any]) -> None:
    data, size = bytes.fromhex(told["hex"]), len(told["numbers"])
    found = _BY_HAND[told["codec"]](data, size).astype(np.float64)
    np.testing.assert_allclose(found, told["decoded"], rtol=1e-6)
    if told["codec"].startswith("part"):
        # Multiplied by the length of its run.
        doubled = np.where(found != 0, 2 * np.array(told["numbers"]), 0)
        np.testing.assert_allclose(found, doubled, rtol=1e-6)
    else:
        step = max(map(abs, told["numbers"])) / (7 if told["codec"] == "int4" else 127)
        np.testing.assert_allclose(found, told["numbers"], atol=1.01 * step)


def test_what_is_signed_is_proven_without_our_code() -> None:
    told = CODED["signatures"]
    federation, device = (base64.b64decode(told[name]) for name in ("federation_key", "public_key"))
    ticket = base64.b64decode(told["ticket"])
    names = (told["federation"].encode(), told["client"].encode())
    VerifyKey(federation).verify(b"\0".join((b"fedmqtt 1 ticket", *names, device)), ticket)
    for one in told["sealed"]:
        published = bytes.fromhex(one["published_hex"])
        message = (VECTORS / f"{one['message']}.bin").read_bytes()
        if one["message"] == "chunk":
            # The announcement is signed, and names the digest of the whole.
            assert published == message
            continue
        assert published.endswith(message)
        kind, sizes = published[:2], _ENVELOPES[published[:2]]
        assert len(published) == 2 + sum(sizes) + len(message)
        signature = published[-len(message) - 64 : -len(message)]
        by_federation = kind == b"\xc1\x01"
        key = federation if by_federation else device
        what = b"fedmqtt 1 coordinator" if by_federation else b"fedmqtt 1 device"
        said = (what, one["topic"].encode(), hashlib.sha256(message).digest())
        VerifyKey(key).verify(b"\0".join(said), signature)
        if kind == b"\xc1\x02":
            assert published[2:98] == device + ticket
