"""One short connection to a broker, to look at the broker itself: each answer is awaited.

`MqttLink` keeps a program connected and hides how brokers differ; here the differences are what is
asked for. What a broker does not answer within `WITHIN_S` ends the connection as `ProbeEnded`.
"""

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedmqtt.effects import Seconds
from fedmqtt.mqtt_link import RECEIVE_BYTES_MAX, BrokerUrl, tls_alert, unread_tls_alert

Version = Literal["MQTT 5", "MQTT 3.1.1"]

WITHIN_S = 6.0
HEARS_FOR_S = 5.0
_GOODBYE_WITHIN_S = 1.0
_STEP_S = 0.05
_KEEPALIVE_S = 60
_IN_FLIGHT_MAX = 200
_PAHO_VERSIONS = {"MQTT 5": MQTTProtocolVersion.MQTTv5, "MQTT 3.1.1": MQTTProtocolVersion.MQTTv311}


class ProbeEnded(Exception):
    """The broker ended the connection, or did not answer; says how."""


class ProbeSilent(ProbeEnded):
    """The connection is still there, and the broker does not answer."""


class ProbeRefused(Exception):
    """The broker answered CONNECT with a refusal, or looked at our certificate and hung up."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """Of 3.1.1 (1 to 5) or of MQTT 5 (0x80 and above); 0 where TLS alone said so."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the broker said of itself. None: nothing, which MQTT 5 gives a meaning and 3.1.1 not."""

    version: Version
    session_present: bool
    receive_maximum: int | None
    packet_bytes_max: int | None
    qos_max: int
    retains: bool
    session_expiry_s: int | None


class Answer(NamedTuple):
    """To one packet of ours. `code` is 0 to 2 or 0x10 where the broker agreed."""

    code: int
    reason: str

    @property
    def agreed(self) -> bool:
        return self.code < 0x80


