"""Faults of the broker."""

from time import sleep

from tests.faults.federation import Federation
from tests.faults.plan import Plan
from tests.faults.scenario import scenario
from tests.faults.situations import until_dan_is_at_work
from tests.faults.stage import Row, Stage


@scenario("broker restarted for 10 s", takes_s=15)
def broker_restarted(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        fed.broker.stop()
        # It finishes while there is no broker.
        fed.let_go("dan")
        sleep(stage.outage_s)
        fed.broker.start()
        return stage.row(fed, "one answer finished meanwhile")


@scenario("broker killed, nothing kept")
def broker_killed(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        return stage.row(fed, _kill_the_broker(stage, fed))


@scenario("broker killed, with persistence")
def broker_killed_with_persistence(stage: Stage) -> Row:
    with stage.federation(Plan(persistent=True)) as fed:
        return stage.row(fed, _kill_the_broker(stage, fed))


def _kill_the_broker(stage: Stage, fed: Federation) -> str:
    chance = stage.chance
    until_dan_is_at_work(fed)
    fed.broker.kill()
    fed.let_go("dan")
    fed.broker.start()
    kills = 1
    for number in (2, 3):
        fed.wait_for_round(number)
        sleep(chance.uniform(0, 0.4))
        if fed.coordinator.is_running:
            fed.broker.kill()
            fed.broker.start()
            kills += 1
    return f"{kills} times, at once back"
