"""Faults of one client's link, or of all: cut, half-open, slow."""

import re
from time import sleep

from tests.faults.federation import Federation
from tests.faults.plan import COORDINATOR, LARGE_BYTES, Plan
from tests.faults.scenario import scenario
from tests.faults.situations import until_dan_is_at_work
from tests.faults.stage import Row, Stage, require
from tests.patience import WITHIN_S


@scenario("one client's link cut for 10 s", takes_s=15)
def link_cut(stage: Stage) -> Row:
    with stage.federation(Plan(proxied=("dan",))) as fed:
        until_dan_is_at_work(fed)
        _cut_off_dan(fed)
        fed.let_go("dan")
        sleep(stage.outage_s)
        fed.proxies["dan"].let_in()
        return stage.row(fed, "the round waits: all four answers are wanted")


@scenario("one client's link cut for 10 s, the round need not wait", takes_s=25)
def link_cut_and_not_waited_for(stage: Stage) -> Row:
    # Long trainings, so that the run is not over before dan is back.
    plan = Plan(proxied=("dan",), quorum=3, clients_min=3, rounds=9, pace_s=3.0)
    with stage.federation(plan) as fed:
        until_dan_is_at_work(fed)
        _cut_off_dan(fed)
        fed.let_go("dan")
        sleep(stage.outage_s)
        fed.proxies["dan"].let_in()
        row = stage.row(fed, "its late answer was refused and said so", same=False)
        second, last = fed.records[1], fed.records[-2]
        require(list(second.answered) == ["ann", "bob", "cat"], f"round 2 counted {second}")
        require("dan" in last.answered, f"dan does not take part again: {last}")
        late = re.findall(r"receipt: .*round 2\b.* not counted: late", fed.clients["dan"].log)
        require(len(late) == 1, "dan was not told that its answer was late")
        return row


@scenario("link cut for 10 s in the middle of a chunk of an update", takes_s=15)
def link_cut_within_an_update(stage: Stage) -> Row:
    with stage.federation(Plan(large=True, proxied=("dan",))) as fed:
        until_dan_is_at_work(fed)
        proxy = fed.proxies["dan"]
        before = proxy.passed("up")
        cut = proxy.cut_after(LARGE_BYTES * 7 // 8, "up")
        fed.let_go("dan")
        require(cut.wait(WITHIN_S), "the update was not sent")
        # Not before the next round: its model comes first, then its answer.
        fed.hold("dan", number=3)
        sleep(stage.outage_s)
        proxy.let_in()
        fed.wait_for_receipt("dan", 2)
        times = (proxy.passed("up") - before) / LARGE_BYTES
        fed.let_go("dan")
        # From the beginning it would be 1.87 times.
        require(times < 1.6, f"the update was sent {times:.2f} times")
        return stage.row(fed, f"resumed: {times:.2f} times its size was sent")


@scenario("link cut for 10 s in the middle of a chunk of a model", takes_s=15)
def link_cut_within_a_model(stage: Stage) -> Row:
    with stage.federation(Plan(large=True, proxied=("dan",))) as fed:
        fed.hold("dan", number=1)
        fed.start()
        fed.wait_for_training("dan", 1)
        proxy = fed.proxies["dan"]
        before = proxy.passed("down")
        cut = proxy.cut_after(LARGE_BYTES * 7 // 8, "down")
        fed.hold("dan", number=2)
        require(cut.wait(WITHIN_S), "the model was not fetched")
        sleep(stage.outage_s)
        proxy.let_in()
        fed.wait_for_training("dan", 2)
        times = (proxy.passed("down") - before) / LARGE_BYTES
        fed.let_go("dan")
        require(times < 1.6, f"the model was fetched {times:.2f} times")
        return stage.row(fed, f"resumed: {times:.2f} times its size was fetched")


@scenario("one client's link half-open for 10 s", takes_s=15)
def link_half_open(stage: Stage) -> Row:
    with stage.federation(Plan(proxied=("dan",))) as fed:
        until_dan_is_at_work(fed)
        proxy = fed.proxies["dan"]
        proxy.swallow()
        fed.let_go("dan")
        sleep(stage.outage_s)
        proxy.swallow(False)
        return stage.row(fed, "its answer went into the void, and came again")


@scenario("all links slow", takes_s=25)
def links_slow(stage: Stage) -> Row:
    everybody = (COORDINATOR, *Plan().clients)
    with stage.federation(Plan(large=True, proxied=everybody)) as fed:
        for proxy in fed.proxies.values():
            proxy.throttle(2_000_000)
            proxy.delay(0.05)
        fed.start()
        return stage.row(fed, "2 MB/s for each, 50 ms each way; 800 kB each way in each round")


def _cut_off_dan(fed: Federation) -> None:
    proxy = fed.proxies["dan"]
    proxy.refuse()
    require(proxy.cut_count == 1, f"{proxy.cut_count} connections were cut")
