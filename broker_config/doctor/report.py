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
    """How many of each, what to mend, and what was left out that could be looked at."""
    counts = Counter(result.finding.status for result in results)
    parts = [f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status]]
    unseen = left_out(results)
    bad = [result.check for result in results if result.finding.status == "failed"]
    if bad:
        verdict = f"To mend: {_named(bad)}."
    elif unseen:
        verdict = "Nothing of what was looked at has to be mended."
    else:
        verdict = "Nothing that has to be mended."
    return "\n".join([f"{', '.join(parts)}. {verdict}", *_on_what_was_left_out(results, unseen)])


def left_out(results: Sequence[Result]) -> list[str]:
    """Checks that could be made, and were not, with those that need them."""
    known = {result.check for result in results if result.finding.to_look}
    for result in results:
        if known.intersection(result.needed):
            known.add(result.check)
    return [result.check for result in results if result.check in known]


def _on_what_was_left_out(results: Sequence[Result], unseen: Sequence[str]) -> Iterator[str]:
    if not unseen:
        return
    yield from textwrap.wrap(f"NOT LOOKED AT: {_named(unseen)}.", _WIDTH)
    for result in results:
        if result.finding.to_look:
            why = f"{result.check.replace('_', ' ')}: {result.finding.says}."
            yield from textwrap.wrap(why, _WIDTH)
            # In one piece, to be copied.
            yield from textwrap.wrap(
                f"To look: {result.finding.to_look}.",
                _WIDTH,
                break_on_hyphens=False,
                break_long_words=False,
            )


def _named(checks: Sequence[str]) -> str:
    return ", ".join(check.replace("_", " ") for check in checks)


def as_json(result: Result, kind: str) -> dict[str, Any]:
    finding = result.finding
    return {
        "check": result.check,
        "status": finding.status,
        "says": finding.says,
        "means": finding.means,
        "to_look": finding.to_look,
        "change": list(_remedies(finding, kind)),
    }


def _remedies(finding: Finding, kind: str) -> Iterator[str]:
    """For this kind of broker; for each that has one, where the kind is not known."""
    for one, name in KINDS.items():
        if one in finding.remedies and kind in ("", one):
            yield f"{name}: {finding.remedies[one]}"
    if always := finding.remedies.get(""):
        yield always
