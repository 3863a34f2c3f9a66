"""A broker kit: a folder with all that a secure federation's broker needs, and its devices' keys.

    <kit>/kit.toml                 what was asked for, and which accounts there are
         /ca/ca.pem, ca.key        the federation's authority: its key never leaves this folder
         /ca/federation.key        by which coordinators sign; it is in their credentials too
         /revoked-devices          for coordinators: whose signatures count no more
         /enrolled-devices         for keyholders: whose masks count
         /broker/                  what is copied to the broker: configuration, accounts, rules
         /accounts/pi-3.toml       what a device needs, a file for each: fedmqtt/credentials.py

The kit is where accounts are made. The broker's files are written anew with each, whole and by
rename, so a broker that is told to look again sees the old ones or the new ones.
"""

import os
import secrets
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, structs

from broker_config import aws_files, emqx_files, mosquitto_files
from broker_config.certificates import Authority, Pair, serial_of
from broker_config.mosquitto_files import Listening
from broker_config.signing_keys import FederationKey
from fedmqtt import credentials, revocations, signing, unreadable
from fedmqtt.credentials import Credentials, Role
from fedmqtt.topics import NAME_PATTERN, NAME_RULE, is_name

Login = Literal["password", "certificate"]

COORDINATOR, MONITOR, OPERATOR = "coordinator", "monitor", "operator"
"""The three accounts that every kit begins with; those of before there were orders have two."""

_BELIEVERS = ("device", "coordinator", "monitor")
"""Whose credentials name the keyholders."""

_ACCOUNT_OF = {
    "device": "{}",
    "coordinator": "coordinator@{}",
    "monitor": "monitor@{}",
    "operator": "operator@{}",
    "worker": "worker@{}",
}
"""By which it logs in. An @ is in no device's name: the rules for devices give it nothing."""


class KitError(Exception):
    """The kit cannot be made or changed; says which file, why, and what to do."""


class Account(Struct, frozen=True, kw_only=True):
    """One that may log in, or that might once."""

    id: Annotated[str, Meta(pattern=NAME_PATTERN)]
    role: Role
    revoked: bool = False
    serial: str = ""
    """Of its certificate, in decimal digits."""
    public_key: str = ""
    """By which what it signs is checked, of a device."""
    keyholder: bool = False
    """A device's account, of one that may be given masks: those enrolled after it know its key."""

    @property
    def is_listed(self) -> bool:
        """Once it is revoked, by what it had: also when the account is made again."""
        return bool(self.serial or self.public_key)

    @property
    def name(self) -> str:
        return _ACCOUNT_OF[self.role].format(self.id)


class Plan(Struct, frozen=True, kw_only=True):
    """What the kit is for."""

    federation: Annotated[str, Meta(pattern=NAME_PATTERN)]
    hosts: tuple[str, ...]
    """By which the broker is reached; the first is what devices are told."""
    login: Login
    port: int
    servers_port: int
    websockets_port: int
    devices: int
    place: str
    data: str
    days: int
    home_assistant: bool = False
    """Whether the federation may be described to Home Assistant, on the same broker."""
    federation_key: str = ""
    """Public; kits that were made before there were any have none."""
    accounts: tuple[Account, ...] = ()

    @property
    def pins(self) -> tuple[str, ...]:
        """Keyholders, as credentials name them."""
        return tuple(
            f"{one.id} {one.public_key}"
            for one in self.accounts
            if one.keyholder and not one.revoked
        )


@dataclass(frozen=True, slots=True)
class _Folders:
    kit: Path

    @property
    def plan(self) -> Path:
        return self.kit / "kit.toml"

    @property
    def federation_key(self) -> Path:
        return self.ca / "federation.key"

    @property
    def revoked(self) -> Path:
        return self.kit / "revoked-devices"

    @property
    def enrolled(self) -> Path:
        return self.kit / "enrolled-devices"

    @property
    def broker(self) -> Path:
        return self.kit / "broker"

    @property
    def ca(self) -> Path:
        return self.kit / "ca"

    @property
    def accounts(self) -> Path:
        return self.kit / "accounts"


