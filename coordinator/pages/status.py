"""What the coordinator tells people: its state as pages, sent when they have changed.

Pages are built from the machine's state when somebody could look again, not at every message: at
most one of each per `interval_s`, however many clients answer.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec import structs

from coordinator import quiet_fleet, rounds
from coordinator.intake import revoked_devices
from coordinator.intake.quarantine import Term
from coordinator.orders import Control
from coordinator.pages import health
from coordinator.pages.health import Signs
from coordinator.pages.took_part import Participation, halved
from coordinator.quiet_fleet import Answerers
from coordinator.roster import Roster
from fedmqtt import improvement, status_pages
from fedmqtt.effects import Seconds
from fedmqtt.logs import printable
from fedmqtt.status_pages import (
    HISTORY_ROUNDS,
    LISTED_CLIENTS,
    LISTED_LABELS,
    OPENING,
    ORDERS,
    REFUSALS,
    STOPPED,
    ClientsPage,
    CodecCount,
    CoordinatorPage,
    Doing,
    Figures,
    HistoryPage,
    ModelBytes,
    ModelPage,
    OrderLine,
    OrdersPage,
    PacePage,
    Page,
    ParticipationPage,
    Quarantined,
    RoundLine,
    RoundPage,
    TrafficPage,
)
from fedmqtt.topics import ClientId, RoundId, StatusPage

INTERVAL_S = 0.5
CLIENTS_PER_S = 500
"""Of more clients pages come more seldom: to build those of a thousand takes half a millisecond."""

AS_OF_S = 60.0
"""What has not changed is said again after so long, with the minute in it."""

PAGE_BYTES_MAX = 256 * 1024

_NOTHING = b""
"""Published, it takes away what a broker keeps."""


class AllClients:
    """The page of one roster's clients, made anew when something is known of one of them that was
    not: for a thousand that takes a millisecond."""

    def __init__(self) -> None:
        self._seen: object = None
        self._page: ClientsPage | None = None

    def page(
        self, roster: Roster, quarantined: Mapping[ClientId, Term], struck: Mapping[ClientId, str]
    ) -> ClientsPage:
        seen = (roster.changes, dict(quarantined), dict(struck))
        if self._page is None or seen != self._seen:
            self._seen, self._page = seen, _clients(roster, quarantined, struck)
        return self._page


@dataclass(slots=True)
class Facts:
    """What the pages say beyond the machine's state. The service keeps it up to date."""

    federation: str
    run: str
    program: str
    started: datetime
    version: str = ""
    progressed_at: Seconds = 0.0
    """When a round opened or closed, or an answer counted, last."""
    protocol: str = ""
    unreadable: int = 0
    skew: str = ""
    aggregation: str = ""
    privacy: str = ""
    refusals: deque[str] = field(default_factory=lambda: deque(maxlen=REFUSALS))
    model: ModelPage | None = None
    lines: deque[RoundLine] = field(default_factory=lambda: deque(maxlen=HISTORY_ROUNDS))
    history: HistoryPage = field(default_factory=lambda: HistoryPage(rounds=[]))
    """Of those lines: made once a round, as pages are asked for twice a second."""
    participation: Participation = field(default_factory=Participation)
    answerers: Answerers = field(default_factory=Answerers)
    """In a quiet federation: what those are who answered in the open round, or the last."""
    keyholders: dict[ClientId, str] = field(default_factory=dict)
    """Where answers are masked: what each is, ready or away."""
    keyholder_faults: deque[str] = field(default_factory=lambda: deque(maxlen=REFUSALS))
    unconfirmed: deque[RoundId] = field(default_factory=lambda: deque(maxlen=REFUSALS))
    """Rounds whose sum was opened by a keyholder's word alone."""
    workers: Mapping[ClientId, str] = field(default_factory=dict)
    """That are there: what each does."""
    waits_for: str = ""
    """Which keyholders the next round waits for, in a sentence."""
    last_round: RoundPage | None = None
    """The round that closed last, while none is open."""
    quarantined: Mapping[ClientId, Term] = field(default_factory=dict)
    struck: Mapping[ClientId, str] = field(default_factory=dict)
    clients: AllClients = field(default_factory=AllClients)
    stopped: bool = False
    orders_refused: int = 0
    orders_repeated: int = 0
    bytes_received: int = 0
    bytes_published: int = 0
    updates_by_codec: dict[str, CodecCount] = field(default_factory=dict)
    models_by_codec: dict[str, ModelBytes] = field(default_factory=dict)

    def closed(self, line: RoundLine) -> None:
        """A round of the run has closed, now or before this program began."""
        self.lines.append(line)
        self.history = HistoryPage(rounds=list(self.lines))
        for codec, more in line.codecs.items():
            had = self.updates_by_codec.get(codec, CodecCount())
            self.updates_by_codec[codec] = CodecCount(
                updates=had.updates + more.updates, bytes=had.bytes + more.bytes
            )

    def published_model(self, codec: str, size_bytes: int, *, is_first: bool) -> None:
        """A piece of a model or delta has gone out."""
        had = self.models_by_codec.get(codec, ModelBytes())
        self.models_by_codec[codec] = had.plus(size_bytes, files=int(is_first))


