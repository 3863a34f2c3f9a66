"""Has the broker's name an address here, and does its port answer?"""

import socket
import time

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, ok

NEEDS = ()

_WITHIN_S = 4.0
_OF_MOSQUITTO = "listener {port}   (mosquitto.conf; without one it listens on this machine alone)"
_OF_NATS = "mqtt {{ port: {port} }}, and jetstream enabled"
_OF_AWS = "port 8883, or 443 with ALPN; others are closed"
_LISTENING_ENCRYPTED = {
    "mosquitto": _OF_MOSQUITTO,
    "emqx": 'listeners.ssl.default.bind = "0.0.0.0:{port}"',
    "hivemq": "<tls-tcp-listener><port>{port}</port>   (config.xml)",
    "rabbitmq": "mqtt.listeners.ssl.default = {port}, and: rabbitmq-plugins enable rabbitmq_mqtt",
    "nats": _OF_NATS,
    "aws": _OF_AWS,
}
_LISTENING_UNENCRYPTED = {
    "mosquitto": _OF_MOSQUITTO,
    "emqx": 'listeners.tcp.default.bind = "0.0.0.0:{port}"',
    "hivemq": "<tcp-listener><port>{port}</port>   (config.xml)",
    "rabbitmq": "mqtt.listeners.tcp.default = {port}, and: rabbitmq-plugins enable rabbitmq_mqtt",
    "nats": _OF_NATS,
    "aws": f"mqtts:// instead of mqtt://: {_OF_AWS}",
}


def check(case: Case) -> Finding:
    host, port = case.broker.host, case.broker.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as bad:
        return failed(
            f"{host} has no address: {getattr(bad, 'strerror', None) or bad}",
            "No program on this machine finds the broker by that name.",
            {"": f"broker = ...: another name, or mend this one: getent hosts {host}"},
        )
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    faults = []
    for address in addresses:
        began = time.monotonic()
        try:
            socket.create_connection((address, port), _WITHIN_S).close()
        except OSError as bad:
            faults.append(f"{address}: {bad.strerror or 'no answer'}")
        else:
            case.way_s = time.monotonic() - began
            return ok(f"{host} is {address}; port {port} answers in {1000 * case.way_s:.1f} ms")
    lines = _LISTENING_ENCRYPTED if case.broker.tls else _LISTENING_UNENCRYPTED
    return failed(
        f"port {port} does not answer ({'; '.join(faults)})",
        "The broker is not running, listens elsewhere, or a firewall is between. Refused: the"
        " machine is there and the port is not. No answer: ask the firewall.",
        {kind: line.format(port=port) for kind, line in lines.items()},
    )
