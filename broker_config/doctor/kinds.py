"""The kinds of broker for which the doctor knows which line to change."""

KINDS = {
    "mosquitto": "Mosquitto",
    "emqx": "EMQX",
    "hivemq": "HiveMQ",
    "rabbitmq": "RabbitMQ",
    "nats": "NATS",
    "aws": "AWS IoT Core",
}

_HOSTS = {
    ".amazonaws.com": "aws",
    ".hivemq.cloud": "hivemq",
    ".emqxsl.com": "emqx",
    ".emqxsl.cn": "emqx",
    ".emqxcloud.com": "emqx",
    ".emqx.cloud": "emqx",
    ".emqx.io": "emqx",
}
"""Of brokers that others run, by the end of the host's name."""


def by_host(host: str) -> str:
    """Empty where the name does not tell."""
    return next((kind for end, kind in _HOSTS.items() if host.lower().endswith(end)), "")


def by_version(topic: str, text: str) -> str:
    """Of what a broker says of itself under `$SYS`; empty where it does not tell."""
    if topic.startswith("$SYS/brokers/"):
        # Of each node of a cluster, and without a name.
        return "emqx"
    return next((kind for kind in KINDS if kind in text.lower()), "")
