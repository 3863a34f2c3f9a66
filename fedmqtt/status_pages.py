"""What the coordinator tells people, as retained JSON on `status/<page>`. Read by every monitor.

coordinator   what it does now, in a sentence, and how many clients there are
round         the open round: who was invited, answered, is away, was rejected and why
pace          how many are invited, how long a round may take, and why: learned from those before
model         the current model and its figures on clients' own data
history       the last rounds, one line each
clients       who is online, who is away, who cannot take part and why
traffic       bytes that crossed the coordinator's own connection
"""

from typing import Literal

import msgspec
from msgspec import Struct, structs

from fedmqtt import unreadable
from fedmqtt.topics import ClientId, RoundId

HISTORY_ROUNDS = 100
"""How many rounds the history page keeps; the run folder keeps all."""

REFUSALS = 20
"""How many of the last refusals the coordinator's page tells."""

LISTED_CLIENTS = 1000
"""Longer lists of clients are cut in pages (the counts are not): a page stays small."""

LISTED_LABELS = 20
"""Of more kinds of devices only the most frequent are told."""

STOPPED = "stopped"
"""The outcome of a round that ended with its coordinator, and will go on with it."""

Doing = Literal["starting", "waiting", "collecting", "averaging", "finished", "stopped"]


class Page(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of every page. Times are ISO 8601 in UTC, for people; nothing is decided by them."""


class CoordinatorPage(Page, frozen=True, kw_only=True):
    state: Doing
    says: str
    """What it does and what it waits for, in a sentence."""
    federation: str
    run: str
    epoch: int = 0
    """Of the coordinator: above all before it. Millions count how often the seat was taken, the
    rest tells apart programs that bid at once."""
    task: str
    program: str
    since: str
    """When this program began."""
    round: RoundId
    """The open or the next one."""
    rounds_wanted: int
    """0: runs until stopped."""
    clients_online: int
    clients_known: int
    late_updates: int
    late_held: int = 0
    """Those of them that wait to be taken up by a round."""
    at_work: int = 0
    """Where rounds are asynchronous: how many clients are, whatever model they began with."""
    unreadable_messages: int
    skew: str = ""
    """Where a few clients give most of the answers: how few, and what to do about it."""
    keyholders: dict[ClientId, str] = {}
    """Where answers are masked: whether each is there, and has a key for a round."""
    keyholder_faults: list[str] = []
    """What was wrong with what keyholders said, and whose it was. Newest last."""
    privacy: str = ""
    """What is promised to each device, and what not, where noise is added."""
    refusals: list[str] = []
    """The last messages that did not count: who sent them, and why not. Newest last."""
    protocol: str


class RoundPage(Page, frozen=True, kw_only=True):
    run: str = ""
    """As clients know it: a new one has a round of this number too."""
    round: RoundId
    open: bool
    opened: str
    closes: str
    wanted: int
    """Answers that complete the round."""
    quorum: int
    """Fewest answers that make a new model."""
    invited: list[ClientId]
    answered: list[ClientId]
    away: list[ClientId]
    """Invited and gone, without an answer so far."""
    declined: dict[ClientId, str]
    rejected: dict[ClientId, str]
    evaluators: list[ClientId]
    evaluated: list[ClientId]
    surplus: list[ClientId] = []
    """When closed: invited, and still at work when the round was complete without them."""
    outcome: str = ""
    """When closed: averaged, kept or evaluated, and why it closed. STOPPED: it will go on."""


class PacePage(Page, frozen=True, kw_only=True):
    """What one round goes by. Of the next round as soon as one has closed."""

    round: RoundId
    over_selection: float
    """Clients invited per answer wanted, where so many are willing."""
    over_selection_reason: str
    deadline_s: float
    deadline_reason: str


OTHERS = "others"
"""The group of those who have no label, and of groups too small to be told of by themselves."""


class GroupFigures(Struct, frozen=True, kw_only=True):
    """How a model did for the clients of one label: means weighted by samples."""

    clients: int
    samples: int
    metrics: dict[str, float]


class Spread(Struct, frozen=True, kw_only=True):
    """How one metric differs between clients, each counting once."""

    clients: int
    mean: float
    lowest_tenth: float
    """The mean over the tenth of the clients that have the lowest values, three at least."""
    median: float
    highest_tenth: float


class Figures(Struct, frozen=True, kw_only=True):
    """How one model did on clients' own data: means weighted by samples."""

    clients: int
    samples: int
    metrics: dict[str, float]
    """With a confusion matrix, `accuracy` and `macro_f1` are among them."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    groups: dict[str, GroupFigures] = {}
    """By the clients' label, `OTHERS` last."""
    spread: dict[str, Spread] = {}

    def without_details(self) -> "Figures":
        """The fleet's figures alone."""
        return structs.replace(self, confusion=None, groups={}, spread={})


class Privacy(Struct, frozen=True, kw_only=True):
    """What the models up to now can show of the device that took part most often."""

    epsilon: float
    delta: float
    epsilon_max: float
    """When a device has taken part as often as it may."""
    participations: int
    """Counted of the one that has most of them."""
    participations_max: int
    noise_multiplier: float
    clip_norm: float
    """As it began, where it is adaptive."""


class ModelPage(Page, frozen=True, kw_only=True):
    digest: str
    size_bytes: int
    delta_bytes: int = 0
    """What who holds the model before fetches instead; 0 where there is no such thing."""
    parameters: int
    trained_rounds: int
    """Rounds whose average went into it."""
    figures: Figures | None
    """Of the newest model that was evaluated."""
    figures_round: RoundId | None
    """The round in which it was."""
    privacy: Privacy | None = None
    """Where there is noise."""


class CodecCount(Struct, frozen=True, kw_only=True):
    """How many updates came by one codec, and how many bytes their numbers took."""

    updates: int = 0
    bytes: int = 0

    def plus(self, size_bytes: int) -> "CodecCount":
        return CodecCount(updates=self.updates + 1, bytes=self.bytes + size_bytes)


class RoundLine(Struct, frozen=True, kw_only=True):
    """One closed round, compact."""

    round: RoundId
    outcome: str
    reason: str
    invited: int
    answered: int
    dropped: int
    """Lost: gone, too slow for the deadline, or declined."""
    surplus: int = 0
    """Still at work when the round was complete without them."""
    declined: int
    rejected: int
    duration_s: float
    train_metrics: dict[str, float]
    figures: Figures | None = None
    """Of the model the round started from."""
    codecs: dict[str, CodecCount] = {}
    """Of the updates that counted, by codec."""
    epsilon: float | None = None
    """Of all models up to this one; None where there is no noise."""


class HistoryPage(Page, frozen=True, kw_only=True):
    rounds: list[RoundLine]


class Quarantined(Struct, frozen=True, kw_only=True):
    """Who is not invited and not heard for a while."""

    until: str
    """Empty: until it is lifted."""
    why: str


class ClientsPage(Page, frozen=True, kw_only=True):
    online: list[ClientId]
    away: list[ClientId]
    labels: dict[ClientId, str] = {}
    """What its owner calls the kind of device, of those that are listed and say it."""
    label_counts: dict[str, int] = {}
    """How many clients have each, online or not; the most frequent ones."""
    hindered: dict[ClientId, str]
    """Why a client cannot or will not take part: another task, its owner's conditions, trouble."""
    quarantined: dict[ClientId, Quarantined] = {}
    refused: dict[ClientId, str] = {}
    """Others of whom something was refused lately for what it is: how often, and why."""


class TrafficPage(Page, frozen=True, kw_only=True):
    bytes_received: int
    bytes_published: int
    """Once for all clients: the broker multiplies it."""


PAGES: dict[str, type[Page]] = {
    "coordinator": CoordinatorPage,
    "round": RoundPage,
    "pace": PacePage,
    "model": ModelPage,
    "history": HistoryPage,
    "clients": ClientsPage,
    "traffic": TrafficPage,
}


class PageError(ValueError):
    """Bytes that are not the page they should be."""


def encode(page: Page) -> bytes:
    return msgspec.json.encode(page)


def decode(name: str, data: bytes) -> Page:
    """Raises PageError on an unknown page or other bytes."""
    if name not in PAGES:
        raise PageError(f"no page {name!r}")
    try:
        return msgspec.json.decode(data, type=PAGES[name])
    except unreadable.MESSAGE as bad:
        raise PageError(f"page {name}: {bad}") from bad
