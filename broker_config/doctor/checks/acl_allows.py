"""May this account do what a program that has it must do?"""

from broker_config.access import Access
from broker_config.doctor import rights
from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, ok
from fedmqtt.envelope import NO_KEYS
from fedmqtt.mqtt_probe import Probe
from fedmqtt.topics import (
    Address,
    ClientId,
    CoordinatorSeat,
    OfferBoard,
    OrderOf,
    PresenceOf,
    WorkOf,
)

NEEDS = ("qos",)
SHOWS_DOTS = True

_ARRIVES_WITHIN_S = 2.0


def check(case: Case) -> Finding:
    untried = _untried(case)
    unread = _unreadable(case)
    unwritten = _unwritable(case, untried)
    if unwritten:
        return _missing(case, "write", unwritten)
    if unread:
        return _missing(case, "read", unread)
    lost = _not_passed_on(case) if case.loop_topic else _unheard(case)
    if lost:
        return _missing(case, "read", lost)
    said = f"a {case.role} may do what it must"
    if untried:
        names = sorted(_name(case, kind) for kind in untried)
        said += f"; not tried, as the federation is at work: write {', '.join(names)}"
    return ok(said)


def _untried(case: Case) -> set[type[Address]]:
    """What would be heard by programs that are at work now."""
    with case.connected() as probe:
        if case.role == "device":
            presence = case.retained(probe, PresenceOf(ClientId(case.id)))
            return {PresenceOf} if case.is_online(presence) else set()
        if case.role == "coordinator":
            signs = [case.retained(probe, one) for one in (CoordinatorSeat(), OfferBoard())]
            return set(rights.UNIQUE) if any(signs) else set()
        if case.role == "operator":
            return {OrderOf}
        if case.role == "worker":
            return {WorkOf}
    return set()


def _unwritable(case: Case, untried: set[type[Address]]) -> list[type[Address]]:
    """The kinds that the broker does not let us write. On 3.1.1 it may let us, and pass on none."""
    kinds = [kind for kind in rights.must(case, "write") if kind not in untried]
    topics = {rights.topic_of(case, kind, _client(case)): kind for kind in kinds}
    presence = case.topics.path(PresenceOf(ClientId(case.id)))
    payloads = [(topic, case.absence() if topic == presence else b"") for topic in topics]
    answers = rights.write_each(case, payloads)
    return [topics[topic] for topic, said in answers.items() if said is None or not said.agreed]


def _unreadable(case: Case) -> list[type[Address]]:
    topics = {
        rights.topic_of(case, kind, _client(case)): kind for kind in rights.must(case, "read")
    }
    answers = rights.subscribe_each(case, topics)
    return [topics[topic] for topic, said in answers.items() if said is None or not said.agreed]


def _not_passed_on(case: Case) -> list[type[Address]]:
    """Of what a coordinator both writes and reads, in topics that nobody listens to.

    Mosquitto agrees to every subscription, and passes on what the account may read.
    """
    lost = []
    with case.connected() as probe:
        for kind in rights.must(case, "write"):
            if kind in rights.UNIQUE:
                continue
            address = rights.address(kind, case.nonce, case.nonce)
            topic = case.topics.path(address)
            probe.subscribe(topic)
            probe.publish(topic, case.aside(address))
            if not _arrives(case, probe, topic):
                lost.append(kind)
    return lost


def _unheard(case: Case) -> list[type[Address]]:
    """What the witness says to us, and the broker does not pass on."""
    if case.witness is None:
        return []
    seal = case.witness.seal or NO_KEYS
    lost = []
    with case.connected() as probe, case.witnessing() as witness:
        for kind in rights.must(case, "read"):
            if kind in rights.UNIQUE:
                continue
            address = rights.address(kind, case.nonce, _client(case))
            topic = case.topics.path(address)
            probe.subscribe(topic)
            # A device at work hears it too, and complains of what is not signed.
            said = seal.sealed(address, topic, case.aside(address))
            witness.publish(topic, said)
            if not _arrives(case, probe, topic):
                lost.append(kind)
    return lost


def _arrives(case: Case, probe: Probe, topic: str) -> bool:
    for got in probe.hear(_ARRIVES_WITHIN_S):
        if got.topic == topic and case.nonce.encode() in got.payload:
            return True
    return False


def _client(case: Case) -> str:
    """Some roles have topics of their own; for others, one that there is not."""
    return case.id if case.role in ("device", "operator", "worker") else case.nonce


def _missing(case: Case, what: Access, kinds: list[type[Address]]) -> Finding:
    names = ", ".join(_name(case, kind) for kind in kinds)
    return failed(
        f"a {case.role} may not {what} {names}",
        "The broker's rules are stricter than the federation's table of topics: this program"
        " would wait for ever.",
        rights.remedies(case, what, kinds),
    )


def _name(case: Case, kind: type[Address]) -> str:
    """What a person sees in a topic: offer, model, update, ..."""
    return rights.topic_of(case, kind, case.nonce).split("/")[3]
