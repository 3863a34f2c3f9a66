"""Pages as a coordinator would publish them, made by hand, and a link to publish them with."""

from collections.abc import Callable, Mapping

from msgspec import structs

from fedmqtt.event_loop import EventLoop
from fedmqtt.mqtt_link import (
    Arrived,
    BrokerUrl,
    LinkEvent,
    LinkOptions,
    MqttLink,
    parse_broker_url,
)
from fedmqtt.status_pages import (
    ClientPage,
    ClientsPage,
    CoordinatorPage,
    Figures,
    HistoryPage,
    ModelPage,
    OrderLine,
    OrdersPage,
    PacePage,
    Page,
    ParticipationPage,
    QuietFleet,
    RoundLine,
    RoundPage,
    TrafficPage,
    encode,
)
from fedmqtt.topics import ClientId, RoundId, StatusPage, Topics
from round_monitor.board import Board
from tests.patience import WITHIN_S


def names(*clients: str) -> list[ClientId]:
    return [ClientId(client) for client in clients]


def reasons(**clients: str) -> dict[ClientId, str]:
    return {ClientId(client): reason for client, reason in clients.items()}


QUIET = QuietFleet(
    declared=1_000_000,
    estimate=48_393,
    low=44_376,
    high=52_773,
    one_in=45.5,
    answered=600,
    rejected=1,
    declined=2,
    programs={"fedmqtt 1.0": 590, "fedmqtt 0.9": 10},
    labels={"phone": 480, "watch": 120},
    codecs={"eden": 600},
)


def coordinator(
    says: str = "round 3: 2 of 4 answers from 5 invited",
    known: int = 8,
    late_updates: int = 0,
    rounds_wanted: int = 10,
) -> CoordinatorPage:
    return CoordinatorPage(
        state="collecting",
        says=says,
        federation="ward-7",
        run="20260301-101500",
        task="phonewatch",
        program="0.1.0",
        since="2026-03-01T10:15:00+00:00",
        round=RoundId(3),
        rounds_wanted=rounds_wanted,
        clients_online=known - 1,
        clients_known=known,
        late_updates=late_updates,
        unreadable_messages=0,
        aggregation="plain: the coordinator can read each device's answer",
        protocol="MQTT 5",
    )


def open_round(
    number: int = 3,
    invited: list[ClientId] | None = None,
    answered: list[ClientId] | None = None,
    rejected: dict[ClientId, str] | None = None,
    declined: dict[ClientId, str] | None = None,
) -> RoundPage:
    """Closes at 10:20:00; ann, bob, cat, dan and eve are invited unless said otherwise."""
    return RoundPage(
        round=RoundId(number),
        open=True,
        opened=f"2026-03-01T10:{number:02}:00+00:00",
        closes="2026-03-01T10:20:00+00:00",
        wanted=4,
        quorum=2,
        invited=names("ann", "bob", "cat", "dan", "eve") if invited is None else invited,
        answered=answered or [],
        away=[],
        declined=declined or {},
        rejected=rejected or {},
        evaluators=[],
        evaluated=[],
    )


def pace(number: int = 3) -> PacePage:
    return PacePage(
        round=RoundId(number),
        over_selection=1.25,
        over_selection_reason="invites 5 for 4: 90% of those invited answer",
        deadline_s=72.0,
        deadline_reason="closes after 72 s: 95% are expected to answer within 48 s",
    )


def figures(accuracy: float) -> Figures:
    metrics = {"accuracy": accuracy, "macro_f1": accuracy / 2}
    return Figures(clients=2, samples=1234, metrics=metrics)


def line(number: int, accuracy: float | None = None, outcome: str = "averaged") -> RoundLine:
    """Of 5 invited, 4 answered."""
    return RoundLine(
        round=RoundId(number),
        outcome=outcome,
        reason="cohort complete",
        invited=5,
        answered=4,
        dropped=1,
        declined=0,
        rejected=0,
        duration_s=2.5,
        train_metrics={},
        figures=None if accuracy is None else figures(accuracy),
    )


def model(accuracy: float = 0.75, figures_round: int = 3) -> ModelPage:
    return ModelPage(
        digest="ab" * 32,
        size_bytes=167_432,
        parameters=40_613,
        trained_rounds=2,
        figures=figures(accuracy),
        figures_round=RoundId(figures_round),
    )


