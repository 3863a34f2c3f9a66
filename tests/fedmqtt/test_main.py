"""The `fedmqtt` command, as a person in a terminal meets it."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coordinator import selection
from fedmqtt import __version__, parts
from fedmqtt.command_line import COMMANDS, EXTRAS

# Runs `fedmqtt` where some packages are not installed.
_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from fedmqtt.__main__ import main
sys.exit(main({words!r}))
"""

_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
_IN_EXTRAS = {
    canonicalize_name(Requirement(line).name)
    for lines in _PROJECT["optional-dependencies"].values()
    for line in lines
} - {"fedmqtt"}
_OF_EXTRAS = {
    package
    for package, names in metadata.packages_distributions().items()
    if _IN_EXTRAS & {canonicalize_name(name) for name in names}
}
"""The packages that extras bring, by the names they are imported by."""

# Runs `fedmqtt`, and Ctrl-C comes when it is about to import a module.
_INTERRUPTED = """
import os, runpy, signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

assert {module!r} not in sys.modules
sys.meta_path.insert(0, CtrlC())
sys.argv[1:] = ["coordinator", "--help"]
runpy.run_module("fedmqtt", run_name="__main__")
"""


def _fedmqtt(*words: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-m", "fedmqtt", *words])


def _without(absent: set[str], *words: str) -> subprocess.CompletedProcess[str]:
    return _run([sys.executable, "-c", _WITHOUT.format(absent=absent, words=list(words))])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def test_help_lists_the_commands_and_succeeds() -> None:
    run = _fedmqtt("--help")
    assert (run.returncode, run.stderr) == (0, "")
    for name, (_, summary) in COMMANDS.items():
        assert any(line.split() == [name, *summary.split()] for line in run.stdout.splitlines())


def test_no_command_is_answered_with_the_help_and_fails() -> None:
    run = _fedmqtt()
    assert (run.returncode, run.stdout) == (2, _fedmqtt("--help").stdout)


def test_it_says_its_version() -> None:
    run = _fedmqtt("--version")
    assert (run.returncode, run.stdout) == (0, f"fedmqtt {__version__}\n")


@pytest.mark.parametrize("words", [["clients"], ["clients", "--help"], ["help"], [""]])
def test_an_unknown_command_is_answered_with_those_there_are(words: list[str]) -> None:
    run = _fedmqtt(*words)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == (
        f"fedmqtt: error: no command {words[0]!r}; choose one of: {', '.join(COMMANDS)}"
    )


def test_selections_are_listed_with_a_line_and_settings_each() -> None:
    run = _fedmqtt("selections")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert "round_robin: Who was invited least recently is invited first;" in run.stdout
    assert "    explore = 0.2" in lines and "    # One of: even, proportional." in lines
    named = [line.partition(":")[0] for line in lines[1:] if line[:1].strip()]
    assert named == parts.names(selection)


def test_an_unknown_flag_is_named() -> None:
    run = _fedmqtt("--verbos")
    assert run.returncode == 2
    assert "unrecognized arguments: --verbos" in run.stderr


@pytest.mark.parametrize("command", ["client", "coordinator", "watch"])
def test_each_command_explains_itself(command: str) -> None:
    run = _fedmqtt(command, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"usage: fedmqtt {command} ")
    assert "--json-logs" in run.stdout


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("coordinator", "numpy", "coordinator"),
        ("client", "paho", "train"),
        ("simulate", "rich", "demo"),
    ],
)
def test_a_missing_package_comes_with_the_line_that_installs_it(
    command: str, package: str, extra: str
) -> None:
    run = _without({package}, command, "--help")
    assert run.returncode == 2
    assert run.stderr == (
        f"fedmqtt {command} needs the package {package!r}, which is not installed.\n"
        f"Install it with: pip install 'fedmqtt[{extra}]'\n"
    )


@pytest.mark.parametrize("command", ["health", "doctor"])
def test_what_needs_no_extra_is_not_sent_for_one(command: str) -> None:
    run = _without({"paho"}, command, "--help")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == "Install it with: pip install fedmqtt"


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - EXTRAS.keys()))
def test_a_command_without_an_extra_needs_none(command: str) -> None:
    run = _without(_OF_EXTRAS, command, "--help")
    assert (run.returncode, run.stderr) == (0, "")


def test_help_and_version_need_no_package_at_all() -> None:
    everything = {"numpy", "torch", "paho", "msgspec", "msgpack", "rich", "amqtt", "safetensors"}
    for words in (["--help"], ["--version"]):
        assert _without(everything, *words).returncode == 0


def test_a_mistake_of_ours_is_not_taken_for_a_missing_package() -> None:
    run = _without({"edge_client"}, "client")
    assert run.returncode == 1
    assert "ModuleNotFoundError: No module named 'edge_client'" in run.stderr


@pytest.mark.parametrize("module", ["argparse", "logging", "coordinator.command", "numpy"])
def test_ctrl_c_while_it_starts_is_no_mistake_of_ours(module: str) -> None:
    run = _run([sys.executable, "-c", _INTERRUPTED.format(module=module)])
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")
