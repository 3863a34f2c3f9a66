"""The simulated world repeats itself for a seed, and notices machines that are broken."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coordinator import rounds
from coordinator.roster import Roster
from edge_client import session
from fedmqtt.effects import Publish, WakeAt
from fedmqtt.messages import Receipt
from fleet_sim import __main__ as program
from fleet_sim.promises import Broken
from fleet_sim.weather import FOREVER, Weather
from fleet_sim.world import Plan, World

ROOT = Path(__file__).parents[2]
PLAN = replace(Plan.from_seed(1, 12, 5), cohort=4, quorum=2, clients_min=4, deadline_s=30.0)
FAIR = Weather()


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
    assert 10 < sum(weather.online_s == FOREVER for weather in drawn) < 60


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


def test_seeds_differ() -> None:
    traces = set()
    for seed in range(5):
        world = World(replace(PLAN, seed=seed), FAIR)
        world.run()
        traces.add(world.trace)
    assert len(traces) == 5


def test_many_storms_end_with_a_word_about_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--storms", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out == "3 of 3 storms\nevery promise held\n"


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


def quorum_off_by_one(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    return rounds.step(state, event, replace(rules, quorum=rules.quorum - 1), roster)


def counts_copies(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    if isinstance(state, rounds.Collecting) and isinstance(event, rounds.UpdateCame):
        state = replace(state, answered=state.answered - {event.client})
    return rounds.step(state, event, rules, roster)


def counts_uninvited(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    if isinstance(state, rounds.Collecting) and isinstance(event, rounds.UpdateCame):
        state = replace(state, train=state.train | {event.client})
    return rounds.step(state, event, rules, roster)


def ignores_the_base(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    following, effects = rounds.step(state, event, rules, roster)
    if isinstance(state, rounds.Collecting) and isinstance(event, rounds.UpdateCame):
        right = replace(event, base=state.model.digest)
        return rounds.step(state, right, rules, roster)
    return following, effects


def forgets_the_alarm(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    following, effects = rounds.step(state, event, rules, roster)
    if isinstance(event, rounds.Woke):
        effects = [effect for effect in effects if not isinstance(effect, WakeAt)]
    return following, effects


def leaves_the_late_without_receipt(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    following, effects = rounds.step(state, event, rules, roster)
    if following.late > state.late:
        effects = [effect for effect in effects if not isinstance(effect, Publish)]
    return following, effects


def believes_old_wills(
    state: rounds.State, event: rounds.Event, rules: rounds.Rules, roster: Roster
) -> tuple[rounds.State, list[rounds.Effect]]:
    if isinstance(event, rounds.ClientLeft) and event.client in roster.clients:
        # Such a roster loses clients that are there: a round cannot open that should.
        entry = roster.clients[event.client]
        event = replace(event, session=entry.presence.session)
    return rounds.step(state, event, rules, roster)


def loses_what_it_owes(
    state: session.Session, event: session.Event, rules: session.Rules
) -> tuple[session.Session, list[session.Effect]]:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Disconnected):
        following = replace(following, owed=())
    return following, effects


def sends_only_once(
    state: session.Session, event: session.Event, rules: session.Rules
) -> tuple[session.Session, list[session.Effect]]:
    following, effects = session.step(state, event, rules)
    if isinstance(event, session.Woke):
        kept: list[session.Effect] = [e for e in effects if not isinstance(e, session.Send)]
        return following, kept
    return following, effects


def speaks_without_a_link(
    state: session.Session, event: session.Event, rules: session.Rules
) -> tuple[session.Session, list[session.Effect]]:
    if isinstance(event, session.Finished):
        following, effects = session.step(replace(state, online=True), event, rules)
        return replace(following, online=state.online), effects
    return session.step(state, event, rules)


def forgets_at_a_receipt_of_another_round(
    state: session.Session, event: session.Event, rules: session.Rules
) -> tuple[session.Session, list[session.Effect]]:
    if isinstance(event, session.Received) and isinstance(event.message, Receipt) and state.owed:
        round_id = state.owed[0].answer.round
        event = replace(event, message=Receipt(round=round_id, accepted=True))
    return session.step(state, event, rules)


def works_on_battery(
    state: session.Session, event: session.Event, rules: session.Rules
) -> tuple[session.Session, list[session.Effect]]:
    if isinstance(event, session.Offered):
        following, effects = session.step(replace(state, hindrance=""), event, rules)
        return replace(following, hindrance=state.hindrance), effects
    return session.step(state, event, rules)


@pytest.mark.parametrize(
    "broken",
    [
        {"coordinator_step": quorum_off_by_one},
        {"coordinator_step": counts_copies},
        {"coordinator_step": counts_uninvited},
        {"coordinator_step": ignores_the_base},
        {"coordinator_step": forgets_the_alarm},
        {"coordinator_step": leaves_the_late_without_receipt},
        {"client_step": loses_what_it_owes},
        {"client_step": sends_only_once},
        {"client_step": speaks_without_a_link},
        {"client_step": forgets_at_a_receipt_of_another_round},
        {"client_step": works_on_battery},
    ],
    ids=lambda broken: next(iter(broken.values())).__name__,
)
def test_a_broken_machine_breaks_a_promise(broken: dict[str, Any]) -> None:
    for seed in range(100):
        try:
            World(Plan.from_seed(seed), Weather.from_seed(seed), **broken).run()
        except Broken:
            return
    pytest.fail("a hundred storms, and nobody noticed")
