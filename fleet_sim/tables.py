"""Tables that people bring along: CSV files and npz archives, with one clear sentence per mistake.

Every mistake is a SettingsError that begins with the file (and the line), and says what to do.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from fedmqtt.settings import SettingsError

_DELIMITERS = ",;\t"
"""Spreadsheets in countries with a decimal comma write semicolons."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the text of each column, by the column's first name."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def wrong(self, what: str) -> SettingsError:
        return SettingsError(f"{self.path}, line {self.line}: {what}")

    def number(self, column: str, at_least: float = -math.inf) -> float:
        """Raises SettingsError if it is none, or too small, or not finite."""
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(f"{column} is {text!r}; write a number")
        if value < at_least:
            raise self.wrong(f"{column} is {text}; write {at_least:g} or more")
        return value


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """A mistake found within is told with where it was made: the key, or the settings' file."""
    try:
        yield
    except SettingsError as bad:
        raise SettingsError(f"{prefix}{bad}") from bad


def read_csv(path: Path, columns: Mapping[str, Sequence[str]], optional: str = "") -> list[Row]:
    """The rows of a CSV file whose first line names its columns.

    `columns` gives each column that is needed with the other names it may have; capitals, the order
    and further columns do not matter, and `optional` names one that may be missing. Empty lines and
    lines that begin with # are skipped. Commas, semicolons or tabs divide. Raises SettingsError.
    """
    rows: list[Row] = []
    places: dict[str, int] = {}
    for line, cells in _lines(path):
        if not places:
            places = _places(path, cells, columns, optional)
            continue
        if len(cells) <= max(places.values()):
            raise SettingsError(
                f"{path}, line {line}: {len(cells)} values, but the first line names more columns"
            )
        rows.append(Row(path, line, {name: cells[at].strip() for name, at in places.items()}))
    if not rows:
        names = ",".join(name for name in columns if name != optional)
        first = "no rows below its first line" if places else f"empty; write a first line {names}"
        raise SettingsError(f"{path}: {first}" + ("" if places else " and rows below it"))
    return rows


def read_npz(path: Path, arrays: Sequence[str], optional: str = "") -> dict[str, NDArray[Any]]:
    """These arrays of an archive. Nothing in it is ever unpickled. Raises SettingsError."""
    try:
        if path.exists() and not is_zipfile(path):
            raise SettingsError(f"{path}: not an npz archive")
        with np.load(path, allow_pickle=False) as archive:  # noqa: TID251
            if missing := [name for name in arrays if name not in archive]:
                raise SettingsError(
                    f"{path}: no array {missing[0]!r}; it needs {', '.join(arrays)},"
                    f" and has {', '.join(archive) or 'none'}"
                )
            return {name: archive[name] for name in (*arrays, optional) if name in archive}
    except FileNotFoundError as bad:
        raise _missing(path) from bad
    except (OSError, BadZipFile, EOFError) as bad:
        raise SettingsError(f"{path}: not an npz archive ({bad})") from bad
    except SettingsError:
        raise
    except ValueError as bad:
        raise SettingsError(f"{path}: not an npz archive of plain arrays ({bad})") from bad


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        # Spreadsheets put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as bad:
        raise _missing(path) from bad
    except OSError as bad:
        raise SettingsError(f"{path}: {bad.strerror}") from bad
    except UnicodeDecodeError as bad:
        raise SettingsError(f"{path}: not a text in UTF-8, so no CSV file") from bad
    kept = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    delimiter = max(_DELIMITERS, key=kept[0][1].count) if kept else ","
    found = []
    for number, line in kept:
        try:
            # Line by line: a quotation mark that is never closed would swallow those that follow.
            (cells,) = csv.reader([line], delimiter=delimiter, strict=True)
        except csv.Error as bad:
            raise SettingsError(
                f"{path}, line {number}: {bad}; a text in quotation marks has to end in its line"
            ) from bad
        found.append((number, cells))
    return found


def _places(
    path: Path, header: Sequence[str], columns: Mapping[str, Sequence[str]], optional: str
) -> dict[str, int]:
    given = [cell.strip().lower() for cell in header]
    places = {
        name: given.index(found)
        for name, others in columns.items()
        if (found := next((one for one in (name, *others) if one in given), None)) is not None
    }
    for name, others in columns.items():
        if name not in places and name != optional:
            also = f" (or {', '.join(others)})" if others else ""
            raise SettingsError(
                f"{path}: no column {name}{also}; its first line names {', '.join(given)}"
            )
    return places


def _missing(path: Path) -> SettingsError:
    return SettingsError(
        f"{path}: no such file; write its path from the folder of the fleet's file, or in full"
    )
