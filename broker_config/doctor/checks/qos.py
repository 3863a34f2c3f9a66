"""Does the broker deliver at least once? Everything of a federation goes at QoS 1."""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, ok
from fedmqtt.mqtt_probe import ProbeEnded

NEEDS = ("login",)
SHOWS_DOTS = True

_REMEDIES = {
    "mosquitto": "max_qos 2   (mosquitto.conf)",
    "emqx": "mqtt.max_qos_allowed = 2",
    "hivemq": "<maximum-qos><max-qos>2</max-qos></maximum-qos>   (config.xml)",
}
_MEANS = "Without QoS 1 answers and receipts are lost without anybody being told."


def check(case: Case) -> Finding:
    assert case.welcome is not None
    if case.welcome.qos_max < 1:
        return failed("the broker allows QoS 0 alone", _MEANS, _REMEDIES)
    try:
        with case.connected() as probe:
            granted = probe.subscribe(case.read_topic)
            # MQTT 5 has said so already, and a write of ours may be refused for other reasons.
            if case.version == "MQTT 3.1.1" and case.write_topic is not None:
                probe.publish(case.write_topic)
    except ProbeEnded as ended:
        return failed(f"QoS 1 is not taken: {ended}", _MEANS, _REMEDIES)
    if granted.code == 0:
        return failed("asked for QoS 1, the broker grants QoS 0", _MEANS, _REMEDIES)
    return ok("1, as asked for")
