"""A browser without a window, spoken to over a pipe: what a page asks for, complains of and shows.

Chromium's DevTools protocol, one JSON object per NUL-ended message on descriptors 3 and 4:
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.patience import WITHIN_S

_TEXT = "document.body.innerText"
_KEYS = {"ArrowLeft": 37, "Home": 36, "Tab": 9, "Enter": 13}


def binary() -> str | None:
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


class Page:
    """One open page. Everything the browser told since it was opened is in `events`."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self._read_from, self._write_to = read_from, write_to
        self._number = 0
        self._left = b""
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        # A pipe takes what it has room for.
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def look(self, width: int, *, dark: bool = False) -> None:
        """As on a screen so wide."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path) -> None:
        """Returns when all of it is loaded."""
        self.go(path.resolve().as_uri())

    def go(self, url: str) -> None:
        """Returns when all of it is loaded."""
        self.events.clear()
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        while not self._told("Page.loadEventFired"):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The script's value. The page's own policy does not hold for it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def settled(self, script: str) -> Any:
        """What the promise that is the script's value comes to."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """One of `_KEYS`, where the focus is."""
        # A link or a button is pressed by what the key writes.
        text = {"text": "\r"} if key == "Enter" else {}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            code = _KEYS[key]
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
            )

    def wait_for(self, condition: str) -> None:
        """Until this script's value is true."""
        until = time.monotonic() + WITHIN_S
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < until, f"never: {condition}\n{self.run(_TEXT)}"
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What a reader finds there, hidden or not."""
        found = self.run(f"document.querySelector({json.dumps(selector)})?.textContent")
        assert isinstance(found, str), f"no {selector}"
        return found

    def screenshot(self, out: Path, width: int = 0, height: int = 0) -> None:
        """Of all that is loaded, or of its upper left corner."""
        clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}
        shot = self.call(
            "Page.captureScreenshot", captureBeyondViewport=True, **(clip if width else {})
        )
        out.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """All addresses that the page asked for, itself first."""
        sent = self._told("Network.requestWillBeSent")
        return [event["request"]["url"] for event in sent]

    def sockets(self) -> list[str]:
        """The addresses of WebSockets that the page has opened."""
        return [event["url"] for event in self._told("Network.webSocketCreated")]

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings, of scripts, of the page's policy, and of what it could not load."""
        console = self._told("Runtime.consoleAPICalled") + self._told("Runtime.exceptionThrown")
        return console + self._told("Log.entryAdded")

    def _told(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + WITHIN_S
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read_from], [], [], until - time.monotonic())
            assert ready, f"nothing from the browser within {WITHIN_S} s"
            piece = os.read(self._read_from, 1 << 20)
            assert piece, "the browser is gone"
            self._left += piece
        text, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


# Puts the pipes where Chromium looks for them, over whatever is there.
_ON_ITS_DESCRIPTORS = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextmanager
def opened(program: str, profile: Path) -> Iterator[Page]:
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _ON_ITS_DESCRIPTORS,
            str(to_browser),
            str(to_us),
            program,
            "--headless=new",
            # Containers have no user namespaces for its sandbox. It opens our own files only.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ],
        pass_fds=(to_browser, to_us),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser)
    os.close(to_us)
    try:
        yield Page(from_browser, from_us)
    finally:
        os.close(from_us)
        os.close(from_browser)
        # Without its pipe it ends by itself; else it is made to.
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(WITHIN_S)
