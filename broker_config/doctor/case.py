"""What is looked at: a broker and an account on it, and what a federation needs of both.

Where the doctor writes, so that no program of the federation is disturbed:

    coordinator   model/doctor-<chance>/0           no program subscribes to that
    device        update/0/<id>/0/doctor-<chance>   the coordinator passes over what is no part
                  presence/<id>                     while the device is away: "not there"
    monitor       nothing

It connects under client ids of its own. A broker that names sessions by accounts gives it the
device's own session all the same; then what waits there for the device is left to wait.
"""

import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from broker_config.doctor import kinds
from fedmqtt import client_ids, messages
from fedmqtt.credentials import Role
from fedmqtt.effects import Seconds
from fedmqtt.envelope import NO_KEYS
from fedmqtt.messages import Presence, TimeLeft, WireError
from fedmqtt.mqtt_link import BrokerUrl
from fedmqtt.mqtt_probe import Probe, ProbeEnded, ProbeOptions, ProbeRefused, Version, Welcome
from fedmqtt.topics import (
    Address,
    ClientId,
    Digest,
    Inbox,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    RunId,
    StatusPage,
    Topics,
    UpdatePart,
)

RETAINED_FOR_S = 60
"""On MQTT 5 what is retained for a check goes by itself, should the doctor be killed meanwhile."""
_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Of one federation."""

    chunk_bytes: int
    devices: int
    model_bytes: int | None
    """None: ask the offer."""
    packet_cap_bytes: int
    """Nothing larger is tried."""

    @property
    def packet_bytes(self) -> int:
        """For a chunk, with topic and properties around it."""
        return self.chunk_bytes + 1024

    @property
    def queued(self) -> int:
        """Messages for a coordinator that is away: an answer in chunks, of every device."""
        return 20 * self.devices


class WitnessKeptOut(Exception):
    """The account that was let in is another's; says where the witness is not, and why."""


