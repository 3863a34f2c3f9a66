"""A quiet fleet of any size, simulated: the coordinator's round machine, and clients of which only
those that are drawn need one.

Who is not drawn says nothing, so nothing of it is simulated but its draw: a hash for each client
and round, half a second for a million. Who is drawn is there with some chance, waits for its turn
as its agent would, works for a while, and answers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from heapq import heappop, heappush
from random import Random

from coordinator import fleet_size, rounds
from coordinator.pacing import Bounds
from coordinator.roster import Roster
from coordinator.rounds import Close, Collecting, Named, Rules
from fedmqtt import messages, sortition
from fedmqtt.effects import Publish, Seconds, WakeAt
from fedmqtt.messages import ModelRef, Offer
from fedmqtt.topics import ClientId, Digest, OfferBoard, RoundId, RunId

RUN = RunId("quiet")
_KIND = "linear-0000000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Of clients that are alike."""

    clients: Sequence[ClientId]
    there: Callable[[RoundId], float]
    """Which share of those that are drawn for a round can answer."""
    works_s: Seconds = 60.0
    """The median of how long an answer takes, from its client's turn on."""
    sigma: float = 0.5
    """Of the logarithm of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSeen:
    """What a round was, as nobody sees it but here."""

    round: RoundId
    outcome: str
    drawn: int
    able: int
    """Of those: who can answer."""
    begun: int
    """Of those: whose turn came before the round closed."""
    answered: int
    duration_s: Seconds
    offer_bytes: int
    expected: fleet_size.Estimate
    """How many would answer, as it was believed when the round opened."""


def rules(declared: int, cohort: int, count: int, deadline_s: Seconds = 600.0) -> Rules:
    bounds = Bounds(
        over_selection=1.3,
        over_selection_min=1.3,
        over_selection_max=2.0,
        deadline_s=deadline_s,
        deadline_min_s=deadline_s,
        deadline_max_s=deadline_s,
    )
    return Rules(
        select=_nobody,
        by_sortition=True,
        fleet=declared,
        rounds=count,
        cohort=cohort,
        pace=bounds,
        quorum=max(1, cohort // 2),
        evaluate_every=0,
        run=RUN,
        task="linear",
    )


def simulate(fleet: Fleet, rules: Rules, seed: int = 0) -> Iterator[RoundSeen]:
    """Each round of a run, as it closes."""
    roster = Roster(rules.task, by_sortition=True)
    state: rounds.State = rounds.begin(rules)
    chance, now = Random(f"quiet/{seed}"), 0.0
    due: list[tuple[Seconds, int, rounds.Event]] = [(now, 0, rounds.ModelReady(now, _model(0)))]
    count = 0
    opened: _Opened | None = None
    while due and not isinstance(state, rounds.Finished):
        now, _, event = heappop(due)
        events = [event]
        while events:
            state, effects = rounds.step(state, events.pop(0), rules, roster)
            for effect in effects:
                count += 1
                match effect:
                    case Publish(OfferBoard(), Offer() as offer):
                        assert isinstance(state, Collecting)
                        opened = _open(fleet, state, offer, chance)
                        for moment, answer in opened.answers:
                            count += 1
                            heappush(due, (now + moment, count, answer(now + moment)))
                    case rounds.Accept(client, number):
                        events.append(rounds.Stored(now, (Named(client, number),)))
                    case WakeAt(at):
                        heappush(due, (at, count, rounds.Woke(at)))
                    case Close():
                        assert opened is not None
                        yield opened.closed(effect)
                        # They stop when the next offer is there.
                        due = [one for one in due if not isinstance(one[2], rounds.UpdateCame)]
                        if effect.outcome == "averaged":
                            heappush(
                                due, (now, count, rounds.ModelReady(now, _model(effect.round)))
                            )
                    case _:
                        pass


@dataclass(frozen=True, slots=True)
class _Opened:
    offer: Offer
    drawn: int
    turns: list[Seconds]
    answers: list[tuple[Seconds, Callable[[Seconds], rounds.Event]]]
    expected: fleet_size.Estimate

    def closed(self, close: Close) -> RoundSeen:
        return RoundSeen(
            round=close.round,
            outcome=close.outcome,
            drawn=self.drawn,
            able=len(self.turns),
            begun=sum(turn < close.duration_s for turn in self.turns),
            answered=len(close.answered),
            duration_s=close.duration_s,
            offer_bytes=len(messages.encode(self.offer)),
            expected=self.expected,
        )


def _open(fleet: Fleet, state: Collecting, offer: Offer, chance: Random) -> _Opened:
    drawn_by = state.sortition
    assert drawn_by is not None
    draws = sortition.draws(drawn_by.salt, state.round, "train", fleet.clients)
    pairs = zip(fleet.clients, draws, strict=True)
    drawn = [client for client, its in pairs if its < drawn_by.train]
    share = fleet.there(state.round)
    turns: list[Seconds] = []
    answers: list[tuple[Seconds, Callable[[Seconds], rounds.Event]]] = []
    for client in drawn:
        if chance.random() >= share:
            continue
        turn = drawn_by.begin_s * sortition.turn(drawn_by, state.round, client)
        works_s = fleet.works_s * math.exp(fleet.sigma * chance.gauss())
        turns.append(turn)
        answers.append((turn + works_s, _answer(client, state.round, state.model)))
    return _Opened(offer, len(drawn), turns, answers, fleet_size.estimate(state.past.sizes))


def _answer(
    client: ClientId, number: RoundId, model: ModelRef
) -> Callable[[Seconds], rounds.Event]:
    return lambda at: rounds.UpdateCame(at, client, RUN, number, model.digest, model.fingerprint)


def _model(number: int) -> ModelRef:
    digest = Digest(sha256(str(number).encode()).hexdigest())
    return ModelRef(digest=digest, size_bytes=1000, chunk_bytes=1000, fingerprint=_KIND)


def _nobody(*_: object) -> tuple[ClientId, ...]:
    raise AssertionError("nobody is known of who could be selected")
