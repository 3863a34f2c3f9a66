"""Every topic the system uses, built and parsed in one place.

    fed/v1/<federation>/offer                                   the open round, retained
                       /model/<digest>/<chunk>                  one chunk of a model, retained
                       /update/<lane>/<client>/<round>/<part>   one part of a client's answer
                       /inbox/<client>                          for one client alone
                       /presence/<client>                       who is there, retained; the will
                       /seat                                    who coordinates, retained
                       /claim                                   does anybody coordinate?
                       /order/<operator>                        what the coordinator is to do
                       /order-reply/<operator>                  what it has done
                       /work/<worker>                           what a worker has taken in; its will
                       /lanes/<worker>                          what it is to take in
                       /status/<page>                           JSON for people, retained

The machines name *where* a message goes by an address (`Inbox("ann")`); only this file knows what
the address looks like on a broker, and `CHANNELS` who writes it, who reads it, how it is sent.
"""

import re
import zlib
from dataclasses import dataclass, fields
from typing import Any, Literal, NewType

ClientId = NewType("ClientId", str)
RoundId = NewType("RoundId", int)
RunId = NewType("RunId", str)
"""Of one sequence of rounds, from an initial model to the end; see `RUN_PATTERN`."""
Digest = NewType("Digest", str)
"""SHA-256 of some bytes, as 64 hexadecimal digits."""

ROOT = "fed/v1"
ANNOUNCE = "announce"
"""The part of an answer that says how large the rest is."""

TRIAL = "doctor-"
"""So begins the last level of a topic where a broker is tried: no program takes notice of it."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
"""Of a client's or a federation's name; for settings, which look for it anywhere in a text."""

NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit"
"""The same for people."""

RUN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"

ROUND_MAX = 2**31
"""The last that there can be: what tells of a later one is no topic of ours, and no message."""

_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_WHOSE = ("client", "operator", "worker")
"""Places in an address that hold a name."""
_STATUS_PAGE = re.compile(r"[a-z]+(/[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True)
class OfferBoard:
    """Where the coordinator says which round is open; retained, so late clients see it."""


@dataclass(frozen=True, slots=True)
class ModelChunk:
    """One chunk of the model with this digest. Published once, fetched by whoever needs it."""

    digest: Digest
    index: int


@dataclass(frozen=True, slots=True)
class UpdatePart:
    """One part of one client's answer to one round: a chunk's number, or `ANNOUNCE`.

    The lane is a hash of the client, so that several workers can share the load and the parts of
    one answer still meet in one place.
    """

    lane: int
    client: ClientId
    round: RoundId
    part: str


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the coordinator has to say to one client."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class PresenceOf:
    """Whether a client is there; also the topic of its will."""

    client: ClientId


@dataclass(frozen=True, slots=True)
class CoordinatorSeat:
    """Where the coordinator of the federation says that it is the one."""


@dataclass(frozen=True, slots=True)
class SeatClaim:
    """Where a coordinator asks whether the federation has one, and is answered; also its will."""


@dataclass(frozen=True, slots=True)
class OrderOf:
    """Where one operator tells the coordinator what to do."""

    operator: ClientId


@dataclass(frozen=True, slots=True)
class OrderReply:
    """Where the coordinator tells that operator what came of it."""

    operator: ClientId


@dataclass(frozen=True, slots=True)
class WorkOf:
    """Where one worker tells the coordinator of the answers that it took in; also its will."""

    worker: ClientId


@dataclass(frozen=True, slots=True)
class LanesOf:
    """Where the coordinator tells that worker whose answers to take in, and what becomes of
    them."""

    worker: ClientId


@dataclass(frozen=True, slots=True)
class StatusPage:
    """A page for people, in JSON: `round`, `coordinator`, `client/ann`, ..."""

    page: str


Address = (
    OfferBoard
    | ModelChunk
    | UpdatePart
    | Inbox
    | PresenceOf
    | CoordinatorSeat
    | SeatClaim
    | OrderOf
    | OrderReply
    | WorkOf
    | LanesOf
    | StatusPage
)


@dataclass(frozen=True, slots=True)
class Channel:
    """How one kind of topic is used. All go at QoS 1: delivered at least once, or told."""

    writer: Literal["coordinator", "client", "operator", "worker"]
    reader: Literal["coordinator", "client", "operator", "worker", "everyone"]
    retain: bool
    content: str
    signed: bool = False
    """By its writer, in an envelope: see `fedmqtt/envelope.py`. A model's chunks need not be, since
    the signed offer names its digest."""


CHANNELS: dict[type[Address], Channel] = {
    OfferBoard: Channel(
        "coordinator", "client", retain=True, content="Offer, MessagePack", signed=True
    ),
    ModelChunk: Channel("coordinator", "client", retain=True, content="bytes of a model file"),
    UpdatePart: Channel(
        "client",
        "coordinator",
        retain=False,
        content="Update, Evaluation, Decline, Announce or Chunk, MessagePack",
        signed=True,
    ),
    Inbox: Channel(
        "coordinator",
        "client",
        retain=False,
        content="Receipt, Go, TimeLeft or Offer, MessagePack",
        signed=True,
    ),
    PresenceOf: Channel("client", "everyone", retain=True, content="Presence, MessagePack"),
    CoordinatorSeat: Channel(
        "coordinator", "coordinator", retain=True, content="Seat, MessagePack", signed=True
    ),
    SeatClaim: Channel(
        "coordinator",
        "coordinator",
        retain=False,
        content="Claim or Seat, MessagePack",
        signed=True,
    ),
    OrderOf: Channel(
        "operator", "coordinator", retain=False, content="Ask or Order, MessagePack", signed=True
    ),
    OrderReply: Channel(
        "coordinator", "operator", retain=False, content="OrderAnswer, MessagePack", signed=True
    ),
    WorkOf: Channel(
        "worker",
        "coordinator",
        retain=False,
        content="Working, Claims, Passed or SumPiece, MessagePack",
        signed=True,
    ),
    LanesOf: Channel(
        "coordinator", "worker", retain=False, content="Lanes or Verdicts, MessagePack", signed=True
    ),
    StatusPage: Channel("coordinator", "everyone", retain=True, content="JSON"),
}


def is_name(text: str) -> bool:
    """Whether `text` may name a client or a federation: `NAME_RULE`.

    Anything else could hold a wildcard or a slash and reach topics that are not the client's own.
    """
    return _NAME.fullmatch(text) is not None


def lane_of(client: ClientId, lane_count: int) -> int:
    """The lane of this client's answers, in 0 .. lane_count - 1; the same on every machine."""
    return zlib.crc32(client.encode()) % lane_count


