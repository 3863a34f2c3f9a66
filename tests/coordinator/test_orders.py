"""Orders at any moment: whatever else happens, and however often the coordinator is killed.

`scripts/orders_*.txt` tell single stories; here hypothesis looks for one that breaks a promise.
"""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from coordinator import orders, rounds
from coordinator.orders import NO_ORDERS, REMEMBERED, Control, Order, Situation
from coordinator.pacing import Bounds
from coordinator.roster import Roster
from fedmqtt.effects import Publish, WakeAt
from fedmqtt.messages import ModelRef, Offer, OrderKind, Presence
from fedmqtt.topics import ClientId, Digest, Inbox, OfferBoard, RoundId, RunId
from tests.coordinator.remembered import Remembered

NAMES = [ClientId(name) for name in ("ann", "bob", "cat")]
CLIENTS = st.sampled_from(NAMES)
KINDS: Sequence[OrderKind] = ("pause", "resume", "stop", "rollback", "invite")
RUN = RunId("r")
PACE = Bounds(
    over_selection=1.5,
    over_selection_min=1.5,
    over_selection_max=1.5,
    deadline_s=30,
    deadline_min_s=30,
    deadline_max_s=30,
)


def select(candidates: Sequence[ClientId], count: int, *_: object) -> tuple[ClientId, ...]:
    """As selection policies demand it: sorted, somebody is wanted, and no more than there are."""
    assert list(candidates) == sorted(candidates)
    assert 0 < count <= len(candidates)
    return tuple(candidates[:count])


