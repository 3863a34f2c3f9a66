"""A kit's folder: what is in it, who may read it, and that nothing in it is ever written over."""

import argparse
import json
import re
import shlex
import ssl
import stat
import tomllib
from pathlib import Path

import pytest
from msgspec import structs

from broker_config import access, certificates, kit, signing_keys
from broker_config.kit import Kit, KitError
from broker_config.mosquitto import DEPLOYED_CONFIG
from broker_config.mosquitto_files import SAID_ANEW
from coordinator.config import Privacy
from fedmqtt import command_line, credentials, revocations, signing
from fedmqtt.credentials import CredentialsError, Damaged
from fedmqtt.mqtt_link import parse_broker_url
from fedmqtt.topics import CHANNELS, ClientId, Inbox, PresenceOf, RoundId, Topics, UpdatePart
from keyholder import command as keyholder_command
from tests.broker_config.kit_broker import FEDERATION, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo-kit"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("login", ["password", "certificate"])
def test_no_secret_is_readable_by_others(folder: Path, login: kit.Login) -> None:
    made = kit.create(folder, plan(folder, login))
    made.enroll("pi-3")
    secrets = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and any(word in path.read_text() for word in ("PRIVATE KEY", "password = "))
    ]
    assert {path.relative_to(folder).as_posix() for path in secrets} >= {
        "ca/ca.key",
        "broker/broker.key",
        "accounts/pi-3.toml",
    }
    secrets += [folder / "ca" / "federation.key"]
    for path in (*secrets, folder / "broker" / "passwords", folder / "broker" / "emqx-users.csv"):
        assert _mode(path) == 0o600, path
    assert _mode(folder) == 0o700


