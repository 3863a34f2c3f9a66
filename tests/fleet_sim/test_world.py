"""The simulated world repeats itself for a seed, and notices machines that are broken."""

import os
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from coordinator import rounds
from coordinator.known import Report
from coordinator.persistence.ledger import Carried, Opening
from coordinator.roster import Roster
from coordinator.rounds import Close, Collecting, Named, Rules, Waiting
from edge_client import session
from fedmqtt.effects import Note, Publish, Seconds, WakeAt
from fedmqtt.messages import Receipt
from fedmqtt.topics import ClientId, Digest, Inbox, RoundId
from fleet_sim import __main__ as program
from fleet_sim.disk import Disk, first_carried
from fleet_sim.plan import Plan
from fleet_sim.promises import Broken
from fleet_sim.weather import FOREVER, Weather
from fleet_sim.world import World

ROOT = Path(__file__).parents[2]
PLAN = replace(
    Plan.from_seed(1, 12, 5),
    cohort=4,
    quorum=2,
    over_selection=1.0,
    over_selection_min=1.0,
    over_selection_max=1.0,
    clients_min=4,
    deadline_s=30.0,
    deadline_min_s=30.0,
    deadline_max_s=30.0,
    commit_s=0.01,
    leave_from_s=0.0,
)
FAIR = Weather(train_s=2.0)


def test_in_fair_weather_every_round_makes_a_model_in_one_training() -> None:
    world = World(replace(PLAN, pause_s=0.0, evaluate_every=0), FAIR)
    world.run()
    assert [close.outcome for close in world.closed] == ["averaged"] * 5
    assert all(close.reason == "cohort complete" for close in world.closed)
    assert all(close.duration_s < 30 for close in world.closed)


def test_the_storm_has_every_kind_of_weather() -> None:
    drawn = [Weather.from_seed(seed) for seed in range(100)]
    for option in ("loss", "duplication", "blips", "reboots", "trainer_crashes", "liars"):
        shares = [getattr(weather, option) for weather in drawn]
        assert 25 < sum(share == 0 for share in shares) < 75, f"{option} must be off in many storms"
        assert max(shares) > 0.3, f"{option} must be extreme in some"
    for option in ("coordinator_dies", "client_dies", "old_debts"):
        shares = [getattr(weather, option) for weather in drawn]
        assert 25 < sum(share == 0 for share in shares) < 75, f"{option} must be off in many storms"
        assert max(shares) > 10 * min(share for share in shares if share), f"{option} varies"
    for option in ("online_s", "power_s", "coordinator_up_s", "broker_up_s"):
        steady = sum(getattr(weather, option) == FOREVER for weather in drawn)
        assert 10 < steady < 70, f"{option} must be without end in some storms"


def test_a_plan_is_drawn_with_every_policy_and_any_pace() -> None:
    drawn = [Plan.from_seed(seed) for seed in range(100)]
    assert {plan.late for plan in drawn} == {"discard", "weigh", "buffer"}
    assert 0 < sum(plan.deadline_min_s == plan.deadline_max_s for plan in drawn) < 100
    assert all(plan.deadline_min_s <= plan.deadline_s <= plan.deadline_max_s for plan in drawn)
    assert len({plan.commit_s for plan in drawn}) > 3


def test_a_coordinator_that_is_killed_again_and_again_makes_the_same_models() -> None:
    # Everybody is there at each opening, so the same are invited.
    plan = replace(PLAN, clients_min=PLAN.clients, greet_s=2.0, storm_s=1000.0)
    steady = World(plan, FAIR)
    steady.run()
    killed = World(plan, replace(FAIR, coordinator_dies=0.2, coordinator_down_s=0.5))
    killed.run()
    assert steady.server.deaths == 0
    assert killed.server.deaths > 10
    assert [close.answered for close in killed.closed] == [c.answered for c in steady.closed]
    assert killed.server.disk.model == steady.server.disk.model


def test_a_broker_that_forgets_everything_again_and_again_stops_nobody() -> None:
    weather = replace(FAIR, broker_up_s=20.0, broker_down_s=2.0)
    world = World(replace(PLAN, storm_s=1000.0), weather)
    world.run()
    assert [close.round for close in world.closed[:5]] == [1, 2, 3, 4, 5]


