"""Stories of one coordinator and its federation's seat, each in a file in `leadership_scripts/`.

The coordinator is ann. An epoch is told as its generation and whose it is: `2/bob`. Of the same
generation, bob's is the higher epoch and eve's the lower.

rules standby=yes run=r owns_run=yes known=2/bob      starts anew with these
connect, disconnect
seat 1/bob [left] [run=..] [to=ann] [by=..]   on the seat's topic: taken, or left with last words
seat cleared
claim bob                     on the topic of claims: does anybody hold the seat?
here 1/bob [to=ann]           there, too: I do
gone 1/bob [by=..]            there, too: a will, or what somebody has heard of
offer 1/bob                   on the offer board
at 30                         time passes, and each alarm rings on its way
late 30                       time passes, and the program is stopped for as long
ring                          an alarm that nobody set
words                         what it says last if it ends now
show                          the state
"""

import shlex
from pathlib import Path

import pytest

from coordinator import leadership
from coordinator.leadership import Asking, Away, Bidding, Holding, Out, Rules
from fedmqtt import messages
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import Claim, Seat
from fedmqtt.topics import CoordinatorSeat, SeatClaim
from tests.scripts import run, stories

NAMES = ("ann", "bob", "eve")


class Table:
    """Ann's machine, her clock and her alarm."""

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
            case ["late", moment]:
                self.now = float(moment)
                return []
            case ["words"]:
                last = leadership.last_words(self.state, self.now, self.rules)
                return [told for effect in last for told in tell(effect)] or ["nothing"]
            case ["show"]:
                return [self._show()]
            case _:
                return self._tell(self._event(words, options))

    def _begin(self, options: dict[str, str]) -> list[str]:
        self.rules = Rules(
            token="ann",
            run=options.get("run", "r"),
            where="here",
            standby="standby" in options,
            owns_run="owns_run" in options,
            epoch_known=epoch(options["known"]) if "known" in options else 0,
        )
        self.state = leadership.begin()
        self.now = 0.0
        self.alarm: float | None = None
        return []

    def _event(self, words: list[str], options: dict[str, str]) -> leadership.Event:
        at = self.now
        match words:
            case ["connect"]:
                return leadership.Connected(at)
            case ["disconnect"]:
                return leadership.Disconnected(at)
            case ["seat", "cleared"]:
                return leadership.SeatSeen(at, None)
            case ["seat", whose, *left]:
                return leadership.SeatSeen(at, seat(whose, options, taken=left != ["left"]))
            case ["claim", token]:
                return leadership.ClaimSeen(at, Claim(token=token))
            case ["here", whose]:
                return leadership.ClaimSeen(at, seat(whose, options, taken=True))
            case ["gone", whose]:
                return leadership.ClaimSeen(at, seat(whose, options, taken=False))
            case ["offer", whose]:
                return leadership.OfferSeen(at, epoch(whose))
            case ["ring"]:
                return leadership.Woke(at)
            case _:
                raise ValueError(words)

    def _tell(self, event: leadership.Event) -> list[str]:
        self.state, effects = leadership.step(self.state, event, self.rules)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
        return [told for effect in effects for told in tell(effect)]

    def _wait(self, moment: float) -> list[str]:
        told: list[str] = []
        while self.alarm is not None and self.alarm <= moment:
            assert len(told) < 500, "the alarm does not stop ringing"
            self.now, self.alarm = max(self.now, self.alarm), None
            told += [f"{line} (at {self.now:g})" for line in self._tell(leadership.Woke(self.now))]
        self.now = moment
        return told

    def _show(self) -> str:
        acts = leadership.may_act(self.state, self.now, self.rules)
        match self.state.phase:
            case Holding(number):
                return f"holding {whose(number)}" + ("" if acts else ", and must not act")
            case Bidding(number):
                told = f"bidding {whose(number)}"
            case Asking(0):
                told = "standing by"
            case Asking(asked):
                told = f"asking, {asked} of {leadership.ASKS}"
            case Away():
                told = "away"
            case Out():
                told = "out"
        assert not acts
        return told


def epoch(text: str) -> int:
    """`2/bob` as a number; `0` and other numbers as they are."""
    generation, _, token = text.partition("/")
    if not token:
        return int(generation)
    return leadership.next_epoch(int(generation) * 1_000_000 - 1, token)


