"""Whatever order the network and the clients choose, a round keeps its promises.

The promises are those of the simulator (`fleet_sim/promises.py`); here hypothesis looks for the
story that breaks one, and tells the shortest it finds.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator import rounds
from coordinator.roster import Roster
from fedmqtt import messages
from fedmqtt.effects import Publish, WakeAt
from fedmqtt.messages import ModelRef, Presence
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId
from fleet_sim.promises import CoordinatorPromises, recount

NAMES = [ClientId(name) for name in ("ann", "bob", "cat", "dan", "eve")]
CLIENTS = st.sampled_from(NAMES)
SESSIONS = st.sampled_from(["1", "2"])
BASES = [Digest(digit * 64) for digit in "012345"]
FAULTS = st.sampled_from(["", "", "", "not a finite number", "x" * 2000])
PURPOSES = st.sampled_from(
    [("train", "evaluate"), ("train", "evaluate"), ("train",), ("evaluate",), ()]
)
OFTEN_GOOD = st.integers(0, 9)


class Rounds(RuleBasedStateMachine):
    """One federation; `told` hears of anything in any order, and time passes in between."""

    @initialize(
        cohort=st.integers(1, 4),
        quorum=st.integers(1, 3),
        over=st.sampled_from([1.0, 1.3, 2.0]),
        clients_min=st.integers(0, 3),
        pauses=st.sampled_from([(0.0, 0.0), (7.0, 5.0)]),
        grace=st.sampled_from([0.0, 10.0]),
        evaluate=st.sampled_from([(0, 0), (1, 0), (2, 1)]),
        count=st.sampled_from([0, 2]),
        there=st.sampled_from([5, 4, 3, 0]),
    )
    def begin(
        self,
        cohort: int,
        quorum: int,
        over: float,
        clients_min: int,
        pauses: tuple[float, float],
        grace: float,
        evaluate: tuple[int, int],
        count: int,
        there: int,
    ) -> None:
        self.knobs = rounds.Rules(
            select=lambda candidates, wanted, round_id, purpose: tuple(candidates[:wanted]),
            rounds=count,
            cohort=cohort,
            quorum=min(quorum, cohort),
            over_selection=over,
            clients_min=clients_min,
            deadline_s=30.0,
            pause_s=pauses[0],
            retry_s=pauses[1],
            away_grace_s=grace,
            evaluate_every=evaluate[0],
            evaluators=evaluate[1],
            task="digits",
        )
        self.now = 0.0
        self.alarm: float | None = None
        self.state: rounds.State = rounds.Waiting(RoundId(1))
        self.roster = Roster("digits")
        self.promises = CoordinatorPromises(self.knobs)
        self.base = 0
        for client in NAMES[:there]:
            self.come(client, "1", ("train", "evaluate"), other=9)
        self.tell(rounds.ModelReady(self.now, self.model()))

    def tell(self, event: rounds.Event) -> None:
        if isinstance(event, rounds.Woke):
            self.alarm = None
        self.state, effects = rounds.step(self.state, event, self.knobs, self.roster)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
            if isinstance(effect, Publish) and effect.message is not None:
                self.can_be_read(effect)
        self.promises.check(event, self.state, effects, self.roster, self.alarm)

    def can_be_read(self, told: Publish) -> None:
        """A message that its reader refuses would be as good as none."""
        assert told.message is not None
        data = messages.encode(told.message)
        match told.to:
            case OfferBoard():
                assert messages.read_offer(data) == told.message
            case Inbox():
                assert messages.read_to_client(data) == told.message
            case _:
                raise AssertionError(told.to)

    def model(self) -> ModelRef:
        digest = BASES[self.base % len(BASES)]
        return ModelRef(digest=digest, size_bytes=8, chunk_bytes=1024, fingerprint="f")

    def round_and_base(self, good: int) -> tuple[RoundId, Digest]:
        """Of the open round, mostly."""
        number = RoundId(len(self.promises.closed) + 1)
        base = self.model().digest
        if good == 0:
            return RoundId(max(1, number - 1)), base
        if good == 1:
            return RoundId(number + 1), base
        return number, (BASES[5] if good == 2 and self.base != 5 else base)

    @rule(client=CLIENTS, session=SESSIONS, purposes=PURPOSES, other=OFTEN_GOOD)
    def come(
        self, client: ClientId, session: str, purposes: tuple[messages.Purpose, ...], other: int
    ) -> None:
        presence = Presence(
            online=True,
            session=session,
            task="letters" if other == 0 else "digits",
            wire=0 if other == 1 else messages.WIRE_VERSION,
            purposes=purposes,
        )
        self.tell(rounds.ClientCame(self.now, client, presence))

    @rule(client=CLIENTS, session=SESSIONS)
    def leave(self, client: ClientId, session: str) -> None:
        self.tell(rounds.ClientLeft(self.now, client, session))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def update(self, client: ClientId, good: int, fault: str) -> None:
        round_id, base = self.round_and_base(good)
        fingerprint = "g" if good == 3 else "f"
        self.tell(rounds.UpdateCame(self.now, client, round_id, base, fingerprint, fault))

    @rule(client=CLIENTS)
    def answer_well(self, client: ClientId) -> None:
        round_id, base = self.round_and_base(good=9)
        self.tell(rounds.UpdateCame(self.now, client, round_id, base, "f"))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def evaluation(self, client: ClientId, good: int, fault: str) -> None:
        round_id, base = self.round_and_base(good)
        self.tell(rounds.EvaluationCame(self.now, client, round_id, base, fault))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def announce(self, client: ClientId, good: int, fault: str) -> None:
        round_id, _ = self.round_and_base(good)
        self.tell(rounds.AnnounceCame(self.now, client, round_id, fault))

    @rule(client=CLIENTS, good=OFTEN_GOOD)
    def decline(self, client: ClientId, good: int) -> None:
        round_id, _ = self.round_and_base(good)
        self.tell(rounds.Declined(self.now, client, round_id, "on battery"))

    @rule()
    def make_the_next_model(self) -> None:
        # Also when nobody asked for one: then it must be ignored.
        averaging = isinstance(self.state, rounds.Averaging)
        if averaging:
            self.base += 1
            self.tell(rounds.ModelReady(self.now, self.model()))

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 9.5, 10.0, 31.0]))
    def wait(self, seconds: float) -> None:
        until, rings = self.now + seconds, 0
        while self.alarm is not None and self.alarm <= until:
            rings += 1
            assert rings < 100, "the alarm does not stop ringing"
            self.now = max(self.now, self.alarm)
            self.tell(rounds.Woke(self.now))
        self.now = until

    @rule()
    def ring_unasked(self) -> None:
        self.tell(rounds.Woke(self.now))

    @invariant()
    def the_roster_counts_right(self) -> None:
        recount(self.roster)

    @invariant()
    def states_fit_what_was_told(self) -> None:
        closed = len(self.promises.closed)
        match self.state:
            case rounds.Waiting(round=number) | rounds.Averaging(round=number):
                assert number == closed + 1
            case rounds.Collecting():
                assert self.state.round == closed + 1
                answered = self.state.answered | self.state.evaluated
                assert answered == self.promises.counted[self.state.round]
                missing = self.state.outstanding | self.state.evaluations_outstanding
                invited = self.state.train | self.state.evaluate
                assert missing == {client for client in invited if self.state.owes(client)}
            case rounds.Finished():
                assert self.promises.finished

    def teardown(self) -> None:
        """Whatever has happened: with time alone, the open round ends at its deadline."""
        state = getattr(self, "state", None)
        if isinstance(state, rounds.Collecting):
            closed = len(self.promises.closed)
            self.wait(state.closes_at - self.now)
            assert len(self.promises.closed) > closed


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_sixteen_closed_rounds_are_remembered() -> None:
    rules = rounds.Rules(
        select=lambda candidates, wanted, round_id, purpose: tuple(candidates[:wanted]),
        rounds=0,
        cohort=1,
        evaluate_every=0,
    )
    roster, ann = Roster(""), ClientId("ann")
    model = ModelRef(digest=BASES[0], size_bytes=8, chunk_bytes=1024, fingerprint="f")
    state: rounds.State = rounds.Waiting(RoundId(1), model)
    here = Presence(online=True, session="1", purposes=("train",))
    state, _ = rounds.step(state, rounds.ClientCame(0.0, ann, here), rules, roster)
    for number in range(1, 18):
        update = rounds.UpdateCame(0.0, ann, RoundId(number), model.digest, "f")
        state, _ = rounds.step(state, update, rules, roster)
        state, _ = rounds.step(state, rounds.ModelReady(0.0, model), rules, roster)
    assert isinstance(state, rounds.Collecting)
    assert len(state.settled) == rounds.SETTLED_ROUNDS == 16
    assert not rounds.has_counted(state, ann, RoundId(1))
    assert rounds.has_counted(state, ann, RoundId(2))
    assert rounds.has_counted(state, ann, RoundId(17))
