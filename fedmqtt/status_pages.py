"""What the coordinator tells people, as retained JSON on `status/<page>`. Read by every monitor.

coordinator   whether all is well, what it does now and what comes next, in sentences
round         the open round: who was invited, answered, is away, was rejected and why
pace          how many are invited, how long a round may take, and why: learned from those before
model         the current model and its figures on clients' own data
history       the last rounds, one line each
participation which client took part in which of the last rounds
clients       who is online, who is away, who cannot take part and why
traffic       bytes that crossed the coordinator's own connection
orders        what operators have ordered, and what came of it
client/<id>   one client: what it does now, how far it is, what it has done so far

What each field says is in its docstring: `docs/status.md` and the schemas are made of them
(`python -m tests.status_reference`).
"""

from typing import Literal

import msgspec
from msgspec import Struct, structs

from fedmqtt import unreadable
from fedmqtt.topics import ClientId, RoundId

HISTORY_ROUNDS = 100
"""How many rounds the history page keeps; the run folder keeps all."""

PARTICIPATION_ROUNDS = 60
"""How many rounds the participation page tells of."""

PARTICIPANTS = 300
"""And of how many clients: a letter for each and each round is 20 kB, once a round."""

ORDERS = 20
"""How many of the last orders are told; the run's ledger keeps more."""

REFUSALS = 20
"""How many of the last refusals the coordinator's page tells."""

LISTED_CLIENTS = 1000
"""Longer lists of clients are cut in pages (the counts are not): a page stays small."""

LISTED_LABELS = 20
"""Of more kinds of devices only the most frequent are told."""

STOPPED = "stopped"
"""The outcome of a round that ended with its coordinator, and will go on with it."""

OPENING = "its sum is asked of keyholders"
"""The outcome of a round that takes no more answers: what comes of them is not known yet."""

CLIENT_PAGES = "client/"
"""So begin the names of clients' own pages."""

Doing = Literal["starting", "waiting", "collecting", "averaging", "finished", "stopped"]

Health = Literal["ok", "waiting", "trouble"]

Better = Literal["yes", "no", "early", "unknown"]


