"""The machine by which a list is looked at before its sum is opened: who is unfit to be on it.

    begin ──▶ Ask(place) ──▶ Looked: fit, or clients whose seals do not open, say
                 │  all that are there have, or are late
                 ▼
              Settle: the list without those, if enough are left ──▶ `opening.py`
              GiveUp: too few would be left, or the deadline

What comes before it is opened may come as often as it likes, and what comes after may change the
list no more. Once a keyholder has told sums of a list, its difference to a shorter one that others
open is the sum of those that were left out: who knows the other seeds of one of these, as one
curious keyholder does, would read its answer. So nobody is asked to open a list while it may yet
be replaced, and a coordinator that keeps to that opens one list a round.

A keyholder that lies can have clients left out, as long as enough are left. Where too few would be,
the word of as few keyholders as need be does not count, as long as the others hold all seeds:
those open the longest list that they can.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TypeVar

from coordinator.masking import opening
from coordinator.masking.opening import NOBODY, Came, Left, LinkDown, LinkUp, Places, Refused, Woke
from fedmqtt.effects import Seconds, WakeAt
from fedmqtt.masking import seeds as seeds_of
from fedmqtt.messages import WhyUnfit
from fedmqtt.topics import ClientId

Clients = frozenset[ClientId]
Unfit = Mapping[ClientId, WhyUnfit]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Of one round."""

    opening: opening.Rules
    clients: Clients
    """That are on the list."""
    fewest: int
    """So many must be left on it."""

    def are_enough(self, places: Collection[int]) -> bool:
        """Whether these keyholders hold all seeds."""
        shape = self.opening.places, self.opening.tolerated
        return seeds_of.assign(*shape, [*places]) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    gives_up_at: Seconds
    there: Places
    asked_at: Mapping[int, Seconds] = field(default_factory=dict)
    late: Places = NOBODY
    """That were asked, and silent for longer than they may."""
    looked: Mapping[int, Unfit] = field(default_factory=dict)
    """Whom each found to be unfit, and why."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Whose reason is no client's fault."""
    deaf_since: Seconds | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    at: Seconds
    place: int
    unfit: Unfit


