"""The example for Telegraf asks for topics and fields that there are.

Telegraf itself is in no Debian. Source of what its words mean: InfluxData's documentation, "MQTT
Consumer Input Plugin", "Execd Input Plugin" and "JSON input data format".
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from paho.mqtt.client import topic_matches_sub

from fedmqtt.status_pages import encode
from fedmqtt.topics import StatusPage, Topics
from round_monitor.export.jsonl import Lines
from tests.round_monitor.export import real_run

_EXAMPLE = Path(__file__).parents[3] / "examples" / "telegraf" / "telegraf.conf"
_PAGES = ("coordinator", "round", "model", "traffic")


def _inputs() -> dict[str, Any]:
    """Both ways, the one that is commented out too."""
    text = re.sub(r"^# ( *)(?=\[\[inputs\.execd|  \w+ = )", r"\1", _EXAMPLE.read_text(), flags=re.M)
    inputs: dict[str, Any] = tomllib.loads(text)["inputs"]
    return inputs


def test_telegraf_is_told_topics_that_there_are() -> None:
    (consumer,) = _inputs()["mqtt_consumer"]
    (parsing,) = consumer["topic_parsing"]
    topics = [Topics("ward-7").path(StatusPage(page)) for page in _PAGES]
    for topic, asked in zip(topics, consumer["topics"], strict=True):
        assert topic_matches_sub(asked, topic)
        assert topic_matches_sub(parsing["topic"], topic)
        levels = dict(zip(parsing["measurement"].split("/"), topic.split("/"), strict=True))
        levels |= dict(zip(parsing["tags"].split("/"), topic.split("/"), strict=True))
        assert (levels["measurement"], levels["federation"]) == (topic.split("/")[-1], "ward-7")


def test_texts_that_it_keeps_are_on_a_page() -> None:
    (consumer,) = _inputs()["mqtt_consumer"]
    texts = {
        name
        for page in _PAGES
        for name, value in json.loads(encode(real_run.pages()[page])).items()
        if isinstance(value, str)
    }
    assert set(consumer["json_string_fields"]) <= texts


def test_lines_have_the_keys_that_it_is_told() -> None:
    (execd,) = _inputs()["execd"]
    assert execd["command"][:3] == ["fedmqtt", "export", "jsonl"]
    said: list[dict[str, Any]] = []
    lines = Lines("ward-7", lambda line: said.append(json.loads(line)))
    lines.take(real_run.board(real_run.pages()), "coordinator")
    (line,) = said
    assert {*execd["tag_keys"], execd["json_time_key"]} <= line.keys()
    flat = {f"status_{name}" for name in line["status"]}
    assert set(execd["json_string_fields"]) <= flat
    # As Go would write RFC 3339 with milliseconds: 2026-11-22T07:06:01.250+00:00.
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}\+00:00", line["time"])
