"""Masked answers are made as docs/masked-answers.md says: by us, and by who knows nothing else."""

import base64
import hashlib
import json
from itertools import islice
from typing import Any

import msgpack
import numpy as np
import pytest
from nacl.signing import VerifyKey

from coordinator.masking.masked_sum import MaskedSum
from edge_client import privacy
from edge_client.privacy import Terms
from fedmqtt import codec_chance, envelope, messages, signing
from fedmqtt.masking import listing, packing, seeds, values
from fedmqtt.masking.masks import add_masks
from fedmqtt.messages import Entry, Offer, Open, Update
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from keyholder import sums
from keyholder.sums import Keeper
from tests import masks_by_hand
from tests.fedmqtt.masking.test_masks import KEYSTREAMS
from tests.protocol_vectors import MASKS

TOLD: dict[str, Any] = json.loads(MASKS.read_text(encoding="utf-8"))
ROUNDS: dict[str, Any] = TOLD["rounds"]
MODES = list(ROUNDS)


def _by_hand(mode: str, told: dict[str, Any], **other: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "federation": TOLD["federation"],
        "client": told["client"],
        "offer_bytes": bytes.fromhex(ROUNDS[mode]["offer_hex"]),
        "change": told["change"],
        "samples": told["sample_count"],
        "signing_key": told["signing_key"],
        "exchange_private": bytes.fromhex(told["exchange_private_hex"]),
        "drawn": [bytes.fromhex(one["seed_hex"]) for one in told["seeds"]],
    }
    return masks_by_hand.answer(**given | other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [0, 1])
def test_an_answer_made_by_the_page_alone_is_the_vectors_to_the_byte(
    mode: str, number: int
) -> None:
    told = ROUNDS[mode]["answers"][number]
    wanted = msgpack.unpackb(bytes.fromhex(told["update_hex"]))
    made = _by_hand(mode, told)
    assert made == {name: wanted[name] for name in made}
    # And all else in ours says nothing.
    rest = {name: value for name, value in wanted.items() if name not in made}
    assert rest == {
        **{"wire": 1, "metrics": {}, "measures": None, "method": "", "steps": 0},
        **{"base_loss": None, "since": 0, "whole": False, "interval": 1.0},
    }


@pytest.mark.parametrize("mode", MODES)
def test_what_an_offer_says_is_digested_as_the_page_says(mode: str) -> None:
    offer = msgpack.unpackb(bytes.fromhex(ROUNDS[mode]["offer_hex"]))
    text = masks_by_hand.work(offer)
    assert text == '{"codec":"full","seed":7,"task":"digits","training":{"learning_rate":0.00001}}'
    assert hashlib.sha256(text.encode()).hexdigest() == ROUNDS[mode]["work_hex"]
    masking = msgpack.packb(offer["masking"])
    assert masking.hex() == ROUNDS[mode]["masking_hex"]
    assert hashlib.sha256(masking).hexdigest() == ROUNDS[mode]["masking_sha256"]


@pytest.mark.parametrize("told", TOLD["words"], ids=lambda told: str(told["what"]))
def test_a_change_becomes_the_whole_numbers_that_the_page_says(told: dict[str, Any]) -> None:
    masking, change, measures = told["masking"], told["change"], told["measures"]
    found = masks_by_hand.whole_numbers(
        masking, change, told["sample_count"], told["seed"], TOLD["round"], measures
    )
    assert found == (told["body"], told["tail"])


def test_the_keystream_of_these_tests_is_that_of_rfc_8439() -> None:
    wanted = np.frombuffer(bytes.fromhex(KEYSTREAMS[bytes(32)]), "<u4").tolist()
    assert list(islice(masks_by_hand.keystream(bytes(32)), len(wanted))) == wanted


@pytest.mark.parametrize("told", TOLD["masks"], ids=lambda told: str(told["key_hex"][:2]))
def test_a_mask_is_that_keystream(told: dict[str, Any]) -> None:
    words = masks_by_hand.keystream(bytes.fromhex(told["key_hex"]))
    assert list(islice(words, len(told["words"]))) == told["words"]


def _read(offer_hex: str) -> Offer:
    return messages.read_offer(bytes.fromhex(offer_hex))