class Kit:
    """An existing kit. Raises KitError, as all here do."""

    def __init__(self, folder: Path) -> None:
        self._folders = _Folders(folder)
        path = self._folders.plan
        try:
            self.plan = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Plan)
            path = self._folders.ca
            self._authority = Authority(_read_pair(path, "ca"))
            path = self._folders.federation_key
            self._federation_key = FederationKey(path, self.plan.federation_key)
        except OSError as bad:
            raise KitError(
                f"{bad.filename}: {bad.strerror}; `fedmqtt broker-kit {folder}` makes a kit"
            ) from bad
        except unreadable.TOML as bad:
            raise KitError(f"{path}: {bad}; put back a copy of it") from bad

    def enroll(self, account_id: str, role: Role | None = None, *, keyholder: bool = False) -> Path:
        """Make an account: the file that is all it needs. Without a `role`, that which the account
        of this name had before it was revoked, or a device's."""
        if not is_name(account_id):
            raise KitError(f"{account_id!r} names no device: {NAME_RULE}")
        path = self._file_of(account_id)
        # The newest: those before it are kept to be listed as revoked.
        known = next((one for one in reversed(self.plan.accounts) if one.id == account_id), None)
        if known is not None and not known.revoked:
            raise KitError(f"{account_id} is enrolled already; revoke it first, or use {path}")
        if path.exists():
            raise KitError(f"{path} exists, and is never written over; move it away first")
        keyholder = keyholder or (role is None and known is not None and known.keyholder)
        role = role or (known.role if known is not None else "device")
        if keyholder:
            self._admit_keyholder(account_id, role)
        keys = self._federation_key.for_account(self.plan.federation, account_id, role)
        account = Account(id=account_id, role=role, public_key=keys.public_key, keyholder=keyholder)
        password, pair = "", Pair("", "")
        if self.plan.login == "certificate":
            pair = self._authority.account(account.name, self.plan.days)
            account = structs.replace(account, serial=str(serial_of(pair.certificate)))
        else:
            password = secrets.token_urlsafe(32)
        made = Credentials(
            federation=self.plan.federation,
            id=account_id,
            role=role,
            broker=self._url(role),
            account="" if account.name == account_id else account.name,
            password=password,
            certificate=pair.certificate,
            key=pair.key,
            ca=self._authority.pair.certificate,
            federation_key=keys.federation_key,
            signing_key=keys.signing_key,
            ticket=keys.ticket,
            keyholders=self.plan.pins if keys.federation_key and role in _BELIEVERS else (),
        )
        kept = tuple(one for one in self.plan.accounts if one.id != account_id or one.is_listed)
        # First: what was made can be revoked, wherever this is broken off.
        self._record(structs.replace(self.plan, accounts=(*kept, account)))
        if role in ("operator", "worker"):
            # A kit of before there were any has no policy for them.
            _write_policies(self._folders.broker, self.plan)
        _write(path, credentials.render(made), secret=True)
        self._become(self.plan, password)
        if keyholder:
            self._tell_coordinators()
        return path

    def revoke(self, account_id: str) -> Account:
        """End an account. Its file is removed; the broker must be told to look again."""
        account = next(
            (one for one in self.plan.accounts if one.id == account_id and not one.revoked), None
        )
        if account is None:
            raise KitError(f"{account_id} is not enrolled; enrolled are: {self._names()}")
        ended = structs.replace(account, revoked=True)
        accounts = tuple(ended if one is account else one for one in self.plan.accounts)
        self._become(structs.replace(self.plan, accounts=accounts))
        self._file_of(account_id).unlink(missing_ok=True)
        if ended.keyholder:
            self._tell_coordinators()
        return ended

    def pin(self, account_id: str) -> str:
        """What credentials say of this keyholder."""
        return next(one for one in self.plan.pins if one.partition(" ")[0] == account_id)

    def files_of_keyholder(self, account_id: str) -> tuple[Path, Path, Path]:
        """What it is started with: credentials, the enrolled devices, and the revoked ones."""
        return self._file_of(account_id), self._folders.enrolled, self._folders.revoked

    def enrolled_before(self, keyholder: Account) -> list[str]:
        """Accounts whose files do not name this keyholder, as it was not enrolled yet."""
        return self._believers(self.plan.accounts[: self.plan.accounts.index(keyholder)])

    def enrolled_after(self, keyholder: Account) -> list[str]:
        """Accounts whose files name it."""
        return self._believers(self.plan.accounts[self.plan.accounts.index(keyholder) :])

    def account(self, account_id: str) -> Account:
        """The live one of this name."""
        return next(one for one in self.plan.accounts if one.id == account_id and not one.revoked)

    def _believers(self, accounts: Sequence[Account]) -> list[str]:
        """Those that keep the keyholders in files which are not here any more."""
        return [
            one.id
            for one in accounts
            if not one.revoked
            and not one.keyholder
            and (one.role == "device" or (one.role == "coordinator" and not self._has_file(one)))
        ]

    def _has_file(self, account: Account) -> bool:
        return self._file_of(account.id).exists()

    def _file_of(self, account_id: str) -> Path:
        return self._folders.accounts / f"{account_id}.toml"

    def _admit_keyholder(self, account_id: str, role: Role) -> None:
        if role != "device":
            raise KitError(f"{account_id} is a {role}: a keyholder has an account of its own")
        if not self.plan.federation_key:
            raise KitError(
                "this kit was made before there were keys, and devices know a keyholder by its key:"
                " make another kit"
            )
        if len(self.plan.pins) >= credentials.KEYHOLDERS_MAX:
            raise KitError(f"there are {credentials.KEYHOLDERS_MAX} keyholders already")

    def _tell_coordinators(self) -> None:
        """Write their files anew, where they are here still, with the keyholders of now."""
        for one in self.plan.accounts:
            if one.role == "coordinator" and not one.revoked and self._has_file(one):
                path = self._file_of(one.id)
                try:
                    found = credentials.read(path)
                except credentials.CredentialsError as bad:
                    raise KitError(f"{bad}: it is to name the keyholders") from bad
                changed = structs.replace(found, keyholders=self.plan.pins)
                _write(path, credentials.render(changed), secret=True)

    def _names(self) -> str:
        return ", ".join(one.id for one in self.plan.accounts if not one.revoked) or "none"

    def _url(self, role: Role) -> str:
        port = self.plan.port if role == "device" else self.plan.servers_port
        host = self.plan.hosts[0]
        return f"mqtts://{f'[{host}]' if ':' in host else host}:{port}"

    def _become(self, plan: Plan, password: str = "") -> None:
        """Write what follows from the plan; `password` is that of the newest account.

        The accounts first, then the broker's rules: what is half done can be done again.
        """
        self.plan = plan
        self._write_accounts(plan.accounts[-1] if password else None, password)
        broker = self._folders.broker
        live = [one for one in plan.accounts if not one.revoked]
        names = {one.name for one in live}
        revoked = [one.name for one in plan.accounts if one.revoked and one.name not in names]
        lists = (
            plan.federation,
            [one.name for one in live if one.role == "coordinator"],
            [one.name for one in live if one.role == "monitor"],
            [(one.name, one.id) for one in live if one.role == "operator"],
            [(one.name, one.id) for one in live if one.role == "worker"],
            revoked,
        )
        with_ha = plan.home_assistant
        _write(broker / "acl", mosquitto_files.acl(*lists, home_assistant=with_ha))
        _write(broker / "emqx-acl.conf", emqx_files.acl(*lists, home_assistant=with_ha))
        serials = [int(one.serial) for one in plan.accounts if one.revoked and one.serial]
        _write(broker / "revoked.pem", self._authority.revocations(serials))
        keys = [(one.public_key, one.id) for one in plan.accounts if one.revoked and one.public_key]
        enrolled = {one.id for one in live if one.role == "device"}
        _write(self._folders.revoked, revocations.render(keys, enrolled))
        # A keyholder answers no round.
        devices = [
            one for one in live if one.role == "device" and one.public_key and not one.keyholder
        ]
        listed = revocations.render_enrolled((one.public_key, one.id) for one in devices)
        _write(self._folders.enrolled, listed)
        self._record(plan)

    def _record(self, plan: Plan) -> None:
        self.plan = plan
        _write(self._folders.plan, _render(plan))

    def _write_accounts(self, newest: Account | None, password: str) -> None:
        """Passwords are known when an account is made, and never again: lines are kept."""
        live = {one.name for one in self.plan.accounts if not one.revoked}
        passwords, users = (
            self._folders.broker / "passwords",
            self._folders.broker / "emqx-users.csv",
        )
        added = newest.name if newest is not None else ""
        kept = [
            line
            for line in _lines(passwords)
            if (name := line.rpartition(":$7$")[0]) in live and name != added
        ]
        kept_users = [
            line
            for line in _lines(users)[1:]
            if (name := line.partition(",")[0]) in live and name != added
        ]
        if added:
            kept.append(mosquitto_files.password_line(added, password))
            kept_users.append(emqx_files.user_line(added, password))
        _write(passwords, "".join(kept), secret=True)
        _write(users, emqx_files.users_header() + "".join(kept_users), secret=True)


