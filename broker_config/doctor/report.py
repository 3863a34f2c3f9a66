"""Findings as text that fits 80 columns without colour, and as JSON."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from broker_config.doctor.examination import Result
from broker_config.doctor.finding import Finding, Status
from broker_config.doctor.kinds import KINDS

_WIDTH = 80
_WORDS: dict[Status, str] = {
    "ok": "ok",
    "warning": "warning",
    "failed": "FAILED",
    "not checked": "not checked",
}
_HEAD_WIDTH = 28
_NAME_WIDTH = _HEAD_WIDTH - 14


def lines(result: Result, kind: str) -> Iterator[str]:
    """One, and below it what a failure means and what to change, for this kind of broker."""
    finding = result.finding
    name = result.check.replace("_", " ")
    head = f"{_WORDS[finding.status]:<12} {name:<{_NAME_WIDTH}} "
    yield from textwrap.wrap(
        finding.says, _WIDTH, initial_indent=head, subsequent_indent=" " * _HEAD_WIDTH
    )
    indent = " " * 13
    if finding.means:
        yield from textwrap.wrap(
            finding.means, _WIDTH, initial_indent=indent, subsequent_indent=indent
        )
    for remedy in _remedies(finding, kind):
        yield from textwrap.wrap(
            remedy,
            _WIDTH,
            initial_indent=f"{indent}> ",
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def summary(results: Sequence[Result]) -> str:
    counts = Counter(result.finding.status for result in results)
    parts = [f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status]]
    bad = [result.check.replace("_", " ") for result in results if _is_bad(result)]
    verdict = f"To mend: {', '.join(bad)}." if bad else "Nothing that has to be mended."
    return f"{', '.join(parts)}. {verdict}"


def as_json(result: Result, kind: str) -> dict[str, Any]:
    finding = result.finding
    return {
        "check": result.check,
        "status": finding.status,
        "says": finding.says,
        "means": finding.means,
        "change": list(_remedies(finding, kind)),
    }


def _is_bad(result: Result) -> bool:
    return result.finding.status == "failed"


def _remedies(finding: Finding, kind: str) -> Iterator[str]:
    """For this kind of broker; for each that has one, where the kind is not known."""
    for one, name in KINDS.items():
        if one in finding.remedies and kind in ("", one):
            yield f"{name}: {finding.remedies[one]}"
    if always := finding.remedies.get(""):
        yield always
