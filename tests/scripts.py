"""Runs a story against a machine: commands, then `----`, then what happened.

Lines that begin with `#` say why. `pytest --rewrite` replaces what happened with what happens now;
read the diff before you commit it.
"""

from collections.abc import Callable
from pathlib import Path


def stories(folder: Path, scripts: str = "scripts") -> list[Path]:
    return sorted((folder / scripts).glob("*.txt"))


def run(path: Path, obey: Callable[[str], list[str]], *, rewrite: bool) -> None:
    """Obeys each command of the story and compares what it tells with what the story says."""
    stanzas = [stanza.partition("\n----")[0] for stanza in path.read_text().strip().split("\n\n")]
    actual = "\n\n".join(_play(commands, obey) for commands in stanzas) + "\n"
    if rewrite:
        path.write_text(actual)
    assert actual == path.read_text()


def _play(commands: str, obey: Callable[[str], list[str]]) -> str:
    lines = [line for line in commands.splitlines() if not line.startswith("#")]
    happened = [told for line in lines for told in obey(line)]
    return f"{commands}\n----\n" + "\n".join(happened or ["ok"])
