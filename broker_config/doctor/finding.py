"""What one check found, and the line to change where that is not as it should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "warning", "failed", "not checked"]

Remedies = Mapping[str, str]
"""The line to change, by the kind of broker (`kinds.py`); "" is for whatever broker it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    status: Status
    says: str
    """One sentence, or less."""
    means: str = ""
    """What comes of it, where something is wrong."""
    remedies: Remedies = field(default_factory=dict)
    denied: bool = False
    """The broker does not let us in, or is not who it should be."""
    to_look: str = ""
    """What to do first, where it could have been looked at, and was not."""


def ok(says: str) -> Finding:
    return Finding("ok", says)


def warning(says: str, means: str = "", remedies: Remedies | None = None) -> Finding:
    return Finding("warning", says, means, remedies or {})


def failed(
    says: str, means: str, remedies: Remedies | None = None, *, denied: bool = False
) -> Finding:
    return Finding("failed", says, means, remedies or {}, denied)


def not_checked(why: str, to_look: str = "") -> Finding:
    return Finding("not checked", why, to_look=to_look)
