"""The only module that knows paho: one session with a broker, kept up for as long as it is open.

    paho callbacks ──post──▶ event loop ──LinkUp, LinkDown, Arrived──▶ the program's handler

Paho is driven by our own event loop (`loop_read`, `loop_write`, `loop_misc`), not by its thread:
its own loop uses `select()`, which fails silently above descriptor 1,023, and a thread costs a
switch per message. Every connection gets a new paho client, so that nothing of an old one is sent
behind our back: what must not be lost is sent again by the machines, until a receipt comes.

Speaks MQTT 5, and 3.1.1 where that is refused. Each attempt to connect begins with 5: a broker may
have been upgraded while we were away.

A cluster's address names its nodes. A link is with one of them, and goes on with the next one when
it is lost; where each node keeps for itself what is retained, what others are to find there is
written to all (`LinkOptions.copied`).
"""

import contextlib
import hashlib
import ipaddress
import random
import re
import secrets
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fedmqtt import dotted_names, envelope, pace
from fedmqtt.effects import Publish, Seconds
from fedmqtt.envelope import NO_KEYS, Author, BadSignature, RevokedKey, Seal
from fedmqtt.event_loop import EventLoop, OnReady, Timer
from fedmqtt.messages import Offer, encode
from fedmqtt.topics import CHANNELS, Address, ClientId, Topics
from fedmqtt.wildcards import ByName, asked_by_name

_READS_AT_ONCE = 64
"""Packets that are read before all else has its turn."""

STREAM_WINDOW = 8
"""Parts of a stream that may be on the way without the broker's acknowledgement."""

PACKET_OVERHEAD_BYTES = 512
"""Room for topic, properties and header of a PUBLISH around its payload: both of ours are short."""

_CONNECT_TIMEOUT_S = 10.0
_SUPPORTED_SCHEMES = {"mqtt": 1883, "mqtts": 8883}
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
_V5_WORD, _V311_WORD = "MQTT 5", "MQTT 3.1.1"
_UNSUPPORTED_VERSION = {1, 0x84}
_PROTOCOL_ERROR = 0x82
NOT_LET_IN = {4, 5, 0x86, 0x87, 0x8A}
"""Bad user name or password, not authorised, banned; in 3.1.1 and 5."""
_DENIED_MAX = 10
"""Times in a row that who has been let in before tries again: its broker may have been restarted
with files that are half in place."""
_NOT_YET_VALID = 9
"""OpenSSL's number: the certificate is from the future. A device without a battery for its clock
sees that until it has asked what time it is."""
_TLS_ALERT = re.compile(r"\[SSL: (\w*ALERT\w*)\]")
_UNSPECIFIED = 0x80
_KEEPALIVE_TIMEOUT = 0x8D
_TAKEN_OVER = 0x8E
RECEIVE_BYTES_MAX = 4 * 1024 * 1024
"""The largest packet that we let a broker of MQTT 5 send us. Chunks are far smaller; whoever can
write to a topic of ours must not decide how much memory we take."""
_GOODBYE_WITHIN_S = 2.0
_ASK_AGAIN_S, _ASK_AGAIN_MAX_S = 0.5, 60.0
"""The first pause before a refused subscription is tried again, and the longest."""
_REFUSED_MAX = 5
"""Times that one is refused that we cannot do without, until the connection is given up."""
_COPY_KEEPALIVE_S = 10
"""What is written to all nodes waits for the slowest: one that hangs must be noticed soon."""
_COPY_REACH_WITHIN_S = 1.0
_COPY_RETRY_MAX_S = 15.0
"""Nothing else has its turn while a node is dialled that does not answer."""
_IN_FLIGHT_MAX = 20  # Paho's own.
_SECRET = re.compile(r"//.*@")


class BrokerUrlError(ValueError):
    """The operator's broker address is wrong; says how one looks."""


