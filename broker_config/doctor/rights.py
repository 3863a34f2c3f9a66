"""What an account may do and may not, as the broker's files have it, and where that can be tried.

Tried are addresses that no program takes notice of: of a client, a model, a status page that there
is not. Some topics of a federation are what they are, and have no such neighbours: the offer, the
seat, the claim and orders.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from broker_config import access
from broker_config.access import Access, Rule
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Remedies
from fedmqtt.mqtt_probe import Answer, Probe, ProbeEnded
from fedmqtt.topics import (
    CHANNELS,
    ROOT,
    Address,
    CoordinatorSeat,
    OfferBoard,
    OrderOf,
    SeatClaim,
    UpdatePart,
)

UNIQUE: tuple[type[Address], ...] = (OfferBoard, CoordinatorSeat, SeatClaim, OrderOf)
"""Whoever writes there is heard."""

_Question = tuple[Callable[..., Answer], *tuple[Any, ...]]


def address(kind: type[Address], nonce: str, client: str) -> Address:
    """One of this kind; of this client, where it is a client's."""
    places: dict[str, Any] = {
        "client": client,
        "digest": nonce,
        "index": 0,
        "lane": 0,
        "operator": client,
        "page": f"{nonce}/page",
        "part": nonce,
        "round": 0,
        "worker": client,
    }
    return kind(**{place.name: places[place.name] for place in fields(kind)})


def rules(case: Case) -> list[Rule]:
    """Of this account."""
    federation = case.federation
    match case.role:
        case "device":
            return access.of_devices(federation, case.id)
        case "coordinator":
            return access.of_coordinators(federation)
        case "monitor":
            return access.of_monitors(federation)
        case "operator":
            return access.of_operators(federation, case.id)
        case "worker":
            return access.of_workers(federation, case.id)


def must(case: Case, what: Access) -> Iterator[type[Address]]:
    """The kinds of topics without which a program with this account cannot work."""
    side = {"device": "client"}.get(case.role, case.role)
    for kind, channel in CHANNELS.items():
        if what == "write" and channel.writer == side:
            yield kind
        if what == "read" and (
            channel.reader == side
            or (channel.reader == "everyone" and case.role not in ("device", "worker"))
            or (kind is UpdatePart and case.role == "worker")
        ):
            yield kind


def allows(granted: Iterable[Rule], what: Access, topic: str) -> bool:
    return any(rule.access == what and matches(rule.topic_filter, topic) for rule in granted)


def matches(topic_filter: str, topic: str) -> bool:
    """As MQTT has it (5, 4.7.1), for topics that do not begin with $."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for place, word in enumerate(wanted):
        if word == "#":
            return True
        if place >= len(levels) or word not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)


def topic_of(case: Case, kind: type[Address], client: str) -> str:
    return case.topics.path(address(kind, case.nonce, client))


def write_each(case: Case, messages: Iterable[tuple[str, bytes]]) -> dict[str, Answer | None]:
    """The broker's answers, by topic; None where it ended the connection instead."""
    return _each(case, {topic: (Probe.publish, topic, payload) for topic, payload in messages})


def subscribe_each(case: Case, filters: Iterable[str]) -> dict[str, Answer | None]:
    """The same, to subscriptions."""
    return _each(case, {one: (Probe.subscribe, one) for one in filters})


def _each(case: Case, asked: Mapping[str, _Question]) -> dict[str, Answer | None]:
    answers: dict[str, Answer | None] = {}
    while len(answers) < len(asked):
        with case.connected() as probe:
            for name in [one for one in asked if one not in answers]:
                ask, *words = asked[name]
                answers[name] = None
                try:
                    answers[name] = ask(probe, *words)
                except ProbeEnded:
                    break
    return answers


def remedies(case: Case, what: Access, kinds: Iterable[type[Address]]) -> Remedies:
    """Lines that allow devices, or this server's account, to write or read these."""
    topics, account = case.topics, case.broker.username or case.id
    if case.role == "device":
        filters = [topics.filter(kind, "%u") for kind in kinds]
        mosquitto = [f"pattern {what} {one}" for one in filters]
    else:
        filters = [f"{ROOT}/{case.federation}/#"]
        if case.role != "coordinator":
            filters = [topics.filter(kind, case.id) for kind in kinds]
        mosquitto = [f"user {account}", *(f"topic {what} {one}" for one in filters)]
    doing = {"write": "publish", "read": "subscribe"}[what]
    emqx = ", ".join(f'"{one}"' for one in filters).replace("%u", "${username}")
    who = "all" if case.role == "device" else f'{{username, "{account}"}}'
    return {
        "mosquitto": f"{'; '.join(mosquitto)}   (acl_file)",
        "emqx": f"{{allow, {who}, {doing}, [{emqx}]}}.   (acl.conf)",
        "hivemq": f"a permission to {doing} for "
        + ", ".join(filters).replace("%u", "${{username}}"),
        "rabbitmq": "rabbitmqctl set_topic_permissions, with {username} for the device",
        "nats": f"permissions {{ {doing}: [...] }}, with dots for slashes and * for +",
        "aws": f"iot:{doing.capitalize()} in the policy: docs/managed-brokers.md",
    }
