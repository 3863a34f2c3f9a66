"""What a device, a coordinator or a monitor needs to log in: one file, written by `fedmqtt enroll`.

    federation = "demo"
    id = "pi-3"
    broker = "mqtts://broker.example:8883"
    password = "..."            or: certificate and key, in PEM
    ca = "-----BEGIN CERTIFICATE-----..."
    federation_key = "..."      the public key by which coordinators sign
    signing_key = "..."         by which this device signs, and its ticket: see fedmqtt/signing.py
    ticket = "..."
    keyholders = ["kh-a ..."]   who may be given masks of answers, each with its public key

Whoever has the file is that device. It is written for its owner's eyes alone, mode 0600.
"""

import re
import ssl
import stat
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fedmqtt import unreadable
from fedmqtt.envelope import Seal
from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url
from fedmqtt.topics import NAME_PATTERN, ClientId

_PEM_MAX = 100_000
_PEM_TEXT = re.compile(r"[A-Za-z0-9+/= \n-]*\n[A-Za-z0-9+/= \n-]*")
"""What needs no escapes, and is read more easily in lines."""
_Pem = Annotated[str, Meta(max_length=_PEM_MAX)]
_Key = Annotated[str, Meta(max_length=100)]
_KEYHOLDER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) ([A-Za-z0-9+/]{43}=)")
KEYHOLDERS_MAX = 64
"""That are known; a round has places for fewer."""


Role = Literal["device", "coordinator", "monitor"]


class CredentialsError(ValueError):
    """The file cannot be used: names it, and says why and what to do."""


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one account."""

    federation: Annotated[str, Meta(pattern=NAME_PATTERN)]
    id: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """As the federation knows it; a device's name in every topic of its own."""
    role: Role = "device"
    broker: Annotated[str, Meta(max_length=500)]
    account: Annotated[str, Meta(max_length=200)] = ""
    """By which it logs in, where that is not its id."""
    password: Annotated[str, Meta(max_length=1000)] = ""
    certificate: _Pem = ""
    key: _Pem = ""
    ca: _Pem = ""
    federation_key: _Key = ""
    """Public. With it, what a coordinator says counts only if it is signed."""
    signing_key: _Key = ""
    """Private: the device's own; in a coordinator's credentials, the federation's."""
    ticket: _Key = ""
    """Of a device: that the federation gave it this key."""
    keyholders: Annotated[tuple[str, ...], Meta(max_length=KEYHOLDERS_MAX)] = ()
    """`NAME PUBLICKEY` of each whom this account believes when it says that it is a keyholder."""

    def __post_init__(self) -> None:
        # msgspec makes a ValidationError of it, which names the key.
        if fault := _keyholders_fault(self.keyholders):
            raise ValueError(fault)

    @property
    def pinned(self) -> dict[ClientId, str]:
        """Keyholders' public keys, as text, by name."""
        return {
            ClientId(name): key for name, _, key in (one.partition(" ") for one in self.keyholders)
        }

    def __repr__(self) -> str:
        """Without what is secret: this is for whoever reads a traceback or a log."""
        return f"<credentials of {self.role} {self.id} in {self.federation}>"

    @property
    def username(self) -> str:
        return self.account or self.id

    def tls_context(self) -> ssl.SSLContext:
        """Trusts this federation's CA alone. Raises CredentialsError."""
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate:
                self._present_certificate(context)
        except (ssl.SSLError, ValueError) as bad:
            raise CredentialsError(f"the credentials of {self.id} are damaged: {bad}") from bad
        return context

    def seal(self, is_revoked: Callable[[str], bool] = lambda key: False) -> Seal | None:
        """How messages are signed and checked; None where there are no keys. Raises
        CredentialsError."""
        if not (self.federation_key or self.signing_key) or self.role == "monitor":
            return None
        # Here: a program without keys is spared 1 MB.
        from fedmqtt import signing

        try:
            if self.role == "device":
                seal = signing.DeviceSeal(self.signing_key, self.ticket, self.federation_key)
                if not self._fits_together():
                    raise CredentialsError(
                        f"the credentials of {self.id} do not fit together: the federation did not"
                        " give it this key; copy the file that `fedmqtt enroll` wrote, as it is"
                    )
                return seal
            return signing.CoordinatorSeal(self.federation, self.signing_key, is_revoked)
        except signing.BadKey as bad:
            raise CredentialsError(f"the credentials of {self.id} are damaged: {bad}") from bad

    def _fits_together(self) -> bool:
        # Else a device would train and never be told why nothing of it counts.
        from fedmqtt import signing

        keys = (self.signing_key, self.ticket, self.federation_key)
        return signing.fits(*keys, self.federation, self.id)

    def _present_certificate(self, context: ssl.SSLContext) -> None:
        # The ssl module reads files alone. Made for our eyes only, and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self.certificate + "\n" + self.key)
            file.flush()
            context.load_cert_chain(file.name)


