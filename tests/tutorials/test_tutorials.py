"""Every tutorial's code does what its page shows, and its notebook is made from that page."""

import codeop

import pytest

from broker_config.mosquitto import find_mosquitto
from tests.brokers import is_required
from tests.tutorials import notebook, page, shown
from tests.tutorials.given import NotGiven
from tests.tutorials.page import Page

PAGES = page.pages()
each_page = pytest.mark.parametrize("source", PAGES, ids=[one.path.stem for one in PAGES])


@pytest.mark.broker
@pytest.mark.timeout(900)
@each_page
def test_its_code_prints_what_the_page_shows(source: Page) -> None:
    if notebook.needs_mosquitto(source) and find_mosquitto() is None:
        told = pytest.fail if is_required("mosquitto") else pytest.skip
        told("Mosquitto is not installed here")
    try:
        done, _ = notebook.run_anywhere(source)
    except NotGiven as missing:
        pytest.skip(str(missing))
    assert shown.differences(source, notebook.printed(done, source)) == []


@each_page
def test_files_and_terminals_have_names_where_titles_are_not_shown(source: Page) -> None:
    assert source.unlabelled == []


@each_page
def test_its_code_can_be_pasted_at_pythons_prompt(source: Page) -> None:
    """Which ends what is indented at an empty line, and nowhere else."""
    for block in source.blocks:
        if block.kind == "python":
            given: list[str] = []
            for line in [*block.text.splitlines(), ""]:
                given.append(line)
                # Raises SyntaxError, with the line.
                if codeop.compile_command("\n".join(given), symbol="single") is not None:
                    given = []


@each_page
def test_its_notebook_is_made_from_the_page(source: Page) -> None:
    made, kept = notebook.of(source), notebook.read(source.notebook)
    again = f"make tutorials ARGS={source.path.stem}"
    assert [(cell.cell_type, cell.id, cell.source) for cell in kept.cells] == [
        (cell.cell_type, cell.id, cell.source) for cell in made.cells
    ], again
    assert kept.metadata == made.metadata


@each_page
def test_its_notebook_has_been_run_and_shows_the_same(source: Page) -> None:
    kept = notebook.read(source.notebook)
    cells = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert shown.differences(source, notebook.printed(kept, source)) == []


def test_there_are_tutorials() -> None:
    assert PAGES
