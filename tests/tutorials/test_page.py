"""How a page is read, compared with what its code prints, and corrected."""

from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError

from tests.tutorials import notebook, shown
from tests.tutorials.page import Page, PageError

EXAMPLE = """\
# A page

```toml title="settings.toml"
a = 1
```

```sh title="Terminal: bob"
echo "hello from bob"
```

```text
hello ... bob
```

```sh
cat settings.toml
```

```text
a = 1
```

Then:

```python
print(1 + 1)
```

It prints:

```text
3
```

```console
$ rm -rf everything
```
"""


def page(text: str) -> Page:
    return Page(Path("example.md"), text)


def test_a_title_is_said_in_a_line_before_its_block_and_not_in_the_notebook() -> None:
    said = page('Save it:\n\n*File: a.toml*\n\n```toml title="a.toml"\na = 1\n```\n')
    assert said.unlabelled == []
    assert [(block.kind, block.text) for block in said.blocks] == [
        ("prose", "Save it:"),
        ("file", "a = 1"),
    ]
    assert page(EXAMPLE).unlabelled == ["settings.toml", "Terminal: bob"]


def test_what_is_run_is_told_from_what_is_for_the_reader() -> None:
    found = [(block.kind, block.name, block.shown is not None) for block in page(EXAMPLE).blocks]
    assert found == [
        ("prose", "", False),
        ("file", "settings.toml", False),
        ("command", "bob", True),
        ("command", "", True),
        ("prose", "", False),
        ("python", "", True),
        ("prose", "", False),
        ("prose", "", False),
    ]


@pytest.mark.broker
def test_a_page_that_shows_what_is_not_printed_is_found_and_corrected(tmp_path: Path) -> None:
    source = page(EXAMPLE)
    done = notebook.run(source, tmp_path)
    printed = notebook.printed(done, source)
    (difference,) = shown.differences(source, printed)
    assert "example.md, line 31" in difference
    assert shown.corrected(source, printed) == EXAMPLE.replace("\n3\n", "\n2\n")
    assert (tmp_path / "settings.toml").read_text() == "a = 1\n"


@pytest.mark.parametrize(
    "block",
    [
        "```python\n1 / 0\n```",
        "```sh\nfalse\n```",
        '```sh title="Terminal: bob"\necho no\n```\n\n```text\n...yes\n```',
    ],
    ids=["python", "command", "terminal"],
)
def test_code_that_fails_fails_the_page(block: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError):
        notebook.run(page(block), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "```text\n1\n```",
        "```python\nprint(1)\n```\n\n```text\n1\n```\n\n```text\n1\n```",
        '```csv title="points.csv"\n1\n```\n\n```text\n1\n```',
    ],
    ids=["none", "shown already", "a file"],
)
def test_text_that_no_block_prints_is_refused(text: str) -> None:
    with pytest.raises(PageError, match=r"example\.md, line \d+: this text is printed by no"):
        _ = page(text).blocks


@pytest.mark.parametrize(
    ("text", "said", "same"),
    [
        ("loss 0.5", "loss 0.5\n", True),
        ("10:... loss 0.5", "10:15:02 loss 0.5\n", True),
        ("a  b", "a b\n", True),
        ("loss 0.5", "loss 0.6\n", False),
        ("...", "anything\n", False),
        ("...\n...", "anything\n", False),
        ("ann  44%\nbob   9%", "ann  46%\nbob  10%\n", True),
        ("ann  44%", "ann  41%\n", False),
        ("ann  44% of 3", "ann  44% of 4\n", False),
        ("in 3 s ... ann 44%", "in 4 s: 9%, ann 44%\n", False),
        ("... ann 44%", "in 4 s: 9%, ann 44%\n", True),
    ],
)
def test_dots_stand_for_anything_but_not_for_everything(text: str, said: str, same: bool) -> None:
    assert shown.is_as_shown(text, said) == same


def test_a_picture_that_a_cell_draws_is_not_in_its_notebook_twice() -> None:
    source = page(
        '```python\nfigure.savefig("a.png")\n```\n\n![a](images/a.png) ![b](images/b.png)\n'
    )
    assert notebook.of(source).cells[-1].source == " ![b](images/b.png)"
