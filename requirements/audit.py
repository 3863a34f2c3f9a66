"""`make audit`: are there known advisories about what constraints.txt pins?

Exit code 0: none is known of any. 1: there are some, they are listed. 4: it could not be found out,
for all or for some; pip-audit takes what an index does not know for fine, and this does not.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"

EXIT_FOUND = 1
EXIT_UNKNOWN = 4

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    code: int
    lines: tuple[str, ...]
    """For people."""


def verdict(told: str, trouble: str) -> Verdict:
    """From what pip-audit wrote as JSON, and what it said beside that."""
    try:
        audited: list[dict[str, Any]] = json.loads(told)["dependencies"]
    except (ValueError, KeyError, TypeError):
        why = trouble.strip().splitlines()
        reason = why[-1] if why else "pip-audit said nothing"
        return Verdict(
            EXIT_UNKNOWN, (f"Nothing was audited: no advisories are to be had: {reason}",)
        )
    found = [
        f"{one['name']} {one['version']}: {bad['id']},"
        f" mended in {', '.join(bad['fix_versions']) or 'no version so far'}"
        for one in audited
        for bad in one.get("vulns", ())
    ]
    unknown = [one["name"] for one in audited if "skip_reason" in one]
    lines = [*found, _sentence(len(audited), len(unknown), len(found), unknown)]
    return Verdict(
        EXIT_FOUND if found else EXIT_UNKNOWN if unknown or not audited else 0, tuple(lines)
    )


def _sentence(all_: int, unknown: int, found: int, names: Sequence[str]) -> str:
    if unknown == all_:
        return f"Nothing was audited: the index knows no advisories about any of {all_} packages."
    some = ", ".join(names[:_NAMED]) + (", ..." if unknown > _NAMED else "")
    missing = f"; of {unknown} nothing is known ({some})" if unknown else ""
    return f"{all_ - unknown} of {all_} packages were audited: {found} advisories{missing}."


def main() -> int:
    command = [
        *(sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--format", "json"),
        *("--progress-spinner", "off", "--requirement", str(CONSTRAINTS)),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = verdict(ran.stdout, ran.stderr)
    for line in found.lines:
        sys.stdout.write(f"{line}\n")
    return found.code


if __name__ == "__main__":
    sys.exit(main())
