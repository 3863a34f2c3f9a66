"""`make lock`: what container images install, each package with one version and all its hashes.

    pyproject.toml   what is needed ─┐
                                     ├─▶ pip-compile ─▶ requirements/<image>.txt
    constraints.txt  which versions ─┘

    coordinator.txt    the extra `coordinator`
    client.txt         the extra `train`, less torch: a device that trains with numpy
    monitor.txt        the extra `monitor`
    dashboard.txt      the extra `dashboard`
    kit.txt            the extra `security`: where accounts are made
    build.txt          what builds fedmqtt's own wheel
    torch-needs.txt    what torch needs, less CUDA. Torch itself has no hash here: a CPU build
                       has other bytes than the one that pip finds by itself. It is installed
                       by its version, alone: pip install --no-deps torch==...

The hashes are those of all files of a version, so one list serves every kind of machine. fedmqtt is
not in it: `pip install --no-deps .` adds it.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parent / "constraints.txt"

EXTRAS = {
    "coordinator.txt": "coordinator",
    "client.txt": "train",
    "monitor.txt": "monitor",
    "dashboard.txt": "dashboard",
    "kit.txt": "security",
}
TORCH_NEEDS = "torch-needs.txt"
BUILD = "build.txt"

_HEADER = """\
# Made by `make lock` from pyproject.toml and constraints.txt: do not edit.
#   pip install --require-hashes --no-deps -r requirements/{name}
"""
_OF_CUDA = re.compile(r"(nvidia|cuda)-|triton$")


def pins(text: str) -> dict[str, str]:
    """Versions by name, from `name==version` at the beginning of lines."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def wanted(project: dict[str, Any], extra: str) -> list[str]:
    """What fedmqtt asks for with an extra, without torch. `project`: of pyproject.toml."""
    lines = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return sorted(line for line in lines if Requirement(line).name != "torch")


def _compiled(lines: list[str], *words: str) -> str:
    """Raises CalledProcessError."""
    # No option of its own: where packages come from is this machine's affair, and not to be told.
    quiet = ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-header"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "asked.in"
        source.write_text("\n".join(lines) + "\n")
        told = subprocess.run(
            [
                *(sys.executable, "-m", "piptools", "compile", "--quiet", *quiet, *words),
                *("--no-annotate", "--no-emit-options", "--strip-extras", "--allow-unsafe"),
                *("--constraint", str(CONSTRAINTS), "--output-file", "-", str(source)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    # pip-tools tells which packages it holds to be unsafe in lists only in some environments.
    return re.sub(r"^(#.*)?\n", "", told.stdout, flags=re.MULTILINE)


def _torch_needs() -> list[str]:
    torch = f"torch=={pins(CONSTRAINTS.read_text())['torch']}"
    return [
        f"{name}=={version}"
        for name, version in pins(_compiled([torch])).items()
        if name != "torch" and not _OF_CUDA.match(name)
    ]


def main() -> None:
    told = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    asked = {name: wanted(told["project"], extra) for name, extra in EXTRAS.items()}
    asked[BUILD] = told["build-system"]["requires"]
    for name, lines in (asked | {TORCH_NEEDS: _torch_needs()}).items():
        text = _compiled(lines, "--generate-hashes")
        (HERE / name).write_text(_HEADER.format(name=name) + text)
        sys.stdout.write(f"requirements/{name}: {len(pins(text))} packages\n")


if __name__ == "__main__":
    main()
