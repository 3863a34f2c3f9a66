"""What the operator has told the coordinator to do: pure, and without a clock.

    order ──▶ obey ──▶ Control, which is kept with the run, and Obeyed: what came of it, in words

`Control` is what rounds go by from then on (`rounds/`), and what is told of orders. An order has
a name of its own: one that comes again changes nothing, and has the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct, structs

from fedmqtt.messages import OrderKind
from fedmqtt.topics import ClientId, RoundId

REMEMBERED = 100
"""So many orders are told of. Of one that is not any more, a copy comes too late by far: its word
is good for a minute."""

_NO_ROUND, _NO_CLIENT = RoundId(0), ClientId("")
_NAMED = 10
"""Of more clients or rounds, so many are named."""

_REPLACED = "given up: another rollback was ordered before this one was carried out"


class Obeyed(Struct, frozen=True, kw_only=True):
    """An order, and what came of it."""

    token: str
    """The order's own name."""
    operator: str
    said: str
    """The order, as it is typed."""
    at: str
    """When it came, for people."""
    done: bool
    """It is, or will be as `result` tells; no more where it came to nothing."""
    result: str


class Control(Struct, frozen=True, kw_only=True):
    """What orders have made of a run. It is written down, so nothing in it is a machine's time."""

    paused_by: str = ""
    """No round opens while there is a name here."""
    paused_at: str = ""
    stopped_by: str = ""
    """The run ends with the round that is open, or now."""
    wanted: tuple[ClientId, ...] = ()
    """To be invited to the next round."""
    rollback: RoundId | None = None
    """Whose model is to become the current one, as soon as no round is open."""
    going_back: tuple[tuple[str, RoundId], ...] = ()
    """Orders by their names that are yet to be carried out, and whose model each wants."""
    valid_from: Annotated[RoundId, Meta(ge=0)] = RoundId(0)
    """Answers to rounds before this one were made from models that were given up."""
    obeyed: tuple[Obeyed, ...] = ()
    """The last orders, oldest first."""

    def answer(self, token: str) -> Obeyed | None:
        """What came of the order of this name, if it has come."""
        return next((one for one in self.obeyed if one.token == token), None)


