"""Does the broker keep a session for who leaves and comes back?"""

from broker_config.doctor.case import Case
from broker_config.doctor.finding import Finding, failed, ok, warning

NEEDS = ("login",)

_DAY_S = 86_400
"""What a client asks for unless its owner says otherwise."""
_NAME = "-s"
_REMEDIES = {
    "mosquitto": "persistent_client_expiration 14d, or leave it out   (mosquitto.conf)",
    "emqx": "mqtt.session_expiry_interval = 14d",
    "hivemq": "<session-expiry><max-interval>1209600</max-interval></session-expiry>",
    "rabbitmq": "mqtt.max_session_expiry_interval_seconds = 1209600",
    "aws": "persistent session expiry: 1 hour unless raised, 7 days at most",
}
_MEANS = "A device that slept would not find its receipts, and sends its whole answer again."


def check(case: Case) -> Finding:
    if case.session_is_the_devices:
        return ok(f"{case.id}'s own was there, and is left as it was")
    try:
        with case.connected(_NAME, keep_s=_DAY_S) as probe:
            probe.subscribe(case.read_topic)
            granted_s = probe.welcome.session_expiry_s
        with case.connected(_NAME, resume=True, keep_s=_DAY_S) as probe:
            is_there = probe.welcome.session_present
    finally:
        with case.connected(_NAME):
            pass
    if not is_there:
        return failed("gone when we came back after a moment", _MEANS, _REMEDIES)
    if granted_s is not None and granted_s < _DAY_S:
        return warning(
            f"kept, for {granted_s:,} s at most; clients ask for {_DAY_S:,}", _MEANS, _REMEDIES
        )
    told = "as long as asked" if case.version == "MQTT 5" else "how long is not told"
    return ok(f"there when we came back; {told}, as far as the broker says")
