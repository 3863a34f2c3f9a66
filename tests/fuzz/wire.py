"""What a broker passes on: messages, topics, pages for people."""

import io
import unicodedata
from collections.abc import Callable

from rich.console import Console

from fedmqtt import messages, status_pages
from fedmqtt.messages import AnyMessage, WireError
from fedmqtt.topics import ModelChunk, Topics, UpdatePart, is_name
from round_monitor import client_rows, standing
from round_monitor.board import Board
from round_monitor.client_columns import ORDERS, arranged, fitting
from round_monitor.client_view import client_lines
from round_monitor.plot import plot
from round_monitor.view import curves, render
from tests.fedmqtt.test_messages import EXAMPLES, readers
from tests.fedmqtt.test_topics import HOME
from tests.fuzz.decoder import Decoder, MadeNothing
from tests.round_monitor.pages import a_client, board_of, mid_round

_Read = Callable[[bytes], AnyMessage]

_PAGES = sorted(status_pages.PAGES)
_OF_A_CLIENT = b"\xff"


def _message(read: _Read) -> Callable[[bytes], None]:
    def again(data: bytes) -> None:
        message = read(data)
        written = messages.encode(message)
        # Bytes are compared: a metric that is "not a number" is not equal to itself.
        assert messages.encode(read(written)) == written
        _has_safe_names(message)

    return again


def _has_safe_names(message: AnyMessage) -> None:
    """What becomes part of a topic or of a file's name can be nothing else."""
    for name in ("run", "base", "digest"):
        text = getattr(message, name, "")
        # A coordinator's seat tells its run to people alone; a list's digest names nothing.
        if isinstance(text, str) and text and not isinstance(message, messages.Seat):
            assert is_name(text[:64]) and not set("/+#\\\0\n") & set(text)
    model = getattr(message, "model", None)
    if model is not None:
        path = HOME.path(ModelChunk(model.digest, 0))
        assert HOME.parse(path) == ModelChunk(model.digest, 0)


def _seeds(read: _Read) -> Callable[[], list[bytes]]:
    def examples() -> list[bytes]:
        return [messages.encode(one) for one in EXAMPLES.values() if read in readers(one)]

    return examples


def _topic(data: bytes) -> None:
    try:
        topic = data.decode()
    except UnicodeDecodeError as bad:
        # As the link does: no topic of ours.
        raise MadeNothing from bad
    address = HOME.parse(topic)
    if address is None:
        raise MadeNothing
    assert HOME.path(address) == topic
    if isinstance(address, UpdatePart):
        assert is_name(address.client)


def _topics() -> list[bytes]:
    digest, ends = "a" * 64, ("7/announce", "7/0", "0/4294967295")
    named = [
        "order/carol",
        "order-reply/carol",
        "offer",
        f"model/{digest}/0",
        "inbox/ann",
        "presence/ann",
        "seat",
        "claim",
    ]
    named += [f"update/3/pi-3.b_2/{end}" for end in ends] + ["status/round", "status/clients/pi-3"]
    return [f"fed/v1/home/{end}".encode() for end in named]


def _federation(data: bytes) -> None:
    Topics(data.decode())


def _page(data: bytes) -> None:
    """The first byte tells which; the others lie there already, as with a broker."""
    name = _PAGES[data[0] % len(_PAGES)] if data else _PAGES[0]
    if data[:1] == _OF_A_CLIENT:
        name = "client/ann"
    board = board_of(mid_round())
    board.take(name, data[1:], at="10:19:49")
    for width in (80, 120):
        shown = io.StringIO()
        console = Console(file=shown, width=width, color_system=None, legacy_windows=False)
        console.print(render(board, "broker", "2026-03-01T10:19:50+00:00"))
        # Nothing steers the terminal, or turns what is read around.
        assert not any(map(_steers, shown.getvalue().replace("\n", "")))
    _panels(board)
    if board.unreadable_count:
        raise MadeNothing


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs")


def _panels(board: Board) -> None:
    """What the panels of the terminal show of it, and what scripts get."""
    now = "2026-03-01T10:19:50+00:00"
    rows = client_rows.rows(board)
    for order in ORDERS:
        for row in arranged(rows, "", order, reverse=True):
            cells = [column.cell(row, now) for column, _ in fitting(rows, 80, now)]
            assert not any(map(_steers, "".join(cells)))
    for points in curves(board).values():
        assert len(plot(points, 60, 8).lines) == 8
    told = client_lines(board, "ann", now)
    assert not any(map(_steers, "".join(line.plain for line in told)))
    standing.to_json(standing.standing(board, "home", "mqtt://home", now))


def _pages() -> list[bytes]:
    found = []
    for name, page in mid_round().items():
        found.append(bytes([_PAGES.index(name)]) + status_pages.encode(page))
    return [*found, _OF_A_CLIENT + status_pages.encode(a_client("ann"))]


_READERS: dict[str, _Read] = {
    "offer": messages.read_offer,
    "presence": messages.read_presence,
    "from_client": messages.read_from_client,
    "to_client": messages.read_to_client,
    "among_coordinators": messages.read_among_coordinators,
    "from_operator": messages.read_from_operator,
    "order_answer": messages.read_order_answer,
    "from_worker": messages.read_from_worker,
    "to_worker": messages.read_to_worker,
    "sum": messages.read_sum,
}

DECODERS = [
    *(Decoder(name, _message(read), _seeds(read), (WireError,)) for name, read in _READERS.items()),
    Decoder("topic", _topic, _topics),
    Decoder("federation_name", _federation, lambda: [b"home", b"ward-7"], (ValueError,)),
    Decoder("status_page", _page, _pages, factor=512, beside_bytes=4 * 1024 * 1024, is_slow=True),
]
