"""`fedmqtt export`, as a person in a terminal meets it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker_config import kit
from broker_config.local_broker import RunningBroker
from broker_config.mosquitto import find_mosquitto
from fedmqtt import parts
from round_monitor import export
from tests.broker_config.kit_broker import plan, running_kit
from tests.fedmqtt.own_brokers import KINDS, free_port, own_broker
from tests.programs import running, wait_until
from tests.round_monitor import pages

TARGETS = [name.replace("_", "-") for name in parts.names(export)]

_WITHOUT = """
import sys
sys.modules[{package!r}] = None
from fedmqtt.__main__ import main
sys.exit(main({words!r}))
"""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return _python("-m", "fedmqtt", "export", *words)


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, encoding="utf-8", check=False
    )


def test_help_lists_every_target_with_a_sentence() -> None:
    ended = _run("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert TARGETS == ["home-assistant", "jsonl", "mlflow", "prometheus", "tensorboard"]
    for target in TARGETS:
        assert any(line.split()[:1] == [target] for line in ended.stdout.splitlines())
    assert "one object for each page that changes" in " ".join(ended.stdout.split())


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_explains_itself(target: str) -> None:
    ended = _run(target, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: fedmqtt export {target} ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("jsonl",), "give --federation NAME, as its coordinator calls it, or --credentials"),
        (("jsonl", "--federation", "a/b"), "federation name 'a/b' is not"),
        (("home-assistant", "--federation", "a/b"), "federation name 'a/b' is not"),
        (("jsonl", "--federation", "f", "--output", "/no/dir/x"), "; give --output a file in"),
        (("jsonl", "--federation", "f", "--broker", "http://pi"), "expected mqtt://host"),
        (("jsonl", "--federation", "f", "--broker", "mqtt://pi"), "is not encrypted"),
        (("mlflow", "--federation", "f"), "give --tracking-uri"),
        (("tensorboard", "--federation", "f", "--logdir", "/dev/null"), "/dev/null"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    words: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ended = _run(*words)
    assert ended.returncode in (1, 2) and ended.stdout == ""
    assert ended.stderr.startswith(f"fedmqtt export {words[0]}: ")
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = _run("prometheus", "--federation", "f", "--port", port)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"fedmqtt export prometheus: cannot listen at 127.0.0.1:{port}: it is in use;"
        " choose another --port\n",
    )


@pytest.mark.parametrize(
    ("target", "package", "more"),
    [
        ("prometheus", "prometheus_client", ()),
        ("tensorboard", "tensorboard", ("--logdir", "curves")),
        ("mlflow", "mlflow", ("--tracking-uri", "curves")),
    ],
)
def test_a_missing_package_comes_with_the_line_that_installs_it(
    target: str, package: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    words = [
        "export",
        target,
        "--federation",
        "f",
        *(w.replace("curves", str(tmp_path)) for w in more),
    ]
    ended = _python("-c", _WITHOUT.format(package=package, words=words))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"fedmqtt export {target} needs the package {package!r}: pip install 'fedmqtt[{target}]'\n"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_comes_later_and_goes_for_a_while_is_waited_for(
    kind: str, tmp_path: Path
) -> None:
    port, out = free_port(), tmp_path / "status.jsonl"
    words = ("--broker", f"mqtt://127.0.0.1:{port}", "--federation", "f", "--output", str(out))
    with running(tmp_path, "fedmqtt", "export", "jsonl", *words) as program:
        program.wait_for("no connection, trying again")
        for says in ("first", "second"):
            with own_broker(kind, tmp_path, port) as url:
                pages.publish(url, "f", {"coordinator": pages.coordinator(says)})
                wait_until(lambda says=says: says in out.read_text())  # type: ignore[misc]
    assert program.wait() == 0


@pytest.mark.broker
def test_a_page_that_cannot_be_read_is_told_once(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    out = tmp_path / "status.jsonl"
    words = (
        "--broker",
        mosquitto_broker.url,
        "--federation",
        federation_name,
        "--output",
        str(out),
    )
    pages.publish(
        mosquitto_broker.url, federation_name, {"coordinator": pages.coordinator("first")}
    )
    with running(tmp_path, "fedmqtt", "export", "jsonl", *words) as program:
        wait_until(lambda: out.exists() and "first" in out.read_text())
        for health in ("critical", "dire"):
            bad = {"coordinator": f'{{"health":"{health}"}}'.encode()}
            pages.publish_bytes(mosquitto_broker.url, federation_name, bad)
        pages.publish(
            mosquitto_broker.url, federation_name, {"coordinator": pages.coordinator("second")}
        )
        wait_until(lambda: "second" in out.read_text())
    assert program.wait() == 0
    assert program.log.count("cannot read page coordinator: ") == 1
    # It lay there already: that nothing did is not to be said, not even for a moment.
    assert "nothing published" not in program.log
    assert "exporting: connected\n" in program.log


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed here")
def test_a_monitors_or_operators_account_is_enough_and_one_that_was_revoked_is_told(
    tmp_path: Path,
) -> None:
    folder, out = tmp_path / "kit", tmp_path / "status.jsonl"
    account = folder / "accounts" / "monitor.toml"
    words = ("fedmqtt", "export", "jsonl", "--credentials", str(account), "--output", str(out))
    made = kit.create(folder, plan(folder))
    made.enroll("carol", "operator")
    with running_kit(made, folder) as broker:
        # Who may give orders may watch, too.
        of_operator = [word.replace("monitor.toml", "carol.toml") for word in words]
        with running(tmp_path, *of_operator) as program:
            program.wait_for("nothing published for a federation")
        with running(tmp_path, *words) as program:
            program.wait_for("nothing published for a federation")
        assert program.wait() == 0
        text = account.read_text().replace(broker.account("monitor").password, "wrong")
        account.write_text(text)
        with running(tmp_path, *words) as program:
            assert program.wait() == 3
    assert "does not let us in" in program.log.splitlines()[-1]
