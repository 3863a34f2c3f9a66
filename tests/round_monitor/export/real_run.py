"""Pages that a real coordinator published (docs/schema/status/examples), as exporters get them."""

from collections.abc import Mapping

from fedmqtt.status_pages import CLIENT_PAGES, Page, decode, encode
from round_monitor.board import Board
from tests.status_reference import EXAMPLES


def pages() -> dict[str, Page]:
    """One of each kind, by the name in its topic; of the clients' that of ann."""
    names = {path.stem: path for path in sorted(EXAMPLES.glob("*.json"))}
    names[f"{CLIENT_PAGES}ann"] = names.pop("client")
    return {name: decode(name, path.read_bytes()) for name, path in names.items()}


def board(pages: Mapping[str, Page]) -> Board:
    made = Board()
    for name, page in pages.items():
        assert made.take(name, encode(page))
    return made
