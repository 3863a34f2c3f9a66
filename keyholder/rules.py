"""What a keyholder opens, and what never. Pure.

    a list ──▶ Check ──▶ WriteDown ──▶ AddUp ──▶ Finish ──▶ Answer
      │          │ not signed, not sealed to us       the key's private half is gone
      │          ▼
      ├────▶ Refuse    too few, one twice, unknown key, a key that another list was opened with
      │
      ├─ the same list again, also for other seeds ─────────▶ Answer
      │
      └─ a list to be looked at ──▶ Check ──▶ Fit, or Refuse: nothing is written down; one that
                                              is fit is not checked again, should it be asked for

With each of its keys it opens one list. If it answered S and S without one client, the difference
would be that client's. So which list it is stands on the disk before anything is added up, and what
was answered is kept: asked again, it says the same, to the byte.

Where the offer says so (`Masking.lists_max`), a key opens several, no two of which have an answer
in common: see `taken.py`, and `fedmqtt/lists_promise.py` for why that is enough, and where. Of
those the newest is answered again. Its private half is deleted with the last one, or when a list
for a later key is opened.

A list that is refused, or only looked at, uses up nothing: another may come for the key. Who is
unfit to be on it is named, so that the other one need not have the same fault.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from fedmqtt import committee_promise, masks_promise
from fedmqtt.masking import seeds as seeds_of
from fedmqtt.messages import UNFIT_MAX, Masking, Open, WhyUnfit
from fedmqtt.topics import ClientId, RoundId, RunId
from keyholder import taken as taken_by
from keyholder.listed import LISTS_KEPT, Listed, Mode, Seeds
from keyholder.taken import Taken

Unfit = Mapping[ClientId, WhyUnfit]

VALUES_MAX = 2**28
"""Of one sum: a vector of them is held in memory, 4 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What its owner decided."""

    name: ClientId
    serves: tuple[Mode, ...]
    floor: int = 2
    """Fewest clients in a sum, whatever the coordinator asks."""
    tolerated: int = 1
    """Of several keyholders, so many at least must learn nothing."""
    mixed_rounds: bool = False
    """Whether it opens sums of answers to several models."""


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
    taken: Mapping[int, Taken] = field(default_factory=dict)
    """By the number of a key that may open more lists: what was on those up to now."""
    work: Work | None = None
    fit: bytes = b""
    """Digest of the list whose clients' seeds are in memory: it was looked at last, and is fit."""
    fit_key: int = 0
    """By number: to which those are sealed."""
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
    unfit: Unfit = field(default_factory=dict)
    """For which of the clients, and why."""


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
    """`Checked` follows; seeds of the clients of any other list are forgotten."""

    open: Open
    number: int


@dataclass(frozen=True, slots=True)
class Count:
    """Of a list that was looked at, and is to be opened: whether each may be in one more sum. It is
    counted then, on the disk. `Checked` or `Failed` follows."""

    open: Open


@dataclass(frozen=True, slots=True)
class WriteDown:
    """Force it to the disk before what comes after it is done; where that fails, `Failed`, and
    none of that is done."""

    listed: Listed
    taken: Taken | None = None
    """What is new of it."""


@dataclass(frozen=True, slots=True)
class AddUp:
    """`AddedUp` or `Failed` follows."""

    open: Open
    number: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Force it to the disk, then delete the private half of its key, unless that opens more, and of
    those before it.
    `KeysChanged` and `Finished` follow, or `Failed`."""

    listed: Listed


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the sums of `listed.seeds`."""

    listed: Listed


@dataclass(frozen=True, slots=True)
class Fit:
    """This list would be opened, were it asked for."""

    open: Open


@dataclass(frozen=True, slots=True)
class Refuse:
    open: Open
    reason: str
    unfit: Unfit = field(default_factory=dict)
    """Without whom another list may be opened with the same key."""


Effect = Check | Count | WriteDown | AddUp | Finish | Answer | Fit | Refuse


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Effect]]:
    """The next state, and what the program must do about it. Never raises on any event."""
    match event:
        case KeysChanged(keys):
            taken = {number: one for number, one in state.taken.items() if number in keys}
            if state.fit_key not in keys:
                # The program forgets what was sealed to it, too.
                state = replace(state, fit=b"", fit_key=0)
            return replace(state, keys=keys, taken=taken), []
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
        case Checked(why_not="") if work.number not in state.keys:
            why = f"key {work.number} was deleted meanwhile: nothing is opened with it any more"
            return _next(state, [Refuse(work.open, why)], rules)
        case Checked(why_not="") if work.open.looks:
            state = replace(state, fit=work.open.digest, fit_key=work.number)
            return _next(state, [Fit(work.open)], rules)
        case Checked(why_not=""):
            return _begin(state, work, rules)
        case Checked(_, why_not, unfit):
            return _next(state, [Refuse(work.open, why_not, unfit)], rules)
        case Failed(_, why):
            return _next(state, [Refuse(work.open, why)], rules)
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
    if listed is not None and listed.digest == asked.digest:
        if asked.looks:
            # It was found to be fit before it was written down.
            return state, [Fit(asked)]
        if listed.digests:
            return _answer(state, listed, asked)
    elif fault := _used(state, number, asked):
        return state, [Refuse(asked, fault)]
    if fault := _why_not(state, asked, rules):
        return state, [Refuse(asked, fault)]
    if twins := _twins(asked):
        return state, [Refuse(asked, *twins)]
    if (work := state.work) is None:
        return _check(state, Work(asked, number), rules)
    if work.open.digest == asked.digest:
        # Asked for again before it is answered, perhaps for other seeds, or in earnest.
        same = structs.replace(
            work.open,
            seeds=_both(work.open.seeds, asked.seeds),
            looks=work.open.looks and asked.looks,
        )
        return replace(state, work=replace(work, open=same)), []
    return replace(state, waiting=asked), []


