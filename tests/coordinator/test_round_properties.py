"""Whatever the network, the clients and the disk do, and when it is killed, a round keeps promises.

The promises are those of the simulator (`fleet_sim/promises.py`); here hypothesis looks for the
story that breaks one, and tells the shortest it finds.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator import pacing, rounds
from coordinator.pacing import Bounds, Seen
from coordinator.roster import Roster
from coordinator.rounds import Late, Named
from fedmqtt import messages, sortition
from fedmqtt.effects import Note, Publish, WakeAt
from fedmqtt.messages import ModelRef, Presence, Purpose, Receipt
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId, RunId
from fleet_sim.promises import CoordinatorPromises, recount
from tests.coordinator.remembered import Remembered

NAMES = [ClientId(name) for name in ("ann", "bob", "cat", "dan", "eve")]
CLIENTS = st.sampled_from(NAMES)
SESSIONS = st.sampled_from(["1", "2"])
BASES = [Digest(digit * 64) for digit in "012345"]
FAULTS = st.sampled_from(["", "", "", "not a finite number", "x" * 2000])
PURPOSES = st.sampled_from(
    [("train", "evaluate"), ("train", "evaluate"), ("train",), ("evaluate",), ()]
)
OFTEN_GOOD = st.integers(0, 9)
THIS_RUN, OTHER_RUN = RunId("this"), RunId("other")


def bounds(over_selection: float, learns: bool) -> Bounds:
    return Bounds(
        over_selection=over_selection,
        over_selection_min=1.0 if learns else over_selection,
        over_selection_max=2.0 if learns else over_selection,
        deadline_s=30.0,
        deadline_min_s=5.0 if learns else 30.0,
        deadline_max_s=100.0 if learns else 30.0,
    )


def first_of_all(candidates: Sequence[ClientId], count: int, *_: object) -> tuple[ClientId, ...]:
    """As selection policies demand it: sorted, and no more wanted than there are."""
    assert list(candidates) == sorted(candidates)
    assert 0 <= count <= len(candidates)
    return tuple(candidates[:count])


class Killed(Exception):
    """The coordinator was, between two effects of one step."""


class Rounds(RuleBasedStateMachine):
    """One federation: it is told anything in any order, time passes, and it dies at any moment."""

    @initialize(
        cohort=st.integers(1, 4),
        quorum=st.integers(0, 3),
        over=st.sampled_from([1.0, 1.3, 2.0]),
        learns=st.booleans(),
        clients_min=st.integers(0, 3),
        pauses=st.sampled_from([(0.0, 0.0), (7.0, 5.0)]),
        grace=st.sampled_from([0.0, 10.0]),
        evaluate=st.sampled_from([(0, 0), (1, 0), (1, 4), (2, 1)]),
        count=st.sampled_from([0, 2, 4]),
        late=st.sampled_from([("discard", 1), ("weigh", 1), ("buffer", 2), ("buffer", 4)]),
        late_rounds_max=st.sampled_from([1, 2, 15, 30]),
        concurrency=st.sampled_from([0, 0, 1, 2, 4]),
        greet=st.sampled_from([0.0, 8.0]),
        remind=st.sampled_from([0.0, 1.0, 4.0]),
        there=st.sampled_from([5, 4, 3, 0]),
        slow_disk=st.booleans(),
        is_killed=st.booleans(),
        by_sortition=st.booleans(),
    )
    def begin(
        self,
        cohort: int,
        quorum: int,
        over: float,
        learns: bool,
        clients_min: int,
        pauses: tuple[float, float],
        grace: float,
        evaluate: tuple[int, int],
        count: int,
        late: tuple[Late, int],
        late_rounds_max: int,
        concurrency: int,
        greet: float,
        remind: float,
        there: int,
        slow_disk: bool,
        is_killed: bool,
        by_sortition: bool,
    ) -> None:
        self.knobs = rounds.Rules(
            select=first_of_all,
            # Where rounds are asynchronous, clients are invited by name.
            by_sortition=by_sortition and not concurrency,
            rounds=count,
            cohort=cohort,
            quorum=min(quorum, cohort),
            pace=bounds(over, learns),
            clients_min=clients_min,
            pause_s=pauses[0],
            retry_s=pauses[1],
            away_grace_s=grace,
            evaluate_every=evaluate[0],
            evaluators=evaluate[1],
            late="weigh" if concurrency else late[0],
            late_batch=late[1],
            late_rounds_max=late_rounds_max,
            concurrency=concurrency,
            greet_s=greet,
            remind_s=remind,
            run=THIS_RUN,
            epoch=1,
            task="digits",
        )
        self.now = 0.0
        self.alarm: float | None = None
        self.state: rounds.State = rounds.begin(self.knobs)
        self.roster = Roster("digits", by_sortition=self.knobs.by_sortition)
        self.promises = CoordinatorPromises(self.knobs)
        self.remembered = Remembered()
        self.written: list[Named] = []
        """On the disk, and the machine has not been told."""
        self.births: dict[ClientId, Presence] = {}
        """What the broker keeps of each client."""
        self.slow_disk = slow_disk
        self.is_killed = is_killed
        self.lives_for: int | None = None
        """So many effects more; None: until it is killed between two steps."""
        self.answered_before = 0
        """In the open round, in an earlier life."""
        self.base = 0
        for client in NAMES[:there]:
            self.come(client, "1", ("train", "evaluate"), other=9)
        self.tell(rounds.ModelReady(self.now, self.model()))

    # What the service does

    def tell(self, event: rounds.Event) -> None:
        try:
            self.step(event)
        except Killed:
            self.come_back()

    def step(self, event: rounds.Event) -> None:
        if isinstance(event, rounds.Woke):
            self.alarm = None
        if self.remembered.closing is not None and isinstance(event, rounds.ModelReady):
            self.promises.closing_is_on_disk(self.remembered.closing.round)
        before = self.state
        self.remembered.prepare(event, before, self.knobs)
        self.state, effects = rounds.step(before, event, self.knobs, self.roster)
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarm = effect.at
            if isinstance(effect, Publish) and effect.message is not None:
                self.can_be_read(effect)
            if isinstance(effect, rounds.Close):
                self.can_be_closed(effect, before)
        self.refusals_are_noted(effects)
        if isinstance(event, rounds.UpdateCame):
            self.what_may_count_was_foretold(event, before, effects)
        self.promises.check(event, self.state, effects, self.roster, self.alarm)
        for effect in effects:
            self.perform(effect)
        if not self.slow_disk and self.remembered.on_the_way:
            self.keep_up()

    def what_may_count_was_foretold(
        self, event: rounds.UpdateCame, before: rounds.State, effects: list[rounds.Effect]
    ) -> None:
        """Else updates would be unpacked in vain, or refused without a look."""
        asked = before, event.client, event.run, event.round, self.knobs
        counts = any(isinstance(effect, rounds.Accept | rounds.Hold) for effect in effects)
        offer = self.promises.offers.get(event.round)
        is_good = (
            offer is not None
            and not event.fault
            and (event.base, event.fingerprint) == (offer.model.digest, offer.model.fingerprint)
        )
        assert counts == (rounds.may_count(*asked) and is_good)
        assert not counts or rounds.may_yet_count(before, event.round, self.knobs)

    def perform(self, effect: rounds.Effect) -> None:
        if self.lives_for is not None:
            self.lives_for -= 1
            if self.lives_for < 0:
                self.lives_for = None
                raise Killed
        self.remembered.perform(effect, self.state, self.roster)
        match effect:
            case Publish(OfferBoard(), messages.Offer() as offer):
                self.promises.opening_is_on_disk(offer.round)
                self.promises.offered(offer)
                # An order that a seed repeats.
                assert list(offer.train) == sorted(offer.train)
                assert list(offer.evaluate) == sorted(offer.evaluate)
                self.answered_before = 0
            case rounds.Invite():
                self.promises.inviting_is_on_disk(effect)
                # It is said again.
                self.say_the_offer_again()
            case rounds.Remind(clients=clients):
                self.tell_again(clients)
            case rounds.Shut(number):
                self.promises.shutting_is_on_disk(number)
            case rounds.Close() if effect.outcome != "averaged":
                self.promises.closing_is_on_disk(effect.round)
            case _:
                pass

    def tell_again(self, clients: tuple[ClientId, ...]) -> None:
        assert isinstance(self.state, rounds.Collecting)
        offer = rounds.offer(self.state, self.now, self.knobs, self.roster)
        for client in clients:
            to_one = rounds.to_one(offer, client)
            assert {*to_one.train, *to_one.evaluate} <= {client}
            invites = [sortition.invites(to_one, client, purpose) for purpose in messages.PURPOSES]
            assert any(invites), "it is not asked for anything"
            self.can_be_read(Publish(Inbox(client), to_one))

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

    def can_be_closed(self, close: rounds.Close, before: rounds.State) -> None:
        folded = len(close.answered) + len(close.held)
        assert folded <= rounds.terms_max(len(close.invited), self.knobs)
        if close.outcome == "evaluated":
            assert close.pace == before.past.pace, "nothing was to be learned"

    def refusals_are_noted(self, effects: list[rounds.Effect]) -> None:
        """For the people who look after the federation."""
        refused = [
            told.to.client
            for told in effects
            if isinstance(told, Publish) and isinstance(told.to, Inbox)
            if isinstance(told.message, Receipt) and not told.message.accepted
        ]
        notes = [told for told in effects if isinstance(told, Note) and told.what == rounds.REFUSED]
        assert [note.about.partition(":")[0] for note in notes] == refused

    def come_back(self) -> None:
        """A new program, which knows what is on the disk. What has ended is not gone on with."""
        if self.remembered.disk.is_finished:
            return
        self.lives_for = self.alarm = None
        self.written.clear()
        self.roster = Roster("digits")
        self.roster.by_sortition = self.knobs.by_sortition
        self.knobs = replace(self.knobs, epoch=self.knobs.epoch + 1)
        self.state = self.remembered.resume(self.now, self.knobs, self.roster)
        self.what_is_known_is_what_the_closed_rounds_showed()
        known = self.remembered.disk.answers.keys()
        self.promises.restarted(self.now, self.knobs, self.state, known)
        if isinstance(self.state, rounds.Collecting):
            self.answered_before = len(self.state.answered)
        self.tell(rounds.ModelReady(self.now, self.model()))
        self.tell(rounds.LinkUp(self.now))

    # What clients say

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

    def run_of(self, good: int) -> RunId:
        return OTHER_RUN if good == 4 else THIS_RUN

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
            draws=other != 2,
        )
        self.births[client] = presence
        self.tell(rounds.ClientCame(self.now, client, presence))

    @rule(client=CLIENTS, session=SESSIONS)
    def leave(self, client: ClientId, session: str) -> None:
        if client in self.births and self.births[client].session == session:
            del self.births[client]
        self.tell(rounds.ClientLeft(self.now, client, session))

    @rule()
    def tell_again_who_is_there(self) -> None:
        """As the broker does when the coordinator subscribes."""
        for client, presence in self.births.items():
            self.tell(rounds.ClientCame(self.now, client, presence))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def update(self, client: ClientId, good: int, fault: str) -> None:
        round_id, base = self.round_and_base(good)
        kind = "g" if good == 3 else "f"
        event = rounds.UpdateCame(self.now, client, self.run_of(good), round_id, base, kind, fault)
        self.tell(event)

    @rule(client=CLIENTS, samples=st.integers(1, 9), loss=st.sampled_from([None, 0.1, 2.0]))
    def answer_well(self, client: ClientId, samples: int, loss: float | None) -> None:
        round_id, base = self.round_and_base(good=9)
        said = ("", samples, loss)
        self.tell(rounds.UpdateCame(self.now, client, THIS_RUN, round_id, base, "f", *said))

    @rule(client=CLIENTS, back=st.integers(1, 3), samples=st.integers(10, 19))
    def answer_late(self, client: ClientId, back: int, samples: int) -> None:
        """Well, and to a round that closed before."""
        number = RoundId(len(self.promises.closed) + 1 - back)
        if number in self.promises.offers:
            base = self.promises.offers[number].model.digest
            said = ("", samples, 1.0)
            self.tell(rounds.UpdateCame(self.now, client, THIS_RUN, number, base, "f", *said))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def evaluation(self, client: ClientId, good: int, fault: str) -> None:
        round_id, base = self.round_and_base(good)
        self.tell(rounds.EvaluationCame(self.now, client, self.run_of(good), round_id, base, fault))

    @rule(client=CLIENTS, good=OFTEN_GOOD, fault=FAULTS)
    def announce(self, client: ClientId, good: int, fault: str) -> None:
        round_id, _ = self.round_and_base(good)
        self.tell(rounds.AnnounceCame(self.now, client, self.run_of(good), round_id, fault))

    @rule(client=CLIENTS, is_out=st.booleans())
    def quarantine(self, client: ClientId, is_out: bool) -> None:
        if is_out:
            self.tell(rounds.Barred(self.now, client, "in quarantine"))
        else:
            self.tell(rounds.Unbarred(self.now, client))

    @rule(client=CLIENTS, good=OFTEN_GOOD)
    def decline(self, client: ClientId, good: int) -> None:
        round_id, _ = self.round_and_base(good)
        self.tell(rounds.Declined(self.now, client, self.run_of(good), round_id, "on battery"))

    @rule(slow=CLIENTS, is_late=st.booleans())
    def go_well(self, slow: ClientId, is_late: bool) -> None:
        """All who owe an answer give it, but for one that is late, and the next model is made."""
        if isinstance(self.state, rounds.Collecting):
            number, base = self.state.round, self.state.model.digest
            for client in sorted(self.state.outstanding - {slow}):
                self.tell(rounds.UpdateCame(self.now, client, THIS_RUN, number, base, "f"))
            self.keep_up()
            if is_late:
                self.tell(rounds.UpdateCame(self.now, slow, THIS_RUN, number, base, "f"))
        self.make_the_next_model()

    # The disk

    @rule()
    def keep_up(self) -> None:
        self.write(len(self.remembered.on_the_way))
        self.tell_what_is_written(stray=False)

    @rule(count=st.integers(1, 5))
    def write(self, count: int) -> None:
        group = self.remembered.on_the_way[:count]
        left_s = None
        if isinstance(self.state, rounds.Collecting):
            left_s = max(0.0, self.state.closes_at - self.now)
        self.remembered.write(group, left_s)
        self.written += group

    @rule(stray=st.booleans())
    def tell_what_is_written(self, stray: bool) -> None:
        answers, self.written = self.written, []
        if stray:
            answers = [*answers, Named(NAMES[0], RoundId(99))]
        self.tell(rounds.Stored(self.now, tuple(answers)))

    @rule()
    def write_refusals(self) -> None:
        self.remembered.write_refusals(self.state)

    @rule()
    def make_the_next_model(self) -> None:
        if isinstance(self.state, rounds.Averaging):
            self.base += 1
            self.tell(rounds.ModelReady(self.now, self.model()))

    @precondition(lambda self: self.is_killed)
    @rule(seconds=st.sampled_from([0.0, 5.0, 60.0]), alone=st.booleans())
    def be_killed(self, seconds: float, alone: bool) -> None:
        self.now += seconds
        self.come_back()
        if not alone:
            self.tell_again_who_is_there()

    @precondition(lambda self: self.is_killed and self.lives_for is None)
    @rule(effects=st.integers(0, 20))
    def be_killed_soon(self, effects: int) -> None:
        self.lives_for = effects

    # Time, and the broker

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

    @rule()
    def say_the_offer_again(self) -> None:
        if isinstance(self.state, rounds.Collecting):
            offer = rounds.offer(self.state, self.now, self.knobs, self.roster)
            self.promises.offered(offer)
            self.can_be_read(Publish(OfferBoard(), offer))

    @invariant()
    def the_roster_counts_right(self) -> None:
        recount(self.roster)

    @invariant()
    def what_answers_told_waits_until_their_round_closes(self) -> None:
        waiting = {(named.client, named.round) for named in self.state.past.held}
        if isinstance(self.state, rounds.Collecting):
            waiting |= {(client, self.state.round) for client in self.state.answered}
        assert self.roster.knowledge.reports.keys() == waiting

    def what_is_known_is_what_the_closed_rounds_showed(self) -> None:
        """After a restart, by another way: one client after the other, from what was written."""
        closed, told = self.remembered.closed, self.remembered.reports
        invitations = [(client, one.round) for one in closed for client in one.invited]
        answers = [Named(*answer) for one in closed for answer in one.counted]
        assert self.roster.knowledge.clients.keys() == {client for client, _ in invitations}
        for client, known in self.roster.knowledge.clients.items():
            invited = [number for who, number in invitations if who == client]
            assert (known.invited, known.invited_last) == (len(invited), max(invited))
            own = [named for named in answers if named.client == client]
            newest = max((named.round for named in own), default=0)
            assert (known.answered, known.answered_last) == (len(own), newest)
            times = [took_s for named in own if (took_s := told[named].took_s) is not None]
            assert known.took_s == tuple(times[-5:])
            by_round = sorted(own, key=lambda named: named.round)
            assert known.samples == (told[by_round[-1]].samples if own else 0)
            # A late answer tells nothing new where a newer one has told already.
            assert known.loss is None or known.loss in {told[named].loss for named in own}

    @invariant()
    def states_fit_what_was_told(self) -> None:
        closed = len(self.promises.closed)
        assert self.state.past.storing == self.promises.storing
        assert list(self.state.past.held) == self.promises.held
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
                timed = len(self.roster.took_s)
                assert timed == len(self.state.answered) - self.answered_before
                open_for_s = self.now - self.state.opened_at
                assert all(0 <= took_s <= open_for_s for took_s in self.roster.took_s)
            case rounds.Finished():
                assert self.promises.finished

    def teardown(self) -> None:
        """Whatever has happened: with a disk that writes and time, the open round ends."""
        state = getattr(self, "state", None)
        if isinstance(state, rounds.Collecting):
            self.lives_for = None
            closed = len(self.promises.closed)
            self.keep_up()
            self.wait(max(0.0, state.closes_at - self.now))
            assert len(self.promises.closed) > closed
            self.promises.ended()


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def rules(**others: Any) -> rounds.Rules:
    wanted: dict[str, Any] = {
        "select": first_of_all,
        "rounds": 0,
        "cohort": 1,
        "pace": bounds(1.0, learns=False),
        "evaluate_every": 0,
        "run": THIS_RUN,
    }
    return rounds.Rules(**(wanted | others))


MODEL = ModelRef(digest=BASES[0], size_bytes=8, chunk_bytes=1024, fingerprint="f")
ANN, BOB, CAT = NAMES[:3]


def come_all(*clients: ClientId) -> list[rounds.Event]:
    here = Presence(online=True, session="1", purposes=("train", "evaluate"))
    return [rounds.ClientCame(0.0, client, here) for client in clients]


def well(at: float, named: Named) -> list[rounds.Event]:
    """An answer that counts, and is stored."""
    update = rounds.UpdateCame(at, named.client, THIS_RUN, named.round, MODEL.digest, "f")
    return [update, rounds.Stored(at, (named,))]


def after(
    state: rounds.State, events: Sequence[rounds.Event], knobs: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    told: list[rounds.Effect] = []
    for event in events:
        state, effects = rounds.step(state, event, knobs, roster)
        told += effects
    return state, told


def test_who_answers_a_round_that_is_not_open_yet_may_answer_it_when_it_is() -> None:
    machine = Rounds()
    machine.begin(
        cohort=1,
        quorum=1,
        over=1.0,
        learns=False,
        clients_min=1,
        pauses=(0.0, 0.0),
        grace=0.0,
        evaluate=(0, 0),
        count=0,
        late=("discard", 1),
        late_rounds_max=1,
        concurrency=0,
        greet=0.0,
        remind=0.0,
        there=1,
        slow_disk=False,
        is_killed=False,
        by_sortition=False,
    )
    ann = NAMES[0]
    machine.answer_well(ann, samples=1, loss=None)
    machine.leave(ann, "1")
    machine.make_the_next_model()
    nobody_is_there = machine.state
    assert isinstance(nobody_is_there, rounds.Waiting)
    # A sign of life: there is somebody for the second round.
    machine.answer_well(ann, samples=1, loss=None)
    opened = machine.state
    assert isinstance(opened, rounds.Collecting) and not opened.answered
    machine.slow_disk = True
    machine.answer_well(ann, samples=1, loss=None)
    assert rounds.has_counted(machine.state, ann, RoundId(2))


def test_sixteen_closed_rounds_are_remembered() -> None:
    knobs, roster = rules(), Roster("")
    events = [rounds.ModelReady(0.0, MODEL), *come_all(ANN)]
    state, _ = after(rounds.begin(knobs), events, knobs, roster)
    for number in range(1, 18):
        answer = well(0.0, Named(ANN, RoundId(number)))
        state, _ = after(state, [*answer, rounds.ModelReady(0.0, MODEL)], knobs, roster)
    assert isinstance(state, rounds.Collecting)
    assert len(state.past.settled) == rounds.SETTLED_ROUNDS == 16
    assert not rounds.has_counted(state, ANN, RoundId(1))
    assert rounds.has_counted(state, ANN, RoundId(2))
    assert rounds.has_counted(state, ANN, RoundId(17))


@pytest.mark.parametrize(
    ("policy", "room"), [("discard", 7), ("weigh", 7 + 4 * 5), ("buffer", 7 + 4 * 5)]
)
def test_a_sum_has_room_for_all_who_were_invited_and_for_the_late(policy: Late, room: int) -> None:
    assert rounds.terms_max(7, rules(cohort=5, late=policy)) == room


def test_whom_to_invite_is_asked_for_a_round_and_a_purpose() -> None:
    asked: list[tuple[RoundId, Purpose, list[ClientId], int]] = []

    def select(
        candidates: Sequence[ClientId],
        count: int,
        round_id: RoundId,
        purpose: Purpose,
        known: object,
    ) -> tuple[ClientId, ...]:
        asked.append((round_id, purpose, list(candidates), count))
        return tuple(candidates[:count])

    knobs = rules(select=select, rounds=1, evaluate_every=1, evaluators=2, clients_min=3)
    roster = Roster("")
    opening = [*come_all(CAT, BOB, ANN), rounds.ModelReady(0.0, MODEL)]
    ending = [*well(0.0, Named(ANN, RoundId(1))), rounds.ModelReady(0.0, MODEL)]
    after(rounds.begin(knobs), [*opening, *ending], knobs, roster)
    everybody = [ANN, BOB, CAT]
    assert asked == [
        (1, "train", everybody, 1),
        (1, "evaluate", everybody, 2),
        (2, "evaluate", everybody, 2),
    ]


def test_a_reason_is_cut_to_what_a_receipt_may_carry() -> None:
    knobs, roster = rules(), Roster("")
    events = [rounds.ModelReady(0.0, MODEL), *come_all(ANN)]
    state, _ = after(rounds.begin(knobs), events, knobs, roster)
    fault = "x" * 501
    bad = rounds.UpdateCame(0.0, ANN, THIS_RUN, RoundId(1), MODEL.digest, "f", fault)
    _, told = after(state, [bad], knobs, roster)
    reasons = [
        effect.message.reason
        for effect in told
        if isinstance(effect, Publish) and isinstance(effect.message, Receipt)
    ]
    assert reasons == [fault[:500]]


@pytest.mark.parametrize("reaches_deadline", [True, False])
def test_what_a_round_showed_of_the_fleet_is_learned_from(reaches_deadline: bool) -> None:
    """One answered after 4 s, one is at work, one has gone."""
    learns = replace(bounds(3.0, learns=False), deadline_min_s=5.0)
    knobs = rules(cohort=2 if reaches_deadline else 1, clients_min=3, pace=learns)
    roster = Roster("")
    events = [
        *come_all(ANN, BOB, CAT),
        rounds.ModelReady(100.0, MODEL),
        rounds.ClientLeft(101.0, CAT, "1"),
        *well(104.0, Named(ANN, RoundId(1))),
        rounds.Woke(130.0),
    ]
    state, told = after(rounds.begin(knobs), events, knobs, roster)
    [close] = [effect for effect in told if isinstance(effect, rounds.Close)]
    seen = Seen(
        cohort=knobs.cohort,
        invited=3,
        answered=1,
        at_work=1,
        took_s=(4.0,),
        deadline_s=30.0,
        reached_deadline=reaches_deadline,
        kept=False,
    )
    assert close.pace == pacing.learn(pacing.begin(learns), learns, seen)
    # The second round has forgotten how long the answers of the first took.
    events = [*come_all(CAT), rounds.ModelReady(200.0, MODEL)]
    after(state, [*events, *well(203.0, Named(ANN, RoundId(2)))[:1]], knobs, roster)
    assert roster.took_s == [3.0]
