"""docs/adding-a-strategy.md works as it is written."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coordinator import aggregation, checks
from coordinator.command import with_strategy_settings
from coordinator.config import FederationConfig
from fedmqtt import settings
from fedmqtt.parts_listing import listing
from tests.coordinator.aggregation.folding import answers, play, strategy_named

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "adding-a-strategy.md").read_text()
NAME = "signum"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One that Python takes for a part of coordinator/aggregation/."""
    assert f"`coordinator/aggregation/{NAME}.py`" in PAGE
    (tmp_path / f"{NAME}.py").write_text(block("python"))
    monkeypatch.setattr(aggregation, "__path__", [*aggregation.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop(f"{aggregation.__name__}.{NAME}", None)


@pytest.mark.usefixtures("folder")
def test_its_settings_are_read_and_it_is_listed(tmp_path: Path) -> None:
    config = tmp_path / "federation.toml"
    config.write_text('name = "a"\ntask = "learning_tasks.linear"\n' + block("toml"))
    found = settings.read(config, [], FederationConfig)
    checks.check(found)
    assert with_strategy_settings(found).aggregation_settings == {"rate": 0.002, "momentum": 0.9}
    assert "\nsignum: Signum at the server: each parameter moves" in listing(aggregation, "")


@pytest.mark.usefixtures("folder")
def test_its_numbers_by_hand() -> None:
    memory: dict[str, np.ndarray] = {}
    signum, base = strategy_named(NAME), np.zeros(3, np.float32)
    # m = (0.5, -0.5, 0), then (0.25, -0.25, 0) + (-0.5, 0, 1).
    for change, moved in [([1, -1, 0], [1, -1, 0]), ([-1, 0, 2], [-1, -1, 1])]:
        found = play(signum, base, answers([change]), memory, rate=1.0, momentum=0.5)
        assert found.tolist() == moved


def test_it_passes_the_conformance_suite_by_being_there(folder: Path) -> None:
    plugin = f"from coordinator import aggregation\naggregation.__path__.append({str(folder)!r})\n"
    (folder / "page_strategy.py").write_text(plugin)
    python, *words = block("sh").split()
    assert python == "python"
    ended = subprocess.run(
        [sys.executable, *words, "-p", "page_strategy", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counted = re.search(r"(\d+) passed", ended.stdout)
    assert counted is not None and int(counted[1]) >= 20


def test_the_page_itself_is_clean_code(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.py"
    path.write_text(block("python"))
    for words in (["check"], ["format", "--check"]):
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml"), path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
