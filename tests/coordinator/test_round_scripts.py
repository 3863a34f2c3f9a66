"""Stories of rounds, each in a file of its own in `scripts/`.

rules quorum=2 pause_s=5      starts anew with these; else see `RULES`, `PACE` and `DISK`
lead m1 4 [by=20] [measured|measures]
                              at a site: the next round, from this model, of this number, ends at
                              20; who trains measures first, or nobody trains
call off because              at a site: nobody wants it any more, and why
model m1 [chunk=1024]         the model of this digest can be fetched, in chunks of so many bytes
come ann [session=..] [task=..] [wire=..] [willing=train,evaluate,describe] [draws=1]
leave ann [session=..]
update ann 1 [base=m0] [fingerprint=f] [fault=..] [run=r]
evaluation ann 1 [base=m0] [fault=..] [run=r]
decline ann 1 because [run=r]
bar ann in quarantine         it is not to be invited nor waited for, and why
unbar ann                     it may be invited again
announce ann 1 [fault=..] [run=r]   may I send an answer that is too large for one message?
stored ann 1 [bob 1 ..]       with a slow disk: these answers would survive a loss of power now
lost ann 1 [bob 1 ..]         so they would not, ever: who held these accepted answers is gone
written ann 1                 so they would, but the machine has not been told
noted                         who declined and who was refused is on that disk too
at 30                         time passes, and each alarm rings on its way
ring                          an alarm that nobody set
crash                         the coordinator is killed
resume [deaf] [late=discard]  and started again, knowing what had been written, with a link or not,
                              and with other rules
order 1 pause [models=0,3]    an operator's order of that name: pause, resume, stop, rollback 3 or
                              invite ann; the rounds whose models are kept are 0 and 3
link down                     nobody can be heard any more
link up                       who is there will be heard
offer                         what the offer board says now, should the broker have lost it
show                          the state

With `by_sortition=1` these draw for round 1 from model m0, to train and to evaluate:

bob 0.003  fay 0.039  ann 0.130  kim 0.152  dan 0.154  pam 0.398  eve 0.509  gus 0.534  nat 0.906
    0.927      0.970      0.588      0.186      0.011      0.960      0.964      0.339      0.715

Without `slow_disk=1` all is on the disk, and the machine is told, in the moment in which it comes.
"""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator import rounds
from coordinator.concurrency import Places
from coordinator.orders import Order
from coordinator.pacing import Bounds
from coordinator.roster import Roster
from coordinator.rounds import Named
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import (
    EVERYBODY,
    WIRE_VERSION,
    ModelRef,
    Offer,
    OrderKind,
    Presence,
    Receipt,
    TimeLeft,
)
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId, RunId
from tests.coordinator.remembered import Remembered
from tests.scripts import run, stories

RULES: dict[str, Any] = {
    "rounds": 0,
    "cohort": 2,
    "away_grace_s": 10.0,
    "evaluate_every": 0,
    # How large the fleet is concerns one story.
    "returns_per_s": math.inf,
    "task": "digits",
    "run": "r",
}

PACE = {"over_selection": 1.0, "deadline_s": 30.0}
"""Fixed, where `over_selection_max` and its like do not give it room."""

DISK = {"slow_disk": 0}


