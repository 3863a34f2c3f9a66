"""Home Assistant: describes the federation as a device with sensors, once. Nothing has to run.

What is written are retained MQTT discovery messages below homeassistant/. Home Assistant reads the
status topics by itself from then on, on the same broker. --remove takes them away again.
"""

import argparse
import json
import secrets
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from fedmqtt import __version__, client_ids, discovery
from fedmqtt.credentials import Role
from fedmqtt.mqtt_link import NOT_LET_IN, BrokerUrl, not_let_in
from fedmqtt.mqtt_probe import (
    WITHIN_S,
    Answer,
    Probe,
    ProbeEnded,
    ProbeOptions,
    ProbeRefused,
    ProbeSilent,
    Version,
)
from fedmqtt.topics import NAME_RULE, StatusPage, Topics, is_name
from round_monitor.exporting import Denied, ExportError

# A monitor's account writes nothing.
ROLES: tuple[Role, ...] = ("coordinator",)
EXTRA = ""

STALE_S = 300
"""A coordinator that has said nothing for so long is not there: it does each minute."""

_SAID_MAX = 255
"""Characters of a state, as Home Assistant limits it."""
_LISTED_MAX = 100
"""Names in an attribute, which its recorder keeps up to 16 KiB of."""
_UNSUPPORTED_VERSION = {1, 0x84}

_MAY_NOT = (
    "may this account write below homeassistant/? In a kit that is made with --home-assistant the"
    " coordinator's may"
)

_METRICS = ("accuracy", "loss")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric",
        action="append",
        type=_metric,
        metavar="NAME",
        help=f"of the model, as its task calls it; may be repeated ({', '.join(_METRICS)})",
    )
    parser.add_argument("--remove", action="store_true", help="take all that away again")


def run(federation: str, broker: BrokerUrl, arguments: argparse.Namespace) -> None:
    """Raises ExportError."""
    metrics = tuple(dict.fromkeys(arguments.metric or _METRICS))
    wanted = {} if arguments.remove else configs(federation, metrics)
    removed = _written(federation, broker, wanted)
    if wanted:
        said = f"Home Assistant finds {len(wanted)} entities of the device {_name(federation)!r}"
    else:
        said = f"{removed} entities were taken away"
    sys.stdout.write(f"{said} at {broker.place}.\n")


def _written(federation: str, broker: BrokerUrl, wanted: Mapping[str, bytes]) -> int:
    *others, last = broker.nodes
    for node in others:
        # What is wrong with all of them is told of the last.
        with suppress(ExportError):
            return _written_at(federation, node, wanted)
    return _written_at(federation, last, wanted)


def _written_at(federation: str, broker: BrokerUrl, wanted: Mapping[str, bytes]) -> int:
    try:
        try:
            return _write(federation, broker, wanted, "MQTT 5")
        except ProbeSilent:
            raise
        except (ProbeRefused, ProbeEnded) as bad:
            # Brokers of 3.1.1 say so, or close without a word.
            if isinstance(bad, ProbeRefused) and bad.code not in _UNSUPPORTED_VERSION:
                raise
            return _write(federation, broker, wanted, "MQTT 3.1.1")
    except ProbeRefused as refused:
        if refused.code and refused.code not in NOT_LET_IN:
            raise ExportError(f"{broker} refused the connection: {refused}") from refused
        raise Denied(not_let_in(broker, str(refused))) from refused
    except ProbeEnded as ended:
        raise ExportError(f"{broker}: {ended}") from ended


def configs(federation: str, metrics: tuple[str, ...] = _METRICS) -> dict[str, bytes]:
    """Discovery messages by topic."""
    topics, found = Topics(federation), {}
    for component, object_id, entity in _entities(topics, metrics):
        config = {**_shared(federation, topics), **entity}
        config["unique_id"] = f"fedmqtt/{federation}/{object_id}"
        topic = discovery.config_topic(federation, component, object_id)
        found[topic] = json.dumps(config, ensure_ascii=False).encode()
    return found


