"""What an account of any role needs to log in: one file, written by `fedmqtt enroll`.

    federation = "demo"
    id = "pi-3"
    broker = "mqtts://broker.example:8883"
    password = "..."            or: certificate and key, in PEM
    ca = "-----BEGIN CERTIFICATE-----..."
    federation_key = "..."      the public key by which coordinators sign
    signing_key = "..."         by which this device signs: see fedmqtt/signing.py
    ticket = "..."              that the federation gave this key to this id
    keyholders = ["kh-a ..."]   who may be given masks of answers, each with its public key

Whoever has the file is that device. It is written for its owner's eyes alone, mode 0600.
"""

import re
import ssl
import stat
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fedmqtt import settings, unreadable
from fedmqtt.envelope import Seal
from fedmqtt.mqtt_link import BrokerUrl, BrokerUrlError, parse_broker_url
from fedmqtt.settings import SettingsError
from fedmqtt.topics import NAME_PATTERN, ClientId

_PEM_MAX = 100_000
_PEM_TEXT = re.compile(r"[A-Za-z0-9+/= \n-]*\n[A-Za-z0-9+/= \n-]*")
"""What needs no escapes, and is read more easily in lines."""
_Pem = Annotated[str, Meta(max_length=_PEM_MAX)]
_Key = Annotated[str, Meta(max_length=100)]
_KEYHOLDER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}) ([A-Za-z0-9+/]{43}=)")
KEYHOLDERS_MAX = 64
"""That are known; a round has places for fewer."""
_Name = Annotated[
    str, Meta(pattern=NAME_PATTERN, description="1 to 64 letters, digits, '.', '_', '-'")
]

_COPY = "copy the file that `fedmqtt enroll` wrote, as it is"

Role = Literal["device", "coordinator", "monitor", "operator", "worker"]


class CredentialsError(ValueError):
    """The file cannot be used: names it, and says why and what to do."""


