"""Who may write and read which topics, as the table of channels has it; each broker's file is made
of this.

    Account     writes                              reads
    device      its own presence and update         offer, models, its own inbox and presence
    coordinator everything of the federation        the same
    monitor     nothing                             what is for everyone: status and presence
    operator    its own orders                      the same, and the answers to them
    worker      what it has taken in                all updates, and what it is told

Where the broker is Home Assistant's too, coordinators write what describes the federation to it,
and monitors, of which it is one, read what describes anything.

A device's rules name it by a placeholder, which the broker fills with the account that has logged
in: there is one set of rules, however many devices.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from fedmqtt import discovery
from fedmqtt.topics import CHANNELS, ROOT, Address, PresenceOf, Topics, UpdatePart

Access = Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Rule:
    """May read, or write, what this filter matches."""

    access: Access
    topic_filter: str


def of_devices(federation: str, self_placeholder: str) -> list[Rule]:
    """`self_placeholder`: what the broker replaces with the account's name."""
    topics = Topics(federation)
    rules: list[Rule] = []
    for kind, channel in CHANNELS.items():
        own = topics.filter(kind, self_placeholder)
        if channel.writer == "client":
            rules.append(Rule("write", own))
        if channel.reader == "client" or _reads_back(kind):
            rules.append(Rule("read", own))
    return rules


def of_monitors(federation: str, *, home_assistant: bool = False) -> list[Rule]:
    topics = Topics(federation)
    return [
        *(
            Rule("read", topics.filter(kind))
            for kind, channel in CHANNELS.items()
            if channel.reader == "everyone"
        ),
        *([Rule("read", discovery.EVERYTHING)] if home_assistant else []),
    ]


def of_operators(federation: str, operator: str) -> list[Rule]:
    """Of one: who gave an order is told by the topic, also where nothing is signed."""
    topics = Topics(federation)
    rules = of_monitors(federation)
    for kind, channel in CHANNELS.items():
        own = topics.filter(kind, operator)
        rules += [Rule("write", own)] if channel.writer == "operator" else []
        rules += [Rule("read", own)] if channel.reader == "operator" else []
    return rules


def of_workers(federation: str, worker: str) -> list[Rule]:
    """Of one: whose sums they are is told by the topic, also where nothing is signed."""
    topics = Topics(federation)
    rules = [Rule("read", topics.filter(UpdatePart))]
    for kind, channel in CHANNELS.items():
        own = topics.filter(kind, worker)
        rules += [Rule("write", own)] if channel.writer == "worker" else []
        rules += [Rule("read", own)] if channel.reader == "worker" else []
    return rules


def for_devices_alone(federation: str) -> list[Rule]:
    """What every device may read and nobody who watches: the offer, models.

    Where rules for devices hold for every account that logs in, monitors and operators have to be
    denied these.
    """
    return [
        rule
        for rule in of_devices(federation, "%u")
        if "%u" not in rule.topic_filter and rule not in of_monitors(federation)
    ]


def of_coordinators(federation: str, *, home_assistant: bool = False) -> list[Rule]:
    """Of the whole federation: whoever has this account can end it, whatever else is forbidden."""
    everything = [f"{ROOT}/{federation}/#"]
    if home_assistant:
        everything.append(discovery.config_filter(federation))
    return [Rule(access, each) for each in everything for access in get_args(Access)]


def _reads_back(kind: type[Address]) -> bool:
    # A client looks at its own presence and corrects what an old will made of it.
    return kind is PresenceOf
