"""What was not audited is never told of as sound."""

import json
from typing import Any

import pytest

from requirements import audit

SOUND: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD: dict[str, Any] = {
    "name": "zstandard",
    "version": "0.1",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.2"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
UNKNOWN: dict[str, Any] = {"name": "torch", "skip_reason": "not found"}


def _told(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_all_that_were_audited_without_an_advisory_are_sound() -> None:
    found = audit.verdict(_told(SOUND), "No known vulnerabilities found")
    assert found == audit.Verdict(0, ("1 of 1 packages were audited: 0 advisories.",))


def test_each_advisory_is_named_with_what_mends_it() -> None:
    found = audit.verdict(_told(SOUND, BAD), "")
    assert found.code == audit.EXIT_FOUND
    assert found.lines == (
        "zstandard 0.1: PYSEC-1, mended in 0.2",
        "zstandard 0.1: PYSEC-2, mended in no version so far",
        "2 of 2 packages were audited: 2 advisories.",
    )


def test_an_index_without_advisories_is_not_taken_for_good_news() -> None:
    # As pip-audit says it, which ends with 0.
    found = audit.verdict(_told(UNKNOWN, UNKNOWN), "No known vulnerabilities found")
    assert found.code == audit.EXIT_UNKNOWN
    assert found.lines == (
        "Nothing was audited: the index knows no advisories about any of 2 packages.",
    )


def test_what_is_not_known_of_some_is_said() -> None:
    found = audit.verdict(_told(SOUND, UNKNOWN), "")
    assert found.code == audit.EXIT_UNKNOWN
    assert found.lines == (
        "1 of 2 packages were audited: 0 advisories; of 1 nothing is known (torch).",
    )
    assert audit.verdict(_told(BAD, UNKNOWN), "").code == audit.EXIT_FOUND


@pytest.mark.parametrize("told", ["", "[]", "{}", "no JSON", "null"])
def test_no_answer_is_one_sentence(told: str) -> None:
    found = audit.verdict(told, "Traceback\nConnectionError: no such host\n")
    assert found.code == audit.EXIT_UNKNOWN
    assert found.lines == (
        "Nothing was audited: no advisories are to be had: ConnectionError: no such host",
    )


def test_nothing_to_audit_is_no_good_news() -> None:
    assert audit.verdict(_told(), "").code == audit.EXIT_UNKNOWN