class Table:
    """The round machine, the clock, the alarm and the disk of one story."""

    def __init__(self) -> None:
        self.alarm: float | None = None
        self._begin({})

    def obey(self, line: str) -> list[str]:
        words = [word for word in shlex.split(line) if "=" not in word]
        options = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
        match words:
            case ["rules"]:
                return self._begin(options)
            case ["at", moment]:
                return self._wait(float(moment))
            case ["crash"]:
                self.alarm = None
                return []
            case ["resume", *deaf]:
                return self._resume(options, is_deaf=bool(deaf))
            case ["written", *answers]:
                return self._write(named(answers))
            case ["noted"]:
                self.remembered.write_refusals(self.state)
                return []
            case ["stored", *answers]:
                return self._write(named(answers)) + self._tell(self._stored(named(answers)))
            case ["lost", *answers]:
                return self._tell(rounds.Lost(self.now, named(answers)))
            case ["offer"]:
                return self._offer()
            case ["show"]:
                return show(self.state)
            case _:
                return self._tell(self._event(words, options))

    def _begin(self, options: dict[str, str]) -> list[str]:
        knobs = RULES | {knob: parsed(knob, value) for knob, value in options.items()}
        limits = {limit: knobs.pop(limit) for limit in [*knobs] if limit in BOUNDS}
        disk = {choice: knobs.pop(choice) for choice in [*knobs] if choice in DISK}
        self.rules = rounds.Rules(select=first_of_all, pace=bounds(limits), **knobs)
        self.slow_disk = bool((DISK | disk)["slow_disk"])
        self.roster = Roster(self.rules.task, by_sortition=self.rules.by_sortition)
        self.roster.participations.most = self.rules.participations_max
        self.state: rounds.State = rounds.begin(self.rules)
        self.remembered = Remembered()
        self.now = 0.0
        self.alarm = None
        self.sessions: dict[str, str] = {}
        return []

    def _event(self, words: list[str], options: dict[str, str]) -> rounds.Event:
        at, run_id = self.now, RunId(options.get("run", "r"))
        base, fault = options.get("base", "m0"), options.get("fault", "")
        match words:
            case ["model", digest]:
                return rounds.ModelReady(at, model(digest, int(options.get("chunk", 1024))))
            case ["come", client]:
                return rounds.ClientCame(at, ClientId(client), self._presence(client, options))
            case ["leave", client]:
                session = options.get("session", self.sessions.get(client, ""))
                return rounds.ClientLeft(at, ClientId(client), session)
            case ["announce", client, number]:
                return rounds.AnnounceCame(
                    at, ClientId(client), run_id, RoundId(int(number)), fault
                )
            case ["update", client, number]:
                fingerprint = options.get("fingerprint", "f")
                return rounds.UpdateCame(
                    at, ClientId(client), run_id, RoundId(int(number)), base, fingerprint, fault
                )
            case ["evaluation", client, number]:
                return rounds.EvaluationCame(
                    at, ClientId(client), run_id, RoundId(int(number)), base, fault
                )
            case ["decline", client, number, *reason]:
                return rounds.Declined(
                    at, ClientId(client), run_id, RoundId(int(number)), " ".join(reason)
                )
            case ["bar", client, *why]:
                return rounds.Barred(at, ClientId(client), " ".join(why))
            case ["unbar", client]:
                return rounds.Unbarred(at, ClientId(client))
            case ["order", token, what, *whom]:
                kept = tuple(RoundId(int(one)) for one in options.get("models", "0").split(","))
                return rounds.OrderCame(at, order(token, what, *whom), kept)
            case ["link", "down"]:
                return rounds.LinkDown(at)
            case ["link", "up"]:
                return rounds.LinkUp(at)
            case ["lead", digest, number, *what]:
                lead = rounds.Lead(
                    round=RoundId(int(number)),
                    closes_by=float(options.get("by", "inf")),
                    trains="measures" not in what,
                    measures="measured" in what,
                )
                return rounds.LeadCame(at, model(digest), lead)
            case ["call", "off", *why]:
                return rounds.CalledOff(at, " ".join(why))
            case ["ring"]:
                return rounds.Woke(at)
            case _:
                raise ValueError(words)

    def _presence(self, client: str, options: dict[str, str]) -> Presence:
        self.sessions[client] = options.get("session", f"{client}-1")
        willing = options.get("willing", "train,evaluate")
        return Presence(
            wire=int(options.get("wire", WIRE_VERSION)),
            online=True,
            session=self.sessions[client],
            task=options.get("task", "digits"),
            purposes=tuple(p for p in ("train", "evaluate") if p in willing),
            draws=options.get("draws", "1") == "1",
            describes="describe" in willing,
        )

    def _tell(self, event: rounds.Event) -> list[str]:
        self.remembered.prepare(event, self.state, self.rules)
        self.state, effects = rounds.step(self.state, event, self.rules, self.roster)
        for effect in effects:
            self.remembered.perform(effect, self.state, self.roster)
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
        self.remembered.write_orders(self.state)
        told = [line for effect in effects for line in tell(effect)]
        return told if self.slow_disk else told + self._keep_up()

    def _keep_up(self) -> list[str]:
        self.remembered.write_refusals(self.state)
        if not (written := tuple(self.remembered.on_the_way)):
            return []
        return self._write(written) + self._tell(self._stored(written))

    def _stored(self, answers: tuple[Named, ...]) -> rounds.Stored:
        return rounds.Stored(self.now, answers)

    def _write(self, answers: Sequence[Named]) -> list[str]:
        left_s = None
        if isinstance(self.state, rounds.Collecting):
            left_s = max(0.0, self.state.closes_at - self.now)
        self.remembered.write(answers, left_s)
        return []

    def _offer(self) -> list[str]:
        assert isinstance(self.state, rounds.Collecting)
        said = rounds.offer(self.state, self.now, self.rules, self.roster)
        return tell(Publish(OfferBoard(), said))

    def _resume(self, changed: dict[str, str], *, is_deaf: bool) -> list[str]:
        knobs: dict[str, Any] = {knob: parsed(knob, value) for knob, value in changed.items()}
        self.rules = replace(self.rules, **knobs)
        self.roster = Roster(self.rules.task, by_sortition=self.rules.by_sortition)
        self.roster.participations.most = self.rules.participations_max
        self.state = self.remembered.resume(self.now, self.rules, self.roster)
        told = show(self.state)
        if is_deaf:
            return told
        # As the service does: the model is published again, and then everybody is heard.
        told += self._tell(rounds.ModelReady(self.now, model(self.remembered.disk.model)))
        return told + self._tell(rounds.LinkUp(self.now))

    def _wait(self, moment: float) -> list[str]:
        told: list[str] = []
        while self.alarm is not None and self.alarm <= moment:
            assert len(told) < 500, "the alarm does not stop ringing"
            self.now, self.alarm = max(self.now, self.alarm), None
            told += [f"{line} (at {self.now:g})" for line in self._tell(rounds.Woke(self.now))]
        self.now = moment
        return told


