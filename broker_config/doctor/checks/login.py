"""Does the broker let this account in?"""

import time

from broker_config.doctor.case import Case
from broker_config.doctor.checks.encryption import speaks_tls
from broker_config.doctor.finding import Finding, failed, not_checked, ok
from fedmqtt.folder_lock import holder_of
from fedmqtt.mqtt_probe import ProbeEnded, ProbeRefused, ProbeSilent, Version

NEEDS = ("encryption",)

_NAME, _KEEP_S = "-l", 86_400
_OLD_VERSION = {1, 0x84}
_ACCOUNT = {0, 4, 5, 0x86, 0x87, 0x8A, 0x8C}
_CLIENT_ID = {2, 0x85}
_FULL = {3, 0x88, 0x89, 0x97, 0x9F}
_VERSIONS: tuple[Version, ...] = ("MQTT 5", "MQTT 3.1.1")

_WANTS_AN_ACCOUNT = {
    "": "--credentials FILE, or mqtt://user:password@host",
    "mosquitto": "allow_anonymous true, in a network that you trust   (mosquitto.conf)",
    "emqx": "authentication = [], in a network that you trust",
    "rabbitmq": "mqtt.allow_anonymous = true, in a network that you trust",
    "nats": "no_auth_user: ..., in a network that you trust",
}
_WANTS_A_CERTIFICATE = {"": "--credentials FILE, of a device with a certificate of its own"}
_ACCOUNT_UNKNOWN = {
    "": "fedmqtt enroll KIT NAME makes the account anew, after fedmqtt revoke",
    "mosquitto": "password_file (or crlfile): the kit's newest one, then SIGHUP to the broker",
    "emqx": "authentication.1.bootstrap_file: the kit's newest one, or add the user in its console",
    "hivemq": "the user and its permissions, in the access management",
    "rabbitmq": "rabbitmqctl add_user NAME, and set_permissions for it",
    "nats": "authorization { users = [...] }",
    "aws": "attach the policy to the certificate, and activate both",
}


def check(case: Case) -> Finding:
    if case.may_be_the_device and (holder := holder_of(case.state)):
        return not_checked(
            f"{case.id} is at work on this machine ({holder}), and a broker that names sessions by"
            " accounts would cut it off",
            f"stop {case.id}, or go by the port where coordinators log in:"
            f" --broker mqtts://{case.broker.host}:PORT (8884, unless the kit has another)",
        )
    last: ProbeEnded | None = None
    for version in _VERSIONS:
        try:
            _come_in(case, version)
        except ProbeRefused as refused:
            if version == "MQTT 5" and refused.code in _OLD_VERSION:
                continue
            return _refused(case, refused)
        except ProbeSilent as silent:
            return _no_answer(case, silent)
        except ProbeEnded as ended:
            # Some brokers of 3.1.1 hang up on a CONNECT of version 5.
            last = ended
            continue
        return ok(_who(case))
    return _no_answer(case, last)


def _come_in(case: Case, version: Version) -> None:
    case.version = version
    resume = case.role == "device"
    began = time.monotonic()
    with case.connected(_NAME, resume=resume, keep_s=_KEEP_S if resume else 0) as probe:
        case.welcome = probe.welcome
        # TCP, TLS and CONNECT. A proxy that is near may have answered for TCP.
        case.way_s = max(case.way_s, (time.monotonic() - began) / 4)
        # We came under a name that nobody has used before.
        case.session_is_the_devices = resume and probe.welcome.session_present
    if resume and not case.session_is_the_devices:
        with case.connected(_NAME):
            pass


def _who(case: Case) -> str:
    who = "anybody" if case.is_anonymous else f"{case.broker.username or case.id}"
    said = f"let in as {who}"
    if case.session_is_the_devices:
        said += (
            f"; the broker names sessions by accounts: if {case.id} is at work it has been cut off,"
            " and comes back by itself"
        )
    return said


def _refused(case: Case, refused: ProbeRefused) -> Finding:
    if refused.code in _ACCOUNT and case.is_anonymous:
        return failed(
            f"not without an account: {refused}",
            "The broker lets nobody in without one.",
            _WANTS_AN_ACCOUNT if refused.code else _WANTS_A_CERTIFICATE,
            denied=True,
        )
    if refused.code in _ACCOUNT:
        return failed(
            f"account {case.broker.username or case.id} is not let in: {refused}",
            "It is unknown there, its password or certificate is wrong, or it was revoked.",
            _ACCOUNT_UNKNOWN,
            denied=True,
        )
    if refused.code in _CLIENT_ID:
        return failed(
            f"client id {case.nonce!r} is not taken: {refused}",
            "The broker has a rule for client ids. Ours are FEDERATION:ID for a device, and"
            " FEDERATION::coordinator:... for a coordinator.",
            {
                "aws": 'iot:Connect on "arn:...:client/*" in the policy',
                "mosquitto": "clientid_prefixes",
            },
            denied=True,
        )
    if refused.code in _FULL:
        return failed(
            f"the broker takes nobody now: {refused}",
            "It is full, busy, or counts how often we come.",
            {
                "mosquitto": "max_connections   (mosquitto.conf)",
                "emqx": "listeners.ssl.default.max_connections, max_conn_rate",
                "nats": "max_connections",
                "aws": "500 CONNECTs a second for an account: ask for more",
            },
        )
    return failed(f"refused: {refused}", "The broker's log says more.", denied=True)


def _no_answer(case: Case, ended: ProbeEnded | None) -> Finding:
    if case.tls is None and speaks_tls(case):
        host, port = case.broker.host, case.broker.port
        return failed(
            f"port {port} is encrypted, and we came unencrypted",
            "The broker hangs up on whoever does not begin with TLS.",
            {"": f"mqtts://{host}:{port}, and --credentials or --tls-ca"},
        )
    return failed(
        f"no MQTT on port {case.broker.port}: {ended}",
        "Something else listens there, or the broker hangs up without a word: its log says why.",
        {"": "the port in the broker's address"},
    )
