"""What pip is told agrees with itself: ranges and pins, package data and files."""

import re
import tomllib
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TOOLS = ("fuzz", "supply")
"""Extras without which everything is tested."""


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _direct_requirements(of: Collection[str] = ()) -> list[Requirement]:
    """Of these extras; none: of all there are, and of fedmqtt itself."""
    project = _pyproject()["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    lines: list[str] = [
        *([] if of else project["dependencies"]),
        *(line for name in of or extras for line in extras[name]),
    ]
    return [requirement for line in lines if (requirement := Requirement(line)).name != "fedmqtt"]


@pytest.mark.parametrize("requirement", _direct_requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(_pins()[canonicalize_name(requirement.name)])


def test_what_requirements_require_is_pinned_too() -> None:
    pins = _pins()
    unpinned: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = _direct_requirements()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or not _applies(requirement):
            continue
        seen.add(key)
        # The CUDA build of torch brings its own family, at versions that torch itself pins.
        # pip comes with the environment.
        if key[0].startswith(("nvidia-", "cuda-")) or key[0] in ("triton", "pip"):
            continue
        if key[0] not in pins:
            unpinned.add(key[0])
            continue
        for line in _requires(key[0]):
            below = Requirement(line)
            if any(_applies(below, extra) for extra in ("", *requirement.extras)):
                below.marker = None
                todo.append(below)
    assert unpinned == set()


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        # `make fuzz` and the like install these when they are asked for.
        assert name in {canonicalize_name(one.name) for one in _direct_requirements(TOOLS)}
        return []


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def test_every_file_of_a_package_ships() -> None:
    # setuptools says nothing about a file that no pattern names; it is just not in the wheel.
    data: dict[str, list[str]] = _pyproject()["tool"]["setuptools"]["package-data"]
    left_out = [
        file
        for package, file in _files_that_are_no_modules()
        if not any(file.match(pattern) for pattern in [*data["*"], *data.get(package, [])])
    ]
    assert left_out == []


def _files_that_are_no_modules() -> Iterator[tuple[str, Path]]:
    """Each such file, relative to the package that it lies in, and the dotted name of that."""
    for init in ROOT.glob("*/__init__.py"):
        for file in init.parent.rglob("*"):
            if file.is_dir() or file.suffix == ".py" or "__pycache__" in file.parts:
                continue
            home = next(folder for folder in file.parents if (folder / "__init__.py").exists())
            yield ".".join(home.relative_to(ROOT).parts), file.relative_to(home)


def test_every_package_says_that_it_is_typed() -> None:
    # mypy ignores the types of an installed package that lacks this empty file.
    untyped = [
        init.parent.name
        for init in ROOT.glob("*/__init__.py")
        if not (init.parent / "py.typed").exists()
    ]
    assert untyped == []


def test_the_makefile_gets_the_version_of_torch_from_the_pins() -> None:
    # It takes the one line that begins with `torch==`; none or two would break `make demo`.
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert sum(bool(re.match(r"torch==\d", line)) for line in lines) == 1


def test_data_by_others_is_credited_where_the_licence_is() -> None:
    # CC BY asks for it, and only LICENSE and NOTICE travel with the wheel's metadata.
    assert "phonewatch_data" in (ROOT / "NOTICE").read_text()
    assert _pyproject()["project"]["license-files"] == ["LICENSE", "NOTICE"]
