"""The names by which programs connect: a broker lets go of the older of two of one name.

A colon is in no name of a federation or a device: "a.b" of "c" and "a" of "b.c" must not throw each
other out. A broker's rules may go by these names, as AWS IoT Core's policies do
(`broker_config/aws_files.py`), so they stand here alone.
"""

from fedmqtt.topics import TRIAL


def of_device(federation: str, client: str) -> str:
    return f"{federation}:{client}"


def of_coordinator(federation: str, token: str) -> str:
    return f"{federation}::coordinator:{token}"


def of_health(federation: str, token: str) -> str:
    """Of who asks whether a coordinator answers."""
    return f"{federation}::health:{token}"


def of_worker(federation: str, worker: str) -> str:
    return f"{federation}::worker:{worker}"


def of_operator(federation: str, token: str) -> str:
    """Of who gives one order."""
    return f"{federation}::operator:{token}"


def of_monitor(token: str) -> str:
    return f"watch-{token}"


def of_doctor(token: str) -> str:
    return f"{TRIAL}{token}"
