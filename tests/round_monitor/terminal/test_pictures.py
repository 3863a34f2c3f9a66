"""What `fedmqtt watch` looks like: `--rewrite` makes the pictures in docs/images anew."""

import re
from pathlib import Path

import pytest
from msgspec import structs

from fedmqtt.status_pages import ClientPage, encode
from fedmqtt.topics import RoundId
from round_monitor import client_rows
from round_monitor.board import Board
from tests.round_monitor import ward
from tests.round_monitor.pages import a_client, board_of
from tests.round_monitor.pilots import LARGE, SMALL, Watching

IMAGES = Path(__file__).parents[3] / "docs" / "images"

_FONTS = re.compile(r",?\s*url\(\"https:[^)]*\) format\(\"[a-z0-9]+\"\)")
"""Which a reader's browser would fetch from elsewhere."""

PICTURES = {
    "watch": (LARGE, ()),
    "watch-clients": (SMALL, ("2",)),
    "watch-curves": (SMALL, ("3",)),
    "watch-client": (SMALL, ("slash", *"watch-17", "enter", "enter")),
}


def _board() -> Board:
    """The ward, with a page of each client of its own."""
    board = board_of(ward.pages())
    busy = [row.client for row in client_rows.rows(board) if row.state == "working"]
    for place, client in enumerate(ward.CLIENTS):
        page = a_client(client)
        told = structs.replace(
            page,
            label=client.partition("-")[0],
            rounds_invited=9 + place % 5,
            rounds_answered=6 + place % 4,
            answered_last=RoundId(37 - place % 6),
            duration_s=14.0 + place * 7 % 23,
            uplink_kbps=900.0 * (1 + place % 7),
            state="away" if client in ward.AWAY else "online",
            last_seen=f"2026-03-01T10:{place % 19:02}:40+00:00",
        )
        board.take(
            f"client/{client}", encode(_working(told, place) if client in busy else _waiting(told))
        )
    return board


def _waiting(page: ClientPage) -> ClientPage:
    return structs.replace(page, doing="waiting", says="waiting", progress=0.0, epochs=0)


def _working(page: ClientPage, place: int) -> ClientPage:
    share = (5 + place * 11 % 90) / 100
    says = f"training for round 38, epoch {1 + (share > 0.5)} of 2, {share:.0%}"
    return structs.replace(
        page, round=RoundId(38), says=says, progress=share, epoch=1 + (share > 0.5)
    )


@pytest.mark.parametrize("name", PICTURES)
def test_it_looks_like_this(name: str, request: pytest.FixtureRequest) -> None:
    size, keys = PICTURES[name]
    drawn: list[str] = []

    async def script(watching: Watching) -> None:
        await watching.press(*keys)
        watching.app.title = "fedmqtt watch"
        drawn.append(_words(watching.text))
        drawn.append(watching.app.export_screenshot(title="fedmqtt watch", simplify=True))

    Watching(_board(), now=ward.NOW).play(script, size)
    words, picture = drawn
    out, text = IMAGES / f"{name}.svg", IMAGES / f"{name}.txt"
    if request.config.getoption("--rewrite"):
        # Lines without spaces at their ends, as the repository has all others.
        own = _FONTS.sub("", picture)
        out.write_text("\n".join(map(str.rstrip, own.splitlines())) + "\n", encoding="utf-8")
        text.write_text(words + "\n", encoding="utf-8")
    # An SVG names its parts by a hash of all of it; the words are what must not change unseen.
    assert text.read_text(encoding="utf-8") == words + "\n"
    shown = out.read_text(encoding="utf-8")
    assert shown.startswith("<svg ") and "url(" not in shown.partition("</style>")[0]


def _words(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()
