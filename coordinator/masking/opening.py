"""The machine by which the sum of a masked round is opened: which keyholder is asked for what.

`step` reads no clock and touches no vector; the service sends what is asked for, keeps the sums of
masks that come, and tries what they make of the sum.

    begin ──▶ Ask(place, seeds) ──▶ Told: sums of some seeds' masks, digests of the others it holds
                 │  silent, or refuses: another that holds the seed is asked
                 ▼
              a sum of masks of each seed ──▶ Try ──▶ Tried: is it one that answers can add up to?
                 │ yes: Take                             │ no: with those of other keyholders
                 └──────────── nobody has others, or the deadline: GiveUp ◀──┘

Each seed is held by several keyholders, and digests show where they do not say the same. Then the
fewest that can have lied, `tolerated` at most, are left out (`_suspects`), where it can be told who
they are: of three that hold a seed, the one that differs; of two, the one that makes the sum an
impossible one.

A keyholder that is away, or has not answered in time, is passed over and not forgotten: what it
says later counts, and when it comes back it is asked again. One that has told of its sums and owes
one that nobody else can send is asked for it again after each timeout: a receipt for what it said
before may have crossed the question, and then it takes that for answered.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

from fedmqtt.effects import Seconds, WakeAt
from fedmqtt.masking import seeds as seeds_of
from fedmqtt.topics import ClientId

Places = frozenset[int]
Seeds = frozenset[int]
Sums = tuple[bytes, ...]
"""For each seed, in order, the digest of the sum of its masks."""

NOBODY: Places = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Of one round."""

    places: int
    tolerated: int
    names: Mapping[int, ClientId]
    """The keyholders of the offer, by place."""
    timeout_s: Seconds
    """So long a keyholder may be silent until another is asked."""
    deadline_s: Seconds

    @property
    def seeds(self) -> range:
        return range(seeds_of.count(self.places, self.tolerated))

    def held_by(self, place: int) -> tuple[int, ...]:
        return seeds_of.held_by(self.places, self.tolerated)[place]

    def holders(self, seed: int) -> list[int]:
        return [place for place in sorted(self.names) if seed in self.held_by(place)]

    def named(self, places: Iterable[int]) -> str:
        return " and ".join(self.names[place] for place in sorted(places))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    gives_up_at: Seconds
    there: Places
    asked: Mapping[int, Seeds] = field(default_factory=dict)
    """Whose sums each was asked to send."""
    asked_at: Mapping[int, Seconds] = field(default_factory=dict)
    """When each was, or was heard of last."""
    digests: Mapping[int, Mapping[int, bytes]] = field(default_factory=dict)
    """What each says of each seed that it holds."""
    came: frozenset[tuple[int, bytes]] = frozenset()
    """The sums that are here: seed and digest."""
    refused: Mapping[int, str] = field(default_factory=dict)
    slow: Places = NOBODY
    """That had not looked at the list in time: others are asked for sums before them."""
    disputed: Seeds = frozenset()
    """Of which it was said that keyholders differ."""
    trying: Sums | None = None
    tried: Mapping[Sums, bool] = field(default_factory=dict)
    """Whether answers can add up to what these leave."""
    deaf_since: Seconds | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    at: Seconds
    place: int
    digests: Mapping[int, bytes]
    """Of each seed that it holds."""
    sent: Seeds
    """Of which it sent the sum of masks itself, with that digest."""


@dataclass(frozen=True, slots=True)
class Refused:
    at: Seconds
    place: int
    reason: str


@dataclass(frozen=True, slots=True)
class Came:
    at: Seconds
    place: int


@dataclass(frozen=True, slots=True)
class Left:
    at: Seconds
    place: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A part of its answer came."""

    at: Seconds
    place: int


@dataclass(frozen=True, slots=True)
class Tried:
    at: Seconds
    is_possible: bool


@dataclass(frozen=True, slots=True)
class LinkDown:
    at: Seconds


@dataclass(frozen=True, slots=True)
class LinkUp:
    at: Seconds


@dataclass(frozen=True, slots=True)
class Woke:
    at: Seconds


Event = Told | Refused | Came | Left | Heard | Tried | LinkDown | LinkUp | Woke


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this keyholder for the sums of these seeds' masks, over the whole list."""

    place: int
    seeds: Seeds


