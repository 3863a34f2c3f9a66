"""Is this account refused what is not its own?"""

from collections.abc import Iterator

from broker_config.access import Rule
from broker_config.doctor import rights
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, Remedies, failed, not_checked, ok, warning
from fedmqtt.mqtt_probe import Got
from fedmqtt.topics import (
    CHANNELS,
    ROOT,
    Address,
    ClientId,
    Digest,
    ModelChunk,
    PresenceOf,
    RoundId,
    Topics,
    UpdatePart,
)

NEEDS = ("qos",)


def check(case: Case) -> Finding:
    if case.role == "coordinator":
        return _of_coordinator(case)
    said_too_much = [*_heard(case)]
    if case.version == "MQTT 5":
        written = _written(case)
        if written:
            return _too_open(case, f"may write {', '.join(written)}")
    if said_too_much:
        return _too_open(case, f"may read {', '.join(sorted(set(said_too_much)))}")
    if case.version == "MQTT 3.1.1":
        return not_checked("MQTT 3.1.1 does not tell what it refuses to write; nothing was heard")
    return ok("what is not its own: refused to write, and nothing of it was heard")


def _written(case: Case) -> list[str]:
    """What the broker takes from us, though it should not; first where nobody takes notice."""
    quiet = [kind for kind in CHANNELS if kind not in rights.UNIQUE]
    # Others' first: were these taken, the federation's own three topics are left in peace.
    return _taken(case, quiet) or _taken(case, rights.UNIQUE)


def _taken(case: Case, kinds: list[type[Address]] | tuple[type[Address], ...]) -> list[str]:
    granted = rights.rules(case)
    presence = case.topics.path(PresenceOf(ClientId(case.nonce)))
    messages = []
    for kind in kinds:
        topic = case.topics.path(rights.address(kind, case.nonce, case.nonce))
        if not rights.allows(granted, "write", topic):
            messages.append((topic, case.absence() if topic == presence else case.nonce.encode()))
    answers = rights.write_each(case, messages)
    return [_short(topic) for topic, said in answers.items() if said is not None and said.agreed]


def _heard(case: Case) -> Iterator[str]:
    """What we are told that is not for us: of what others left there, and of our own answers.

    A device writes its updates, and may not read them.
    """
    granted, topics = rights.rules(case), case.topics
    own = topics.path(UpdatePart(0, ClientId(case.id), RoundId(0), case.nonce))
    with case.connected() as probe:
        for asked in (own, topics.any_presence, topics.any_status, topics.seat):
            if not _is_granted(granted, asked):
                probe.subscribe(asked)
        if case.role == "device":
            probe.publish(own, case.nonce.encode())
        while (got := probe.receive(case.quiet_s)) is not None:
            if _is_not_ours(granted, got):
                yield _short(got.topic)


def _is_granted(granted: list[Rule], topic_filter: str) -> bool:
    return any(rule.access == "read" and rule.topic_filter == topic_filter for rule in granted)


def _is_not_ours(granted: list[Rule], got: Got) -> bool:
    return not rights.allows(granted, "read", got.topic)


def _of_coordinator(case: Case) -> Finding:
    topic = Topics(case.nonce).path(ModelChunk(Digest(case.nonce), 0))
    with case.connected() as probe:
        probe.subscribe(topic)
        agreed = probe.publish(topic).agreed
        heard = probe.receive(case.quiet_s) is not None
    if not (agreed and heard):
        return ok("other federations' topics: refused")
    if case.is_anonymous:
        return warning(
            "nothing is refused: everybody may do everything here",
            "Good for trying out in a network that you trust, and for nothing else.",
            {"": "fedmqtt broker-kit makes accounts, TLS and rules"},
        )
    return warning(
        "other federations' topics are not refused",
        "Whoever has this account can end whatever else goes through this broker.",
        {"mosquitto": f"topic readwrite {ROOT}/{case.federation}/#   (acl_file, below its user)"},
    )


def _too_open(case: Case, what: str) -> Finding:
    return failed(
        f"a {case.role} {what}",
        "The broker's rules are more open than the federation's table of topics: one bad account"
        " could end rounds, or read what others send.",
        _RULES,
    )


def _short(topic: str) -> str:
    return topic.split("/", 3)[3].split("/")[0]


_RULES: Remedies = {
    "mosquitto": "acl_file: the kit's, on each listener; without one everything is allowed",
    "emqx": "authorization { no_match = deny, sources = [...] }, with the kit's emqx-acl.conf",
    "hivemq": "permissions by ${{clientid}} or ${{username}}, and none for #",
    "rabbitmq": "rabbitmqctl set_topic_permissions: no .* for devices",
    "nats": "permissions in each user's authorization",
    "aws": "no * in the policy's resources: docs/managed-brokers.md",
}
