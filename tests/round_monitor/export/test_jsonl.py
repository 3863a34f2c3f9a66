"""`fedmqtt export jsonl`: each change is a line."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs, to_builtins

from broker_config.local_broker import RunningBroker
from fedmqtt.status_pages import CoordinatorPage, Page, encode
from round_monitor.board import Board
from round_monitor.export.jsonl import Lines
from tests.programs import running, wait_until
from tests.round_monitor import pages
from tests.round_monitor.export import real_run


def _lines(board: Board, *names: str) -> tuple[Lines, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    lines = Lines("ward-7", lambda line: said.append(json.loads(line)))
    for name in names:
        lines.take(board, name)
    return lines, said


def _as_json(page: Page) -> Any:
    return json.loads(encode(page))


def test_each_page_of_a_real_run_is_a_line_that_says_all_of_it() -> None:
    run = real_run.pages()
    _, said = _lines(real_run.board(run), *run)
    assert {line["page"]: line["status"] for line in said} == {
        name: _as_json(page) for name, page in run.items()
    }
    assert {line["federation"] for line in said} == {"ward-7"}


def test_a_page_that_is_as_it_was_is_not_said_again_and_one_that_is_gone_is_null() -> None:
    board = real_run.board(real_run.pages())
    lines, said = _lines(board, "model")
    lines.take(board, "model")
    board.take("model", b"no JSON")
    lines.take(board, "model")
    assert len(said) == 1
    board.take("model", b"")
    lines.take(board, "model")
    assert [line["status"] for line in said[1:]] == [None]


def test_a_page_over_several_lines_is_one_line() -> None:
    page = structs.replace(pages.coordinator(), says="a\nb")
    board = Board()
    board.take("coordinator", msgspec.json.format(encode(page), indent=2))
    written: list[bytes] = []
    Lines("ward-7", written.append).take(board, "coordinator")
    assert b"".join(written).count(b"\n") == 1


@pytest.mark.broker
def test_it_follows_into_a_file_and_appends_when_it_is_started_again(
    broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    out = tmp_path / "status.jsonl"
    words = [
        *("fedmqtt", "export", "jsonl", "--broker", broker.url),
        *("--federation", federation_name, "--output", str(out)),
    ]

    def says(text: str) -> bool:
        return out.exists() and text in out.read_text()

    pages.publish(broker.url, federation_name, {"coordinator": pages.coordinator("one")})
    with running(tmp_path, *words) as program:
        wait_until(lambda: says("one"))
        pages.publish(broker.url, federation_name, {"coordinator": pages.coordinator("two")})
        wait_until(lambda: says("two"))
        pages.publish(broker.url, federation_name, {"orders": pages.ordered(pages.REFUSED)})
        wait_until(lambda: says("zoe cannot be invited"))
    assert (program.wait(), program.said) == (0, "")
    with running(tmp_path, *words):
        wait_until(lambda: out.read_text().count("\n") == 5)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    told = [line["status"]["says"] for line in lines if line["page"] == "coordinator"]
    assert told == ["one", "two", "two"]
    orders = [line["status"]["orders"] for line in lines if line["page"] == "orders"]
    assert orders == [[to_builtins(pages.REFUSED)]] * 2


@pytest.mark.broker
def test_a_disk_without_room_ends_it_with_a_sentence(
    mosquitto_broker: RunningBroker, federation_name: str, tmp_path: Path
) -> None:
    url = mosquitto_broker.url
    page: CoordinatorPage = pages.coordinator()
    pages.publish(url, federation_name, {"coordinator": page})
    words = ("--broker", url, "--federation", federation_name, "--output", "/dev/full")
    with running(tmp_path, "fedmqtt", "export", "jsonl", *words) as program:
        assert program.wait() == 1
    said = program.log.splitlines()[-1]
    assert said == "fedmqtt export jsonl: /dev/full: No space left on device"
