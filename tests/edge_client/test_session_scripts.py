"""Stories of one client's session, each in a file of its own in `scripts/`. The client is ann.

rules does=train resend_s=20 resend_max_s=60 outbox=1000 leave=30    starts anew with these
      at_least=trusted floor_min=9 epsilon_max=4 noise_min=1 accept=g knows=nobody
start 3 4 [remembers=1] [trains=f] [told=1]    with the answers to these rounds in the outbox, and
                              with what the life before had told
connect t1 [chunk=1000]       a connection of this token
disconnect, disconnect thrown out, disconnect taken over
offer 1 train [epoch=0] [model=m0] [size=8] [chunk=1024] [closes=60] [expires=..] [task=..]
                              [wire=..] [lanes=..]
                              [late=0] [spread=0] [drawn=train,evaluate] [asynchronous=0]
                              [masked=trusted] [floor=3] [noise=0] [built=f]
                              [rate=1e-30], of which the digest that is signed says nothing
offer 1 train lies            it lay there before this connection
offer 1 evaluate, offer 1 both, offer 1 describe, offer 1 others
withdraw                      the offer board is empty
fetched m0
finished 1 [size=100] [remembers=1]
failed 1 because
receipt 1 accepted [next=40], receipt 1 refused [reason=.. blamed=1]
go a1 0-3 7-8                 send these chunks of the answer to round 1
left 1 12                     the round closes in 12 s
gone 1 because                the answer to round 1 cannot be read any more
trouble because
presence t1 online            what the broker keeps as ann's presence
conditions on battery, conditions fine
at 30                         time passes, and each alarm rings on its way
ring                          an alarm that nobody set

What is said of a round is of the run `r`, unless `run=s` says otherwise; s/1 is round 1 of run s.
The answer to round 1 is a1, and that to s/1 is s1.
"""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from edge_client import session
from edge_client.disclosed import NOTHING, Disclosed
from fedmqtt import offered_work
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import (
    ALL_PURPOSES,
    EVERYBODY,
    PURPOSES,
    WIRE_VERSION,
    Announce,
    Decline,
    Go,
    Masking,
    ModelRef,
    Offer,
    Presence,
    Receipt,
    Sortition,
    TimeLeft,
    Training,
)
from fedmqtt.topics import ClientId, Digest, PresenceOf, RoundId, RunId, UpdatePart
from tests.edge_client.masks import masking, terms, trusted
from tests.scripts import run, stories

ANN = ClientId("ann")
BOB = ClientId("bob")
CHUNK = 1024
_MASKS = {"no": None, "trusted": trusted(), "keyholders": masking(), "others": masking(floor=9)}


class Table:
    """Ann's machine, her clock and her alarm."""

    def __init__(self) -> None:
        self.state = session.Session()
        self._begin({})

    def obey(self, line: str) -> list[str]:
        words = [word for word in shlex.split(line) if "=" not in word]
        options = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
        match words:
            case ["rules"]:
                return self._begin(options)
            case ["at", moment]:
                return self._wait(float(moment))
            case _:
                return self._tell(event(self.now, words, options, self.told))

    def _begin(self, options: dict[str, str]) -> list[str]:
        does = options.get("does", "train,evaluate")
        asked = terms(
            at_least=options.get("at_least", "plain"),
            floor_min=int(options.get("floor_min", 0)),
            epsilon_max=float(options.get("epsilon_max", 0)),
            noise_min=float(options.get("noise_min", 0)),
            accept_model=options.get("accept", ""),
        )
        if options.get("knows") == "nobody":
            asked = replace(asked, pinned={})
        willing = tuple(purpose for purpose in ALL_PURPOSES if purpose in does)
        self.rules = session.Rules(
            client=ANN,
            task="digits",
            purposes=willing,
            resend_s=float(options.get("resend_s", 20)),
            resend_max_s=float(options.get("resend_max_s", 60)),
            outbox_bytes_max=int(options.get("outbox", 1000_000)),
            leave_from_s=float(options.get("leave", 0)),
            terms=asked,
        )
        self.told = self.state.told
        """By the life before."""
        self.state = session.Session()
        self.now = 0.0
        self.alarm: float | None = None
        return []

    def _tell(self, happened: session.Event) -> list[str]:
        self.state, effects = session.step(self.state, happened, self.rules)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
        return [told for effect in effects for told in tell(effect)]

    def _wait(self, moment: float) -> list[str]:
        told: list[str] = []
        while self.alarm is not None and self.alarm <= moment:
            assert len(told) < 500, "the alarm does not stop ringing"
            self.now, self.alarm = max(self.now, self.alarm), None
            told += [f"{line} (at {self.now:g})" for line in self._tell(session.Woke(self.now))]
        self.now = moment
        return told


