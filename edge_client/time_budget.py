"""How long a client trains that sends what it has when time is up: numbers, without a clock.

|◀─────────── until the round closes ───────────▶|
|◀── trains ─────────────────────▶|◀── sends ───▶|

An asynchronous round that closes ends nothing: who is at work on it answers later and counts.
"""

import math

from fedmqtt.effects import Seconds
from fedmqtt.messages import Offer

_KEPT = 0.1
"""Of the time that is left: for sending."""
_KEPT_MIN_S: Seconds = 1.0


def ends_with_round(offer: Offer) -> bool:
    """Whether who trains for this offer has to have something to send before its round closes."""
    return offer.method.partial and not offer.asynchronous


def stop_at(now: Seconds, closes_at: Seconds) -> Seconds:
    """When training ends, of a round that closes then; never before now."""
    if closes_at == math.inf:
        return closes_at
    return max(now, closes_at - max(_KEPT_MIN_S, _KEPT * (closes_at - now)))


def steps_within(step_count: int, takes_s: Seconds, has_s: Seconds) -> int:
    """How many of so many steps that take `takes_s` are made in `has_s`: one at least."""
    if has_s >= takes_s or takes_s <= 0:
        return step_count
    return max(1, int(step_count * max(0.0, has_s) / takes_s))