def _entities(
    topics: Topics, metrics: tuple[str, ...]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Component, object and what is particular of each."""

    def of(page: str, name: str, template: str, **more: Any) -> dict[str, Any]:
        topic = topics.path(StatusPage(page))
        return {"name": name, "state_topic": topic, "value_template": template, **more}

    coordinator = topics.path(StatusPage("coordinator"))
    # The coordinator's page comes each minute: without it there is nothing to show.
    live = {"expire_after": STALE_S}
    count = {"state_class": "measurement", **live}
    yield (
        "binary_sensor",
        "trouble",
        of(
            "coordinator",
            "Trouble",
            "{{ 'ON' if value_json.health == 'trouble' else 'OFF' }}",
            device_class="problem",
            **live,
        ),
    )
    yield (
        "sensor",
        "health",
        of(
            "coordinator",
            "Health",
            "{{ value_json.health }}",
            device_class="enum",
            options=["ok", "waiting", "trouble"],
            **live,
        ),
    )
    yield (
        "sensor",
        "health_why",
        of(
            "coordinator",
            "Health, why",
            f"{{{{ value_json.health_why[:{_SAID_MAX}] }}}}",
            json_attributes_topic=coordinator,
            json_attributes_template=(
                "{{ {'why': value_json.health_why, 'says': value_json.says,"
                " 'next_step': value_json.next_step, 'as_of': value_json.as_of} | tojson }}"
            ),
            icon="mdi:text",
            **live,
        ),
    )
    yield "sensor", "round", of("coordinator", "Round", "{{ value_json.round }}", **count)
    yield (
        "sensor",
        "clients_online",
        of(
            "coordinator",
            "Clients online",
            # Where clients say nothing until they are drawn, nobody knows.
            "{{ none if value_json.fleet else value_json.clients_online }}",
            **count,
        ),
    )
    yield (
        "sensor",
        "clients_away",
        of(
            "clients",
            "Clients away",
            "{{ value_json.away | count }}",
            state_class="measurement",
            json_attributes_topic=topics.path(StatusPage("clients")),
            json_attributes_template=(
                f"{{{{ {{'away': value_json.away[:{_LISTED_MAX}]}} | tojson }}}}"
            ),
        ),
    )
    yield (
        "sensor",
        "round_progress",
        of(
            "round",
            "Round progress",
            # Before the first round of a run the page is taken away, which comes as no JSON.
            "{{ (100 * value_json.progress) | round | int if value_json is defined else 'None' }}",
            unit_of_measurement="%",
            state_class="measurement",
        ),
    )
    for metric in metrics:
        yield (
            "sensor",
            f"model_{_plain(metric)}",
            of(
                "model",
                f"Model {metric}",
                # `None` is Home Assistant's word for a value that is not known.
                "{{ value_json.figures.metrics.get('" + metric + "') if value_json.figures"
                " else 'None' }}",
                state_class="measurement",
                suggested_display_precision=3,
            ),
        )
    yield (
        "sensor",
        "epsilon",
        of(
            "model",
            "Privacy spent (epsilon)",
            "{{ value_json.privacy.epsilon if value_json.privacy else 'None' }}",
            state_class="measurement",
            suggested_display_precision=2,
        ),
    )


def _shared(federation: str, topics: Topics) -> dict[str, Any]:
    said_lately = f"as_timestamp(now()) - as_timestamp(value_json.as_of, 0) < {STALE_S}"
    return {
        "availability": [
            {
                "topic": topics.path(StatusPage("coordinator")),
                # When the page comes, which after a restart of Home Assistant may be an old one.
                "value_template": f"{{{{ 'online' if {said_lately} else 'offline' }}}}",
            }
        ],
        "device": {
            "identifiers": [f"fedmqtt/{federation}"],
            "name": _name(federation),
            "manufacturer": "fedmqtt",
            "model": "Federation",
        },
        "origin": {"name": "fedmqtt", "sw_version": __version__},
        "qos": 1,
    }


def _name(federation: str) -> str:
    return f"Federation {federation}"


def _plain(metric: str) -> str:
    return metric.replace(".", "_")


def _metric(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {NAME_RULE}")
    return text


def _write(
    federation: str, broker: BrokerUrl, wanted: Mapping[str, bytes], version: Version
) -> int:
    """How many entities were taken away. Raises ExportError, ProbeRefused and ProbeEnded."""
    name = client_ids.of_coordinator(federation, secrets.token_hex(6))
    tls = (broker.context or ssl.create_default_context()) if broker.tls else None
    first = wanted or dict.fromkeys(configs(federation), b"")
    with Probe(broker, tls, ProbeOptions(client_id=name, version=version)) as probe:
        _agreed(probe.subscribe(discovery.config_filter(federation)))
        # What lay there comes before what is said now.
        there = _said(probe, first)
        gone = there - wanted.keys()
        _said(probe, dict.fromkeys(gone - first.keys(), b""))
        return len(gone)


def _said(probe: Probe, messages: Mapping[str, bytes]) -> set[str]:
    """Publishes, and waits until all have come back: a broker of MQTT 3.1.1 does not say what it
    drops. Where something else came meanwhile, or came first."""
    left, there = dict(messages), set()
    for topic, payload in messages.items():
        _agreed(probe.publish(topic, payload, retain=True))
    while left:
        if (got := probe.receive(WITHIN_S)) is None:
            raise ExportError(f"the broker did not pass on what was written: {_MAY_NOT}")
        if not got.retained and left.get(got.topic) == got.payload:
            del left[got.topic]
        if got.payload:
            there.add(got.topic)
    return there


def _agreed(answer: Answer) -> None:
    if not answer.agreed:
        raise ExportError(f"the broker refused it ({answer.reason}): {_MAY_NOT}")
