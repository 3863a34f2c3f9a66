"""The browser's client reads and makes the bytes of docs/vectors, in a real browser."""

import json

from tests.examples.pages_here import PAGE, ROOT, served
from tests.protocol_vectors import ENCODINGS, MESSAGES
from tests.round_monitor.chromium import Page

CHECK = ROOT / "tests" / "examples" / "check_vectors.js"
NUMBERS = (0.1, 1.0, 0.01, 1e-4, 1e-5, 2.5e-7, 123456.0, 999999.5, 1e6, 1 / 3, 12345.678)


def test_the_browsers_client_agrees_with_the_vectors(browser: Page) -> None:
    words = [json.dumps([n, f"{n:g}"]) for n in NUMBERS]
    arguments = (
        MESSAGES.read_text(encoding="utf-8"),
        ENCODINGS.read_text(encoding="utf-8"),
        f"[{','.join(words)}]",
    )
    script = CHECK.read_text(encoding="utf-8").partition("\n")[2].strip().removesuffix(";")
    with served() as root:
        browser.go(root + PAGE)
        assert browser.settled(f"({script})({','.join(arguments)})") == []
