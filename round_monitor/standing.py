"""How a federation stands at one moment, for scripts: `fedmqtt watch --once --json`.

The schema is docs/schema/watch.json.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from fedmqtt.status_pages import (
    ClientPage,
    ClientsPage,
    CoordinatorPage,
    HistoryPage,
    ModelPage,
    OrdersPage,
    PacePage,
    ParticipationPage,
    RoundPage,
    TrafficPage,
)
from fedmqtt.topics import ClientId
from round_monitor import verdict
from round_monitor.board import Board


class Answer(Struct, frozen=True, kw_only=True):
    """One of the three answers that every view begins with."""

    state: Literal["ok", "waiting", "trouble"]
    """`trouble`: somebody should look into it."""
    says: str
    """The answer, in a sentence."""


class Standing(Struct, frozen=True, kw_only=True):
    """How a federation stands: three answers, and all of its status pages."""

    as_of: str
    """When this was asked: ISO 8601, in UTC."""
    federation: str
    """Its name."""
    broker: str
    """Where it was asked, without password."""
    health: Answer
    """Whether it is healthy. `trouble` also if the coordinator is gone, whatever it said last."""
    missing: Answer
    """Who does not take part, and why."""
    better: Answer
    """Whether the model still improves; `waiting`: it does not, or was not measured."""
    coordinator: CoordinatorPage | None
    """The page `coordinator`, as docs/status.md describes it, or null where there is none. So all
    that follow."""
    round: RoundPage | None
    """The page `round`."""
    pace: PacePage | None
    """The page `pace`."""
    model: ModelPage | None
    """The page `model`."""
    history: HistoryPage | None
    """The page `history`."""
    participation: ParticipationPage | None
    """The page `participation`."""
    clients: ClientsPage | None
    """The page `clients`."""
    traffic: TrafficPage | None
    """The page `traffic`."""
    orders: OrdersPage | None
    """The page `orders`."""
    client: dict[ClientId, ClientPage]
    """The pages `client/<id>`, by client."""


def standing(board: Board, federation: str, broker: str, now: str) -> Standing:
    told = verdict.answers(board, now)
    health, missing, better = (Answer(state=one.state, says=one.sentence) for one in told)
    return Standing(
        as_of=now,
        federation=federation,
        broker=broker,
        health=health,
        missing=missing,
        better=better,
        coordinator=board.coordinator,
        round=board.round,
        pace=board.pace,
        model=board.model,
        history=board.history,
        participation=board.participation,
        clients=board.clients,
        traffic=board.traffic,
        orders=board.orders,
        client={ClientId(client): page for client, page in board.each_client.items()},
    )


def to_json(told: Standing) -> str:
    """One line."""
    return msgspec.json.encode(told).decode()
