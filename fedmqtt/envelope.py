"""The signed envelope around a message: who wrote it, to which topic, and that it is unchanged.

    written by     the bytes on the broker
    coordinator    C1 01 | signature 64 | message
    device         C1 02 | public key 32 | ticket 64 | signature 64 | message
    operator       C1 03 | public key 32 | ticket 64 | signature 64 | message
    worker         C1 04 | public key 32 | ticket 64 | signature 64 | message

No MessagePack begins with C1, so that a message without an envelope is told from one with it. What
is signed names the topic, and with it federation and client: a message is good nowhere else. The
table of topics says what is signed (`Channel.signed`); the keys are in `fedmqtt/signing.py`, which
is loaded only where credentials hold some.

The link puts messages into envelopes and takes them out (`mqtt_link.py`), so that machines and
decoders meet only what is proven.
"""

from typing import Final, NamedTuple, Protocol

from fedmqtt.topics import CHANNELS, Address

BY_COORDINATOR: Final = b"\xc1\x01"
BY_DEVICE: Final = b"\xc1\x02"
BY_OPERATOR: Final = b"\xc1\x03"
BY_WORKER: Final = b"\xc1\x04"
KEY_BYTES: Final = 32
TICKET_BYTES: Final = 64


_WRITERS: Final = (BY_COORDINATOR, BY_DEVICE, BY_OPERATOR, BY_WORKER)


class BadSignature(ValueError):
    """Its writer is not who may write there, as far as can be told; says why."""


class RevokedKey(BadSignature):
    """Its writer might write there once."""


class Author(NamedTuple):
    """The device that signed a message."""

    key: bytes
    """Public, 32 bytes."""
    ticket: bytes
    """64 bytes: that the federation gave it that key."""


class Seal(Protocol):
    """What one program signs by, and what it asks of others."""

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        """What to publish there."""

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        """The message. Raises BadSignature."""


class NoKeys:
    """Signs nothing and asks for nothing: of who was given no keys."""

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        return message

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        if is_signed(address) and payload.startswith(_WRITERS):
            raise BadSignature(
                "it is signed, and there is no key here to check it with: this federation wants"
                " credentials with keys, as `fedmqtt enroll` writes them"
            )
        return payload


NO_KEYS: Final = NoKeys()

NOTHING_IS_SIGNED: Final = (
    "these credentials hold no keys: nothing is signed, and the broker is believed. A kit that is"
    " made now gives keys to everyone"
)

KEYS_MAY_BE_WANTED: Final = (
    "nobody answered, and clients are there. Devices that have keys hear no coordinator without: if"
    " these have, start with --credentials KIT/accounts/coordinator.toml"
)


def is_signed(address: Address) -> bool:
    return CHANNELS[type(address)].signed


def author(address: Address, payload: bytes) -> Author | None:
    """Who signed it, once a seal has opened it; None where that was no device."""
    if not is_signed(address) or not payload.startswith(BY_DEVICE):
        return None
    key_end = len(BY_DEVICE) + KEY_BYTES
    return Author(payload[len(BY_DEVICE) : key_end], payload[key_end : key_end + TICKET_BYTES])


def clears(address: Address, payload: bytes) -> bool:
    """Whether it takes away what is retained there: that is empty, and cannot be signed."""
    return not payload and CHANNELS[type(address)].retain
