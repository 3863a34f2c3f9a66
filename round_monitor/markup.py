"""HTML and SVG, put together so that text stays text.

What comes from a run (names of clients, reasons, metrics) was written by others. Every piece of
text passes through `element`, which escapes whatever is not `Html` already; there is no other way
in.
"""

import html
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONGEST = 120


class Html(str):
    """Markup that is escaped already. Only this file makes it from text that is not a constant."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Html:
    """`<tag attributes>children</tag>`. Attributes that are None are left out.

    In names of attributes `_` stands for `-`, and one at the end for nothing: `class_`.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _EMPTY:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")


_EMPTY = {"meta", "link", "input", "br"}


def join(*children: str) -> Html:
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def escape(text: str) -> Html:
    # A control character is no valid HTML, not even as a reference.
    return Html(html.escape(_CONTROL.sub("\ufffd", text), quote=True))


def name(text: str) -> Html:
    """A name that somebody gave: cut if it is long, and unable to turn the text around it."""
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return element("bdi", cut)


def table(
    head: list[str], rows: list[list[str]], *, caption: str = "", text_columns: int = 1
) -> Html:
    """Numbers stand right, the first columns left. The first cell of a row is its heading."""
    parts: list[str] = []
    if caption:
        parts.append(element("caption", caption))
    top = [_heading(cell, "col", place < text_columns) for place, cell in enumerate(head)]
    parts.append(element("thead", element("tr", *top)))
    body = []
    for row in rows:
        cells = [_heading(row[0], "row", False)]
        for place, cell in enumerate(row[1:], 1):
            cells.append(element("td", cell, class_="text" if place < text_columns else None))
        body.append(element("tr", *cells))
    parts.append(element("tbody", *body))
    # A wide table scrolls by itself, also by keyboard: the page does not.
    return element("div", element("table", *parts), class_="scroll", tabindex="0")


def _heading(cell: str, scope: str, is_text: bool) -> Html:
    return element("th", cell, scope=scope, class_="text" if is_text else None)


def folded(summary: str, *children: str, is_open: bool = False) -> Html:
    return element("details", element("summary", summary), *children, open="" if is_open else None)
