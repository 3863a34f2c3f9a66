"""What a keyholder opens, and what never. Pure.

    a list ──▶ Check ──▶ WriteDown ──▶ AddUp ──▶ Finish ──▶ Answer
      │          │ not signed, not sealed to us       the key's private half is gone
      │          ▼
      ├────▶ Refuse    too few, one twice, unknown key, a key that another list was opened with
      │
      └─ the same list again, also for other seeds ─────────▶ Answer

With each of its keys it opens one list. If it answered S and S without one client, the difference
would be that client's. So which list it is stands on the disk before anything is added up, and what
was answered is kept: asked again, it says the same, to the byte.

A list that is refused uses up nothing: another may come for the key.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from fedmqtt.masking import seeds as seeds_of
from fedmqtt.messages import Masking, Open
from fedmqtt.topics import ClientId, RoundId, RunId
from keyholder.listed import LISTS_KEPT, Listed, Mode, Seeds

VALUES_MAX = 2**28
"""Of one sum: a vector of them is held in memory, 4 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What its owner decided."""

    name: ClientId
    serves: tuple[Mode, ...]
    floor: int = 2
    """Fewest clients in a sum, whatever the coordinator asks."""


@dataclass(frozen=True, slots=True)
class Work:
    """The list that is being checked, or added up."""

    open: Open
    number: int


@dataclass(frozen=True, slots=True)
class State:
    keys: Mapping[int, bytes] = field(default_factory=dict)
    """Public halves, by number, of those whose private halves are here."""
    lists: Mapping[int, Listed] = field(default_factory=dict)
    """By the number of the key that each was written down for."""
    work: Work | None = None
    waiting: Open | None = None
    """The newest list that came meanwhile."""


@dataclass(frozen=True, slots=True)
class KeysChanged:
    keys: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """A whole list, whose digest is its own."""

    open: Open


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether all on the list of this digest is signed and sealed as it should be."""

    list: bytes
    why_not: str = ""
    """In a sentence."""


@dataclass(frozen=True, slots=True)
class AddedUp:
    """The sums of all seeds that are held are on the disk."""

    list: bytes
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    listed: Listed


@dataclass(frozen=True, slots=True)
class Failed:
    """The disk or the memory did not do what was asked for this list; a sentence."""

    list: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Received:
    """The coordinator has all that it asked for in this round, or wants none of it."""

    run: RunId
    round: RoundId


OfWork = Checked | AddedUp | Finished | Failed
Event = KeysChanged | Asked | Received | OfWork


@dataclass(frozen=True, slots=True)
class Check:
    """`Checked` follows."""

    open: Open
    number: int


@dataclass(frozen=True, slots=True)
class WriteDown:
    """Force it to the disk before what comes after it is done; where that fails, `Failed`, and
    none of that is done."""

    listed: Listed


@dataclass(frozen=True, slots=True)
class AddUp:
    """`AddedUp` or `Failed` follows."""

    open: Open
    number: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Force it to the disk, then delete the private half of its key and of those before it.
    `KeysChanged` and `Finished` follow, or `Failed`."""

    listed: Listed


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the sums of `listed.seeds`."""

    listed: Listed


@dataclass(frozen=True, slots=True)
class Refuse:
    open: Open
    reason: str


