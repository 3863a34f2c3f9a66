"""The documentation as a site: it builds without a warning, its links lead somewhere, and whoever
opens a page of it asks nobody else for anything."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

ROOT: Final = Path(__file__).parent.parent
_IN_STYLES: Final = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
# A `link` that a browser loads when it opens the page; others only say something of it.
_LOADED: Final = frozenset({"stylesheet", "icon", "preload", "modulepreload", "manifest"})
_LOADING: Final = frozenset({"src", "srcset", "poster", "data"})
# Shown in the place of any missing page: its links begin at a server's root.
_FOR_SERVERS: Final = "404.html"


class _Links(HTMLParser):
    """What a page links to, what it loads, and what in it can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self._is_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loads += [given[name] for name in _LOADING & given.keys() if tag != "a"]
        self.loads += _of_styles(given.get("style", ""))
        self._is_style = tag == "style"
        if tag == "link" and _LOADED & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._is_style:
            self.loads += _of_styles(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_style = False


def _of_styles(text: str) -> list[str]:
    return [one or other for one, other in _IN_STYLES.findall(text)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    built = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        # Else the theme warns of a program that it is not built for.
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr + built.stdout
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Links]:
    return {path: _read(path) for path in sorted(site.rglob("*.html")) if path.name != _FOR_SERVERS}


def _read(path: Path) -> _Links:
    links = _Links()
    links.feed(path.read_text(encoding="utf-8"))
    return links


def test_every_page_is_built(site: Path, pages: Mapping[Path, _Links]) -> None:
    # Of which other pages are made.
    beginnings = {"status-introduction.md", "messages-introduction.md"}
    sources = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    # A folder's README is its first page.
    wanted = {
        path.with_name("index.html") if path.name == "README.md" else path.with_suffix(".html")
        for path in sources
        if path.name not in beginnings
    }
    assert {path.relative_to(site) for path in pages} >= wanted


def test_every_page_is_in_the_navigation_of_every_other(
    site: Path, pages: Mapping[Path, _Links]
) -> None:
    for path, page in pages.items():
        linked = {_target(site, path, link)[0] for link in page.links if _is_local(link)}
        assert set(pages) - linked - {path} == set(), path


def test_what_pages_link_to_and_load_is_there(site: Path, pages: Mapping[Path, _Links]) -> None:
    broken = [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in [*page.links, *page.loads]
        if _is_local(link) and not _leads_somewhere(*_target(site, path, link), pages)
    ]
    assert broken == []


def test_nothing_is_asked_of_others_when_a_page_is_opened(
    site: Path, pages: Mapping[Path, _Links]
) -> None:
    loaded = [
        *((path, one) for path, page in pages.items() for one in page.loads),
        *((path, one) for path in site.rglob("*.css") for one in _of_styles(path.read_text())),
        *((path, one) for path in site.rglob("*.svg") for one in _of_styles(path.read_text())),
    ]
    # `data:` is in the page itself.
    outside = [one for one in loaded if urlsplit(one[1]).scheme not in ("", "data")]
    outside += [one for one in loaded if one[1].startswith("//")]
    assert len(loaded) > len(pages)
    assert outside == []


def test_a_link_to_nothing_would_be_found(tmp_path: Path) -> None:
    here, there = tmp_path / "here.html", tmp_path / "there.html"
    here.write_text("<a href='there.html#part'></a><img src='https://example.com/a.png'>")
    there.write_text("<h1 id='part'></h1><style>a { background: url(//example.com/b.png) }</style>")
    pages = {path: _read(path) for path in (here, there)}
    assert pages[here].loads == ["https://example.com/a.png"]
    assert pages[there].loads == ["//example.com/b.png"]
    assert _leads_somewhere(*_target(tmp_path, here, "there.html#part"), pages)
    assert not _leads_somewhere(*_target(tmp_path, here, "there.html#parts"), pages)
    assert not _leads_somewhere(*_target(tmp_path, here, "nowhere.html"), pages)


def _is_local(link: str) -> bool:
    return not urlsplit(link).scheme and not link.startswith("//")


def _target(site: Path, page: Path, link: str) -> tuple[Path, str]:
    """The file that a link on a page leads to, and the place in it."""
    address = urlsplit(link)
    name = unquote(address.path)
    if not name:
        return page, unquote(address.fragment)
    target = site / name.lstrip("/") if name.startswith("/") else page.parent / name
    target = target.resolve()
    return target / "index.html" if target.is_dir() else target, unquote(address.fragment)


def _leads_somewhere(target: Path, anchor: str, pages: Mapping[Path, _Links]) -> bool:
    # Ours and the theme's own are on the page itself; `__` begins what its script looks for.
    if target not in pages or not anchor or anchor.startswith("__"):
        return target.is_file()
    return anchor in pages[target].anchors
