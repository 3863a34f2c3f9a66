"""What an owner sees of a device's work: drawn on a real terminal, or line by line."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from broker_config.local_broker import RunningBroker
from edge_client import progress_line, session
from edge_client.activity import Now
from edge_client.progress_line import ChangeLines, RoundLines
from edge_client.training_job import Progress
from fedmqtt.event_loop import EventLoop
from fedmqtt.messages import Receipt, Training, Update, task_name
from fedmqtt.topics import ClientId, Inbox, RoundId, RunId
from tests.edge_client.client_process import client, command, flags
from tests.edge_client.coordinator_side import Coordinator
from tests.edge_client.jobs import model_file, task_file
from tests.fedmqtt.peer import loop, until
from tests.offers import offer
from tests.patience import WITHIN_S

__all__ = ["loop"]

FOUR = RoundId(4)
HALF = Progress(fraction=0.5, epoch=2, epochs=4, batch=7, batches=7)


def now(what: Any, fraction: float = 0.0, **others: Any) -> Now:
    return Now(what, FOUR, fraction, is_online=True, **others)


@pytest.mark.parametrize(
    ("doing", "words"),
    [
        (Now("waiting"), "waiting for the broker"),
        (now("waiting"), "waiting for a round"),
        (
            now("waiting", hindrance="not charging\x1b[2J"),
            "waiting; may not train now: not charging\\x1b[2J",
        ),
        (
            now("downloading", 0.25, size_bytes=2_000_000),
            "round 4: downloading 500.0 kB of 2.0 MB",
        ),
        (now("training", 0.5, work=HALF), "round 4: training, epoch 2 of 4, batch 7 of 7"),
        (now("training"), "round 4: training"),
        (now("evaluating"), "round 4: evaluating"),
        (now("sending", 0.5, size_bytes=800), "round 4: sending 400 bytes of 800 bytes"),
        (now("sending", 1.0, size_bytes=800), "round 4: waiting for the receipt"),
    ],
)
def test_what_it_does_is_told_in_words(doing: Now, words: str) -> None:
    assert progress_line.told(doing) == words


def test_a_line_is_no_longer_than_the_terminal_and_ascii_where_it_must_be() -> None:
    doing = now("training", 0.5, work=HALF)
    drawn = progress_line.line(doing, 120, ascii_only=True)
    assert (
        drawn == "round 4: training, epoch 2 of 4, batch 7 of 7  " + "#" * 14 + "." * 14 + "  50%"
    )
    assert progress_line.line(doing, 120, ascii_only=False).count("█") == 14
    for width in (0, 1, 5, 40):
        assert len(progress_line.line(doing, width, ascii_only=False)) == max(0, width - 1)


def test_one_line_is_told_for_each_change_and_each_epoch() -> None:
    said: list[str] = []
    lines = ChangeLines(said.append)
    for doing in (
        now("waiting"),
        now("downloading", 0.1, size_bytes=9),
        now("downloading", 0.9, size_bytes=9),
        now("training"),
        now("training", 0.5, work=HALF),
        now("training", 0.6, work=structs.replace(HALF, batch=8)),
        now("training", 0.8, work=structs.replace(HALF, epoch=3)),
        now("waiting"),
    ):
        lines.show(doing)
    assert said == [
        "waiting for a round",
        "round 4: downloading",
        "round 4: training",
        "round 4: training, epoch 2 of 4",
        "round 4: training, epoch 3 of 4",
        "waiting for a round",
    ]


def test_one_line_is_told_for_each_round_that_had_its_receipt() -> None:
    said: list[str] = []
    lines = RoundLines(said.append)
    for number in range(1, 30):
        lines.hear(session.Offered(10.0, offer(number)))
    lines.hear(session.Offered(99.0, offer(29)))
    run = RunId("r")
    lines.hear(session.Received(22.4, Receipt(run=run, round=RoundId(29), accepted=True)))
    refused = Receipt(run=run, round=RoundId(28), accepted=False, reason="late\x1b")
    lines.hear(session.Received(23.0, refused))
    lines.hear(session.Received(24.0, Receipt(run=run, round=RoundId(1), accepted=True)))
    assert said == [
        "round 29: counted, 12 s after it was offered",
        "round 28: not counted: late\\x1b, 13 s after it was offered",
        "round 1: counted",
    ]


WIDTH = 80
GATED = """
progress(0.1)
while not (here / "go").exists():
    progress(0.1)
    time.sleep(0.01)
