"""When a client that is away comes back, so that thousands do not in the same second. Pure.

Only the coordinator knows how many clients there are. It says within how long they should spread
their return (`Offer.spread_s`), so that about as many come in each second of that time.
"""

from fedmqtt.effects import Seconds

UNTOLD_SPREAD_S: Seconds = 5.0
"""For a client that has seen no offer yet: a thousand like it come back at 200 in a second."""

TOLD_AFTER_S: Seconds = 1.0
_SPREADS = 20

_ATTEMPT_MAX = 32
_EARLY_SHARE = 0.05


def return_in_s(
    draw: float, attempt: int, base_s: Seconds, max_s: Seconds, spread_s: Seconds
) -> Seconds:
    """The pause before a lost broker is tried again, after `attempt` failures in a row.

    `draw` is uniform in [0, 1): exponential backoff with full jitter, over `spread_s` where that is
    longer. Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return draw * max(backoff_s(attempt, base_s, max_s), spread_s)


def backoff_s(attempt: int, base_s: Seconds, max_s: Seconds) -> Seconds:
    """Twice as long after each failure."""
    return min(max_s, base_s * 2.0 ** min(attempt, _ATTEMPT_MAX))


def told_after_s(spread_s: Seconds, least_s: Seconds = TOLD_AFTER_S) -> Seconds:
    """After how long a client says that it has begun to do something, where all return within
    `spread_s`, which is a measure of how many they are. A thousand wait for 100 s, so that no more
    than ten of them say something in a second."""
    return max(least_s, _SPREADS * spread_s)


def back_in_s(draw: float, left_s: Seconds, spread_s: Seconds) -> Seconds:
    """How long a client stays away that has left until a round opens in `left_s`.

    `draw` is uniform in [0, 1). All who leave return within a window of `spread_s`, or of a share
    of the time where that is longer, and it ends a little before the round opens: who is not there
    by then is not invited. Where `left_s` is shorter than that, they return over all of it.

        now ──────────── away ────────────▶│◀── returns ──▶│◀ early ▶│ the round opens
    """
    left_s = max(0.0, left_s)
    window_s = min(left_s, max(spread_s, _EARLY_SHARE * left_s))
    return (1.0 - _EARLY_SHARE) * (left_s - window_s) + window_s * draw
