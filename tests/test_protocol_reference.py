"""The protocol's reference and vectors are what the code says, and what other libraries read."""

import base64
import hashlib
import json
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from nacl.signing import VerifyKey

from fedmqtt import codec_chain, codec_chance, deltas, weights
from fedmqtt.messages import Message
from fedmqtt.topics import ClientId, RoundId
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


@pytest.mark.parametrize("told", CODED["codecs"], ids=lambda told: str(told["codec"]))
def test_what_a_codec_wrote_is_read_as_the_vectors_say(told: dict[str, Any]) -> None:
    chance = CODED["chance"]
    chances = codec_chance.of_answer(
        chance["seed"], RoundId(chance["round"]), ClientId(chance["client"])
    )
    data = bytes.fromhex(told["hex"])
    size = len(told["numbers"])
    decoded = codec_chain.read(told["codec"]).decode(data, size, chances)
    assert decoded.tolist() == told["decoded"]
    step = max(map(abs, told["numbers"])) / 127
    # A part is multiplied by the length of its runs; of the largest numbers some are left out.
    if told["codec"] in ("full", "float16", "bfloat16", "int8"):
        np.testing.assert_allclose(decoded, told["numbers"], atol=step)


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
