"""What happened between two versions of a status page, in words for a person."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedmqtt.status_pages import (
    LISTED_CLIENTS,
    OPENING,
    STOPPED,
    ClientsPage,
    CoordinatorPage,
    HistoryPage,
    ModelPage,
    OrderLine,
    OrdersPage,
    RoundLine,
    RoundPage,
)
from fedmqtt.topics import ClientId

Kind = Literal[
    "says",
    "opened",
    "answered",
    "declined",
    "rejected",
    "shut out",
    "let in",
    "came",
    "left",
    "closed",
    "figures",
    "ordered",
    "not done",
]

_NAMED = 3
"""So many clients are named one by one; of more, the first few and how many."""

_WORTH_TELLING = ("starting", "waiting", "finished", "stopped")


@dataclass(frozen=True, slots=True)
class Event:
    kind: Kind
    what: str
    clients: tuple[str, ...] = ()
    """Who did it, if clients did."""
    at: str = ""
    """When we learned of it, as the reader's clock shows it."""

    @property
    def text(self) -> str:
        return f"{_names(self.clients)} {self.what}" if self.clients else self.what


def merged(events: Iterable[Event]) -> list[Event]:
    """What clients did one after the other is told once, with the time of the last."""
    short: list[Event] = []
    for event in events:
        last = short[-1] if short else None
        if last and last.clients and (last.kind, last.what) == (event.kind, event.what):
            event = replace(event, clients=last.clients + event.clients)
            short.pop()
        short.append(event)
    return short


def of_coordinator(old: CoordinatorPage | None, new: CoordinatorPage) -> list[Event]:
    events = []
    if old is not None and old.run != new.run:
        events.append(Event("says", f"run {new.run} began"))
    # Between two rounds it waits for a moment, and the rounds tell their own story.
    between = old is not None and old.state == "averaging" and new.state == "waiting"
    changed = old is None or (old.state, old.run) != (new.state, new.run)
    if changed and new.state in _WORTH_TELLING and not between:
        events.append(Event("says", new.says))
    if old is not None and old.run == new.run:
        known, faults = old.keyholders, old.keyholder_faults
        states = {name: told for name, told in new.keyholders.items() if known.get(name) != told}
        events += [Event("says", f"keyholder {name}: {told}") for name, told in states.items()]
        events += [Event("says", fault) for fault in new.keyholder_faults if fault not in faults]
        events += _of_workers(old.workers, new.workers)
    return events


def _of_workers(old: Mapping[ClientId, str], new: Mapping[ClientId, str]) -> list[Event]:
    told = {name: what for name, what in new.items() if old.get(name) != what}
    told |= {name: "is gone" for name in old.keys() - new.keys()}
    return [Event("says", f"worker {name} {told[name]}") for name in sorted(told)]


def of_round(old: RoundPage | None, new: RoundPage, history: HistoryPage | None) -> list[Event]:
    """`history` knows of rounds whose end has been told already."""
    if old is None and not new.open:
        # Who comes when a round is over is told how it ended, not how it went.
        return _end(new, history)
    events = []
    if old is None or (old.run, old.round) != (new.run, new.round):
        events.append(_opened(new))
        old = None
    elif old.opened != new.opened and new.open:
        # Its time was set anew: the coordinator was gone, and is back.
        events.append(Event("opened", f"round {new.round} goes on"))
    answered = _added(new.answered, old.answered if old else ())
    if answered:
        events.append(Event("answered", "answered", answered))
    events += _with_reasons("declined", "declined", old.declined if old else {}, new.declined)
    events += _with_reasons("rejected", "rejected", old.rejected if old else {}, new.rejected)
    is_told = old is not None and (_is_over(old) or (not old.open and old.outcome == new.outcome))
    return events if is_told or new.open else events + _end(new, history)


def of_history(old: HistoryPage | None, new: HistoryPage, page: RoundPage | None) -> list[Event]:
    """Rounds that ended while no page of them was seen: pages are replaced, lines are not."""
    known = [] if old is None else old.rounds
    lines = [line for line in new.rounds if line not in known]
    if old is None:
        lines = lines[-1:]
    # The round page may have told it first.
    told = page.round if page is not None and _is_over(page) else None
    return [Event("closed", _closed(line)) for line in lines if line.round != told]


