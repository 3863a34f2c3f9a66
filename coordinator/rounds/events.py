"""What happens to the round machine."""

from dataclasses import dataclass

from coordinator.orders import Order
from coordinator.rounds.names import Named
from coordinator.rounds.state import Lead
from fedmqtt.effects import Seconds
from fedmqtt.messages import Masking, ModelRef, Presence
from fedmqtt.topics import ClientId, RoundId, RunId


@dataclass(frozen=True, slots=True)
class ClientCame:
    at: Seconds
    client: ClientId
    presence: Presence


@dataclass(frozen=True, slots=True)
class ClientLeft:
    at: Seconds
    client: ClientId
    session: str


@dataclass(frozen=True, slots=True)
class AnnounceCame:
    """A client has an answer too large for one message, and asks when to send it."""

    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    fault: str = ""
    excused: bool = False
    """The fault is not its sender's."""


@dataclass(frozen=True, slots=True)
class UpdateCame:
    """A whole update, and what the service found wrong with its numbers, if anything."""

    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    base: str
    fingerprint: str
    fault: str = ""
    samples: int = 1
    loss: float | None = None
    """As its sender reports them."""
    excused: bool = False
    """The fault is not its sender's."""


@dataclass(frozen=True, slots=True)
class EvaluationCame:
    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    base: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Declined:
    at: Seconds
    client: ClientId
    run: RunId
    round: RoundId
    reason: str


@dataclass(frozen=True, slots=True)
class Barred:
    """The client is not to be invited nor waited for until `Unbarred`, and why."""

    at: Seconds
    client: ClientId
    why: str


@dataclass(frozen=True, slots=True)
class Unbarred:
    at: Seconds
    client: ClientId


@dataclass(frozen=True, slots=True)
class Stored:
    """These accepted answers would survive a loss of power now."""

    at: Seconds
    answers: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """These accepted answers will not be stored, since the program that held them is gone."""

    at: Seconds
    answers: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class ModelReady:
    """The model that the next round starts from can be fetched."""

    at: Seconds
    model: ModelRef
    fault: str = ""
    """Why it is the one of before, where that of another round was to come back."""


@dataclass(frozen=True, slots=True)
class LeadCame:
    """At a site: a round is to open from this model, which can be fetched."""

    at: Seconds
    model: ModelRef
    lead: Lead


@dataclass(frozen=True, slots=True)
class CalledOff:
    """At a site: the round that was led is wanted no more, be it open or not."""

    at: Seconds
    why: str


@dataclass(frozen=True, slots=True)
class KeysCame:
    """Where answers are masked: by which keys in the next round. None: there are too few."""

    at: Seconds
    masking: Masking | None


@dataclass(frozen=True, slots=True)
class OrderCame:
    """An operator's order, proven to be one."""

    at: Seconds
    order: Order
    models: tuple[RoundId, ...] = ()
    """The rounds whose models are kept, oldest first."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Nobody can be heard from now on."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Who is there will be heard."""

    at: Seconds


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = (
    ClientCame
    | ClientLeft
    | AnnounceCame
    | UpdateCame
    | EvaluationCame
    | Declined
    | Barred
    | Unbarred
    | Stored
    | Lost
    | ModelReady
    | LeadCame
    | CalledOff
    | KeysCame
    | OrderCame
    | LinkDown
    | LinkUp
    | Woke
)
