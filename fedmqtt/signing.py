"""Keys and signatures (Ed25519): of the federation, of each device, of who gives orders or works.

    federation's key   made with the kit; a coordinator signs with it, everyone knows its public one
    device's key       made at enrolment; the device signs its answers with it
    ticket             the federation's signature of its own name, a device's name and public key,
                       made at enrolment: so that a coordinator needs no list of devices. A
                       coordinator has one of the federation's key, which nobody else looks at: by
                       it its credentials tell whether they are as they were made

What is signed of a message is its topic and its SHA-256. libsodium goes over what it is given once
to check and twice to sign, with SHA-512: 1 MB took 2.7 times as long to check as its SHA-256.

Keys and tickets of operators and of workers are as a device's, and good for nothing that a device's
are for: what a signature begins with tells them apart.

Loads libsodium (PyNaCl), 1 MB of memory: imported only where there are keys.

Source: RFC 8032, "Edwards-Curve Digital Signature Algorithm (EdDSA)".
"""

import base64
import functools
import hashlib
from binascii import Error as NoBase64
from collections.abc import Callable

from nacl import bindings
from nacl.exceptions import BadSignatureError

from fedmqtt import messages
from fedmqtt.envelope import (
    BY_COORDINATOR,
    BY_DEVICE,
    BY_OPERATOR,
    BY_WORKER,
    KEY_BYTES,
    TICKET_BYTES,
    BadSignature,
    RevokedKey,
    clears,
    is_signed,
)
from fedmqtt.messages import RoundKey
from fedmqtt.topics import CHANNELS, Address, OrderOf, UpdatePart, WorkOf

_SIGNATURE_BYTES = 64
_TICKETS_KNOWN = 16_384
"""That need not be checked again: a signature more for each answer otherwise, and one more when a
keyholder is shown it on a list. 0.5 kB each; a list of more finds none of its own."""

_OF_COORDINATOR, _OF_DEVICE, _OF_OPERATOR, _OF_WORKER = (
    b"fedmqtt 1 coordinator",
    b"fedmqtt 1 device",
    b"fedmqtt 1 operator",
    b"fedmqtt 1 worker",
)
_TICKET, _OPERATOR_TICKET, _WORKER_TICKET, _ROUND_KEY = (
    b"fedmqtt 1 ticket",
    b"fedmqtt 1 operator's ticket",
    b"fedmqtt 1 worker's ticket",
    b"fedmqtt 1 round key",
)
"""What a signature begins with that is for one thing must not be good for another."""


class BadKey(ValueError):
    """Text that is no key; says which, as credentials call it."""


def new_key() -> str:
    """A private key, as text."""
    return _text(bindings.randombytes(KEY_BYTES))


def public_key(private_key: str) -> str:
    """Raises BadKey."""
    return _text(_Signer(private_key).public)


def ticket(federation_private: str, federation: str, device: str, device_public: str) -> str:
    """That this device of the federation has this key. Raises BadKey."""
    signer = _Signer(federation_private)
    return _text(signer.sign(_ticket_text(federation, device, _bytes(device_public, KEY_BYTES))))


def operator_ticket(
    federation_private: str, federation: str, operator: str, operator_public: str
) -> str:
    """That who has this key may give this federation's coordinator orders. Raises BadKey."""
    key = _bytes(operator_public, KEY_BYTES)
    text = _ticket_text(federation, operator, key, _OPERATOR_TICKET)
    return _text(_Signer(federation_private).sign(text))


def worker_ticket(federation_private: str, federation: str, worker: str, worker_public: str) -> str:
    """That who has this key may add up answers for this federation's coordinator. Raises BadKey."""
    text = _ticket_text(federation, worker, _bytes(worker_public, KEY_BYTES), _WORKER_TICKET)
    return _text(_Signer(federation_private).sign(text))


def fits_operator(
    operator_private: str, ticket: str, federation_public: str, federation: str, operator: str
) -> bool:
    """As `fits`, of an operator."""
    return _fits(
        operator_private, ticket, federation_public, (federation, operator), _OPERATOR_TICKET
    )


