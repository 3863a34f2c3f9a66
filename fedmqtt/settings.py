"""Reading settings: a TOML file, overrides from the command line, one clear error for each mistake.

A program declares its settings as frozen structs whose fields carry `Meta(description=...)`; from
them come the checks, the error messages and the commented file that `render` writes, so the three
cannot drift apart.
"""

import json
import math
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from fedmqtt import unreadable

_T = TypeVar("_T", bound=msgspec.Struct)
_WHERE = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`")
_MISSING = re.compile(r"^Object missing required field `(.*)`")
_NO_CHOICE = re.compile(r"^Invalid enum value (.*)$")
_FORM = re.compile(r" matching regex .*$")
_INDEX = re.compile(r"\[.*?\]")
_PASSWORD = re.compile(r"(://[^/\s:@\"']*):[^/\s\"']*@")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = {
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
}
"""Msgspec's words, and those of a person who writes TOML."""


class SettingsError(ValueError):
    """The operator's mistake: names file, key, what was expected and the choices."""


def read(path: Path | None, overrides: Sequence[str], kind: type[_T]) -> _T:
    """Settings from a file (none: all defaults), then `key.key=value` overrides in order.

    Raises SettingsError.
    """
    values = {} if path is None else _load(path)
    overridden = [_set(values, override, kind) for override in overrides]
    return _convert(values, kind, "the command line" if path is None else str(path), overridden)


def convert(
    values: dict[str, Any],
    kind: type[_T],
    source: str,
    table: str = "",
    not_offered: Collection[str] = (),
) -> _T:
    """Settings from values that are read already. `table`: that of a larger file that they are.
    `not_offered`: keys that nobody is told to choose from, as they are refused in that file.

    Raises SettingsError.
    """
    return _convert(values, kind, source, [], table, not_offered)


def override(key: str, value: str) -> str:
    """What `read` takes for an override with just this text, whatever is in it."""
    return f"{key}={_toml(value)}"


def render(settings: msgspec.Struct) -> str:
    """The settings in force, as a TOML file with each field's description as its comment."""
    lines: list[str] = []
    _render(settings, "", lines)
    return "\n".join(lines).strip() + "\n"


def described(kind: type[msgspec.Struct]) -> Iterator[str]:
    """One line for each setting: its name, what it is if nobody says, and what it means."""
    for field in _fields(kind, ""):
        value = "..." if field.required else _toml(field.default)
        yield f"{field.name} = {value}  {' '.join(_description(field.type).split())}"


def without_passwords(text: str) -> str:
    """A text for others to see: in each address in it, `user:password@` is `user:***@`."""
    return _PASSWORD.sub(r"\1:***@", text)


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as bad:
        raise SettingsError(f"{path}: no such file") from bad
    except OSError as bad:
        raise SettingsError(f"{path}: {bad.strerror}") from bad
    except UnicodeDecodeError as bad:
        raise SettingsError(f"{path}: not a text in UTF-8, so no TOML file") from bad
    except unreadable.TOML as bad:
        raise SettingsError(f"{path}: {bad}") from bad


def _set(values: dict[str, Any], override: str, kind: type[msgspec.Struct]) -> str:
    """Returns the key that was set, or of the first table that was made for it."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise SettingsError(f"--set {override}: expected key=value, as in --set rounds.count=5")
    *tables, name = key.split(".")
    made = key
    for depth, table in enumerate(tables, 1):
        if table not in values:
            made = min(made, ".".join(tables[:depth]), key=len)
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise SettingsError(f"--set {override}: {table} is not a table")
    values[name] = _value(text.strip(), _type_at(kind, key))
    return made


def _value(text: str, kind: inspect.Type) -> Any:
    # TOML's own spelling first (40, 0.5, true, "text", [1, 2]); a bare word is text, and where text
    # belongs so is a bare 40.
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except unreadable.TOML:
        return text
    return text if isinstance(kind, inspect.StrType) and not isinstance(value, str) else value


def _convert(
    values: dict[str, Any],
    kind: type[_T],
    source: str,
    overridden: Sequence[str],
    table: str = "",
    not_offered: Collection[str] = (),
) -> _T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as bad:
        at, said = _explain(str(bad), kind, table, not_offered)
        if any(f"{at}.".startswith(f"{key}.") for key in overridden):
            source = "the command line"
        raise SettingsError(f"{source}: {said}") from bad


# What went wrong, in the operator's words


def _explain(
    message: str, kind: type[msgspec.Struct], table: str, not_offered: Collection[str]
) -> tuple[str, str]:
    """The key that is wrong, and a sentence about it. `table`: the one of the file that all keys
    are in."""
    where = _WHERE.search(message)
    path = _INDEX.sub("", where[1]) if where else ""
    plain = _WHERE.sub("", message)
    if unknown := _UNKNOWN.match(plain):
        names = (field.name for field in _fields(kind, path))
        choices = ", ".join(name for name in names if _join(path, name) not in not_offered)
        path = _join(path, unknown[1])
        hint = f"choose from: {choices}" if choices else "there are none here"
        return path, f"unknown key {path}; {hint}"
    if missing := _MISSING.match(plain):
        path = _join(path, missing[1])
        hint = _hint(kind, path)
        whole = _join(table, path)
        return path, f"missing key {path}{hint}: give it in a file, or as --set {whole}=..."
    if no_choice := _NO_CHOICE.match(plain):
        choices = ", ".join(_choices(_type_at(kind, path)))
        return path, f"{path} cannot be {no_choice[1]}; choose from: {choices}"
    hint = _hint(kind, path)
    if hint and _FORM.search(plain):
        return path, f"{path}: not allowed{hint}"
    for theirs, ours in _KINDS.items():
        plain = plain.replace(theirs, ours)
    return path, f"{path or 'the file'}: {plain[0].lower()}{plain[1:]}{hint}"


def _hint(kind: type[msgspec.Struct], path: str) -> str:
    table, _, name = path.rpartition(".")
    for field in _fields(kind, table):
        if field.name == name and (text := _description(field.type)):
            # Its lines are those of a commented file; a mistake is told in one.
            return f" ({' '.join(text.split()).rstrip('.')})"
    return ""


def _fields(kind: type[msgspec.Struct], path: str) -> tuple[inspect.Field, ...]:
    found = _type_at(kind, path)
    return found.fields if isinstance(found, inspect.StructType) else ()


def _type_at(kind: type[msgspec.Struct], path: str) -> inspect.Type:
    found = inspect.type_info(kind)
    for name in filter(None, path.split(".")):
        if not isinstance(found, inspect.StructType):
            return inspect.AnyType()
        types = {field.name: _bare(field.type) for field in found.fields}
        found = types.get(name, inspect.AnyType())
    return found


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
            lines.extend(f"{_key(key)} = {_toml(one)}" for key, one in value.items())


def _comment(field: inspect.Field) -> Iterator[str]:
    for line in _description(field.type).splitlines():
        yield f"# {line}"
    if choices := _choices(_bare(field.type)):
        yield f"# One of: {', '.join(choices)}."


def _choices(kind: inspect.Type) -> list[str]:
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return _choices(_bare(kind.item_type))
    if not isinstance(kind, inspect.LiteralType):
        return []
    return [str(value) or '""' for value in kind.values]


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _toml(text)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(key)} = {_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    # JSON's spelling of text, numbers and truth is TOML's too, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
