"""What images install is what pyproject.toml asks for, at the versions of constraints.txt."""

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements import lock

ROOT = Path(__file__).parents[2]
MENDED_BY = "`make lock` makes it anew"
_ENTRY = re.compile(
    r"^([A-Za-z0-9._-]+)==[^\s\\]+((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M
)


def _text(name: str) -> str:
    return (lock.HERE / name).read_text()


def _closure(lines: Iterable[str]) -> set[str]:
    """Names of what these need here, and what that needs, with extras asked for by name."""
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in lines]
    while todo:
        requirement, of_extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += [(Requirement(line), extra) for line in metadata.requires(name) or []]
    return {name for name, _ in seen}


@pytest.mark.parametrize(("name", "extra"), lock.EXTRAS.items())
def test_an_image_s_list_is_what_its_extra_needs(name: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(lock.pins(_text(name))) == _closure(lock.wanted(project, extra)), MENDED_BY


def test_what_torch_needs_is_all_of_it_but_cuda() -> None:
    # The build that is installed here may be one for the CPU, which asks for no CUDA at all.
    needed = {one for one in _closure(["torch"]) if not re.match(r"(nvidia|cuda)-|triton$", one)}
    assert set(lock.pins(_text(lock.TORCH_NEEDS))) == needed - {"torch"}, MENDED_BY


@pytest.mark.parametrize("name", [*lock.EXTRAS, lock.TORCH_NEEDS, lock.BUILD])
def test_each_version_is_the_tested_one(name: str) -> None:
    tested = lock.pins(lock.CONSTRAINTS.read_text())
    assert {one: tested.get(one) for one in lock.pins(_text(name))} == lock.pins(_text(name)), (
        MENDED_BY
    )


@pytest.mark.parametrize("name", [*lock.EXTRAS, lock.TORCH_NEEDS, lock.BUILD])
def test_each_package_has_hashes_and_no_list_says_where_it_comes_from(name: str) -> None:
    text = _text(name)
    assert {canonicalize_name(one) for one, _ in _ENTRY.findall(text)} == set(lock.pins(text))
    # An index here would be a machine's own, and asked by whoever builds the image.
    told = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in told if "://" in line or line.startswith("-")]


@pytest.mark.parametrize("name", [*lock.EXTRAS, lock.TORCH_NEEDS, lock.BUILD])
def test_no_list_has_a_comment_but_its_head(name: str) -> None:
    # What pip-tools remarks depends on the environment that it runs in.
    head = [line for line in _text(name).splitlines() if line.lstrip().startswith("#")]
    assert "\n".join(head) + "\n" == lock._HEADER.format(name=name), MENDED_BY
    assert "" not in _text(name).splitlines(), MENDED_BY


def test_every_list_is_made_by_the_one_command() -> None:
    assert {path.name for path in lock.HERE.glob("*.txt")} == {
        *lock.EXTRAS,
        lock.TORCH_NEEDS,
        lock.BUILD,
    }


def test_torch_is_in_no_list() -> None:
    project = {"dependencies": ["b"], "optional-dependencies": {"train": ["torch>=2", "a>=1"]}}
    assert lock.wanted(project, "train") == ["a>=1", "b"]
