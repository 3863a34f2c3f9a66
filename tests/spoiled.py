"""A masked answer that is well signed, and whose seals some keyholders cannot open: nobody but they
can tell."""

import hashlib
from collections.abc import Collection

from msgspec import structs

from fedmqtt.masking import attested
from fedmqtt.messages import Masked, Masking
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

What = tuple[str, ClientId, RunId, RoundId, Digest]
"""Federation, client, run, round and base."""


def spoiled(
    masked: Masked,
    payload: bytes,
    masking: Masking,
    what: What,
    signing_key: str,
    keyholders: Collection[str],
) -> Masked:
    """The same, with nonsense in the place of what it seals to these, and signed as it is."""
    sealed = tuple(
        bytes(len(seal)) if keyholder.name in keyholders else seal
        for keyholder, seal in zip(masking.keyholders, masked.sealed, strict=True)
    )
    said = attested.said(
        *what,
        attested.masking_digest(masking),
        masked.exchange,
        sealed,
        hashlib.sha256(payload).digest(),
    )
    return structs.replace(masked, sealed=sealed, signature=attested.sign(signing_key, said))
