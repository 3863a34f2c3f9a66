"""`fedmqtt export home-assistant`: what lies on the broker, and what Home Assistant makes of it.

Home Assistant is large (400 MB installed), so it is asked where FEDMQTT_HOME_ASSISTANT names a
Python that has it. Everywhere the messages are held against its documentation, "MQTT sensor"
and "MQTT binary sensor", and their templates are evaluated by Jinja2, in which they are written.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import structs

from broker_config import kit
from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from fedmqtt import credentials, discovery
from fedmqtt.command_line import EXIT_DENIED
from fedmqtt.mqtt_link import BrokerUrl, parse_broker_url
from fedmqtt.mqtt_probe import Probe, ProbeOptions
from fedmqtt.status_pages import CoordinatorPage, ModelPage, Page, encode
from fedmqtt.topics import StatusPage, Topics
from round_monitor.export import home_assistant
from tests.broker_config.kit_broker import FEDERATION, plan, running_kit
from tests.fedmqtt.stub_broker import StubBroker, stub
from tests.programs import Program, running
from tests.round_monitor import pages, ward
from tests.round_monitor.export import home_assistant_words, real_run

__all__ = ["stub"]

JUDGE = Path(__file__).with_name("home_assistant_judge.py")
_COMMAND = ("fedmqtt", "export", "home-assistant")


def _configs(federation: str = "ward-7") -> dict[str, dict[str, Any]]:
    return {
        topic: json.loads(payload) for topic, payload in home_assistant.configs(federation).items()
    }


def _told(pages: Mapping[str, Page], *, age_s: float = 0.0) -> dict[str, str]:
    """Pages by topic, the coordinator's as old as that."""
    page = pages["coordinator"]
    assert isinstance(page, CoordinatorPage)
    said = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(timespec="minutes")
    topics = Topics("ward-7")
    both = {**pages, "coordinator": structs.replace(page, as_of=said)}
    return {topics.path(StatusPage(name)): encode(page).decode() for name, page in both.items()}