def of_model(old: ModelPage | None, new: ModelPage) -> list[Event]:
    figures = new.figures
    if figures is None or (old is not None and old.figures_round == new.figures_round):
        return []
    named = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    told = [f"{named[key]} {figures.metrics[key]:.3f}" for key in named if key in figures.metrics]
    if not told:
        told = [f"{key} {value:.4g}" for key, value in sorted(figures.metrics.items())[:2]]
    text = f"{', '.join(told)} on {figures.samples:,} samples of {count(figures.clients, 'client')}"
    return [Event("figures", text)]


def of_clients(old: ClientsPage | None, new: ClientsPage) -> list[Event]:
    if old is None:
        return [Event("came", f"{count(len(new.online), 'client')} online")] if new.online else []
    events = []
    # In a list that was cut, a name may come and go because of another one.
    if max(len(old.online), len(new.online)) < LISTED_CLIENTS:
        came, left = _added(new.online, old.online), _added(old.online, new.online)
        if came:
            events.append(Event("came", "came online", came))
        if left:
            events.append(Event("left", "left", left))
    events += _with_reasons("declined", "cannot take part", old.hindered, new.hindered)
    return events + _of_quarantine(old, new)


def _of_quarantine(old: ClientsPage, new: ClientsPage) -> list[Event]:
    before, after = (
        {client: one.why for client, one in page.quarantined.items()} for page in (old, new)
    )
    events = _with_reasons("rejected", "refused", old.refused, new.refused)
    events += _with_reasons("shut out", "in quarantine", before, after)
    # In a list that was cut, a name may go because of another one.
    if len(after) < LISTED_CLIENTS and (out := _added(before, after)):
        events.append(Event("let in", "out of quarantine", out))
    return events


def of_orders(old: OrdersPage | None, new: OrdersPage) -> list[Event]:
    """What was told as done is told again where it has come to nothing."""
    lines = new.orders[-1:] if old is None else [o for o in new.orders if o not in old.orders]
    return [Event("ordered" if line.done else "not done", _ordered(line)) for line in lines]


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _ordered(line: OrderLine) -> str:
    # Who comes late learns of it late. All times that a coordinator tells are in UTC.
    when = line.at.replace("T", " ").replace("+00:00", " UTC")
    what = line.order if line.done else f"{line.order}, and it is not done"
    return f"{line.by} ordered {what}: {line.result} ({when})"


def _is_over(page: RoundPage) -> bool:
    return not page.open and page.outcome not in (STOPPED, OPENING)


def _opened(page: RoundPage) -> Event:
    if page.wanted:
        # By sortition of a quiet federation nobody has been heard of yet.
        invited = f"{len(page.invited)} invited, " if page.invited else ""
        text = f"{invited}{page.wanted} wanted"
    else:
        text = f"{count(len(page.evaluators), 'client')} to evaluate"
    return Event("opened", f"round {page.round} opened: {text}")


def _closed(line: RoundLine) -> str:
    why = f": {line.reason}" if line.reason else ""
    share = f" ({line.answered} of {line.invited})" if line.invited else ""
    return f"round {line.round} closed, {line.outcome}{why}{share}"


def _end(page: RoundPage, history: HistoryPage | None) -> list[Event]:
    if history is not None and any(line.round == page.round for line in history.rounds):
        return []
    share = f" ({len(page.answered)} of {len(page.invited)})" if page.invited else ""
    if page.outcome == OPENING:
        return [Event("closed", f"round {page.round} takes no more answers{share}: {OPENING}")]
    if page.outcome == STOPPED:
        return [Event("closed", f"round {page.round} stopped with its coordinator{share}")]
    return [Event("closed", f"round {page.round} closed, {page.outcome}{share}")]


def _with_reasons(
    kind: Kind, word: str, old: Mapping[ClientId, str], new: Mapping[ClientId, str]
) -> list[Event]:
    clients_by_reason: dict[str, list[str]] = {}
    for client, reason in new.items():
        if old.get(client) != reason:
            clients_by_reason.setdefault(reason, []).append(client)
    return [
        Event(kind, f"{word}: {reason}", tuple(clients))
        for reason, clients in clients_by_reason.items()
    ]


def _added(new: Iterable[str], old: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(new) - set(old)))


def _names(clients: Sequence[str]) -> str:
    named = ", ".join(clients[:_NAMED])
    return named if len(clients) <= _NAMED else f"{named} and {len(clients) - _NAMED} more"
