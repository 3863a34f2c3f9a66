"""How many messages may be on their way to the broker at a time?"""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, not_checked, ok, warning
from fedmqtt.mqtt_link import STREAM_WINDOW

NEEDS = ("login",)


def check(case: Case) -> Finding:
    assert case.welcome is not None
    if case.version == "MQTT 3.1.1":
        return not_checked("MQTT 3.1.1 does not tell")
    at_a_time = case.welcome.receive_maximum
    if at_a_time is None:
        return ok("as many as MQTT has numbers for")
    if at_a_time >= STREAM_WINDOW:
        return ok(f"{at_a_time} (we send up to {STREAM_WINDOW} chunks at a time)")
    return warning(
        f"{at_a_time}, and we would send {STREAM_WINDOW} chunks at a time",
        "It works, and is slow on a link with a long way: each chunk waits for the one before.",
        {
            "mosquitto": "max_inflight_messages 20   (mosquitto.conf)",
            "emqx": "mqtt.max_inflight = 32",
            "hivemq": "<receive-maximum><server-receive-maximum>10</server-receive-maximum>",
        },
    )