def mid_round() -> dict[str, Page]:
    """Round 3: ann and bob answered, cat was rejected, dan works, eve is away; fay evaluated."""
    page = open_round(
        answered=names("ann", "bob"), rejected=reasons(cat="update norm 41.2 above the limit 10")
    )
    return {
        "coordinator": coordinator(),
        "round": structs.replace(
            page, away=names("eve"), evaluators=names("fay"), evaluated=names("fay")
        ),
        "pace": pace(),
        "model": model(),
        "history": HistoryPage(rounds=[line(1, 0.25), line(2, 0.5)]),
        "participation": ParticipationPage(
            rounds=[RoundId(1), RoundId(2)],
            clients={ClientId("ann"): "aa", ClientId("eve"): "dd", ClientId("gus"): ".a"},
            clients_known=3,
        ),
        "clients": ClientsPage(
            online=names("ann", "bob", "cat", "dan", "fay", "gus", "hal"),
            away=names("eve"),
            hindered=reasons(hal="not charging"),
        ),
        "traffic": TrafficPage(bytes_received=12_345_678, bytes_published=334_864),
        "orders": OrdersPage(),
    }


PAUSED = OrderLine(
    at="2026-03-01T10:18:07+00:00",
    by="carol",
    order="pause",
    done=True,
    result="round 3 closes as usual, and no other opens",
)
PAUSE_TOLD = (
    "carol ordered pause: round 3 closes as usual, and no other opens (2026-03-01 10:18:07 UTC)"
)
REFUSED = OrderLine(
    at="2026-03-01T10:19:30+00:00",
    by="dora",
    order="invite zoe",
    done=False,
    result="zoe cannot be invited: it is away",
)
REFUSAL_TOLD = (
    "dora ordered invite zoe, and it is not done: zoe cannot be invited: it is away"
    " (2026-03-01 10:19:30 UTC)"
)


def ordered(*orders: OrderLine) -> OrdersPage:
    return OrdersPage(orders=list(orders))


def a_client(name: str, **more: object) -> ClientPage:
    """One that trains in the third round, seen 20 s before 10:19:20."""
    page = ClientPage(
        client=ClientId(name),
        state="online",
        says="training for round 3, epoch 1 of 2, 25%",
        since="2026-03-01T10:00:00+00:00",
        doing="training",
        round=RoundId(3),
        progress=0.25,
        epoch=1,
        epochs=2,
        last_seen="2026-03-01T10:19:00+00:00",
        rounds_invited=4,
        rounds_answered=3,
        answered_last=RoundId(2),
        duration_s=21.0,
        uplink_kbps=24_900.0,
        label="pi",
        program="fedmqtt 0.1.0",
        as_of="2026-03-01T10:19:08+00:00",
    )
    return structs.replace(page, **more)


def sent(page: Page | bytes) -> bytes:
    """What is published; bytes as they are, that may be no page."""
    return page if isinstance(page, bytes) else encode(page)


def board_of(pages: Mapping[str, Page | bytes]) -> Board:
    board = Board()
    for name, page in pages.items():
        board.take(name, sent(page), at="10:19:48")
    return board


def publish(url: str | BrokerUrl, federation: str, pages: Mapping[str, Page]) -> None:
    """As the coordinator of this federation does: retained. When this returns they have come."""
    publish_bytes(url, federation, {name: encode(page) for name, page in pages.items()})


def publish_bytes(url: str | BrokerUrl, federation: str, sent: Mapping[str, bytes]) -> None:
    """As `publish`, whatever they are."""
    loop, topics, back = EventLoop(), Topics(federation), set[str]()

    def on_event(event: LinkEvent) -> None:
        match event:
            case Arrived(StatusPage(name), payload) if sent.get(name) == payload:
                back.add(name)

    options = LinkOptions(client_id=f"coordinator-{federation}", subscribe=(topics.any_status,))
    broker = parse_broker_url(url) if isinstance(url, str) else url
    link = MqttLink(loop, broker, topics, options, on_event)
    link.open()
    try:
        run_until(loop, lambda: link.is_up)
        for name, payload in sent.items():
            link.publish(StatusPage(name), payload)
        run_until(loop, lambda: back == sent.keys())
    finally:
        link.close()
        loop.close()


def run_until(loop: EventLoop, holds: Callable[[], bool]) -> None:
    deadline = loop.now() + WITHIN_S
    while not holds():
        assert loop.now() < deadline, "it did not happen in time"
        loop.run_once(wait_max_s=0.1)