class Orders(RuleBasedStateMachine):
    """A federation whose operator says anything at any time."""

    @initialize(
        cohort=st.integers(1, 2),
        count=st.sampled_from([0, 3]),
        late=st.booleans(),
        concurrency=st.sampled_from([0, 0, 2]),
        evaluate=st.integers(0, 1),
        slow_disk=st.booleans(),
    )
    def begin(
        self,
        cohort: int,
        count: int,
        late: bool,
        concurrency: int,
        evaluate: int,
        slow_disk: bool,
    ) -> None:
        self.knobs = rounds.Rules(
            select=select,
            rounds=count,
            cohort=cohort,
            pace=PACE,
            evaluate_every=evaluate,
            late="weigh" if late or concurrency else "discard",
            concurrency=concurrency,
            task="digits",
            run=RUN,
        )
        self.slow_disk = slow_disk
        self.now = 0.0
        self.alarm: float | None = None
        self.token = 0
        self.models = 0
        self.offered: dict[RoundId, Offer] = {}
        """By round, as each opened."""
        self.goes_back_to: Digest | None = None
        """The model that the next round must train from."""
        self.told: dict[str, orders.Obeyed] = {}
        self.going_back: dict[str, RoundId] = {}
        """Orders of rollbacks that nothing has come of yet."""
        self.remembered = Remembered()
        self.state: rounds.State = rounds.begin(self.knobs)
        self._come_alive()
        self._tell(rounds.ModelReady(self.now, _model("m0")))

    def _come_alive(self) -> None:
        self.roster = Roster("digits")
        self.deaf = False

    # What happens

    @rule(client=CLIENTS, willing=st.booleans())
    def come(self, client: ClientId, willing: bool) -> None:
        here = Presence(
            online=True,
            session="1",
            task="digits",
            purposes=("train", "evaluate") if willing else (),
        )
        self._tell(rounds.ClientCame(self.now, client, here))

    @rule(client=CLIENTS)
    def leave(self, client: ClientId) -> None:
        self._tell(rounds.ClientLeft(self.now, client, "1"))

    @precondition(lambda self: self.offered)
    @rule(client=CLIENTS, back=st.integers(0, 3), is_good=st.integers(0, 5))
    def answer(self, client: ClientId, back: int, is_good: int) -> None:
        number = max(self.offered) - back
        offer = self.offered.get(RoundId(number))
        if offer is None:
            return
        base = offer.model.digest
        fault = "" if is_good else "no finite number"
        if client in offer.train:
            event: rounds.Event = rounds.UpdateCame(
                self.now, client, RUN, offer.round, base, "f", fault
            )
        else:
            event = rounds.EvaluationCame(self.now, client, RUN, offer.round, base, fault)
        self._tell(event)
        if not self.slow_disk:
            self.store()

    @rule()
    def store(self) -> None:
        written = tuple(self.remembered.on_the_way)
        if written:
            self.remembered.write(written, None)
            self._tell(rounds.Stored(self.now, written))

    @precondition(lambda self: isinstance(self.state, rounds.Averaging))
    @rule(is_gone=st.booleans())
    def make_model(self, is_gone: bool) -> None:
        assert isinstance(self.state, rounds.Averaging)
        if (number := self.state.goes_back_to) is not None:
            self._go_back(number, is_gone)
            return
        self.models += 1
        self._tell(rounds.ModelReady(self.now, _model(f"m{self.models}")))

    def _go_back(self, number: RoundId, is_gone: bool) -> None:
        """`is_gone`: its model, since it was ordered."""
        newest, back = self.remembered.disk.model, self.remembered.disk.models[number]
        is_last = self.state.past.control.rollback == number
        if is_gone and is_last:
            self.goes_back_to = None
        fault = "is gone" if is_gone else ""
        self._tell(rounds.ModelReady(self.now, _model(newest if is_gone else back), fault))
        for token, wanted in list(self.going_back.items()):
            came_of_it = self.state.past.control.answer(token)
            assert came_of_it is not None
            if wanted != number and not is_last:
                assert came_of_it == self.told[token], "it comes next"
                continue
            assert came_of_it.done == (wanted == number and not is_gone)
            self.told[token] = came_of_it
            del self.going_back[token]

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(50):
            if self.alarm is None or self.alarm > until:
                break
            self.now, self.alarm = max(self.now, self.alarm), None
            self._tell(rounds.Woke(self.now))
        else:
            raise AssertionError("the alarm does not stop ringing")
        self.now = until

    @rule()
    def kill(self) -> None:
        before = self.state.past.control
        self._come_alive()
        self.alarm = None
        self.now += 1.0
        if self.remembered.disk.is_finished:
            return
        self.state = self.remembered.resume(self.now, self.knobs, self.roster)
        # What an operator was told holds; who was to be invited is, perhaps once more.
        after = self.state.past.control
        assert structs.replace(after, wanted=()) == structs.replace(before, wanted=())
        if isinstance(self.state, rounds.Waiting):
            self._tell(rounds.ModelReady(self.now, _model(self.remembered.disk.model)))
        self._tell(rounds.LinkUp(self.now))

    # What the operator says

    @rule(what=st.sampled_from(KINDS), client=CLIENTS, back=st.integers(0, 3))
    def order(self, what: OrderKind, client: ClientId, back: int) -> None:
        self.token += 1
        kept = tuple(sorted(self.remembered.disk.models))
        said = Order(
            token=str(self.token),
            operator="carol",
            at="noon",
            what=what,
            round=RoundId(back) if back > len(kept) else kept[-back] if back else RoundId(999),
            client=client,
        )
        self._say(said, kept)

    @precondition(lambda self: self.told)
    @rule(which=st.integers(0, 1000), what=st.sampled_from(KINDS))
    def order_again(self, which: int, what: OrderKind) -> None:
        """As a broker, or somebody else, says it again: also with other words."""
        token = sorted(self.told)[which % len(self.told)]
        before = self.state.past.control
        self._say(Order(token=token, operator="eve", at="noon", what=what), (RoundId(0),))
        assert self.state.past.control.obeyed == before.obeyed

    def _say(self, said: Order, kept: tuple[RoundId, ...]) -> None:
        before = self.state
        known = self.told.get(said.token)
        effects = self._tell(rounds.OrderCame(self.now, said, kept))
        (answer,) = [one for one in effects if isinstance(one, rounds.Answer)]
        assert effects[0] == answer, "it is written down before anything else is done"
        if known is not None:
            assert answer == rounds.Answer(known, is_new=False, control=before.past.control)
            return
        assert answer.is_new and answer.obeyed.result
        self.told[said.token] = answer.obeyed
        is_ending = isinstance(before, rounds.Finished) or bool(before.past.control.stopped_by)
        if said.what == "rollback" and answer.obeyed.done:
            assert said.round in kept and not is_ending
            self.goes_back_to = self.remembered.disk.models[said.round]
            self.going_back[said.token] = said.round
        if said.what == "rollback" and said.round not in kept:
            assert not answer.obeyed.done
        if said.what in ("pause", "resume", "stop") and not is_ending:
            is_measuring = isinstance(before, rounds.Collecting) and before.is_last_evaluation
            assert answer.obeyed.done or is_measuring

    # What is promised

    def _tell(self, event: rounds.Event) -> list[rounds.Effect]:
        before = self.state
        control = before.past.control
        self.remembered.prepare(event, before, self.knobs)
        self.state, effects = rounds.step(before, event, self.knobs, self.roster)
        for effect in effects:
            self.remembered.perform(effect, self.state, self.roster)
            match effect:
                case WakeAt(at):
                    self.alarm = at
                case Publish(OfferBoard(), Offer() as offer):
                    self._opened(offer, event, control)
                case Publish(Inbox(client), _):
                    assert client in NAMES
                case rounds.Close():
                    self._closed(effect, before)
                case _:
                    pass
        self.remembered.write_orders(self.state)
        return effects

    def _opened(self, offer: Offer, event: rounds.Event, control: Control) -> None:
        assert offer.round not in self.offered, "a round opens once"
        after = self.state.past.control
        is_over = not offer.train
        assert not after.paused_by or after.stopped_by, "it is paused"
        assert not after.stopped_by or is_over, "it is to end"
        assert after.rollback is None
        if self.goes_back_to is not None:
            assert offer.model.digest == self.goes_back_to
            self.goes_back_to = None
        if not is_over:
            there = [one for one in control.wanted if self.roster.is_willing(one, "train")]
            missed = set(there) - {*offer.train}
            # As many as there are places.
            assert not missed or missed <= {*after.wanted}
        self.offered[offer.round] = offer

    def _closed(self, close: rounds.Close, before: rounds.State) -> None:
        assert isinstance(before, rounds.Collecting | rounds.Waiting)
        if close.reason == rounds.GIVEN_UP:
            assert close.outcome == "kept"
        valid_from = before.past.control.valid_from
        assert all(named.round >= valid_from for named in close.held), "it was given up"

    @invariant()
    def what_is_known_is_on_the_disk(self) -> None:
        if hasattr(self, "remembered") and not isinstance(self.state, rounds.Finished):
            assert self.remembered.disk.control == self.state.past.control


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def _model(digest: str) -> ModelRef:
    return ModelRef(digest=Digest(digest), size_bytes=8, chunk_bytes=1024, fingerprint="f")