def _by_jinja(config: dict[str, Any], told: Mapping[str, str]) -> dict[str, Any]:
    """State, availability and attributes; strict, so that a name that is not there fails."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.globals |= {
        "now": lambda: datetime.now(UTC),
        "as_timestamp": lambda at, default=None: (
            at if isinstance(at, datetime) else datetime.fromisoformat(at)
        ).timestamp(),
    }

    def rendered(template: str, topic: str) -> str:
        text = told[topic]
        # As Home Assistant does: what is no JSON has no `value_json`.
        words = {"value": text} | ({"value_json": json.loads(text)} if text else {})
        return environment.from_string(template).render(words)

    (availability,) = config["availability"]
    answer: dict[str, Any] = {
        "state": rendered(config["value_template"], config["state_topic"]),
        "available": rendered(availability["value_template"], availability["topic"]),
    }
    if "json_attributes_topic" in config:
        text = rendered(config["json_attributes_template"], config["json_attributes_topic"])
        answer["attributes"] = json.loads(text)
    return answer


def _by_home_assistant(
    configs: Mapping[str, dict[str, Any]], told: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    python = os.environ.get("FEDMQTT_HOME_ASSISTANT")
    if not python:
        pytest.skip("FEDMQTT_HOME_ASSISTANT names no Python that has homeassistant")
    questions = [
        {"topic": topic, "component": topic.split("/")[1], "config": config, "pages": told}
        for topic, config in configs.items()
    ]
    # Its own packages alone: what is on our path is not what it was tried with.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [python, str(JUDGE)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip(configs, json.loads(ended.stdout), strict=True))


def _by_object(answers: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {topic.split("/")[3]: answer for topic, answer in answers.items()}


REAL_RUN = {
    "trouble": "OFF",
    "health": "ok",
    "health_why": "round 1: 0 of 4 answers from 4 invited; 4 of 5 clients online; away: dan;"
    " in quarantine: mallory",
    "round": "1",
    "clients_online": "4",
    "round_progress": "0",
    "model_accuracy": "0.8583333333333333",
    "model_loss": "0.4935811087489128",
    "epsilon": "None",
}


@pytest.mark.parametrize("by", ["jinja2", "home-assistant"])
def test_pages_of_a_real_run_come_to_states(by: str) -> None:
    run, configs = real_run.pages(), _configs()
    told = _told(run)
    answers = (
        _by_home_assistant(configs, told)
        if by == "home-assistant"
        else {topic: _by_jinja(config, told) for topic, config in configs.items()}
    )
    found = _by_object(answers)
    states = {name: answer["state"] for name, answer in found.items()}
    away = json.loads(encode(run["clients"]))["away"]
    assert states == {**REAL_RUN, "clients_away": str(len(away))}
    assert found["clients_away"]["attributes"] == {"away": away}
    assert found["health_why"]["attributes"]["why"] == states["health_why"]
    assert {answer["available"] for answer in found.values()} == {"online"}


@pytest.mark.parametrize("by", ["jinja2", "home-assistant"])
def test_a_page_of_a_coordinator_that_is_gone_and_a_model_nobody_measured(by: str) -> None:
    told_of = real_run.pages()
    model = told_of["model"]
    assert isinstance(model, ModelPage)
    told_of["model"] = structs.replace(model, figures=None)
    configs, told = _configs(), _told(told_of, age_s=home_assistant.STALE_S + 60)
    answers = (
        _by_home_assistant(configs, told)
        if by == "home-assistant"
        else {topic: _by_jinja(config, told) for topic, config in configs.items()}
    )
    found = _by_object(answers)
    assert {answer["available"] for answer in found.values()} == {"offline"}
    assert found["model_accuracy"]["state"] == "None"


def test_before_the_first_round_of_a_run_its_progress_is_not_known() -> None:
    configs, told = _configs(), _told(ward.pages())
    (progress,) = [config for topic, config in configs.items() if "/round_progress/" in topic]
    assert _by_jinja(progress, {**told, progress["state_topic"]: ""})["state"] == "None"


def test_privacy_that_was_spent_is_a_state() -> None:
    configs, told = _configs(), _told(ward.pages())
    (epsilon,) = [config for topic, config in configs.items() if "/epsilon/" in topic]
    assert _by_jinja(epsilon, told)["state"] == "1.89"


def test_every_word_is_one_that_home_assistant_documents() -> None:
    for topic, config in _configs().items():
        _, component, node, object_id, last = topic.split("/")
        assert last == "config"
        assert set(node + object_id) <= home_assistant_words.IN_TOPICS
        assert config.keys() <= home_assistant_words.OF[component]
        assert config["device"].keys() <= home_assistant_words.OF_DEVICES
        assert config["origin"].keys() <= home_assistant_words.OF_ORIGINS
        assert config.get("device_class", "enum") in home_assistant_words.DEVICE_CLASSES


def test_entities_are_told_apart_and_belong_to_one_device() -> None:
    configs = _configs() | _configs("ward.7") | _configs("ward_7")
    ids = [config["unique_id"] for config in configs.values()]
    assert len(set(ids)) == len(ids) == 3 * len(_configs())
    assert len({str(config["device"]) for config in configs.values()}) == 3


def test_what_is_too_long_for_a_state_is_cut() -> None:
    page = structs.replace(pages.coordinator(), health_why="x" * 1000)
    told = _told({**real_run.pages(), "coordinator": page})
    (why,) = [config for topic, config in _configs().items() if "/health_why/" in topic]
    assert _by_jinja(why, told)["state"] == "x" * 255


def _retained(broker: BrokerUrl, federation: str) -> dict[str, bytes]:
    """What a newcomer is brought, of all that describes entities."""
    options = ProbeOptions(client_id="newcomer", version="MQTT 3.1.1")
    with Probe(broker, broker.context, options) as probe:
        assert probe.subscribe(discovery.EVERYTHING).agreed
        node = discovery.node_id(federation)
        return {got.topic: got.payload for got in probe.hear(0.5) if f"/{node}/" in got.topic}


def _run(folder: Path, *words: str) -> Program:
    with running(folder, *_COMMAND, *words) as program:
        program.wait()
    return program


@pytest.mark.broker
def test_it_is_written_once_and_taken_away_again(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = parse_broker_url(broker.url)
    words = ("--broker", broker.url, "--federation", federation_name)
    written = _run(tmp_path, *words, "--metric", "f1", "--metric", "accuracy")
    assert (written.wait(), written.log) == (0, "")
    wanted = home_assistant.configs(federation_name, ("f1", "accuracy"))
    assert _retained(url, federation_name) == wanted
    # As it was, and then with other metrics: what is not asked for any more goes.
    assert _run(tmp_path, *words, "--metric", "f1", "--metric", "accuracy").wait() == 0
    assert _retained(url, federation_name) == wanted
    assert _run(tmp_path, *words).wait() == 0
    assert _retained(url, federation_name) == home_assistant.configs(federation_name)
    removed = _run(tmp_path, *words, "--remove")
    assert (removed.wait(), removed.said.split()[0]) == (0, str(len(wanted)))
    assert _retained(url, federation_name) == {}


def test_a_broker_that_is_away_is_a_sentence(tmp_path: Path) -> None:
    ended = _run(tmp_path, "--broker", "mqtt://127.0.0.1:1", "--federation", "ward-7")
    assert (ended.wait(), ended.said) == (1, "")
    assert ended.log == "fedmqtt export home-assistant: mqtt://127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (0x88, 1, "refused the connection: Server unavailable"),
        (0x87, EXIT_DENIED, "does not let us in: Not authorized. The account is unknown there,"),
    ],
)
def test_a_broker_that_is_busy_is_not_said_to_doubt_the_account(
    stub: StubBroker, tmp_path: Path, code: int, status: int, said: str
) -> None:
    words = ("--broker", stub.url, "--federation", "ward-7")
    with running(tmp_path, *_COMMAND, *words) as program:
        caller = stub.accept(lambda: time.sleep(0.01))
        caller.receive()
        caller.send(bytes([0x20, 0x03, 0x00, code, 0x00]))
        assert program.wait() == status
    assert f"{stub.url} {said}" in program.log


@pytest.mark.parametrize("name", ["a'b", "{{ 1 }}", ""])
def test_a_metric_that_would_be_a_template_is_refused(tmp_path: Path, name: str) -> None:
    ended = _run(tmp_path, "--federation", "ward-7", "--metric", name)
    assert ended.wait() == 2
    assert "expected 1 to 64 of A-Z a-z 0-9 . _ -" in ended.log


needs_mosquitto = pytest.mark.skipif(
    find_mosquitto() is None, reason="Mosquitto is not installed here"
)


@pytest.mark.broker
@needs_mosquitto
def test_in_a_kit_for_it_a_coordinator_writes_and_a_monitor_reads(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    made = kit.create(folder, structs.replace(plan(folder), home_assistant=True))
    coordinator = folder / "accounts" / "coordinator.toml"
    monitor = folder / "accounts" / "monitor.toml"
    with running_kit(made, folder):
        refused = _run(tmp_path, "--credentials", str(monitor))
        assert refused.wait() == 2
        assert "are a monitor's, and this program needs a coordinator's" in refused.log
        assert _run(tmp_path, "--credentials", str(coordinator)).wait() == 0
        _, watching = credentials.broker_of(monitor, ("monitor",))
        assert _retained(watching, FEDERATION) == home_assistant.configs(FEDERATION)
        options = ProbeOptions(client_id="watching")
        theirs = discovery.config_topic(FEDERATION, "sensor", "round")
        others = discovery.config_topic("other", "sensor", "round")
        with Probe(watching, watching.context, options) as probe:
            assert not probe.publish(theirs, b"{}", retain=True).agreed
        _, running_it = credentials.broker_of(coordinator, ("coordinator",))
        with Probe(running_it, running_it.context, options) as probe:
            assert not probe.publish(others, b"{}", retain=True).agreed


@pytest.mark.broker
@needs_mosquitto
def test_in_a_kit_that_is_not_for_it_nobody_writes_and_a_sentence_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    with running_kit(kit.create(folder, plan(folder)), folder):
        account = folder / "accounts" / "coordinator.toml"
        ended = _run(tmp_path, "--credentials", str(account))
    assert ended.wait() == 1
    assert "may this account write below homeassistant/?" in ended.log
    assert ended.log.count("\n") == 1