class Status:
    """Remembers what was said, and says what is new."""

    def __init__(self, publish: Callable[[StatusPage, bytes], None]) -> None:
        self._publish = publish
        self._looked_at: dict[str, Page] = {}
        self._said: dict[str, bytes] = {}
        self.bytes_max = PAGE_BYTES_MAX
        """Of one page. The broker may admit less: a larger packet would end the connection."""

    def forget(self) -> None:
        """Say everything again: the broker may have lost what it kept."""
        self._looked_at.clear()
        self._said.clear()

    def say(self, pages: Mapping[str, Page]) -> None:
        """These, and no others: what an earlier run left of a page that is not among them is taken
        away, or it would stand there as this one's."""
        for name in status_pages.PAGES:
            if name not in pages and self._said.get(name) != _NOTHING:
                self._said[name] = _NOTHING
                self._looked_at.pop(name, None)
                self._publish(StatusPage(name), _NOTHING)
        for name, page in pages.items():
            # The same one, and not only alike: some have parts that change within them.
            if self._looked_at.get(name) is page:
                continue
            self._looked_at[name] = page
            text = _encode_within(page, self.bytes_max)
            if text is not None and self._said.get(name) != text:
                self._said[name] = text
                self._publish(StatusPage(name), text)


def interval_s(roster: Roster) -> Seconds:
    """How long pages that have changed wait until they are said."""
    return max(INTERVAL_S, len(roster.clients) / CLIENTS_PER_S)


def pages(
    state: rounds.State, roster: Roster, rules: rounds.Rules, facts: Facts, at: Seconds
) -> dict[str, Page]:
    """All pages there is something to say on."""
    clients = facts.clients.page(roster, facts.quarantined, facts.struck)
    built: dict[str, Page] = {
        "coordinator": _coordinator(state, roster, rules, facts, clients, at),
        "pace": _pace(state, rules),
        "history": facts.history,
        "traffic": TrafficPage(
            bytes_received=facts.bytes_received,
            bytes_published=facts.bytes_published,
            updates_by_codec=facts.updates_by_codec,
            models_by_codec=facts.models_by_codec,
        ),
        "orders": _orders(state.past.control, facts),
    }
    if not rules.is_quiet:
        built["clients"] = clients
    if isinstance(state, rounds.Collecting):
        built["round"] = open_round(state, rules, at)
        if facts.stopped:
            built["round"] = structs.replace(built["round"], open=False, outcome=STOPPED)
    elif facts.last_round is not None:
        built["round"] = facts.last_round
    if not rules.is_quiet and (took_part := facts.participation.page()) is not None:
        built["participation"] = took_part
    if facts.model is not None:
        built["model"] = facts.model
    return built


