"""Every option that a run depends on, on a screen: a paragraph for each section of its file.

link    latency_s=0.08 jitter_s=0.4 loss=0.02 duplicates=0.0 up.kbps=600.0 ...
                                    what is as it always is stands there dimmed
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct, structs
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedmqtt.settings import without_passwords

_NO_SECTION = "fleet"
"""Where options stand that are in no section."""

_NOT_SIMULATED = (
    "federation.statistics.",
    "federation.status.",
    "federation.privacy.keyholder_timeout_s",
    "federation.privacy.opening_deadline_s",
)
"""What is asked of data, what is told of clients, for how long keyholders are waited for: no
simulation depends on it."""
_OF_MASKS = ("federation.privacy.", "masking.")
"""On which none depends that masks nothing."""


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    """With its sections: "link.up.kbps"."""
    value: str
    is_default: bool


def options(config: Struct) -> list[Option]:
    """In the order of the file, defaults included."""
    found = list(_walk("", config))
    masks = any(
        one.name == "federation.privacy.aggregation" and not one.is_default for one in found
    )
    left_out = _NOT_SIMULATED if masks else _NOT_SIMULATED + _OF_MASKS
    return [option for option in found if not option.name.startswith(left_out)]


def show(console: Console, config: Struct) -> None:
    sections: dict[str, Text] = {}
    for option in options(config):
        section, _, name = option.name.rpartition(".")
        section, _, subsection = section.partition(".")
        paragraph = sections.setdefault(section or _NO_SECTION, Text())
        shown = f"{subsection}.{name}" if subsection else name
        paragraph.append(" " if paragraph else "")
        paragraph.append(f"{shown}={option.value}", style="dim" if option.is_default else "")
    if not console.is_terminal:
        for section, paragraph in sections.items():
            console.print(f"  {section}: {paragraph.plain}", markup=False)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for section, paragraph in sections.items():
        table.add_row(section, paragraph)
    console.print(Padding(table, (0, 0, 0, 2)), soft_wrap=False)


def _walk(prefix: str, table: Struct) -> Iterator[Option]:
    for field in structs.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, Struct) and structs.fields(value):
            yield from _walk(f"{prefix}{field.name}.", value)
        else:
            yield Option(f"{prefix}{field.name}", _told(value), value == _default(field))


def _default(field: structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _told(value: Any) -> str:
    """As it would stand in the file, so that it can be given to --set; but for passwords."""
    plain = msgspec.to_builtins(value)
    is_one_word = isinstance(plain, str) and bool(plain) and " " not in plain
    return without_passwords(plain if is_one_word else msgspec.json.encode(plain).decode())