@dataclass(frozen=True, slots=True)
class Differ:
    """These keyholders do not say the same of this seed."""

    seed: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Try:
    """Take these sums from that of the answers, and tell what becomes of it by `Tried`."""

    sums: Sums


@dataclass(frozen=True, slots=True)
class Take:
    """That is the sum; `wrong` are keyholders that said something else."""

    sums: Sums
    wrong: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody opens it: the round keeps its model, and why."""

    reason: str


Effect = Ask | Differ | Try | Take | GiveUp | WakeAt


def begin(
    at: Seconds, there: Collection[int], rules: Rules, slow: Places = NOBODY
) -> tuple[State, list[Effect]]:
    """Of keyholders' places, those that are `there` are asked first, and the slow ones last."""
    state = State(
        gives_up_at=at + rules.deadline_s, there=frozenset(there) & rules.names.keys(), slow=slow
    )
    return _ask_all(*_advance(state, at, rules), at)


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what the service must do about it. Never raises on any event."""
    if state.is_over:
        return state, []
    state, effects = _take_in(state, event, rules)
    if state.deaf_since is not None:
        return state, effects
    state, more = _ask_all(*_advance(state, event.at, rules), event.at)
    return state, effects + more


def _take_in(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    match event:
        case Told(at, place) if place in rules.names:
            return _take_told(_heard(state, at, place), event, rules)
        case Refused(at, place, reason) if place in rules.names:
            refused = {**state.refused, place: reason}
            return replace(_heard(state, at, place), refused=refused), []
        case Came(at, place) if place in rules.names:
            back = replace(state, there=state.there | {place})
            return _ask_again(back, at, [place])
        case Left(_, place):
            return replace(state, there=state.there - {place}), []
        case Heard(at, place) if place in rules.names:
            return _heard(state, at, place), []
        case Tried(_, is_possible) if state.trying is not None:
            tried = {**state.tried, state.trying: is_possible}
            return replace(state, tried=tried, trying=None), []
        case LinkDown(at) if state.deaf_since is None:
            return replace(state, deaf_since=at), []
        case LinkUp(at):
            return _hear_again(state, at)
        case _:
            return state, []


def _heard(state: State, at: Seconds, place: int) -> State:
    asked_at = {**state.asked_at, place: at}
    slow = state.slow - {place}
    return replace(state, there=state.there | {place}, asked_at=asked_at, slow=slow)


def _take_told(state: State, event: Told, rules: Rules) -> tuple[State, list[Effect]]:
    place, held = event.place, rules.held_by(event.place)
    # What it said first counts: it may answer a list once.
    told = {seed: event.digests[seed] for seed in held if seed in event.digests}
    told |= state.digests.get(place, {})
    sent = {(seed, event.digests[seed]) for seed in event.sent if seed in event.digests}
    came = state.came | {one for one in sent if told.get(one[0]) == one[1]}
    digests = {**state.digests, place: told}
    refused = {one: why for one, why in state.refused.items() if one != place}
    state = replace(state, digests=digests, came=came, refused=refused)
    differ = [one for one in _disputes(state, rules) if one.seed not in state.disputed]
    disputed = state.disputed | {one.seed for one in differ}
    return replace(state, disputed=disputed), [*differ]


def _disputes(state: State, rules: Rules) -> Iterator[Differ]:
    for seed in rules.seeds:
        told = _told(state, seed, rules, NOBODY)
        if len(set(told.values())) > 1:
            yield Differ(seed, tuple(sorted(told)))


def _told(state: State, seed: int, rules: Rules, suspects: Places) -> dict[int, bytes]:
    """What each but the suspects says of a seed."""
    return {
        place: state.digests[place][seed]
        for place in rules.holders(seed)
        if place not in suspects and seed in state.digests.get(place, {})
    }


# What is to be done


def _advance(state: State, at: Seconds, rules: Rules) -> tuple[State, list[Effect]]:
    if at >= state.gives_up_at:
        return _give_up(state, f"nobody opened its sum in time: {_missing(state, rules)}")
    if state.trying is not None:
        return state, []
    for suspected in range(rules.tolerated + 1):
        decided = _pursue(state, at, suspected, rules)
        if decided is not None:
            following, effects = decided
            if not following.is_over and following.trying is None:
                effects.append(WakeAt(_wake_at(following, at, rules)))
            return following, effects
    return _give_up(state, _why_not(state, rules))


def _pursue(
    state: State, at: Seconds, suspected: int, rules: Rules
) -> tuple[State, list[Effect]] | None:
    """What to do where so many keyholders are left out; None where nothing can come of it."""
    possible: dict[Sums, Places] = {}
    effects: list[Effect] = []
    is_awaited = False
    for suspects in _suspects(state, suspected, rules):
        sums = _sums(state, suspects, rules)
        if sums is None:
            state, asks, can_come = _ask_for_missing(state, at, suspects, rules)
            effects += asks
            is_awaited |= can_come
        elif sums not in state.tried:
            return replace(state, trying=sums), [*effects, Try(sums)]
        elif state.tried[sums]:
            possible.setdefault(sums, suspects)
    if is_awaited:
        return state, effects
    if len(possible) > 1:
        parties = {place for one in _disputes(state, rules) for place in one.places}
        why = f"{rules.named(parties)} do not say the same, and nobody can tell who is right"
        return _give_up(state, why)
    for sums in possible:
        wrong = tuple(
            place
            for place, told in sorted(state.digests.items())
            if any(sums[seed] != digest for seed, digest in told.items())
        )
        return replace(state, is_over=True), [Take(sums, wrong)]
    return None


def _suspects(state: State, count: int, rules: Rules) -> list[Places]:
    """All sets of so many keyholders without whom the others say the same."""
    return [
        frozenset(some)
        for some in combinations(sorted(rules.names), count)
        if all(
            len(set(_told(state, seed, rules, frozenset(some)).values())) <= 1
            for seed in rules.seeds
        )
    ]


def _sums(state: State, suspects: Places, rules: Rules) -> Sums | None:
    """By the word of the others, where all of them are here."""
    found: list[bytes] = []
    for seed in rules.seeds:
        said = set(_told(state, seed, rules, suspects).values())
        if len(said) != 1 or (seed, *said) not in state.came:
            return None
        found += said
    return tuple(found)


def _ask_for_missing(
    state: State, at: Seconds, suspects: Places, rules: Rules
) -> tuple[State, list[Effect], bool]:
    """Ask for what is not on its way; and whether what is missing can yet come."""
    missing = _missing_seeds(state, suspects, rules)
    open_to_all = {seed: _can_send(state, seed, suspects, rules) for seed in missing}
    if not all(open_to_all.values()):
        return state, [], False
    wanted: dict[int, set[int]] = {}
    for seed, places in open_to_all.items():
        if any(_is_on_its_way(state, at, place, seed, rules) for place in places):
            continue
        if free := _free(state, seed, places):
            load = {one: len(state.asked.get(one, ())) + len(wanted.get(one, ())) for one in free}
            nearest = min(
                free, key=lambda one: (one in state.slow, load[one], (one - seed) % rules.places)
            )
            wanted.setdefault(nearest, set()).add(seed)
    effects: list[Effect] = []
    for place, some in sorted(wanted.items()):
        state = _asking(state, at, place, frozenset(some))
        effects.append(Ask(place, frozenset(some)))
    return state, effects, True


def _ask_all(state: State, effects: list[Effect], at: Seconds) -> tuple[State, list[Effect]]:
    """Who need send no sum is asked for its digests: what others say is held against them."""
    if state.is_over or state.trying is not None:
        return state, effects
    asks: list[Effect] = []
    for place in sorted(state.there - state.asked.keys()):
        state = _asking(state, at, place, frozenset())
        asks.append(Ask(place, frozenset()))
    return state, asks + effects


def _asking(state: State, at: Seconds, place: int, some: Seeds) -> State:
    asked = {**state.asked, place: state.asked.get(place, frozenset()) | some}
    return replace(state, asked=asked, asked_at={**state.asked_at, place: at})


def _missing_seeds(state: State, suspects: Places, rules: Rules) -> list[int]:
    return [
        seed
        for seed in rules.seeds
        if not any(
            (seed, digest) in state.came for digest in _told(state, seed, rules, suspects).values()
        )
    ]


def _can_send(state: State, seed: int, suspects: Places, rules: Rules) -> list[int]:
    return [
        place
        for place in rules.holders(seed)
        if place not in suspects and place not in state.refused
    ]


def _free(state: State, seed: int, places: Iterable[int]) -> list[int]:
    """Who can be asked for it: the others, before who was asked and has told of other sums since.
    Who was asked and is silent is asked again only when it is heard of."""
    there = [one for one in places if one in state.there]
    return [one for one in there if not _was_asked(state, one, seed)] or [
        one for one in there if one in state.digests
    ]


def _was_asked(state: State, place: int, seed: int) -> bool:
    return seed in state.asked.get(place, frozenset())


def _is_on_its_way(state: State, at: Seconds, place: int, seed: int, rules: Rules) -> bool:
    return _was_asked(state, place, seed) and at < state.asked_at[place] + rules.timeout_s


def _owed(state: State, place: int) -> Seeds:
    """What it was asked for, and has not sent."""
    told = state.digests.get(place, {})
    return frozenset(
        seed
        for seed in state.asked.get(place, frozenset())
        if (seed, told.get(seed)) not in state.came
    )


def _ask_again(state: State, at: Seconds, places: Iterable[int]) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for place in places:
        owed = _owed(state, place)
        if owed or (place in state.asked and place not in state.digests):
            # It may have been refused for what is mended.
            refused = {one: why for one, why in state.refused.items() if one != place}
            asked_at = {**state.asked_at, place: at}
            state = replace(state, asked_at=asked_at, refused=refused)
            effects.append(Ask(place, owed))
    return state, effects


def _hear_again(state: State, at: Seconds) -> tuple[State, list[Effect]]:
    """What was said while there was no link may be lost, and nobody is late for that."""
    if state.deaf_since is None:
        return state, []
    lost_s = at - state.deaf_since
    state = replace(state, deaf_since=None, gives_up_at=state.gives_up_at + lost_s)
    return _ask_again(state, at, sorted(state.asked))


def _wake_at(state: State, at: Seconds, rules: Rules) -> Seconds:
    """When somebody is late, or all is over."""
    late = [state.asked_at[place] + rules.timeout_s for place in state.asked if _owed(state, place)]
    return min([state.gives_up_at, *(moment for moment in late if moment > at)])


# Why nothing came of it


def _give_up(state: State, reason: str) -> tuple[State, list[Effect]]:
    return replace(state, is_over=True), [GiveUp(reason)]


def _why_not(state: State, rules: Rules) -> str:
    if state.refused:
        return "; ".join(
            f"{rules.names[place]} opens no sum: {why}"
            for place, why in sorted(state.refused.items())
        )
    return (
        "what is left without the masks is no sum of answers: the masks of somebody are not those"
        " of the seeds that it sealed"
    )


def _missing(state: State, rules: Rules) -> str:
    awaited = [
        rules.names[place]
        for place in sorted(rules.names)
        if any(_can_send(state, seed, NOBODY, rules) for seed in rules.seeds)
        and not state.digests.get(place)
        and place not in state.refused
    ]
    said = [f"nothing was heard of {' and '.join(awaited)}"] if awaited else []
    said += [f"{rules.names[one]} refuses: {why}" for one, why in sorted(state.refused.items())]
    return "; ".join(said) or "keyholders do not say the same"