def _orders(control: Control, facts: Facts) -> OrdersPage:
    return OrdersPage(
        paused_by=control.paused_by,
        paused_since=control.paused_at,
        stopped_by=control.stopped_by,
        orders=[
            OrderLine(at=one.at, by=one.operator, order=one.said, done=one.done, result=one.result)
            for one in control.obeyed[-ORDERS:]
        ],
        refused=facts.orders_refused,
        repeated=facts.orders_repeated,
    )


def open_round(state: rounds.Collecting, rules: rounds.Rules, at: Seconds) -> RoundPage:
    away = (state.outstanding | state.evaluations_outstanding) & state.away.keys()
    wanted = _wanted(state, rules)
    dropped = state.train & (away | state.declined.keys())
    done = (
        _share(len(state.evaluated), _measuring(state, rules))
        if state.is_last_evaluation
        else _share(len(state.answered), wanted)
    )
    return RoundPage(
        run=rules.run,
        round=state.round,
        open=True,
        opened=_clock_time(state.opened_at, at),
        closes=_clock_time(state.closes_at, at),
        progress=done,
        wanted=wanted,
        quorum=rules.quorum,
        invited=_listed_once(state.train),
        answered=_listed(state.answered),
        dropped=len(dropped),
        away=_listed(away),
        declined=_explained(state.declined),
        rejected=_explained(state.rejected),
        evaluators=_listed_once(state.evaluate),
        evaluated=_listed(state.evaluated),
    )


def _wanted(state: rounds.Collecting, rules: rounds.Rules) -> int:
    """Answers that complete the round; 0: it is a last evaluation. In a quiet federation it may yet
    be that more come than have been heard of."""
    if state.is_last_evaluation:
        return 0
    if rules.is_asynchronous or state.is_quiet:
        return rules.cohort
    return min(rules.cohort, len(state.train))


def _measuring(state: rounds.Collecting, rules: rounds.Rules) -> int:
    """Of how many clients a last evaluation is."""
    return rules.evaluators if state.is_quiet else len(state.evaluate)


def closed_round(page: RoundPage, close: rounds.Close, *, is_sealed: bool = False) -> RoundPage:
    """The page of a round that was open a moment ago. `is_sealed`: the sum of its answers is not
    open yet, and may never be."""
    return structs.replace(
        page,
        open=False,
        progress=_share(len(close.answered), page.wanted) if page.wanted else page.progress,
        answered=_listed(close.answered),
        dropped=len(close.dropped),
        # What closed the round may have come from one of these.
        away=[c for c in page.away if c not in close.answered and c not in close.evaluated],
        evaluated=_listed(close.evaluated),
        declined=_explained(close.declined),
        rejected=_explained(close.rejected),
        surplus=_listed(close.surplus),
        outcome=OPENING if is_sealed else f"{close.outcome}: {close.reason}",
    )


def _share(count: int, whole: int) -> float:
    return min(1.0, count / whole) if whole else 0.0


