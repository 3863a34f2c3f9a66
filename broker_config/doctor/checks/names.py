"""Does a name with a dot in it stay one name?"""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, not_checked, ok, warning
from fedmqtt.mqtt_probe import ProbeEnded
from fedmqtt.topics import Digest, ModelChunk

NEEDS = ("acl_allows",)

WITHOUT_DOTS = {"": "names of devices and of the federation without dots"}

_WITHIN_S = 2.0


def check(case: Case) -> Finding:
    if case.role != "coordinator":
        return not_checked(f"a {case.role} has no topic to try it with: ask as the coordinator")
    topic = case.topics.path(ModelChunk(Digest(f"{case.nonce}.dot"), 0))
    try:
        with case.connected() as probe:
            probe.subscribe(topic)
            probe.publish(topic, case.nonce.encode())
            is_heard = any(got.topic == topic for got in probe.hear(_WITHIN_S))
    except ProbeEnded as ended:
        return _warning(f"a dot in a topic ends the connection: {ended}")
    if not is_heard:
        return _warning("a dot in a topic is something else here: what is said there is not heard")
    return ok("a dot in a name is a dot")


def _warning(says: str) -> Finding:
    return warning(
        says,
        "A device called pi.3 would not be heard of, nor anything of a federation called home.1.",
        WITHOUT_DOTS,
    )