def broker_of(
    path: Path,
    roles: tuple[Role, ...],
    url: str = "",
    is_revoked: Callable[[str], bool] = lambda key: False,
) -> tuple[Credentials, BrokerUrl]:
    """The account in this file, and its broker; `url` is another way there. `roles`: what the
    account may be for. `is_revoked`: asked by a coordinator of devices' public keys.

    Raises CredentialsError or BrokerUrlError.
    """
    found = read(path)
    if found.role not in roles:
        raise CredentialsError(
            f"credentials {path} are a {found.role}'s, and this program needs a {roles[0]}'s"
        )
    broker = parse_broker_url(url or found.broker)
    if not broker.tls:
        raise CredentialsError(f"credentials {path} are for mqtts://, not for {broker}")
    username, password = (found.username, found.password) if found.password else (None, None)
    access = replace(
        broker,
        username=username,
        password=password,
        context=found.tls_context(),
        seal=found.seal(is_revoked),
    )
    return found, access


def read(path: Path) -> Credentials:
    """Raises CredentialsError."""
    try:
        mode = path.stat().st_mode
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as bad:
        raise CredentialsError(f"credentials {path}: {bad.strerror}") from bad
    except unreadable.TOML as bad:
        # Not the parser's words: they may quote a secret.
        raise CredentialsError(
            f"credentials {path}: no file of credentials; copy the one that `fedmqtt enroll` wrote"
        ) from bad
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialsError(
            f"credentials {path}: others on this machine may read it; chmod 600 {path}"
        )
    try:
        return msgspec.convert(values, Credentials)
    except msgspec.ValidationError as bad:
        raise CredentialsError(f"credentials {path}: {bad}") from bad


def render(credentials: Credentials) -> str:
    """As `read` takes it."""
    lines = [
        f"# Credentials of {credentials.id} in federation {credentials.federation}.",
        "# Whoever has this file is that device: keep it to yourself, and off backups of others.",
        "",
    ]
    for name, value in msgspec.to_builtins(credentials).items():
        if not value:
            continue
        if isinstance(value, str):
            lines.append(f"{name} = {_quoted(value)}")
        else:
            lines += [f"{name} = [", *(f"    {_quoted(one)}," for one in value), "]"]
    return "\n".join(lines) + "\n"


def _keyholders_fault(keyholders: Sequence[str]) -> str:
    for one in keyholders:
        if _KEYHOLDER.fullmatch(one) is None:
            return (
                f"keyholders: {one!r} is no name and public key; copy the line that `fedmqtt"
                " enroll` wrote"
            )
    names = [one.partition(" ")[0] for one in keyholders]
    keys = [one.partition(" ")[2] for one in keyholders]
    if len(set(names)) < len(names) or len(set(keys)) < len(keys):
        return "keyholders: one is named twice"
    return ""


def _quoted(text: str) -> str:
    if _PEM_TEXT.fullmatch(text):
        return f'"""\n{text}"""'
    # JSON's spelling is TOML's too, but for one character.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
