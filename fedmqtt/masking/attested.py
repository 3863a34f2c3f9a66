"""What a client signs of its masked answer, so that keyholders see whose it is and what it is for.

They never see the payload: its SHA-256 stands for it. That the device is registered follows from
its ticket, which the federation's key signed.
"""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from fedmqtt import signing
from fedmqtt.masking.sealing import fields
from fedmqtt.messages import Entry, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

_WHAT = b"fedmqtt 1 masked"


class NotAttested(ValueError):
    """A sentence that says what does not hold of an entry; names the client."""


def masking_digest(masking: Masking) -> bytes:
    """SHA-256 of how answers are masked, as it is encoded."""
    return hashlib.sha256(msgspec.msgpack.encode(masking)).digest()


def said(
    federation: str,
    client: ClientId,
    run: RunId,
    round_id: RoundId,
    base: Digest,
    masking: bytes,
    exchange: bytes,
    sealed: Sequence[bytes],
    payload: bytes,
) -> bytes:
    """SHA-256 of what is signed. `masking`: its digest; `payload`: its SHA-256."""
    text = fields(
        _WHAT,
        federation.encode(),
        client.encode(),
        run.encode(),
        round_id.to_bytes(8),
        base.encode(),
        masking,
        exchange,
        fields(*sealed),
        payload,
    )
    return hashlib.sha256(text).digest()


def sign(signing_key: str, digest: bytes) -> bytes:
    """Of what `said` gives, by a device's key as in its credentials. Raises signing.BadKey."""
    return signing.signature(signing_key, digest)


def check(
    federation: str,
    federation_public: str,
    run: RunId,
    round_id: RoundId,
    base: Digest,
    masking: bytes,
    entry: Entry,
    is_revoked: Callable[[str], bool] = lambda key: False,
) -> None:
    """That the client of this entry made it, for this, and is registered. Raises NotAttested.

    `masking`: its digest; `is_revoked` is asked by public key, as text.
    """
    masked, client = entry.masked, entry.client
    if not signing.ticket_holds(federation_public, federation, client, masked.key, masked.ticket):
        raise NotAttested(f"{client} has no ticket of this federation")
    if is_revoked(signing.as_text(masked.key)):
        raise NotAttested(f"the key of {client} was revoked")
    digest = said(
        federation,
        client,
        run,
        round_id,
        base,
        masking,
        masked.exchange,
        masked.sealed,
        entry.payload,
    )
    if not signing.holds(masked.key, masked.signature, digest):
        raise NotAttested(f"the answer of {client} is not what it signed, or not for this round")
