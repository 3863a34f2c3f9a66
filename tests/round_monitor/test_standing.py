"""How a federation stands, for scripts: as the schema in the docs has it."""

import json

import jsonschema
import pytest

from fedmqtt.status_pages import encode
from round_monitor.board import Board
from round_monitor.standing import standing, to_json
from tests.round_monitor import ward
from tests.round_monitor.pages import board_of, mid_round
from tests.status_reference import STANDING

NOW = "2026-03-01T10:19:20+00:00"
BROKER = "mqtt://laptop.local"


@pytest.mark.parametrize("board", [board_of(ward.pages()), board_of(mid_round()), Board()])
def test_it_is_as_the_schema_has_it(board: Board) -> None:
    text = to_json(standing(board, "ward-7", BROKER, NOW))
    assert "\n" not in text
    checker = jsonschema.Draft202012Validator(json.loads(STANDING.read_text(encoding="utf-8")))
    checker.validate(json.loads(text))
    assert not checker.is_valid({**json.loads(text), "health": "fine"})


def test_it_has_the_three_answers_and_every_page() -> None:
    told = json.loads(to_json(standing(board_of(mid_round()), "ward-7", BROKER, NOW)))
    assert (told["federation"], told["broker"], told["as_of"]) == ("ward-7", BROKER, NOW)
    assert told["health"] == {"state": "ok", "says": "round 3: 2 of 4 answers from 5 invited"}
    assert told["missing"]["says"].startswith("1 away (eve)")
    for name, page in mid_round().items():
        assert told[name] == json.loads(encode(page))
    nothing = json.loads(to_json(standing(Board(), "ward-7", BROKER, NOW)))
    assert nothing["health"]["state"] == "waiting"
    assert nothing["coordinator"] is None and nothing["client"] == {}
