"""What was found out about brokers, kept as JSON, and the table of it for people."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

_DOCS = Path(__file__).parents[2] / "docs"

_F = TypeVar("_F")


@dataclass(frozen=True)
class Kept(Generic[_F]):
    """Facts of one kind, about each of some brokers."""

    file: str
    """Beside this one."""
    page: str
    """In docs/, with the table."""
    facts: type[_F]
    names: Mapping[str, str]
    """Of each kind of broker, for people; the table's order."""
    head: tuple[str, ...]

    def found(self) -> dict[str, _F]:
        """By kind of broker: as it was found before."""
        return msgspec.json.decode(self._path.read_bytes(), type=dict[str, self.facts])  # type: ignore[name-defined]

    def is_on_page(self) -> bool:
        return self.as_kept() in (_DOCS / self.page).read_text(encoding="utf-8")

    def as_kept(self) -> str:
        """The table of that."""
        return self.table(self.found())

    def keep(self, found: Mapping[str, _F]) -> None:
        """These instead of what was found of them before; and the page tells so."""
        before = self.as_kept()
        now = {**self.found(), **found}
        self._path.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
        page = (_DOCS / self.page).read_text(encoding="utf-8")
        assert before in page, f"{self.page} does not have the table of {self._path}"
        (_DOCS / self.page).write_text(page.replace(before, self.table(now)), encoding="utf-8")

    def table(self, found: Mapping[str, _F]) -> str:
        """As it stands in the page."""
        lines = [f"| {' | '.join(self.head)} |", "|" + "---|" * len(self.head)]
        for kind, name in self.names.items():
            if kind in found:
                cells: Any = found[kind]
                lines.append(f"| {' | '.join([name, *map(_cell, astuple(cells))])} |")
        return "\n".join(lines) + "\n"

    @property
    def _path(self) -> Path:
        return Path(__file__).with_name(self.file)


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return str(value)
