"""The tutorials: runs the code of their pages, and writes their notebooks.

    make tutorials                       all of them
    make tutorials ARGS="2 3"            those whose names begin so

A page in docs/tutorials is the source. Where its code prints something else than it shows, the
page is corrected, for you to review: put ... in the place of what is never the same. Images that it
shows are kept, if its code has made files of their names. How a page is written:
tests/tutorials/page.py.
"""

import argparse
import sys
from collections.abc import Sequence

from nbclient.exceptions import CellExecutionError

from tests.tutorials import notebook, page, shown
from tests.tutorials.given import NotGiven
from tests.tutorials.page import FOLDER, Page, PageError


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tutorials", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="how their names begin; else all")
    names = tuple(parser.parse_args(words).names)
    chosen = [one for one in page.pages() if not names or one.path.name.startswith(names)]
    if not chosen:
        print(f"no page in {FOLDER} begins with {' or '.join(names)}", file=sys.stderr)
        return 2
    return max(_build(one) for one in chosen)


def _build(source: Page) -> int:
    """0, or 1 where the page's code fails."""
    try:
        done, images = notebook.run_anywhere(source)
    except (CellExecutionError, NotGiven, PageError) as bad:
        print(f"{source.path.name}: {bad}", file=sys.stderr)
        return 1
    printed = notebook.printed(done, source)
    for difference in shown.differences(source, printed):
        print(difference)
    source.path.write_text(shown.corrected(source, printed), encoding="utf-8")
    notebook.write(done, source.notebook)
    for name, content in images.items():
        (FOLDER / "images" / name).write_bytes(content)
    print(f"{source.path.name}: run, and {source.notebook.name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
