"""Keyholders that a device knows, and how answers are masked that they can open."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from edge_client.privacy import Privacy, Terms
from fedmqtt import signing
from fedmqtt.masking import commitments, sealing, seeds
from fedmqtt.messages import Keyholder, Masked, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

FEDERATION = "demo"
HOLDERS = tuple(ClientId(name) for name in ("kh-a", "kh-b", "kh-c"))
OWN_KEYS = {name: signing.new_key() for name in HOLDERS}
_ROUND_KEYS = {name: sealing.new_round_key() for name in HOLDERS}
ROUND_PRIVATE = {name: private for name, (private, _) in _ROUND_KEYS.items()}
PINNED = {name: signing.public_key(key) for name, key in OWN_KEYS.items()}
NUMBER = 7
"""Of the keyholders' keys for this round."""


def keyholder(name: ClientId, place: int) -> Keyholder:
    _, public = _ROUND_KEYS[name]
    return Keyholder(
        name, place, signing.round_key(OWN_KEYS[name], FEDERATION, name, NUMBER, public)
    )


def masking(names: Sequence[ClientId] = HOLDERS, **changes: Any) -> Masking:
    """For three keyholders of which one may leak."""
    usual = Masking(
        mode="keyholders",
        keyholders=tuple(keyholder(name, place) for place, name in enumerate(names)),
        places=3,
        tolerated=1,
        floor=3,
        bits=24,
        value_bits=20,
        change_max=4.0,
    )
    return structs.replace(usual, **changes)


def trusted(**changes: Any) -> Masking:
    """For one aggregator."""
    alone: dict[str, Any] = {"mode": "trusted", "places": 1, "tolerated": 0}
    return masking(HOLDERS[:1], **alone | changes)


def committee(**changes: Any) -> Masking:
    """For three members, of which one may leak."""
    hidden: dict[str, Any] = {"mode": "committee", "bits": 20, "guard": 10}
    return masking(**hidden | changes)


def terms(**asked: Any) -> Terms:
    """Of a device that knows all of them, and whose owner asks this."""
    return Terms(asked=Privacy(**asked), federation=FEDERATION, lacking="", pinned=PINNED)


def keys_of(masked: Masked, masking: Masking, client: ClientId, base: Digest) -> list[bytes]:
    """Of all masks of an answer to round 1 of run r, as its keyholders together know them."""
    found: dict[int, bytes] = {}
    held = seeds.held_by(masking.places, masking.tolerated)
    told = (FEDERATION, RunId("r"), RoundId(1), client, base)
    what = commitments.context(*told, masked.exchange)
    for holder, sealed in zip(masking.keyholders, masked.sealed, strict=True):
        what_for = sealing.context(*told, holder.name, holder.key.number)
        share = sealing.open_sealed(ROUND_PRIVATE[holder.name], masked.exchange, what_for, sealed)
        keys = commitments.keys(masking, holder.place, what, share, masked.commitments)
        found |= zip(held[holder.place], keys, strict=True)
    return [found[number] for number in sorted(found)]
