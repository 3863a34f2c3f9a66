"""Writes docs/messages.md and docs/vectors/*.json: `python -m tests.protocol_reference`.

Types, bounds and docstrings are those of `fedmqtt/messages.py`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, inspect

from fedmqtt import messages
from fedmqtt.messages import Message
from fedmqtt.topics import CHANNELS, Topics
from tests import protocol_vectors, struct_docs
from tests.fedmqtt.test_messages import EXAMPLES
from tests.protocol_vectors import address_of
from tests.struct_docs import unwrapped

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "messages.md"
INTRODUCTION = ROOT / "docs" / "messages-introduction.md"


_ORDER = (
    *("Offer", "Presence", "Update", "Evaluation", "Decline", "Announce", "Chunk"),
    *("Go", "Receipt", "TimeLeft", "Seat", "Claim", "Open", "Opened"),
)
"""Those that each client meets come first; others follow as the source has them."""


def files() -> dict[Path, str]:
    """All that this writes."""
    return {REFERENCE: reference(), **protocol_vectors.files()}


def reference() -> str:
    kinds = sorted(Message.__subclasses__(), key=_place)
    parts = [INTRODUCTION.read_text(encoding="utf-8").rstrip(), _overview(kinds)]
    parts += [_message(kind) for kind in kinds]
    parts += ["## Records and rows", *(_record(kind) for kind in records())]
    return "\n\n".join(parts) + "\n"


def records() -> list[type[Struct]]:
    """What stands within messages, each once."""
    found: dict[str, type[Struct]] = {}
    for kind in sorted(Message.__subclasses__(), key=_place):
        for nested in _nested(kind):
            found.setdefault(nested.__name__, nested)
    return list(found.values())


_SAME_EVERYWHERE = {
    "wire": "Version of the wire. Who speaks another takes no part in the round.",
    "run": "Of which run.",
    "round": "Of which round.",
    "base": "SHA-256 of the file of the model that it is about.",
    "fingerprint": "Of the model's layout: see protocol.md.",
    "sample_count": "Of the client's data that went into it. An update counts for so much.",
    "codec": "By which the payload is coded: one of those that the offer names.",
    "metrics": "Means over the samples by name, as measured in training.",
    "measures": "What was measured.",
}
"""Of fields that mean one thing wherever they stand, and have no docstring of their own there."""


def described(kind: type[Struct]) -> dict[str, str]:
    """What each field says, by name."""
    told = {
        name: unwrapped(text) or _SAME_EVERYWHERE.get(name, "")
        for name, _, text in struct_docs.fields(_SOURCE[kind.__name__])
    }
    for field in _fields(kind):
        if isinstance(field.type, inspect.Metadata) and not told.get(field.name):
            told[field.name] = str((field.type.extra_json_schema or {}).get("description", ""))
    return told


_SOURCE = struct_docs.structs(struct_docs.nodes(messages))


def _place(kind: type[Struct]) -> tuple[int, str]:
    name = kind.__name__
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), "")


def _overview(kinds: list[type[Message]]) -> str:
    lines = ["| message | written by | what it says |", "|---|---|---|"]
    for kind in kinds:
        who = f"{CHANNELS[type(address_of(_example(kind)[1]))].writer}"
        if kind in (messages.Open, messages.Opened):
            who += " (masked rounds: to and from keyholders)"
        lines.append(
            f"| [{kind.__name__}](#{kind.__name__.lower()}) | {who} | {_first_line(kind)} |"
        )
    return "\n".join(lines)


def _message(kind: type[Message]) -> str:
    names = [name for name, one in EXAMPLES.items() if type(one) is kind]
    where = address_of(_example(kind)[1])
    channel = CHANNELS[type(where)]
    kept = ", retained" if channel.retain else ""
    signed = (
        ", signed where there are keys" if channel.signed and kind is not messages.Chunk else ""
    )
    topic = _pattern(type(where))
    lines = [f"## {kind.__name__}", "", _docstring(kind), ""]
    lines += [f"`{topic}`{kept}{signed}. `kind` is `{kind.__name__.lower()}`. Examples: "]
    lines[-1] += ", ".join(f"[`{name}`](vectors/{name}.bin)" for name in names) + "."
    return "\n".join([*lines, "", *_table(kind)])


def _record(kind: type[Struct]) -> str:
    form = "A row" if kind.__struct_config__.array_like else "A record"
    return "\n".join(
        [f"### {kind.__name__}", "", f"{form}. {_docstring(kind)}".rstrip(), "", *_table(kind)]
    )


def _pattern(kind: Any) -> str:
    """A topic with words in the places of names and numbers."""
    federation = "FEDERATION"
    places = {name: name.upper() for name in kind.__dataclass_fields__}
    return Topics(federation).path(kind(**places))


def _table(kind: type[Struct]) -> list[str]:
    told = described(kind)
    rows = ["| field | type | default | what it says |", "|---|---|---|---|"]
    for field in _fields(kind):
        default = "*required*" if field.required else f"`{_spelt(field.default)}`"
        rows.append(
            f"| `{field.encode_name}` | {_type(field.type)} | {default} | {told[field.name]} |"
        )
    return rows


def _spelt(default: Any) -> str:
    match default:
        case None:
            return "nil"
        case bytes() | memoryview():
            return "empty"
        case bool():
            return str(default).lower()
        case Struct() | dict():
            return "{}"
        case tuple():
            return "[]"
        case str():
            return f'"{default}"'
        case _:
            return str(default)


def _fields(kind: type[Struct]) -> tuple[inspect.Field, ...]:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return found.fields


def _type(kind: inspect.Type) -> str:
    """In words, with its bounds."""
    match kind:
        case inspect.Metadata(type=inner):
            return _type(inner)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"number{_bounds(kind)}"
        case inspect.StrType(max_length=most, pattern=pattern):
            size = "" if most is None else f" of at most {most} characters"
            # A bar would end the table's cell.
            form = "" if pattern is None else f", `{pattern}`".replace("|", "\\|")
            return f"text{size}{form}"
        case inspect.BytesType(min_length=least, max_length=most):
            if least is not None and least == most:
                return f"{least} bytes"
            return "bytes" if most is None else f"at most {most} bytes"
        case inspect.MemoryViewType():
            return "bytes"
        case inspect.LiteralType(values=values):
            return " or ".join(f'`"{one}"`' for one in values)
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"array{'' if most is None else f' of at most {most}'}: {_type(item)}"
        case inspect.TupleType(item_types=items):
            return f"array of {len(items)}: {', '.join(map(_type, items))}"
        case inspect.DictType(key_type=key, value_type=value, max_length=most):
            size = "" if most is None else f" of at most {most}"
            return f"map{size}: {_type(key)} to {_type(value)}"
        case inspect.UnionType(types=types):
            return " or ".join(
                "nil" if isinstance(one, inspect.NoneType) else _type(one) for one in types
            )
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case _:
            raise AssertionError(f"say in words what {kind} is")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    least = f"≥ {_number(kind.ge)}" if kind.ge is not None else ""
    least = f"> {_number(kind.gt)}" if kind.gt is not None else least
    most = f"≤ {_number(kind.le)}" if kind.le is not None else ""
    most = f"< {_number(kind.lt)}" if kind.lt is not None else most
    return "".join(f", {one}" for one in (least, most) if one)


def _number(value: float) -> str:
    whole = int(value)
    if whole == value and whole > 10_000 and whole & (whole - 1) == 0:
        return f"2^{whole.bit_length() - 1}"
    return f"{whole:,}" if whole == value else f"{value:g}"


def _nested(kind: type[Struct]) -> Iterator[type[Struct]]:
    for field in _fields(kind):
        for one in _structs(field.type):
            yield one
            yield from _nested(one)


def _structs(kind: Any) -> Iterator[type[Struct]]:
    match kind:
        case inspect.StructType(cls=cls):
            yield cls
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            yield from _structs(inner)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _structs(one)
        case _:
            pass


def _example(kind: type[Message]) -> tuple[str, Any]:
    return next((name, one) for name, one in EXAMPLES.items() if type(one) is kind)


def _docstring(kind: type[Struct]) -> str:
    paragraphs = (ast.get_docstring(_SOURCE[kind.__name__]) or "").split("\n\n")
    return "\n\n".join(map(unwrapped, paragraphs))


def _first_line(kind: type[Struct]) -> str:
    return _docstring(kind).partition("\n")[0]


def main() -> int:
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
