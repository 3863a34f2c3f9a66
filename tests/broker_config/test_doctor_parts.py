"""What the doctor is made of: checks that are found by name, rights, and lines that fit."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from broker_config import access
from broker_config.doctor import kinds, report, rights
from broker_config.doctor.case import Case, Needs
from broker_config.doctor.checks import reach
from broker_config.doctor.examination import Result, all_checks, examine
from broker_config.doctor.finding import Finding, failed, not_checked, ok
from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url
from fedmqtt.mqtt_probe import ProbeEnded
from fedmqtt.topics import CHANNELS, Topics, UpdatePart
from tests.own_broker import free_port


def test_every_check_says_what_it_is_and_what_it_needs() -> None:
    checks = all_checks()
    for name, module in checks.items():
        assert (inspect.getdoc(module) or "").split("\n")[0], name
        assert set(module.NEEDS) | set(getattr(module, "AFTER", ())) <= set(checks), name
        assert list(inspect.signature(module.check).parameters) == ["case"]


def test_checks_come_after_those_that_they_need() -> None:
    order = list(all_checks())
    assert order[:3] == ["reach", "encryption", "login"]
    for name, module in all_checks().items():
        for needed in (*module.NEEDS, *getattr(module, "AFTER", ())):
            assert order.index(needed) < order.index(name)


@pytest.mark.parametrize(("is_the_devices", "found"), [(True, "not checked"), (False, "failed")])
def test_who_shares_its_session_with_the_device_does_not_call_it_a_fault_when_that_comes(
    monkeypatch: pytest.MonkeyPatch, is_the_devices: bool, found: str
) -> None:
    def cut_off(case: Case) -> Finding:
        case.session_is_the_devices = is_the_devices
        raise ProbeEnded("the broker closed the connection without a word")

    monkeypatch.setattr(reach, "check", cut_off)
    patient = replace(_case(parse_broker_url("mqtt://localhost")), id="pi-3")
    first = next(examine(patient, begins=lambda _check: None))
    assert (first.check, first.finding.status) == ("reach", found)
    assert ("stop pi-3" in first.finding.to_look) == is_the_devices


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("#", "a/b", True),
        ("a/b", "a", False),
        ("a", "a/b", False),
        ("+/b", "a/c", False),
    ],
)
def test_filters_match_as_mqtt_has_it(topic_filter: str, topic: str, matches: bool) -> None:
    assert rights.matches(topic_filter, topic) is matches


def test_there_is_an_address_of_each_kind_of_topic() -> None:
    topics = Topics("demo")
    for kind in CHANNELS:
        address = rights.address(kind, "doctor-1", "ann")
        assert isinstance(address, kind)
        assert rights.matches(topics.filter(kind), topics.path(address))


def test_a_device_may_do_to_its_own_what_the_kit_lets_it() -> None:
    rules = access.of_devices("demo", "ann")
    own = rights.address(UpdatePart, "doctor-1", "ann")
    others = rights.address(UpdatePart, "doctor-1", "bob")
    assert rights.allows(rules, "write", Topics("demo").path(own))
    assert not rights.allows(rules, "read", Topics("demo").path(own))
    assert not rights.allows(rules, "write", Topics("demo").path(others))


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("a1b2-ats.iot.eu-central-1.amazonaws.com", "aws"),
        ("x.s1.eu.hivemq.cloud", "hivemq"),
        ("x.ala.eu-central-1.emqxsl.com", "emqx"),
        ("broker.local", ""),
        ("amazonaws.com.example", ""),
    ],
)
def test_brokers_that_others_run_are_known_by_their_hosts(host: str, kind: str) -> None:
    assert kinds.by_host(host) == kind


@pytest.mark.parametrize(
    ("tls", "said", "not_said"),
    [
        (True, ("ssl", "<tls-tcp-listener>"), ("listeners.tcp", "<tcp-listener>")),
        (False, ("listeners.tcp", "<tcp-listener>"), ("ssl", "<tls-tcp-listener>")),
    ],
)
def test_a_port_that_does_not_answer_is_advised_for_its_own_kind(
    tls: bool, said: tuple[str, ...], not_said: tuple[str, ...]
) -> None:
    finding = reach.check(_case(BrokerUrl("127.0.0.1", free_port(), tls)))
    assert finding.status == "failed"
    lines = "\n".join(finding.remedies.values())
    assert all(one in lines for one in said) and not any(one in lines for one in not_said)
    assert set(finding.remedies) == set(kinds.KINDS)


def _case(broker: BrokerUrl) -> Case:
    return Case(
        broker=broker,
        topics=Topics("demo"),
        federation="demo",
        role="coordinator",
        id="",
        needs=Needs(chunk_bytes=1, devices=1, model_bytes=None, packet_cap_bytes=1),
        tls=None,
        state=Path(),
        tell=lambda _text: None,
    )


def test_a_brokers_own_word_for_itself_is_understood() -> None:
    assert kinds.by_version("$SYS/broker/version", "mosquitto version 2.0.11") == "mosquitto"
    assert kinds.by_version("$SYS/brokers/emqx@10.0.0.1/version", "5.8.3") == "emqx"
    assert kinds.by_version("$SYS/broker/version", "another 1.0") == ""


_BAD = Result(
    "packet_size",
    failed(
        "20,123 bytes carried " * 5,
        "what it means " * 20,
        {"mosquitto": "message_size_limit 0 " * 9, "emqx": "mqtt.max_packet_size = 1MB", "": "or"},
    ),
)


def test_lines_fit_a_terminal() -> None:
    for kind in ("", "mosquitto"):
        assert max(map(len, report.lines(_BAD, kind))) <= 80


def test_only_the_line_of_the_broker_in_use_is_told_and_what_holds_for_all() -> None:
    assert report.as_json(_BAD, "emqx")["change"] == ["EMQX: mqtt.max_packet_size = 1MB", "or"]
    assert [line.partition(":")[0] for line in report.as_json(_BAD, "")["change"]] == [
        "Mosquitto",
        "EMQX",
        "or",
    ]


def test_the_summary_counts_and_names() -> None:
    good = [Result("reach", ok("")), Result("queue", not_checked("needs session"))]
    assert report.summary(good) == "1 ok, 1 not checked. Nothing that has to be mended."
    assert report.summary([*good, _BAD]) == "1 ok, 1 FAILED, 1 not checked. To mend: packet size."


def test_what_could_have_been_looked_at_is_named_with_what_needs_it() -> None:
    results = [
        Result("reach", ok("")),
        Result("login", not_checked("pi-3 is at work", "stop it")),
        Result("in_flight", not_checked("needs login"), ("login",)),
        Result("queue", not_checked("needs in flight"), ("in_flight",)),
        Result("room", not_checked("monitors hold no model")),
    ]
    assert report.left_out(results) == ["login", "in_flight", "queue"]
    assert report.summary(results).splitlines() == [
        "1 ok, 4 not checked. Nothing of what was looked at has to be mended.",
        "NOT LOOKED AT: login, in flight, queue.",
        "login: pi-3 is at work.",
        "To look: stop it.",
    ]
    told = report.summary([*results, _BAD]).splitlines()
    assert told[0].endswith("To mend: packet size.") and told[1].startswith("NOT LOOKED AT: login")
