"""AWS IoT Core's policies of a secure federation: who may do what, as one JSON document per role.

A device presents its certificate, whose common name is its own name: that stands in the policy as a
variable, so there is one policy for all devices. In a policy `*` stands for any characters, slashes
too, `?` for any one, and MQTT's own wildcards for themselves. Source: AWS IoT Core Developer Guide,
"Publish/Subscribe policy examples", "X.509 Certificate AWS IoT Core policy variables" and "Retained
message policy examples".

A lane of updates is one character here (`?`): as `*` it could hold a slash, and a device by the
name of "7" could write as its own what is another's update of round 7.
"""

import json
from collections.abc import Iterable
from typing import Any

from broker_config import access
from broker_config.access import Rule
from fedmqtt import client_ids, discovery
from fedmqtt.topics import CHANNELS, Topics

DEVICE = "${iot:Certificate.Subject.CommonName}"
_ANYWHERE = "arn:aws:iot:*:*"
_ANY = "*"
_DOCTOR = client_ids.of_doctor(_ANY)


def policy_of_devices(federation: str) -> str:
    clients = (client_ids.of_device(federation, DEVICE), _DOCTOR)
    return _policy(federation, clients, access.of_devices(federation, DEVICE))


def policy_of_coordinators(federation: str, *, home_assistant: bool = False) -> str:
    clients = (
        client_ids.of_coordinator(federation, _ANY),
        client_ids.of_health(federation, _ANY),
        _DOCTOR,
    )
    rules = access.of_coordinators(federation, home_assistant=home_assistant)
    return _policy(federation, clients, rules)


def policy_of_monitors(federation: str, *, home_assistant: bool = False) -> str:
    clients = (client_ids.of_monitor(_ANY), _DOCTOR)
    rules = access.of_monitors(federation, home_assistant=home_assistant)
    return _policy(federation, clients, rules)


def policy_of_operators(federation: str) -> str:
    """One for all of them: no variable has the name alone out of `operator@ann`. Orders are signed,
    and so tell whose they are."""
    clients = (client_ids.of_operator(federation, _ANY), client_ids.of_monitor(_ANY), _DOCTOR)
    return _policy(federation, clients, access.of_operators(federation, "+"))


def policy_of_workers(federation: str) -> str:
    """One for all of them, likewise: what they say is signed."""
    clients = (client_ids.of_worker(federation, _ANY), _DOCTOR)
    return _policy(federation, clients, access.of_workers(federation, "+"))


def _policy(federation: str, clients: Iterable[str], rules: Iterable[Rule]) -> str:
    written = [rule.topic_filter for rule in rules if rule.access == "write"]
    read = [rule.topic_filter for rule in rules if rule.access == "read"]
    retained = [one for one in written if _is_retained(federation, one)]
    statements = [
        _allow("Connect", [f"client/{one}" for one in clients]),
        _allow("Publish", [f"topic/{_pattern(one)}" for one in written]),
        _allow("RetainPublish", [f"topic/{_pattern(one)}" for one in retained]),
        _allow("Subscribe", [f"topicfilter/{_pattern(one)}" for one in read]),
        _allow("Receive", [f"topic/{_pattern(one)}" for one in read]),
    ]
    known = [one for one in statements if one["Resource"]]
    return json.dumps({"Version": "2012-10-17", "Statement": known}, indent=1) + "\n"


def _allow(action: str, resources: list[str]) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": f"iot:{action}",
        "Resource": [f"{_ANYWHERE}:{one}" for one in resources],
    }


def _pattern(topic_filter: str) -> str:
    return topic_filter.replace("update/+/", "update/?/").replace("+", "*").replace("#", "*")


def _is_retained(federation: str, topic_filter: str) -> bool:
    topics = Topics(federation)
    kept = {topics.filter(kind, DEVICE) for kind, channel in CHANNELS.items() if channel.retain}
    kept.add(discovery.config_filter(federation))
    return topic_filter in kept or topic_filter.endswith("/#")
