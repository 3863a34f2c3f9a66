"""fedmqtt strategies: every file in the folder, with what it does and what it takes."""

import subprocess
import sys
import tomllib

from coordinator import aggregation
from fedmqtt import parts, settings


def test_every_strategy_is_listed_with_its_line_and_its_settings() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "fedmqtt", "strategies"], capture_output=True, text=True, check=True
    )
    title, *sections = _sections(ended.stdout)
    assert title.startswith("How a round's answers become the next model")
    for name, section in zip(parts.names(aggregation), sections, strict=True):
        part = parts.load(aggregation, name)
        lines = [line.strip() for line in section.splitlines()]
        # A setting begins with what it means.
        first = next((n for n, line in enumerate(lines) if line.startswith("#")), len(lines))
        paragraph = (part.__doc__ or "").partition("\n\n")[0]
        assert " ".join(lines[:first]).split() == f"{name}: {paragraph}".split()
        # What is printed can be put into a file as it is.
        given = tomllib.loads("\n".join(lines[first:]))
        assert settings.convert(given, part.Settings, name) == part.Settings()
        assert set(given) == set(part.Settings.__struct_fields__)


def _sections(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            found.append(line)
        elif line:
            found[-1] += f"\n{line}"
    return found