def _coordinator(
    state: rounds.State,
    roster: Roster,
    rules: rounds.Rules,
    facts: Facts,
    clients: ClientsPage,
    at: Seconds,
) -> CoordinatorPage:
    doing, says = _doing(state, roster, rules)
    next_step = _next_step(state, roster, rules, at)
    if facts.waits_for and doing in ("waiting", "averaging"):
        says = facts.waits_for
        what = f"{_named(state, rules)} opens" if doing == "waiting" else "that sum is opened"
        next_step = f"{what} when these keyholders are there"
    if facts.stopped:
        doing, says = "stopped", f"stopped; starting it again goes on with {_named(state, rules)}"
        next_step = "nothing until somebody starts it again"
    if doing == "waiting" and facts.quarantined:
        says += f"; {len(facts.quarantined)} in quarantine"
    trend = improvement.trend(facts.lines)
    fleet = quiet_fleet.page(state, rules, facts.answerers)
    # Nobody waits for one whose account was ended: to call it away would not let go of it for days.
    revoked = [c for c, why in clients.hindered.items() if why == revoked_devices.WHY]
    told = health.verdict(
        Signs(
            doing=doing,
            says=says,
            lines=facts.lines,
            trend=trend,
            # Only the centre knows when it wants another.
            still_s=0.0 if _waits_to_be_led(state, rules) else at - facts.progressed_at,
            deadline_s=state.past.pace.deadline_s,
            online=roster.online_count,
            known=len(roster.clients),
            fleet=quiet_fleet.sentence(fleet) if fleet is not None else "",
            away=[client for client in clients.away if client not in revoked],
            revoked=revoked,
            quarantined=tuple(clients.quarantined),
            keyholders_missing=facts.waits_for,
            paused=_is_paused(state),
        )
    )
    return CoordinatorPage(
        health=told.health,
        health_why=told.why,
        better=trend.better,
        better_why=trend.why,
        as_of=_minute(),
        state=doing,
        says=says,
        next_step=next_step,
        federation=facts.federation,
        run=facts.run,
        version=facts.version,
        epoch=rules.epoch,
        task=rules.task,
        program=facts.program,
        since=_iso(facts.started),
        round=_last_round(state, roster, rules),
        rounds_wanted=rules.rounds,
        clients_online=roster.online_count,
        clients_known=len(roster.clients),
        fleet=fleet,
        late_updates=state.past.late,
        late_held=len(state.past.held),
        at_work=len(state.past.at_work),
        unreadable_messages=facts.unreadable,
        skew=facts.skew,
        keyholders=facts.keyholders,
        keyholder_faults=[printable(one)[:500] for one in facts.keyholder_faults],
        unconfirmed=list(facts.unconfirmed),
        workers={name: printable(one)[:200] for name, one in facts.workers.items()},
        aggregation=facts.aggregation,
        privacy=facts.privacy,
        refusals=[printable(one)[:200] for one in facts.refusals],
        protocol=facts.protocol,
    )


def _doing(state: rounds.State, roster: Roster, rules: rounds.Rules) -> tuple[Doing, str]:
    match state:
        case rounds.Waiting(model=None):
            return "starting", "preparing the first model"
        case rounds.Waiting(past=past) if _is_paused(state):
            control = past.control
            return "waiting", f"paused by {control.paused_by} since {control.paused_at}"
        case rounds.Waiting():
            willing, needed = roster.willing_count(rules.purpose), rules.clients_min
            if willing < needed and not rules.is_quiet:
                what = " to describe their data" if rules.purpose == "describe" else ""
                resting = roster.resting_count
                later = f", {resting} to be asked again later" if resting else ""
                return "waiting", (
                    f"waiting for clients: {willing} willing{what}{later}, {needed} needed"
                )
            at_work = len(state.past.at_work)
            if at_work and at_work >= min(willing, rules.concurrency):
                return "waiting", f"waiting for one of {at_work} at work, or for other clients"
            if _waits_to_be_led(state, rules):
                return "waiting", "waiting for the centre to ask for a round"
            return "waiting", "pausing before the next round"
        case rounds.Collecting() if state.is_last_evaluation:
            return "collecting", (
                f"last evaluation: {len(state.evaluated)} of {_measuring(state, rules)} clients"
            )
        case rounds.Collecting() if rules.is_asynchronous:
            count, late = len(state.answered), len(state.past.held)
            return "collecting", (
                f"round {state.round}: {count + late} of {rules.cohort} answers, {late} of them"
                f" to older rounds; {len(state.past.at_work)} at work"
            )
        case rounds.Collecting():
            said = f"round {state.round}: {len(state.answered)} of {_wanted(state, rules)} answers"
            if state.is_quiet:
                return "collecting", said
            return "collecting", f"{said} from {len(state.train)} invited"
        case rounds.Averaging(goes_back_to=number) if number is not None:
            return "averaging", f"going back to the model of round {number}"
        case rounds.Averaging() if rules.masked:
            return "averaging", "having the sum of the answers opened by keyholders"
        case rounds.Averaging():
            return "averaging", "making the next model"
        case rounds.Finished() if rounds.is_used_up(state, rules, roster):
            return "finished", "the privacy budget is used up"
        case rounds.Finished(past=past) if past.control.stopped_by:
            return "finished", f"ended by an order of {past.control.stopped_by}"
        case rounds.Finished():
            return "finished", "all rounds are done"