class Damaged(ValueError):
    """Says which of the values, and what is wrong with it."""


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one account."""

    federation: _Name
    id: _Name
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
    """That the federation gave it this key; coordinators of older kits have none."""
    keyholders: Annotated[tuple[str, ...], Meta(max_length=KEYHOLDERS_MAX)] = ()
    """`NAME PUBLICKEY` of each whom this account believes when it says that it is a keyholder."""

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
        """Trusts this federation's CA alone, or, where it names none, those that this machine
        does. Raises Damaged."""
        context = _trusting(self.ca, "ca")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate or self.key:
            self._present_certificate(context)
        return context

    def seal(self, is_revoked: Callable[[str], bool] = lambda key: False) -> Seal | None:
        """How messages are signed and checked; None where there are no keys. Raises Damaged."""
        if not (self.federation_key or self.signing_key or self.ticket) or self.role == "monitor":
            return None
        # Here: a program without keys is spared 1 MB.
        from fedmqtt import signing

        seal: Seal
        try:
            if self.role == "device":
                seal = signing.DeviceSeal(self.signing_key, self.ticket, self.federation_key)
            elif self.role == "operator":
                seal = signing.OperatorSeal(self.signing_key, self.ticket, self.federation_key)
            elif self.role == "worker":
                keys = (self.signing_key, self.ticket, self.federation_key)
                seal = signing.WorkerSeal(self.federation, *keys)
            else:
                seal = signing.CoordinatorSeal(self.federation, self.signing_key, is_revoked)
            if not self._fits_together():
                raise Damaged(
                    "federation, id and keys do not fit together: the federation did not give this"
                    f" key to {self.id} in {self.federation}"
                )
        except signing.BadKey as bad:
            raise Damaged(str(bad)) from bad
        return seal

    def _fits_together(self) -> bool:
        # Else a program would go on and never be told why nobody hears it.
        from fedmqtt import signing

        if self.role == "coordinator" and not self.ticket:
            return self.federation_key in ("", signing.public_key(self.signing_key))
        keys = (self.signing_key, self.ticket, self.federation_key)
        fits = {"operator": signing.fits_operator, "worker": signing.fits_worker}
        return fits.get(self.role, signing.fits)(*keys, self.federation, self.id)

    def _present_certificate(self, context: ssl.SSLContext) -> None:
        for name in ("certificate", "key"):
            if not getattr(self, name):
                raise Damaged(f"{name} is missing")
        _trusting(self.certificate, "certificate")
        # The ssl module reads files alone. Made for our eyes only, and gone at once.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self.certificate + "\n" + self.key)
            file.flush()
            try:
                # With a password: for a key that wants one the terminal would be asked.
                context.load_cert_chain(file.name, password="")
            except ssl.SSLError as bad:
                is_another = bad.reason == "KEY_VALUES_MISMATCH"
                what = "is not that of the certificate" if is_another else "is no private key"
                raise Damaged(f"key {what}{'' if is_another else ' in PEM, or cut short'}") from bad


def _trusting(pem: str, name: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=pem or None)
    except (ssl.SSLError, ValueError, TypeError) as bad:
        # A TypeError it is for text that is no ASCII.
        raise Damaged(f"{name} is no certificate in PEM, or cut short") from bad


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
            f"credentials {path} are {_a(found.role)}'s, and this program needs {_a(roles[0])}'s:"
            f" give that file, or make one with `fedmqtt enroll KIT NAME --role {roles[0]}`"
        )
    try:
        broker = parse_broker_url(url) if url else _own_broker(found)
        if not broker.tls:
            raise CredentialsError(
                f"credentials {path} are for mqtts://, not for {broker}: name the broker's port"
                " that is encrypted (8883, or 8884 for coordinators and monitors, unless the kit"
                " was made for others)"
            )
        if not (found.password or found.certificate or found.key):
            raise Damaged("password is missing, and there is no certificate either")
        context, seal = found.tls_context(), found.seal(is_revoked)
    except Damaged as bad:
        raise CredentialsError(f"credentials {path}: {bad}; {_COPY}") from bad
    username, password = (found.username, found.password) if found.password else (None, None)
    access = replace(broker, username=username, password=password, context=context, seal=seal)
    return found, access


def _a(role: Role) -> str:
    return f"an {role}" if role == "operator" else f"a {role}"


def _own_broker(found: Credentials) -> BrokerUrl:
    try:
        return parse_broker_url(found.broker)
    except BrokerUrlError as bad:
        raise Damaged(str(bad)) from bad


def read(path: Path) -> Credentials:
    """Raises CredentialsError."""
    try:
        mode = path.stat().st_mode
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as bad:
        raise CredentialsError(
            f"credentials {path}: {bad.strerror}; give the file that `fedmqtt enroll` wrote, where"
            " this user may read it"
        ) from bad
    except unreadable.TOML as bad:
        # Not the parser's words: they may quote a secret.
        raise CredentialsError(f"credentials {path}: no file of credentials; {_COPY}") from bad
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialsError(
            f"credentials {path}: others on this machine may read it; chmod 600 {path}"
        )
    if missing := [name for name in ("federation", "id", "broker") if name not in values]:
        raise CredentialsError(f"credentials {path}: {_none_of(values, missing)}; {_COPY}")
    try:
        found = settings.convert(values, Credentials, f"credentials {path}")
    except SettingsError as bad:
        raise CredentialsError(f"{bad}; {_COPY}") from bad
    if fault := _keyholders_fault(found.keyholders):
        raise CredentialsError(f"credentials {path}: {fault}; {_COPY}")
    return found


def _none_of(values: Mapping[str, object], missing: Sequence[str]) -> str:
    if not values:
        return "nothing is in it"
    return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"


def render(credentials: Credentials) -> str:
    """As `read` takes it."""
    lines = [
        f"# Credentials of {credentials.id} in federation {credentials.federation}.",
        f"# Whoever has this file is {credentials.id}: keep it to yourself, and off backups of"
        " others.",
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
            return f"keyholders: {one!r} is no name and public key"
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