NO_ORDERS = Control()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """As it has come: proven, and meant for this run."""

    token: str
    operator: str
    at: str
    what: OrderKind
    round: RoundId = _NO_ROUND
    client: ClientId = _NO_CLIENT

    @property
    def words(self) -> str:
        match self.what:
            case "rollback":
                return f"rollback {self.round}"
            case "invite":
                return f"invite {self.client}"
            case what:
                return what


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the answer goes by, beside what was ordered before."""

    round: RoundId
    """The open one, or the next one."""
    next_named: str
    """The next one to open, in words: the last has no number that means anything to people."""
    is_open: bool
    """Whether clients train in it."""
    is_ending: bool
    """Whether nothing is left but to measure its last model."""
    trains: bool
    """Whether the run makes models at all."""
    models: Sequence[RoundId] = ()
    """The rounds whose models are kept, oldest first."""
    hindrance: str = ""
    """Why the client to be invited cannot be."""


def obey(control: Control, order: Order, situation: Situation) -> tuple[Control, Obeyed]:
    """What rounds go by from now on, and what to tell the operator."""
    changed, done, result = _obey(control, order, situation)
    obeyed = Obeyed(
        token=order.token,
        operator=order.operator,
        said=order.words,
        at=order.at,
        done=done,
        result=result,
    )
    kept = (*changed.obeyed[1 - REMEMBERED :], obeyed)
    return structs.replace(changed, obeyed=kept), obeyed


def with_wanted(control: Control, wanted: tuple[ClientId, ...]) -> Control:
    """These are to be invited yet."""
    return control if wanted == control.wanted else structs.replace(control, wanted=wanted)


def giving_up(control: Control, next_round: RoundId) -> Control:
    """The model goes back now: what was trained from those after it does not count any more."""
    return structs.replace(control, valid_from=next_round)


def gone_back(control: Control, number: RoundId, fault: str = "") -> Control:
    """The model is that of this round, unless there is a `fault`: why it cannot be. If another has
    been ordered meanwhile, that one comes next."""
    is_last = control.rollback == number
    why = f"given up, and the newest model stays: {_model_of(number)} {fault}" if fault else ""
    undone, left = {}, []
    for token, wanted in control.going_back:
        if wanted == number:
            undone[token] = why
        elif is_last:
            undone[token] = _REPLACED
        else:
            left.append((token, wanted))
    return structs.replace(
        control,
        rollback=None if is_last else control.rollback,
        going_back=tuple(left),
        obeyed=tuple(_undone(one, undone.get(one.token, "")) for one in control.obeyed),
    )


def _undone(obeyed: Obeyed, why: str) -> Obeyed:
    return structs.replace(obeyed, done=False, result=why) if why else obeyed


def _obey(control: Control, order: Order, situation: Situation) -> tuple[Control, bool, str]:
    if situation.is_ending or control.stopped_by:
        return control, order.what == "stop", _ending(control, situation)
    match order.what:
        case "pause":
            return _pause(control, order, situation)
        case "resume":
            return _resume(control, situation)
        case "stop":
            stopped = structs.replace(control, stopped_by=order.operator)
            return stopped, True, _stopping(situation)
        case "rollback":
            return _roll_back(control, order, situation)
        case "invite":
            return _invite(control, order, situation)


def _ending(control: Control, situation: Situation) -> str:
    by = f", by an order of {control.stopped_by}" if control.stopped_by else ""
    until = f" when round {situation.round} has closed" if situation.is_open else " already"
    return f"the run ends{until}{by}: no more rounds open"


def _pause(control: Control, order: Order, situation: Situation) -> tuple[Control, bool, str]:
    if control.paused_by:
        return control, True, f"paused already, by {control.paused_by} since {control.paused_at}"
    paused = structs.replace(control, paused_by=order.operator, paused_at=order.at)
    if situation.is_open:
        return paused, True, f"round {situation.round} closes as usual, and no other opens"
    return paused, True, f"{situation.next_named} does not open until `fedmqtt resume`"


def _resume(control: Control, situation: Situation) -> tuple[Control, bool, str]:
    if not control.paused_by:
        return control, True, "nothing was paused"
    resumed = structs.replace(control, paused_by="", paused_at="")
    if situation.is_open:
        return resumed, True, f"{situation.next_named} opens when round {situation.round} is over"
    return resumed, True, f"{situation.next_named} opens as soon as its clients are there"


def _stopping(situation: Situation) -> str:
    if situation.is_open:
        return f"the run ends when round {situation.round} has closed and its model is measured"
    return "the run ends now, once its model is measured"


def _roll_back(control: Control, order: Order, situation: Situation) -> tuple[Control, bool, str]:
    if not situation.trains:
        return control, False, "this run makes no models"
    if order.round not in situation.models:
        return control, False, _gone(order.round, situation)
    going_back = (*control.going_back, (order.token, order.round))
    back = structs.replace(control, rollback=order.round, going_back=going_back)
    then = f"the next round trains from {_model_of(order.round)}"
    if situation.is_open:
        return back, True, f"round {situation.round} is given up, and {then}"
    return back, True, then


def _gone(number: RoundId, situation: Situation) -> str:
    if not situation.models:
        return (
            "no older model is kept: set checkpoint.keep in federation.toml, and start the"
            " coordinator again"
        )
    some = situation.models[-_NAMED:]
    there = ", ".join("0 (the initial model)" if one == 0 else str(one) for one in some)
    more = " and older ones" if len(some) < len(situation.models) else ""
    return (
        f"the model of round {number} is not kept: there are those of rounds {there}{more}."
        " checkpoint.keep in federation.toml says how many are"
    )


def _model_of(number: RoundId) -> str:
    return "the initial model" if number == 0 else f"the model that round {number} made"


def _invite(control: Control, order: Order, situation: Situation) -> tuple[Control, bool, str]:
    if situation.hindrance:
        return control, False, f"{order.client} cannot be invited: {situation.hindrance}"
    invited = f"{order.client} is invited to {situation.next_named}, if it is there then"
    if order.client in control.wanted:
        return control, True, invited
    return structs.replace(control, wanted=(*control.wanted, order.client)), True, invited