class Node(NamedTuple):
    """Where one node of a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    """How TLS proves who is who, where credentials say; else `LinkOptions.tls_ca` does."""
    seal: Seal | None = field(default=None, compare=False, repr=False)
    """How messages prove who wrote them, where credentials hold keys; see `fedmqtt/envelope.py`."""
    others: tuple[Node, ...] = ()
    """The other nodes, where the broker is a cluster."""

    @property
    def nodes(self) -> tuple["BrokerUrl", ...]:
        """Each node as a broker of its own, in the order in which they were named."""
        alone = replace(self, others=())
        return (alone, *(replace(alone, host=host, port=port) for host, port in self.others))

    @property
    def is_this_machine(self) -> bool:
        """Whether nothing that is sent there leaves the machine."""
        return all(map(_is_this_machine, (self.host, *(host for host, _ in self.others))))

    @property
    def place(self) -> str:
        """Without the account, too: for people who look at a federation, and know who they are."""
        return str(replace(self, username=None))

    def __str__(self) -> str:
        """Without the password: this is for screens and logs."""
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        nodes = ",".join(map(str, (Node(self.host, self.port), *self.others)))
        return f"mqtt{'s' if self.tls else ''}://{user}{nodes}"


def parse_broker_url(text: str) -> BrokerUrl:
    """`mqtt://[user[:password]@]host[:port]` or mqtts://..., then `,host[:port]` for each further
    node of a cluster. Raises BrokerUrlError."""
    shown = _SECRET.sub("//...@", text)
    wrong = BrokerUrlError(
        f"broker {shown!r}: expected mqtt://host[:port] or mqtts://host[:port], with user:password@"
        " before the host where the broker asks for it (write / as %2F, @ as %40, # as %23), and"
        " with the other nodes of a cluster behind it (mqtt://a:1883,b:1883,c:1883)"
    )
    try:
        parts = urlsplit(text)
        account, _, places = parts.netloc.rpartition("@")
        nodes = [_node(place, parts.scheme) for place in places.split(",")]
    except (KeyError, ValueError) as bad:
        raise wrong from bad
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise wrong
    if len(set(nodes)) < len(nodes):
        raise BrokerUrlError(f"broker {shown!r}: a node is named twice: name each once")
    username, _, password = account.partition(":")
    return BrokerUrl(
        *nodes[0],
        tls=parts.scheme == "mqtts",
        username=unquote(username) or None,
        password=unquote(password) or None,
        others=tuple(nodes[1:]),
    )


def _node(place: str, scheme: str) -> Node:
    """Raises KeyError on a scheme that is none of ours, and ValueError."""
    usual_port = _SUPPORTED_SCHEMES[scheme]
    parts = urlsplit(f"//{place}")
    if not parts.hostname or parts.port == 0:
        raise ValueError(place)
    return Node(parts.hostname, parts.port or usual_port)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_turn(broker: BrokerUrl, client_id: str) -> list[BrokerUrl]:
    """The nodes in the order in which a link tries them, its own for each client id.

    So a fleet spreads itself over all, those of a lost node over the others, and a session is
    looked for where it was. Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase
    Hit Rates", IEEE/ACM Transactions on Networking 6, 1998 (rendezvous hashing).
    """

    def weight(node: BrokerUrl) -> bytes:
        return hashlib.sha256(f"{client_id} {node.host} {node.port}".encode()).digest()

    return sorted(broker.nodes, key=weight)


def without_password(text: str) -> str:
    """An address for others to see; as it is given, where it holds no password. Raises
    BrokerUrlError."""
    broker = parse_broker_url(text)
    return text if broker.password is None else str(broker)


def plaintext_fault(broker: BrokerUrl) -> str:
    """What is wrong with going there unencrypted; nothing where it stays on this machine."""
    if broker.tls or broker.is_this_machine:
        return ""
    return (
        f"{broker} is not encrypted: whoever is on the way could read and change models and"
        " answers. Use mqtts:// with --credentials (`fedmqtt broker-kit` makes them), or, in a"
        " network that you trust, --insecure"
    )


def tls_alert(said: str) -> str:
    """The broker's word on our certificate in what OpenSSL says, as people write it; none: empty.

    SSLV3_ALERT_CERTIFICATE_REVOKED is "certificate revoked".
    """
    found = _TLS_ALERT.search(said)
    if found is None:
        return ""
    return found[1].partition("ALERT_")[2].replace("_", " ").lower() or found[1]


def unread_tls_alert(sock: Any) -> str:
    """The broker's word that still lies in a socket which is about to be closed; none: empty.

    With TLS 1.3 it may hang up before our CONNECT is out. Then writing fails first, and paho closes
    the socket without reading why.
    """
    try:
        sock.recv(1)
    except OSError as bad:
        return tls_alert(str(bad))
    return ""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Connected and subscribed."""

    token: str
    """New for each connection; the will of this connection carries it."""
    packet_bytes_max: int | None
    """The broker's limit for one packet, where it says so."""
    protocol: str
    retained_by_name: bool = False
    """Whether what is retained may come only to who names its topic, and not to wildcards."""
    node: str = ""
    """Which one of the broker's, where its address names several."""

    @property
    def in_words(self) -> str:
        """What is spoken, and what is lost by it: for logs."""
        where = f"at {self.node}, " if self.node else ""
        if self.protocol == _V5_WORD:
            return where + self.protocol
        return (
            f"{where}{self.protocol}: this broker tells no limits, and not what it drops, nor why"
        )


@dataclass(frozen=True, slots=True)
class LinkDown:
    reason: str
    retry_in_s: Seconds | None
    """None: not before it is opened again."""
    thrown_out: bool = False
    """The other side ended a connection that was up, or something on the way did."""
    taken_over: bool = False
    """The broker says that another has connected under our client id. Mosquitto 2.0.11 does not."""
    hopeless: bool = False
    """It does not let us in, or is not who it should be, and trying again will not change that."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker says that it does not pass on what we sent there, or not to us what lies there."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Arrived:
    address: Address
    payload: bytes
    expires_in_s: Seconds | None = None
    """What is left of the message's life, as the broker counted it (MQTT 5 only)."""
    retained: bool = False
    """It lay there before this connection subscribed, and is not being said now."""
    author: Author | None = None
    """The device that signed it."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """Something arrived there that its writer did not sign, as it should be. It is dropped."""

    address: Address
    reason: str
    by_revoked_key: bool = False


def room_for(wanted: int, packet_bytes_max: int | None) -> int:
    """How many bytes one message of ours may carry: `wanted`, or what the broker's limit leaves.

    Beside it go topic, properties and the message's own header, generously.
    """
    if packet_bytes_max is None:
        return wanted
    return min(wanted, max(1024, packet_bytes_max - 1024))


def next_try(retry_in_s: Seconds | None) -> str:
    """For the log, after a LinkDown."""
    return "stays away" if retry_in_s is None else f"next try in {retry_in_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has taken what we sent there: told of the addresses that the options name."""

    address: Address
    size_bytes: int
    sent_at: Seconds
    """When it was handed over; what was sent before it may still have been on its way."""