class Topics:
    """The topics of one federation. Raises ValueError on a name that no topic may hold."""

    def __init__(self, federation: str) -> None:
        if not is_name(federation):
            raise ValueError(f"federation name {federation!r} is not {NAME_RULE}")
        self._prefix = f"{ROOT}/{federation}/"
        self.offer = self._prefix + "offer"
        self.any_update = self._prefix + "update/+/+/+/+"
        self.any_presence = self._prefix + "presence/+"
        self.any_model = self._prefix + "model/+/0"
        """The first chunk of each model that lies on the broker."""
        self.seat = self._prefix + "seat"
        self.claim = self._prefix + "claim"
        self.any_order = self._prefix + "order/+"
        self.any_work = self._prefix + "work/+"
        self.any_status = self._prefix + "status/#"
        self.any_client_page = self._prefix + "status/client/+"

    def path(self, address: Address) -> str:
        match address:
            case OfferBoard():
                return self.offer
            case ModelChunk(digest, index):
                return f"{self._prefix}model/{digest}/{index}"
            case UpdatePart(lane, client, round_id, part):
                return f"{self._prefix}update/{lane}/{client}/{round_id}/{part}"
            case Inbox(client):
                return f"{self._prefix}inbox/{client}"
            case PresenceOf(client):
                return f"{self._prefix}presence/{client}"
            case CoordinatorSeat():
                return self.seat
            case SeatClaim():
                return self.claim
            case OrderOf(operator):
                return f"{self._prefix}order/{operator}"
            case OrderReply(operator):
                return f"{self._prefix}order-reply/{operator}"
            case WorkOf(worker):
                return f"{self._prefix}work/{worker}"
            case LanesOf(worker):
                return f"{self._prefix}lanes/{worker}"
            case StatusPage(page):
                return f"{self._prefix}status/{page}"

    def lane(self, lane: int) -> str:
        """Matches all parts of all answers in this lane."""
        return f"{self._prefix}update/{lane}/+/+/+"

    def filter(self, kind: type[Address], client: str = "+") -> str:
        """Matches every address of this kind, where `client` fills the place of a client's name, of
        an operator's or of a worker's."""
        if kind is StatusPage:
            return self.any_status
        places: dict[str, Any] = {place.name: "+" for place in fields(kind)}
        places |= {whose: client for whose in _WHOSE if whose in places}
        return self.path(kind(**places))

    def owner(self, topic: str) -> ClientId | None:
        """Who alone may write there, also where nothing has its place that `parse` knows."""
        match topic.removeprefix(self._prefix).split("/"):
            case ["update", _, client, *_] | ["presence", client] if is_name(client):
                return ClientId(client)
            case _:
                return None

    def is_trial(self, topic: str) -> bool:
        return topic.rpartition("/")[2].startswith(TRIAL)

    def parse(self, topic: str) -> Address | None:
        """Reverse of `path`; None for any other topic, of whatever form."""
        if not topic.startswith(self._prefix):
            return None
        match topic.removeprefix(self._prefix).split("/"):
            case ["offer"]:
                return OfferBoard()
            case ["model", digest, index] if _DIGEST.fullmatch(digest) and _is_number(index):
                return ModelChunk(Digest(digest), int(index))
            case ["update", lane, client, round_id, part]:
                return _parse_update(lane, client, round_id, part)
            case ["inbox", client] if is_name(client):
                return Inbox(ClientId(client))
            case ["presence", client] if is_name(client):
                return PresenceOf(ClientId(client))
            case ["seat"]:
                return CoordinatorSeat()
            case ["claim"]:
                return SeatClaim()
            case ["order", operator] if is_name(operator):
                return OrderOf(ClientId(operator))
            case ["order-reply", operator] if is_name(operator):
                return OrderReply(ClientId(operator))
            case ["work", worker] if is_name(worker):
                return WorkOf(ClientId(worker))
            case ["lanes", worker] if is_name(worker):
                return LanesOf(ClientId(worker))
            case ["status", *pages] if _STATUS_PAGE.fullmatch("/".join(pages)):
                return StatusPage("/".join(pages))
            case _:
                return None


def _parse_update(lane: str, client: str, round_id: str, part: str) -> UpdatePart | None:
    numbers = _is_number(lane) and _is_number(round_id) and int(round_id) <= ROUND_MAX
    if numbers and is_name(client) and (part == ANNOUNCE or _is_number(part)):
        return UpdatePart(int(lane), ClientId(client), RoundId(int(round_id)), part)
    return None


def _is_number(text: str) -> bool:
    # One spelling per number ("7", never "07" or another script's digit), or one update would
    # have many topics.
    return _NUMBER.fullmatch(text) is not None
