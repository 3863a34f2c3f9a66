"""Faults of what large federations stand on: a cluster's nodes, workers, the leading coordinator of
two, the server that has the ledger.

Each says what of it must be there.
"""

import re
import signal
from time import sleep

from tests.clusters import NODES
from tests.faults.federation import Federation
from tests.faults.plan import LARGE_BYTES, Plan
from tests.faults.scenario import scenario
from tests.faults.situations import until_dan_is_at_work
from tests.faults.stage import Row, Stage, require

_COORDINATES_AT = re.compile(r"connected to (mqtt://127\.0\.0\.1:\d+) ")
_CONNECTED_AT = re.compile(r"connected \(at (mqtt://127\.0\.0\.1:\d+), ")

PATIENT = Plan(deadline_s=600.0)
"""After a node is lost, rounds may take minutes: none must end for that."""


@scenario("nothing: as on a laptop", needs=())
def undisturbed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        fed.start()
        note = "compared with one Mosquitto, no worker, the ledger in a file"
        return stage.row(fed, note, on_a_laptop=True)


@scenario("nothing, answers in chunks: as on a laptop", needs=())
def undisturbed_chunks(stage: Stage) -> Row:
    with stage.federation(Plan(large=True, deadline_s=600.0)) as fed:
        fed.start()
        return stage.row(fed, "800 kB each way in each round", on_a_laptop=True)


@scenario("the coordinator's node killed", needs=("cluster",))
def coordinators_node_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        return _without_a_node(stage, fed, fed.cluster.nodes.index(_coordinates_at(fed)))


@scenario("a client's node killed", needs=("cluster",))
def clients_node_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        at = {_CONNECTED_AT.findall(lives.log)[-1] for lives in fed.clients.values()}
        others = at - {_coordinates_at(fed)}
        require(bool(others), "all clients are at the coordinator's node")
        return _without_a_node(stage, fed, fed.cluster.nodes.index(min(others)))


def _without_a_node(stage: Stage, fed: Federation, node: int) -> Row:
    fed.cluster.kill(node)
    fed.let_go("dan")
    try:
        fed.wait_for_round(2)
    finally:
        fed.cluster.start(node)
    return stage.row(fed, "back when the round was over without it")


@scenario("each node killed in turn", needs=("cluster",))
def each_node_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        for node in range(NODES):
            fed.cluster.kill(node)
            fed.cluster.start(node)
        fed.let_go("dan")
        return stage.row(fed, "each at once back")


@scenario("a worker killed in mid-round", needs=("workers",))
def worker_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        fed.kill_program(fed.workers[0])
        fed.let_go("dan")
        fed.wait_for_round(3)
        fed.start_program(fed.workers[0])
        return stage.row(fed, "and started again a round later")


@scenario("all workers killed in mid-round", needs=("workers",))
def workers_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        for worker in fed.workers:
            fed.kill_program(worker)
        fed.let_go("dan")
        return stage.row(fed, "for good: the coordinator adds up alone")


@scenario("workers killed at random instants, answers in chunks", needs=("workers",))
def workers_killed_among_chunks(stage: Stage) -> Row:
    chance, kills = stage.chance, max(3, stage.kills // 5)
    plan = Plan(large=True, rounds=kills + 3, pace_s=0.5, deadline_s=600.0)
    with stage.federation(plan) as fed:
        fed.start()
        for kill in range(kills):
            fed.wait_for_round(kill + 1)
            sleep(chance.uniform(0, 1.5))
            worker = chance.choice(fed.workers)
            fed.kill_program(worker)
            fed.start_program(worker)
        return stage.row(fed, f"{kills} times, started again each time")


@scenario("the leading coordinator killed", needs=("standby",))
def leader_killed(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        fed.kill_the_leader()
        fed.let_go("dan")
        row = stage.row(fed, "the standby, on another machine, ends the same round")
        _require_that_nobody_trained_twice(fed)
        return row


@scenario("the leading coordinator killed at random instants", needs=("standby",))
def leaders_killed(stage: Stage) -> Row:
    chance, kills = stage.chance, max(2, stage.kills // 10)
    plan = Plan(rounds=2 * kills + 3, pace_s=0.5, deadline_s=600.0)
    with stage.federation(plan) as fed:
        fed.start()
        for kill in range(kills):
            # The run is not to be over before the next one stands by.
            fed.hold("dan", number=2 * kill + 2)
            fed.wait_for_round(2 * kill + 1)
            sleep(chance.uniform(0, 1.5))
            fed.kill_the_leader()
            fed.let_go("dan")
        row = stage.row(fed, f"{kills} times, each time by a standby on one more machine")
        _require_that_nobody_trained_twice(fed)
        return row


@scenario("the ledger's server killed for 10 s", needs=("postgresql",))
def server_killed(stage: Stage) -> Row:
    return _without_the_server(stage, signal.SIGKILL)


@scenario("the ledger's server restarted for 10 s", needs=("postgresql",))
def server_restarted(stage: Stage) -> Row:
    return _without_the_server(stage, signal.SIGINT)


def _without_the_server(stage: Stage, how: signal.Signals) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        fed.server.stop(how)
        fed.let_go("dan")
        sleep(stage.outage_s)
        fed.server.start()
        return stage.row(fed, "one answer finished meanwhile; it is receipted afterwards")


@scenario("one client cut off from all brokers for 10 s", needs=("cluster",))
def cut_off(stage: Stage) -> Row:
    with stage.federation(Plan(proxied=("dan",), deadline_s=600.0)) as fed:
        until_dan_is_at_work(fed)
        for way in fed.ways["dan"]:
            way.refuse()
        fed.let_go("dan")
        sleep(stage.outage_s)
        for way in fed.ways["dan"]:
            way.let_in()
        return stage.row(fed, "the round waits: all four answers are wanted")


@scenario("all clients cut off in the middle of their answers", needs=("cluster",))
def all_cut_off(stage: Stage) -> Row:
    plan = Plan(large=True, proxied=Plan().clients, deadline_s=600.0)
    with stage.federation(plan) as fed:
        fed.start()
        fed.wait_for_round(1)
        ways = [way for each in fed.ways.values() for way in each]
        halves = [way.ring_after(LARGE_BYTES // 2, "up") for way in ways]
        fed.wait(lambda: any(half.wait(0) for half in halves), "half of an answer")
        for way in ways:
            way.refuse()
        sleep(stage.outage_s)
        for way in ways:
            way.let_in()
        return stage.row(fed, "of 800 kB each")


@scenario("all of it at once", needs=("cluster", "workers", "standby", "postgresql"))
def all_at_once(stage: Stage) -> Row:
    with stage.federation(PATIENT) as fed:
        until_dan_is_at_work(fed)
        node = fed.cluster.nodes.index(_coordinates_at(fed))
        fed.cluster.kill(node)
        fed.kill_program(fed.workers[0])
        fed.server.stop(signal.SIGKILL)
        fed.server.start()
        fed.kill_the_leader()
        fed.let_go("dan")
        fed.cluster.start(node)
        fed.start_program(fed.workers[0])
        return stage.row(fed, "the coordinator's node, a worker, the server, then the coordinator")


def _coordinates_at(fed: Federation) -> str:
    return str(_COORDINATES_AT.findall(fed.coordinator.log)[-1])


def _require_that_nobody_trained_twice(fed: Federation) -> None:
    for who in fed.plan.clients:
        trained = fed.trainings(who)
        require(len(trained) == len(set(trained)), f"{who} trained for rounds {trained}")
