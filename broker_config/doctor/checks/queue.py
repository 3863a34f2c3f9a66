"""How many messages does the broker keep for a coordinator that is away?

Brokers acknowledge what they then drop, so they are counted when we come back.
"""

import time
from collections.abc import Iterator

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, not_checked, ok
from fedmqtt.mqtt_probe import Probe

NEEDS = ("acl_allows", "session")

_AWAY, _BACK_WITHIN_S = "-q", 2.0
_SEND_WITHIN_S = 6.0
_KEEP_S = 600
_TELL_EVERY = 100


def check(case: Case) -> Finding:
    topic = case.loop_topic
    if topic is None:
        return not_checked(f"a {case.role} cannot fill a queue of its own; the coordinator's can")
    wanted = case.needs.queued
    with case.connected(_AWAY, keep_s=_KEEP_S) as probe:
        probe.subscribe(topic)
    try:
        sent = _send(case, topic, wanted)
        with case.connected(_AWAY, resume=True, keep_s=_KEEP_S) as probe:
            kept = _count(probe, sent)
    finally:
        with case.connected(_AWAY):
            pass
    if kept < sent:
        return failed(
            f"{kept:,} of {sent:,} messages kept for who was away; all were acknowledged",
            f"While the coordinator restarts, {case.needs.devices} devices may send {wanted:,}."
            " What is dropped is sent again later, at the cost of its devices.",
            {
                "mosquitto": f"max_queued_messages {wanted}   (mosquitto.conf)",
                "emqx": f"mqtt.max_mqueue_len = {wanted}",
                "hivemq": f"<queued-messages><max-queue-size>{wanted}</max-queue-size>",
                "rabbitmq": "no max-length in a policy for mqtt-subscription queues",
                "nats": "jetstream { max_file_store: ... }",
                "aws": "fixed; see its quota of queued messages",
            },
        )
    if sent < wanted:
        return ok(f"{kept:,} kept; no more were sent in {_SEND_WITHIN_S:g} s, {wanted:,} wanted")
    return ok(f"{kept:,} kept, as many as {case.needs.devices} devices need")


def _send(case: Case, topic: str, wanted: int) -> int:
    ends_at = time.monotonic() + _SEND_WITHIN_S

    def messages() -> Iterator[tuple[str, bytes]]:
        for number in range(wanted):
            if number % _TELL_EVERY == 0:
                case.tell(f"{number:,} of {wanted:,} sent")
            yield topic, number.to_bytes(4)

    with case.connected() as probe:
        return len(probe.publish_all(messages(), lambda: time.monotonic() > ends_at))


def _count(back: Probe, sent: int) -> int:
    kept: set[bytes] = set()
    while len(kept) < sent and (got := back.receive(_BACK_WITHIN_S)) is not None:
        kept.add(got.payload)
    return len(kept)
