"""`fedmqtt watch`, as a person in a terminal meets it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec import to_builtins

from broker_config.local_broker import RunningBroker
from fedmqtt import status_pages
from fedmqtt.status_pages import ClientsPage
from tests.patience import WITHIN_S
from tests.programs import running
from tests.round_monitor.pages import (
    PAUSE_TOLD,
    PAUSED,
    a_client,
    mid_round,
    names,
    open_round,
    ordered,
    publish,
    publish_bytes,
    reasons,
)
from tests.terminals import (
    COLUMNS,
    FROM_OTHER_SCREEN,
    HIDE_CURSOR,
    SHOW_CURSOR,
    TERMINAL,
    TO_OTHER_SCREEN,
    a_terminal,
    on_terminal,
    read_until,
    resize,
    started,
)


def _watch(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedmqtt", "watch", *arguments]


def _run(*arguments: str, code: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        code or _watch(*arguments),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WITHIN_S,
        env={**os.environ, "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1"},
    )


@pytest.mark.broker
def test_once_prints_how_things_stand(broker: RunningBroker, federation_name: str) -> None:
    publish(broker.url, federation_name, {**mid_round(), "orders": ordered(PAUSED)})
    ended = _run("--broker", broker.url, "--federation", federation_name, "--once")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "round 3: 2 of 4 answers from 5 invited" in ended.stdout
    assert "✗ cat rejected: update norm 41.2 above the limit 10" in ended.stdout
    assert f"» {PAUSE_TOLD}" in ended.stdout
    assert "\x1b" not in ended.stdout


@pytest.mark.broker
def test_once_cuts_nothing_in_a_pipe_and_fits_a_terminal(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url, why = mosquitto_broker.url, "its change is far too large " * 5 + "to count"
    page = open_round(3, rejected=reasons(cat=why))
    publish(url, federation_name, {**mid_round(), "round": page})
    words = ("--broker", url, "--federation", federation_name, "--once")
    assert f"✗ cat rejected: {why}\n" in _run(*words).stdout
    ours, theirs = a_terminal()
    with started(_watch(*words), stdin=theirs, stdout=theirs, env=TERMINAL) as process:
        said = read_until(ours, lambda text: "cat rejected" in text and "…" in text)
        assert process.wait(WITHIN_S) == 0
    os.close(theirs)
    os.close(ours)
    assert why not in said


@pytest.mark.broker
def test_once_says_when_there_is_nothing_to_see(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    ended = _run("--broker", mosquitto_broker.url, "--federation", federation_name, "--once")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"connected; nothing published for a federation {federation_name!r} so far;"
        " waiting a few seconds\n"
        f"Nothing is published for federation {federation_name!r} at {mosquitto_broker.url}:"
        " it has another name, or its coordinator has never run.\n"
    )


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_once_says_when_nothing_of_what_is_there_can_be_read(
    mosquitto_broker: RunningBroker, federation_name: str, more: tuple[str, ...]
) -> None:
    url = mosquitto_broker.url
    bad = {"round": b"[]", "coordinator": b'{"health":"critical"}', "client/ann": b"{"}
    publish_bytes(url, federation_name, bad)
    ended = _run("--broker", url, "--federation", federation_name, "--once", *more)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"3 pages of federation {federation_name!r} at {url} cannot be read, and no other is"
        " there; is this fedmqtt older than the coordinator's? page coordinator: Invalid enum"
        " value 'critical' - at `$.health`\n"
    )


def test_once_says_when_no_broker_answers() -> None:
    # Port 1 is nobody's, and not one that is given out.
    ended = _run("--broker", "mqtt://127.0.0.1:1", "--federation", "ward-7", "--once")
    assert (ended.returncode, ended.stdout) == (1, "")
    waiting, given_up = ended.stderr.splitlines()
    assert waiting.startswith("no connection, trying again: cannot reach mqtt://127.0.0.1:1: ")
    assert waiting.endswith("; waiting a few seconds")
    assert re.fullmatch(r"No connection: cannot reach mqtt://127\.0\.0\.1:1: .*", given_up)


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog is like silence there")
def test_once_says_what_it_waits_for_also_while_nothing_answers_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as held:
        address = deaf.getsockname()
        # Nobody accepts: with these, one more connection is neither made nor refused.
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        ended = _run(
            *("--broker", f"mqtt://127.0.0.1:{address[1]}"), *("--federation", "ward-7", "--once")
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    first, last = ended.stderr.splitlines()
    assert first == f"connecting to mqtt://127.0.0.1:{address[1]} ...; waiting a few seconds"
    assert last.startswith("No connection: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--broker", "http://pi", "--federation", "ward-7"), "expected mqtt://host"),
        (("--federation", "ward/7"), "federation name 'ward/7' is not"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    arguments: tuple[str, ...], sentence: str
) -> None:
    ended = _run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def _without(package: str, *words: str) -> list[str]:
    code = f"""
