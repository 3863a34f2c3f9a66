"""What a client signs of its masked answer, so that keyholders see whose it is and what it is for.

They never see the payload: its SHA-256 stands for it. That the device is registered follows from
its ticket, which the federation's key signed.

The key is not among what is signed, as Ed25519 hashes it with every message: a signature that holds
under one key holds under no other. The ticket says whose key it is. So both are left out of the
answer: the coordinator takes them from the envelope that it came in.
"""

import hashlib
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from fedmqtt import signing
from fedmqtt.masking.sealing import fields
from fedmqtt.messages import Entry, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

_WHAT = b"fedmqtt 1 masked"


class NotAttested(ValueError):
    """A sentence that says what does not hold of an entry; names the client."""


class KeyRevoked(NotAttested):
    """All else may hold."""


def masking_digest(masking: Masking) -> bytes:
    """SHA-256 of how answers are masked, as `plain` encodes it."""
    return hashlib.sha256(plain(masking)).digest()


def plain(said_: Struct) -> bytes:
    """As MessagePack with the shortest headers, of what is said alone: what a newer program could
    say beside changes nothing. (A struct of more than 15 fields is encoded with a longer header,
    however few of them are written.)"""
    return msgspec.msgpack.encode(msgspec.to_builtins(said_, builtin_types=(bytes,)))


def said(
    federation: str,
    client: ClientId,
    run: RunId,
    round_id: RoundId,
    base: Digest,
    masking: bytes,
    exchange: bytes,
    sealed: Sequence[bytes],
    commitments: bytes,
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
        commitments,
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
    """That the client of this entry made it, for this, and is registered. Raises NotAttested, and
    KeyRevoked of it.

    `masking`: its digest; `is_revoked` is asked by public key, as text.
    """
    masked, client = entry.masked, entry.client
    if not signing.ticket_holds(federation_public, federation, client, entry.key, entry.ticket):
        raise NotAttested(f"{client} has no ticket of this federation")
    if is_revoked(signing.as_text(entry.key)):
        raise KeyRevoked(f"the key of {client} was revoked")
    digest = said(
        federation,
        client,
        run,
        round_id,
        base,
        masking,
        masked.exchange,
        masked.sealed,
        masked.commitments,
        entry.payload,
    )
    if not signing.holds(entry.key, masked.signature, digest):
        raise NotAttested(f"the answer of {client} is not what it signed, or not for this round")
