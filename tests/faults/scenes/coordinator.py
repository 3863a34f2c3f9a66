"""Faults of the coordinator's program: killed again and again, frozen."""

import signal
from random import Random
from time import sleep

from tests.faults.federation import Federation
from tests.faults.plan import COORDINATOR, LARGE_BYTES, Plan
from tests.faults.scenario import scenario
from tests.faults.situations import until_dan_is_at_work
from tests.faults.stage import Row, Stage, require


@scenario("coordinator killed at random instants", takes_s=100)
def coordinator_killed(stage: Stage) -> Row:
    return _kill_the_coordinator(stage, stage.kills, large=False)


@scenario("coordinator killed at random instants, answers in chunks", takes_s=50)
def coordinator_killed_among_chunks(stage: Stage) -> Row:
    return _kill_the_coordinator(stage, stage.kills // 3, large=True)


def _kill_the_coordinator(stage: Stage, kills: int, *, large: bool) -> Row:
    chance = stage.chance
    # So many rounds that the run is not over before the kills are.
    plan = Plan(large=large, rounds=kills + max(3, kills // 5), pace_s=0.5, proxied=(COORDINATOR,))
    # What reaches the coordinator in a round or two.
    traffic = 2 * LARGE_BYTES * len(plan.clients) if large else 6000
    at_work = 0
    with stage.federation(plan) as fed:
        fed.start()
        for kill in range(kills):
            if kill % 3 == 0:
                # On a busy machine it would be killed while it starts, each time.
                fed.wait(lambda: "connected" in fed.coordinator.now.log, "its connection")
                sleep(chance.uniform(0, 0.5))
            else:
                _wait_for_an_instant(fed, chance, traffic)
            require(fed.coordinator.is_running, "the run ended before all kills were done")
            at_work += "connected" in fed.coordinator.now.log
            fed.kill_coordinator()
            fed.start_program(fed.coordinator)
        require(at_work >= kills // 3, f"only {at_work} of {kills} kills found it at work")
        # Killed again meanwhile, between the same two rounds, it listens anew: that is the stall.
        note = f"{kills} times, started again each time; each time it listens for who is there"
        row = stage.row(fed, note)
        for who in plan.clients:
            # It went on with the round each time: nobody's work was asked for again.
            trained = fed.trainings(who)
            require(len(trained) == len(set(trained)), f"{who} trained for rounds {trained}")
        return row


def _wait_for_an_instant(fed: Federation, chance: Random, traffic: int) -> None:
    """Any moment of the clock, while it starts too; or of the traffic, where it has most to do."""
    if chance.random() < 0.5:
        sleep(chance.uniform(0, 1.5))
    else:
        alarm = fed.proxies[COORDINATOR].ring_after(chance.randrange(traffic), "down")
        alarm.wait(3.0)
        sleep(chance.uniform(0, 0.01))


@scenario("the coordinator frozen for 10 s", takes_s=15)
def coordinator_frozen(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        process = fed.coordinator.now.process
        process.send_signal(signal.SIGSTOP)
        fed.let_go("dan")
        sleep(stage.outage_s)
        process.send_signal(signal.SIGCONT)
        return stage.row(fed, "and thawed: the broker had given it up")
