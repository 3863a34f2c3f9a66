"""The import contracts in pyproject.toml leave nothing out, and what they say holds when it runs.

import-linter reads import statements. What it cannot see: a package that no contract names, and a
module that is found by its file name at run time. Those are looked at here.
"""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
# Run in a process of their own, the one place on the device that loads numpy and torch.
TRAINER_MODULES = {
    "edge_client.control_variates",
    "edge_client.describing",
    "edge_client.local_methods",
    "edge_client.local_training",
    "edge_client.masked_answer",
    "edge_client.personal_layers",
    "edge_client.rebuild",
    "edge_client.remembered",
    "edge_client.trainer",
}


def _settings() -> dict[str, Any]:
    tool: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    return tool


def _contract(identifier: str) -> dict[str, Any]:
    contracts: list[dict[str, Any]] = _settings()["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["id"] == identifier)


def _packages() -> set[str]:
    return {init.parent.name for init in ROOT.glob("*/__init__.py")}


def _modules(package: str) -> set[str]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_package_has_a_layer() -> None:
    layers: list[str] = _contract("layers")["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    assert named == _packages()


def test_every_package_is_read_by_the_contracts() -> None:
    assert set(_settings()["importlinter"]["root_packages"]) == _packages()


def test_every_package_is_kept_from_paho() -> None:
    assert set(_contract("paho")["source_modules"]) == _packages()


def test_every_package_ships() -> None:
    included: list[str] = _settings()["setuptools"]["packages"]["find"]["include"]
    assert {name for name in included if not name.endswith(".*")} == _packages()
    assert {name.removesuffix(".*") for name in included if name.endswith(".*")} == _packages()


def test_every_module_of_the_device_but_the_trainer_is_kept_from_torch() -> None:
    assert set(_contract("agent")["source_modules"]) == _modules("edge_client") - TRAINER_MODULES


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("fedmqtt.__main__", {"torch", "numpy", "paho", "rich"}),
        ("edge_client.agent", {"torch", "numpy", "rich", "cryptography", "nacl"}),
        ("coordinator.service", {"torch", "rich"}),
        ("round_monitor.command", {"textual", "rich"}),
        ("round_monitor.standing", {"textual", "rich", "paho"}),
        ("round_monitor.live", {"textual", "rich"}),
        ("coordinator.rounds", {"torch", "numpy", "paho"}),
        ("edge_client.session", {"torch", "numpy", "paho"}),
    ],
)
def test_a_program_starts_without_what_it_does_not_need(module: str, absent: set[str]) -> None:
    # A fresh interpreter: in this one, other tests have long imported everything.
    code = (
        f"import sys, {module}; print(*(name for name in {sorted(absent)} if name in sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_test_folders_mirror_packages() -> None:
    folders = {path.parent.name for path in ROOT.glob("tests/*/test_*.py")}
    assert folders <= _packages() | {
        *("benchmarks", "examples", "experiments", "faults", "fuzz", "mutants"),
        *("requirements", "tutorials"),
    }


def test_test_folders_are_not_packages() -> None:
    # tests/coordinator/__init__.py would let that folder pass for the package `coordinator`.
    assert list((ROOT / "tests").rglob("__init__.py")) == []