@dataclass(kw_only=True)
class Case:
    broker: BrokerUrl
    topics: Topics
    federation: str
    role: Role
    id: str
    needs: Needs
    tls: ssl.SSLContext | None
    state: Path
    """Folder of the program whose account this is."""
    tell: Callable[[str], None]
    """How far a long check has come."""
    witness: BrokerUrl | None = None
    """A coordinator's account, which hears what this one says, and says what it should hear."""
    witness_file: str = ""
    """In which that account is."""
    may_be_the_device: bool = False
    """The broker may take us for the device itself, and cut its own connection off."""
    kind: str = ""
    """Of broker; empty where it is not known."""
    nonce: str = field(default_factory=lambda: client_ids.of_doctor(secrets.token_hex(4)))

    # What the checks find out for those that come after
    way_s: Seconds = 0.1
    """There and back, as TCP sees it."""
    version: Version = "MQTT 5"
    welcome: Welcome | None = None
    session_is_the_devices: bool = False
    """The broker names sessions by accounts, and the device has one there."""
    packet_bytes: int = 16 * 1024
    """The largest that is known to get through."""

    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.kind = self.kind or kinds.by_host(self.broker.host)

    @property
    def quiet_s(self) -> Seconds:
        """After so long nothing more comes of what a broker sends at once."""
        return min(2.0, 0.2 + 10 * self.way_s)

    @property
    def is_anonymous(self) -> bool:
        """Nothing proves who we are: no password, and no certificate (those come in a context)."""
        return self.broker.username is None and self.broker.context is None

    @property
    def loop_topic(self) -> str | None:
        """Where this account may write and read, and nobody listens; a device has none."""
        if self.role != "coordinator":
            return None
        return self.topics.path(ModelChunk(Digest(self.nonce), 0))

    @property
    def write_topic(self) -> str | None:
        """Where this account may write, and no program takes notice; a monitor has none."""
        if self.role == "device":
            part = UpdatePart(0, ClientId(self.id), RoundId(0), self.nonce)
            return self.topics.path(part)
        return self.loop_topic

    @property
    def read_topic(self) -> str:
        """Where this account may read, and nothing is said."""
        match self.role:
            case "coordinator":
                return self.topics.path(ModelChunk(Digest(self.nonce), 0))
            case "device":
                return self.presence_topic
            case "worker":
                return self.topics.path(UpdatePart(0, ClientId(self.nonce), RoundId(0), self.nonce))
            case "monitor" | "operator":
                return self.topics.path(StatusPage(f"{self.nonce}/read"))

    @property
    def dotted_name(self) -> str:
        """A name with a dot in it that stands in our topics; nothing where there is none."""
        names = (self.federation, self.id if self.role == "device" else "")
        return next((name for name in names if "." in name), "")

    @property
    def presence_topic(self) -> str:
        return self.topics.path(PresenceOf(ClientId(self.id)))

    def connected(
        self,
        name: str = "",
        *,
        resume: bool = False,
        keep_s: int = 0,
        version: Version | None = None,
    ) -> Probe:
        """A connection of our own, of a new session or of the one by this name."""
        # Some brokers stumble when one client id comes back while they still see it off. NATS locks
        # it out for a second.
        tries = 2 if name else 1
        name = name or f"-{next(self._numbers)}"
        if self.session_is_the_devices:
            # To begin a new session would end the device's.
            resume, keep_s = True, 14 * _DAY_S
        options = ProbeOptions(
            client_id=f"{self.nonce}{name}",
            version=version or self.version,
            resume=resume,
            keep_s=keep_s,
            tries=tries,
            not_ours=self._waiting_for_the_device(),
            mark=self.nonce.encode(),
            stay_subscribed=self._of_the_device() if self.session_is_the_devices else None,
        )
        return Probe(self.broker, self.tls, options)

    @contextmanager
    def witnessing(self) -> Iterator[Probe]:
        """A connection of the witness. Raises WitnessKeptOut where it does not come in."""
        assert self.witness is not None
        options = ProbeOptions(
            client_id=f"{self.nonce}-w{next(self._numbers)}", version=self.version
        )
        with ExitStack() as stack:
            try:
                probe = stack.enter_context(Probe(self.witness, self.witness.context, options))
            except (ProbeEnded, ProbeRefused) as bad:
                raise WitnessKeptOut(f"{self.witness} does not let it in: {bad}") from bad
            yield probe

    def retained(self, probe: Probe, address: Address) -> bytes | None:
        """What lies there, if this account may read it and there is anything."""
        topic = self.topics.path(address)
        probe.subscribe(topic)
        for got in probe.hear(self.quiet_s):
            if got.topic == topic and got.retained:
                return got.payload
        return None

    def offer(self, probe: Probe) -> bytes | None:
        """The offer that lies there, if any, out of its envelope. Raises BadSignature where these
        credentials would not have a program take it."""
        payload = self.retained(probe, OfferBoard())
        if payload is None:
            return None
        seal = self.broker.seal or NO_KEYS
        return seal.opened(OfferBoard(), self.topics.path(OfferBoard()), payload)

    def aside(self, address: Address) -> bytes:
        """What can be said there, and is of no matter to a program that hears it."""
        match address:
            case PresenceOf():
                return self.absence()
            case Inbox():
                # Of a run that nobody takes part in.
                return messages.encode(
                    TimeLeft(run=RunId(self.nonce), round=RoundId(0), closes_in_s=0)
                )
            case _:
                return self.nonce.encode()

    def absence(self) -> bytes:
        """What a device says that is not there, for whom nobody takes for its last words."""
        return messages.encode(Presence(online=False, session=self.nonce, program="fedmqtt doctor"))

    def is_online(self, presence: bytes | None) -> bool:
        """Whether the device, by what lies in its presence, is at work now."""
        try:
            return bool(presence) and messages.read_presence(presence or b"").online
        except WireError:
            return False

    def _waiting_for_the_device(self) -> frozenset[str]:
        if self.role != "device":
            return frozenset()
        return frozenset({self.topics.path(Inbox(ClientId(self.id)))})

    def _of_the_device(self) -> frozenset[str]:
        """What it is subscribed to, and will be when it is back."""
        me = ClientId(self.id)
        own: tuple[Address, ...] = (OfferBoard(), Inbox(me), PresenceOf(me))
        return frozenset(self.topics.path(one) for one in own)