def _check(state: State, work: Work, rules: Rules) -> tuple[State, list[Effect]]:
    asked = work.open
    if asked.digest != state.fit:
        return replace(state, work=work, fit=b""), [Check(asked, work.number)]
    if asked.looks:
        return state, [Fit(asked)]
    return replace(state, work=work, fit=b""), [Count(asked)]


def _begin(state: State, work: Work, rules: Rules) -> tuple[State, list[Effect]]:
    open_, taken = work.open, None
    if open_.masking.lists_max > 1:
        taken = taken_by.by(open_, state.taken.get(work.number))
    listed = Listed(
        number=work.number,
        digest=open_.digest,
        run=open_.run,
        round=open_.round,
        clients=len(open_.entries),
        held=held(open_.masking, rules.name),
        seeds=open_.seeds,
        opens_more=taken is not None and taken.lists < open_.masking.lists_max,
    )
    if taken is not None:
        state = replace(state, taken={**state.taken, work.number: taken})
    return _written(state, listed), [WriteDown(listed, taken), AddUp(open_, work.number)]


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
    if fault := masks_promise.fault(masking):
        return fault
    tolerated = masking.tolerated
    if masking.mode != "trusted" and tolerated < rules.tolerated:
        return (
            f"{tolerated + 1} keyholders together could open an answer, and {rules.name} opens sums"
            f" where that takes {rules.tolerated + 1}; if fewer are right, start it with"
            f" --tolerated {tolerated}"
        )
    if masking.mixes_rounds and not rules.mixed_rounds:
        return (
            "answers to several models may be in one sum, as in asynchronous rounds, and"
            f" {rules.name} opens those where all are to one; if that is right, start it with"
            " --mixed-rounds"
        )
    if stray := set(asked.seeds) - set(held(masking, rules.name)):
        return f"seed {min(stray)} is not held by {rules.name}, at place {mine[0].place}"
    if len(set(asked.seeds)) < len(asked.seeds):
        return "the sum of one seed is asked for twice"
    if asked.answered and sum(one.count for one in asked.answered) != len(asked.entries):
        return f"of {len(asked.entries)} entries not all are said to answer something, or more"
    if (asked.body, asked.tail) != committee_promise.opened(masking, asked.body, asked.tail)[:2]:
        return (
            f"a sum of {asked.body} and {asked.tail} numbers: of a committee's clients it is of"
            f" their keys, {committee_promise.KEY} and none"
        )
    models = {(one.round, one.base) for one in asked.answered}
    if len(models) > 1 and not masking.mixes_rounds:
        # Were nine asked of a model at which nothing is to be learned, their sum with a tenth's
        # answer to another one would be the tenth's.
        return f"answers to {len(models)} models are not added up where the offer is of one"
    return ""


def _used(state: State, number: int, asked: Open) -> str:
    """For what else key `number` is, as far as it is not for this list."""
    listed, taken = state.lists.get(number), state.taken.get(number)
    if taken is not None:
        return taken_by.why_not(asked, number, taken)
    if listed is None:
        return ""
    return (
        f"key {number} is for another list, of round {listed.round} of run {listed.run}"
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
    """Whether there are enough, of each number of times.

    What can be made of the sums of disjoint lists takes all those on one list that are in it the
    same number of times as often as one another, modulo whatever power of two: so it is of all of
    them, or of none. Of fewer it could be: were all others in a sum twice, what is left of it by 2
    would be of those that are in it once.
    """
    named = Counter(entry.client for entry in asked.entries)
    client, most = named.most_common(1)[0] if named else ("", 0)
    if most > 1:
        return f"{client} is in the list {most} times"
    counts_max = asked.masking.times_max
    if often := next((entry for entry in asked.entries if entry.times > counts_max), None):
        return (
            f"{often.client} is to be in the sum {often.times} times, and not {_up_to(counts_max)}"
        )
    times = Counter(entry.times for entry in asked.entries)
    fewest = min(times, key=lambda one: (times[one], one), default=1)
    count = times[fewest]
    some = f"{count} clients" if len(times) <= 1 else f"{count} clients {fewest} times each"
    if count < asked.masking.floor:
        return f"a sum of {some}: {asked.masking.floor} are the fewest that it is opened of"
    if count < rules.floor:
        return (
            f"a sum of {some}: {rules.floor} are the fewest that {rules.name} opens one of,"
            " whatever the federation's floor; if fewer are right, start it with --floor"
        )
    return ""


def _up_to(times_max: int) -> str:
    return "once" if times_max == 1 else f"up to {times_max}"


def _twins(asked: Open) -> tuple[str, Unfit] | None:
    """Of those that have one key all but the first, and a sentence; None where there are none."""
    first: dict[bytes, ClientId] = {}
    for entry in asked.entries:
        first.setdefault(entry.key, entry.client)
    twins = [(first[one.key], one.client) for one in asked.entries]
    twins = [(one, other) for one, other in twins if one != other]
    if not twins:
        return None
    why = f"{' and '.join(twins[0])} have one key, and count as one client"
    return why, {other: "twin" for _, other in twins[:UNFIT_MAX]}
