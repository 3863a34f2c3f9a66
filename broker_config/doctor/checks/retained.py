"""Does the broker keep a message for who comes later, and give it up again?"""

from broker_config.doctor.case import RETAINED_FOR_S, Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok, warning
from fedmqtt.mqtt_probe import ProbeEnded
from fedmqtt.topics import ClientId, PresenceOf

NEEDS = ("acl_allows",)
SHOWS_DOTS = True

_WITHIN_S = 3.0
_REMEDIES = {
    "mosquitto": "retain_available true   (mosquitto.conf)",
    "emqx": "mqtt.retain_available = true and retainer.enable = true",
    "hivemq": "<retained-messages><enabled>true</enabled></retained-messages>   (config.xml)",
    "rabbitmq": "mqtt.retained_message_store = rabbit_mqtt_retained_msg_store_dets",
    "nats": "jetstream enabled, with room for retained messages",
    "aws": "iot:RetainPublish in the policy, for offer, model, presence, seat and status",
}
_MEANS = "Offers, models and presence are retained: who comes late would never see a round."


def check(case: Case) -> Finding:
    assert case.welcome is not None
    if not case.welcome.retains:
        return failed("the broker says that it retains nothing", _MEANS, _REMEDIES)
    if case.role in ("monitor", "operator", "worker"):
        return not_checked(
            f"{case.role}s retain nothing; the broker does not say that it retains nothing"
        )
    if case.role == "device":
        return _of_device(case)
    assert case.loop_topic is not None
    return _try(case, case.loop_topic, b"retained", _wildcard(case.loop_topic))


def _of_device(case: Case) -> Finding:
    topic = case.presence_topic
    with case.connected() as probe:
        before = case.retained(probe, PresenceOf(ClientId(case.id)))
    if case.is_online(before):
        return not_checked(f"{case.id} is at work: its presence, which is retained, stays as it is")
    try:
        return _try(case, topic, case.absence(), "")
    finally:
        if before:
            with case.connected() as probe:
                probe.publish(topic, before, retain=True)


def _try(case: Case, topic: str, payload: bytes, wildcard: str) -> Finding:
    try:
        with case.connected() as probe:
            answer = probe.publish(topic, payload, retain=True, expiry_s=RETAINED_FOR_S)
    except ProbeEnded as ended:
        return failed(f"a retained message is not taken: {ended}", _MEANS, _REMEDIES)
    if not answer.agreed:
        return failed(f"a retained message is not taken: {answer.reason}", _MEANS, _REMEDIES)
    try:
        is_found = _is_found(case, topic, topic, payload, _WITHIN_S)
        by_wildcard = not wildcard or (
            is_found and _is_found(case, wildcard, topic, payload, _WITHIN_S)
        )
    finally:
        with case.connected() as probe:
            probe.publish(topic, b"", retain=True)
    if not is_found:
        return failed("acknowledged, and not there for who came later", _MEANS, _REMEDIES)
    if _is_found(case, topic, topic, payload, case.quiet_s):
        return failed("kept, and not to be cleared", "Old models would stay there for ever.")
    if not by_wildcard:
        return warning(
            "kept and cleared; not found by a subscription with a wildcard",
            "Programs ask for presence and pages by name there. Models of a coordinator that was"
            " killed are not found, and stay until somebody clears them.",
        )
    return ok("kept for who came later, and cleared")


def _is_found(case: Case, topic_filter: str, topic: str, payload: bytes, within_s: float) -> bool:
    with case.connected() as probe:
        probe.subscribe(topic_filter)
        for got in probe.hear(within_s):
            if got.topic == topic and got.retained and got.payload == payload:
                return True
    return False


def _wildcard(topic: str) -> str:
    """As a coordinator looks for models: see `Topics.any_model`, of which this is a small part."""
    return topic.rpartition("/")[0] + "/+"