def fits_worker(
    worker_private: str, ticket: str, federation_public: str, federation: str, worker: str
) -> bool:
    """As `fits`, of a worker."""
    return _fits(worker_private, ticket, federation_public, (federation, worker), _WORKER_TICKET)


def fits(
    device_private: str, ticket: str, federation_public: str, federation: str, device: str
) -> bool:
    """Whether the federation gave this device, or coordinator, this key. Raises BadKey."""
    return _fits(device_private, ticket, federation_public, (federation, device), _TICKET)


def _fits(
    private: str, ticket: str, federation_public: str, whose: tuple[str, str], what: bytes
) -> bool:
    text = _ticket_text(*whose, _Signer(private, "signing_key").public, what)
    return _holds(
        _bytes(federation_public, KEY_BYTES, "federation_key"),
        _bytes(ticket, TICKET_BYTES, "ticket"),
        text,
    )


def signature(private_key: str, text: bytes) -> bytes:
    """Of text that says what it is for. Raises BadKey."""
    return _Signer(private_key).sign(text)


def holds(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the key of these bytes signed this."""
    return _holds(public, signature, text)


def ticket_holds(
    federation_public: str, federation: str, device: str, key: bytes, ticket: bytes
) -> bool:
    """Whether the federation gave this device this key. Raises BadKey for the federation's."""
    try:
        _check_ticket(as_bytes(federation_public), federation, device, key, ticket)
    except _NoTicket:
        return False
    return True


class _NoTicket(Exception):
    pass


# What held once is remembered, and nothing else: an error is raised each time.
@functools.lru_cache(_TICKETS_KNOWN)
def _check_ticket(
    federation_public: bytes, federation: str, device: str, key: bytes, ticket: bytes
) -> None:
    if not _holds(federation_public, ticket, _ticket_text(federation, device, key)):
        raise _NoTicket


def round_key(
    private_key: str, federation: str, keyholder: str, number: int, public: bytes
) -> RoundKey:
    """A keyholder's key for one round, as it publishes it. Raises BadKey."""
    text = _round_key_text(federation, keyholder, number, public)
    return RoundKey(number, public, signature(private_key, text))


def is_round_key(keyholder_public: str, federation: str, keyholder: str, key: RoundKey) -> bool:
    """Whether this keyholder of the federation made this key. Raises BadKey."""
    text = _round_key_text(federation, keyholder, key.number, key.public)
    return _holds(_bytes(keyholder_public, KEY_BYTES), key.signature, text)


def as_text(key: bytes) -> str:
    """A key, or a ticket, as credentials and lists have it."""
    return _text(key)


def as_bytes(key: str, size: int = KEY_BYTES) -> bytes:
    """The bytes of such text. Raises BadKey."""
    return _bytes(key, size)


class CoordinatorSeal:
    """Signs as the federation, and asks it of other coordinators; and of devices their own keys,
    with tickets. Raises BadKey."""

    def __init__(
        self,
        federation: str,
        private_key: str,
        is_revoked: Callable[[str], bool] = lambda key: False,
    ) -> None:
        """`is_revoked` is asked for each answer of a device, by its public key as text."""
        self._federation = federation
        self._signer = _Signer(private_key, "signing_key")
        self._is_revoked = is_revoked

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        if clears(address, message) or not is_signed(address):
            return message
        signature = self._signer.sign(_said(_OF_COORDINATOR, topic, message))
        return b"".join((BY_COORDINATOR, signature, message))

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        if clears(address, payload) or not is_signed(address):
            return payload
        if isinstance(address, UpdatePart):
            return self._opened_of_device(address, topic, payload)
        if isinstance(address, OrderOf):
            return self._opened_of_operator(address, topic, payload)
        if isinstance(address, WorkOf):
            return self._opened_of_worker(address, topic, payload)
        return _opened_of_coordinator(self._signer.public, topic, payload)

    def _opened_of_device(self, address: UpdatePart, topic: str, payload: bytes) -> bytes:
        whose = (self._signer.public, self._federation, address.client)
        return _opened_of_device(whose, topic, payload, self._is_revoked)

    def _opened_of_operator(self, address: OrderOf, topic: str, payload: bytes) -> bytes:
        if not payload.startswith(BY_OPERATOR):
            raise BadSignature("it is not signed by an operator")
        key, signed, signature, message = _cut(payload, KEY_BYTES, TICKET_BYTES, _SIGNATURE_BYTES)
        whose = _ticket_text(self._federation, address.operator, key, _OPERATOR_TICKET)
        if not _holds(self._signer.public, signed, whose):
            raise BadSignature(
                f"it is signed by a key by which {address.operator} may give no orders"
            )
        if self._is_revoked(_text(key)):
            raise RevokedKey("it is signed by a key that was revoked")
        if not _holds(key, signature, _said(_OF_OPERATOR, topic, message)):
            raise BadSignature("it is not what its operator signed")
        return message

    def _opened_of_worker(self, address: WorkOf, topic: str, payload: bytes) -> bytes:
        if not payload.startswith(BY_WORKER):
            raise BadSignature("it is not signed by a worker")
        key, signed, signature, message = _cut(payload, KEY_BYTES, TICKET_BYTES, _SIGNATURE_BYTES)
        if not _is_worker(self._signer.public, self._federation, address.worker, key, signed):
            raise BadSignature(f"{address.worker} has no key by which a worker signs")
        if self._is_revoked(_text(key)):
            raise RevokedKey("it is signed by a key that was revoked")
        if not _holds(key, signature, _said(_OF_WORKER, topic, message)):
            raise BadSignature("it is not what its worker signed")
        return message


class DeviceSeal:
    """Signs as one device, and asks the federation's signature of coordinators. Raises BadKey."""

    def __init__(self, private_key: str, ticket: str, federation_public: str) -> None:
        self._signer = _Signer(private_key, "signing_key")
        self._federation = _bytes(federation_public, KEY_BYTES, "federation_key")
        signed = _bytes(ticket, TICKET_BYTES, "ticket")
        self._head = b"".join((BY_DEVICE, self._signer.public, signed))

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        if not is_signed(address) or messages.is_piece(message):
            return message
        signature = self._signer.sign(_said(_OF_DEVICE, topic, message))
        return b"".join((self._head, signature, message))

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        if clears(address, payload) or not is_signed(address):
            return payload
        if CHANNELS[type(address)].writer != "coordinator":
            # A device reads nothing that devices sign.
            raise BadSignature("it is another device's")
        return _opened_of_coordinator(self._federation, topic, payload)


class OperatorSeal:
    """Signs as one operator, and asks the federation's signature of what comes. Raises BadKey."""

    def __init__(self, private_key: str, ticket: str, federation_public: str) -> None:
        self._signer = _Signer(private_key, "signing_key")
        self._federation = _bytes(federation_public, KEY_BYTES, "federation_key")
        signed = _bytes(ticket, TICKET_BYTES, "ticket")
        self._head = b"".join((BY_OPERATOR, self._signer.public, signed))

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        if not is_signed(address):
            return message
        signature = self._signer.sign(_said(_OF_OPERATOR, topic, message))
        return b"".join((self._head, signature, message))

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        if clears(address, payload) or not is_signed(address):
            return payload
        return _opened_of_coordinator(self._federation, topic, payload)


class WorkerSeal:
    """Signs as one worker; asks the federation's signature of what it is told, and of devices their
    own keys, as a coordinator does. It does not know which were revoked. Raises BadKey."""

    def __init__(
        self, federation: str, private_key: str, ticket: str, federation_public: str
    ) -> None:
        self._name = federation
        self._signer = _Signer(private_key, "signing_key")
        self._federation = _bytes(federation_public, KEY_BYTES, "federation_key")
        signed = _bytes(ticket, TICKET_BYTES, "ticket")
        self._head = b"".join((BY_WORKER, self._signer.public, signed))

    def sealed(self, address: Address, topic: str, message: bytes) -> bytes:
        if not is_signed(address):
            return message
        signature = self._signer.sign(_said(_OF_WORKER, topic, message))
        return b"".join((self._head, signature, message))

    def opened(self, address: Address, topic: str, payload: bytes) -> bytes:
        if clears(address, payload) or not is_signed(address):
            return payload
        if isinstance(address, UpdatePart):
            whose = (self._federation, self._name, address.client)
            return _opened_of_device(whose, topic, payload, lambda key: False)
        return _opened_of_coordinator(self._federation, topic, payload)


class _Signer:
    def __init__(self, private_key: str, what: str = "a key") -> None:
        seed = _bytes(private_key, KEY_BYTES, what)
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    def sign(self, text: bytes) -> bytes:
        return bindings.crypto_sign(text, self._secret)[:_SIGNATURE_BYTES]


def _opened_of_coordinator(public: bytes, topic: str, payload: bytes) -> bytes:
    if not payload.startswith(BY_COORDINATOR):
        raise BadSignature("it is not signed by the federation")
    signature, message = _cut(payload, _SIGNATURE_BYTES)
    if not _holds(public, signature, _said(_OF_COORDINATOR, topic, message)):
        raise BadSignature("it is not what this federation's coordinator signed")
    return message


def _opened_of_device(
    whose: tuple[bytes, str, str], topic: str, payload: bytes, is_revoked: Callable[[str], bool]
) -> bytes:
    """`whose`: of which federation's key, federation and device."""
    if messages.is_piece(payload):
        return payload
    if not payload.startswith(BY_DEVICE):
        raise BadSignature("it is not signed by its device")
    key, signed, signature, message = _cut(payload, KEY_BYTES, TICKET_BYTES, _SIGNATURE_BYTES)
    try:
        _check_ticket(*whose, key, signed)
    except _NoTicket:
        raise BadSignature(
            f"it is signed by a key that the federation did not give to {whose[2]}"
        ) from None
    if is_revoked(_text(key)):
        raise RevokedKey("it is signed by a key that was revoked")
    if not _holds(key, signature, _said(_OF_DEVICE, topic, message)):
        raise BadSignature("it is not what its device signed, or not for this round")
    return message


@functools.lru_cache(64)
def _is_worker(
    federation_public: bytes, federation: str, worker: str, key: bytes, ticket: bytes
) -> bool:
    return _holds(federation_public, ticket, _ticket_text(federation, worker, key, _WORKER_TICKET))


def _cut(payload: bytes, *sizes: int) -> list[bytes]:
    """The fields behind the envelope's mark and kind, and the message. Raises BadSignature."""
    fields, start = [], len(BY_DEVICE)
    for size in sizes:
        fields.append(payload[start : start + size])
        start += size
    if len(payload) < start:
        raise BadSignature("its envelope is cut short")
    return [*fields, payload[start:]]


def _holds(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        bindings.crypto_sign_open(signature + text, public)
    except BadSignatureError:
        return False
    return True


def _said(what: bytes, topic: str, message: bytes) -> bytes:
    # No topic holds a NUL, and the digest has one length: there is one way to read it.
    return b"\0".join((what, topic.encode(), hashlib.sha256(message).digest()))


def _ticket_text(federation: str, name: str, key: bytes, what: bytes = _TICKET) -> bytes:
    return b"\0".join((what, federation.encode(), name.encode(), key))


def _round_key_text(federation: str, keyholder: str, number: int, public: bytes) -> bytes:
    # Number and key have one length each: there is one way to read them, whatever is in them.
    return b"\0".join(
        (_ROUND_KEY, federation.encode(), keyholder.encode(), number.to_bytes(8), public)
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str, size: int, what: str = "a key") -> bytes:
    if not text:
        raise BadKey(f"{what} is missing")
    try:
        data = base64.b64decode(text, validate=True)
    except (NoBase64, ValueError) as bad:
        raise BadKey(f"{what} is no base64, or cut short") from bad
    if len(data) != size:
        raise BadKey(f"{what} has {len(data)} bytes, not {size}")
    return data
