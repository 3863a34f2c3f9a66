"""The systemd unit: what it says, that systemd reads it as it is meant, and whose file is kept."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_client import command as client_command
from edge_client import service_unit
from edge_client.service_unit import MARK, NAME, NotInstalled
from tests.edge_client.client_process import command
from tests.edge_client.jobs import LINEAR
from tests.patience import WITHIN_S


def parsed(*words: str) -> argparse.Namespace:
    """As `fedmqtt client` reads them."""
    parser = argparse.ArgumentParser()
    client_command.add_arguments(parser)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--json-logs", action="store_true")
    return parser.parse_args(words)


def sections(text: str) -> dict[str, dict[str, str]]:
    """A unit's settings by section. (To configparser a percent sign means something else.)"""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            assert key not in section, f"{key} stands there twice"
            section[key] = value
    return found


HERE = Path("/home/pi/fed")


def test_the_words_work_from_any_folder_and_mean_the_same() -> None:
    given = parsed(
        *("--credentials", "pi-3.toml", "--task", "my_task.py", "--data", ".", "--state", "/var/s"),
        *("--set", "conditions.charging=true", "--set", "label=pi", "--insecure"),
        "--install-service",
    )
    assert service_unit.words(given, HERE) == [
        *("--credentials", "/home/pi/fed/pi-3.toml", "--data", "/home/pi/fed"),
        *("--state", "/var/s", "--task", "/home/pi/fed/my_task.py"),
        *("--set", "conditions.charging=true", "--set", "label=pi", "--insecure"),
        *("--progress", "rounds"),
    ]
    again = parsed(*service_unit.words(given, HERE))
    assert (again.insecure, again.set, again.install_service) == (True, given.set, False)


def test_no_word_of_the_command_line_is_lost_on_the_way_into_the_unit() -> None:
    ends_here = {"install_service", "force", "print_config"}
    given = parsed(
        *("/etc/pi.toml", "--credentials", "/c.toml", "--broker", "mqtts://broker.local"),
        *(
            "--federation",
            "demo",
            "--id",
            "pi-3",
            "--task",
            LINEAR,
            "--data",
            "/d",
            "--state",
            "/s",
        ),
        *("--at-least", "keyholders", "--accept-model", "abc", "--set", "label=pi", "--insecure"),
        *("--progress", "changes", "--verbose", "--json-logs"),
    )
    unasked = vars(parsed())
    left_out = {name for name, value in vars(given).items() if value == unasked[name]}
    assert left_out == ends_here, "give a new option above, too"
    again = vars(parsed(*service_unit.words(given, HERE)))
    assert {**again, "config": Path(again["config"])} == vars(given)


def test_a_module_is_no_path_and_a_settings_file_is() -> None:
    given = parsed("client.toml", "--task", LINEAR, "--id", "pi-3", "--progress", "changes")
    assert service_unit.words(given, HERE) == [
        *("/home/pi/fed/client.toml", "--id", "pi-3", "--task", LINEAR),
        *("--progress", "changes"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--broker", "mqtt://pi:secret@broker.local"),
        ("--set", "broker=mqtts://pi:secret@broker.local"),
        ("--set", 'broker = "mqtts://pi:secret@broker.local"'),
    ],
)
def test_no_password_gets_into_a_unit(words: tuple[str, ...]) -> None:
    with pytest.raises(NotInstalled, match="keep the broker's password in a settings file"):
        service_unit.words(parsed(*words), HERE)


def test_the_unit_of_a_machine_and_of_a_user() -> None:
    machine = sections(service_unit.unit(["/bin/x"], HERE, is_root=True, user="pi"))
    assert machine["Service"]["User"] == "pi"
    assert machine["Service"]["WorkingDirectory"] == "/home/pi/fed"
    assert machine["Service"]["Restart"] == "on-failure"
    assert machine["Service"]["RestartPreventExitStatus"] == "2 3"
    assert machine["Install"]["WantedBy"] == "multi-user.target"
    user = sections(service_unit.unit(["/bin/x"], HERE, is_root=False))
    assert "User" not in user["Service"]
    assert user["Install"]["WantedBy"] == "default.target"


ODD = ["a b", "100%", "$HOME", "back\\slash", 'quote"', "it's", "", "semi;colon", "ä"]


def test_words_with_signs_of_systemd_s_own_come_out_as_they_went_in() -> None:
    line = " ".join(map(service_unit.quoted, ["/bin/x", *ODD]))
    unescaped = line.replace("%%", "%").replace("$$", "$")
    assert shlex.split(unescaped) == ["/bin/x", *ODD]


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    path = tmp_path / NAME
    path.write_text(service_unit.unit([sys.executable, *ODD], tmp_path, is_root=True))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WITHIN_S,
    )
    assert NAME not in found.stderr, found.stderr


def _install(home: Path, *more: str) -> str:
    words = ("--broker", "mqtt://localhost", "--federation", "home", "--id", "pi-3", *more)
    return service_unit.install(
        parsed(*words, "--task", LINEAR, "--install-service"), is_root=False, home=home
    )


def test_a_user_s_unit_is_written_and_another_s_is_kept(tmp_path: Path) -> None:
    path = tmp_path / ".config" / "systemd" / "user" / NAME
    told = _install(tmp_path)
    assert f"Written: {path}." in told
    assert f"systemctl --user enable --now {NAME}" in told
    start = shlex.split(sections(path.read_text())["Service"]["ExecStart"])
    assert start[:4] == [sys.executable, "-m", "fedmqtt", "client"]
    assert start[-2:] == ["--progress", "rounds"]
    _install(tmp_path, "--set", "label=pi")
    assert "label=pi" in path.read_text(), "our own is replaced"
    path.write_text("[Unit]\n")
    with pytest.raises(NotInstalled, match="was written by somebody else: --force replaces it"):
        _install(tmp_path)
    assert path.read_text() == "[Unit]\n"
    _install(tmp_path, "--force")
    assert path.read_text().startswith(MARK)


def test_where_it_cannot_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("a file")
    with pytest.raises(NotInstalled, match=r"\.config.*: Not a directory"):
        _install(tmp_path)


def test_force_alone_starts_no_client() -> None:
    words = command("--broker", "mqtt://localhost:1", "--federation", "demo", "--id", "pi-3")
    found = subprocess.run(
        [*words, "--task", LINEAR, "--force"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WITHIN_S,
    )
    assert found.returncode == 2
    assert "--force is said together with --install-service" in found.stderr


def test_settings_that_are_wrong_are_not_installed(tmp_path: Path) -> None:
    words = command("--task", LINEAR, "--install-service")
    found = subprocess.run(
        words,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WITHIN_S,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert found.returncode == 2
    assert "broker" in found.stderr
    assert not list(tmp_path.iterdir())
