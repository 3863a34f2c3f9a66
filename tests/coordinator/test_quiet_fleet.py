"""What people are told of a fleet that says nothing: of any size as much."""

from dataclasses import replace
from datetime import UTC, datetime

from msgspec import structs

from coordinator import fleet_size, quiet_fleet, rounds
from coordinator.pages import status
from coordinator.pages.status import Facts
from coordinator.quiet_fleet import Answerers
from coordinator.roster import Roster
from coordinator.rounds import Collecting
from fedmqtt import sortition
from fedmqtt.messages import Device, ModelRef, Update
from fedmqtt.status_pages import CoordinatorPage, Page, QuietFleet, RoundPage, encode
from fedmqtt.topics import ClientId, Digest, RoundId, RunId
from fleet_sim.quiet_fleet import rules

MODEL = ModelRef(digest=Digest("m0"), size_bytes=8, chunk_bytes=8, fingerprint="f")


def _facts(answerers: Answerers) -> Facts:
    return Facts(
        federation="ward-7",
        run="first",
        program="fedmqtt",
        started=datetime(2026, 3, 1, 10, 15, tzinfo=UTC),
        answerers=answerers,
    )


def _pages(declared: int, answerers: Answerers, answered: int = 0) -> dict[str, Page]:
    asked = rules(declared, cohort=10, count=3)
    roster = Roster(asked.task, by_sortition=True)
    state, _ = rounds.step(rounds.begin(asked), rounds.ModelReady(0.0, MODEL), asked, roster)
    assert isinstance(state, Collecting)
    clients = frozenset(ClientId(f"device-{number}") for number in range(answered))
    state = replace(state, train=clients, answered=clients)
    answerers.round = state.round
    return status.pages(state, roster, asked, _facts(answerers), at=1.0)


def _fleet(pages: dict[str, Page]) -> QuietFleet:
    page = pages["coordinator"]
    assert isinstance(page, CoordinatorPage) and page.fleet is not None
    return page.fleet


def _update(codec: str, device: Device | None) -> Update:
    plain = Update(
        run=RunId("r"),
        round=RoundId(1),
        base=Digest("m0"),
        fingerprint="f",
        sample_count=1,
        codec=codec,
        payload=memoryview(b""),
    )
    return plain if device is None else structs.replace(plain, device=device)


def test_who_answered_is_told_in_counts_and_how_many_would_as_an_estimate() -> None:
    answerers = Answerers(one_in=40.0)
    for label in ("phone", "phone", "watch", ""):
        answerers.count(_update("eden", Device(program="fedmqtt 1.0", label=label)))
    answerers.count(_update("full", None))
    pages = _pages(1_000_000, answerers, answered=5)
    fleet, at_first = _fleet(pages), fleet_size.estimate(fleet_size.begin(1_000_000))
    assert (fleet.estimate, fleet.low, fleet.high) == (at_first.size, at_first.low, at_first.high)
    assert (fleet.declared, fleet.one_in, fleet.answered) == (1_000_000, 40.0, 5)
    assert fleet.labels == {"phone": 2, "watch": 1} and fleet.programs == {"fedmqtt 1.0": 4}
    assert fleet.codecs == {"eden": 4, "full": 1}
    page, opened = pages["coordinator"], pages["round"]
    assert isinstance(page, CoordinatorPage) and isinstance(opened, RoundPage)
    assert (page.clients_online, page.clients_known) == (0, 0)
    assert page.says == "round 1: 5 of 10 answers" and opened.progress == 0.5
    assert quiet_fleet.sentence(fleet) in page.health_why
    assert page.next_step.startswith("round 1 closes with 5 more answers")


def test_no_page_is_of_single_clients_and_none_grows_with_the_fleet() -> None:
    small, large = (_pages(count, Answerers(), 3) for count in (1000, 100_000_000))
    assert not large.keys() & {"clients", "participation"}
    for name, page in large.items():
        assert len(encode(page)) < len(encode(small[name])) + 80


def test_devices_that_each_call_themselves_something_else_are_not_told_apart_without_end() -> None:
    answerers = Answerers()
    for number in range(5000):
        answerers.count(_update("full", Device(label=f"kind {number}")))
    fleet = _fleet(_pages(1000, answerers))
    assert len(answerers.labels) <= 1001 and sum(answerers.labels.values()) == 5000
    assert len(fleet.labels) == 20 and fleet.labels["others"] == 4000


def test_where_each_says_that_it_is_there_nothing_is_inferred() -> None:
    asked = replace(rules(0, cohort=10, count=3), by_sortition=True)
    assert quiet_fleet.page(rounds.begin(asked), asked, Answerers()) is None


def test_who_is_drawn_is_said_in_words() -> None:
    asked = rules(1000, cohort=10, count=3)
    roster = Roster(asked.task, by_sortition=True)
    state, _ = rounds.step(rounds.begin(asked), rounds.ModelReady(0.0, MODEL), asked, roster)
    assert isinstance(state, Collecting) and state.sortition is not None
    for train, evaluate, words in (
        (0.0, 1.0, "nobody to train, every client to evaluate"),
        (0.4, 0.98, "one client in 2.5 to train, nearly every client to evaluate"),
        (0.4, 0.00001, "one client in 2.5 to train, one client in 100,000 to evaluate"),
    ):
        by = structs.replace(
            state.sortition,
            train=sortition.threshold_of(train),
            evaluate=sortition.threshold_of(evaluate),
        )
        said = quiet_fleet.drawn(replace(state, sortition=by))
        assert said == f"draws {words}; about 32 would answer (1 to 724)"
