"""Sealed to one reader, for one purpose: X25519, HKDF-SHA256, ChaCha20-Poly1305.

    exchange           a fresh pair of keys, of the client
    round key          a pair of keys for one round, of the keyholder
    key of one seal    HKDF(X25519(exchange, round key), info = what it is for, both public keys)
    sealed             ChaCha20-Poly1305(that key, nonce 0, the seeds)

What it is for is in the key (`context`), so that nothing that was sealed for one client, round or
keyholder opens as another's. The nonce is always zero: each key seals once, and a keyholder must
stand in an offer once only (`masks_promise.py`).

Sources: RFC 7748 (X25519; its section 6.1 has both public keys go into the key), RFC 5869 (HKDF),
RFC 8439 (ChaCha20-Poly1305).
"""

from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmqtt.topics import ClientId, Digest, RoundId, RunId

SEAL_BYTES = 16
"""That what is sealed is longer than what is in it."""

_KEY_BYTES = 32
_INFO = b"fedmqtt 1 seeds"
_NONCE = bytes(12)


class NotOpened(ValueError):
    """It was not sealed to this key for this purpose, or was changed on its way."""


class NotSealed(ValueError):
    """Nothing can be sealed to what should be a public key."""


def new_round_key() -> tuple[bytes, bytes]:
    """A private key and its public one, of 32 bytes each."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def context(
    federation: str,
    run: RunId,
    round_id: RoundId,
    client: ClientId,
    base: Digest,
    keyholder: ClientId,
    number: int,
) -> bytes:
    """What a seal is for; `number`: of the keyholder's round key."""
    return fields(
        federation.encode(),
        run.encode(),
        round_id.to_bytes(8),
        client.encode(),
        base.encode(),
        keyholder.encode(),
        number.to_bytes(8),
    )


def fields(*parts: bytes) -> bytes:
    """Parts one after the other, each behind its length: there is one way to read them."""
    return b"".join(piece for part in parts for piece in (len(part).to_bytes(4), part))


class Exchange:
    """A client's keys for one answer."""

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def new(cls) -> Self:
        return cls(new_round_key()[0])

    def seal(self, recipient_public: bytes, context: bytes, secret: bytes) -> bytes:
        """`secret` for the reader who has the private half of this key. Once for each context.

        Raises NotSealed.
        """
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(recipient_public))
        except ValueError as bad:
            raise NotSealed("what should be a keyholder's round key is none") from bad
        key = _key(shared, context, self.public, recipient_public)
        return ChaCha20Poly1305(key).encrypt(_NONCE, secret, None)


def open_sealed(private: bytes, exchange: bytes, context: bytes, sealed: bytes) -> bytes:
    """What was sealed; `exchange`: the client's public key. Raises NotOpened."""
    own = X25519PrivateKey.from_private_bytes(private)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(exchange))
        key = _key(shared, context, exchange, own.public_key().public_bytes_raw())
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
    except (InvalidTag, ValueError) as bad:
        raise NotOpened("its seeds were not sealed to this key, for this") from bad


def _key(shared: bytes, context: bytes, exchange: bytes, recipient: bytes) -> bytes:
    info = _INFO + fields(context, exchange, recipient)
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(shared)