"""


class Terminal:
    """What a person sees: all lines so far, the last one as it was drawn last."""

    def __init__(self) -> None:
        self.lines = [""]
        self._raw = b""

    def feed(self, data: bytes) -> None:
        self._raw += data
        self.lines = []
        for drawn in self._raw.decode(errors="replace").replace("\r\n", "\n").split("\n"):
            # Each time it is drawn, from the first column and over an empty line.
            *_, newest = drawn.split("\r\x1b[K")
            assert "\x1b" not in newest, "it erases a line, and steers nothing else"
            self.lines.append(newest)


@contextmanager
def _on_terminal(loop: EventLoop, term: str, *words: str) -> Iterator[Terminal]:
    """The program, with a terminal for its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
    terminal = Terminal()

    def read(_readable: bool, _writable: bool) -> None:
        terminal.feed(os.read(ours, 65536))

    environment = {**os.environ, "TERM": term, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command(*words), stderr=theirs, env=environment) as process:
        loop.watch(ours, read)
        try:
            yield terminal
        finally:
            process.terminate()
            process.wait(WITHIN_S)
            loop.unwatch(ours)
            os.close(theirs)
            os.close(ours)


def _words(url: str, federation: str, folder: Path, *more: str) -> list[str]:
    task = task_file(folder, "gated", GATED)
    found = flags(broker=url, federation=federation, id="ann", task=task, data=str(folder))
    return [*found, *flags(state=str(folder / "state")), *more]


@pytest.fixture
def coordinator(
    loop: EventLoop, mosquitto_broker: RunningBroker, federation_name: str
) -> Iterator[Coordinator]:
    coordinator = Coordinator(loop, mosquitto_broker.url, federation_name)
    yield coordinator
    coordinator.link.close()


def _one_round(coordinator: Coordinator, loop: EventLoop, folder: Path, sees: Any) -> None:
    model = coordinator.publish_model(model_file())
    coordinator.offer(1, model, task_name("gated"), training=Training(epochs=2))
    sees("round 1: training")
    (folder / "go").touch()
    update = coordinator.answer("ann")
    assert isinstance(update, Update)
    coordinator.receipt("ann", 1)


@pytest.mark.broker
def test_on_a_terminal_one_line_is_drawn_anew_below_the_log(
    coordinator: Coordinator,
    loop: EventLoop,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
) -> None:
    words = _words(mosquitto_broker.url, federation_name, tmp_path)
    with _on_terminal(loop, "xterm-256color", *words) as terminal:

        def sees(start: str) -> None:
            until(loop, lambda: terminal.lines[-1].startswith(start), start)

        sees("waiting for a round")
        _one_round(coordinator, loop, tmp_path, sees)
        until(loop, lambda: any("receipt: round 1 accepted" in one for one in terminal.lines))
        sees("waiting for a round")
        assert all(len(one) < WIDTH for one in terminal.lines[-1:])
        # The log has its lines to itself, and nothing that was drawn is left between them.
        assert all(" client.ann: " in one for one in terminal.lines[:-1]), terminal.lines


@pytest.mark.broker
def test_a_dumb_terminal_gets_a_line_for_each_change(
    coordinator: Coordinator,
    loop: EventLoop,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
) -> None:
    words = _words(mosquitto_broker.url, federation_name, tmp_path)
    with _on_terminal(loop, "dumb", *words) as terminal:

        def sees(end: str) -> None:
            until(loop, lambda: any(one.endswith(end) for one in terminal.lines), end)

        sees("waiting for a round")
        _one_round(coordinator, loop, tmp_path, sees)
        sees("receipt: round 1 accepted")
        assert b"\x1b" not in terminal._raw


@pytest.mark.broker
def test_a_service_says_one_line_for_each_round(
    coordinator: Coordinator,
    loop: EventLoop,
    mosquitto_broker: RunningBroker,
    federation_name: str,
    tmp_path: Path,
) -> None:
    url = mosquitto_broker.url
    (tmp_path / "go").touch()
    task = task_file(tmp_path, "gated", GATED)
    more = flags(data=str(tmp_path), progress="rounds")
    with client(url, federation_name, tmp_path / "state", *more, task=task) as ann:
        model = coordinator.publish_model(model_file())
        coordinator.offer(1, model, task_name("gated"))
        assert isinstance(coordinator.answer("ann"), Update)
        coordinator.receipt("ann", 1)
        until(loop, lambda: not coordinator.link.is_on_its_way(Inbox(ClientId("ann"))))
        assert ann.process.stderr is not None
        # Nothing came before it.
        assert " rounds: round 1: counted, " in ann.process.stderr.readline()
