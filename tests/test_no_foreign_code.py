"""Nothing that a peer sends is unpickled, evaluated or imported: ruff refuses what would do it.

The rules are in pyproject.toml and fail `make check`. Here: that they do catch each way, and in
which files one of them is allowed, with whose word it is that is loaded there.
"""

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = "TID251,S102,S301,S302,S307,S506"

ALLOWED = {
    "fedmqtt/command_line.py": "one of our own commands, by a table",
    "fedmqtt/parts.py": "a file that is in a folder of ours",
    "learning_tasks/loading.py": "the device's owner's, on its own command line",
    # An npz of plain arrays, which numpy never unpickles when told not to.
    "fleet_sim/tables.py": "the operator's file",
    "learning_tasks/har.py": "the owner's file",
    "learning_tasks/phonewatch_devices.py": "the owner's file, or the one that ships",
    "learning_tasks/split_data.py": "the operator's file",
    "benchmarks/simulation_speed.py": "a file that it has just made",
    "tests/fleet_sim/test_links.py": "a file that it has just made",
    "tests/learning_tasks/test_phonewatch.py": "a file that it has just made",
    # Tests that run our own code in another way.
    "tests/coordinator/aggregation/byzfl_reference.py": "its own",
    "tests/coordinator/next_wire.py": "its own",
    "tests/faults/shifted_clock.py": "its own",
    "tests/mutants/judge.py": "its own",
}

PLANTED = {
    "pickle": "import pickle\n",
    "a pickle of a function's": "def read(data):\n    from pickle import loads\n    loads(data)\n",
    "its C half": "import _pickle\n",
    "cloudpickle": "import cloudpickle\n",
    "joblib": "import joblib\n",
    "marshal": "from marshal import loads\n",
    "shelve": "import shelve\n",
    "eval": "def read(text):\n    return eval(text)\n",
    "eval by another name": "import builtins\nread = builtins.eval\n",
    "exec": "def read(text):\n    exec(text)\n",
    "__import__": "import builtins\nfind = builtins.__import__\n",
    "import_module": "import importlib\nimportlib.import_module('task')\n",
    "import_module by another name": "from importlib import import_module as find\nfind('task')\n",
    "a module from a file": "from importlib.util import spec_from_file_location\n",
    "runpy": "import runpy\nrunpy.run_path('task.py')\n",
    "torch.load": "import torch\nmodel = torch.load('model.pt')\n",
    "torch.hub": "import torch\nmodel = torch.hub.load('a/b', 'c')\n",
    "torch.jit.load": "import torch\nmodel = torch.jit.load('model.pt')\n",
    "numpy.load": "import numpy as np\nnp.load('a.npy', allow_pickle=True)\n",
    "numpy.load by another name": "from numpy import load\n",
    "yaml.load": "import yaml\nyaml.load('a: 1', yaml.Loader)\n",
}


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int
    message: str


def _findings(*words: str, given: str = "") -> list[Finding]:
    told = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "json", *words],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return [
        Finding(
            Path(one["filename"]).relative_to(ROOT).as_posix(),
            one["location"]["row"],
            one["message"],
        )
        for one in json.loads(told.stdout)
    ]


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED.keys())
@pytest.mark.parametrize("where", ["coordinator/planted.py", "tests/coordinator/planted.py"])
def test_what_would_run_foreign_code_fails_the_check(text: str, where: str) -> None:
    # With the project's own settings: no rule is named here but those that tell of it.
    found = _findings("--stdin-filename", where, "-", given=text)
    assert any("banned" in one.message or "Use of" in one.message for one in found) or any(
        "insecure" in one.message or "unsafe" in one.message for one in found
    )


def test_plain_code_does_not_fail_it() -> None:
    assert _findings("--stdin-filename", "coordinator/plain.py", "-", given="ANSWER = 42\n") == []


@pytest.fixture(scope="module")
def excused() -> list[Finding]:
    """Where a rule is set aside, by a comment of whatever form."""
    found = _findings("--ignore-noqa", "--select", RULES, ".")
    # The wall clock has nothing to do with this.
    return [one for one in found if "`time.time`" not in one.message]


def test_it_is_allowed_where_it_is_listed_and_nowhere_else(excused: list[Finding]) -> None:
    assert {one.path for one in excused} == set(ALLOWED)


def test_no_archive_of_arrays_is_unpickled(excused: list[Finding]) -> None:
    loads = [one for one in excused if "`numpy.load`" in one.message]
    lines = [(ROOT / one.path).read_text().splitlines()[one.line - 1] for one in loads]
    assert lines and all("allow_pickle=False" in line for line in lines)


def test_nobody_calls_the_import_that_ruff_does_not_see() -> None:
    # By its bare name it is no import and no attribute, so none of the rules tells of it.
    assert _calls_it("module = __import__('task')")
    called = [path for path in ROOT.glob("[a-z]*/**/*.py") if _calls_it(path.read_text())]
    assert called == []


def _calls_it(text: str) -> bool:
    nodes = ast.walk(ast.parse(text))
    return any(isinstance(node, ast.Name) and node.id == "__import__" for node in nodes)
