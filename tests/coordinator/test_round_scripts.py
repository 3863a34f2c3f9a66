"""Stories of rounds, each in a file of its own in `scripts/`.

rules quorum=2 pause_s=5      starts anew with these; else see `RULES`
model m1                      the model of this digest can be fetched
come ann [session=..] [task=..] [wire=..] [willing=train,evaluate]
leave ann [session=..]
update ann 1 [base=m0] [fingerprint=f] [fault=..]
evaluation ann 1 [base=m0] [fault=..]
decline ann 1 because
announce ann 1 [fault=..]     may I send an answer that is too large for one message?
at 30                         time passes, and each alarm rings on its way
ring                          an alarm that nobody set
show                          the state
"""

import shlex
from pathlib import Path
from typing import Any

import pytest

from coordinator import rounds
from coordinator.roster import Roster
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import WIRE_VERSION, ModelRef, Offer, Presence, Receipt, TimeLeft
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId
from tests.scripts import run, stories

RULES: dict[str, Any] = {
    "rounds": 0,
    "cohort": 2,
    "over_selection": 1.0,
    "deadline_s": 30.0,
    "away_grace_s": 10.0,
    "evaluate_every": 0,
    "task": "digits",
    "run": "r",
}


class Table:
    """The round machine, the clock and the alarm of one story."""

    def __init__(self) -> None:
        self._begin({})

    def obey(self, line: str) -> list[str]:
        words = [word for word in shlex.split(line) if "=" not in word]
        options = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
        match words:
            case ["rules"]:
                return self._begin(options)
            case ["at", moment]:
                return self._wait(float(moment))
            case ["show"]:
                return show(self.state)
            case _:
                return self._tell(self._event(words, options))

    def _begin(self, options: dict[str, str]) -> list[str]:
        knobs = RULES | {knob: type(DEFAULTS[knob])(value) for knob, value in options.items()}
        self.rules = rounds.Rules(select=first_of_all, **knobs)
        self.roster = Roster(self.rules.task)
        self.state: rounds.State = rounds.Waiting(RoundId(1))
        self.now = 0.0
        self.alarm: float | None = None
        self.sessions: dict[str, str] = {}
        return []

    def _event(self, words: list[str], options: dict[str, str]) -> rounds.Event:
        at = self.now
        match words:
            case ["model", digest]:
                return rounds.ModelReady(at, model(digest))
            case ["come", client]:
                return rounds.ClientCame(at, ClientId(client), self._presence(client, options))
            case ["leave", client]:
                session = options.get("session", self.sessions.get(client, ""))
                return rounds.ClientLeft(at, ClientId(client), session)
            case ["announce", client, number]:
                fault = options.get("fault", "")
                return rounds.AnnounceCame(at, ClientId(client), RoundId(int(number)), fault)
            case ["update", client, number]:
                return rounds.UpdateCame(
                    at,
                    ClientId(client),
                    RoundId(int(number)),
                    options.get("base", "m0"),
                    options.get("fingerprint", "f"),
                    options.get("fault", ""),
                )
            case ["evaluation", client, number]:
                return rounds.EvaluationCame(
                    at,
                    ClientId(client),
                    RoundId(int(number)),
                    options.get("base", "m0"),
                    options.get("fault", ""),
                )
            case ["decline", client, number, *reason]:
                return rounds.Declined(at, ClientId(client), RoundId(int(number)), " ".join(reason))
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
        )

    def _tell(self, event: rounds.Event) -> list[str]:
        self.state, effects = rounds.step(self.state, event, self.rules, self.roster)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
        return [told for effect in effects for told in tell(effect)]

    def _wait(self, moment: float) -> list[str]:
        told: list[str] = []
        while self.alarm is not None and self.alarm <= moment:
            assert len(told) < 500, "the alarm does not stop ringing"
            self.now, self.alarm = max(self.now, self.alarm), None
            told += [f"{line} (at {self.now:g})" for line in self._tell(rounds.Woke(self.now))]
        self.now = moment
        return told


def first_of_all(
    candidates: Any, count: int, _round: RoundId, _purpose: str
) -> tuple[ClientId, ...]:
    return tuple(candidates[:count])


DEFAULTS = {
    knob: getattr(rounds.Rules(select=first_of_all, rounds=0, cohort=1), knob)
    for knob in rounds.Rules.__slots__
}


def model(digest: str) -> ModelRef:
    return ModelRef(digest=Digest(digest), size_bytes=8, chunk_bytes=1024, fingerprint="f")


def tell(effect: rounds.Effect) -> list[str]:
    """One effect in few words. Notes are for the log, and their wording is nobody's promise."""
    match effect:
        case Publish(OfferBoard(), None):
            return ["withdraw the offer"]
        case Publish(OfferBoard(), Offer() as offer):
            asked = f"train {names(offer.train)}, evaluate {names(offer.evaluate)}"
            base, left = offer.model.digest, offer.closes_in_s
            return [f"offer {offer.round} from {base} for {left:g} s: {asked}"]
        case Publish(Inbox(client), Receipt(round=number, accepted=True)):
            return [f"receipt {client} {number} accepted"]
        case Publish(Inbox(client), Receipt(round=number, reason=reason)):
            return [f"receipt {client} {number} refused: {reason}"]
        case Publish(Inbox(client), TimeLeft(round=number, closes_in_s=left)):
            return [f"time left {client} {number}: {left:g} s"]
        case rounds.Admit(client, number):
            return [f"let {client} send {number}"]
        case rounds.Accept(client, number):
            return [f"fold {client} {number}"]
        case rounds.AcceptEvaluation(client, number):
            return [f"count {client} {number}"]
        case rounds.Close():
            return [close(effect)]
        case rounds.Finish():
            return ["finish"]
        case WakeAt(at):
            return [f"wake at {at:g}"]
        case Note():
            return []
        case _:
            raise AssertionError(effect)


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
    return told


def names(clients: Any) -> str:
    return " ".join(sorted(clients)) or "nobody"


def show(state: rounds.State) -> list[str]:
    match state:
        case rounds.Waiting(round_id, ref):
            return [f"waiting for round {round_id} with {ref.digest if ref else 'no model'}"]
        case rounds.Collecting():
            away = ", ".join(f"{c} since {at:g}" for c, at in sorted(state.away.items()))
            told = f"collecting round {state.round}: owing {names(state.outstanding)}"
            return [told + (f", away {away}" if away else "")]
        case rounds.Averaging(round_id):
            return [f"averaging before round {round_id}"]
        case rounds.Finished(late=late):
            return [f"finished, {late} late"]


@pytest.mark.parametrize("path", stories(Path(__file__).parent), ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    run(path, Table().obey, rewrite=request.config.getoption("--rewrite"))
