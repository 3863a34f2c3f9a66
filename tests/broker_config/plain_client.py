"""A plain MQTT 3.1.1 client for broker tests: paho, with what arrives in a queue."""

import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.patience import WITHIN_S


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes


class PlainClient:
    """Connected when it returns from `connected`; every wait is bounded and fails the test."""

    def __init__(self, name: str, will: Will | None, clean_session: bool, keepalive_s: int) -> None:
        self.arrived: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.session_present = False
        self._answers: queue.Queue[None] = queue.Queue()
        self._keepalive_s = keepalive_s
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=clean_session)
        self._paho.on_message = self._on_message
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = self._on_subscribe
        if will is not None:
            self._paho.will_set(will.topic, will.payload, qos=1, retain=True)

    def connect(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._paho.connect(address.hostname, address.port or 1883, self._keepalive_s)
        self._paho.loop_start()
        self._answers.get(timeout=WITHIN_S)

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe at QoS 1; returns when the broker has answered."""
        self._paho.subscribe(topic_filter, qos=1)
        self._answers.get(timeout=WITHIN_S)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged."""
        self._paho.publish(topic, payload, qos=1, retain=retain).wait_for_publish(WITHIN_S)

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

    def _socket(self) -> socket.socket:
        opened = self._paho.socket()
        assert isinstance(opened, socket.socket)
        return opened

    def _on_connect(self, _client: Any, _data: Any, flags: Any, *_rest: Any) -> None:
        self.session_present = flags.session_present
        self._answers.put(None)

    def _on_subscribe(self, *_rest: Any) -> None:
        self._answers.put(None)

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
