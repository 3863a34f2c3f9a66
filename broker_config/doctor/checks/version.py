"""Which MQTT does the broker speak, and what does it say that it is?"""

from broker_config.doctor import kinds
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, ok, warning
from fedmqtt.mqtt_probe import ProbeEnded

NEEDS = ("login",)

_TOPICS = ("$SYS/broker/version", "$SYS/brokers/+/version")
"""Mosquitto's, and EMQX's."""
_TEXT_MAX = 60


def check(case: Case) -> Finding:
    topic, called = _called(case)
    case.kind = case.kind or kinds.by_version(topic, called)
    says = f"{case.version}; {called or 'the broker does not tell us what it is'}"
    if case.version == "MQTT 5":
        return ok(says)
    return warning(
        says,
        "It works. But the broker does not say what it refuses or how large a packet may be, and"
        " offers do not count down for late clients.",
        {
            "mosquitto": "Mosquitto 1.6 or newer speaks MQTT 5",
            "rabbitmq": "RabbitMQ 3.13 or newer speaks MQTT 5",
            "nats": "NATS speaks 3.1.1 alone: set [transfer] chunk_bytes below its max_payload",
        },
    )


def _called(case: Case) -> tuple[str, str]:
    """Where it tells, and what; empty where it does not."""
    try:
        with case.connected() as probe:
            for topic in _TOPICS:
                probe.subscribe(topic)
            got = probe.receive(case.quiet_s)
    except ProbeEnded:
        # As some do on a topic that an account may not read.
        return "", ""
    if got is None or not got.topic.startswith("$SYS/"):
        return "", ""
    text = got.payload[:_TEXT_MAX].decode(errors="replace")
    return got.topic, text if text.isprintable() else ""