class Got(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    client_id: str
    version: Version = "MQTT 5"
    resume: bool = False
    """Take up the session that is there, instead of a new one."""
    keep_s: int = 0
    """How long the broker is to keep the session when we leave."""
    tries: int = 1
    """How often to come again where the broker hangs up. One that still sees us off may do that."""
    not_ours: frozenset[str] = frozenset()
    """Topics of what may wait for a real program: it is not acknowledged, so it goes on waiting."""
    mark: bytes = b""
    """In what we say there ourselves."""
    stay_subscribed: frozenset[str] | None = None
    """To these alone when we leave, in a session that is somebody else's; None: to all."""


class Probe:
    """Connected while the block lasts. All raise ProbeEnded; to enter it, ProbeRefused too."""

    def __init__(
        self, broker: BrokerUrl, tls: ssl.SSLContext | None, options: ProbeOptions
    ) -> None:
        self._broker = broker
        self._options = options
        self._alert = ""
        self._end = ""
        self._came: ReasonCode | None = None
        self._welcome: Welcome | None = None
        self._answers: dict[int, Answer] = {}
        self._awaited: set[int] = set()
        self._arrived: deque[Got] = deque()
        self._subscribed: set[str] = set()
        self._tls = tls
        self._client = self._new_client()

    @property
    def welcome(self) -> Welcome:
        assert self._welcome is not None
        return self._welcome

    def __enter__(self) -> Self:
        for _ in range(self._options.tries - 1):
            try:
                self._connect()
            except ProbeSilent:
                raise
            except ProbeEnded:
                self._end, self._client = "", self._new_client()
            else:
                return self
        self._connect()
        return self

    def _connect(self) -> None:
        client, options = self._client, self._options
        try:
            client.connect(
                self._broker.host,
                self._broker.port,
                _KEEPALIVE_S,
                **self._connect_words(options.keep_s, resume=options.resume),
            )
            self._wait(lambda: self._came is not None)
        except ProbeEnded as ended:
            self._close()
            if self._alert:
                raise ProbeRefused(0, self._alert) from ended
            raise
        except (OSError, ValueError) as bad:
            self._close()
            if alert := tls_alert(str(bad)):
                raise ProbeRefused(0, alert) from bad
            raise ProbeEnded(getattr(bad, "strerror", None) or str(bad)) from bad
        assert self._came is not None
        if self._came.is_failure:
            self._close()
            raise ProbeRefused(self._came.value, str(self._came))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._end:
            with contextlib.suppress(ProbeEnded):
                self._unsubscribe()
            self._client.disconnect()
            with contextlib.suppress(ProbeEnded):
                self._wait(lambda: False, _GOODBYE_WITHIN_S)
        self._close()

    def publish(
        self, topic: str, payload: bytes = b"", *, retain: bool = False, expiry_s: int | None = None
    ) -> Answer:
        """At QoS 1. A broker of 3.1.1 agrees also to what it does not pass on."""
        return self._answer_to(self._send(topic, payload, retain, expiry_s))

    def publish_all(
        self, messages: Iterable[tuple[str, bytes]], until: Callable[[], bool]
    ) -> list[Answer]:
        """Many, as many at a time as the broker takes, until `until` says that it is enough.

        Of those that were sent, in order.
        """
        sent: list[int] = []
        for topic, payload in messages:
            if until():
                break
            sent.append(self._send(topic, payload, False, None))
            self._wait(lambda: len(self._awaited) < _IN_FLIGHT_MAX)
        return [self._answer_to(mid) for mid in sent]

    def subscribe(self, topic_filter: str) -> Answer:
        """At QoS 1; the answer's code is the QoS that is granted."""
        _, mid = self._client.subscribe(topic_filter, qos=1)
        assert mid is not None
        self._awaited.add(mid)
        self._subscribed.add(topic_filter)
        return self._answer_to(mid)

    def receive(self, within_s: Seconds) -> Got | None:
        """What came first of what came; None where nothing does."""
        with contextlib.suppress(ProbeSilent):
            self._wait(lambda: bool(self._arrived), within_s)
        return self._arrived.popleft() if self._arrived else None

    def hear(self, quiet_s: Seconds) -> Iterator[Got]:
        """All that comes until nothing has for so long, or others have gone on for too long."""
        ends_at = time.monotonic() + quiet_s + HEARS_FOR_S
        while time.monotonic() < ends_at and (got := self.receive(quiet_s)) is not None:
            yield got

    def _unsubscribe(self) -> None:
        staying = self._options.stay_subscribed
        if staying is None or not (leaving := sorted(self._subscribed - staying)):
            return
        _, mid = self._client.unsubscribe(leaving)
        assert mid is not None
        self._answer_to(mid)

    def _send(self, topic: str, payload: bytes, retain: bool, expiry_s: int | None) -> int:
        properties = None
        if expiry_s is not None and self._options.version == "MQTT 5":
            properties = _properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        mid = self._client.publish(topic, payload, 1, retain, properties).mid
        self._awaited.add(mid)
        return mid

    def _answer_to(self, mid: int) -> Answer:
        self._wait(lambda: mid in self._answers)
        return self._answers.pop(mid)

    def _wait(self, is_so: Callable[[], bool], within_s: Seconds = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not is_so():
            left_s = deadline - time.monotonic()
            if self._end:
                raise ProbeEnded(self._end)
            if left_s <= 0:
                raise ProbeSilent(f"no answer within {within_s:g} s")
            if self._client.loop(min(_STEP_S, left_s)) and not self._end:
                self._end = "the broker closed the connection without a word"

    def _close(self) -> None:
        self._end = self._end or "closed"
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    # Paho

    def _new_client(self) -> paho.Client:
        options = self._options
        is_5 = options.version == "MQTT 5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            options.client_id,
            None if is_5 else not (options.resume or options.keep_s),
            protocol=_PAHO_VERSIONS[options.version],
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = WITHIN_S
        # Paho lets it be set before it connects alone; what the broker says comes later.
        client.max_inflight_messages_set(_IN_FLIGHT_MAX)
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
            client.on_log = self._on_log
            client.on_socket_close = self._on_socket_close
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        return client

    def _connect_words(self, keep_s: int, *, resume: bool) -> dict[str, Any]:
        if self._options.version != "MQTT 5":
            return {}
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = keep_s
        properties.MaximumPacketSize = RECEIVE_BYTES_MAX
        return {"clean_start": not resume, "properties": properties}

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        # As the link does: else small messages wait 40 ms for each other, and that is measured.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_socket_close(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._alert = self._alert or unread_tls_alert(sock)

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        said: Properties | None,
    ) -> None:
        receive_maximum = getattr(said, "ReceiveMaximum", None)
        client._max_inflight_messages = min(receive_maximum or _IN_FLIGHT_MAX, _IN_FLIGHT_MAX)
        self._welcome = Welcome(
            version=self._options.version,
            session_present=flags.session_present,
            receive_maximum=receive_maximum,
            packet_bytes_max=getattr(said, "MaximumPacketSize", None),
            qos_max=getattr(said, "MaximumQoS", 2),
            retains=bool(getattr(said, "RetainAvailable", 1)),
            session_expiry_s=getattr(said, "SessionExpiryInterval", None),
        )
        self._came = code

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _said: Any
    ) -> None:
        is_told = self._options.version == "MQTT 5" and code.value >= 0x81
        self._end = self._end or (
            f"the broker ended the connection: {code}"
            if is_told
            else "the broker closed the connection without a word"
        )

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            if self._is_ours(message):
                self._arrived.append(
                    Got(message.topic, bytes(message.payload), bool(message.retain))
                )
                client.ack(message.mid, message.qos)

    def _is_ours(self, message: paho.MQTTMessage) -> bool:
        options = self._options
        if message.topic not in options.not_ours:
            return True
        return bool(options.mark) and options.mark in message.payload

    def _on_publish(
        self, _client: paho.Client, _data: Any, mid: int, code: ReasonCode, _said: Any
    ) -> None:
        self._answered(mid, code)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, mid: int, codes: list[ReasonCode], _said: Any
    ) -> None:
        self._answered(mid, codes[0])

    def _on_unsubscribe(
        self, _client: paho.Client, _data: Any, mid: int, _codes: Any, _said: Any
    ) -> None:
        self._answers[mid] = Answer(0, "")

    def _answered(self, mid: int, code: ReasonCode) -> None:
        self._awaited.discard(mid)
        self._answers[mid] = Answer(code.value, str(code))

    def _on_log(self, _client: paho.Client, _data: Any, _level: int, text: str) -> None:
        self._alert = self._alert or tls_alert(text)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]
