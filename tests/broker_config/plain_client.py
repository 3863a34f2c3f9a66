"""A plain MQTT 3.1.1 client for broker tests: paho, with what arrives in a queue."""

import queue
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.patience import WITHIN_S

_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes


class Ended(Exception):
    """The broker has closed the connection."""


class PlainClient:
    """Connected when it returns from `connected`; every wait is bounded and fails the test."""

    def __init__(self, name: str, will: Will | None, clean_session: bool, keepalive_s: int) -> None:
        self.arrived: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.session_present = False
        self._answers: queue.Queue[int] = queue.Queue()
        self.has_ended = False
        self._keepalive_s = keepalive_s
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=clean_session)
        self._paho.on_message = self._on_message
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_disconnect = self._on_disconnect
        if will is not None:
            self._paho.will_set(will.topic, will.payload, qos=1, retain=True)

    def connect(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._paho.connect(address.hostname, address.port or 1883, self._keepalive_s)
        self._paho.loop_start()
        self._answers.get(timeout=WITHIN_S)

    def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """Returns when the broker has answered: the QoS that it grants."""
        self._paho.subscribe(topic_filter, qos)
        return self._answers.get(timeout=WITHIN_S)

    def publish(self, topic: str, payload: bytes, retain: bool = False, qos: int = 1) -> None:
        """Returns when the broker has acknowledged. Raises Ended."""
        self._wait_for(self._paho.publish(topic, payload, qos, retain))

    def publish_all(self, topic: str, payloads: Sequence[bytes]) -> None:
        """At QoS 1, as many at a time as the broker takes. Raises Ended."""
        for sent in [self._paho.publish(topic, payload, qos=1) for payload in payloads]:
            self._wait_for(sent)

    def receive(self) -> paho.MQTTMessage:
        try:
            return self.arrived.get(timeout=WITHIN_S)
        except queue.Empty:
            pytest.fail(f"nothing arrived within {WITHIN_S} s")

    def vanish(self) -> None:
        """Go without a word, as a program that is killed."""
        self.fall_silent()
        self._socket().close()

    def fall_silent(self) -> None:
        """Keep the connection open and never use it again, as a phone in a tunnel."""
        self._paho.loop_stop()

    def wait_until_hung_up(self) -> None:
        """After `fall_silent`: until the broker has closed this connection."""
        connection = self._socket()
        connection.settimeout(WITHIN_S)
        while connection.recv(4096):
            pass

    def leave(self) -> None:
        with suppress(OSError, ValueError):  # The connection may be closed already.
            self._paho.disconnect()
        self._paho.loop_stop()

    def _wait_for(self, sent: paho.MQTTMessageInfo) -> None:
        give_up_at = monotonic() + WITHIN_S
        while not sent.is_published():
            if self.has_ended:
                raise Ended
            assert monotonic() < give_up_at, f"not acknowledged within {WITHIN_S} s"
            sent.wait_for_publish(_LOOK_EVERY_S)

    def _socket(self) -> socket.socket:
        opened = self._paho.socket()
        assert isinstance(opened, socket.socket)
        return opened

    def _on_connect(self, _client: Any, _data: Any, flags: Any, *_rest: Any) -> None:
        self.session_present = flags.session_present
        self._answers.put(0)

    def _on_disconnect(self, *_rest: Any) -> None:
        self.has_ended = True

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, codes: Any, *_rest: Any) -> None:
        self._answers.put(codes[0].value)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.arrived.put(message)


@contextmanager
def connected(
    url: str,
    name: str,
    *,
    will: Will | None = None,
    clean_session: bool = True,
    keepalive_s: int = 60,
) -> Iterator[PlainClient]:
    client = PlainClient(name, will, clean_session, keepalive_s)
    client.connect(url)
    try:
        yield client
    finally:
        client.leave()
