"""The settings of real programs on a clock that runs faster than their own.

Each second of a live run is `speed` seconds of the fleet's. What a program waits for is that much
shorter, as far as brokers and event loops can bear. What is no setting stays as it is: the half
second after which a lost link is first tried again, or the ten that a connection may take.
"""

import math
from typing import NamedTuple

from msgspec import structs

from coordinator.config import FederationConfig
from edge_client.config import ClientConfig
from fedmqtt.effects import Seconds

_KEEPALIVE_MIN_S, _KEEPALIVE_MAX_S = 5, 1200
"""As `fedmqtt coordinator` takes it."""
_RESEND_MIN_S = 1.0
_CHECK_MIN_S = 0.1
_KBPS_MAX = 1e9
_WHOLE_S = 1
"""MQTT counts a will's delay and a session's life in whole seconds."""


def federation_at_speed(config: FederationConfig, speed: float) -> FederationConfig:
    """The same federation on a real clock that runs `speed` times slower than its own."""
    broker, rounds, tuning, transfer = config.broker, config.rounds, config.tuning, config.transfer
    final_deadline_s = config.evaluation.final_deadline_s
    slow = config.slow_links
    return structs.replace(
        config,
        broker=structs.replace(broker, keepalive_s=_keepalive_s(broker.keepalive_s, speed)),
        rounds=structs.replace(
            rounds,
            deadline_s=rounds.deadline_s / speed,
            pause_s=rounds.pause_s / speed,
            retry_s=rounds.retry_s / speed,
            away_grace_s=rounds.away_grace_s / speed,
        ),
        tuning=structs.replace(tuning, deadline_min_s=tuning.deadline_min_s / speed),
        evaluation=structs.replace(config.evaluation, final_deadline_s=final_deadline_s / speed),
        transfer=structs.replace(transfer, stall_s=transfer.stall_s / speed),
        slow_links=structs.replace(slow, below_kbps=min(slow.below_kbps * speed, _KBPS_MAX)),
    )


def client_at_speed(config: ClientConfig, speed: float) -> ClientConfig:
    """The same client on a real clock that runs `speed` times slower than its own."""
    link, conditions = config.link, config.conditions
    return structs.replace(
        config,
        link=structs.replace(
            link,
            keepalive_s=_keepalive_s(link.keepalive_s, speed),
            # Without one it would be gone with its connection.
            session_expiry_s=math.ceil(link.session_expiry_s / speed),
            will_delay_s=round(link.will_delay_s / speed),
            retry_max_s=link.retry_max_s / speed,
            leave_from_s=link.leave_from_s / speed,
            resend_s=max(_RESEND_MIN_S, link.resend_s / speed),
        ),
        conditions=structs.replace(
            conditions, check_s=max(_CHECK_MIN_S, conditions.check_s / speed)
        ),
    )


def out_of_scale(federation: FederationConfig, client: ClientConfig, speed: float) -> str:
    """A sentence on what is not as short as `speed` asks for; empty where everything is."""
    fast_federation = federation_at_speed(federation, speed)
    before, after = (
        _waits(federation, client),
        _waits(fast_federation, client_at_speed(client, speed)),
    )
    told = [
        f"{wait.name} is {fast.seconds * speed:g} s of the fleet's time instead of {wait.seconds:g}"
        for wait, fast in zip(before, after, strict=True)
        if 0 < wait.seconds < wait.least_s * speed
    ]
    if not told:
        return ""
    fits = min(wait.seconds / wait.least_s for wait in before if wait.seconds)
    return (
        f"--speed {speed:g} is too fast for some waits: {', '.join(told)}; up to --speed {fits:g}"
        " all keep up"
    )


class _Wait(NamedTuple):
    name: str
    seconds: Seconds
    least_s: Seconds
    """It cannot be set to less, but to none."""


def _waits(federation: FederationConfig, client: ClientConfig) -> list[_Wait]:
    """Those that cannot be shortened without end, and matter in this federation."""
    link, conditions = client.link, client.conditions
    waits = [
        _Wait("the coordinator's keepalive", federation.broker.keepalive_s, _KEEPALIVE_MIN_S),
        _Wait("a client's keepalive", link.keepalive_s, _KEEPALIVE_MIN_S),
        _Wait("a will's delay", link.will_delay_s, _WHOLE_S),
        _Wait("a session's life", link.session_expiry_s, _WHOLE_S),
        _Wait("the wait for a receipt", link.resend_s, _RESEND_MIN_S),
    ]
    if conditions.any:
        waits.append(_Wait("the pause between looks", conditions.check_s, _CHECK_MIN_S))
    return waits


def _keepalive_s(setting_s: int, speed: float) -> int:
    return min(max(_KEEPALIVE_MIN_S, round(setting_s / speed)), _KEEPALIVE_MAX_S)