def create(folder: Path, plan: Plan) -> Kit:
    """A new kit, with an account for a coordinator, one for a monitor and one for an operator.

    Raises KitError, also where something lies in the folder: nothing is ever written over.
    """
    folders = _Folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise KitError(f"{folder} is not empty, and nothing in it is written over")
        folder.chmod(stat.S_IRWXU)
        for each in (folders.ca, folders.broker, folders.accounts):
            each.mkdir(mode=stat.S_IRWXU)
        # The plan's is absolute, however the folder was named.
        if Path(plan.data).parent == folder.absolute():
            Path(plan.data).mkdir(mode=stat.S_IRWXU)
    except OSError as bad:
        raise KitError(f"{folder}: {bad.strerror}") from bad
    authority = Authority.new(plan.federation)
    _write_pair(folders.ca, "ca", authority.pair)
    federation_key = signing.new_key()
    _write(folders.federation_key, federation_key + "\n", secret=True)
    plan = structs.replace(plan, federation_key=signing.public_key(federation_key))
    _write(folders.broker / "ca.pem", authority.pair.certificate)
    _write_pair(folders.broker, "broker", authority.broker(plan.hosts, plan.days))
    listening = Listening(
        federation=plan.federation,
        port=plan.port,
        servers_port=plan.servers_port,
        websockets_port=plan.websockets_port,
        with_certificates=plan.login == "certificate",
        devices=plan.devices,
        place=plan.place,
        data=plan.data,
        user=_owner(folders.broker) if Path(plan.place) == folders.broker.absolute() else "",
    )
    _write(folders.broker / "mosquitto.conf", mosquitto_files.config(listening))
    _write(folders.broker / "emqx.conf", emqx_files.config(plan.place))
    _write_policies(folders.broker, plan)
    _write(folders.plan, _render(plan))
    kit = Kit(folder)
    kit.enroll(COORDINATOR, "coordinator")
    kit.enroll(MONITOR, "monitor")
    kit.enroll(OPERATOR, "operator")
    return kit


