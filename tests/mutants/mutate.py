"""Every small change that could be made to a file by mistake: its mutants.

A mutant differs from its file in one expression or one statement. Tests that cannot tell one from
the other do not look at what that line decides.

Left alone, because a change there is no decision of the program: docstrings, annotations, aliases
of types, assertions, the words of messages (f-strings) and of the log, the patterns of `match`, and
the defaults of `Rules`, which settings overrule.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants.operators import OPERATORS, Edit, Known, Place, is_log_line, is_number

KNOBS = "Rules"


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    """Of the file, seen from the root of the repository."""
    place: str
    """In which function or class; empty at the top of the module."""
    line: int
    operator: str
    before: str
    """What stands in the lines that change, on one line."""
    after: str
    source: str = field(repr=False)
    """The whole file, changed."""

    @property
    def text(self) -> str:
        """What it is, whatever the number of its line."""
        return f"{self.path} {self.place}\n- {self.before}\n+ {self.after}"


def mutants(root: Path, path: str) -> list[Mutant]:
    """All mutants of the file, by line. No two are the same text, and none is the file itself."""
    source = (root / path).read_text()
    tree = ast.parse(source)
    known = Known(_optional(root, tree), _passing(tree))
    lines = source.encode().splitlines(keepends=True)
    found = {source: Mutant(path, "", 0, "none", "", "", source)}
    for node, place in _decisions(tree, Place(tree, None, "", known)):
        for operator in OPERATORS:
            for edit in operator(node, place):
                mutant = _mutant(path, place, edit, lines)
                found.setdefault(mutant.source, mutant)
    del found[source]
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _mutant(path: str, place: Place, edit: Edit, lines: list[bytes]) -> Mutant:
    node = edit.node
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    first, last = node.lineno - 1, node.end_lineno
    # The positions of `ast` count bytes.
    head, tail = lines[first][: node.col_offset], lines[last - 1][node.end_col_offset :]
    enclosed = head.endswith(b"(") and tail.startswith(b")")
    new = head + _text(edit, place, enclosed).encode() + tail
    return Mutant(
        path=path,
        place=place.name,
        line=node.lineno,
        operator=edit.operator,
        before=_on_one_line(b"".join(lines[first:last])),
        after=_on_one_line(new),
        source=b"".join([*lines[:first], new, *lines[last:]]).decode(),
    )


def _text(edit: Edit, place: Place, enclosed: bool) -> str:
    text = ast.unparse(edit.replacement)
    stands_alone = isinstance(
        edit.replacement,
        ast.stmt | ast.Constant | ast.Name | ast.Attribute | ast.Call | ast.List | ast.Tuple,
    )
    stands_apart = enclosed or isinstance(place.parent, ast.stmt | ast.Call | ast.keyword)
    return text if stands_alone or stands_apart else f"({text})"


def _on_one_line(lines: bytes) -> str:
    return " ".join(lines.decode().split())


# Where a change would be a change of what the program does


def _decisions(node: ast.AST, place: Place) -> Iterator[tuple[ast.AST, Place]]:
    """The nodes below this one, each with its place."""
    definition, name = place.definition, place.name
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        definition = node if isinstance(node, ast.FunctionDef) else None
        name = f"{name}.{node.name}".removeprefix(".")
    inside = Place(node, definition, name, place.known)
    for child in _decided_in(node):
        yield child, inside
        yield from _decisions(child, inside)


def _decided_in(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.Module(body):
            return [
                one
                for one in body
                if isinstance(one, ast.FunctionDef | ast.ClassDef)
                or (isinstance(one, ast.Assign) and is_number(one.value))
            ]
        case ast.ClassDef(name=name, body=body):
            return [
                one
                for one in body
                if isinstance(one, ast.FunctionDef)
                or (isinstance(one, ast.AnnAssign) and name != KNOBS)
            ]
        case ast.FunctionDef(args=arguments, body=body):
            return [*arguments.defaults, *filter(None, arguments.kw_defaults), *body]
        case ast.AnnAssign(value=value):
            return [value] if value is not None else []
        case ast.match_case(guard=guard, body=body):
            return [*filter(None, [guard]), *body]
        case ast.Call(ast.Name("isinstance"), [looked_at, _]):
            return [looked_at]
        case ast.Assert() | ast.JoinedStr():
            return []
        case ast.Call() if is_log_line(node):
            return []
        case _:
            return list(ast.iter_child_nodes(node))


# What the operators need to know of the files


def _passing(tree: ast.Module) -> frozenset[str]:
    def passes(function: ast.FunctionDef) -> bool:
        first = function.args.args[0].annotation if function.args.args else None
        same = first and function.returns and ast.unparse(first) == ast.unparse(function.returns)
        return bool(same)

    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    return frozenset(one.name for one in functions if passes(one))


def _optional(root: Path, tree: ast.Module) -> dict[str, dict[str, bool]]:
    imported = [root.joinpath(*name.split(".")).with_suffix(".py") for name in _imports(tree)]
    trees = [ast.parse(path.read_text()) for path in imported if path.exists()]
    return {
        one.name: _fields(one) if isinstance(one, ast.ClassDef) else _parameters(one)
        for declared in (*trees, tree)
        for one in declared.body
        if isinstance(one, ast.ClassDef | ast.FunctionDef)
    }


def _imports(tree: ast.Module) -> list[str]:
    return [one.module for one in tree.body if isinstance(one, ast.ImportFrom) and one.module]


def _fields(declared: ast.ClassDef) -> dict[str, bool]:
    return {
        one.target.id: one.value is not None
        for one in declared.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


def _parameters(declared: ast.FunctionDef) -> dict[str, bool]:
    positional = declared.args.args
    first_default = len(positional) - len(declared.args.defaults)
    optional = {one.arg: index >= first_default for index, one in enumerate(positional)}
    keyword_only = zip(declared.args.kwonlyargs, declared.args.kw_defaults, strict=True)
    return optional | {one.arg: default is not None for one, default in keyword_only}
