"""The seventh tutorial's reader of plays, and the plays that its page is run with."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from learning_tasks.loading import load_task
from learning_tasks.torch_training import TorchTask
from tests.learning_tasks.published_data import folder_of
from tests.tutorials import given, page
from tests.tutorials.page import FOLDER

PAGE = page.read(FOLDER / "7-next-character-prediction.md")

PLAY = """\
\tA PLAY

	DRAMATIS PERSONAE

ROMEO\tnobody says this

ACT I

SCENE I\tA public place.

\t[Enter ROMEO and
\tJULIET]

ROMEO\tO, speak [Aside] again!
\tShe speaks:

ANTIPHOLUS
OF SYRACUSE\tOne.
\tTwo.

ROMEO\t|
\t|  Farewell.
JULIET\t|

Nurse\tMadam!

SCENE II\tThe same.

\tnobody's

ROMEO\tThree.
NURSE\tMadam, madam!
"""


@pytest.fixture
def task(tmp_path: Path) -> TorchTask:
    """As the page has it."""
    (block,) = (block for block in PAGE.blocks if block.name == "typing_task.py")
    path = tmp_path / block.name
    path.write_text(block.text)
    found = load_task(str(path))
    assert isinstance(found, TorchTask)
    return found


def file_of(task: TorchTask) -> Any:
    """Its own functions, which have no types."""
    return task.file


def test_each_role_has_its_own_lines(task: TorchTask, tmp_path: Path) -> None:
    play = tmp_path / "play.txt"
    play.write_text(PLAY)
    assert file_of(task).roles(play) == {
        "ROMEO": "O, speak  again!\nShe speaks:\nThree.",
        "ANTIPHOLUS OF SYRACUSE": "One.\nTwo.",
        "NURSE": "Madam!\nMadam, madam!",
    }


def test_what_is_no_play_has_no_roles(task: TorchTask, tmp_path: Path) -> None:
    poem = tmp_path / "sonnets.txt"
    poem.write_text("I\n\n\tFrom fairest creatures we desire increase,\n\tThat thereby ...\n")
    assert file_of(task).roles(poem) == {}


def test_each_character_is_followed_by_its_target(task: TorchTask) -> None:
    text = "".join(chr(ord("a") + i % 26) for i in range(100)) + "\n£."
    inputs, targets = file_of(task).windows(text)
    letters = [*file_of(task).CHARACTERS]
    assert inputs.shape == targets.shape == (2, 80)
    assert "".join(letters[i] for i in inputs.flatten()[:103]) == text[:101] + letters[0]
    assert torch.equal(targets.flatten()[:101], inputs.flatten()[1:102])
    # A full stop is last, and there is nothing that follows it.
    assert letters[targets.flatten()[101]] == "."
    assert (targets.flatten()[102:] == file_of(task).NOTHING).all()


def test_only_characters_that_are_there_count(task: TorchTask) -> None:
    outputs, targets = torch.zeros(1, 97, 80), torch.full((1, 80), file_of(task).NOTHING)
    targets[0, :4] = torch.tensor([5, 5, 5, 6])
    outputs[0, 5] = 1.0
    assert file_of(task).metrics(outputs, targets) == {"accuracy": 0.75}


def test_the_last_fifth_of_the_lines_is_held_out(task: TorchTask) -> None:
    text = "\n".join("abcdefghij")
    assert file_of(task).part(text, "train") == "\n".join("abcdefgh")
    assert file_of(task).part(text, "evaluate") == file_of(task).part(text, "test") == "i\nj"


def test_the_page_is_run_with_the_plays_that_there_are(task: TorchTask, tmp_path: Path) -> None:
    source = folder_of("shakespeare") / "shakespeare_roles.json.gz"
    given.put(PAGE, tmp_path)
    said = {
        one["role"]: "\n".join(one["speeches"])
        for one in json.loads(gzip.decompress(source.read_bytes()))
        if one["play"] == "romeoandjuliet"
    }
    found = file_of(task).roles(tmp_path / given.PLAYS / "romeoandjuliet.txt")
    assert found == {role: text for role, text in said.items() if "\n" in text}


def test_a_page_without_what_it_needs_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMQTT_DATA", str(tmp_path))
    with pytest.raises(given.NotGiven, match=r"there is no .*shakespeare_roles\.json\.gz"):
        given.put(PAGE, tmp_path)
    monkeypatch.delenv("FEDMQTT_DATA")
    with pytest.raises(given.NotGiven, match="FEDMQTT_DATA names no folder"):
        given.put(PAGE, tmp_path)
    given.put(page.pages()[0], tmp_path)
    assert list(tmp_path.iterdir()) == []
