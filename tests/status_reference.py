"""Writes docs/status.md and docs/schema from the code: `python -m tests.status_reference`.

Types and docstrings are those of `fedmqtt/status_pages.py` and `round_monitor/standing.py`. The
examples are pages that a real coordinator published:
`pytest tests/test_status_topics.py tests/test_quiet_federation.py --rewrite` keeps new ones.
"""

import ast
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from fedmqtt import status_pages
from fedmqtt.status_pages import PAGES, ClientPage, Page
from round_monitor import standing
from round_monitor.standing import Standing
from tests import struct_docs
from tests.struct_docs import unwrapped

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "docs" / "schema" / "status"
EXAMPLES = SCHEMAS / "examples"
STANDING = ROOT / "docs" / "schema" / "watch.json"
"""The schema of what `fedmqtt watch --once --json` prints."""
REFERENCE = ROOT / "docs" / "status.md"
INTRODUCTION = ROOT / "docs" / "status-introduction.md"

KINDS: dict[str, type[Page]] = {**PAGES, "client": ClientPage}
"""By the name of the schema's file."""

PARTS_BELOW = "parts"
"""Of the folder of examples, where those of parts are: they are no pages."""

PARTS = {"coordinator": {"fleet": "Of a federation whose clients say nothing:"}}
"""Of the page of that name: fields that are empty in its example, and have one of their own, of the
field's name; and what is said of it."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LONG_TEXT = 160
"""Of an example: longer texts and lists are shortened for people."""
_LONG_LIST = 6


class Described(NamedTuple):
    docstring: str
    fields: dict[str, tuple[str, str]]
    """By name: type in words, docstring."""


def files() -> dict[Path, str]:
    """All that this writes."""
    schemas = {SCHEMAS / f"{name}.json": schema_text(kind) for name, kind in KINDS.items()}
    return {**schemas, STANDING: schema_text(Standing), REFERENCE: reference()}


def kind_of(page: str) -> str:
    """The name of the schema for what lies at `status/<page>`."""
    return "client" if page.startswith(status_pages.CLIENT_PAGES) else page


def schema(kind: type[Struct]) -> dict[str, Any]:
    """JSON Schema of one page, or of all of them together, with the docstrings in it."""
    made = msgspec.json.schema(kind)
    described = _described()
    for name, definition in made["$defs"].items():
        for field, told in definition.get("properties", {}).items():
            told["description"] = unwrapped(described[name].fields[field][1])
        definition["description"] = unwrapped(described[name].docstring)
    return {"$schema": _DRAFT, **made}


def schema_text(kind: type[Struct]) -> str:
    return json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    parts = [INTRODUCTION.read_text(encoding="utf-8").rstrip()]
    parts += [_section(name, kind) for name, kind in KINDS.items()]
    return "\n\n".join(parts) + "\n"


def _section(name: str, kind: type[Page]) -> str:
    topic = "status/client/<id>" if name == "client" else f"status/{name}"
    lines = [f"## `{topic}`", "", unwrapped(_described()[kind.__name__].docstring), ""]
    lines += [f"[Schema](schema/status/{name}.json)", ""]
    lines += _table(kind.__name__)
    for nested in _nested(kind.__name__):
        lines += ["", f"**{nested}**: {unwrapped(_described()[nested].docstring)}", ""]
        lines += _table(nested)
    lines += ["", "From a real run:", "", *_example(name)]
    for part, told in PARTS.get(name, {}).items():
        lines += ["", told, "", *_example(f"{PARTS_BELOW}/{part}")]
    return "\n".join(lines)


def _example(name: str) -> list[str]:
    example = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return ["```json", json.dumps(_shortened(example), indent=2, ensure_ascii=False), "```"]


def keep_example(name: str, encoded: bytes) -> None:
    """A page, or a part of one, as JSON: the one that is shown from now on."""
    path = EXAMPLES / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(encoded), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _table(name: str) -> list[str]:
    rows = [
        f"| `{field}` | {what} | {unwrapped(told)} |"
        for field, (what, told) in _described()[name].fields.items()
    ]
    return ["| field | type | what it says |", "|---|---|---|", *rows]


def _nested(name: str, seen: tuple[str, ...] = ()) -> list[str]:
    """The structs in a page, each once, in the order in which they are met."""
    found: list[str] = []
    for what, _ in _described()[name].fields.values():
        for other in _described():
            if f"[{other}]" in what and other not in (*seen, *found, name):
                found += [other, *_nested(other, (*seen, *found, name, other))]
    return found


def _shortened(value: Any) -> Any:
    match value:
        case str() if len(value) > _LONG_TEXT:
            return value[:_LONG_TEXT] + " …"
        case list() if len(value) > _LONG_LIST:
            return [*(_shortened(one) for one in value[:_LONG_LIST]), "…"]
        case list():
            return [_shortened(one) for one in value]
        case dict():
            return {key: _shortened(one) for key, one in value.items()}
        case _:
            return value


@cache
def _described() -> dict[str, Described]:
    """Every struct of the pages' module, and of what holds all pages, as the source has it."""
    nodes = struct_docs.nodes(status_pages, standing)
    aliases = {
        target.id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
    }
    structs = struct_docs.structs(nodes)
    names = set(structs)
    return {
        name: Described(
            ast.get_docstring(node) or "",
            {
                field: (_type(kind, aliases, names), told)
                for field, kind, told in struct_docs.fields(node)
            },
        )
        for name, node in structs.items()
    }


_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "None": "null",
    "ClientId": "client",
    "RoundId": "round",
}


def _type(kind: ast.expr, aliases: dict[str, ast.expr], names: set[str]) -> str:
    """In words: `dict[ClientId, str]` is "text by client"."""

    def words(part: ast.expr) -> str:
        return _type(part, aliases, names)

    match kind:
        case ast.Name(id=name) if name in names:
            return f"[{name}]"
        case ast.Name(id=name) if name in aliases:
            return words(aliases[name])
        case ast.Name(id=name):
            return _WORDS[name]
        case ast.Constant(value=None):
            return "null"
        case ast.BinOp(left=left, right=right):
            return f"{words(left)}, or {words(right)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=choices)):
            return ", ".join(f"`{ast.literal_eval(one)}`" for one in choices)
        case ast.Subscript(value=ast.Name(id="list"), slice=one):
            return f"list of {words(one)}"
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[one, _])):
            return f"list of {words(one)}"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return f"{words(value)} by {words(key)}"
        case _:
            raise AssertionError(f"say in words what {ast.unparse(kind)} is")


def main() -> int:
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
