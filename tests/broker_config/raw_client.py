"""A client that does as it likes: paho itself, without our link between it and the broker."""

import queue
import ssl
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fedmqtt.credentials import Credentials
from tests.patience import WITHIN_S


class Got(NamedTuple):
    topic: str
    payload: bytes


class RawClient:
    """Connected once the block begins; `refusal` says why, where the broker did not let it in."""

    def __init__(self, account: Credentials, port: int, client_id: str, password: str = "") -> None:
        self.refusal = ""
        self.messages: queue.Queue[Got] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._port = port
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if account.password:
            client.username_pw_set(account.username, password or account.password)
        client.tls_set_context(account.tls_context())
        client.on_connect = lambda *said: self._answers.put(("connect", said[3]))
        client.on_disconnect = lambda *said: self._answers.put(("disconnect", said[3]))
        client.on_publish = lambda *said: self._answers.put(("publish", said[3]))
        client.on_subscribe = lambda *said: self._answers.put(("subscribe", said[3][0]))
        client.on_message = lambda _c, _d, one: self.messages.put(
            Got(one.topic, bytes(one.payload))
        )

    def __enter__(self) -> Self:
        try:
            self._client.connect("localhost", self._port)
        except (OSError, ssl.SSLError) as bad:
            self.refusal = str(bad)
            return self
        self._client.loop_start()
        kind, code = self._answers.get(timeout=WITHIN_S)
        if kind != "connect" or code.is_failure:
            self.refusal = str(code)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> bool:
        """Whether the broker took it. Also not, where it ended the connection instead."""
        self._client.publish(topic, payload, qos=1, retain=retain)
        kind, code = self._next("publish", "disconnect")
        return kind == "publish" and not code.is_failure

    def shout(self, topic: str, payload: bytes) -> None:
        """Without asking whether the broker took it."""
        self._client.publish(topic, payload, qos=0).wait_for_publish(WITHIN_S)

    def subscribe(self, topic: str) -> bool:
        """Whether the broker agreed. It may agree, and pass nothing on."""
        self._client.subscribe(topic, qos=1)
        return not self._next("subscribe")[1].is_failure

    def await_end(self) -> str:
        """Why the broker ended the connection."""
        return str(self._next("disconnect")[1])

    def _next(self, *wanted: str) -> tuple[str, Any]:
        while True:
            kind, code = self._answers.get(timeout=WITHIN_S)
            if kind in wanted:
                return kind, code
