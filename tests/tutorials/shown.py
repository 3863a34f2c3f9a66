"""Is what was printed what the page shows? Where it is not, the page with what was printed."""

import doctest
import re
from collections.abc import Sequence

from tests.tutorials.page import Page, Shown

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

_PERCENT = re.compile(r"\b\d+(?=%)")
_PERCENT_APART = 2


def differences(page: Page, printed: Sequence[str | None]) -> list[str]:
    """One for each block that printed something else; `printed` is one for each block."""
    return [
        f"{page.path.name}, line {shown.lines[0]}:\n{_difference(shown.text, said)}"
        for shown, said in _shown(page, printed)
        if not is_as_shown(shown.text, said)
    ]


def is_as_shown(shown: str, said: str) -> bool:
    """As in doctests: `...` stands for anything, any white space for any other.

    A whole percentage may be 2 off: what was trained for thousands of steps ends a little elsewhere
    on another processor, as sums of floats are taken in another order. Nothing is as `...` alone:
    that is how a page is begun.
    """
    if not shown.strip(". \n"):
        return False
    asked, got = _PERCENT.findall(shown), _PERCENT.findall(said)
    if len(asked) == len(got) and all(
        abs(int(a) - int(b)) <= _PERCENT_APART for a, b in zip(asked, got, strict=True)
    ):
        shown, said = _PERCENT.sub("N", shown), _PERCENT.sub("N", said)
    return doctest.OutputChecker().check_output(f"{shown}\n", said, _FLAGS)


def corrected(page: Page, printed: Sequence[str | None]) -> str:
    """The text of the page with what was printed, in the place of what is not."""
    lines = page.text.splitlines()
    for shown, said in reversed(_shown(page, printed)):
        if not is_as_shown(shown.text, said):
            first, end = shown.lines
            lines[first:end] = said.rstrip("\n").splitlines()
    return "\n".join(lines) + "\n"


def _shown(page: Page, printed: Sequence[str | None]) -> list[tuple[Shown, str]]:
    return [
        (block.shown, said or "")
        for block, said in zip(page.blocks, printed, strict=True)
        if block.shown is not None
    ]


def _difference(shown: str, said: str) -> str:
    example = doctest.Example(source="", want=shown)
    return doctest.OutputChecker().output_difference(example, said, _FLAGS)
