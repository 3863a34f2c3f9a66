"""Sizes and durations as people read them, and small drawings made of characters."""

import math
from collections.abc import Sequence
from datetime import datetime

from fedmqtt.metric_words import figure as figure
from fedmqtt.metric_words import spelled as spelled

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-:=+*#"


def size(size_bytes: int) -> str:
    """`999 B`, `12.3 kB`: powers of 1000, three digits."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        # 999.5 and more would be printed as 1000.
        if value < 999.5:
            return _three_digits(value, unit)
        value /= 1000
    return _three_digits(value, "TB")


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole // 3600 % 24} h"


def took(seconds: float) -> str:
    """The same to a tenth below ten seconds, where `0 s` would look like nothing: `0.1 s`."""
    if seconds >= 9.95:
        return duration(seconds)
    return f"{seconds:.1f} s" if seconds >= 0.05 else "< 0.1 s"


def rate(kilobits: float) -> str:
    """Of a second: `240 kbit/s`, `24.9 Mbit/s`."""
    if kilobits < 1000:
        return f"{kilobits:,.0f} kbit/s"
    return f"{kilobits / 1000:,.{1 if kilobits < 100_000 else 0}f} Mbit/s"


def seconds_between(first: str, then: str) -> float | None:
    """Of two ISO 8601 moments; None if one of them is not."""
    try:
        return (datetime.fromisoformat(then) - datetime.fromisoformat(first)).total_seconds()
    except (ValueError, TypeError):
        # TypeError: one has a time zone, the other does not.
        return None


def bar(part: float, whole: float, width: int, ascii_only: bool = False) -> tuple[str, str]:
    """The full and the empty piece of a bar; together `width` wide."""
    share = min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0
    # Full only when it is: 99 of 100 must not look done.
    full = width if share == 1.0 else min(round(share * width), width - 1)
    return ("#" if ascii_only else "█") * full, ("." if ascii_only else "░") * (width - full)


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """The last `width` values, the smallest as the lowest block, the largest as the highest."""
    shown = values[-width:] if width > 0 else []
    if not shown:
        return ""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    low, high = min(shown), max(shown)
    if math.isinf(high - low):
        return sparkline([value / 4 for value in shown], width, ascii_only)
    step = (high - low) / (len(blocks) - 1)
    # A difference too small to divide by is none.
    heights = [round((value - low) / step) if step > 0 else 3 for value in shown]
    return "".join(blocks[min(height, len(blocks) - 1)] for height in heights)


def _three_digits(value: float, unit: str) -> str:
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return f"{value:,.{digits}f} {unit}"