def _next_step(state: rounds.State, roster: Roster, rules: rounds.Rules, at: Seconds) -> str:
    match state:
        case rounds.Waiting(model=None):
            return f"round {state.round} opens when the first model is there"
        case rounds.Waiting() if _is_paused(state):
            return f"{_named(state, rules)} opens after `fedmqtt resume`"
        case rounds.Waiting():
            named, lacking = (
                _named(state, rules),
                rules.clients_min - roster.willing_count(rules.purpose),
            )
            if lacking > 0 and not rules.is_quiet:
                more = "client is" if lacking == 1 else "clients are"
                rest_ends_at = roster.rest_ends_at()
                again = (
                    ""
                    if rest_ends_at is None
                    else f"; who declined or was silent is asked again at {_hour(rest_ends_at, at)}"
                )
                return f"{named} opens when {lacking} more {more} willing{again}"
            if state.opens_from > at:
                return f"{named} opens at {_hour(state.opens_from, at)}"
            if _waits_to_be_led(state, rules):
                return f"{named} opens when the centre asks for it"
            return f"{named} opens as soon as enough clients are free"
        case rounds.Collecting() if state.is_last_evaluation:
            ends = _hour(state.closes_at, at)
            return f"the run ends when all have measured, at {ends} at the latest"
        case rounds.Collecting():
            lacking = max(0, _wanted(state, rules) - len(state.answered))
            more = "1 more answer" if lacking == 1 else f"{lacking} more answers"
            ends, control = _hour(state.closes_at, at), state.past.control
            closes = f"round {state.round} closes with {more}, at {ends} at the latest"
            if control.stopped_by:
                return f"{closes}; then the run ends, as {control.stopped_by} has ordered"
            if control.paused_by:
                return f"{closes}; then nothing opens until `fedmqtt resume`"
            return closes
        case rounds.Averaging():
            return "the next model, and then the next round"
        case rounds.Finished():
            return "nothing: this run is over"


def _pace(state: rounds.State, rules: rounds.Rules) -> PacePage:
    pace = state.past.pace
    return PacePage(
        round=_round(state, rules),
        over_selection=pace.over_selection,
        over_selection_reason=pace.over_selection_reason,
        deadline_s=pace.deadline_s,
        deadline_reason=pace.deadline_reason,
    )


def _round(state: rounds.State, rules: rounds.Rules) -> RoundId:
    return RoundId(rules.rounds) if isinstance(state, rounds.Finished) else state.round


def _last_round(state: rounds.State, roster: Roster, rules: rounds.Rules) -> RoundId:
    if isinstance(state, rounds.Finished) and (
        state.past.control.stopped_by or rounds.is_used_up(state, rules, roster)
    ):
        return rounds.trained_last(state)
    return _round(state, rules)


def _named(state: rounds.State, rules: rounds.Rules) -> str:
    number = _round(state, rules)
    is_ending = state.past.control.stopped_by and not isinstance(state, rounds.Collecting)
    if is_ending or 0 < rules.rounds < number:
        return "the last evaluation"
    return f"round {number}"


def _waits_to_be_led(state: rounds.State, rules: rounds.Rules) -> bool:
    """At a site: whether the next round is one that the centre is yet to ask for."""
    return rules.is_led and isinstance(state, rounds.Waiting) and state.lead is None