def whose(number: int) -> str:
    """A number as `2/bob`."""
    generation = leadership.generation(number)
    return next(f"{generation}/{n}" for n in NAMES if epoch(f"{generation}/{n}") == number)


def seat(said: str, options: dict[str, str], *, taken: bool) -> Seat:
    return Seat(
        epoch=epoch(said),
        token=options.get("by", said.rpartition("/")[2]),
        taken=taken,
        run=options.get("run", "other"),
        where="there",
        reply_to=options.get("to", ""),
    )


def tell(effect: leadership.Effect) -> list[str]:
    """One effect in few words. A note is for the log, and its wording is nobody's promise."""
    match effect:
        case Publish(CoordinatorSeat(), Seat() as said):
            taken = "seat" if said.taken else "last words"
            return [f"{taken} {whose(said.epoch)}{to(said)}"]
        case Publish(SeatClaim(), Seat(taken=True) as said):
            return [f"here {whose(said.epoch)}{to(said)}"]
        case Publish(SeatClaim(), Seat(epoch=number)):
            return [f"there has been {whose(number)}"]
        case Publish(SeatClaim(), Claim()):
            return ["claim"]
        case leadership.Take(number):
            return [f"take {whose(number)}"]
        case leadership.Confirmed():
            return ["confirmed"]
        case leadership.Refuse(by):
            return [f"refuse, because of {whose(by.epoch)}: run {by.run} {by.where}"]
        case leadership.Deposed(by):
            return [f"deposed by {whose(by.epoch)}: run {by.run} {by.where}"]
        case leadership.RepeatOffer():
            return ["repeat the offer"]
        case WakeAt(at):
            return [f"wake at {at:g}"]
        case Note(what, about):
            assert what and about
            return ["note"]
        case _:
            raise AssertionError(effect)


def to(said: Seat) -> str:
    return f" to {said.reply_to}" if said.reply_to else ""


SCRIPTS = stories(Path(__file__).parent, "leadership_scripts")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    run(path, Table().obey, rewrite=request.config.getoption("--rewrite"))


def test_there_are_stories() -> None:
    assert SCRIPTS


def test_an_epoch_is_above_all_known_ones_and_its_programs_own() -> None:
    first = leadership.next_epoch(0, "ann")
    assert leadership.generation(first) == 1
    for token in NAMES:
        following = leadership.next_epoch(first, token)
        assert following > first
        assert leadership.generation(following) == 2
    assert len({leadership.next_epoch(first, token) for token in NAMES}) == len(NAMES)


def test_generations_are_counted_in_millions() -> None:
    """By ledgers that are old and by programs of other versions, too."""
    assert leadership.generation(999_999) == 0
    assert leadership.generation(1_000_000) == 1
    assert leadership.generation(1_999_999) == 1
    assert leadership.generation(2_000_000) == 2


def test_whoever_holds_the_seat_is_believed_while_no_newer_epoch_was_heard_of() -> None:
    """Also one that counts otherwise, from 0."""
    rules = Rules(token="ann", run="r", where="here")
    state = leadership.begin()
    holder = Seat(epoch=0, token="bob", taken=True, run="other", where="there", reply_to="ann")
    for event in (
        leadership.Connected(0.0),
        leadership.SeatSeen(0.0, holder),
        leadership.ClaimSeen(0.0, Claim(token="ann")),
        leadership.ClaimSeen(0.1, holder),
    ):
        state, effects = leadership.step(state, event, rules)
    assert effects == [leadership.Refuse(holder)]
    assert state.phase == Out()


def test_a_will_tells_that_its_program_is_gone_and_in_which_epoch_it_acted() -> None:
    rules = Rules(token="ann", run="r", where="here")
    before = leadership.will(leadership.begin(), rules)
    assert before.to == SeatClaim()
    assert before.message == Seat(epoch=0, token="ann", taken=False, run="r", where="here")
    held = leadership.State(held=epoch("1/ann"))
    after = leadership.will(held, rules).message
    assert isinstance(after, Seat)
    assert after.epoch == epoch("1/ann")
    assert messages.read_among_coordinators(messages.encode(after)) == after
