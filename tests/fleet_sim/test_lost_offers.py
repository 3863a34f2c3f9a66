"""A broker that does not give everybody the board's offer: the coordinator tells who is missing."""

from dataclasses import replace

from coordinator import rounds
from fedmqtt.messages import Offer
from fedmqtt.topics import Inbox
from fleet_sim.broker import Letter, Session
from fleet_sim.plan import Plan
from fleet_sim.weather import Weather
from fleet_sim.world import World
from tests.fleet_sim.test_world import PLAN

HIDES = Weather(train_s=2.0, offers_lost=0.5)
EVERYBODY = replace(PLAN, cohort=PLAN.clients, clients_min=PLAN.clients, evaluate_every=0)
"""Each round needs the answer of each client."""


def run(plan: Plan, weather: Weather) -> World:
    """Of which all rounds are in the storm: the calm hides no offers."""
    world = World(replace(plan, storm_s=10_000.0, rounds=5), weather)
    world.run()
    return world


def test_a_round_is_complete_though_half_of_its_clients_were_not_shown_its_offer() -> None:
    world = run(replace(EVERYBODY, remind_s=2.0), HIDES)
    assert [close.reason for close in world.closed] == [rounds.COMPLETE] * 5
    assert all(len(close.answered) == PLAN.clients for close in world.closed)


def test_without_a_word_to_them_it_waits_for_its_deadline() -> None:
    world = run(replace(EVERYBODY, remind_s=0.0), HIDES)
    assert rounds.DEADLINE in [close.reason for close in world.closed]


def test_an_asynchronous_round_is_told_again_too() -> None:
    plan = replace(PLAN, concurrency=4, late="weigh", evaluate_every=0, remind_s=2.0)
    world = run(plan, HIDES)
    assert [close.reason for close in world.closed] == [rounds.COMPLETE] * 5


def test_clients_that_draw_for_themselves_are_told_again_too() -> None:
    plan = replace(EVERYBODY, selection="sortition", remind_s=2.0)
    world = run(plan, HIDES)
    assert [close.reason for close in world.closed] == [rounds.COMPLETE] * 5


def test_who_is_at_work_may_be_told_as_often_as_one_likes() -> None:
    """Here all are, for longer than all the pauses, and nobody is shown less than others."""
    slow = replace(EVERYBODY, deadline_s=100.0, deadline_min_s=100.0, deadline_max_s=100.0)
    told, silent = (
        run(replace(slow, remind_s=remind_s), Weather(train_s=20.0)) for remind_s in (2.0, 0.0)
    )
    # Each trains once for each round, as the promises say; so all comes to the same.
    assert [close.answered for close in told.closed] == [close.answered for close in silent.closed]
    assert [close.reason for close in told.closed] == [rounds.COMPLETE] * 5


def test_where_all_is_well_nothing_is_said_again() -> None:
    plan = replace(EVERYBODY, remind_s=5.0, storm_s=10_000.0, rounds=5)
    world = World(plan, Weather(train_s=0.1, download_s=0.1))
    said: list[Inbox] = []
    forward = world.broker._forward

    def counted(session: Session, letter: Letter) -> None:
        if isinstance(letter.address, Inbox) and isinstance(letter.message, Offer):
            said.append(letter.address)
        forward(session, letter)

    world.broker._forward = counted  # type: ignore[method-assign]
    world.run()
    assert [close.reason for close in world.closed] == [rounds.COMPLETE] * 5
    assert not said