import sys
sys.modules[{package!r}] = None
from fedmqtt.__main__ import main
sys.exit(main(["watch", "--federation", "ward-7", *{words!r}]))
"""
    return [sys.executable, "-c", code]


def test_without_rich_one_sentence_names_the_extra() -> None:
    ended = _run(code=_without("rich", "--once"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "pip install 'fedmqtt[monitor]', or use --once --json" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_without_textual_one_sentence_names_the_extra() -> None:
    with on_terminal(_without("textual")) as (process, terminal):
        said = read_until(terminal, lambda text: "\n" in text)
        assert process.wait(WITHIN_S) == 2
    assert "The screen needs textual: pip install 'fedmqtt[monitor]', or use --plain." in said


@pytest.mark.broker
def test_json_is_one_object_with_every_page_and_needs_no_extra(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url = mosquitto_broker.url
    own = {"client/ann": status_pages.encode(a_client("ann"))}
    pages = {
        name: status_pages.encode(page)
        for name, page in {**mid_round(), "orders": ordered(PAUSED)}.items()
    }
    publish_bytes(url, federation_name, {**pages, **own})
    words = ("--broker", url, "--federation", federation_name, "--once", "--json")
    ended = _run(code=_without("rich", *words))
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert told["health"]["state"] == "trouble"
    assert "should have closed" in told["health"]["says"]
    assert told["round"]["answered"] == ["ann", "bob"]
    assert told["orders"]["orders"] == [to_builtins(PAUSED)]
    assert told["client"]["ann"]["rounds_answered"] == 3
    assert (told["federation"], told["broker"]) == (federation_name, url)


def test_json_alone_is_a_mistake() -> None:
    ended = _run("--federation", "ward-7", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "fedmqtt watch: --json is said together with --once\n"


@pytest.mark.broker
@pytest.mark.parametrize("how", [["--once"], ["--once", "--json"], ["--plain"]], ids=" ".join)
def test_a_disk_without_room_ends_it_with_a_sentence(
    mosquitto_broker: RunningBroker, federation_name: str, how: list[str]
) -> None:
    publish(mosquitto_broker.url, federation_name, mid_round())
    where = ["--broker", mosquitto_broker.url, "--federation", federation_name]
    with (
        Path("/dev/full").open("wb") as full,
        started(_watch(*where, *how), stdout=full, stderr=subprocess.PIPE) as process,
    ):
        _, errors = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == b"fedmqtt watch: stdout: No space left on device"
    assert b"Traceback" not in errors


@pytest.mark.broker
def test_in_a_pipe_each_event_is_a_line_and_ctrl_c_ends_it_well(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    publish(mosquitto_broker.url, federation_name, mid_round())
    command = _watch("--broker", mosquitto_broker.url, "--federation", federation_name)
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = read_until(process.stdout.fileno(), lambda text: "cat rejected" in text)
        process.send_signal(signal.SIGINT)
        _rest, errors = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, errors) == (0, b"")
    assert "\x1b" not in said


@pytest.mark.broker
def test_in_a_terminal_it_follows_and_leaves_no_trace(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url = mosquitto_broker.url
    publish(url, federation_name, mid_round())
    command = _watch("--broker", url, "--federation", federation_name)
    with on_terminal(command) as (process, terminal):
        said = read_until(terminal, lambda text: "Trouble" in text)
        os.write(terminal, b"4")
        said += read_until(terminal, lambda text: "cat rejected" in text)
        publish(url, federation_name, {"round": open_round(4), "clients": _clients(50)})
        said += read_until(terminal, lambda text: "round 4 opened" in text)
        process.send_signal(signal.SIGINT)
        said += read_until(terminal, lambda text: FROM_OTHER_SCREEN in text and SHOW_CURSOR in text)
        assert process.wait(WITHIN_S) == 0
    assert said.index(TO_OTHER_SCREEN) < said.index("round 4 opened")
    assert said.rindex(HIDE_CURSOR) < said.rindex(SHOW_CURSOR)
    assert "Traceback" not in said


@pytest.mark.broker
def test_keys_and_another_size_reach_it(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url = mosquitto_broker.url
    publish(url, federation_name, mid_round())
    command = _watch("--broker", url, "--federation", federation_name)
    with on_terminal(command) as (process, terminal):
        read_until(terminal, lambda text: "Trouble" in text)
        os.write(terminal, b"2")
        read_until(terminal, lambda text: "who needs a look first" in text)
        os.write(terminal, b"/hal\r")
        read_until(terminal, lambda text: "1 of 8" in text)
        os.write(terminal, b"\r")
        read_until(terminal, lambda text: "Why not" in text and "not charging" in text)
        os.write(terminal, b"\x7f")
        read_until(terminal, lambda text: "1 of 8" in text)
        resize(terminal, 150, 45)
        # All panels stand beside each other now.
        read_until(terminal, lambda text: "3 Curves" in text and "cat rejected" in text)
        os.write(terminal, b"q")
        read_until(terminal, lambda text: FROM_OTHER_SCREEN in text)
        assert process.wait(WITHIN_S) == 0


@pytest.mark.broker
def test_a_new_size_that_no_signal_tells_of_is_seen(
    mosquitto_broker: RunningBroker, federation_name: str
) -> None:
    url = mosquitto_broker.url
    publish(url, federation_name, mid_round())
    command = _watch("--broker", url, "--federation", federation_name)
    deaf = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH]);"
    deaf += "os.execv(sys.argv[1], sys.argv[1:])"
    with on_terminal([sys.executable, "-c", deaf, *command]) as (process, terminal):
        read_until(terminal, lambda text: "Trouble" in text)
        resize(terminal, 150, 45)
        read_until(terminal, lambda text: "3 Curves" in text and "cat rejected" in text)
        os.write(terminal, b"q")
        read_until(terminal, lambda text: FROM_OTHER_SCREEN in text)
        assert process.wait(WITHIN_S) == 0


@pytest.mark.broker
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "vt100"}])
def test_where_there_is_no_colour_none_is_sent(
    mosquitto_broker: RunningBroker, federation_name: str, environment: dict[str, str]
) -> None:
    url = mosquitto_broker.url
    publish(url, federation_name, mid_round())
    command = _watch("--broker", url, "--federation", federation_name)
    with on_terminal(command, environment) as (process, terminal):
        said = read_until(terminal, lambda text: "Trouble" in text)
        os.write(terminal, b"2")
        said += read_until(terminal, lambda text: "who needs a look first" in text)
        os.write(terminal, b"q")
        said += read_until(terminal, lambda text: FROM_OTHER_SCREEN in text)
        assert process.wait(WITHIN_S) == 0
    sent = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", said) for code in codes.split(";")}
    # Bold, dim, reversed and the terminal's own two colours; 30 to 38 and 40 to 48 are others.
    assert {"1", "7"} <= sent <= {"", "0", "1", "2", "4", "7", "39", "49"}


@pytest.mark.broker
def test_a_dumb_terminal_gets_lines(mosquitto_broker: RunningBroker, federation_name: str) -> None:
    url = mosquitto_broker.url
    publish(url, federation_name, mid_round())
    command = _watch("--broker", url, "--federation", federation_name)
    with on_terminal(command, {"TERM": "dumb"}) as (process, terminal):
        said = read_until(terminal, lambda text: "cat rejected" in text)
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 0
    assert "\x1b" not in said


@pytest.mark.broker
def test_beside_a_real_coordinator_its_end_is_trouble(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    config = tmp_path / "federation.toml"
    config.write_text(
        f'name = "{federation_name}"\ntask = "learning_tasks.linear"\n[rounds]\nclients_min = 2\n'
    )
    url = mosquitto_broker.url
    words = ("fedmqtt", "coordinator", str(config), "--broker", url)
    command = _watch("--broker", url, "--federation", federation_name)
    with (
        running(tmp_path, *words, "--run", str(tmp_path / "run")) as coordinator,
        on_terminal(command) as (process, terminal),
    ):
        read_until(terminal, lambda text: "Waiting" in text and "waiting for" in text)
        coordinator.process.terminate()
        read_until(terminal, lambda text: "Trouble" in text and "has stopped" in text)
        os.write(terminal, b"\x03")
        read_until(terminal, lambda text: FROM_OTHER_SCREEN in text)
        assert process.wait(WITHIN_S) == 0


def _clients(count: int) -> ClientsPage:
    return ClientsPage(online=names(*(f"phone-{i:02}" for i in range(count))), away=[], hindered={})
