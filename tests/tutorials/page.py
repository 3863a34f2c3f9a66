"""A tutorial's page: Markdown, of which some fenced blocks are run and others are what they print.

    ```python                          is run
    ```python title="toy_task.py"      is written to that file; so is any other language
    ```sh                              a command, until it ends
    ```sh title="Terminal: bob"        a command in the background: in a terminal of its own
    ```text                            what the block before it prints; ... stands for anything,
                                       and a whole percentage for any within 2 of it
    ```text title="Terminal: bob"      what that terminal says by now
    ```bash, ```mermaid, ...           are for the reader alone

A page is valid Markdown for GitHub and MkDocs, which shows a title above its block. GitHub does
not: so a line before it says the same (`label`), and is taken out for site and notebook.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"

IMAGE = re.compile(r"!\[[^\]]*\]\(images/([^)]+)\)")
"""With the name of its file."""

_TITLE = re.compile(r'title="([^"]*)"')
_TERMINAL = "Terminal: "


def label(title: str) -> str:
    """What stands before a block of this title."""
    return f"*{title}*" if title.startswith(_TERMINAL) else f"*File: {title}*"


class PageError(Exception):
    """The page says something that cannot be run."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a block prints, as the page has it."""

    text: str
    lines: tuple[int, int]
    """Of the page, from 0: the first, and the one after the last, without the fence."""


@dataclass(frozen=True, slots=True)
class Block:
    kind: Literal["prose", "python", "file", "command", "look"]
    text: str
    """Of a look there is none."""
    name: str = ""
    """The file, or the terminal. A command without is waited for."""
    shown: Shown | None = None


@dataclass(frozen=True)
class Page:
    path: Path
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        """In their order. Raises PageError."""
        found: list[Block] = []
        for block in self._read():
            match block:
                case Block():
                    found.append(block)
                case Shown():
                    i = next(
                        (i for i in reversed(range(len(found))) if found[i].kind != "prose"), None
                    )
                    if i is None or found[i].shown is not None or found[i].kind == "file":
                        raise PageError(
                            f"{self.path.name}, line {block.lines[0]}: this text is printed by no"
                            " block before it; for other text name another language, or none"
                        )
                    found[i] = replace(found[i], shown=block)
        return found

    @property
    def images(self) -> list[str]:
        """The files in `images/` that it shows."""
        return IMAGE.findall(self.text)

    @property
    def notebook(self) -> Path:
        return self.path.with_suffix(".ipynb")

    @property
    def unlabelled(self) -> list[str]:
        """Titles of blocks that a reader at GitHub would not know the names of."""
        lines = self.text.splitlines()
        titled = [(_title_of(token), token.map) for token in self._fences()]
        return [
            title
            for title, where in titled
            if title and where and lines[where[0] - 2 : where[0]] != [label(title), ""]
        ]

    def _fences(self) -> Iterator[Token]:
        for token in MarkdownIt().parse(self.text):
            if token.type == "fence" and token.level == 0:
                yield token

    def _read(self) -> Iterator[Block | Shown]:
        lines = self.text.splitlines()
        begins = 0
        for token in self._fences():
            block = _block(token)
            if block is None or token.map is None:
                continue
            fence, end = token.map
            prose = "\n".join(lines[begins:fence]).strip()
            if title := _title_of(token):
                prose = prose.removesuffix(label(title)).strip()
            if prose:
                yield Block("prose", prose)
            begins = end
            yield block
        if prose := "\n".join(lines[begins:]).strip():
            yield Block("prose", prose)


def pages() -> list[Page]:
    """All of them, in their order."""
    paths = [path for path in FOLDER.glob("*.md") if path.name[0].isdigit()]
    return [read(path) for path in sorted(paths)]


def read(path: Path) -> Page:
    return Page(path, path.read_text(encoding="utf-8"))


def _title_of(fence: Token) -> str:
    found = _TITLE.search(fence.info)
    return found.group(1) if found else ""


def _block(fence: Token) -> Block | Shown | None:
    """None: it is for the reader alone."""
    assert fence.map is not None
    language = fence.info.split(" ")[0]
    title = _title_of(fence)
    text = fence.content.rstrip("\n")
    terminal = title.removeprefix(_TERMINAL) if title.startswith(_TERMINAL) else ""
    first, end = fence.map
    shown = Shown(text, (first + 1, end - 1))
    match language:
        case "text" if terminal:
            return Block("look", "", terminal, shown)
        case "text":
            return shown
        case "sh" if terminal or not title:
            return Block("command", text, terminal)
        case _ if title:
            return Block("file", text, title)
        case "python":
            return Block("python", text)
        case _:
            return None
