"""Is this account refused what is not its own?"""

from collections.abc import Iterable, Iterator

from broker_config.access import Access, Rule
from broker_config.doctor import rights
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, Remedies, failed, not_checked, ok, warning
from fedmqtt.mqtt_probe import ProbeEnded
from fedmqtt.topics import (
    CHANNELS,
    ROOT,
    Address,
    ClientId,
    Digest,
    ModelChunk,
    RoundId,
    Topics,
    UpdatePart,
)

NEEDS = ("qos",)


def check(case: Case) -> Finding:
    if case.role == "coordinator":
        return _of_coordinator(case)
    # What others say first: were rules so open, it is said already.
    read, written = sorted(set(_heard(case))), _written(case)
    if written:
        return _too_open(case, f"may write {', '.join(written)}")
    if read:
        return _too_open(case, f"may read {', '.join(read)}")
    if _is_blind(case):
        return not_checked(
            "MQTT 3.1.1 does not tell what it refuses to write (--witness would); nothing was heard"
        )
    return ok("what is not its own: refused to write, and nothing of it was heard")


def _is_blind(case: Case) -> bool:
    """Whether the broker may agree to what it then does not pass on, and nobody would see."""
    return case.version == "MQTT 3.1.1" and case.witness is None


def _written(case: Case) -> list[str]:
    """What the broker takes from us, though it should not."""
    if _is_blind(case):
        return []
    # Were these taken, the federation's own three topics are left in peace.
    return _taken(case, _quiet()) or _taken(case, rights.UNIQUE)


def _taken(case: Case, kinds: Iterable[type[Address]]) -> list[str]:
    messages = [
        (case.topics.path(one), case.aside(one)) for one in _not_granted(case, kinds, "write")
    ]
    if case.version == "MQTT 5":
        answers = rights.write_each(case, messages)
        return [_short(topic) for topic, said in answers.items() if said and said.agreed]
    with case.witnessing() as witness:
        for topic, _ in messages:
            witness.subscribe(topic)
        rights.write_each(case, messages)
        # It may hear a real offer, too.
        ours = [got for got in witness.hear(case.quiet_s) if case.nonce.encode() in got.payload]
        return sorted({_short(got.topic) for got in ours})


def _not_granted(case: Case, kinds: Iterable[type[Address]], what: Access) -> list[Address]:
    """Of each kind one that is another client's, or everybody's."""
    granted = rights.rules(case)
    others = [rights.address(kind, case.nonce, case.nonce) for kind in kinds]
    return [one for one in others if not rights.allows(granted, what, case.topics.path(one))]


def _heard(case: Case) -> Iterator[str]:
    """What we are told that is not for us: what others left there, our own answers, and what the
    witness says to others.

    A device writes its updates, and may not read them.
    """
    granted, topics = rights.rules(case), case.topics
    own = topics.path(UpdatePart(0, ClientId(case.id), RoundId(0), case.nonce))
    wanted = [own, topics.any_presence, topics.any_status, topics.seat]
    wanted += [topics.path(one) for one in _not_granted(case, _quiet(), "read")]
    asked = [one for one in wanted if Rule("read", one) not in granted]
    answers = rights.subscribe_each(case, asked)
    with case.connected() as probe:
        # Some brokers hang up on who asks for what it may not read: these have been asked.
        for topic_filter in (one for one, said in answers.items() if said and said.agreed):
            probe.subscribe(topic_filter)
        if case.role == "device":
            probe.publish(own, case.nonce.encode())
        if case.witness is not None:
            _let_witness_speak(case)
        for got in probe.hear(case.quiet_s):
            if not rights.allows(granted, "read", got.topic):
                yield _short(got.topic)


def _let_witness_speak(case: Case) -> None:
    with case.witnessing() as witness:
        for address in _not_granted(case, _quiet(), "read"):
            witness.publish(case.topics.path(address), case.aside(address))


def _quiet() -> list[type[Address]]:
    """The kinds of topics of which some have no listener."""
    return [kind for kind in CHANNELS if kind not in rights.UNIQUE]


def _of_coordinator(case: Case) -> Finding:
    topic = Topics(case.nonce).path(ModelChunk(Digest(case.nonce), 0))
    try:
        with case.connected() as probe:
            probe.subscribe(topic)
            agreed = probe.publish(topic).agreed
            is_open = agreed and probe.receive(case.quiet_s) is not None
    except ProbeEnded:
        # As some brokers refuse.
        is_open = False
    if not is_open:
        return ok("other federations' topics: refused")
    if case.is_anonymous:
        return _open_to_all()
    return warning(
        "other federations' topics are not refused",
        "Whoever has this account can end whatever else goes through this broker.",
        {"mosquitto": f"topic readwrite {ROOT}/{case.federation}/#   (acl_file, below its user)"},
    )


def _too_open(case: Case, what: str) -> Finding:
    if case.is_anonymous:
        return _open_to_all()
    return failed(
        f"a {case.role} {what}",
        "The broker's rules are more open than the federation's table of topics: one bad account"
        " could end rounds, or read what others send.",
        _RULES,
    )


def _open_to_all() -> Finding:
    return warning(
        "nothing is refused: everybody may do everything here",
        "Good for trying out in a network that you trust, and for nothing else.",
        {"": "fedmqtt broker-kit makes accounts, TLS and rules"},
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
