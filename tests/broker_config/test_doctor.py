"""`fedmqtt doctor` on real brokers, each with one thing wrong: it names that, and only that."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from broker_config import kit
from broker_config.certificates import Authority, Pair
from broker_config.doctor.case import Case, Needs
from broker_config.doctor.checks import acl_refuses
from broker_config.doctor_command import EXIT_NOT_LOOKED
from broker_config.kit import Kit
from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials, messages
from fedmqtt.envelope import BY_COORDINATOR
from fedmqtt.folder_lock import FolderLock
from fedmqtt.messages import Presence
from fedmqtt.mqtt_link import parse_broker_url, unread_tls_alert
from fedmqtt.mqtt_probe import Probe, ProbeOptions
from fedmqtt.topics import Topics
from tests.broker_config.doctors_patient import (
    Report,
    examined,
    forgetful,
    mosquitto_with,
    said,
)
from tests.broker_config.kit_broker import FEDERATION, KitBroker, plan, running_kit
from tests.broker_config.plain_client import PlainClient, connected
from tests.own_broker import free_port
from tests.programs import running, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here"),
]

_OPEN = ("--federation", FEDERATION, "--devices", "20", "--packet-max", "140000")
_ROLES = ("pi-3", "coordinator", "monitor", "operator")


def _at(url: str, *words: str) -> Report:
    return examined("--broker", url, *_OPEN, *words)


# What is as it should be


@pytest.fixture(scope="module")
def kit_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KitBroker]:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    with running_kit(_kit(folder), folder) as running:
        yield running


def _kit(folder: Path) -> Kit:
    made = kit.create(folder, plan(folder))
    made.enroll("pi-3")
    return made


def _file(folder: Path, name: str) -> str:
    return str(folder / "accounts" / f"{name}.toml")


def _as(folder: Path, name: str, *words: str) -> Report:
    words = ("--credentials", _file(folder, name), "--devices", "10", *words)
    return examined(*words, "--packet-max", "140000", "--model-mb", "1")


@pytest.mark.parametrize("name", _ROLES)
def test_a_kits_broker_is_well_for_each_of_its_accounts(kit_broker: KitBroker, name: str) -> None:
    report = _as(kit_broker.folder, name)
    assert report.exit_code == 0
    assert report.with_status("failed") | report.with_status("warning") == set()
    assert {"reach", "encryption", "login", "acl_allows", "acl_refuses"} <= report.with_status("ok")


def test_an_open_mosquitto_is_well_but_open(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url:
        report = _at(url)
    assert report.exit_code == 0
    assert report.with_status("warning") == {"acl_refuses"}
    assert "everybody may do everything" in report.says("acl_refuses")
    assert "mosquitto version 2." in report.says("version")


def test_an_older_version_of_mqtt_is_a_warning(embedded_broker: RunningBroker) -> None:
    report = _at(embedded_broker.url)
    assert report.exit_code == 0
    assert report.with_status("warning") == {"acl_refuses", "version"}
    assert {"packet_size", "retained", "session", "queue", "qos"} <= report.with_status("ok")


def test_nothing_is_left_on_the_broker(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url:
        for words in (("--role", "coordinator"), ("--role", "device", "--id", "pi-3")):
            examined("--broker", url, *_OPEN, *words)
        with connected(url, "who looks") as client:
            _finds_nothing(client, who_look=1)


def _finds_nothing(client: PlainClient, who_look: int) -> None:
    """Neither what is retained, nor a session."""
    client.subscribe("fed/#")
    client.subscribe("fence")
    client.publish("fence", b"")
    assert client.receive().topic == "fence"
    # All clients that there are, connected or with a session.
    client.subscribe("$SYS/broker/clients/total")
    while client.receive().payload != str(who_look).encode():
        pass


def test_a_device_at_work_is_left_in_peace(tmp_path: Path) -> None:
    presence = f"fed/v1/{FEDERATION}/presence/pi-3"
    here = messages.encode(Presence(online=True, session="1"))
    with mosquitto_with(tmp_path) as url, connected(url, "demo:pi-3") as device:
        device.publish(presence, here, retain=True)
        report = examined("--broker", url, *_OPEN, "--role", "device", "--id", "pi-3")
        assert "pi-3 is at work" in report.says("retained")
        device.subscribe(presence)
        assert device.receive().payload == here
        # And nobody has thrown it out meanwhile.
        device.publish("fence", b"")


def test_what_waits_for_a_device_goes_on_waiting(kit_broker: KitBroker) -> None:
    """The kit's broker gives whoever has the account the device's own session."""
    account = kit_broker.account("pi-3")
    inbox = f"fed/v1/{FEDERATION}/inbox/pi-3"
    _, broker = credentials.broker_of(Path(_file(kit_broker.folder, "pi-3")), ("device",))
    options = ProbeOptions(client_id="demo:pi-3", resume=True, keep_s=600)
    with Probe(broker, account.tls_context(), options) as device:
        assert device.subscribe(inbox).agreed
    path = Path(_file(kit_broker.folder, "coordinator"))
    coordinator, server = credentials.broker_of(path, ("coordinator",))
    with Probe(server, coordinator.tls_context(), ProbeOptions(client_id="c")) as probe:
        assert probe.publish(inbox, b"a receipt").agreed
    report = _as(kit_broker.folder, "pi-3")
    assert report.exit_code == 0
    assert "names sessions by accounts" in report.says("login")
    with Probe(broker, account.tls_context(), options) as device:
        got = device.receive(20)
        assert got is not None
        assert got.payload == b"a receipt"
    with Probe(broker, account.tls_context(), ProbeOptions(client_id="demo:pi-3")):
        pass


def test_a_device_whose_client_runs_here_is_not_cut_off(
    kit_broker: KitBroker, tmp_path: Path
) -> None:
    lock = FolderLock(tmp_path)
    report = _as(kit_broker.folder, "pi-3", "--state", str(tmp_path))
    assert report.exit_code == EXIT_NOT_LOOKED
    assert set(report.left_out) == set(report.checks) - {"reach", "encryption", "room"}
    assert f"pi-3 is at work on this machine (process {os.getpid()})" in report.says("login")
    assert report.checks["login"]["status"] == report.checks["qos"]["status"] == "not checked"
    # By the port where sessions are not named by accounts it may be looked at.
    servers = f"mqtts://localhost:{kit_broker.servers_port}"
    report = _as(kit_broker.folder, "pi-3", "--state", str(tmp_path), "--broker", servers)
    assert "login" in report.with_status("ok")
    assert (report.exit_code, report.left_out) == (0, [])
    file = _file(kit_broker.folder, "pi-3")
    _, text = said("--credentials", file, "--state", str(tmp_path))
    lock.release()
    _, _, summary = text.rpartition("\n\n")
    assert "Nothing that has to be mended" not in summary
    assert "NOT LOOKED AT: login, " in summary
    assert "To look: stop pi-3, or go by the port where coordinators log in" in summary


def test_a_devices_own_session_is_left_with_its_own_subscriptions(tmp_path: Path) -> None:
    root = f"fed/v1/{FEDERATION}"
    with mosquitto_with(tmp_path, "use_username_as_clientid true") as url:
        broker = parse_broker_url(url.replace("//", "//pi-3:any@"))
        options = ProbeOptions(client_id="demo:pi-3", resume=True, keep_s=600)
        with Probe(broker, None, options) as device:
            device.subscribe(f"{root}/inbox/pi-3")
        words = ("--role", "device", "--federation", FEDERATION, "--packet-max", "1000")
        report = examined("--broker", url.replace("//", "//pi-3:any@"), *words)
        assert "names sessions by accounts" in report.says("login")
        others = parse_broker_url(url.replace("//", "//coordinator:any@"))
        with Probe(others, None, ProbeOptions(client_id="c")) as coordinator:
            for topic in ("status/round", "presence/bob", "seat", "inbox/pi-3"):
                coordinator.publish(f"{root}/{topic}", b"said")
        with Probe(broker, None, options) as device:
            got = device.receive(20)
        assert got is not None
        assert got.topic == f"{root}/inbox/pi-3"


# Whose offers they are


def test_an_offer_that_the_federation_did_not_sign_is_named(kit_broker: KitBroker) -> None:
    path = Path(_file(kit_broker.folder, "coordinator"))
    coordinator, server = credentials.broker_of(path, ("coordinator",))
    offer = f"fed/v1/{FEDERATION}/offer"
    with Probe(server, coordinator.tls_context(), ProbeOptions(client_id="c")) as probe:
        assert probe.publish(offer, b"a round", retain=True).agreed
        report = _as(kit_broker.folder, "pi-3")
        assert probe.publish(offer, b"", retain=True).agreed
    assert report.exit_code == 1
    assert report.with_status("failed") == {"signatures"}
    assert "it is not signed by the federation" in report.says("signatures")


def test_a_signed_offer_and_no_keys_is_named(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url, connected(url, "coordinator") as coordinator:
        coordinator.publish(f"fed/v1/{FEDERATION}/offer", BY_COORDINATOR + bytes(64), retain=True)
        report = _at(url, "--role", "device", "--id", "pi-3")
    assert report.with_status("failed") == {"signatures"}
    assert "this federation wants credentials with keys" in report.says("signatures")


# What this machine is like


def test_a_clock_that_is_behind_the_coordinators_is_named(tmp_path: Path) -> None:
    opened = (datetime.now(UTC) + timedelta(minutes=10)).isoformat(timespec="seconds")
    with mosquitto_with(tmp_path) as url, connected(url, "coordinator") as coordinator:
        page = json.dumps({"round": 3, "opened": opened}).encode()
        coordinator.publish(f"fed/v1/{FEDERATION}/status/round", page, retain=True)
        report = _at(url)
    assert report.with_status("failed") == {"clock"}
    assert "behind the coordinator's by " in report.says("clock")


def test_a_model_that_is_too_large_for_this_machine_is_named(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url:
        report = _at(url, "--model-mb", "1e9")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"room"}
    assert "--state DIR on another disk" in report.lines_to_change("room")


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url, connected(url, "who looks") as looks:
        looks.subscribe("fed/#")
        # As many messages as keep it busy until it is told to end.
        words = ("--broker", url, "--federation", FEDERATION, "--devices", "100000")
        with running(tmp_path, "fedmqtt", "doctor", *words) as doctor:
            while looks.receive().payload != (300).to_bytes(4):
                pass
            doctor.process.send_signal(signal.SIGINT)
            assert doctor.wait() == 130
        assert "Traceback" not in doctor.log
        with connected(url, "who comes later") as later:
            _finds_nothing(later, who_look=2)


# What is wrong with a broker


@pytest.mark.parametrize(
    ("line", "check", "change"),
    [
        ("message_size_limit 20000", "packet_size", "message_size_limit 0"),
        ("retain_available false", "retained", "retain_available true"),
        ("max_queued_messages 100", "queue", "max_queued_messages 400"),
        ("max_qos 0", "qos", "max_qos 2"),
    ],
)
def test_one_wrong_line_is_named_with_the_right_one(
    line: str, check: str, change: str, tmp_path: Path
) -> None:
    with mosquitto_with(tmp_path, line) as url:
        report = _at(url, "--kind", "mosquitto")
    assert report.exit_code == 1
    assert report.with_status("failed") == {check}
    assert report.with_status("warning") <= {"acl_refuses"}
    assert f"Mosquitto: {change}" in report.lines_to_change(check)
    assert "EMQX" not in report.lines_to_change(check)


def test_of_a_broker_that_does_not_say_what_it_is_all_lines_are_told(tmp_path: Path) -> None:
    # What it is lies in a retained message, too.
    with mosquitto_with(tmp_path, "retain_available false") as url:
        report = _at(url)
    assert "does not tell us what it is" in report.says("version")
    for line in ("Mosquitto: retain_available", "EMQX: mqtt.retain_available", "HiveMQ: <retained"):
        assert line in report.lines_to_change("retained")


def test_the_largest_packet_is_found_by_trying(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "message_size_limit 20000") as url:
        report = _at(url)
    found = int(report.says("packet_size").partition(" ")[0].replace(",", ""))
    # To the next KiB below the limit, which is one of payloads: the rest is topic and header.
    assert 20_000 - 1024 < found < 20_000 + 100


def test_a_limit_that_is_announced_is_lived_with(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "max_packet_size 20000") as url:
        report = _at(url)
    assert report.exit_code == 0
    assert report.with_status("warning") == {"acl_refuses", "packet_size"}
    assert "20,000 announced" in report.says("packet_size")
    assert "cut their chunks to 18,976 bytes" in report.checks["packet_size"]["means"]


def test_a_broker_that_keeps_no_session_is_named(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url, forgetful(url) as forgets:
        report = _at(forgets, "--kind", "rabbitmq")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"session"}
    assert report.says("queue") == "needs session"
    assert "mqtt.max_session_expiry_interval_seconds" in report.lines_to_change("session")


def test_one_message_at_a_time_is_a_warning(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "max_inflight_messages 1") as url:
        report = _at(url)
    assert report.exit_code == 0
    assert report.with_status("warning") == {"acl_refuses", "in_flight"}
    assert "max_inflight_messages 20" in report.lines_to_change("in_flight")


def test_who_has_no_account_is_told(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "allow_anonymous false") as url:
        report = _at(url)
    assert report.exit_code == 3
    assert report.with_status("failed") == {"login"}
    assert "--credentials FILE" in report.lines_to_change("login")
    assert report.says("retained") == "needs acl allows"


# What is wrong with an account's rules


def _with_rules(folder: Path, before: str, after: str) -> Kit:
    made = _kit(folder)
    acl = folder / "broker" / "acl"
    assert before in acl.read_text()
    acl.write_text(acl.read_text().replace(before, after))
    return made


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (f"pattern read fed/v1/{FEDERATION}/offer", "pattern readwrite fed/#", "may write"),
        (f"fed/v1/{FEDERATION}/presence/%u", f"fed/v1/{FEDERATION}/presence/+", "write presence"),
        (
            f"pattern read fed/v1/{FEDERATION}/offer",
            f"pattern readwrite fed/v1/{FEDERATION}/offer",
            "write offer",
        ),
        (
            f"pattern write fed/v1/{FEDERATION}/update",
            f"pattern readwrite fed/v1/{FEDERATION}/update",
            "read update",
        ),
    ],
)
def test_rules_that_are_too_open_are_named(
    before: str, after: str, named: str, tmp_path: Path
) -> None:
    folder = tmp_path / "kit"
    with running_kit(_with_rules(folder, before, after), folder):
        report = _as(folder, "pi-3", "--kind", "mosquitto")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"acl_refuses"}
    assert named in report.says("acl_refuses")
    assert "acl_file" in report.lines_to_change("acl_refuses")


@pytest.mark.parametrize("kind", ["update/+/%u/+/+", "presence/%u"])
def test_rules_that_are_too_strict_are_named(kind: str, tmp_path: Path) -> None:
    line = f"pattern write fed/v1/{FEDERATION}/{kind}"
    folder = tmp_path / "kit"
    with running_kit(_with_rules(folder, line, "# taken out"), folder):
        report = _as(folder, "pi-3", "--kind", "mosquitto")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"acl_allows"}
    assert report.says("acl_allows") == f"a device may not write {kind.partition('/')[0]}"
    assert line in report.lines_to_change("acl_allows")


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_coordinator_that_may_not_is_told(access: str, tmp_path: Path) -> None:
    line = f"topic {access} fed/v1/{FEDERATION}/#"
    folder = tmp_path / "kit"
    with running_kit(_with_rules(folder, line, "# taken out"), folder):
        report = _as(folder, "coordinator", "--kind", "mosquitto")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"acl_allows"}
    assert f"a coordinator may not {access} " in report.says("acl_allows")
    assert line in report.lines_to_change("acl_allows")


# What is wrong with TLS, and on the way


def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = _kit(folder)
    ca = Pair((folder / "ca" / "ca.pem").read_text(), (folder / "ca" / "ca.key").read_text())
    expired = Authority(ca).broker(["localhost"], days=0)
    (folder / "broker" / "broker.pem").write_text(expired.certificate)
    (folder / "broker" / "broker.key").write_text(expired.key)
    with running_kit(made, folder):
        report = _as(folder, "pi-3", "--kind", "mosquitto")
    _is_not_believed(report, "certificate has ended", "certfile")


def _is_not_believed(report: Report, says: str, change: str) -> None:
    assert report.exit_code == 3
    assert report.with_status("failed") == {"encryption"}
    assert says in report.says("encryption")
    assert change in report.lines_to_change("encryption")
    assert report.says("login") == "needs encryption"


def test_another_host_name_is_named(kit_broker: KitBroker) -> None:
    url = f"mqtts://127.0.0.1:{kit_broker.port}"
    report = _as(kit_broker.folder, "pi-3", "--broker", url)
    _is_not_believed(report, "for another name", "--host 127.0.0.1")


def test_another_ca_is_named(kit_broker: KitBroker, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(Authority.new("other").pair.certificate)
    report = examined(
        *("--broker", f"mqtts://localhost:{kit_broker.port}", *_OPEN, "--tls-ca", str(ca))
    )
    _is_not_believed(report, "signed by another CA", "--tls-ca")


def test_a_wrong_password_is_named(kit_broker: KitBroker) -> None:
    ca = str(kit_broker.folder / "broker" / "ca.pem")
    url = f"mqtts://pi-3:guessed@localhost:{kit_broker.port}"
    report = examined("--broker", url, *_OPEN, "--tls-ca", ca)
    assert report.exit_code == 3
    assert report.with_status("failed") == {"login"}
    assert "account pi-3 is not let in" in report.says("login")
    assert "guessed" not in str(report)


def test_a_device_with_a_certificate_is_well_and_a_revoked_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = kit.create(folder, plan(folder, "certificate"))
    made.enroll("pi-3")
    lost = Path(made.enroll("lost")).rename(tmp_path / "lost.toml")
    made.revoke("lost")
    with running_kit(made, folder) as running_broker:
        assert _as(folder, "pi-3").exit_code == 0
        report = examined("--credentials", str(lost), "--kind", "mosquitto")
        ca = str(folder / "broker" / "ca.pem")
        url = f"mqtts://localhost:{running_broker.port}"
        without = examined("--broker", url, *_OPEN, "--tls-ca", ca)
    assert report.exit_code == without.exit_code == 3
    assert report.with_status("failed") == without.with_status("failed") == {"login"}
    assert report.says("login") == "account lost is not let in: certificate revoked"
    assert "crlfile" in report.lines_to_change("login")
    assert without.says("login") == "not without an account: certificate required"


def test_why_a_broker_hung_up_is_read_though_writing_failed_first(tmp_path: Path) -> None:
    """As on a busy machine: it has looked at the certificate and gone before CONNECT is out."""
    folder = tmp_path / "kit"
    made = kit.create(folder, plan(folder, "certificate"))
    lost = credentials.read(Path(made.enroll("lost")).rename(tmp_path / "lost.toml"))
    made.revoke("lost")
    with running_kit(made, folder) as broker:
        plain = socket.create_connection(("localhost", broker.port))
        with lost.tls_context().wrap_socket(plain, server_hostname="localhost") as encrypted:

            def cannot_write() -> bool:
                try:
                    encrypted.send(b"CONNECT")
                except OSError:
                    return True
                return False

            wait_until(cannot_write)
            assert unread_tls_alert(encrypted) == "certificate revoked"


def test_an_encrypted_port_that_is_spoken_to_in_plain_is_named(kit_broker: KitBroker) -> None:
    report = _at(f"mqtt://localhost:{kit_broker.port}")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"login"}
    assert "is encrypted, and we came unencrypted" in report.says("login")
    assert f"mqtts://localhost:{kit_broker.port}" in report.lines_to_change("login")


def test_a_plain_port_that_is_asked_for_tls_is_named(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path) as url:
        report = _at(url.replace("mqtt:", "mqtts:"))
    assert report.exit_code == 1
    assert report.with_status("failed") == {"encryption"}
    assert "is not encrypted" in report.says("encryption")


def test_a_port_that_is_closed_is_named() -> None:
    report = _at(f"mqtt://127.0.0.1:{free_port()}")
    assert report.exit_code == 1
    assert report.with_status("failed") == {"reach"}
    assert "does not answer (127.0.0.1: Connection refused)" in report.says("reach")


def test_a_name_without_an_address_is_named() -> None:
    report = examined("--broker", "mqtts://nowhere.invalid", *_OPEN)
    assert report.exit_code == 1
    assert report.with_status("failed") == {"reach"}
    assert "nowhere.invalid has no address" in report.says("reach")


@pytest.mark.parametrize(("scheme", "check"), [("mqtt", "login"), ("mqtts", "encryption")])
def test_a_port_that_never_answers_is_named_and_waited_for_in_words(
    scheme: str, check: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        report = _at(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}")
    assert report.exit_code == 1
    assert report.with_status("failed") == {check}
    assert "Something else listens there" in report.checks[check]["means"]
    # It takes seconds, and says so meanwhile.
    assert f"... {check}\n" in capsys.readouterr().err


# What a person reads


def test_a_person_reads_lines_that_fit_and_what_to_mend(tmp_path: Path) -> None:
    with mosquitto_with(tmp_path, "message_size_limit 20000", "max_queued_messages 9") as url:
        code, text = said("--broker", url, *_OPEN)
    assert code == 1
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1].endswith("To mend: packet size, queue.")
    assert "\nFAILED       queue          9 of 400 messages kept" in text
    assert "> Mosquitto: max_queued_messages 400" in text


@pytest.mark.parametrize(
    ("words", "because"),
    [
        ((), "give --federation NAME"),
        (("--federation", "demo", "--broker", "mqtt://broker.example"), "is not encrypted"),
        (("--federation", "a/b"), "federation name 'a/b'"),
        (
            ("--federation", "a", "--broker", "mqtts://a,b"),
            "2 nodes, and one is looked at at a time",
        ),
        (("--federation", "demo", "--role", "device"), "--id pi-3"),
        (("--federation", "demo", "--broker", "mqtts://x", "--tls-ca", "/nowhere"), "--tls-ca"),
        (("--credentials", "/nowhere"), "credentials /nowhere: No such file"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    words: tuple[str, ...], because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(*words) == (2, "")
    told = capsys.readouterr().err
    assert told.startswith("fedmqtt doctor: ") and because in told


# With a witness


@pytest.mark.parametrize("name", ["pi-3", "monitor"])
def test_what_a_witness_says_and_hears_is_as_a_kit_has_it(kit_broker: KitBroker, name: str) -> None:
    witness = _file(kit_broker.folder, "coordinator")
    report = _as(kit_broker.folder, name, "--witness", witness)
    assert report.with_status("failed") == set()
    assert {"acl_allows", "acl_refuses"} <= report.with_status("ok")


@pytest.mark.parametrize("kind", ["inbox/%u", "model/+/+"])
def test_a_witness_shows_what_is_agreed_to_and_not_passed_on(kind: str, tmp_path: Path) -> None:
    line = f"pattern read fed/v1/{FEDERATION}/{kind}"
    folder = tmp_path / "kit"
    with running_kit(_with_rules(folder, line, "# taken out"), folder):
        report = _as(
            folder, "pi-3", "--witness", _file(folder, "coordinator"), "--kind", "mosquitto"
        )
    assert report.with_status("failed") == {"acl_allows"}
    assert report.says("acl_allows") == f"a device may not read {kind.partition('/')[0]}"
    assert line in report.lines_to_change("acl_allows")


def test_a_witness_shows_that_a_device_hears_others(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    before, after = f"fed/v1/{FEDERATION}/inbox/%u", f"fed/v1/{FEDERATION}/inbox/+"
    with running_kit(_with_rules(folder, before, after), folder):
        alone = _as(folder, "pi-3")
        report = _as(folder, "pi-3", "--witness", _file(folder, "coordinator"))
    assert alone.with_status("failed") == set()
    assert report.with_status("failed") == {"acl_refuses"}
    assert report.says("acl_refuses") == "a device may read inbox"


def test_a_witness_of_another_federation_is_none(
    kit_broker: KitBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    witness = _file(kit_broker.folder, "coordinator")
    assert said("--federation", "other", "--witness", witness) == (2, "")
    assert "is for 'demo', not 'other'" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["password", "kit"])
def test_a_witness_that_is_not_let_in_is_named(
    kit_broker: KitBroker, tmp_path: Path, what: str
) -> None:
    """And not the broker, nor the account that is looked at."""
    own = kit_broker.account("coordinator")
    if what == "password":
        theirs = structs.replace(own, password="guessed")
    else:
        kit.create(tmp_path / "other", plan(tmp_path / "other"))
        other = credentials.read(tmp_path / "other" / "accounts" / "coordinator.toml")
        theirs = structs.replace(other, broker=own.broker)
    witness = tmp_path / "witness.toml"
    witness.write_text(credentials.render(theirs))
    witness.chmod(0o600)
    report = _as(kit_broker.folder, "pi-3", "--witness", str(witness))
    assert report.with_status("failed") == {"acl_allows"}
    assert report.says("acl_allows").startswith(f"the witness {witness} is of no use: ")
    assert "--witness" in report.lines_to_change("acl_allows")
    assert report.exit_code == 3
    assert "guessed" not in str(report)


def _case_of_old(kit_broker: KitBroker, *, witness: bool) -> Case:
    """As if the kit's broker spoke MQTT 3.1.1 alone, which says nothing of what it refuses."""
    path = Path(_file(kit_broker.folder, "pi-3"))
    account, broker = credentials.broker_of(path, ("device",))
    coordinators = Path(_file(kit_broker.folder, "coordinator"))
    return Case(
        broker=broker,
        topics=Topics(FEDERATION),
        federation=FEDERATION,
        role="device",
        id=account.id,
        needs=Needs(chunk_bytes=1024, devices=1, model_bytes=None, packet_cap_bytes=2048),
        tls=account.tls_context(),
        state=kit_broker.folder,
        tell=lambda _text: None,
        version="MQTT 3.1.1",
        witness=credentials.broker_of(coordinators, ("coordinator",))[1] if witness else None,
    )


def test_with_an_old_broker_a_witness_sees_what_is_refused(kit_broker: KitBroker) -> None:
    offer = f"fed/v1/{FEDERATION}/offer"
    seen = _case_of_old(kit_broker, witness=True)
    with seen.witnessing() as coordinator:
        coordinator.publish(offer, b"a real one", retain=True)
    alone = acl_refuses.check(_case_of_old(kit_broker, witness=False))
    assert (alone.status, "--witness would" in alone.says) == ("not checked", True)
    assert acl_refuses.check(seen).status == "ok"
    with seen.witnessing() as coordinator:
        coordinator.publish(offer, b"", retain=True)


def test_with_an_old_broker_a_witness_hears_what_should_be_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    rule = f"fed/v1/{FEDERATION}/offer"
    made = _with_rules(folder, f"pattern read {rule}", f"pattern readwrite {rule}")
    with running_kit(made, folder) as running_broker:
        found = acl_refuses.check(_case_of_old(running_broker, witness=True))
    assert (found.status, found.says) == ("failed", "a device may write offer")
