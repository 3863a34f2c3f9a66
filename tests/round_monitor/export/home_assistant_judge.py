"""What Home Assistant itself makes of our discovery messages. Run by a Python that has it:

    python home_assistant_judge.py < questions.json

A question is a component, its config, and pages by topic; the answer is the state, what its
availability and attributes come to, or the error of Home Assistant's own schema. Needs
homeassistant (2024.3 was tried, which runs on Python 3.11) with paho-mqtt 1.6.
"""

import asyncio
import json
import sys
import tempfile
from typing import Any

import voluptuous as vol
from homeassistant.components.mqtt import binary_sensor, discovery, sensor
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template

_SCHEMAS = {
    "sensor": sensor.DISCOVERY_SCHEMA,
    "binary_sensor": binary_sensor.DISCOVERY_SCHEMA,
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = HomeAssistant(folder)
        answers = [_judged(home, question) for question in json.load(sys.stdin)]
        json.dump(answers, sys.stdout)


def _judged(home: HomeAssistant, question: dict[str, Any]) -> dict[str, Any]:
    topic = question["topic"].removeprefix("homeassistant/")
    if discovery.TOPIC_MATCHER.fullmatch(topic) is None:
        return {"error": f"no discovery topic: {topic}"}
    try:
        config = _SCHEMAS[question["component"]](question["config"])
    except vol.Invalid as bad:
        return {"error": str(bad)}
    pages = question["pages"]

    def rendered(template: Template, topic: str) -> str:
        template.hass = home  # codespell:ignore
        return str(template.async_render_with_possible_json_value(pages[topic], "RAISED"))

    (availability,) = config["availability"]
    answer = {
        "state": rendered(config["value_template"], config["state_topic"]),
        "available": rendered(availability["value_template"], availability["topic"]),
    }
    if "json_attributes_topic" in config:
        template = config["json_attributes_template"]
        answer["attributes"] = json.loads(rendered(template, config["json_attributes_topic"]))
    return answer


if __name__ == "__main__":
    asyncio.run(main())