def test_clients_whose_power_fails_all_the_time_still_answer() -> None:
    world = World(replace(PLAN, storm_s=1000.0), replace(FAIR, power_s=20.0, power_back_s=2.0))
    world.run()
    assert any(close.outcome == "averaged" for close in world.closed)


@pytest.mark.parametrize("seed", [3, 7])
def test_a_seed_repeats_its_run_whatever_the_hash_seed(seed: int) -> None:
    command = [sys.executable, "-m", "fleet_sim", "--seed", str(seed), "--clients", "30"]
    told = {
        subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "777")
    }
    assert len(told) == 1
    assert f"seed={seed}\n" in told.pop()


@pytest.mark.parametrize("seed", range(4))
def test_whoever_describes_data_is_promised_the_same(seed: int) -> None:
    plan = replace(Plan.from_seed(seed, clients=12), purpose="describe", evaluate_every=0)
    world = World(plan, Weather.from_seed(seed))
    world.run()
    offers = world.server.promises.offers.values()
    assert offers and all(offer.describes for offer in offers)


def test_in_fair_weather_all_describe_their_data() -> None:
    world = World(replace(PLAN, purpose="describe", evaluate_every=0), FAIR)
    world.run()
    assert [close.outcome for close in world.closed] == ["averaged"] * PLAN.rounds


def test_seeds_differ() -> None:
    traces = set()
    for seed in range(5):
        world = World(replace(PLAN, seed=seed), FAIR)
        world.run()
        traces.add(world.trace)
    assert len(traces) == 5


def test_many_storms_end_with_a_word_about_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--storms", "3", "--seed", "5"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 of 3 storms\nevery promise held, through ")


def test_storms_that_are_shared_out_come_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for processes in ("1", "2"):
        assert program.main(["--storms", "20", "--processes", processes]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_a_failure_prints_the_seed_the_options_and_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "World", partial(World, coordinator_step=quorum_off_by_one))
    assert program.main(["--storms", "50"]) == 1
    told = capsys.readouterr().out
    command = told.splitlines()[-1].removeprefix("repeat with: python -m fleet_sim ")
    assert "\nloss=" in told
    # The command does repeat it: the same promise, at the same moment.
    assert program.main(command.split()) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == told.splitlines()[-2:]


# Machines that are broken on purpose: each wraps a step, and some promise must notice.

Stepped = tuple[rounds.State, list[rounds.Effect]]


