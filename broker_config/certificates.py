"""Keys and certificates of one federation: its own CA, the broker's certificate, those of devices.

All keys are on the curve P-256, which every TLS library of the last ten years speaks, also those of
microcontrollers. Certificates begin a day ago: a Raspberry Pi without a battery for its clock
starts up some time in the past.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
_CLOCK_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both in PEM."""

    certificate: str
    key: str = field(repr=False)


class Authority:
    """The federation's CA. Raises ValueError on PEM that is none."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
        key = serialization.load_pem_private_key(pair.key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the CA's key is of another kind than those made here")
        self._key = key

    @classmethod
    def new(cls, federation: str, days: int = CA_DAYS) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"fedmqtt {federation} CA")
        certificate = (
            _builder(name, name, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(certificate, key))

    def broker(self, hosts: Iterable[str], days: int) -> Pair:
        """For a server that is reached by these host names and addresses."""
        names = list(hosts)
        return self._issue(
            names[0], ExtendedKeyUsageOID.SERVER_AUTH, days, [_alternative(one) for one in names]
        )

    def account(self, name: str, days: int) -> Pair:
        """For a client of this name, which the broker takes for its account."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, days, [])

    def revocations(self, serials: Iterable[int], days: int = CA_DAYS) -> str:
        """The list of certificates that count no more, in PEM; an empty one is one too."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCK_SLACK)
            .next_update(now + timedelta(days=days))
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(
                revoked.revocation_date(now - _CLOCK_SLACK).build()
            )
        listed = builder.sign(self._key, hashes.SHA256())
        return listed.public_bytes(serialization.Encoding.PEM).decode()

    def _issue(
        self,
        name: str,
        purpose: x509.ObjectIdentifier,
        days: int,
        alternatives: list[x509.GeneralName],
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(name), self._certificate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return _pem(builder.sign(self._key, hashes.SHA256()), key)


def serial_of(certificate: str) -> int:
    """Raises ValueError on what is no certificate in PEM."""
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def revoked_serials(listed: str) -> set[int]:
    """Of a list of revocations in PEM."""
    return {one.serial_number for one in x509.load_pem_x509_crl(listed.encode())}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    # What a certificate's common name has room for; the names that count are elsewhere or shorter.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