def _is_paused(state: rounds.State) -> bool:
    """Whether a round would open, if an operator had not paused the run."""
    control = state.past.control
    waits = isinstance(state, rounds.Waiting) and state.model is not None
    return waits and bool(control.paused_by) and not control.stopped_by


def _clients(
    roster: Roster, quarantined: Mapping[ClientId, Term], struck: Mapping[ClientId, str]
) -> ClientsPage:
    online: list[ClientId] = []
    away: list[ClientId] = []
    hindered: dict[ClientId, str] = {}
    labels: dict[ClientId, str] = {}
    for client in sorted(roster.clients):
        entry = roster.clients[client]
        (online if entry.online else away).append(client)
        if entry.presence.label:
            labels[client] = entry.presence.label
        reason = entry.hindrance or (entry.presence.note if entry.online else "")
        if reason and len(hindered) < LISTED_CLIENTS and client not in quarantined:
            hindered[client] = reason
    listed = online[:LISTED_CLIENTS], away[:LISTED_CLIENTS]
    counts = Counter(labels.values())
    frequent = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ClientsPage(
        online=listed[0],
        away=listed[1],
        labels={client: labels[client] for client in chain(*listed) if client in labels},
        label_counts=dict(frequent[:LISTED_LABELS]),
        hindered=hindered,
        quarantined={client: _quarantined(quarantined[client]) for client in _listed(quarantined)},
        refused=_explained(struck),
    )


def _quarantined(term: Term) -> Quarantined:
    ends = "" if term.until is None else _iso(datetime.fromtimestamp(term.until, UTC))
    return Quarantined(until=ends, why=printable(term.why))


def _listed(clients: Collection[ClientId]) -> list[ClientId]:
    return sorted(clients)[:LISTED_CLIENTS]


@lru_cache(4)
def _listed_once(clients: frozenset[ClientId]) -> list[ClientId]:
    """Of those who stay the same while a round is open."""
    return _listed(clients)


def _explained(reasons: Mapping[ClientId, str]) -> dict[ClientId, str]:
    return {client: reasons[client] for client in _listed(reasons)}


def _encode_within(page: Page, bytes_max: int) -> bytes | None:
    """The page, shortened until it fits; None for one that cannot be."""
    text = status_pages.encode(page)
    while len(text) > bytes_max:
        shorter = _halved(page)
        if shorter == page:
            return None
        page, text = shorter, status_pages.encode(shorter)
    return text


def _halved(page: Page) -> Page:
    match page:
        case HistoryPage(rounds=lines):
            # The newest are the ones that people look at.
            return HistoryPage(rounds=lines[-(len(lines) // 2) :] if len(lines) > 1 else [])
        case ModelPage(figures=Figures() as figures):
            without = structs.replace(figures, confusion=None)
            if not figures.confusion:
                without = figures.without_details()
            return structs.replace(page, figures=without if without != figures else None)
        case ParticipationPage():
            return halved(page)
        case RoundPage() | ClientsPage():
            fields = structs.asdict(page).items()
            return structs.replace(page, **{name: _first_half(value) for name, value in fields})
        case _:
            return page


def _first_half(value: Any) -> Any:
    match value:
        case list():
            return value[: len(value) // 2]
        case dict():
            return dict(list(value.items())[: len(value) // 2])
        case _:
            return value


def _clock_time(moment: Seconds, now: Seconds) -> str:
    # For people only. The machine's clock counts from an arbitrary start.
    return _iso(datetime.now(UTC) + timedelta(seconds=moment - now))


def _hour(moment: Seconds, now: Seconds) -> str:
    """For a sentence."""
    return f"{datetime.now(UTC) + timedelta(seconds=moment - now):%H:%M:%S} UTC"


def _minute() -> str:
    return datetime.now(UTC).isoformat(timespec="minutes")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
