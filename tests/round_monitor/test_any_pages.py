"""Pages that are valid and say anything at all: the view shows them."""

import io
import unicodedata
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedmqtt.status_pages import PAGES, Page, encode
from round_monitor.view import render, state_lines
from tests.round_monitor.pages import board_of, mid_round

NOW = "2026-03-01T10:19:50+00:00"
NUMBERS = st.sampled_from([0.0, -0.0, 1e-320, 0.5, 1e308, -1e308, 1.7e308, -1.7e308, 5e15])
WHOLE = st.sampled_from([0, 1, 7, -1, 2**31, 2**63, 2**64 - 1, -(2**63)])
TEXTS = st.sampled_from(
    [
        *("", "ann", NOW, "9999-12-31T23:59:59+14:00", "0001-01-01", "accuracy", "macro_f1"),
        *("\u202eann", "\x1b[2J", "a\u0301" * 20, "\U0001f600", "字" * 100, "[bold]x[/bold]"),
        *("\n\n", "a" * 400),
    ]
)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that pages are made of."""
    origin, parts = get_origin(kind), get_args(kind)
    if hasattr(kind, "__supertype__"):
        return anything(kind.__supertype__)
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, UnionType):
        return st.one_of(*map(anything, parts))
    if origin is list:
        return st.lists(anything(parts[0]), max_size=4)
    if origin is tuple:
        return st.lists(anything(parts[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(anything(parts[0]), anything(parts[1]), max_size=4)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {name: anything(one) for name, one in get_type_hints(kind).items()}
        return st.fixed_dictionaries(fields).map(lambda values: kind(**values))
    simple = {str: TEXTS, int: WHOLE, float: NUMBERS, bool: st.booleans(), NoneType: st.none()}
    return simple[kind]


@pytest.mark.parametrize("name", PAGES)
@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), database=None)
def test_whatever_a_page_says_it_is_shown(name: str, data: st.DataObject) -> None:
    page: Page = data.draw(anything(PAGES[name]))
    board = board_of(mid_round())
    board.take(name, encode(page), at="10:19:49")
    width = data.draw(st.sampled_from([80, 120, 20, 100]))
    shown = io.StringIO()
    console = Console(file=shown, width=width, color_system=None)
    console.print(render(board, "broker", NOW))
    height = data.draw(st.sampled_from([24, 50, 8]))
    for line in state_lines(board, NOW, "", width, height):
        console.print(line)
    lines = shown.getvalue().split("\n")
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for line in lines for c in line)
