"""Findings as text: a line for each feature that is a number, with its histogram, and a few lines
for each that has categories."""

from collections.abc import Iterator, Sequence

from coordinator.statistics.findings import (
    CategoryFindings,
    Findings,
    Histogram,
    NumberFindings,
    Quantile,
    Withheld,
)
from fedmqtt.logs import printable

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*#%"
_BARS = 32
_CATEGORIES_MAX = 12
"""Of more only the most frequent are in the table; all are in the JSON."""
_WITHHELD_MAX = 6
"""Of more features, withheld for the same reason, the first are named; all are in the JSON."""


def lines(findings: Findings, *, ascii_only: bool = False) -> list[str]:
    return [
        *_about(findings),
        "",
        *_numbers(findings, ascii_only=ascii_only),
        *_categories(findings, ascii_only=ascii_only),
        *_withheld(findings),
    ]


def _about(findings: Findings) -> Iterator[str]:
    yield (
        f"{findings.clients:,} clients, in round {findings.round} of {len(findings.answered)}:"
        " all figures are of these"
    )
    if findings.came or findings.left:
        yield (
            f"(since the first round {findings.came:,} have come and {findings.left:,} have gone;"
            f" by round, {', '.join(map(str, findings.answered))} answered)"
        )


def _numbers(findings: Findings, *, ascii_only: bool) -> Iterator[str]:
    named = {n: f for n, f in findings.features.items() if isinstance(f, NumberFindings)}
    if not named:
        return
    shares = sorted({one.share for found in named.values() for one in found.quantiles})
    head = ["", "samples", "mean", "deviation", *(f"{share * 100:g}%" for share in shares)]
    rows = [head] + [[printable(name), *_cells(one, shares)] for name, one in named.items()]
    pictures = ["histogram", *(_picture(one, ascii_only) for one in named.values())]
    for text, picture in zip(_set(rows), pictures, strict=True):
        yield f"{text}  {picture}".rstrip()
    yield ""
    for name, one in named.items():
        if one.outside:
            yield f"{printable(name)}: {one.outside:,} samples are in neither mean nor deviation"


def _cells(found: NumberFindings, shares: Sequence[float]) -> list[str]:
    quantiles = {one.share: one for one in found.quantiles}
    return [
        f"{found.samples:,}",
        _number(found.mean),
        _number(None if found.variance is None else found.variance**0.5),
        *(_number(_middle(quantiles.get(share))) for share in shares),
    ]


def _middle(quantile: Quantile | None) -> float | None:
    return None if quantile is None else (quantile.low + quantile.high) / 2


def _picture(found: NumberFindings, ascii_only: bool) -> str:
    told = found.histogram
    if told is None:
        return ""
    missing = told.below + told.above
    beside = f"  {missing:,} outside" if missing else ""
    return f"{_number(told.low)} {bars(told, ascii_only)} {_number(told.high)}{beside}"


def bars(histogram: Histogram, ascii_only: bool) -> str:
    """The highest is full; whatever is not empty is seen."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    size = -(-len(histogram.counts) // _BARS)
    counts = [
        sum(histogram.counts[start : start + size])
        for start in range(0, len(histogram.counts), size)
    ]
    most = max(counts) or 1
    return "".join(blocks[-(-count * (len(blocks) - 1) // most)] for count in counts)


def _categories(findings: Findings, *, ascii_only: bool) -> Iterator[str]:
    full = "#" if ascii_only else "█"
    for name, found in findings.features.items():
        if not isinstance(found, CategoryFindings):
            continue
        yield f"{printable(name)}: {found.samples:,} samples"
        frequent = sorted(found.counts.items(), key=lambda one: (-one[1], one[0]))
        shown = frequent[:_CATEGORIES_MAX]
        rows = [
            [f"  {printable(one)}", f"{count:,}", f"{100 * count / found.samples:.1f}%"]
            for one, count in shown
        ]
        most = max(found.counts.values())
        for text, (_, count) in zip(_set(rows), shown, strict=True):
            yield f"{text}  {full * round(_BARS * count / most)}".rstrip()
        if missing := len(frequent) - len(shown):
            yield f"  and {missing:,} more"
        yield ""


def _withheld(findings: Findings) -> Iterator[str]:
    # Together: a task that names no features has those of the widest inputs there may be.
    alike: dict[str, list[str]] = {}
    for name, found in findings.features.items():
        if isinstance(found, Withheld):
            alike.setdefault(found.reason, []).append(printable(name))
    for reason, names in alike.items():
        more = len(names) - _WITHHELD_MAX
        shown = ", ".join(names[:_WITHHELD_MAX]) + (f" and {more:,} more" if more > 0 else "")
        yield f"{shown}: {reason}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _set(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