def test_a_round_that_is_given_up_tells_nothing_of_how_long_one_takes() -> None:
    rules = rounds.Rules(
        select=select, rounds=3, cohort=2, pace=PACE, evaluate_every=0, task="digits", run=RUN
    )
    roster = Roster(rules.task)
    back = Order(token="t", operator="carol", at="noon", what="rollback", round=RoundId(0))
    here = Presence(online=True, session="1", task="digits", purposes=("train",))
    state: rounds.State = rounds.begin(rules)
    for event in (
        rounds.ModelReady(0.0, _model("m0")),
        rounds.ClientCame(0.0, ClientId("ann"), here),
        rounds.LinkUp(0.0),
        rounds.OrderCame(20.0, back, (RoundId(0),)),
    ):
        before = state
        state, _ = rounds.step(state, event, rules, roster)
    assert isinstance(before, rounds.Collecting) and isinstance(state, rounds.Averaging)
    assert before.past.typical_s == state.past.typical_s == 0.0


SITUATION = Situation(
    round=RoundId(5),
    next_named="round 5",
    is_open=False,
    is_ending=False,
    trains=True,
    models=(RoundId(0), RoundId(4)),
)


def _said(control: Control, number: int, what: OrderKind) -> Control:
    said = Order(token=str(number), operator="carol", at="noon", what=what)
    return orders.obey(control, said, SITUATION)[0]


def test_the_last_orders_are_remembered() -> None:
    control = NO_ORDERS
    for number in range(REMEMBERED + 5):
        control = _said(control, number, "pause")
    assert len(control.obeyed) == REMEMBERED
    assert control.answer("4") is None and control.answer("5") is not None


def _back_to(control: Control, token: str, number: int) -> Control:
    said = Order(token=token, operator="carol", at="noon", what="rollback", round=RoundId(number))
    return orders.obey(control, said, SITUATION)[0]


