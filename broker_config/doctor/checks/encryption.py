"""TLS: is the broker who it should be, and for how long?"""

import socket
import ssl
from datetime import UTC, datetime

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, Remedies, failed, ok, warning
from fedmqtt.mqtt_link import tls_alert

NEEDS = ("reach",)

_WITHIN_S = 4.0
_WARN_DAYS = 21
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME = {62, 64}
"""OpenSSL's numbers (`X509_V_ERR_...`): of a host's name, and of an address."""
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
"""Of MQTT 3.1.1, from nobody: whatever broker it is replies, or hangs up."""

_RENEW: Remedies = {
    "mosquitto": "certfile and keyfile: a new pair, then SIGHUP   (mosquitto.conf)",
    "emqx": "listeners.ssl.default.ssl_options.certfile and .keyfile",
    "hivemq": "<tls><keystore>: a new one   (config.xml)",
    "rabbitmq": "ssl_options.certfile and ssl_options.keyfile   (rabbitmq.conf)",
    "nats": "mqtt { tls { cert_file: ..., key_file: ... } }",
    "aws": "renewed by AWS; look at this machine's clock and CA certificates",
}


def check(case: Case) -> Finding:
    if case.tls is None:
        if case.broker.is_this_machine:
            return ok("none, and nothing leaves this machine")
        return warning(
            "none: everything can be read and changed on the way",
            "Models, answers and passwords travel in the open.",
            {"": "use mqtts://; `fedmqtt broker-kit` makes what it needs"},
        )
    where = (case.broker.host, case.broker.port)
    try:
        with (
            socket.create_connection(where, _WITHIN_S) as plain,
            case.tls.wrap_socket(plain, server_hostname=case.broker.host) as encrypted,
        ):
            return _good(encrypted)
    except ssl.SSLCertVerificationError as bad:
        return _not_believed(case, bad)
    except TimeoutError:
        return failed(
            f"port {where[1]} takes connections and says nothing",
            "Something else listens there, or the broker hangs.",
            {"": "the port in the broker's address, or a restart of the broker"},
        )
    except OSError as bad:
        return _no_tls(case, bad)


def speaks_tls(case: Case) -> bool:
    """Whether that port wants TLS, whoever it is."""
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    where = (case.broker.host, case.broker.port)
    try:
        with (
            socket.create_connection(where, _WITHIN_S) as plain,
            anybody.wrap_socket(plain, server_hostname=case.broker.host),
        ):
            return True
    except OSError as bad:
        # It wanted a certificate of ours: that, too, is TLS.
        return bool(tls_alert(str(bad)))


def _good(encrypted: ssl.SSLSocket) -> Finding:
    certificate = encrypted.getpeercert() or {}
    ends_at = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((datetime.fromtimestamp(ends_at, UTC) - datetime.now(UTC)).days)
    says = f"{encrypted.version()}; CA and host name are right; certificate good for {days} days"
    if days < _WARN_DAYS:
        return warning(
            says, "Then nobody connects any more, and no program says so before.", _RENEW
        )
    return ok(says)


def _not_believed(case: Case, bad: ssl.SSLCertVerificationError) -> Finding:
    host, why = case.broker.host, bad.verify_message.rstrip(".")
    if bad.verify_code == _EXPIRED:
        return failed(
            f"the broker's certificate has ended: {why}",
            "Or this machine's clock is ahead. Nobody connects until one of both is mended.",
            _RENEW,
            denied=True,
        )
    if bad.verify_code == _NOT_YET:
        return failed(
            f"the broker's certificate is from the future: {why}",
            "This machine's clock is behind, as on a board without a battery for it.",
            {"": "timedatectl set-ntp true, or set the clock"},
        )
    if bad.verify_code in _OTHER_NAME:
        return failed(
            f"the broker's certificate is for another name: {why}",
            "Use a name that is in the certificate, or make one for this name.",
            {"": f"fedmqtt broker-kit ... --host {host}", **_RENEW},
            denied=True,
        )
    return failed(
        f"the broker's certificate is signed by another CA: {why}",
        "Either the file of credentials is of another kit, or this is another broker.",
        {
            "": "ca = ... in the credentials (or --tls-ca): the CA that signed the broker's",
            "mosquitto": "certfile: with the CA's that signed it behind it   (mosquitto.conf)",
        },
        denied=True,
    )


def _no_tls(case: Case, bad: OSError) -> Finding:
    host, port = case.broker.host, case.broker.port
    if alert := tls_alert(str(bad)):
        return failed(
            f"the broker refuses TLS: {alert}",
            "It wants a client's certificate that we have not, or another version of TLS.",
            {"mosquitto": "tls_version tlsv1.2, or require_certificate false   (mosquitto.conf)"},
            denied=True,
        )
    if _speaks_plain_mqtt(case):
        return failed(
            f"port {port} is not encrypted",
            "The broker is there, and expects mqtt:// on this port.",
            {
                "": f"the address of the encrypted port: mqtts://{host}:8883",
                "mosquitto": f"listener {port}: certfile and keyfile below it   (mosquitto.conf)",
                "emqx": f'listeners.ssl.default.bind = "0.0.0.0:{port}"',
                "rabbitmq": f"mqtt.listeners.ssl.default = {port}",
                "nats": f"mqtt {{ port: {port}, tls {{ cert_file: ..., key_file: ... }} }}",
            },
        )
    return failed(
        f"no TLS on port {port}: {getattr(bad, 'reason', None) or bad.strerror or bad}",
        "Something else listens there, or a proxy that knows no such broker.",
        {"": "the port in the broker's address"},
    )


def _speaks_plain_mqtt(case: Case) -> bool:
    try:
        with socket.create_connection((case.broker.host, case.broker.port), _WITHIN_S) as plain:
            plain.settimeout(_WITHIN_S)
            plain.sendall(_CONNECT)
            return plain.recv(1) == b"\x20"
    except OSError:
        return False