def event(
    at: float, words: list[str], options: dict[str, str], told: Disclosed = NOTHING
) -> session.Event:
    run = RunId(options.get("run", "r"))
    match words:
        case ["start", *numbers]:
            found = tuple(answer(run, int(n)) for n in numbers)
            remembering = found if "remembers" in options else ()
            trains = options.get("trains", "")
            told = told if "told" in options else NOTHING
            goes_on = (run, RoundId(int(options["goes_on"]))) if "goes_on" in options else None
            return session.Started(at, found, remembering, trains, told, goes_on=goes_on)
        case ["connect", token]:
            return session.Connected(at, token, int(options.get("chunk", 1000)))
        case ["disconnect"]:
            return session.Disconnected(at)
        case ["disconnect", "taken", "over"]:
            return session.Disconnected(at, thrown_out=True, taken_over=True)
        case ["disconnect", "thrown", "out"]:
            return session.Disconnected(at, thrown_out=True)
        case ["offer", number, purpose, *lies]:
            expires = float(options["expires"]) if "expires" in options else None
            said = offer(int(number), purpose, options)
            return session.Offered(at, said, expires, retained=bool(lies))
        case ["withdraw"]:
            return session.OfferWithdrawn(at)
        case ["fetched", digest]:
            return session.ModelFetched(at, Digest(digest))
        case ["finished", number]:
            made = answer(run, int(number), int(options.get("size", 100)))
            return session.Finished(at, made, remembers="remembers" in options)
        case ["found", number]:
            return session.Found(at, answer(run, int(number)))
        case ["failed", number, *reason]:
            return session.Failed(at, run, RoundId(int(number)), " ".join(reason))
        case ["receipt", number, outcome]:
            receipt = Receipt(
                run=run,
                round=RoundId(int(number)),
                accepted=outcome == "accepted",
                reason=options.get("reason", ""),
                blamed="blamed" in options,
                next_round_in_s=float(options.get("next", 0)),
            )
            return session.Received(at, receipt)
        case ["go", digest, *spans]:
            return session.Received(at, go(run, digest, spans))
        case ["left", number, seconds]:
            left = TimeLeft(run=run, round=RoundId(int(number)), closes_in_s=float(seconds))
            return session.Received(at, left)
        case ["gone", number, *reason]:
            return session.AnswerGone(at, answer(run, int(number)), " ".join(reason))
        case ["trouble", *what]:
            return session.Troubled(at, " ".join(what))
        case ["presence", token, there]:
            seen = Presence(online=there == "online", session=token)
            return session.PresenceSeen(at, seen)
        case ["conditions", *hindrance]:
            return session.ConditionsChanged(
                at, "" if hindrance == ["fine"] else " ".join(hindrance)
            )
        case ["ring"]:
            return session.Woke(at)
        case _:
            raise ValueError(words)


def answer(run: RunId, number: int, size_bytes: int = 100) -> session.Answer:
    name = "a" if run == "r" else run
    return session.Answer(run, RoundId(number), Digest(f"{name}{number}"), size_bytes)