def _came_of(control: Control, token: str) -> tuple[bool, str]:
    found = control.answer(token)
    assert found is not None
    return found.done, found.result


def test_a_rollback_that_comes_to_nothing_says_so_from_then_on() -> None:
    waiting = _back_to(_back_to(NO_ORDERS, "1", 4), "2", 4)
    then = (True, "the next round trains from the model that round 4 made")
    assert [_came_of(waiting, token) for token in "12"] == [then, then]
    after = orders.gone_back(waiting, RoundId(4), "is not kept any more")
    assert (after.rollback, after.going_back) == (None, ())
    why = "given up, and the newest model stays: the model that round 4 made is not kept any more"
    assert [_came_of(after, token) for token in "12"] == [(False, why), (False, why)]
    # Of another order for the same one, later, that is told again.
    done = orders.gone_back(_back_to(after, "3", 4), RoundId(4))
    assert [_came_of(done, token) for token in "123"] == [(False, why), (False, why), then]


def test_of_two_rollbacks_the_one_that_was_replaced_says_so() -> None:
    waiting = _back_to(_back_to(NO_ORDERS, "1", 4), "2", 0)
    assert waiting.rollback == 0
    done = orders.gone_back(waiting, RoundId(0))
    replaced = "given up: another rollback was ordered before this one was carried out"
    assert _came_of(done, "1") == (False, replaced)
    assert _came_of(done, "2") == (True, "the next round trains from the initial model")
    # The first was under way when the second came: both are done, in turn.
    first_done = orders.gone_back(waiting, RoundId(4))
    assert (first_done.rollback, first_done.obeyed) == (0, waiting.obeyed)
    assert orders.gone_back(first_done, RoundId(0)).obeyed == waiting.obeyed


def test_a_run_that_makes_no_models_has_none_to_go_back_to() -> None:
    said = Order(token="1", operator="carol", at="noon", what="rollback", round=RoundId(0))
    describing = orders.obey(NO_ORDERS, said, _with(trains=False))[1]
    assert (describing.done, describing.result) == (False, "this run makes no models")
    nothing_kept = orders.obey(NO_ORDERS, said, _with(models=()))[1]
    assert "set checkpoint.keep in federation.toml" in nothing_kept.result


def _with(**changes: object) -> Situation:
    return replace(SITUATION, **changes)  # type: ignore[arg-type]


def test_who_was_ordered_twice_is_wanted_once() -> None:
    said = Order(token="1", operator="carol", at="noon", what="invite", client=ClientId("ann"))
    once, _ = orders.obey(NO_ORDERS, said, SITUATION)
    twice, _ = orders.obey(once, said, SITUATION)
    assert twice.wanted == ("ann",)


def test_who_was_ordered_is_on_the_disk_before_the_round_that_the_order_opens() -> None:
    fixed = Bounds(
        over_selection=1, over_selection_min=1, over_selection_max=1,
        deadline_s=30, deadline_min_s=30, deadline_max_s=30,
    )  # fmt: skip
    knobs = rounds.Rules(
        select=select, rounds=9, cohort=2, clients_min=2, pace=fixed, task="digits", run=RUN
    )
    roster, remembered = Roster("digits"), Remembered()
    here = Presence(online=True, session="1", task="digits", purposes=("train",))
    roster.came(0.0, NAMES[0], here)
    roster.came(0.0, NAMES[1], here)
    # Silent twice, so it rests.
    roster.missed(0.0, NAMES[1], 30.0)
    roster.missed(0.0, NAMES[1], 30.0)
    ready = rounds.ModelReady(1.0, _model("m0"))
    waiting, _ = rounds.step(rounds.begin(knobs), ready, knobs, roster)
    assert isinstance(waiting, rounds.Waiting)
    said = Order(token="1", operator="carol", at="noon", what="invite", client=NAMES[1])
    opened, effects = rounds.step(waiting, rounds.OrderCame(2.0, said), knobs, roster)
    assert isinstance(opened, rounds.Collecting) and not opened.past.control.wanted
    # Killed before the round is written.
    remembered.perform(effects[0], opened, roster)
    assert remembered.disk.control.wanted == (NAMES[1],)