def test_what_lies_there_is_not_written_over(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(KitError, match="is not empty"):
        kit.create(folder, plan(folder))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_device_is_enrolled_once(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    path = made.enroll("pi-3")
    before = path.read_text()
    with pytest.raises(KitError, match="pi-3 is enrolled already"):
        made.enroll("pi-3")
    assert path.read_text() == before


def test_a_file_of_that_name_is_not_written_over(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    path = folder / "accounts" / "pi-3.toml"
    path.write_text("something of mine")
    with pytest.raises(KitError, match="never written over"):
        made.enroll("pi-3")
    assert path.read_text() == "something of mine"


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "pi 3", "ann\n", "pi-3:x", "ünal", "x" * 65])
def test_what_names_no_device_is_refused(folder: Path, name: str) -> None:
    made = kit.create(folder, plan(folder))
    with pytest.raises(KitError, match="names no device"):
        made.enroll(name)


def test_the_kit_is_gone_on_with_by_another_program(folder: Path) -> None:
    kit.create(folder, plan(folder)).enroll("pi-3")
    Kit(folder).enroll("pi-4")
    Kit(folder).revoke("pi-3")
    again = Kit(folder)
    assert [(one.id, one.revoked) for one in again.plan.accounts] == [
        ("coordinator", False),
        ("monitor", False),
        ("operator", False),
        ("pi-3", True),
        ("pi-4", False),
    ]
    names = [line.partition(":$7$")[0] for line in _passwords(folder)]
    assert names == [
        "coordinator@coordinator",
        "monitor@monitor",
        "operator@operator",
        "pi-4",
    ]
    assert not (folder / "accounts" / "pi-3.toml").exists()


def _passwords(folder: Path) -> list[str]:
    return (folder / "broker" / "passwords").read_text().splitlines()


def test_who_is_enrolled_again_has_another_password(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    first = credentials.read(made.enroll("pi-3")).password
    made.revoke("pi-3")
    second = credentials.read(made.enroll("pi-3")).password
    assert first != second
    assert sum(line.startswith("pi-3:") for line in _passwords(folder)) == 1
    # Nor is it denied what it was denied while it was revoked.
    assert "user pi-3" not in (folder / "broker" / "acl").read_text()


def test_who_is_enrolled_again_is_what_it_was(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    before = (folder / "broker" / "acl").read_text()
    for name in (kit.COORDINATOR, kit.MONITOR, kit.OPERATOR):
        made.revoke(name)
        again = credentials.read(made.enroll(name))
        assert again.role == name
    assert (folder / "broker" / "acl").read_text() == before


def test_a_certificate_that_was_revoked_stays_so(folder: Path) -> None:
    made = kit.create(folder, plan(folder, "certificate"))
    first = credentials.read(made.enroll("pi-3"))
    made.revoke("pi-3")
    second = credentials.read(made.enroll("pi-3"))
    listed = certificates.revoked_serials((folder / "broker" / "revoked.pem").read_text())
    assert listed == {certificates.serial_of(first.certificate)}
    assert certificates.serial_of(second.certificate) not in listed


# Keys to sign by


def test_each_account_has_the_keys_that_it_needs(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    made.enroll("pi-3")
    made.enroll("pi-4")
    coordinator, monitor, pi_3, pi_4 = (
        credentials.read(folder / "accounts" / f"{name}.toml")
        for name in ("coordinator", "monitor", "pi-3", "pi-4")
    )
    federation = made.plan.federation_key
    assert signing.public_key(coordinator.signing_key) == federation
    assert coordinator.federation_key == pi_3.federation_key == pi_4.federation_key == federation
    assert len({one.signing_key for one in (coordinator, pi_3, pi_4)}) == 3
    # Who only looks on reads nothing that is signed.
    assert (monitor.signing_key, monitor.federation_key, monitor.seal()) == ("", "", None)
    private = (folder / "ca" / "federation.key").read_text().strip()
    assert private == coordinator.signing_key
    for public in (folder / "kit.toml", folder / "revoked-devices"):
        assert private not in public.read_text() and pi_3.signing_key not in public.read_text()


def test_an_operator_has_topics_and_a_key_of_its_own(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    carol = credentials.read(made.enroll("carol", "operator"))
    operator = credentials.read(folder / "accounts" / "operator.toml")
    assert carol.seal() is not None and carol.keyholders == ()
    assert len({carol.signing_key, operator.signing_key, made.plan.federation_key}) == 3
    acl = (folder / "broker" / "acl").read_text()
    _, _, hers = acl.partition("user operator@carol\n")
    rules = hers.partition("\n\n")[0].splitlines()
    federation = f"fed/v1/{FEDERATION}"
    assert [rule for rule in rules if " write " in rule] == [
        f"topic write {federation}/order/carol"
    ]
    assert f"topic read {federation}/order-reply/carol" in rules
    # What is for every account that logs in, a device's things, is not for her.
    assert f"topic deny {federation}/offer" in rules
    # No keyholder takes her for a device whose answers count.
    assert "carol" not in (folder / "enrolled-devices").read_text()

    made.revoke("carol")
    assert (
        signing.public_key(carol.signing_key) in revocations.read(folder / "revoked-devices").keys
    )
    assert "user operator@carol\ntopic deny #" in (folder / "broker" / "acl").read_text()


def test_a_worker_reads_answers_and_says_what_it_found_and_no_more(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    worker = credentials.read(made.enroll("worker-1", "worker"))
    assert worker.seal() is not None and worker.keyholders == ()
    assert worker.username == "worker@worker-1"
    _, _, its = (folder / "broker" / "acl").read_text().partition("user worker@worker-1\n")
    rules = its.partition("\n\n")[0].splitlines()
    federation = f"fed/v1/{FEDERATION}"
    assert [rule for rule in rules if "deny" not in rule] == [
        f"topic read {federation}/update/+/+/+/+",
        f"topic write {federation}/work/worker-1",
        f"topic read {federation}/lanes/worker-1",
    ]
    assert f"topic deny {federation}/offer" in rules
    emqx = (folder / "broker" / "emqx-acl.conf").read_text()
    assert f'{{username, "worker@worker-1"}}, publish, ["{federation}/work/worker-1"]' in emqx
    assert "work/*" in (folder / "broker" / "aws-worker.json").read_text()
    # No keyholder takes it for a device whose answers count.
    assert "worker-1" not in (folder / "enrolled-devices").read_text()

    made.revoke("worker-1")
    assert "user worker@worker-1\ntopic deny #" in (folder / "broker" / "acl").read_text()


def test_a_kit_of_before_there_were_orders_is_given_an_operator(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    made.enroll("pi-3")
    before = made.account("pi-3")
    _make_older(folder)
    older = Kit(folder)
    assert [one.id for one in older.plan.accounts] == ["coordinator", "monitor", "pi-3"]
    assert credentials.read(older.enroll("operator", "operator")).seal() is not None
    assert older.account("pi-3") == before
    assert "order/operator" in (folder / "broker" / "acl").read_text()
    assert "order/operator" in (folder / "broker" / "emqx-acl.conf").read_text()
    assert "order/*" in (folder / "broker" / "aws-operator.json").read_text()


def _make_older(folder: Path) -> None:
    """Leave nothing in the kit of what the accounts of operators brought with them."""
    plan_file, passwords = folder / "kit.toml", folder / "broker" / "passwords"
    blocks = plan_file.read_text().split("\n[[accounts]]\n")
    plan_file.write_text("\n[[accounts]]\n".join(b for b in blocks if 'id = "operator"' not in b))
    lines = passwords.read_text().splitlines(keepends=True)
    passwords.write_text("".join(line for line in lines if not line.startswith("operator@")))
    (folder / "accounts" / "operator.toml").unlink()
    (folder / "broker" / "aws-operator.json").unlink()


def test_who_is_revoked_is_listed_by_its_key(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    listed = folder / "revoked-devices"
    assert revocations.read(listed).keys == frozenset()
    old = signing.public_key(credentials.read(made.enroll("pi-3")).signing_key)
    made.revoke("pi-3")
    new = signing.public_key(credentials.read(made.enroll("pi-3")).signing_key)
    assert revocations.read(listed).keys == {old}
    assert revocations.read(listed).devices == frozenset()
    Kit(folder).revoke("pi-3")
    assert revocations.read(listed).keys == {old, new}
    assert revocations.read(listed).devices == {"pi-3"}
    # A coordinator of that name is no device.
    Kit(folder).enroll("pi-3", "coordinator")
    assert revocations.read(listed).devices == {"pi-3"}


@pytest.mark.parametrize("unwritten", ["accounts/pi-3.toml", "broker/passwords", "broker/acl"])
def test_who_was_enrolled_by_half_can_be_revoked(folder: Path, unwritten: str) -> None:
    """As after a kill in between: wherever that was, its key is known, and its file may be out."""
    made = kit.create(folder, plan(folder))
    hurdle = folder / f"{unwritten}.part"
    hurdle.mkdir()
    with pytest.raises(KitError, match=re.escape(unwritten)):
        made.enroll("pi-3")
    hurdle.rmdir()
    path = folder / "accounts" / "pi-3.toml"
    own = signing.public_key(credentials.read(path).signing_key) if path.exists() else ""
    ended = Kit(folder).revoke("pi-3")
    assert ended.public_key and own in ("", ended.public_key)
    assert revocations.read(folder / "revoked-devices").keys == {ended.public_key}
    assert Kit(folder).enroll("pi-3").exists()


def test_who_was_enrolled_again_is_enrolled(folder: Path) -> None:
    """Also where its file was carried to the device, and is not here any more."""
    made = kit.create(folder, plan(folder))
    made.enroll("pi-3")
    made.revoke("pi-3")
    made.enroll("pi-3").unlink()
    with pytest.raises(KitError, match="pi-3 is enrolled already"):
        Kit(folder).enroll("pi-3")


def test_a_kit_of_before_there_were_keys_goes_on_without(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    path = folder / "kit.toml"
    lines = [line for line in path.read_text().splitlines() if "_key = " not in line]
    path.write_text("\n".join(lines))
    (folder / "ca" / "federation.key").unlink()
    old = Kit(folder)
    for role in ("device", "coordinator"):
        found = credentials.read(old.enroll(f"new-{role}", role))
        assert (found.federation_key, found.signing_key, found.ticket) == ("", "", "")
        assert found.seal() is None
    old.revoke("new-device")
    assert revocations.read(folder / "revoked-devices").keys == frozenset()
    assert made.plan.federation_key


def test_a_key_of_another_kit_is_not_taken_for_its_own(folder: Path) -> None:
    kit.create(folder, plan(folder))
    path = folder / "ca" / "federation.key"
    path.write_text(signing.new_key())
    with pytest.raises(KitError, match=r"federation\.key: not the key that this kit was made with"):
        Kit(folder)
    path.write_text(signing.new_key()[:20])
    with pytest.raises(KitError, match=r"federation\.key: a key .*; put back a copy of it"):
        Kit(folder)
    path.unlink()
    with pytest.raises(KitError, match=r"federation.key: No such file"):
        Kit(folder)


@pytest.mark.parametrize("name", ["federation_key", "signing_key", "ticket"])
@pytest.mark.parametrize(
    ("value", "what"),
    [("", "is missing"), ("no key", "is no base64"), ("nonsense", "has 6 bytes")],
)
def test_keys_that_are_damaged_are_named(folder: Path, name: str, value: str, what: str) -> None:
    found = credentials.read(kit.create(folder, plan(folder)).enroll("pi-3"))
    with pytest.raises(Damaged, match=f"^{name} {what}"):
        structs.replace(found, **{name: value}).seal()


def test_the_enrolled_devices_are_listed_by_their_keys(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    listed = folder / "enrolled-devices"
    assert revocations.read(listed).keys == frozenset()
    made.enroll("kh-a", keyholder=True)
    keys = {name: credentials.read(made.enroll(name)).signing_key for name in ("pi-3", "pi-4")}
    assert revocations.read(listed).keys == {signing.public_key(key) for key in keys.values()}
    made.revoke("pi-3")
    assert revocations.read(listed).keys == {signing.public_key(keys["pi-4"])}


# Keyholders


def _keyholders(folder: Path, name: str) -> dict[ClientId, str]:
    return credentials.read(folder / "accounts" / f"{name}.toml").pinned


def _starts_as_it_is_told(said: str, folder: Path) -> None:
    """The lines that are to be typed speak of files that are there, and of words that it takes."""
    copy, start = (shlex.split(line) for line in said.splitlines() if line.startswith("    "))
    assert copy[0] == "scp" and copy[-1] == "kh-a:"
    files = [Path(file) for file in copy[1:-1]]
    assert [file.parent for file in files] == [folder / "accounts", folder, folder]
    assert all(file.is_file() for file in files)
    assert start[:2] == ["fedmqtt", "keyholder"]
    parser = argparse.ArgumentParser()
    keyholder_command.add_arguments(parser)
    found = parser.parse_args(start[2:])
    assert [str(one) for one in (found.credentials, found.enrolled, found.revoked)] == [
        file.name for file in files
    ]
    assert found.floor == Privacy().floor


def test_keyholders_are_known_to_whom_is_enrolled_after_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = kit.create(folder, plan(folder))
    made.enroll("pi-1")
    assert command_line.run(["enroll", str(folder), "kh-a", "--keyholder"]) == 0
    said = capsys.readouterr()
    public = signing.public_key(credentials.read(folder / "accounts" / "kh-a.toml").signing_key)
    # Of kits and files that are ready to be copied.
    assert "the coordinator's file" in said.out
    _starts_as_it_is_told(said.out, folder)
    assert "pi-1 were enrolled before" in said.err and f"'kh-a {public}'" in said.err
    Kit(folder).enroll("pi-2")
    assert _keyholders(folder, "pi-1") == {}
    assert _keyholders(folder, "pi-2") == _keyholders(folder, "coordinator") == {"kh-a": public}
    assert _keyholders(folder, "monitor") == {}
    # Another device's enrolment is told of nothing.
    assert command_line.run(["enroll", str(folder), "pi-3"]) == 0
    assert capsys.readouterr().err == ""
    assert _mode(folder / "accounts" / "coordinator.toml") == 0o600
    for name in ("pi-2", "coordinator"):
        assert credentials.read(folder / "accounts" / f"{name}.toml").seal() is not None


def test_a_keyholder_that_was_revoked_is_named_in_no_later_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = kit.create(folder, plan(folder))
    for name in ("kh-a", "kh-b"):
        made.enroll(name, keyholder=True)
    made.enroll("pi-1")
    old = _keyholders(folder, "pi-1")
    assert command_line.run(["revoke", str(folder), "kh-a"]) == 0
    assert "the files of pi-1 name it still" in capsys.readouterr().err
    Kit(folder).enroll("pi-2")
    left = {ClientId("kh-b"): old[ClientId("kh-b")]}
    assert _keyholders(folder, "pi-2") == _keyholders(folder, "coordinator") == left
    # Enrolled again it is a keyholder again, by another key.
    Kit(folder).enroll("kh-a")
    now = _keyholders(folder, "coordinator")
    assert now.keys() == old.keys() and now[ClientId("kh-a")] != old[ClientId("kh-a")]


def test_a_coordinators_file_that_was_carried_away_is_told_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit.create(folder, plan(folder))
    (folder / "accounts" / "coordinator.toml").unlink()
    assert command_line.run(["enroll", str(folder), "kh-a", "--keyholder"]) == 0
    assert "coordinator were enrolled before" in capsys.readouterr().err


def test_only_a_device_with_keys_becomes_a_keyholder(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    with pytest.raises(KitError, match="is a coordinator: a keyholder has an account of its own"):
        made.enroll("second", "coordinator", keyholder=True)
    path = folder / "kit.toml"
    path.write_text(
        "\n".join(line for line in path.read_text().splitlines() if "_key = " not in line)
    )
    with pytest.raises(KitError, match="made before there were keys"):
        Kit(folder).enroll("kh-a", keyholder=True)
    assert not (folder / "accounts" / "kh-a.toml").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ("kh-a",),
        ("kh-a secret",),
        (f"kh/a {'A' * 43}=",),
        (f"kh-a {'A' * 43}=\n",),
        (f"kh-a {'A' * 43}=", f"kh-a {'B' * 43}="),
        (f"kh-a {'A' * 43}=", f"kh-b {'A' * 43}="),
    ],
)
def test_what_names_no_keyholder_is_refused(folder: Path, wrong: tuple[str, ...]) -> None:
    path = kit.create(folder, plan(folder)).enroll("pi-1")
    path.write_text(f"{path.read_text()}keyholders = {json.dumps(wrong)}\n")
    with pytest.raises(CredentialsError, match=r"pi-1.toml: keyholders: "):
        credentials.read(path)


def test_who_is_not_enrolled_cannot_be_revoked(folder: Path) -> None:
    made = kit.create(folder, plan(folder))
    with pytest.raises(
        KitError, match="pi-9 is not enrolled; enrolled are: coordinator, monitor, operator"
    ):
        made.revoke("pi-9")


def test_a_folder_without_a_kit_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"kit.toml: No such file .*`fedmqtt broker-kit"):
        Kit(tmp_path)


@pytest.mark.parametrize("name", ["signing_key", "ticket", "federation_key", "id"])
def test_keys_of_another_device_or_federation_are_named(folder: Path, name: str) -> None:
    other = folder.parent / "other" if name == "federation_key" else folder
    for one in {folder, other}:
        kit.create(one, plan(one))
    ours = credentials.read(Kit(folder).enroll("pi-3"))
    theirs = credentials.read(Kit(other).enroll("pi-4"))
    assert ours.seal() is not None
    with pytest.raises(Damaged, match="do not fit together"):
        structs.replace(ours, **{name: getattr(theirs, name)}).seal()


@pytest.mark.parametrize("name", ["federation", "id", "ticket", "federation_key", "signing_key"])
def test_a_coordinators_keys_are_those_of_its_federation(folder: Path, name: str) -> None:
    others = folder.parent / "other"
    kit.create(folder, plan(folder))
    kit.create(others, structs.replace(plan(others), federation="other")).enroll("north")
    ours, theirs = (
        credentials.read(one / "accounts" / "coordinator.toml") for one in (folder, others)
    )
    assert ours.seal() is not None
    changed = structs.replace(ours, **{name: "north" if name == "id" else getattr(theirs, name)})
    with pytest.raises(Damaged, match="federation, id and keys do not fit together"):
        changed.seal()


def test_a_coordinator_of_a_kit_without_tickets_for_it_goes_on(folder: Path) -> None:
    kit.create(folder, plan(folder))
    found = credentials.read(folder / "accounts" / "coordinator.toml")
    assert structs.replace(found, ticket="").seal() is not None
    with pytest.raises(Damaged, match="do not fit together"):
        structs.replace(found, ticket="", signing_key=signing.new_key()).seal()


def test_a_damaged_kit_is_named(folder: Path) -> None:
    kit.create(folder, plan(folder))
    (folder / "kit.toml").write_text("federation = 3")
    with pytest.raises(KitError, match=r"kit.toml: .*put back a copy"):
        Kit(folder)


def test_credentials_are_what_they_were(folder: Path) -> None:
    made = kit.create(folder, plan(folder, "certificate"))
    path = made.enroll("pi-3")
    read = credentials.read(path)
    assert tomllib.loads(credentials.render(read)) == tomllib.loads(path.read_text())
    assert (read.id, read.federation, read.username) == ("pi-3", FEDERATION, "pi-3")
    assert read.tls_context().verify_mode == ssl.CERT_REQUIRED


def test_credentials_that_others_may_read_are_refused(folder: Path) -> None:
    path = kit.create(folder, plan(folder)).enroll("pi-3")
    path.chmod(0o644)
    with pytest.raises(CredentialsError, match="others on this machine may read it; chmod 600"):
        credentials.read(path)


def test_damaged_credentials_are_told_without_quoting_them(folder: Path) -> None:
    path = kit.create(folder, plan(folder)).enroll("pi-3")
    secret = credentials.read(path).password
    path.write_text(f"password = {secret}")
    with pytest.raises(CredentialsError) as told:
        credentials.read(path)
    assert secret not in str(told.value)


def test_no_secret_is_in_what_a_log_or_a_traceback_shows(folder: Path) -> None:
    made = kit.create(folder, plan(folder, "certificate"))
    path = made.enroll("pi-3")
    read = credentials.read(path)
    with_password = structs.replace(read, password="hunter2", certificate="", key="")
    assert "hunter2" not in repr(with_password) and "pi-3" in repr(with_password)
    assert read.signing_key not in repr(read) and "PRIVATE KEY" not in repr(read)
    assert "PRIVATE KEY" not in repr(certificates.Pair(read.certificate, read.key))
    keys = signing_keys.AccountKeys(read.federation_key, read.signing_key)
    assert read.signing_key not in repr(keys) and read.federation_key in repr(keys)
    url = parse_broker_url("mqtt://ann:hunter2@pi")
    assert url.password == "hunter2" and "hunter2" not in repr(url)


# The rules are made of the table of topics


def test_a_device_may_write_its_own_topics_and_those_alone() -> None:
    topics = Topics(FEDERATION)
    writes = {r.topic_filter for r in access.of_devices(FEDERATION, "pi-3") if r.access == "write"}
    own = {
        topics.path(PresenceOf(ClientId("pi-3"))),
        f"fed/v1/{FEDERATION}/update/+/pi-3/+/+",
    }
    assert writes == own


def test_every_channel_is_for_somebody() -> None:
    topics = Topics(FEDERATION)
    for kind, channel in CHANNELS.items():
        rules = {(r.access, r.topic_filter) for r in access.of_devices(FEDERATION, "%u")}
        assert (("write", topics.filter(kind, "%u")) in rules) == (channel.writer == "client")
        if channel.reader == "client":
            assert ("read", topics.filter(kind, "%u")) in rules


def test_a_filter_matches_every_address_of_its_kind() -> None:
    topics = Topics(FEDERATION)
    ann = ClientId("ann")
    assert topics.filter(Inbox, "ann") == topics.path(Inbox(ann))
    part = topics.path(UpdatePart(3, ann, RoundId(7), "0")).split("/")
    pattern = topics.filter(UpdatePart, "ann").split("/")
    assert all(level in ("+", given) for level, given in zip(pattern, part, strict=True))


# The commands


def test_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = ["broker-kit", str(folder), "--federation", "demo", "--host", "broker.example"]
    assert command_line.run(made) == 0
    assert "fedmqtt enroll" in capsys.readouterr().out
    assert command_line.run(["enroll", str(folder), "pi-3", "--qr"]) == 0
    said = capsys.readouterr().out
    assert "pi-3.toml is all that pi-3 needs" in said
    assert "█" in said
    secret = credentials.read(folder / "accounts" / "pi-3.toml").password
    assert secret not in said
    assert command_line.run(["revoke", str(folder), "pi-3"]) == 0
    told = capsys.readouterr().out
    assert "pi-3 is revoked" in told and f"--revoked {folder / 'revoked-devices'}" in told
    assert command_line.run(["revoke", str(folder), "pi-3"]) == 2
    assert command_line.run(["revoke", str(folder), "coordinator"]) == 0
    assert "make another kit" in capsys.readouterr().out
    assert command_line.run(made) == 2
    assert "nothing in it is written over" in capsys.readouterr().err


def test_the_folder_of_what_must_survive_is_there_however_the_kit_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--federation", "demo", "--host", "broker.example"]
    for named in ("kit", "./other/kit", str(tmp_path / "third")):
        assert command_line.run(["broker-kit", named, *words]) == 0
        data = _settings((Path(named) / "broker" / "mosquitto.conf").read_text())[
            "persistence_location"
        ]
        assert Path(data[0]) == tmp_path / named / "data"
        assert _mode(Path(data[0])) == 0o700
        assert Path(data[0]).owner() == (tmp_path / named / "broker").owner()


def test_what_is_deployed_for_trying_out_holds_in_a_kit_too(folder: Path) -> None:
    kit.create(folder, plan(folder))
    config = _settings((folder / "broker" / "mosquitto.conf").read_text())
    deployed = _settings(DEPLOYED_CONFIG.read_text())
    assert deployed.keys() > SAID_ANEW
    for name, values in deployed.items():
        if name not in SAID_ANEW:
            assert config[name] == values, name
    # Said anew, and no less for that.
    assert config["persistence"] == deployed["persistence"] == ["true"]
    assert config.keys() >= SAID_ANEW


def _settings(config: str) -> dict[str, list[str]]:
    """The values of each, in their order."""
    found: dict[str, list[str]] = {}
    for line in config.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("more", "user"),
    [([], True), (["--place", "/etc/mosquitto/demo", "--data", "/var/lib/mosquitto"], False)],
)
def test_a_broker_started_by_root_may_read_a_kit_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], user: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["broker-kit", "kit", "--federation", "demo", "--host", "broker.example", *more]
    assert command_line.run(words) == 0
    config = (tmp_path / "kit" / "broker" / "mosquitto.conf").read_text().splitlines()
    assert (f"user {tmp_path.owner()}" in config) == user


@pytest.mark.parametrize("host", ["", "a host", "a,b", "x\ny", "mqtts://a.b", "a.b:8883", "-a"])
def test_what_names_no_host_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    words = ["broker-kit", str(folder), "--federation", "demo", f"--host={host}"]
    assert command_line.run(words) == 2
    assert "expected a host name or an address" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--port", "8884"], "each needs a port of its own"),
        (["--websockets-port", "8883"], "each needs a port of its own"),
        (["--days", "99999999"], "--days 99999999: expected 1 to 36,500"),
        (["--devices", "0"], "--devices 0: expected 1 to 10,000,000"),
        (
            ["--place", "/a b", "--data", "/d"],
            "--place '/a b': brokers' configurations take no blanks",
        ),
        (["--place", "/etc/kit"], "--place /etc/kit: the broker reads its files elsewhere"),
        (["--data", "/x\ny"], "--data '/x\\ny': brokers' configurations take no blanks"),
    ],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_what_no_broker_can_be_told_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], complaint: str
) -> None:
    words = ["broker-kit", str(folder), "--federation", "demo", "--host", "localhost", *more]
    assert command_line.run(words) == 2
    assert complaint in capsys.readouterr().err
    assert not folder.exists()


def test_a_certificate_fits_into_a_qr_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = "mqtt." + "a-long-host-name." * 3 + "example"
    words = ["broker-kit", str(folder), "--federation", "f" * 64, "--host", host, "--login"]
    assert command_line.run([*words, "certificate"]) == 0
    assert command_line.run(["enroll", str(folder), "p" * 64, "--qr"]) == 0
    assert "█" in capsys.readouterr().out
