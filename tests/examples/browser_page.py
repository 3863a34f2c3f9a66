"""The browser's client, opened in a real browser by the address that serve.py prints."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import running, wait_until
from tests.round_monitor.chromium import Page

_ADDRESS = re.compile(r"http://\S+#token=\S+")
EVENTS = "[...document.querySelectorAll('#events li')].map(one => one.textContent)"
"""What the page tells, the newest first."""


@contextmanager
def opened(browser: Page, folder: Path, *words: str, more: str = "") -> Iterator[str]:
    """Connected; `words` are for serve.py, `more` for the address, which is yielded."""
    with running(folder, "examples.browser_client.serve", "--port", "0", *words) as program:
        wait_until(lambda: "Ctrl-C" in program.said or program.process.poll() is not None)
        found = _ADDRESS.search(program.said)
        assert found is not None, program.log
        browser.go("about:blank")
        browser.go(found[0] + more)
        wait_to_hear(browser, "online")
        try:
            yield found[0] + more
        finally:
            browser.go("about:blank")


def wait_to_hear(browser: Page, what: str, times: int = 1) -> None:
    """Until the page has told of it so often."""
    browser.wait_for(f"{EVENTS}.filter(one => one.startsWith('{what}')).length >= {times}")