def quorum_off_by_one(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    return rounds.step(state, event, replace(rules, quorum=rules.quorum - 1), roster)


def counts_copies(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Collecting) and isinstance(event, rounds.UpdateCame):
        state = replace(state, answered=state.answered - {event.client})
    return rounds.step(state, event, rules, roster)


def counts_uninvited(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Collecting) and state.train and isinstance(event, rounds.UpdateCame):
        state = replace(state, train=state.train | {event.client})
    return rounds.step(state, event, rules, roster)


def ignores_the_base(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Collecting) and isinstance(event, rounds.UpdateCame):
        event = replace(event, base=state.model.digest)
    return rounds.step(state, event, rules, roster)


def ignores_the_run(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(event, rounds.UpdateCame):
        event = replace(event, run=rules.run)
    return rounds.step(state, event, rules, roster)


def forgets_the_alarm(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if isinstance(event, rounds.Woke):
        effects = [effect for effect in effects if not isinstance(effect, WakeAt)]
    return following, effects


def leaves_the_late_without_receipt(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if following.past.late > state.past.late:
        effects = [effect for effect in effects if not isinstance(effect, Publish)]
    return following, effects


def believes_old_wills(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(event, rounds.ClientLeft) and event.client in roster.clients:
        # Such a roster loses clients that are there: a round cannot open that should.
        entry = roster.clients[event.client]
        event = replace(event, session=entry.presence.session)
    return rounds.step(state, event, rules, roster)


def receipts_at_once(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    for effect in list(effects):
        if isinstance(effect, rounds.Accept):
            receipt = Receipt(run=rules.run, round=effect.round, accepted=True)
            effects.append(Publish(Inbox(effect.client), receipt))
    return following, effects


def never_says_that_it_is_stored(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if isinstance(event, rounds.Stored):
        effects = [e for e in effects if not (isinstance(e, Publish) and isinstance(e.to, Inbox))]
    return following, effects


def closes_while_storing(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Collecting) and isinstance(event, rounds.Woke | rounds.ClientLeft):
        state = replace(state, past=replace(state.past, storing=frozenset()))
    return rounds.step(state, event, rules, roster)


def forgets_what_it_held(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if isinstance(event, rounds.Woke):
        following = replace(following, past=replace(following.past, held=()))
    return following, effects


def takes_up_what_is_late_twice(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if any(isinstance(effect, Close) for effect in effects):
        following = replace(following, past=replace(following.past, held=state.past.held))
    return following, effects


def does_not_wait_for_a_batch(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    return rounds.step(state, event, replace(rules, late_batch=1), roster)


def takes_what_should_be_discarded(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    lenient = replace(rules, late="weigh") if rules.late == "discard" else rules
    return rounds.step(state, event, lenient, roster)


def takes_what_is_too_old(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    return rounds.step(state, event, replace(rules, late_rounds_max=100), roster)


def counts_again_after_a_crash(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Collecting) and isinstance(event, rounds.ModelReady):
        state = replace(state, answered=rounds.NOBODY, evaluated=rounds.NOBODY)
    return rounds.step(state, event, rules, roster)


def does_not_greet(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    if isinstance(state, Waiting) and isinstance(event, rounds.ClientCame):
        state = replace(state, past=replace(state.past, greets_until=0.0))
    return rounds.step(state, event, rules, roster)


def speaks_for_an_old_epoch(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    return rounds.step(state, event, replace(rules, epoch=1), roster)


def learns_beyond_its_bounds(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    wide = replace(rules.pace, deadline_min_s=0.1, deadline_max_s=1e6)
    return rounds.step(state, event, replace(rules, pace=wide), roster)


ClientStepped = tuple[session.Session, list[session.Effect]]


def loses_what_it_owes(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Disconnected):
        following = replace(following, owed=())
    return following, effects


def throws_its_answer_away(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Finished):
        return replace(following, owed=state.owed), [session.Forget(event.answer)]
    return following, effects


def overlooks_its_outbox(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Started):
        event = replace(event, answers=())
    return session.step(state, event, rules)


def sends_only_once(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Woke):
        kept: list[session.Effect] = [e for e in effects if not isinstance(e, session.Send)]
        return following, kept
    return following, effects


def speaks_without_a_link(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Finished):
        following, effects = session.step(replace(state, online=True), event, rules)
        return replace(following, online=state.online), effects
    return session.step(state, event, rules)


def forgets_at_a_receipt_of_another_round(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Received) and isinstance(event.message, Receipt) and state.owed:
        owed = state.owed[0].answer
        event = replace(event, message=Receipt(run=owed.run, round=owed.round, accepted=True))
    return session.step(state, event, rules)


def works_on_battery(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Offered):
        following, effects = session.step(replace(state, hindrance=""), event, rules)
        return replace(following, hindrance=state.hindrance), effects
    return session.step(state, event, rules)


def works_uninvited(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Offered):
        event = replace(event, offer=structs.replace(event.offer, train=(rules.client,)))
    return session.step(state, event, rules)


def follows_an_old_coordinator(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    if isinstance(event, session.Offered):
        following, effects = session.step(replace(state, epoch=0), event, rules)
        return replace(following, epoch=max(state.epoch, following.epoch)), effects
    return session.step(state, event, rules)


def leaves_with_debts(
    state: session.Session, event: session.Event, rules: session.Rules
) -> ClientStepped:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Finished) and following.owed and following.online:
        return replace(following, online=False), [session.Leave(event.at + 60)]
    return following, effects


def raises(state: session.Session, event: session.Event, rules: session.Rules) -> ClientStepped:
    if isinstance(event, session.Finished):
        raise KeyError(event.answer.round)
    return session.step(state, event, rules)


def test_who_finds_no_room_for_a_late_answer_is_not_told_to_forget_it() -> None:
    # One round is made of one answer, of nine; four of the others may wait. Storms seldom do that.
    plan = replace(
        PLAN,
        cohort=1,
        quorum=1,
        over_selection=9.0,
        over_selection_min=9.0,
        over_selection_max=9.0,
        clients_min=9,
        late="weigh",
        late_rounds_max=5,
        pause_s=20.0,
    )
    World(plan, FAIR).run()
    with pytest.raises(Broken, match="was refused, and may count when there is room"):
        World(plan, FAIR, coordinator_step=refuses_what_may_count_later).run()


def notices(words: str, **broken: Any) -> bool:
    """Whether a promise breaks, in one storm of a hundred, that says these words."""
    for seed in range(100):
        try:
            World(Plan.from_seed(seed), Weather.from_seed(seed), **broken).run()
        except Broken as told:
            if words in str(told):
                return True
    return False


def asks_who_is_at_work(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    return rounds.step(replace(state, past=replace(state.past, at_work={})), event, rules, roster)


def lets_in_who_found_no_room(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    """Late, or when the coordinator was killed."""
    following, effects = rounds.step(state, event, rules, roster)
    settled = tuple(replace(one, is_shut=False) for one in following.past.settled)
    following = replace(following, past=replace(following.past, settled=settled))
    return following, [effect for effect in effects if not isinstance(effect, rounds.Shut)]


def refuses_what_may_count_later(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if any(isinstance(effect, Note) and effect.what == "put off" for effect in effects):
        assert isinstance(event, rounds.AnnounceCame | rounds.UpdateCame)
        receipt = Receipt(run=event.run, round=event.round, accepted=False, reason="no room")
        effects = [Publish(Inbox(event.client), receipt)]
    return following, effects


def leaves_places_free(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    few = replace(rules, concurrency=1) if rules.is_asynchronous else rules
    return rounds.step(state, event, few, roster)


def gives_away_too_many_places(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    many = replace(rules, concurrency=1000) if rules.is_asynchronous else rules
    return rounds.step(state, event, many, roster)


def waits_for_the_open_round_alone(
    state: rounds.State, event: rounds.Event, rules: Rules, roster: Roster
) -> Stepped:
    following, effects = rounds.step(state, event, rules, roster)
    if rules.is_asynchronous and any(isinstance(one, Close) and one.held for one in effects):
        # It closes, but not for what came late.
        effects = [
            replace(one, reason=rounds.DEADLINE) if isinstance(one, Close) else one
            for one in effects
        ]
    return following, effects


BROKEN_COORDINATORS: dict[Callable[..., Any], str] = {
    quorum_off_by_one: "averaged",
    counts_copies: "counted twice",
    counts_uninvited: "counted uninvited",
    ignores_the_base: "counted with base",
    ignores_the_run: "counted though it is of run",
    forgets_the_alarm: "no alarm",
    leaves_the_late_without_receipt: "got 0 receipts",
    believes_old_wills: "not believed",
    receipts_at_once: "before it was stored",
    never_says_that_it_is_stored: "receipts for []",
    closes_while_storing: "were stored",
    forgets_what_it_held: "took up",
    takes_up_what_is_late_twice: "took up",
    does_not_wait_for_a_batch: "took up",
    takes_what_should_be_discarded: "late answers are discarded",
    takes_what_is_too_old: "closed too long ago",
    counts_again_after_a_crash: "who have answered",
    does_not_greet: "before its clients were heard of",
    speaks_for_an_old_epoch: "as somebody else",
    learns_beyond_its_bounds: "out of bounds",
    asks_who_is_at_work: "invited while at work",
    lets_in_who_found_no_room: "counted after it was turned away",
    leaves_places_free: "could be at work and is not asked",
    gives_away_too_many_places: "clients are at work",
    waits_for_the_open_round_alone: "made it deadline",
}
BROKEN_CLIENTS: dict[Callable[..., Any], str] = {
    loses_what_it_owes: "lost its answer",
    throws_its_answer_away: "does not owe what it has just finished",
    overlooks_its_outbox: "what its outbox holds",
    sends_only_once: "does not send what it owes",
    speaks_without_a_link: "speaks without a link",
    forgets_at_a_receipt_of_another_round: "lost its answer",
    works_on_battery: "against its owner's conditions",
    works_uninvited: "takes up work uninvited",
    follows_an_old_coordinator: "that was replaced",
    leaves_with_debts: "leaves and owes",
    raises: "KeyError",
}


def name_of(broken: object) -> str:
    return getattr(broken, "__name__", "")


@pytest.mark.parametrize("step", BROKEN_COORDINATORS, ids=name_of)
def test_a_broken_coordinator_breaks_a_promise(step: Callable[..., Any]) -> None:
    assert notices(BROKEN_COORDINATORS[step], coordinator_step=step)


@pytest.mark.parametrize("step", BROKEN_CLIENTS, ids=name_of)
def test_a_broken_client_breaks_a_promise(step: Callable[..., Any]) -> None:
    assert notices(BROKEN_CLIENTS[step], client_step=step)


# Disks that are broken on purpose: what they give back after a crash is not what was there.


class LosesOneAnswer(Disk):
    """One that was said to be stored."""

    def keep(self, named: Named, closes_in_s: Seconds | None, report: Report | None = None) -> None:
        if len(self.answers) != 3:
            super().keep(named, closes_in_s, report)


class InventsAnAnswer(Disk):
    def keep(self, named: Named, closes_in_s: Seconds | None, report: Report | None = None) -> None:
        super().keep(named, closes_in_s, report)
        opening = self.openings[-1]
        for client in opening.train[:1]:
            self.answers.setdefault(Named(client, RoundId(len(self.openings))), None)


class ForgetsItsEpoch(Disk):
    def take_epoch(self, epoch: int) -> None:
        super().take_epoch(1)


class WritesTheClosingOnlyLater(Disk):
    """The next round opens from a model that was never written down."""

    def close_round(self, close: Close, carried: Carried, model: Digest) -> None:
        super().close_round(close, carried, model)
        self.closed_count -= 1

    def open_round(self, number: RoundId, opening: Any) -> None:
        self.closed_count = number - 1
        super().open_round(number, opening)


class Recovering(Disk):
    """Gives back another state than it holds."""

    def recover(self, at: Seconds, rules: Rules) -> Waiting | Collecting:
        state = super().recover(at, rules)
        return self.mangle(state, rules) if self.closed_count or self.answers else state

    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        raise NotImplementedError


class InvitesOthers(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        if isinstance(state, Collecting):
            return replace(state, train=frozenset(sorted(state.train)[1:]))
        return state


class BeginsTheRoundAnew(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        return replace(state, answered=rounds.NOBODY) if isinstance(state, Collecting) else state


class GivesMoreTime(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        if isinstance(state, Collecting):
            return replace(state, closes_at=state.closes_at + 1000)
        return state


class LosesWhatWasHeld(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        return replace(state, past=replace(state.past, held=()))


class ForgetsWhoAnsweredBefore(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        return replace(state, past=replace(state.past, settled=state.past.settled[:-1]))


class ForgetsItsPace(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        return replace(state, past=replace(state.past, pace=first_carried(rules).pace))


class OpensTheRoundAgain(Recovering):
    def mangle(self, state: Waiting | Collecting, rules: Rules) -> Waiting | Collecting:
        return Waiting(state.round, state.past) if isinstance(state, Collecting) else state


class ForgetsWhoWasInvitedLater(Disk):
    def invite(self, number: RoundId, opening: Opening) -> None:
        pass


class ForgetsWhoCameInWhenItWasShut(Disk):
    def shut(self, number: RoundId, train: Collection[ClientId]) -> None:
        super().shut(number, ())


BROKEN_DISKS: dict[type[Disk], str] = {
    LosesOneAnswer: "had receipts, and were lost",
    InventsAnAnswer: "never accepted",
    ForgetsItsEpoch: "epoch 2 after 2",
    WritesTheClosingOnlyLater: "remembers not",
    InvitesOthers: "is back with others to train",
    BeginsTheRoundAnew: "is back with other answers",
    GivesMoreTime: "is back for",
    LosesWhatWasHeld: "held, not",
    ForgetsWhoAnsweredBefore: "remembers not",
    ForgetsItsPace: "back with pace",
    OpensTheRoundAgain: "is open no more",
    ForgetsWhoWasInvitedLater: "is back with others to train",
    ForgetsWhoCameInWhenItWasShut: "is back with others to train",
}


@pytest.mark.parametrize("disk", BROKEN_DISKS, ids=name_of)
def test_a_disk_that_loses_or_invents_breaks_a_promise(disk: type[Disk]) -> None:
    for seed in range(100):
        try:
            World(Plan.from_seed(seed), Weather.from_seed(seed), disk=disk()).run()
        except Broken as told:
            if BROKEN_DISKS[disk] in str(told):
                return
    pytest.fail("a hundred storms, and nobody noticed")