@dataclass(frozen=True, slots=True)
class Strayed:
    """Something came to a topic that is none, below what a client alone may write: it is told of
    where the options say so."""

    client: ClientId
    topic: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NodeUp:
    """Another node of the broker takes copies from now on, and may have none of ours: told where
    the options say what is `copied`."""

    node: str


LinkEvent = LinkUp | LinkDown | Refused | Arrived | Unproven | Acknowledged | Strayed | NodeUp


class Part(NamedTuple):
    """One message of a stream, ready to go."""

    address: Address
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    client_id: str
    """Stable: the broker keeps the session's subscriptions and queue under it."""
    subscribe: tuple[str, ...] = ()
    will: Callable[[str], Publish | None] | None = None
    """What the broker says for us when the connection breaks, given the connection's token."""
    will_delay_s: int = 0
    session_expiry_s: int = 0
    """How long the broker keeps the session of a client that is away; 0 keeps none."""
    keepalive_s: int = 60
    retry_base_s: Seconds = 0.5
    retry_max_s: Seconds = 60.0
    reach_within_s: Seconds = _CONNECT_TIMEOUT_S / 2
    """For TCP and TLS alone: nothing else has its turn meanwhile."""
    tls_ca: str | None = None
    tell_of: tuple[type[Address], ...] = ()
    """Of messages to such addresses the owner hears when the broker has acknowledged them."""
    tell_strays: bool = False
    copied: tuple[type[Address], ...] = ()
    """What is retained at such addresses is written to each node of a cluster whose nodes keep it
    each for itself, so that who reads at another node finds it."""
    admits: Callable[[Address, int], bool] = lambda _address, _size_bytes: True
    """Asked of each message before its signature is checked: what it does not admit is dropped."""


class Network(Protocol):
    """What lies between one link and its broker, where that is not simply this machine's network:
    one with weather of its own, say. Each link has its own.
    """

    def ask(self, connect: Callable[[], None]) -> None:
        """Call `connect` when this link may. Asked again: only the newest is called."""

    def done(self) -> None:
        """The broker has answered the attempt, or the link no longer wants to connect."""

    def wrap(self, sock: socket.socket) -> socket.socket:
        """The socket to read and write from now on; it takes the descriptor over."""

    def watch(self, fd: int, on_ready: OnReady, *, write: bool = False) -> None:
        """As the event loop's, for the socket from `wrap`."""

    def unwatch(self, fd: int) -> None: ...