def first_of_all(candidates: Sequence[ClientId], count: int, *_: object) -> tuple[ClientId, ...]:
    assert count <= len(candidates)
    return tuple(candidates[:count])


def bounds(limits: dict[str, float]) -> Bounds:
    start = PACE | limits
    over_selection, deadline_s = start["over_selection"], start["deadline_s"]
    return Bounds(
        over_selection=over_selection,
        over_selection_min=limits.get("over_selection_min", over_selection),
        over_selection_max=limits.get("over_selection_max", over_selection),
        deadline_s=deadline_s,
        deadline_min_s=limits.get("deadline_min_s", deadline_s),
        deadline_max_s=limits.get("deadline_max_s", deadline_s),
    )


BOUNDS = tuple(Bounds.__slots__)

DEFAULTS = {
    knob: getattr(
        rounds.Rules(select=first_of_all, rounds=0, cohort=1, pace=bounds({}), run=RunId("r")), knob
    )
    for knob in rounds.Rules.__slots__
}


def parsed(knob: str, value: str) -> Any:
    if knob == "by_sortition":
        return value == "1"
    return float(value) if knob in BOUNDS else type((DEFAULTS | DISK)[knob])(value)


def named(words: list[str]) -> tuple[Named, ...]:
    pairs = zip(words[::2], words[1::2], strict=True)
    return tuple(Named(ClientId(client), RoundId(int(number))) for client, number in pairs)


def model(digest: str, chunk_bytes: int = 1024) -> ModelRef:
    return ModelRef(digest=Digest(digest), size_bytes=8, chunk_bytes=chunk_bytes, fingerprint="f")


def tell(effect: rounds.Effect) -> list[str]:
    """One effect in few words. Notes are for the log, and their wording is nobody's promise."""
    match effect:
        case Publish(OfferBoard(), None):
            return ["withdraw the offer"]
        case Publish(OfferBoard(), Offer() as offer):
            return [tell_offer(offer)]
        case Publish(Inbox(client), Receipt() as receipt):
            return [tell_receipt(client, receipt)]
        case Publish(Inbox(client), TimeLeft(run="r", round=number, closes_in_s=left)):
            return [f"time left {client} {number}: {left:g} s"]
        case rounds.Admit(client, number):
            return [f"let {client} send {number}"]
        case rounds.Accept(client, number):
            return [f"fold {client} {number}"]
        case rounds.AcceptEvaluation(client, number):
            return [f"count {client} {number}"]
        case rounds.Hold(client, number):
            return [f"hold {client} {number}"]
        case rounds.Blame(client):
            return [f"blame {client}"]
        case rounds.Invite(number, clients):
            return [f"invite {names(clients)} to {number} too"]
        case rounds.Remind(number, clients):
            return [f"remind {names(clients)} of {number}"]
        case rounds.Shut(number, clients):
            return [f"shut {number} with {names(clients)}"]
        case rounds.Close():
            return [close(effect)]
        case rounds.Answer(obeyed, is_new, _):
            told = "" if obeyed.done else "not done: "
            return [f"answer {obeyed.token}{'' if is_new else ' again'}: {told}{obeyed.result}"]
        case rounds.GoBack(number, dropped):
            late = ", ".join(f"{one.client} {one.round}" for one in dropped)
            return [f"go back to {number}{f', without {late}' if late else ''}"]
        case rounds.Finish():
            return ["finish"]
        case WakeAt(at):
            return [f"wake at {at:g}"]
        case Note():
            return []
        case _:
            raise AssertionError(effect)


