"""What there is in a folder of parts, for a person who chooses: from docstrings and `Settings`."""

from types import ModuleType

from fedmqtt import parts, settings


def listing(folder: ModuleType, title: str) -> str:
    """A line on each part, and below it its settings at their defaults, as in a TOML file."""
    lines = [title]
    for name in parts.names(folder):
        part = parts.load(folder, name)
        lines += ["", f"{name}", f"    {_first_line(part)}"]
        if (kind := getattr(part, "Settings", None)) is not None and kind.__struct_fields__:
            lines += ["", *(f"        {line}" for line in settings.render(kind()).splitlines())]
    return "\n".join(lines) + "\n"


def _first_line(part: ModuleType) -> str:
    return (part.__doc__ or "").partition("\n")[0]
