"""What an offer asks of those who train, as one digest, which each of them signs with its answer.

A sum hides its terms only where all were asked the same. A coordinator that asks nine devices for a
change of nothing, by a learning rate that is next to none, and one for its gradient, would read
that one's answer in their sum. So the digest is in the masking of a round: a device looks whether
it is of the offer that it works on, and keyholders open no sum of answers to different maskings.

All that an offer says is in it but what may differ between those who are asked alike: who is, until
when, by which coordinator, and from which model, which is signed by itself.
"""

import hashlib
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from fedmqtt.messages import Offer

_ASIDE: Final = frozenset(
    {
        *("wire", "epoch", "run", "round", "model", "model_file", "masking"),
        *("train", "evaluate", "sortition", "closes_in_s", "lanes", "spread_s", "late_rounds"),
    }
)


def digest(offer: Offer) -> bytes:
    """SHA-256, 32 bytes. What is as if it had not been said is left out: who does not know a newer
    field, or says it, comes to the same."""
    said = {name: told for name, told in _told(offer).items() if name not in _ASIDE}
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).digest()


def stamped(offer: Offer) -> Offer:
    """With its digest in its masking, where answers are masked."""
    if offer.masking is None:
        return offer
    return structs.replace(offer, masking=structs.replace(offer.masking, work=digest(offer)))


def _told(one: Struct) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in structs.fields(one):
        value = getattr(one, field.name)
        if value != field.default:
            found[field.name] = _told(value) if isinstance(value, Struct) else value
    return found
