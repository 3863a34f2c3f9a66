"""How wide this client's way to the broker is, and by which codec it should answer. Pure.

    acknowledged messages ──▶ bursts of an answer ──▶ kbit/s of each ──▶ their median ──▶ codec

A burst is what went one after the other without a pause, so that the bytes of its messages share
its time: an answer, as a rule. How long the broker takes to acknowledge a few bytes, such as a
presence, is taken off it, or a long way would seem to be a narrow one.
"""

from dataclasses import dataclass, replace

from fedmqtt.effects import Seconds
from fedmqtt.messages import Offer

BITS_PER_KBIT = 1000
_KEPT = 5
"""So many bursts and round trips are remembered: one bad minute decides nothing, an hour does."""

_SMALL_BYTES = 512
"""A message up to this size tells how long the way is, and nothing of its width."""

_TRANSFER_SHARE_MIN = 0.1
"""Of a burst's time. Beside a longer round trip, what its bytes took cannot be told: only that the
link is at least as wide as if they had taken this share."""


@dataclass(frozen=True, slots=True)
class _Burst:
    size_bytes: int
    began_at: Seconds
    ended_at: Seconds


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """What this client knows of its link up. It knows nothing of a link that it has not used."""

    round_trips_s: tuple[Seconds, ...] = ()
    kbps: tuple[float, ...] = ()
    """Of bursts that are over, the newest last."""
    burst: _Burst | None = None


def after(quality: LinkQuality, size_bytes: int, sent_at: Seconds, at: Seconds) -> LinkQuality:
    """The broker has acknowledged a message, in the order in which they were sent."""
    if size_bytes <= _SMALL_BYTES:
        return replace(quality, round_trips_s=(*quality.round_trips_s, at - sent_at)[-_KEPT:])
    burst = quality.burst
    if burst is not None and sent_at < burst.ended_at:
        burst = _Burst(burst.size_bytes + size_bytes, burst.began_at, at)
        return replace(quality, burst=burst)
    return replace(quality, kbps=_rates(quality), burst=_Burst(size_bytes, sent_at, at))


def kbps(quality: LinkQuality) -> float | None:
    """Kilobits per second in the median of the last bursts; None before the first."""
    return _median(_rates(quality))


def codec(quality: LinkQuality, offer: Offer) -> str:
    """By which of the offer's codecs this client answers: the main one until it knows better."""
    slow, found = offer.slow_links, kbps(quality)
    if slow is None or found is None or found >= slow.below_kbps:
        return offer.codec
    return slow.codec


def _rates(quality: LinkQuality) -> tuple[float, ...]:
    burst, known = quality.burst, quality.kbps
    if burst is None:
        return known
    took_s = burst.ended_at - burst.began_at
    transfer_s = took_s - min(quality.round_trips_s, default=0.0)
    least_s = took_s * _TRANSFER_SHARE_MIN
    # A clock that has not moved between the two tells nothing.
    if least_s <= 0:
        return known
    rate = burst.size_bytes * 8 / BITS_PER_KBIT / max(transfer_s, least_s)
    median = _median(known)
    if transfer_s < least_s and (median is None or rate < median):
        # No less than this; that much was known.
        return known
    return (*known, rate)[-_KEPT:]


def _median(rates: tuple[float, ...]) -> float | None:
    # The lower one of two. The library's module would cost the device a megabyte.
    return sorted(rates)[(len(rates) - 1) // 2] if rates else None
