"""`fedmqtt dashboard` as a process, at a port of its own; and its page, open in a browser."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import Program, running, wait_until
from tests.round_monitor.chromium import Page

_AXE = Path(__file__).parent / "axe" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

_ADDRESS = re.compile(r"http://\S+/#token=\S+")


@contextmanager
def dashboard(folder: Path, broker: str, *words: str) -> Iterator[str]:
    """Yields the address that it prints."""
    if "--port" not in words:
        words = ("--port", "0", *words)
    with running(folder, "fedmqtt", "dashboard", "--broker", broker, *words) as program:
        yield address(program)


def address(program: Program) -> str:
    wait_until(lambda: "Ctrl-C" in program.said or program.process.poll() is not None)
    found = _ADDRESS.search(program.said)
    assert found is not None, program.log
    return found[0]


def open_page(browser: Page, url: str, width: int = 1280, *, dark: bool = False) -> None:
    browser.look(width, dark=dark)
    # Only what follows the # may be new, and that loads nothing.
    browser.go("about:blank")
    browser.go(url)


def violations(browser: Page) -> list[tuple[str, str, list[str]]]:
    """What axe-core finds fault with: a rule, in words, and where."""
    browser.run(_AXE.read_text(encoding="utf-8"))
    words = json.dumps({"runOnly": _RULES})
    found = browser.settled(f"axe.run(document, {words}).then(found => found.violations)")
    return [(one["id"], one["help"], [node["html"] for node in one["nodes"]][:3]) for one in found]
