"""How wide this client's way to the broker is, and by which codec it should answer. Pure.

    acknowledged messages ──▶ bursts of an answer ──▶ kbit/s of each ──▶ their median ──▶ codec

A burst is what went one after the other without a pause, so that the bytes of its messages share
its time: an answer, as a rule. How long the broker takes to acknowledge a few bytes, the
client's presence, is taken off it, or a long way would seem to be a narrow one.
"""

from dataclasses import dataclass, replace

from fedmqtt.effects import Seconds
from fedmqtt.messages import Offer

BITS_PER_KBIT = 1000
_KEPT = 5
"""So many bursts and round trips are remembered: one bad minute decides nothing, an hour does."""

_TRANSFER_SHARE_MIN = 0.1
"""Of a burst's time, at least so much is taken for its transfer: beside a long round trip, what a
few bytes took cannot be told, and the link is as wide as that at least."""


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


def after_greeting(quality: LinkQuality, sent_at: Seconds, at: Seconds) -> LinkQuality:
    """The broker has acknowledged a message of a few bytes."""
    return replace(quality, round_trips_s=(*quality.round_trips_s, at - sent_at)[-_KEPT:])


def after_piece(
    quality: LinkQuality, size_bytes: int, sent_at: Seconds, at: Seconds
) -> LinkQuality:
    """The broker has acknowledged a piece of an answer, or a whole one."""
    burst = quality.burst
    if burst is not None and sent_at < burst.ended_at:
        burst = _Burst(burst.size_bytes + size_bytes, burst.began_at, at)
        return replace(quality, burst=burst)
    return replace(quality, kbps=_rates(quality), burst=_Burst(size_bytes, sent_at, at))


def kbps(quality: LinkQuality) -> float | None:
    """Kilobits per second in the median of the last bursts; None before the first."""
    rates = sorted(_rates(quality))
    # The lower one of two; the library's module would cost the device a megabyte.
    return rates[(len(rates) - 1) // 2] if rates else None


def codec(quality: LinkQuality, offer: Offer) -> str:
    """By which of the offer's codecs this client answers: the main one until it knows better."""
    slow, found = offer.slow_links, kbps(quality)
    if slow is None or found is None or found >= slow.below_kbps:
        return offer.codec
    return slow.codec


def _rates(quality: LinkQuality) -> tuple[float, ...]:
    burst = quality.burst
    if burst is None:
        return quality.kbps
    took_s = burst.ended_at - burst.began_at
    transfer_s = max(took_s - min(quality.round_trips_s, default=0.0), took_s * _TRANSFER_SHARE_MIN)
    # A clock that has not moved between the two tells nothing.
    if transfer_s <= 0:
        return quality.kbps
    rate = burst.size_bytes * 8 / BITS_PER_KBIT / transfer_s
    return (*quality.kbps, rate)[-_KEPT:]
