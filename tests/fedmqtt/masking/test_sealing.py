"""A seal opens for whom it was made, for what it was made, and for nobody and nothing else."""

import hashlib
import hmac
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from fedmqtt.masking import sealing
from fedmqtt.masking.sealing import Exchange, NotOpened, NotSealed
from fedmqtt.topics import ClientId, Digest, RoundId, RunId

# RFC 7748, section 6.1.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


class For(NamedTuple):
    """What a seal is for."""

    federation: str
    run: RunId
    round_id: RoundId
    client: ClientId
    base: Digest
    keyholder: ClientId
    number: int

    @property
    def context(self) -> bytes:
        return sealing.context(*self)


PLAIN = For(
    "ward-7", RunId("r1"), RoundId(7), ClientId("ann"), Digest("ab" * 32), ClientId("kh-a"), 5
)
OTHERS: dict[str, Any] = {
    "federation": "ward-8",
    "run": RunId("r2"),
    "round_id": RoundId(8),
    "client": ClientId("bob"),
    "base": Digest("cd" * 32),
    "keyholder": ClientId("kh-b"),
    "number": 6,
}


def _hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, sections 2.2 and 2.3, with SHA-256."""
    key = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    made, block = b"", b""
    while len(made) < size:
        block = hmac.digest(key, block + info + bytes([len(made) // 32 + 1]), hashlib.sha256)
        made += block
    return made[:size]


@pytest.mark.parametrize(
    ("salt", "info", "wanted"),
    [
        (
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.3"],
)
def test_the_hkdf_of_these_tests_is_that_of_rfc_5869(salt: bytes, info: bytes, wanted: str) -> None:
    assert _hkdf(b"\x0b" * 22, salt, info, 42).hex() == wanted


def test_the_aead_of_these_tests_is_that_of_rfc_8439() -> None:
    # Section 2.8.2.
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the"
        b" future, sunscreen would be it."
    )
    sealed = bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
        text,
        bytes.fromhex("50515253c0c1c2c3c4c5c6c7"),
        bytes.fromhex("070000004041424344454647"),
        bytes(range(0x80, 0xA0)),
    )
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_keys_are_those_of_rfc_7748() -> None:
    assert Exchange(ALICE).public == ALICE_PUBLIC
    assert Exchange(BOB).public == BOB_PUBLIC


def _length_first(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_what_is_sealed_is_opened_by_another_implementation_of_the_same() -> None:
    sealed = Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, b"two seeds")
    context = _length_first(
        *(b"ward-7", b"r1", bytes(7) + b"\7", b"ann", b"ab" * 32, b"kh-a", bytes(7) + b"\5")
    )
    info = b"fedmqtt 1 seeds" + _length_first(context, ALICE_PUBLIC, BOB_PUBLIC)
    key = _hkdf(SHARED, b"", info, 32)
    opened = bindings.crypto_aead_chacha20poly1305_ietf_decrypt(sealed, None, bytes(12), key)
    assert opened == b"two seeds"


def test_a_seal_opens_for_its_reader_and_is_16_bytes_longer_than_what_is_in_it() -> None:
    private, public = sealing.new_round_key()
    exchange = Exchange.new()
    sealed = exchange.seal(public, PLAIN.context, bytes(64))
    assert len(sealed) == 64 + sealing.SEAL_BYTES
    assert sealing.open_sealed(private, exchange.public, PLAIN.context, sealed) == bytes(64)


def test_keys_are_new_each_time() -> None:
    assert sealing.new_round_key() != sealing.new_round_key()
    assert Exchange.new().public != Exchange.new().public


@pytest.mark.parametrize("name", OTHERS)
def test_a_seal_for_one_thing_does_not_open_for_another(name: str) -> None:
    other = PLAIN._replace(**{name: OTHERS[name]})
    assert other.context != PLAIN.context
    sealed = Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, b"seeds")
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, ALICE_PUBLIC, other.context, sealed)


def test_names_that_run_together_to_the_same_text_are_different_contexts() -> None:
    first = PLAIN._replace(federation="ward", run=RunId("7r1"))
    second = PLAIN._replace(federation="ward7", run=RunId("r1"))
    assert first.context != second.context


def test_a_seal_opens_with_no_other_key() -> None:
    sealed = Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, b"seeds")
    other, other_public = sealing.new_round_key()
    with pytest.raises(NotOpened):
        sealing.open_sealed(other, ALICE_PUBLIC, PLAIN.context, sealed)
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, other_public, PLAIN.context, sealed)


def test_another_way_to_write_the_same_public_key_opens_nothing() -> None:
    # RFC 7748: the highest bit is ignored, so that both name one point.
    twin = ALICE_PUBLIC[:-1] + bytes([ALICE_PUBLIC[-1] | 0x80])
    sealed = Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, b"seeds")
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, twin, PLAIN.context, sealed)


@given(st.binary(max_size=100), st.data())
def test_a_seal_in_which_a_bit_was_changed_does_not_open(
    secret: bytes, data: st.DataObject
) -> None:
    sealed = bytearray(Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, secret))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, ALICE_PUBLIC, PLAIN.context, bytes(sealed))


@pytest.mark.parametrize("length", [0, 15, 20])
def test_a_seal_that_is_cut_short_does_not_open(length: int) -> None:
    sealed = Exchange(ALICE).seal(BOB_PUBLIC, PLAIN.context, b"seeds")
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, ALICE_PUBLIC, PLAIN.context, sealed[:length])


# Of small order (RFC 7748, section 6.1): everybody knows what such an exchange comes to.
SMALL = [bytes(32), b"\1" + bytes(31)]


@pytest.mark.parametrize("key", [*SMALL, b"", bytes(31)], ids=["zero", "one", "none", "short"])
def test_nothing_is_sealed_to_what_is_no_key_or_would_keep_no_secret(key: bytes) -> None:
    with pytest.raises(NotSealed):
        Exchange.new().seal(key, PLAIN.context, b"seeds")
    with pytest.raises(NotOpened):
        sealing.open_sealed(BOB, key, PLAIN.context, bytes(32))
