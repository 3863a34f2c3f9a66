"""Text stays text, whatever somebody named a client."""

from html.parser import HTMLParser

import pytest

from round_monitor import markup
from round_monitor.markup import element, join

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></pre><script>",
    "&lt;script&gt;",
    "]]><!--",
]


class _Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_and_attributes_come_back_as_they_were_and_as_nothing_else(text: str) -> None:
    parsed = _Parsed(element("p", text, title=text))
    assert parsed.tags == [("p", {"title": text})]
    assert parsed.text == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_of_hostile_cells_has_no_element_of_theirs(text: str) -> None:
    parsed = _Parsed(markup.table([text, text], [[text, text]], caption=text))
    ours = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in parsed.tags} == ours


def test_what_is_markup_already_is_not_escaped_again() -> None:
    assert element("p", join("a < b, ", element("b", "c"))) == "<p>a &lt; b, <b>c</b></p>"


def test_attributes_without_a_value_are_left_out_and_names_have_hyphens() -> None:
    assert element("p", class_=None, data_run=3) == '<p data-run="3"></p>'


def test_control_characters_are_replaced_and_line_ends_kept() -> None:
    assert element("pre", "a\x00b\x1b[31mc\nd") == "<pre>a�b�[31mc\nd</pre>"


def test_a_name_cannot_turn_the_text_around_it_and_is_cut_if_long() -> None:
    # U+202E turns all text after it, up to the end of its isolation.
    assert markup.name("\u202egnp") == "<bdi>\u202egnp</bdi>"
    assert len(_Parsed(markup.name("x" * 10_000)).text) <= 120
