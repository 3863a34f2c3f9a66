"""Reading settings: a TOML file, overrides from the command line, one clear error for each mistake.

A program declares its settings as frozen structs whose fields carry `Meta(description=...)`; from
them come the checks, the error messages and the commented file that `example` writes, so the three
cannot drift apart.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

_T = TypeVar("_T", bound=msgspec.Struct)
_WHERE = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`")
_MISSING = re.compile(r"^Object missing required field `(.*)`")


class SettingsError(ValueError):
    """The operator's mistake: names file, key, what was expected and the choices."""


def read(path: Path | None, overrides: Sequence[str], kind: type[_T]) -> _T:
    """Settings from a file (none: all defaults), then `key.key=value` overrides in order.

    Raises SettingsError.
    """
    values: dict[str, Any] = {}
    source = "the command line"
    if path is not None:
        source = str(path)
        values = _load(path)
    for override in overrides:
        _set(values, override, kind)
    return convert(values, kind, source)


def convert(values: dict[str, Any], kind: type[_T], source: str) -> _T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as bad:
        raise SettingsError(f"{source}: {_explain(str(bad), kind)}") from bad


def render(settings: msgspec.Struct) -> str:
    """The settings in force, as a TOML file with each field's description as its comment."""
    lines: list[str] = []
    _render(settings, "", lines)
    return "\n".join(lines).strip() + "\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as bad:
        raise SettingsError(f"{path}: no such file") from bad
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise SettingsError(f"{path}: {bad}") from bad


def _set(values: dict[str, Any], override: str, kind: type[msgspec.Struct]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override}: expected key=value, as in --set rounds.quorum=40")
    *tables, name = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {override}: {table} is not a table")
    values[name] = _value(text.strip())


def _value(text: str) -> Any:
    # TOML's own spelling first (40, 0.5, true, "text", [1, 2]); a bare word is text.
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# What went wrong, in the operator's words


def _explain(message: str, kind: type[msgspec.Struct]) -> str:
    where = _WHERE.search(message)
    path = where[1] if where else ""
    plain = _WHERE.sub("", message)
    if unknown := _UNKNOWN.match(plain):
        choices = ", ".join(field.name for field in _fields(kind, path))
        return f"unknown key {_join(path, unknown[1])}; choose from: {choices}"
    if missing := _MISSING.match(plain):
        return f"missing key {_join(path, missing[1])}{_hint(kind, _join(path, missing[1]))}"
    return f"{path or 'the file'}: {plain[0].lower()}{plain[1:]}{_hint(kind, path)}"


def _hint(kind: type[msgspec.Struct], path: str) -> str:
    table, _, name = path.rpartition(".")
    for field in _fields(kind, table):
        if field.name == name and (text := _description(field.type)):
            return f" ({text.rstrip('.')})"
    return ""


def _fields(kind: type[msgspec.Struct], path: str) -> tuple[inspect.Field, ...]:
    found = inspect.type_info(kind)
    for name in filter(None, path.split(".")):
        if not isinstance(found, inspect.StructType):
            return ()
        types = {field.name: _bare(field.type) for field in found.fields}
        found = types.get(name, inspect.AnyType())
    return found.fields if isinstance(found, inspect.StructType) else ()


def _bare(kind: inspect.Type) -> inspect.Type:
    return _bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def _description(kind: inspect.Type) -> str:
    if not isinstance(kind, inspect.Metadata):
        return ""
    return str((kind.extra_json_schema or {}).get("description", ""))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# The commented file


def _render(settings: msgspec.Struct, table: str, lines: list[str]) -> None:
    plain: list[tuple[inspect.Field, Any]] = []
    tables: list[tuple[inspect.Field, Any]] = []
    for field in _fields(type(settings), ""):
        value = getattr(settings, field.name)
        (tables if isinstance(value, msgspec.Struct | dict) else plain).append((field, value))
    for field, value in plain:
        lines.extend(_comment(field))
        lines.append(f"{field.name} = {_toml(value)}")
    for field, value in tables:
        name = _join(table, field.name)
        lines.extend(("", *_comment(field), f"[{name}]"))
        if isinstance(value, msgspec.Struct):
            _render(value, name, lines)
        else:
            lines.extend(f"{key} = {_toml(one)}" for key, one in value.items())


def _comment(field: inspect.Field) -> Iterator[str]:
    for line in _description(field.type).splitlines():
        yield f"# {line}"
    if choices := _choices(_bare(field.type)):
        yield f"# One of: {', '.join(choices)}."


def _choices(kind: inspect.Type) -> list[str]:
    return [str(value) for value in kind.values] if isinstance(kind, inspect.LiteralType) else []


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's spelling of text, numbers and truth is TOML's too.
    return json.dumps(value, ensure_ascii=False)
