"""Faults of clients' programs: killed, frozen, or there and silent."""

import signal
from time import sleep

from tests.faults.plan import Plan
from tests.faults.scenario import scenario
from tests.faults.situations import require_missing, until_dan_is_at_work
from tests.faults.stage import Row, Stage, require


@scenario("half of the cohort killed in mid-round")
def half_killed(stage: Stage) -> Row:
    with stage.federation(Plan(quorum=2)) as fed:
        fed.hold("bob", "dan", number=2)
        fed.start()
        for who in ("bob", "dan"):
            fed.wait_for_training(who, 2)
        fed.kill("bob", "dan")
        fed.wait_for_round(2)
        for who in ("bob", "dan"):
            fed.let_go(who)
            fed.start_client(who)
        row = stage.row(fed, "the round closes without them; they return", same=False)
        require_missing(fed, {2: {"bob", "dan"}})
        return row


@scenario("all of the cohort killed in mid-round")
def all_killed(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        everybody = fed.plan.clients
        fed.hold(*everybody, number=2)
        fed.start()
        for who in everybody:
            fed.wait_for_training(who, 2)
        fed.kill(*everybody)
        fed.let_go(*everybody)
        for who in everybody:
            fed.start_client(who)
        return stage.row(fed, "and started again: they train anew")


@scenario("the last outstanding client killed")
def last_outstanding_killed(stage: Stage) -> Row:
    with stage.federation(Plan(quorum=3)) as fed:
        until_dan_is_at_work(fed)
        fed.kill("dan")
        fed.wait_for_round(2)
        fed.let_go("dan")
        fed.start_client("dan")
        row = stage.row(fed, "the round closes without it; it returns", same=False)
        require_missing(fed, {2: {"dan"}})
        return row


@scenario("a client that connects and never answers", takes_s=15)
def silent(stage: Stage) -> Row:
    plan = Plan(clients=(*Plan().clients, "eve"), cohort=5, rounds=5, deadline_s=4.0)
    with stage.federation(plan) as fed:
        # The others first: the run begins when four are there.
        fed.hold("ann", number=1)
        fed.start_all_but("eve")
        fed.wait_for_training("ann", 1)
        fed.hold("eve", number=1)
        fed.start_client("eve")
        fed.wait_for_connections("eve")
        fed.let_go("ann")
        like = Plan(rounds=plan.rounds)
        row = stage.row(fed, "two rounds end by their deadline, then it rests", like=like)
        waited = [one.round for one in fed.records if one.invited and one.reason == "deadline"]
        require(waited == [2, 3], f"rounds {waited} waited until their deadline")
        return row


@scenario("a client frozen for 10 s", takes_s=15)
def client_frozen(stage: Stage) -> Row:
    with stage.federation(Plan()) as fed:
        until_dan_is_at_work(fed)
        process = fed.clients["dan"].now.process
        process.send_signal(signal.SIGSTOP)
        # Its trainer finishes; it cannot say so, nor answer the broker's silence.
        fed.let_go("dan")
        sleep(stage.outage_s)
        process.send_signal(signal.SIGCONT)
        return stage.row(fed, "and thawed: the broker had given it up")