class MqttLink:
    """`handle` is called from the event loop with each LinkEvent, never from within paho.

    Raises BrokerUrlError where `tls_ca` is no file of certificates.
    """

    def __init__(
        self,
        loop: EventLoop,
        broker: BrokerUrl,
        topics: Topics,
        options: LinkOptions,
        handle: Callable[[LinkEvent], None],
        network: Network | None = None,
    ) -> None:
        self._loop = loop
        self._network = network
        self._sockets: EventLoop | Network = network or loop
        self._nodes = in_turn(broker, options.client_id)
        self._at = 0
        self._topics = topics
        self._options = options
        self._handle = handle
        self._seal = broker.seal or NO_KEYS
        self._as_slashes = dotted_names.with_slashes(options.subscribe)
        self._tls = (broker.context or _tls_context(options.tls_ca)) if broker.tls else None
        self._alert = ""
        """What the broker said of our certificate, over this connection."""
        self._was_let_in = False
        self._denied = 0
        """Times in a row."""
        self._denied_at: set[int] = set()
        """The nodes that have not let us in, while none has."""
        self._is_closed = False
        self._back_in_s: Seconds | None = None
        """Once we have said goodbye, and until the broker has taken it."""
        self._protocol = _V5
        self._client: paho.Client | None = None
        self._up = False
        self._token = ""
        self._packet_bytes_max: int | None = None
        self._retained_by_name: ByName | None = None
        self._reading_on = False
        """Whether what TLS has decrypted already is yet to be read."""
        self._attempt = 0
        self._shut_out = 0
        """Times in a row that the broker closed on a CONNECT of version 5 without a word."""
        self._timer: Timer | None = None
        self._flush_posted = False
        self._subscribing: dict[int, list[str]] = {}
        self._listening: set[str] = set()
        self._asked_for: set[str] = set()
        """Topics of addresses that we have subscribed to on this connection."""
        self._refused_times: dict[str, int] = {}
        """How often each subscription was, on this connection."""
        self._dispensable: dict[str, Callable[[str], None]] = {}
        """Whom to tell when the broker forbids to listen to a filter."""
        self._on_the_way: dict[int, Acknowledged] = {}
        self._streaming: set[int] = set()
        self._streams: deque[Iterator[Part]] = deque()
        self._behind: deque[Iterator[Part]] = deque()
        self._copies: dict[int, MqttLink] = {}
        """To the other nodes by their number, for as long as this connection lasts."""
        self.spread_s: Seconds = 0.0
        """After a lost connection we return at a random moment within so long, or within our own
        pause where that is longer: thousands must not come back in the second in which a broker
        does. Only the coordinator knows how many they are."""
        self.bytes_sent = 0
        """Payload and topic bytes of everything published, since this link was made."""
        self.bytes_received = 0

    @property
    def is_up(self) -> bool:
        return self._up

    @property
    def _broker(self) -> BrokerUrl:
        """The node of which it is."""
        return self._nodes[self._at]

    def open(self) -> None:
        """Connect, and keep connecting until `close`. Returns at once."""
        self._is_closed = False
        if self._back_in_s is not None:
            # Still saying goodbye.
            self._back_in_s = 0.0
        elif self._client is None:
            self._set_timer(0.0, self._connect)

    def close(self, last_words: Iterable[Publish] = ()) -> None:
        """Say the last words, disconnect in good order (the will stays unsaid), and be done.

        Nothing is handled from now on, not even what arrives while the broker takes the last words.
        """
        self._is_closed = True
        client = self._client
        if client is not None and self._up:
            self._streams.clear()
            self._behind.clear()
            for words in last_words:
                self.perform(words)
            # As in `_disconnect_when_said`.
            self._wait_until(
                lambda: not any(one.is_sending for one in (self, *self._copies.values()))
            )
            for copy in self._copies.values():
                copy.close()
            client.disconnect()
            self._wait_until(lambda: client.socket() is None)
        self._drop()

    def leave(self, last_words: Iterable[Publish], back_in_s: Seconds) -> None:
        """Say the last words, disconnect in good order, and connect again so much later.

        Nothing is handled meanwhile, not even that the link is down: it was ordered.
        """
        if not self._up:
            return
        self._streams.clear()
        self._behind.clear()
        for words in last_words:
            self.perform(words)
        self._up = False
        self._back_in_s = back_in_s
        self._set_timer(_GOODBYE_WITHIN_S, self._gone)
        self._disconnect_when_said()

    def cut(self, back_in_s: Seconds | None) -> None:
        """Break the connection as a radio does: no goodbye, and no return before `back_in_s`.

        With None it stays away until `open`.
        """
        sock = self._client.socket() if self._client is not None else None
        if isinstance(sock, socket.socket):
            # Linger of zero: the broker sees a reset, not an orderly end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        was_up = self._up
        self._drop()
        self._attempt = 0
        if back_in_s is not None:
            self._set_timer(back_in_s, self._connect)
        if was_up:
            self._loop.post(lambda: self._tell(LinkDown("link cut", back_in_s)))

    # Sending

    def perform(self, effect: Publish) -> None:
        """Publish one message. While the link is down it is dropped: machines send again."""
        payload = b"" if effect.message is None else encode(effect.message)
        expiry_s = None
        if isinstance(effect.message, Offer):
            expiry_s = max(1, round(effect.message.closes_in_s))
        self.publish(effect.to, payload, expiry_s)

    def publish(self, address: Address, payload: bytes, expiry_s: int | None = None) -> None:
        """As `perform`, with the bytes at hand.

        What the broker says it cannot carry is `Refused` here: sent, it would end the connection,
        and be sent again at the next.
        """
        if not self._up:
            return
        limit = self._packet_bytes_max
        if limit is not None and len(payload) + PACKET_OVERHEAD_BYTES > limit:
            reason = f"{len(payload)} bytes; the broker takes packets of {limit}"
            self._loop.post(lambda: self._tell(Refused(address, reason)))
        else:
            self._publish(address, payload, expiry_s)
            self._copy(Part(address, payload))

    def is_on_its_way(self, address: Address) -> bool:
        """Whether something was published there over this connection that the broker has not
        acknowledged yet. It arrives, or the connection breaks: to send it again is in vain."""
        return any(sent.address == address for sent in self._on_the_way.values())

    @property
    def is_sending(self) -> bool:
        """Whether anything waits for the broker's acknowledgement, or to be sent."""
        return bool(self._on_the_way or self._streams or self._behind)

    def stream(self, parts: Iterator[Part], *, behind: bool = False) -> None:
        """Publish many parts, a few at a time, each taken from `parts` only when its turn comes.

        Dropped when the link breaks. Streams go one after the other, and those that wait `behind`
        only while there is no other.
        """
        if self._up:
            (self._behind if behind else self._streams).append(parts)
            self._pump()

    def stream_to(self, node: str, parts: Iterator[Part]) -> None:
        """Only to this other node, of which a NodeUp has told."""
        for copy in self._copies.values():
            if str(copy._broker) == node:
                copy.stream(parts)

    def subscribe(self, addresses: Iterable[Address]) -> None:
        """For as long as this connection lasts; what is retained there arrives again."""
        if self._up and self._client is not None:
            topics = [self._topics.path(address) for address in addresses]
            self._asked_for.update(topics)
            self._subscribe(self._client, topics)

    def ask_by_name(self, addresses: Iterable[Address], *, once: bool = False) -> None:
        """For what is retained there, where a subscription with wildcards may not have brought it.

        What is said there later comes too, once more perhaps, unless it is asked for `once`. With
        other brokers this does nothing.
        """
        if (most := self._retained_by_name) is not None:
            names = list(addresses)[: most.names_max]
            for first in range(0, len(names), most.filters_max):
                some = names[first : first + most.filters_max]
                self.subscribe(some)
                if once:
                    self.unsubscribe(some)

    def listen(self, *filters: str) -> None:
        """As the subscriptions in the options, for as long as this connection lasts."""
        if self._up and self._client is not None:
            self._listening.update(filters)
            self._subscribe(self._client, list(filters))

    def listen_if_allowed(self, topic_filter: str, if_not: Callable[[str], None]) -> None:
        """As `listen`, where we can do without: a broker that forbids it keeps its connection.

        `if_not` hears the broker's reason.
        """
        if self._up and self._client is not None:
            self._dispensable[topic_filter] = if_not
            self._subscribe(self._client, [topic_filter])

    def unlisten(self, *filters: str) -> None:
        if self._up and self._client is not None:
            self._listening.difference_update(filters)
            self._client.unsubscribe(list(filters))

    def unsubscribe(self, addresses: Iterable[Address]) -> None:
        paths = [self._topics.path(address) for address in addresses]
        self._asked_for.difference_update(paths)
        if self._up and self._client is not None and paths:
            self._client.unsubscribe(paths)

    def _publish(self, address: Address, payload: bytes, expiry_s: int | None = None) -> int:
        assert self._client is not None
        topic = self._topics.path(address)
        payload = self._seal.sealed(address, topic, payload)
        properties = None
        if expiry_s is not None and self._protocol == _V5:
            properties = _properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        retain = CHANNELS[type(address)].retain
        sent = self._client.publish(topic, payload, 1, retain, properties)
        self._on_the_way[sent.mid] = Acknowledged(address, len(payload), self._loop.now())
        self.bytes_sent += len(topic) + len(payload)
        return sent.mid

    def _pump(self) -> None:
        while self._has_room and (streams := self._streams or self._behind):
            part = next(streams[0], None)
            if part is None:
                streams.popleft()
            else:
                self._streaming.add(self._publish(part.address, part.payload))
                self._copy(part)

    @property
    def _has_room(self) -> bool:
        # A model must not pile up here for the slowest node.
        is_slow = any(len(copy._streams) >= STREAM_WINDOW for copy in self._copies.values())
        return len(self._streaming) < STREAM_WINDOW and not is_slow

    def _copy(self, part: Part) -> None:
        if isinstance(part.address, self._options.copied):
            for copy in self._copies.values():
                copy.stream(iter((part,)))

    def _open_copies(self) -> None:
        ours = self._options
        for number, node in enumerate(self._nodes):
            if number == self._at:
                continue
            options = LinkOptions(
                client_id=f"{ours.client_id}-{number}",
                keepalive_s=min(ours.keepalive_s, _COPY_KEEPALIVE_S),
                retry_base_s=ours.retry_base_s,
                retry_max_s=_COPY_RETRY_MAX_S,
                reach_within_s=_COPY_REACH_WITHIN_S,
                tls_ca=ours.tls_ca,
                tell_of=ours.copied,
            )
            handle = partial(self._on_copy, str(node))
            copy = MqttLink(self._loop, node, self._topics, options, handle)
            self._copies[number] = copy
            copy.open()

    def _on_copy(self, node: str, event: LinkEvent) -> None:
        if isinstance(event, LinkUp) and self._up:
            self._tell(NodeUp(node))
        # It has room again, or holds nobody up any more.
        self._pump()

    def _subscribe(self, client: paho.Client, topics: list[str]) -> None:
        _, mid = client.subscribe([self._filter(topic) for topic in topics])
        if mid is not None:
            self._subscribing[mid] = topics

    def _filter(self, topic: str) -> tuple[str, Any]:
        return (topic, SubscribeOptions(qos=1)) if self._protocol == _V5 else (topic, 1)

    # Connecting

    def _disconnect_when_said(self) -> None:
        # Paho has so many messages on the way at most, and would disconnect before the others.
        if self._back_in_s is not None and self._client is not None and not self._on_the_way:
            self._client.disconnect()

    def _gone(self) -> None:
        back_in_s = self._back_in_s or 0.0
        self._drop()
        self._attempt = 0
        self._set_timer(back_in_s, self._connect)

    def _connect(self) -> None:
        if self._network is None:
            self._dial()
        else:
            self._network.ask(self._dial)

    def _dial(self) -> None:
        self._token = secrets.token_hex(8)
        self._client = self._new_client()
        self._set_timer(_CONNECT_TIMEOUT_S, lambda: self._lost("no answer to CONNECT"))
        try:
            if self._protocol == _V5:
                properties = _properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = self._options.session_expiry_s
                properties.MaximumPacketSize = RECEIVE_BYTES_MAX
                self._client.connect(
                    self._broker.host,
                    self._broker.port,
                    self._options.keepalive_s,
                    clean_start=self._options.session_expiry_s == 0,
                    properties=properties,
                )
            else:
                self._client.connect(
                    self._broker.host, self._broker.port, self._options.keepalive_s
                )
        except ssl.SSLCertVerificationError as bad:
            is_early = bad.verify_code == _NOT_YET_VALID
            self._lost(_not_believed(self._broker, bad.verify_message), denied=not is_early)
        except OSError as bad:
            if alert := tls_alert(str(bad)):
                self._lost(not_let_in(self._broker, alert), denied=True)
            else:
                self._lost(f"cannot reach {self._broker}: {bad.strerror or bad}")
        except ValueError as bad:
            # Paho's word for a host name that cannot be one.
            self._lost(f"cannot reach {self._broker}: {bad}")

    def _new_client(self) -> paho.Client:
        options = self._options
        clean = None if self._protocol == _V5 else options.session_expiry_s == 0
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id(),
            clean,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = options.reach_within_s
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if options.will is not None and (will := options.will(self._token)) is not None:
            self._set_will(client, will)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_wants_write
        if self._tls is not None:
            # With TLS 1.3 the broker looks at our certificate when paho has done with it, and its
            # verdict is nowhere but in paho's log.
            client.on_log = self._on_log
        return client

    def _client_id(self) -> str:
        # RabbitMQ keeps what waits for a session that ends with its connection at the node where it
        # was made, and while that is away lets nobody of its name in anywhere.
        name, is_kept = self._options.client_id, self._options.session_expiry_s > 0
        if is_kept or len(self._nodes) == 1:
            return name
        return f"{name}:{self._at}"

    def _set_will(self, client: paho.Client, will: Publish) -> None:
        properties = None
        if self._protocol == _V5 and self._options.will_delay_s:
            properties = _properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = self._options.will_delay_s
        assert will.message is not None
        topic = self._topics.path(will.to)
        client.will_set(
            topic,
            self._seal.sealed(will.to, topic, encode(will.message)),
            qos=1,
            retain=CHANNELS[type(will.to)].retain,
            properties=properties,
        )

    def _connected(self, client: paho.Client, answer: Properties | None) -> None:
        if self._network is not None:
            self._network.done()
        # A broker of MQTT 5 ends the connection of who sends more at a time than it allows. Paho
        # does not look, and lets it be set only before it connects, when nobody knows it yet.
        in_flight_max = getattr(answer, "ReceiveMaximum", _IN_FLIGHT_MAX)
        client._max_inflight_messages = min(in_flight_max, _IN_FLIGHT_MAX)
        if self._options.subscribe:
            self._subscribe(client, list(self._options.subscribe))
        self._up = self._was_let_in = True
        self._denied = 0
        self._set_timer(client.keepalive / 3, self._keep_alive)
        if self._protocol == _V5:
            self._shut_out = 0
        self._packet_bytes_max = getattr(answer, "MaximumPacketSize", None)
        self._retained_by_name = asked_by_name(
            self._broker.host,
            is_v5=self._protocol == _V5,
            shares=bool(getattr(answer, "SharedSubscriptionAvailable", 1)),
        )
        version = _V5_WORD if self._protocol == _V5 else _V311_WORD
        by_name = self._retained_by_name is not None
        node = str(self._broker) if len(self._nodes) > 1 else ""
        if self._options.copied and (asked := self._retained_by_name) and asked.at_each_node:
            self._open_copies()
        self._tell(LinkUp(self._token, self._packet_bytes_max, version, by_name, node))

    def _refused(self, code: int, reason: str) -> None:
        if self._protocol == _V5 and code in _UNSUPPORTED_VERSION:
            self._fall_back()
        elif code in NOT_LET_IN:
            self._lost(not_let_in(self._broker, reason), denied=True)
        else:
            self._lost(f"{self._broker} refused the connection: {reason}")

    def _unheard(self, topic: str, reason: str) -> None:
        tell = self._dispensable.get(topic)
        is_ours = topic in self._options.subscribe or topic in self._listening
        address = self._topics.parse(topic)
        refused = self._refused_times[topic] = self._refused_times.get(topic, 0) + 1
        # A broker of MQTT 5 says why. Of 3.1.1, one that has just lost a node refuses what it
        # grants a moment later: NATS 2.9 does, about every third time.
        may_change = self._protocol == _V311 and refused < _REFUSED_MAX
        if (tell is not None or is_ours) and may_change:
            self._ask_again(topic)
        elif tell is not None:
            del self._dispensable[topic]
            tell(reason)
        elif is_ours:
            reason = f"{self._broker} does not let us read {topic}: {reason}"
            self._lost(reason + self._perhaps_for_dots())
        elif topic in self._asked_for and address is not None:
            if refused == 1:
                self._tell(Refused(address, reason))
            self._ask_again(topic)

    def _ask_again(self, topic: str) -> None:
        client, times = self._client, self._refused_times[topic]

        def ask() -> None:
            wanted = {*self._options.subscribe, *self._listening, *self._dispensable}
            if client is not None and client is self._client and topic in wanted | self._asked_for:
                self._subscribe(client, [topic])

        pause_s = pace.backoff_s(times - 1, _ASK_AGAIN_S, _ASK_AGAIN_MAX_S)
        self._loop.call_in(pause_s, ask)

    def _ended(self, code: int, reason: str) -> None:
        if self._back_in_s is not None:
            self._gone()
            return
        if self._alert and not self._up:
            self._lost(not_let_in(self._broker, self._alert), denied=True)
            return
        # Some brokers of 3.1.1 close on a CONNECT of version 5 without a word. Once may be chance:
        # a proxy does it while the broker behind it starts, and 3.1.1 tells less.
        if self._protocol == _V5 and not self._up:
            self._shut_out += 1
        if self._shut_out > 1 and not self._up and self._protocol == _V5:
            self._fall_back()
        elif self._protocol == _V5 and code == _PROTOCOL_ERROR:
            # Retained there may lie what paho cannot read, as U+FEFF in a property: it would end
            # every connection. To a connection of 3.1.1 the broker sends no properties.
            self._lost(reason)
            self._protocol = _V311
        else:
            if code != _KEEPALIVE_TIMEOUT:
                # Silence is the way's fault.
                reason += self._perhaps_for_dots()
            if not self._up and not self._broker.tls and not self._was_let_in:
                reason = _before_an_answer(self._broker, reason)
            self._lost(
                reason,
                thrown_out=self._up and code != _KEEPALIVE_TIMEOUT,
                taken_over=self._protocol == _V5 and code == _TAKEN_OVER,
                # It may only be that it does not know version 5.
                stays=self._protocol == _V5 and not self._up,
            )

    def _perhaps_for_dots(self) -> str:
        # A broker of MQTT 5 says why.
        name = next(iter(self._as_slashes.values()), "")
        return dotted_names.may_be_why(name) if name and self._protocol == _V311 else ""

    def _fall_back(self) -> None:
        self._drop()
        self._protocol = _V311
        self._set_timer(0.0, self._connect)

    def _lost(
        self,
        reason: str,
        *,
        thrown_out: bool = False,
        taken_over: bool = False,
        denied: bool = False,
        hopeless: bool = False,
        stays: bool = False,
    ) -> None:
        """`stays`: at this node."""
        self._drop()
        self._denied = self._denied + 1 if denied else 0
        hopeless |= denied and self._denied_for_good()
        draw, options = random.SystemRandom().random(), self._options
        attempt = self._attempt // len(self._nodes)
        delay_s = pace.return_in_s(
            draw, attempt, options.retry_base_s, options.retry_max_s, self.spread_s
        )
        self._attempt += 1
        if not stays:
            self._at = (self._at + 1) % len(self._nodes)
        self._set_timer(delay_s, self._connect)
        self._tell(LinkDown(reason, delay_s, thrown_out, taken_over, hopeless))

    def _denied_for_good(self) -> bool:
        if self._was_let_in:
            return self._denied >= _DENIED_MAX
        # By all nodes, or by this one again, and those between cannot be reached.
        is_again = self._at in self._denied_at
        self._denied_at.add(self._at)
        return is_again or len(self._denied_at) == len(self._nodes)

    def _drop(self) -> None:
        """Forget this connection, whatever state it is in."""
        client, self._client = self._client, None
        self._alert = ""
        self._protocol = _V5
        self._up = False
        self._back_in_s = None
        self._subscribing.clear()
        self._listening.clear()
        self._asked_for.clear()
        self._refused_times.clear()
        self._dispensable.clear()
        self._on_the_way.clear()
        self._streaming.clear()
        self._streams.clear()
        self._behind.clear()
        copies, self._copies = self._copies, {}
        for copy in copies.values():
            copy.cut(None)
        if self._timer is not None:
            self._timer.cancel()
        if client is not None:
            sock = client.socket()
            if sock is not None:
                self._sockets.unwatch(sock.fileno())
                sock.close()
        if self._network is not None:
            self._network.done()

    def _keep_alive(self) -> None:
        # Up for a while. Not sooner, or two clients of one name would throw each other out for ever
        # without a pause.
        self._attempt = 0
        if self._client is not None:
            # Paho's figure: a broker of MQTT 5 may ask for a shorter one than ours.
            self._set_timer(self._client.keepalive / 3, self._keep_alive)
            # Sends a ping when it is due, and finds out that an old one had no answer.
            self._client.loop_misc()

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        # A broker that does not take the bytes must not keep a program from ending.
        deadline = self._loop.now() + _GOODBYE_WITHIN_S
        while not is_so() and self._loop.now() < deadline:
            self._loop.run_once(wait_max_s=0.1)

    def _set_timer(self, delay_s: Seconds, action: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_in(delay_s, action)

    # The socket

    def _on_ready(self, readable: bool, writable: bool) -> None:
        if readable and (client := self._client) is not None:
            client.loop_read()
            for _ in range(_READS_AT_ONCE):
                if not self._holds_more(client):
                    break
                client.loop_read()
            # Where one floods us they have no end, and all else has its turn in between.
            if self._holds_more(client) and not self._reading_on:
                self._reading_on = True
                self._loop.post(self._read_on)
        if writable:
            self._flush()

    def _holds_more(self, client: paho.Client) -> bool:
        """Whether TLS holds decrypted bytes that the kernel no longer knows of."""
        return isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending() > 0

    def _read_on(self) -> None:
        self._reading_on = False
        self._on_ready(readable=True, writable=False)

    def _flush(self) -> None:
        self._flush_posted = False
        if self._client is None or self._client.socket() is None:
            return
        self._client.loop_write()
        # The connection may have broken while it was being written to.
        sock = self._client.socket()
        if sock is not None:
            self._sockets.watch(sock.fileno(), self._on_ready, write=self._client.want_write())

    # Paho's callbacks: they never decide, and never tell anybody from within paho

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        _flags: Any,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._post_for(client, lambda: self._refused(code.value, str(code)))
        else:
            self._post_for(client, lambda: self._connected(client, properties))

    def _on_disconnect(
        self, client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any
    ) -> None:
        # Paho's word for a connection that ended without one: it would look like a fault of ours.
        said = "" if code.value == _UNSPECIFIED else f": {code}"
        reason = f"connection to {self._broker} lost{said}"
        self._post_for(client, lambda: self._ended(code.value, reason))

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        address = self._topics.parse(topic)
        if address is not None:
            expires_in_s = getattr(message.properties, "MessageExpiryInterval", None)
            self.bytes_received += len(topic) + len(message.payload)
            arrived = Arrived(
                address, bytes(message.payload), expires_in_s, retained=bool(message.retain)
            )
            self._post_for(client, lambda: self._tell_of(arrived, topic))
        elif self._options.tell_strays and (owner := self._topics.owner(topic)) is not None:
            strayed = Strayed(owner, topic, len(message.payload))
            self._post_for(client, lambda: self._tell(strayed))
        elif self._as_slashes:
            self._post_for(client, lambda: self._look_for_dots(topic))

    def _on_log(self, client: paho.Client, _data: Any, _level: int, text: str) -> None:
        if client is self._client and (alert := tls_alert(text)):
            self._alert = alert

    def _on_publish(
        self, client: paho.Client, _data: Any, mid: int, code: ReasonCode, _properties: Any
    ) -> None:
        sent = self._on_the_way.pop(mid, None)
        if sent is not None and code.is_failure:
            self._post_for(client, lambda: self._tell(Refused(sent.address, str(code))))
        elif sent is not None and isinstance(sent.address, self._options.tell_of):
            self._post_for(client, lambda: self._tell(sent))
        if self._back_in_s is not None:
            self._post_for(client, self._disconnect_when_said)
        if mid in self._streaming:
            self._streaming.discard(mid)
            self._post_for(client, self._pump)

    def _on_subscribe(
        self,
        client: paho.Client,
        _data: Any,
        mid: int,
        codes: list[ReasonCode],
        _properties: Any,
    ) -> None:
        for topic, code in zip(self._subscribing.pop(mid, ()), codes, strict=False):
            if code.is_failure:
                self._post_for(client, partial(self._unheard, topic, str(code)))

    def _on_socket_open(self, client: paho.Client, _data: Any, sock: Any) -> None:
        # Small messages must not wait for the acknowledgement of the one before.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._network is not None:
            # Paho has no way to be told; it looks here each time it reads or writes.
            client._sock = sock = self._network.wrap(sock)
        self._sockets.watch(sock.fileno(), self._on_ready)

    def _on_socket_close(self, client: paho.Client, _data: Any, sock: Any) -> None:
        self._sockets.unwatch(sock.fileno())
        if client is self._client and self._tls is not None and not self._up:
            self._alert = self._alert or unread_tls_alert(sock)

    def _on_wants_write(self, _client: paho.Client, _data: Any, _sock: Any) -> None:
        if not self._flush_posted:
            self._flush_posted = True
            self._loop.post(self._flush)

    def _look_for_dots(self, topic: str) -> None:
        for pattern, name in self._as_slashes.items():
            if paho.topic_matches_sub(pattern, topic):
                self._lost(dotted_names.are_slashes(str(self._broker), name), hopeless=True)
                return

    def _tell(self, event: LinkEvent) -> None:
        if not self._is_closed and self._back_in_s is None:
            self._handle(event)

    def _tell_of(self, arrived: Arrived, topic: str) -> None:
        if not self._options.admits(arrived.address, len(arrived.payload)):
            return
        try:
            message = self._seal.opened(arrived.address, topic, arrived.payload)
        except BadSignature as bad:
            self._tell(Unproven(arrived.address, str(bad), isinstance(bad, RevokedKey)))
        else:
            author = envelope.author(arrived.address, arrived.payload)
            self._tell(replace(arrived, payload=message, author=author))

    def _post_for(self, client: paho.Client, action: Callable[[], None]) -> None:
        """Do it, unless this connection has been dropped by then."""

        def if_current() -> None:
            if self._client is client:
                action()

        self._loop.post(if_current)


def _tls_context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as bad:
        raise BrokerUrlError(f"tls_ca {ca!r} is no file of certificates: {bad.strerror}") from bad


def _not_believed(broker: BrokerUrl, why: str) -> str:
    return (
        f"{broker} is not the broker that it should be: {why}. Is the host's name right, and the"
        " CA's certificate the one that signed the broker's?"
    )


def _before_an_answer(broker: BrokerUrl, why: str) -> str:
    # A port for TLS takes our CONNECT for a broken greeting, and hangs up.
    return (
        f"{broker} hung up before it answered ({why}). If that is its port for TLS, its address"
        " begins with mqtts://"
    )


def not_let_in(broker: BrokerUrl, why: str) -> str:
    return (
        f"{broker} does not let us in: {why}. The account is unknown there, its password is wrong,"
        " or it has been revoked: ask for credentials anew"
    )


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]
