"""A page as a Jupyter notebook, and what comes out when its cells are run."""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbclient
import nbformat
from nbformat import NotebookNode, v4
from traitlets.config import Config

from broker_config.mosquitto import find_mosquitto
from tests.own_broker import free_ports
from tests.tutorials import given
from tests.tutorials.page import IMAGE, Block, Page

ROOT = Path(__file__).resolve().parents[2]
_TERMINALS = Path(__file__).with_name("terminals.py")
_PORT = re.compile(r"\b(?:1883|8883|8884|8080)\b")
_CELL_TIMEOUT_S = 600
"""Generous: it ends what hangs, it does not judge speed."""


def of(page: Page) -> NotebookNode:
    """Not yet run: a cell for each block of the page, after one for terminals where there are
    some. Raises PageError."""
    code = "".join(block.text for block in page.blocks if block.kind == "python")
    # A cell that draws them shows them, too.
    drawn = {name for name in page.images if name in code}
    made = [_cell(block, drawn) for block in page.blocks]
    if any(block.kind in ("command", "look") for block in page.blocks):
        first = next(i for i, block in enumerate(page.blocks) if block.kind != "prose")
        made.insert(first, v4.new_code_cell(_TERMINALS.read_text(encoding="utf-8").rstrip()))
    for i, cell in enumerate(made):
        # By chance otherwise, and another notebook each time.
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook: NotebookNode = v4.new_notebook(cells=made, metadata=metadata)
    return notebook


def read(path: Path) -> NotebookNode:
    found: NotebookNode = nbformat.read(path, as_version=4)
    return found


def write(notebook: NotebookNode, path: Path) -> None:
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def printed(notebook: NotebookNode, page: Page) -> list[str | None]:
    """What each block of the page has printed, without colours; None of prose."""
    cells = [cell for cell in notebook.cells if cell.source != _setup_source()]
    return [
        None if block.kind == "prose" else "".join(_texts(cell))
        for block, cell in zip(page.blocks, cells, strict=True)
    ]


def run(page: Page, folder: Path) -> NotebookNode:
    """The page's notebook, run in `folder` from its first cell to its last.

    Ports that the page names are others while it runs, free here, and are as the page has them in
    what is printed. Raises CellExecutionError with the cell that failed.
    """
    notebook = of(page)
    sources = [cell.source for cell in notebook.cells]
    ports = _free_for(sources)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = _PORT.sub(lambda found: ports[found.group()], cell.source)
    with TemporaryDirectory(prefix="fedmqtt-kernel-") as kernels:
        nbclient.NotebookClient(
            notebook,
            timeout=_CELL_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            coalesce_streams=True,
            record_timing=False,
            config=_kernel_in(Path(kernels)),
        ).execute(env=_environment() | {"IPYTHONDIR": kernels})
    back = {free: named for named, free in ports.items()} | {str(folder): "~/tutorial"}
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _as_the_page_says(output.text, back)
    notebook.metadata = of(page).metadata
    return notebook


def run_anywhere(page: Page) -> tuple[NotebookNode, dict[str, bytes]]:
    """The same in a folder that is gone afterwards, and the images among its files that the page
    shows. Raises NotGiven too."""
    with TemporaryDirectory(prefix="fedmqtt-tutorial-") as folder:
        given.put(page, Path(folder))
        done = run(page, Path(folder))
        images = [Path(folder) / name for name in page.images]
        return done, {image.name: image.read_bytes() for image in images if image.exists()}


def needs_mosquitto(page: Page) -> bool:
    return any("mosquitto" in block.text for block in page.blocks if block.kind == "command")


def _cell(block: Block, drawn: set[str]) -> NotebookNode:
    source = _source(block, drawn)
    cell: NotebookNode = (
        v4.new_markdown_cell(source) if block.kind == "prose" else v4.new_code_cell(source)
    )
    return cell


def _source(block: Block, drawn: set[str]) -> str:
    match block.kind:
        case "prose":
            return IMAGE.sub(lambda found: "" if found[1] in drawn else found[0], block.text)
        case "python":
            return block.text
        case "file":
            return f"%%writefile {block.name}\n{block.text}"
        case "command":
            return f"%%terminal {_awaited(block)}".rstrip() + f"\n{block.text}"
        case "look":
            return f"%terminal {_awaited(block)}"


def _awaited(block: Block) -> str:
    """The terminal's name, and the words of the last line that it says."""
    if not block.name or block.shown is None:
        return block.name
    last = block.shown.text.splitlines()[-1]
    return f"{block.name} {max(last.split('...'), key=len).strip()}".rstrip()


def _setup_source() -> str:
    return _TERMINALS.read_text(encoding="utf-8").rstrip()


def _free_for(sources: list[str]) -> dict[str, str]:
    """A free port for each that is named."""
    named = sorted({port for source in sources for port in _PORT.findall(source)})
    return dict(zip(named, map(str, free_ports(len(named))), strict=True))


def _as_the_page_says(text: str, back: dict[str, str]) -> str:
    for found, named in back.items():
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(found)}\b", named, text)
    return text


def _kernel_in(folder: Path) -> Config:
    """By sockets in a folder: with TCP, whoever is on this machine could read along."""
    kernel = {"transport": "ipc", "connection_file": str(folder / "kernel.json")}
    return Config({"ConnectionFileMixin": kernel})


def _environment() -> dict[str, str]:
    """In which `fedmqtt` is this one, and Mosquitto is found where Debian has it."""
    mosquitto = find_mosquitto()
    first = [str(Path(sys.executable).parent), *([str(mosquitto.parent)] if mosquitto else [])]
    path = os.pathsep.join([*first, os.environ["PATH"]])
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    # A page may run pytest, whose lines are to be those that a reader has.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return inherited | {"PATH": path, "PYTHONPATH": python_path, "NO_COLOR": "1"}


def _texts(cell: NotebookNode) -> list[str]:
    """Of all outputs of a cell that are text."""
    return [
        output.text
        if output.output_type == "stream"
        else f"{output.get('data', {}).get('text/plain', '')}\n"
        for output in cell.outputs
        if output.output_type == "stream" or "image/png" not in output.get("data", {})
    ]