def _owner(path: Path) -> str:
    """By name, or as Mosquitto's own default where there is no name for it, as in containers."""
    try:
        return path.owner()
    except KeyError:
        return ""


def _write_policies(folder: Path, plan: Plan) -> None:
    """Of AWS IoT Core: they name no account."""
    federation, more = plan.federation, {"home_assistant": plan.home_assistant}
    _write(folder / "aws-device.json", aws_files.policy_of_devices(federation))
    _write(folder / "aws-coordinator.json", aws_files.policy_of_coordinators(federation, **more))
    _write(folder / "aws-monitor.json", aws_files.policy_of_monitors(federation, **more))
    _write(folder / "aws-operator.json", aws_files.policy_of_operators(federation))
    _write(folder / "aws-worker.json", aws_files.policy_of_workers(federation))


def _read_pair(folder: Path, name: str) -> Pair:
    return Pair((folder / f"{name}.pem").read_text(), (folder / f"{name}.key").read_text())


def _write_pair(folder: Path, name: str, pair: Pair) -> None:
    _write(folder / f"{name}.pem", pair.certificate)
    _write(folder / f"{name}.key", pair.key, secret=True)


def _write(path: Path, text: str, *, secret: bool = False) -> None:
    """By rename, whole or not at all; a secret is at no moment readable by others."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        mode = 0o600 if secret else 0o644
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except OSError as bad:
        raise KitError(f"{path}: {bad.strerror}") from bad


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []


def _render(plan: Plan) -> str:
    return "\n".join(_toml(plan)) + "\n"


def _toml(plan: Plan) -> Iterator[str]:
    yield "# What this kit is for, and its accounts. Written by `fedmqtt enroll` and `revoke`."
    for name, value in msgspec.to_builtins(plan).items():
        if name != "accounts":
            yield f"{name} = {_value(value)}"
    for account in plan.accounts:
        yield ""
        yield "[[accounts]]"
        for name, value in msgspec.to_builtins(account).items():
            yield f"{name} = {_value(value)}"


def _value(value: str | bool | int | Sequence[str]) -> str:
    # JSON's strings, numbers, booleans and lists are TOML's.
    return msgspec.json.encode(value).decode()
