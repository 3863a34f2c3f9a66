"""The parts of a folder for a person who chooses one: a line of each, and its settings."""

import inspect
import textwrap
from types import ModuleType

from fedmqtt import parts, settings


def listing(folder: ModuleType, title: str) -> str:
    """`title`, then each part's name with the first paragraph of its docstring, and below it the
    settings it takes, explained, with their defaults as they would stand in a file."""
    lines = [title]
    for name in parts.names(folder):
        part = parts.load(folder, name)
        first = (inspect.getdoc(part) or "").partition("\n\n")[0]
        lines += ["", *textwrap.wrap(f"{name}: {first}", width=100, subsequent_indent="    ")]
        if hasattr(part, "Settings"):
            rendered = settings.render(part.Settings()).splitlines()
            lines += [f"    {line}" for line in rendered if line]
    return "\n".join(lines) + "\n"