Event = Looked | Refused | Came | Left | LinkDown | LinkUp | Woke


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this keyholder to look at the whole list."""

    place: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Have the list opened, without the unfit."""

    unfit: Mapping[ClientId, Mapping[int, WhyUnfit]]
    """And who named each, and why."""
    slow: Places
    """That were silent."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


Effect = Ask | Settle | GiveUp | WakeAt


def begin(at: Seconds, there: Collection[int], rules: Rules) -> tuple[State, list[Effect]]:
    """Of keyholders' places, those that are `there` are asked at once."""
    state = State(
        gives_up_at=at + rules.opening.deadline_s,
        there=frozenset(there) & rules.opening.names.keys(),
    )
    return _advance(state, at, rules)


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what the service must do about it. Never raises on any event."""
    if state.is_over:
        return state, []
    state = _take_in(state, event, rules)
    return (state, []) if state.deaf_since is not None else _advance(state, event.at, rules)


def _take_in(state: State, event: Event, rules: Rules) -> State:
    match event:
        case Looked(_, place, unfit) if place in rules.opening.names:
            named = {one: why for one, why in unfit.items() if one in rules.clients}
            looked = {**state.looked, place: named}
            refused = _without(state.refused, place)
            there, late = state.there | {place}, state.late - {place}
            return replace(state, looked=looked, refused=refused, there=there, late=late)
        case Refused(_, place, reason) if place in rules.opening.names:
            looked = _without(state.looked, place)
            return replace(state, looked=looked, refused={**state.refused, place: reason})
        case Came(_, place) if place in rules.opening.names:
            # It may have been refused for what is mended, and what it was asked may be lost.
            return replace(
                _forget(state, {place}),
                there=state.there | {place},
                refused=_without(state.refused, place),
            )
        case Left(_, place):
            return replace(_forget(state, {place}), there=state.there - {place})
        case LinkDown(at) if state.deaf_since is None:
            return replace(state, deaf_since=at)
        case LinkUp(at) if state.deaf_since is not None:
            # What was said while there was no link may be lost, and nobody is late for that.
            later = state.gives_up_at + at - state.deaf_since
            return replace(_forget(state, state.there), gives_up_at=later, deaf_since=None)
        case _:
            return state


def _forget(state: State, places: Collection[int]) -> State:
    """That these were asked."""
    asked_at = {place: at for place, at in state.asked_at.items() if place not in places}
    return replace(state, asked_at=asked_at, late=state.late - frozenset(places))


def _without(by_place: Mapping[int, _T], place: int) -> dict[int, _T]:
    return {one: what for one, what in by_place.items() if one != place}


# What is to be done


def _advance(state: State, at: Seconds, rules: Rules) -> tuple[State, list[Effect]]:
    if at >= state.gives_up_at:
        return _give_up(
            state, f"too few keyholders looked at its list in time{_said(state, rules)}"
        )
    names = rules.opening.names.keys()
    if not rules.are_enough(names - state.refused.keys()):
        return _give_up(state, f"keyholders open nothing of its list{_said(state, rules)}")
    state, effects = _ask(state, at, rules)
    if not _silent(state) - state.late:
        if (chosen := _choose(state, rules)) is not None:
            return replace(state, is_over=True), [Settle(chosen, state.late)]
        if not names - state.looked.keys() - state.refused.keys():
            why = f"too few of its answers can be opened, {rules.fewest} are needed"
            return _give_up(state, why + _said(state, rules))
    return state, [*effects, WakeAt(_wake_at(state, rules))]


def _silent(state: State) -> Places:
    """Who is there, and has not said anything of the list."""
    return state.there - state.looked.keys() - state.refused.keys()


def _ask(state: State, at: Seconds, rules: Rules) -> tuple[State, list[Effect]]:
    late = {
        place
        for place in _silent(state) & state.asked_at.keys()
        if at >= state.asked_at[place] + rules.opening.timeout_s
    }
    due = sorted((_silent(state) - state.asked_at.keys()) | late)
    asked_at = {**state.asked_at, **dict.fromkeys(due, at)}
    return replace(state, asked_at=asked_at, late=state.late | late), [Ask(one) for one in due]


def _wake_at(state: State, rules: Rules) -> Seconds:
    late = [state.asked_at[place] + rules.opening.timeout_s for place in _silent(state)]
    return min([state.gives_up_at, *late])


def _choose(state: State, rules: Rules) -> dict[ClientId, dict[int, WhyUnfit]] | None:
    """Whom to leave out, and who named them; None where too few would be left, or open it."""
    naming = sorted(place for place, unfit in state.looked.items() if unfit)
    for count in range(len(naming) + 1):
        lists: list[Clients] = []
        for disbelieved in combinations(naming, count):
            believed = state.looked.keys() - set(disbelieved)
            unfit = frozenset().union(*(state.looked[place] for place in believed))
            if rules.are_enough(believed) and len(rules.clients - unfit) >= rules.fewest:
                lists.append(unfit)
        if lists:
            # The longest one; of two the same in whatever order they are found.
            unfit = min(lists, key=lambda one: (len(one), sorted(one)))
            return {client: _naming(state, client) for client in sorted(unfit)}
    return None


def _naming(state: State, client: ClientId) -> dict[int, WhyUnfit]:
    looked = sorted(state.looked.items())
    return {place: unfit[client] for place, unfit in looked if client in unfit}


# Why nothing came of it


def _give_up(state: State, reason: str) -> tuple[State, list[Effect]]:
    return replace(state, is_over=True), [GiveUp(reason)]


def _said(state: State, rules: Rules) -> str:
    names = rules.opening.names
    said = [f"{names[one]} opens no sum: {why}" for one, why in sorted(state.refused.items())]
    said += [
        f"{names[one]} finds {len(unfit)} of {len(rules.clients)} clients unfit"
        for one, unfit in sorted(state.looked.items())
        if unfit
    ]
    unheard = names.keys() - state.looked.keys() - state.refused.keys()
    if unheard:
        said.append(f"nothing was heard of {rules.opening.named(unheard)}")
    return "".join(f"{'; ' if at else ': '}{one}" for at, one in enumerate(said))