def offer(number: int, purpose: str, options: dict[str, str]) -> Offer:
    said = Offer(
        wire=int(options.get("wire", WIRE_VERSION)),
        epoch=int(options.get("epoch", 0)),
        run=RunId(options.get("run", "r")),
        round=RoundId(number),
        task=options.get("task", "digits"),
        model=ModelRef(
            digest=Digest(options.get("model", "m0")),
            size_bytes=int(options.get("size", 8)),
            chunk_bytes=int(options.get("chunk", CHUNK)),
            fingerprint=options.get("built", "f"),
        ),
        sortition=drawn(options["drawn"]) if "drawn" in options else None,
        train=(ANN, BOB) if purpose in ("train", "both", "describe") else (BOB,),
        evaluate=(ANN,) if purpose in ("evaluate", "both") else (),
        describes=purpose == "describe",
        closes_in_s=float(options.get("closes", 60)),
        training=Training(),
        codec="full",
        lanes=int(options.get("lanes", 1)),
        seed=0,
        late_rounds=int(options.get("late", 0)),
        spread_s=float(options.get("spread", 0)),
        asynchronous=options.get("asynchronous") == "1",
        masking=masked(options),
    )
    said = offered_work.stamped(said)
    if "rate" in options:
        training = structs.replace(said.training, learning_rate=float(options["rate"]))
        said = structs.replace(said, training=training)
    return said


def masked(options: dict[str, str]) -> Masking | None:
    usual = _MASKS[options.get("masked", "no")]
    if usual is None:
        return None
    noise = float(options.get("noise", 0))
    floor = int(options.get("floor", usual.floor))
    promised = {"noise": noise, "norm_max": 1.0, "norm_steps": 1000} if noise else {}
    return structs.replace(usual, floor=floor, **promised)


def drawn(purposes: str) -> Sortition:
    train, evaluate = (EVERYBODY if p in purposes else 0 for p in PURPOSES)
    return Sortition(salt="s", train=train, evaluate=evaluate)


def go(run: RunId, digest: str, spans: list[str]) -> Go:
    ranges = tuple((int(start), int(stop)) for start, stop in (s.split("-") for s in spans))
    return Go(run=run, round=RoundId(int(digest[1:])), digest=Digest(digest), ranges=ranges)


def name(run: RunId, number: RoundId) -> str:
    return str(number) if run == "r" else f"{run}/{number}"


def tell(effect: session.Effect) -> list[str]:
    """One effect in few words. Notes are for the log, and their wording is nobody's promise."""
    match effect:
        case Publish(PresenceOf(), Presence(session=token, note=note) as said):
            purposes = [purpose for purpose in ALL_PURPOSES if said.would(purpose)]
            able = f"will {' and '.join(purposes)}" if purposes else "will do nothing"
            return [f"say here as {token}, {able}" + (f" ({note})" if note else "")]
        case Publish(UpdatePart(lane, _, number, _), Decline(run=run, reason=reason)):
            return [f"decline {name(run, number)} on lane {lane}: {reason}"]
        case Publish(UpdatePart(lane, _, number, part), Announce(run=run) as told):
            what = f"{part} {told.digest} for {name(run, number)}"
            return [f"{what} on lane {lane} in chunks of {told.chunk_bytes}"]
        case session.Fetch(run, number, ref):
            size = "" if ref.chunk_bytes == CHUNK else f" in chunks of {ref.chunk_bytes}"
            return [f"fetch {ref.digest} for {name(run, number)}{size}"]
        case session.Work(offered, purpose):
            return [f"{purpose} for {name(offered.run, offered.round)} from {offered.model.digest}"]
        case session.Stop(run, number):
            return [f"stop {name(run, number)}"]
        case session.Send(owed, lane):
            return [f"send {owed.digest} on lane {lane}"]
        case session.SendChunks(owed, lane, ranges, chunk):
            parts = " ".join(f"{start}-{stop}" for start, stop in ranges)
            return [f"send {owed.digest} on lane {lane}, chunks {parts} of {chunk}"]
        case session.Forget(owed):
            return [f"forget {owed.digest}"]
        case session.Leave(back_at):
            return [f"leave, to be back by {back_at:g}"]
        case WakeAt(at):
            return [f"wake at {at:g}"]
        case Note():
            return []
        case _:
            raise AssertionError(effect)


@pytest.mark.parametrize("path", stories(Path(__file__).parent), ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    run(path, Table().obey, rewrite=request.config.getoption("--rewrite"))