def order(token: str, what: str, *whom: str) -> Order:
    """An operator's, with the rest of the words."""
    kind = msgspec.convert(what, OrderKind)
    made = Order(token=token, operator="carol", at="noon", what=kind)
    match kind, whom:
        case "rollback", [number]:
            return replace(made, round=RoundId(int(number)))
        case "invite", [client]:
            return replace(made, client=ClientId(client))
        case _:
            return made


def tell_offer(offer: Offer) -> str:
    assert offer.run == "r"
    told = f"offer {offer.round} from {offer.model.digest} for {offer.closes_in_s:g} s:"
    trains = "describe" if offer.describes else "train"
    told += f" {trains} {names(offer.train)}, evaluate {names(offer.evaluate)}"
    if offer.model.chunk_bytes != 1024:
        told += f", in chunks of {offer.model.chunk_bytes}"
    if offer.epoch:
        told += f", epoch {offer.epoch}"
    if (drawn := offer.sortition) is not None:
        train, evaluate = drawn.train / EVERYBODY, drawn.evaluate / EVERYBODY
        told += f", by {drawn.salt} below {train:.3f} and {evaluate:.3f}"
    if offer.spread_s:
        told += f", return within {offer.spread_s:g} s"
    return told


def tell_receipt(client: ClientId, receipt: Receipt) -> str:
    told = f"receipt {client} {receipt.round}"
    if receipt.run != "r":
        told += f" of {receipt.run}"
    told += " accepted" if receipt.accepted else f" refused: {receipt.reason}"
    if receipt.next_round_in_s:
        told += f", the next round in {receipt.next_round_in_s:g} s"
    return told


def close(done: rounds.Close) -> str:
    told = f"close {done.round} {done.outcome}, {done.reason}: answered {names(done.answered)}"
    for what, clients in [
        ("evaluated", done.evaluated),
        ("declined", done.declined),
        ("rejected", done.rejected),
        ("surplus", done.surplus),
        ("dropped", done.dropped),
    ]:
        if clients:
            told += f", {what} {names(clients)}"
    if done.held:
        told += f", with late {answers(done.held)}"
    return told


def names(clients: Iterable[ClientId]) -> str:
    return " ".join(sorted(clients)) or "nobody"


def at_work(places: Places) -> str:
    return ", ".join(f"{client} {place.round}" for client, place in sorted(places.items()))


def answers(named: Iterable[Named]) -> str:
    return ", ".join(f"{one.client} {one.round}" for one in named)


def show(state: rounds.State) -> list[str]:
    past = state.past
    told = doing(state)
    if past.held:
        told += f", holding {answers(past.held)}"
    if past.storing:
        told += f", storing {answers(sorted(past.storing, key=lambda one: one.client))}"
    if past.at_work:
        told += f", at work {at_work(past.at_work)}"
    if past.late:
        told += f", {past.late} late"
    return [told]


def doing(state: rounds.State) -> str:
    match state:
        case rounds.Waiting(round_id, model=ref):
            return f"waiting for round {round_id} with {ref.digest if ref else 'no model'}"
        case rounds.Collecting():
            away = ", ".join(f"{c} since {at:g}" for c, at in sorted(state.away.items()))
            told = f"collecting round {state.round}: owing {names(state.outstanding)}"
            return told + (f", away {away}" if away else "")
        case rounds.Averaging(round_id):
            return f"averaging before round {round_id}"
        case rounds.Finished():
            return "finished"


@pytest.mark.parametrize("path", stories(Path(__file__).parent), ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    run(path, Table().obey, rewrite=request.config.getoption("--rewrite"))
