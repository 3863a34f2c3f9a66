"""Where Home Assistant finds what describes a federation."""

import re

from paho.mqtt.client import topic_matches_sub

from fedmqtt import discovery

# Home Assistant's documentation, "MQTT", "Discovery topic": <node_id> and <object_id>.
_ID = re.compile(r"[a-zA-Z0-9_-]+")

NAMES = ("ward-7", "ward.7", "ward_7", "a.b.c", "x" * 64, "A")


def test_every_federation_has_a_node_of_its_own_that_home_assistant_takes() -> None:
    nodes = [discovery.node_id(name) for name in NAMES]
    assert len(set(nodes)) == len(NAMES)
    assert all(_ID.fullmatch(node) for node in nodes)


def test_a_filter_matches_its_federations_topics_and_no_others() -> None:
    for name in NAMES:
        topic = discovery.config_topic(name, "sensor", "round")
        matching = [one for one in NAMES if topic_matches_sub(discovery.config_filter(one), topic)]
        assert matching == [name]
        assert topic_matches_sub(discovery.EVERYTHING, topic)
