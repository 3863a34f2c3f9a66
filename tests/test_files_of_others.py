"""Files that others wrote and that lie here unchanged: NOTICE says which they are."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_TOLD = re.compile(
    r"^(?P<path>\S+\.js) is .*?Version:\s+(?P<version>\S+)\s+SHA-256:\s+(?P<digest>[0-9a-f]{64})",
    re.S | re.M,
)
FOUND = [found.groupdict() for found in _TOLD.finditer((ROOT / "NOTICE").read_text())]


@pytest.mark.parametrize("told", FOUND, ids=[told["path"] for told in FOUND])
def test_it_is_the_file_and_the_version_that_notice_names(told: dict[str, str]) -> None:
    content = (ROOT / told["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == told["digest"]
    assert told["version"].encode() in content


def test_no_other_script_is_of_others() -> None:
    # What is minified has lines that nobody writes.
    minified = {
        path.relative_to(ROOT).as_posix()
        for folder in ("round_monitor", "tests")
        for path in (ROOT / folder).rglob("*.js")
        if max(map(len, path.read_text(encoding="utf-8").splitlines())) > 1000
    }
    assert minified == {told["path"] for told in FOUND}


def test_licences_lie_beside() -> None:
    assert "MIT" in (ROOT / "round_monitor/web/mqtt.esm.LICENSE.txt").read_text()
    assert "Mozilla Public License" in (ROOT / "tests/round_monitor/axe/LICENSE").read_text()
