"""How long is the way to the broker, and how wide?"""

import statistics
import time
from collections.abc import Iterator

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, ok, warning
from fedmqtt.mqtt_link import PACKET_OVERHEAD_BYTES
from fedmqtt.mqtt_probe import Probe

NEEDS = ("acl_allows",)
AFTER = ("packet_size",)

_TIMES = 10
_BLOCK_BYTES = 16 * 1024
_BLOCKS_MAX = {"coordinator": 512, "device": 64}
"""A device's reach the coordinator too, which passes over them."""
_FOR_S = 2.0
_SLOW_S, _NARROW = 1.0, 8 * 1024
"""Seconds there and back; bytes a second."""


def check(case: Case) -> Finding:
    with case.connected() as probe:
        there_and_back = (
            _through(probe, case.loop_topic) if case.loop_topic else _asking(probe, case.read_topic)
        )
        said = f"{1000 * there_and_back:.1f} ms there and back"
        if case.write_topic is None:
            return ok(said)
        rate = _rate(case, probe, case.write_topic)
    way = "there and back" if case.loop_topic else "to the broker"
    said += f"; {_words(rate)} {way}: {case.needs.chunk_bytes / rate:.2g} s for a chunk"
    if there_and_back > _SLOW_S or rate < _NARROW:
        return warning(
            said,
            "It works, slowly. On a link like this choose a codec, and a long deadline.",
            {"mosquitto": "set_tcp_nodelay true   (mosquitto.conf)"},
        )
    return ok(said)


def _through(probe: Probe, topic: str) -> float:
    """Median seconds until a small message of ours is back."""
    probe.subscribe(topic)
    took = []
    for _ in range(_TIMES):
        began = time.monotonic()
        probe.publish(topic, b"there and back")
        probe.receive(_SLOW_S)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def _asking(probe: Probe, topic: str) -> float:
    """Median seconds until the broker has replied to a small question."""
    took = []
    for _ in range(_TIMES):
        began = time.monotonic()
        probe.subscribe(topic)
        took.append(time.monotonic() - began)
    return statistics.median(took)


def _rate(case: Case, probe: Probe, topic: str) -> float:
    """Bytes a second that the broker takes; and passes back, where we may read them."""
    began = time.monotonic()
    size = min(_BLOCK_BYTES, max(1, case.packet_bytes - PACKET_OVERHEAD_BYTES))

    def messages() -> Iterator[tuple[str, bytes]]:
        for number in range(_BLOCKS_MAX[case.role]):
            case.tell(f"{number * size // 1024:,} KiB sent")
            yield topic, bytes(size)

    sent = len(probe.publish_all(messages(), lambda: time.monotonic() - began > _FOR_S))
    if case.loop_topic:
        for _ in range(sent):
            if probe.receive(_FOR_S) is None:
                break
    return sent * size / (time.monotonic() - began)


def _words(rate: float) -> str:
    return f"{rate / 1e6:.1f} MB/s" if rate > 1e6 else f"{rate / 1e3:.1f} kB/s"