@pytest.mark.parametrize("mode", MODES)
def test_keyholders_and_coordinator_open_what_was_made_by_the_page_alone(mode: str) -> None:
    offer, federation = _read(ROUNDS[mode]["offer_hex"]), signing.new_key()
    assert offer.masking is not None
    how = offer.masking
    size = len(ROUNDS[mode]["answers"][0]["change"])
    body = values.body_size(how, size)
    total = MaskedSum(body, values.tail_size(how, body), how.bits)
    entries = []
    for at, told in enumerate(ROUNDS[mode]["answers"]):
        # Other secrets than the vectors', of which our code knows nothing.
        drawn = [bytes([16 * at + number] * 16) for number in range(len(told["seeds"]))]
        fields = _by_hand(mode, told, drawn=drawn, exchange_private=bytes([at + 1] * 32))
        update = messages.read_from_client(msgpack.packb(fields))
        assert isinstance(update, Update) and update.masked is not None
        total.add(update.payload)
        ticket = signing.ticket(federation, TOLD["federation"], told["client"], told["public_key"])
        entries.append(
            Entry(
                ClientId(told["client"]),
                1,
                hashlib.sha256(update.payload).digest(),
                update.masked,
                signing.as_bytes(told["public_key"]),
                signing.as_bytes(ticket, envelope.TICKET_BYTES),
            )
        )
    asked = Open(
        run=RunId(TOLD["run"]),
        round=RoundId(TOLD["round"]),
        base=Digest(TOLD["base"]),
        masking=how,
        body=body,
        tail=values.tail_size(how, body),
        digest=bytes(32),
        part=0,
        parts=1,
        entries=tuple(entries),
        seeds=(),
    )
    (whole,) = listing.parts(asked, 1 << 20)
    opened = total.open(_mask_sums(whole, federation).values())
    shared = codec_chance.of_answer(offer.seed, offer.round, ClientId("ann")).shared
    mean = values.from_sum(how, opened, size, len(entries), shared)
    wanted = ROUNDS[mode]["sum"]
    assert (mean.weight, mean.clipped) == (wanted["weight"], wanted["clipped"])
    assert mean.change.tolist() == wanted["mean"]


def _mask_sums(whole: Open, federation: str) -> dict[int, packing.Words]:
    """By seed, as any keyholder that holds it finds it; all who hold it find the same."""
    how = whole.masking
    held = seeds.held_by(how.places, how.tolerated)
    found: dict[int, packing.Words] = {}
    for told, one in zip(TOLD["keyholders"], how.keyholders, strict=False):
        keeper = Keeper(
            federation=TOLD["federation"],
            federation_key=signing.public_key(federation),
            name=one.name,
        )
        private = bytes.fromhex(told["round_key_private_hex"])
        shares = sums.shares(whole, keeper, private)
        for at, number in enumerate(held[one.place]):
            words = np.zeros(whole.body + whole.tail, np.uint32)
            for share in shares:
                add_masks(words, [(share.keys[at], share.times)])
            assert np.array_equal(found.setdefault(number, words), words)
    return found


def test_keyholders_sign_the_keys_that_are_sealed_to() -> None:
    """As devices look, by the key in their credentials."""
    offer = msgpack.unpackb(bytes.fromhex(ROUNDS["keyholders"]["offer_hex"]))
    publics = {one["name"]: one["public_key"] for one in TOLD["keyholders"]}
    for name, _, (number, public, signature) in offer["masking"]["keyholders"]:
        text = b"\0".join(
            (b"fedmqtt 1 round key", b"demo", name.encode(), number.to_bytes(8, "big"), public)
        )
        VerifyKey(base64.b64decode(publics[name])).verify(text, signature)


@pytest.mark.parametrize("mode", MODES)
def test_a_device_would_answer_the_offer_of_the_vectors(mode: str) -> None:
    pinned = {ClientId(one["name"]): one["public_key"] for one in TOLD["keyholders"]}
    terms = Terms(federation=TOLD["federation"], lacking="", pinned=pinned)
    assert privacy.fault(_read(ROUNDS[mode]["offer_hex"]), "train", terms) == ""
