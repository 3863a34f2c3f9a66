"""How large a packet does the broker carry, whatever it announces?"""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok, warning
from fedmqtt.mqtt_link import room_for
from fedmqtt.mqtt_probe import ProbeEnded

NEEDS = ("acl_allows",)

_STEP_BYTES = 1024
_ARRIVES_WITHIN_S = 4.0
_HEAD_BYTES = 8
"""Before and around topic and payload of a PUBLISH: kind, length, packet id, no properties."""


def check(case: Case) -> Finding:
    assert case.welcome is not None
    if case.write_topic is None:
        return not_checked("a monitor writes nothing")
    needed, announced = case.needs.packet_bytes, case.welcome.packet_bytes_max
    most = max(needed, case.needs.packet_cap_bytes)
    most = most if announced is None else min(most, announced)
    largest = case.packet_bytes = _largest(case, most)
    says = f"{largest:,} bytes carried"
    says += f", {announced:,} announced" if announced is not None else ", none announced"
    if largest < min(needed, most):
        return _too_small(case, largest, says)
    if largest < needed:
        chunk = room_for(case.needs.chunk_bytes, announced)
        return warning(
            f"{says}; a chunk of {case.needs.chunk_bytes:,} bytes needs {needed:,}",
            f"It works: both sides cut their chunks to {chunk:,} bytes by themselves.",
            _remedies(needed, chunk),
        )
    if case.version == "MQTT 3.1.1" and case.loop_topic is None:
        return ok(f"{says}; whether it was passed on, MQTT 3.1.1 does not tell this account")
    return ok(f"{says}, {needed:,} needed" + (", no more tried" if announced != largest else ""))


def _too_small(case: Case, largest: int, says: str) -> Finding:
    needed, chunk = case.needs.packet_bytes, max(1024, largest - 1024)
    return failed(
        f"{says}; a chunk of {case.needs.chunk_bytes:,} bytes needs {needed:,}",
        "Larger ones end the connection of who sends them, or vanish, and the broker did not say"
        " so beforehand: no model and no answer would ever arrive.",
        _remedies(needed, chunk),
    )


def _remedies(needed: int, chunk: int) -> dict[str, str]:
    return {
        "mosquitto": f"message_size_limit 0 and max_packet_size {max(needed, 2_000_000)}"
        "   (mosquitto.conf)",
        "emqx": "mqtt.max_packet_size = 1MB",
        "hivemq": f"<packets><max-packet-size>{max(needed, 2_000_000)}</max-packet-size>",
        "rabbitmq": f"mqtt.max_packet_size_authenticated = {max(needed, 2_000_000)}",
        "nats": "max_payload: 1MB",
        "aws": "fixed: 128 KiB of payload; see the chunk size",
        "": f"or [transfer] chunk_bytes = {chunk} in federation.toml, and link.chunk_bytes of"
        " clients",
    }


def _largest(case: Case, most: int) -> int:
    """The largest packet that gets through, to the next KiB below, of those up to `most` bytes."""
    case.tell(f"trying {most:,} bytes")
    if _gets_through(case, most):
        return most
    works, fails = 0, most
    while fails - works > _STEP_BYTES:
        between = (works + fails) // 2
        case.tell(f"trying {between:,} bytes")
        if _gets_through(case, between):
            works = between
        else:
            fails = between
    return works


def _gets_through(case: Case, packet_bytes: int) -> bool:
    topic = case.write_topic
    assert topic is not None
    payload = bytes(max(1, packet_bytes - len(topic) - _HEAD_BYTES))
    try:
        with case.connected() as probe:
            if topic != case.loop_topic:
                # Refused as a matter of rights is not refused as too large.
                return probe.publish(topic, payload).code != _TOO_LARGE
            probe.subscribe(topic)
            if not probe.publish(topic, payload).agreed:
                return False
            got = probe.receive(_ARRIVES_WITHIN_S)
            return got is not None and len(got.payload) == len(payload)
    except ProbeEnded:
        return False


_TOO_LARGE = 0x95