class Page(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of every page. Times are ISO 8601 in UTC, for people; nothing is decided by them."""


class QuietFleet(Struct, frozen=True, kw_only=True):
    """Of clients that say nothing until they are drawn: nobody knows how many are there."""

    declared: int
    """How many there may be at most, as the operator says."""
    estimate: int
    """How many would answer if all were asked: as likely more as fewer. It is inferred from how
    many answered of those that were drawn, and counts no devices."""
    low: int
    """So few, or fewer, in one case of twenty."""
    high: int
    """So many, or more, in one case of twenty."""
    one_in: float
    """The open round, or the last one, drew one client in so many to train. 0: none yet."""
    answered: int
    """In that round: updates that counted."""
    rejected: int
    """In that round: clients whose answers did not count."""
    declined: int
    """In that round: clients that were drawn and said no."""
    programs: dict[str, int] = {}
    """Of those who answered, how many run each version; the most frequent ones."""
    labels: dict[str, int] = {}
    """So, too, by what their owners call the kind of device."""
    codecs: dict[str, int] = {}
    """So, too, by the codec of their answers."""


class CoordinatorPage(Page, frozen=True, kw_only=True):
    """Whether all is well, what the coordinator does now, and what comes next."""

    health: Health = "ok"
    """`trouble`: somebody should look into it. `waiting`: nothing is wrong, and nothing goes on."""
    health_why: str = ""
    """Why, in a sentence; and with `ok` how far it is, and whether the model still improves."""
    better: Better = "unknown"
    """Whether the model still improves, by what clients measured in the last rounds. `early`: in
    too few rounds to tell. `unknown`: in none so far."""
    better_why: str = ""
    """The same in a sentence, with the newest value."""
    as_of: str = ""
    """When this was said. It is said again every minute as long as the coordinator works, so that
    an older page is of one that was killed, or has lost its broker."""
    state: Doing
    """What it does: `collecting` answers, `averaging` them, or `waiting`."""
    says: str
    """What it does and what it waits for, in a sentence."""
    next_step: str = ""
    """What happens next, and when."""
    federation: str
    """The federation's name."""
    run: str
    """The folder of this run, among the coordinator's `runs`."""
    version: str = ""
    """Of fedmqtt, as the coordinator runs it."""
    epoch: int = 0
    """Of the coordinator: above all before it. Millions count how often the seat was taken, the
    rest tells apart programs that bid at once."""
    task: str
    """What is learned."""
    program: str
    """Name and version of the coordinator's program."""
    since: str
    """When this program began."""
    round: RoundId
    """The open or the next one."""
    rounds_wanted: int
    """0: runs until stopped."""
    clients_online: int
    """Connected now, as far as the broker tells. Where clients say nothing, 0: see `fleet`."""
    clients_known: int
    """Heard of since this program began, online or not. Where clients say nothing, 0."""
    fleet: QuietFleet | None = None
    """Where clients say nothing until they are drawn. None: each says that it is there."""
    late_updates: int
    """Answers that came when their round had closed."""
    late_held: int = 0
    """Those of them that wait to be taken up by a round."""
    at_work: int = 0
    """Where rounds are asynchronous: how many clients are, whatever model they began with."""
    unreadable_messages: int
    """That came and were no messages, or not signed as they should be."""
    skew: str = ""
    """Where a few clients give most of the answers: how few, and what to do about it."""
    keyholders: dict[ClientId, str] = {}
    """Where answers are masked: whether each is there, and has a key for a round."""
    keyholder_faults: list[str] = []
    """What was wrong with what keyholders said, and whose it was. Newest last."""
    unconfirmed: list[RoundId] = []
    """The last rounds whose sum was opened by what one keyholder alone said of some seeds: another
    that holds them was away, and might have told otherwise. Newest last."""
    workers: dict[ClientId, str] = {}
    """Programs that take in answers in the coordinator's place, as far as they are there: how many
    lanes each has, or why it gets none."""
    aggregation: str = ""
    """Who can read one device's answer, or a sum of answers."""
    privacy: str = ""
    """What is promised to each device, and what not, where noise is added."""
    refusals: list[str] = []
    """The last messages that did not count: who sent them, and why not. Newest last."""
    protocol: str
    """Which MQTT the coordinator speaks with its broker."""


class RoundPage(Page, frozen=True, kw_only=True):
    """The open round, or the last one that closed since the coordinator began. Before the first
    there is no such page."""

    run: str = ""
    """As clients know it: a new one has a round of this number too."""
    round: RoundId
    """Its number, from 1."""
    open: bool
    """Whether answers are awaited still."""
    opened: str
    """When it was."""
    closes: str
    """Its deadline: it closes then with what there is, and sooner when it is complete."""
    progress: float = 0.0
    """Answers so far as a share of `wanted`, 0 to 1. In a last evaluation, measurements."""
    wanted: int
    """Answers that complete the round; 0: it is a last evaluation."""
    quorum: int
    """Fewest answers that make a new model."""
    invited: list[ClientId]
    """To train. By sortition: as far as they have been heard of."""
    answered: list[ClientId]
    """Whose answers count."""
    dropped: int = 0
    """Invited and lost so far: gone, or declined. When closed, those who were too slow too."""
    away: list[ClientId]
    """Invited and gone, without an answer so far."""
    declined: dict[ClientId, str]
    """Who will not answer this round, and why."""
    rejected: dict[ClientId, str]
    """Whose answers do not count, and why."""
    evaluators: list[ClientId]
    """Invited to measure the model that the round begins with."""
    evaluated: list[ClientId]
    """Whose measurements have come."""
    surplus: list[ClientId] = []
    """When closed: invited, and still at work when the round was complete without them."""
    outcome: str = ""
    """When closed: averaged, kept or evaluated, and why it closed. STOPPED: it will go on. OPENING:
    it takes no more answers, and what comes of them is not known yet."""


class PacePage(Page, frozen=True, kw_only=True):
    """What one round goes by. Of the next round as soon as one has closed."""

    round: RoundId
    """Which one."""
    over_selection: float
    """Clients invited per answer wanted, where so many are willing."""
    over_selection_reason: str
    """Why so many."""
    deadline_s: float
    """Seconds that the round is open at most."""
    deadline_reason: str
    """Why so long."""


OTHERS = "others"
"""The group of those who have no label, and of groups too small to be told of by themselves."""


class GroupFigures(Struct, frozen=True, kw_only=True):
    """How a model did for the clients of one label: means weighted by samples."""

    clients: int
    """Who measured."""
    samples: int
    """On which they did."""
    metrics: dict[str, float]
    """Means, by the metric's name."""


class Spread(Struct, frozen=True, kw_only=True):
    """How one metric differs between clients, each counting once."""

    clients: int
    """Who told the metric."""
    mean: float
    """Of all clients."""
    lowest_tenth: float
    """The mean over the tenth of the clients that have the lowest values, three at least."""
    median: float
    """Of all clients."""
    highest_tenth: float
    """The mean over the tenth that have the highest."""


class Figures(Struct, frozen=True, kw_only=True):
    """How one model did on clients' own data: means weighted by samples."""

    clients: int
    """Who measured."""
    samples: int
    """On which they did."""
    metrics: dict[str, float]
    """With a confusion matrix, `accuracy` and `macro_f1` are among them."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Counts: one row per true class, one column per predicted. None: the task has no classes."""
    groups: dict[str, GroupFigures] = {}
    """By the clients' label, `OTHERS` last."""
    spread: dict[str, Spread] = {}
    """By the metric's name."""

    def without_details(self) -> "Figures":
        """The fleet's figures alone."""
        return structs.replace(self, confusion=None, groups={}, spread={})


class Privacy(Struct, frozen=True, kw_only=True):
    """What the models up to now can show of the device that took part most often."""

    epsilon: float
    """Spent so far, with that `delta`."""
    delta: float
    """The chance with which the bound may not hold."""
    epsilon_max: float
    """When a device has taken part as often as it may."""
    participations: int
    """Counted of the one that has most of them."""
    participations_max: int
    """How often one device may."""
    noise_multiplier: float
    """Standard deviation of the noise on a sum, as a multiple of `clip_norm`."""
    clip_norm: float
    """The largest change of one device, as an L2 norm. As it began, where it is adaptive."""
    epsilon_of_models: float | None = None
    """For whoever has nothing but the models, where `epsilon` holds against the coordinator too,
    together with as many keyholders as may leak. None: `epsilon` is of the models."""


class ModelPage(Page, frozen=True, kw_only=True):
    """The current model, its figures on clients' own data, and the privacy that it has cost."""

    digest: str
    """SHA-256 of its file."""
    size_bytes: int
    """Of its file."""
    delta_bytes: int = 0
    """What who holds the model before fetches instead; 0 where there is no such thing."""
    parameters: int
    """How many numbers it has."""
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
    """Those that counted."""
    bytes: int = 0
    """Of their numbers as they were encoded."""

    def plus(self, size_bytes: int) -> "CodecCount":
        return CodecCount(updates=self.updates + 1, bytes=self.bytes + size_bytes)


class RoundLine(Struct, frozen=True, kw_only=True):
    """One closed round, compact."""

    round: RoundId
    """Its number."""
    outcome: str
    """averaged: there is a new model; kept: there is none; evaluated: the model was measured."""
    reason: str
    """Why it closed, or why it made no model."""
    invited: int
    """To train."""
    answered: int
    """Of those, in time."""
    dropped: int
    """Lost: gone, too slow for the deadline, or declined."""
    surplus: int = 0
    """Still at work when the round was complete without them."""
    declined: int
    """Would not take part."""
    rejected: int
    """Whose answers did not count."""
    duration_s: float
    """From its opening to its end."""
    train_metrics: dict[str, float]
    """Means over the answers, as clients trained."""
    figures: Figures | None = None
    """Of the model the round started from."""
    codecs: dict[str, CodecCount] = {}
    """Of the updates that counted, by codec."""
    epsilon: float | None = None
    """Of all models up to this one; None where there is no noise."""


class HistoryPage(Page, frozen=True, kw_only=True):
    """The last 100 rounds, one line each."""

    rounds: list[RoundLine]
    """Oldest first."""


class ParticipationPage(Page, frozen=True, kw_only=True):
    """What became of each invitation of the last rounds. Before the first round of a run has closed
    there is no such page."""

    rounds: list[RoundId]
    """Oldest first."""
    clients: dict[ClientId, str]
    """A letter for each of the rounds: `a` answered, `l` answered late and counted in this round,
    `d` dropped, `n` declined, `r` rejected, `s` was at work when the round was complete without it,
    `q` in quarantine, `.` not invited."""
    clients_known: int
    """Who was in one of them. Where those are many, not all of them are listed."""


class Quarantined(Struct, frozen=True, kw_only=True):
    """Who is not invited and not heard for a while."""

    until: str
    """Empty: until it is lifted."""
    why: str
    """What it sent."""


class ClientsPage(Page, frozen=True, kw_only=True):
    """Who is there, who is not, and who cannot take part. Up to 1000 of each are named."""

    online: list[ClientId]
    """Connected now, as far as the broker tells."""
    away: list[ClientId]
    """Known, and not connected."""
    labels: dict[ClientId, str] = {}
    """What its owner calls the kind of device, of those that are listed and say it."""
    label_counts: dict[str, int] = {}
    """How many clients have each, online or not; the most frequent ones."""
    hindered: dict[ClientId, str]
    """Why a client cannot or will not take part: another task, its owner's conditions, trouble."""
    quarantined: dict[ClientId, Quarantined] = {}
    """Who is left out for what it sent."""
    refused: dict[ClientId, str] = {}
    """Others of whom something was refused lately for what it is: how often, and why."""


class ModelBytes(Struct, frozen=True, kw_only=True):
    """How many bytes of models and deltas went to the broker in one form."""

    files: int = 0
    """Begun to be published; after a lost connection once more."""
    bytes: int = 0
    """Payloads, once for all clients."""

    def plus(self, size_bytes: int, files: int) -> "ModelBytes":
        return ModelBytes(files=self.files + files, bytes=self.bytes + size_bytes)


class TrafficPage(Page, frozen=True, kw_only=True):
    """Bytes that crossed the coordinator's own connection: payloads and topics."""

    bytes_received: int
    """From clients, by the broker, since this program began."""
    bytes_published: int
    """Once for all clients, since this program began: the broker multiplies it."""
    updates_by_codec: dict[str, CodecCount] = {}
    """From clients, by the codec: of updates that counted, in the whole run."""
    models_by_codec: dict[str, ModelBytes] = {}
    """To clients since this program began: `full` is whole models, others are deltas' codecs."""


class OrderLine(Struct, frozen=True, kw_only=True):
    """One order."""

    at: str
    """When it came."""
    by: str
    """The operator's name."""
    order: str
    """As it was typed: pause, resume, stop, rollback with a round, invite with a client."""
    done: bool
    """Whether it is, or will be as `result` tells. It becomes false where it came to nothing."""
    result: str
    """What came of it, in a sentence."""


class OrdersPage(Page, frozen=True, kw_only=True):
    """What operators have ordered in this run, and what came of it."""

    paused_by: str = ""
    """Who paused the run. Empty: it is not paused."""
    paused_since: str = ""
    """Since when."""
    stopped_by: str = ""
    """Who has ended the run before its last round. Empty: nobody."""
    orders: list[OrderLine] = []
    """The last ones, newest last."""
    refused: int = 0
    """Messages to the topic of orders, since this program began, that were not obeyed: altered, not
    an operator's, recorded before, or no orders."""
    repeated: int = 0
    """Copies of orders that were obeyed already, and were not again."""


ClientState = Literal["online", "away", "quarantined", "revoked"]


class ClientPage(Page, frozen=True, kw_only=True):
    """One client, as the coordinator knows it."""

    client: ClientId
    """Its name."""
    state: ClientState
    """`away`: not connected. `quarantined`, `revoked`: left out, connected or not."""
    says: str
    """What it does now, or why it does not take part, in a sentence."""
    since: str
    """Since when it is online or away."""
    doing: str = ""
    """What it does now, as it tells itself: waiting, downloading, training, evaluating, describing
    or sending. Work of less than a second is not told. Empty: it is not there, or does not tell."""
    round: RoundId = RoundId(0)
    """For which round it does that; 0: for none."""
    progress: float = 0.0
    """How much of that is done, 0 to 1. Where answers are masked, in whole epochs."""
    epoch: int = 0
    """The one that it trains in, from 1."""
    epochs: int = 0
    """How many it will make in this round."""
    why_not: str = ""
    """What keeps it from training: its owner's conditions, another task, trouble, a quarantine."""
    last_seen: str
    """When it last said anything. Idle clients say nothing as long as they are connected."""
    rounds_invited: int
    """To train, in rounds that have closed."""
    rounds_answered: int
    """Of those, how many have its answer in them."""
    answered_last: RoundId = RoundId(0)
    """The newest of them; 0: none."""
    duration_s: float | None = None
    """From a round's opening to its answer: the median of the last ones. None: not known."""
    uplink_kbps: float | None = None
    """How wide its way to the broker is, in kilobits a second, as it has measured it with its own
    answers. None: not known."""
    devices: int = 0
    """Of a site: how many devices are there that it stands for."""
    label: str = ""
    """What its owner calls the kind of device."""
    program: str = ""
    """Name and version of its program."""
    as_of: str = ""
    """When this was said. What has changed since is not in it: docs/status.md tells how long that
    can take."""


PAGES: dict[str, type[Page]] = {
    "coordinator": CoordinatorPage,
    "round": RoundPage,
    "pace": PacePage,
    "model": ModelPage,
    "history": HistoryPage,
    "participation": ParticipationPage,
    "clients": ClientsPage,
    "traffic": TrafficPage,
    "orders": OrdersPage,
}


class PageError(ValueError):
    """Bytes that are not the page they should be."""


def encode(page: Page) -> bytes:
    return msgspec.json.encode(page)


def kind_of(name: str) -> type[Page] | None:
    """Of the page with this name; None where there is none."""
    return ClientPage if name.startswith(CLIENT_PAGES) else PAGES.get(name)


def decode(name: str, data: bytes) -> Page:
    """Raises PageError on an unknown page or other bytes."""
    kind = kind_of(name)
    if kind is None:
        raise PageError(f"no page {name!r}")
    try:
        return msgspec.json.decode(data, type=kind)
    except unreadable.MESSAGE as bad:
        raise PageError(f"page {name}: {bad}") from bad
