"""The policies for AWS IoT Core say what the table of topics says, and fit into what AWS takes."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from broker_config import access, aws_files
from broker_config.doctor.rights import allows
from fedmqtt import client_ids
from fedmqtt.topics import (
    CHANNELS,
    ClientId,
    CoordinatorSeat,
    Digest,
    Inbox,
    LanesOf,
    ModelChunk,
    OfferBoard,
    PresenceOf,
    RoundId,
    SeatClaim,
    StatusPage,
    Topics,
    UpdatePart,
    WorkOf,
)

_FEDERATION = "demo"
_TOPICS = Topics(_FEDERATION)
_SLASHES_MAX = 7
"""Of a topic: AWS IoT Core, "message broker and protocol limits and quotas"."""
_POLICY_MAX = 2048
"""Characters but for white space, of one policy document; from the same page."""


def _addresses(client: str) -> list[Any]:
    one = ClientId(client)
    return [
        OfferBoard(),
        ModelChunk(Digest("0" * 64), 12),
        UpdatePart(0, one, RoundId(7), "0"),
        UpdatePart(0, one, RoundId(7), "announce"),
        Inbox(one),
        PresenceOf(one),
        CoordinatorSeat(),
        SeatClaim(),
        StatusPage("round"),
        StatusPage("client/" + client),
        WorkOf(one),
        LanesOf(one),
    ]


def _may(policy: str, action: str, resource: str) -> bool:
    """As AWS reads it: `*` for any characters, `?` for one."""
    known = policy.replace(aws_files.DEVICE, "pi-3")
    return any(
        fnmatchcase(f"arn:aws:iot:eu-central-1:123456789012:{resource}", pattern)
        for statement in json.loads(known)["Statement"]
        if statement["Action"] == f"iot:{action}"
        for pattern in statement["Resource"]
    )


_ROLES = {
    "device": (aws_files.policy_of_devices, access.of_devices(_FEDERATION, "pi-3")),
    "coordinator": (aws_files.policy_of_coordinators, access.of_coordinators(_FEDERATION)),
    "monitor": (aws_files.policy_of_monitors, access.of_monitors(_FEDERATION)),
    # Which of them it is, its signature tells.
    "operator": (aws_files.policy_of_operators, access.of_operators(_FEDERATION, "+")),
    "worker": (aws_files.policy_of_workers, access.of_workers(_FEDERATION, "+")),
}


@pytest.mark.parametrize("role", _ROLES)
@pytest.mark.parametrize("client", ["pi-3", "mallory", "7"])
def test_a_policy_says_of_each_topic_what_the_table_says(role: str, client: str) -> None:
    made, rules = _ROLES[role]
    policy = made(_FEDERATION)
    for address in _addresses(client):
        topic = _TOPICS.path(address)
        writes = allows(rules, "write", topic)
        assert _may(policy, "Publish", f"topic/{topic}") == writes, topic
        assert _may(policy, "Receive", f"topic/{topic}") == allows(rules, "read", topic), topic
        if CHANNELS[type(address)].retain:
            assert _may(policy, "RetainPublish", f"topic/{topic}") == writes, topic


def test_a_device_called_as_a_round_writes_no_others_update() -> None:
    # In AWS's patterns * also stands for slashes.
    policy = aws_files.policy_of_devices(_FEDERATION).replace(aws_files.DEVICE, "7")
    others = _TOPICS.path(UpdatePart(0, ClientId("mallory"), RoundId(7), "0"))
    assert not _may(policy, "Publish", f"topic/{others}")
    assert _may(policy, "Publish", "topic/" + others.replace("mallory/7", "7/7"))


def test_a_device_subscribes_to_its_own_alone() -> None:
    policy = aws_files.policy_of_devices(_FEDERATION)
    for kind in (OfferBoard, Inbox, PresenceOf):
        assert _may(policy, "Subscribe", f"topicfilter/{_TOPICS.filter(kind, 'pi-3')}")
    for topic_filter in ("#", _TOPICS.any_presence, _TOPICS.any_update, _TOPICS.any_status):
        assert not _may(policy, "Subscribe", f"topicfilter/{topic_filter}")


def test_who_connects_goes_by_the_names_that_programs_have() -> None:
    connecting = {
        client_ids.of_device("demo", "pi-3"): {"device"},
        client_ids.of_device("demo", "mallory"): set(),
        client_ids.of_coordinator("demo", "x"): {"coordinator"},
        client_ids.of_coordinator("other", "x"): set(),
        client_ids.of_health("demo", "x"): {"coordinator"},
        client_ids.of_monitor("0123"): {"monitor", "operator"},
        client_ids.of_operator("demo", "x"): {"operator"},
        client_ids.of_operator("other", "x"): set(),
        client_ids.of_worker("demo", "worker-1"): {"worker"},
        client_ids.of_doctor("0123-w1"): set(_ROLES),
    }
    for name, roles in connecting.items():
        let_in = {
            role
            for role, (made, _) in _ROLES.items()
            if _may(made(_FEDERATION), "Connect", f"client/{name}")
        }
        assert let_in == roles, name


@pytest.mark.parametrize("role", _ROLES)
def test_a_policy_is_no_larger_than_aws_takes(role: str) -> None:
    policy = _ROLES[role][0]("f" * 64)
    assert len("".join(policy.split())) <= _POLICY_MAX


def test_no_topic_is_deeper_than_aws_takes() -> None:
    assert max(_TOPICS.filter(kind).count("/") for kind in CHANNELS) == _SLASHES_MAX
