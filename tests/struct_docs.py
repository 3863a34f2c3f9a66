"""What the source says of structs' fields: type and docstring, for references made from code."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType


def nodes(*modules: ModuleType) -> list[ast.stmt]:
    """The statements of these modules, in order."""
    sources = [Path(str(module.__file__)) for module in modules]
    return [node for path in sources for node in ast.parse(path.read_text(encoding="utf-8")).body]


def structs(found: list[ast.stmt]) -> Mapping[str, ast.ClassDef]:
    return {node.name: node for node in found if isinstance(node, ast.ClassDef)}


def fields(struct: ast.ClassDef) -> Iterator[tuple[str, ast.expr, str]]:
    """Name, annotation and docstring of each; without one, an empty text."""
    for node, following in zip(struct.body, [*struct.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            told = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                told = str(following.value.value)
            yield node.target.id, node.annotation, told


def unwrapped(text: str) -> str:
    """In one line."""
    return " ".join(text.split())