Effect = Check | WriteDown | AddUp | Finish | Answer | Refuse


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what the program must do about it. Never raises on any event."""
    match event:
        case KeysChanged(keys):
            return replace(state, keys=keys), []
        case Asked(asked):
            return _consider(state, asked, rules)
        case Received(run, round_id):
            return _receive(state, run, round_id)
        case _ if state.work is not None and state.work.open.digest == _list_of(event):
            return _go_on(state, state.work, event, rules)
        case _:
            # Of one that was given up.
            return state, []


def held(masking: Masking, name: ClientId) -> Seeds:
    """The seeds that the keyholder of this name holds, growing; it stands there once."""
    place = next(one.place for one in masking.keyholders if one.name == name)
    return seeds_of.held_by(masking.places, masking.tolerated)[place]


def _list_of(event: OfWork) -> bytes:
    return event.listed.digest if isinstance(event, Finished) else event.list


def _go_on(state: State, work: Work, event: OfWork, rules: Rules) -> tuple[State, list[Effect]]:
    match event:
        case Checked(why_not=""):
            return _begin(state, work, rules)
        case Checked(_, why_not) | Failed(_, why_not):
            return _next(state, [Refuse(work.open, why_not)], rules)
        case AddedUp(_, digests):
            listed = state.lists[work.number]
            return state, [Finish(structs.replace(listed, digests=digests, seeds=work.open.seeds))]
        case Finished(listed):
            return _next(_written(state, listed), [Answer(listed)], rules)


def _consider(state: State, asked: Open, rules: Rules) -> tuple[State, list[Effect]]:
    if fault := _misshapen(asked, rules):
        return state, [Refuse(asked, fault)]
    number = _number(asked, rules)
    listed = state.lists.get(number)
    if listed is not None and listed.digest != asked.digest:
        return state, [Refuse(asked, _used(listed))]
    if listed is not None and listed.digests:
        return _answer(state, listed, asked)
    if fault := _why_not(state, asked, rules):
        return state, [Refuse(asked, fault)]
    if (work := state.work) is None:
        return replace(state, work=Work(asked, number)), [Check(asked, number)]
    if work.open.digest == asked.digest:
        # Asked for again before it is answered, perhaps for other seeds.
        same = structs.replace(work.open, seeds=_both(work.open.seeds, asked.seeds))
        return replace(state, work=replace(work, open=same)), []
    return replace(state, waiting=asked), []


def _begin(state: State, work: Work, rules: Rules) -> tuple[State, list[Effect]]:
    open_ = work.open
    listed = Listed(
        number=work.number,
        digest=open_.digest,
        run=open_.run,
        round=open_.round,
        clients=len(open_.entries),
        held=held(open_.masking, rules.name),
        seeds=open_.seeds,
    )
    return _written(state, listed), [WriteDown(listed), AddUp(open_, work.number)]


def _answer(state: State, listed: Listed, asked: Open) -> tuple[State, list[Effect]]:
    # What it does not have yet stays owed.
    wanted = asked.seeds if listed.is_received else _both(listed.seeds, asked.seeds)
    if not listed.is_received and wanted == listed.seeds:
        return state, [Answer(listed)]
    further = structs.replace(listed, seeds=wanted, is_received=False)
    return _written(state, further), [WriteDown(further), Answer(further)]


def _receive(state: State, run: RunId, round_id: RoundId) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for listed in state.lists.values():
        if listed.digests and not listed.is_received and listed.is_of(run, round_id):
            received = structs.replace(listed, is_received=True)
            state = _written(state, received)
            effects.append(WriteDown(received))
    return state, effects


def _written(state: State, listed: Listed) -> State:
    lists = {**state.lists, listed.number: listed}
    return replace(state, lists={number: lists[number] for number in sorted(lists)[-LISTS_KEPT:]})


def _both(some: Seeds, others: Seeds) -> Seeds:
    return tuple(sorted({*some, *others}))


def _next(state: State, effects: list[Effect], rules: Rules) -> tuple[State, list[Effect]]:
    """The work is done; go on with what came meanwhile."""
    waiting = state.waiting
    state = replace(state, work=None, waiting=None)
    if waiting is None:
        return state, effects
    state, more = _consider(state, waiting, rules)
    return state, effects + more


# Why a list is refused


def _number(asked: Open, rules: Rules) -> int:
    return next(one.key.number for one in asked.masking.keyholders if one.name == rules.name)


def _misshapen(asked: Open, rules: Rules) -> str:
    masking = asked.masking
    mine = [one for one in masking.keyholders if one.name == rules.name]
    if len(mine) != 1:
        return f"{rules.name} is named {len(mine)} times as a keyholder, and not once"
    if masking.mode not in rules.serves:
        return f"{rules.name} opens sums in mode {' and '.join(rules.serves)}, not {masking.mode}"
    places, tolerated = masking.places, masking.tolerated
    fits = places == 1 if masking.mode == "trusted" else 1 <= tolerated < places
    if not fits or (masking.mode == "trusted" and tolerated) or mine[0].place >= places:
        return (
            f"place {mine[0].place} of {places} keyholders, {tolerated} of whom may know one"
            f" another's seeds, is none in mode {masking.mode}"
        )
    if 2 * (tolerated + 1) <= len(masking.keyholders) and masking.mode == "keyholders":
        return (
            f"{len(masking.keyholders)} keyholders, any {tolerated + 1} of whom open a sum: two"
            " halves of them could be shown two lists"
        )
    if stray := set(asked.seeds) - set(held(masking, rules.name)):
        return f"seed {min(stray)} is not held by {rules.name}, at place {mine[0].place}"
    if len(set(asked.seeds)) < len(asked.seeds):
        return "the sum of one seed is asked for twice"
    return ""


def _used(listed: Listed) -> str:
    return (
        f"key {listed.number} is for another list, of round {listed.round} of run {listed.run}"
        f" with {listed.clients} clients: a sum of others is not opened with it"
    )


def _why_not(state: State, asked: Open, rules: Rules) -> str:
    mine = next(one for one in asked.masking.keyholders if one.name == rules.name)
    public = state.keys.get(mine.key.number)
    if public is None:
        return (
            f"there is no key {mine.key.number} of {rules.name}, or not any more: with what was"
            " sealed to it nothing is opened"
        )
    if public != mine.key.public:
        return f"key {mine.key.number} of {rules.name} is another one than this list says"
    if asked.body + asked.tail > VALUES_MAX:
        return f"a sum of {asked.body + asked.tail} values: {VALUES_MAX} are the most"
    return _too_few(asked, rules)


def _too_few(asked: Open, rules: Rules) -> str:
    times = Counter(entry.client for entry in asked.entries)
    client, most = times.most_common(1)[0] if times else ("", 0)
    if most > 1:
        return f"{client} is in the list {most} times"
    if uneven := next((entry for entry in asked.entries if entry.times != 1), None):
        # Were all others in it twice, what is left of the sum by 2 would be this client's alone.
        return f"{uneven.client} is to be in the sum {uneven.times} times, and not once"
    keys = Counter(entry.masked.key for entry in asked.entries)
    if len(keys) < len(times):
        key = keys.most_common(1)[0][0]
        names = [entry.client for entry in asked.entries if entry.masked.key == key]
        return f"{' and '.join(names[:2])} have one key, and count as one client"
    floor = max(asked.masking.floor, rules.floor)
    if len(times) < floor:
        return f"a sum of {len(times)} clients: {floor} are the fewest that it is opened of"
    return ""
