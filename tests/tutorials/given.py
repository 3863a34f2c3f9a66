"""What a page's reader fetches from elsewhere: here it is made of what FEDMQTT_DATA has of it."""

import gzip
import json
import os
from collections import defaultdict
from pathlib import Path

from tests.tutorials.page import Page

PLAYS = "tensorflow-rnn-shakespeare/shakespeare"


class NotGiven(Exception):
    """A page needs what is not here; says what."""


def put(page: Page, folder: Path) -> None:
    """Put it where the page's reader has it. Raises NotGiven."""
    if PLAYS in page.text:
        _put_plays(folder / PLAYS)


def _put_plays(folder: Path) -> None:
    """As they are in that repository: each play a file, `ROLE<tab>line`, then `<tab>line`.

    Each role's lines are in their order, but all that one role says stands together.
    """
    data = os.environ.get("FEDMQTT_DATA")
    if data is None:
        raise NotGiven("FEDMQTT_DATA names no folder with shakespeare/shakespeare_roles.json.gz")
    source = Path(data) / "shakespeare" / "shakespeare_roles.json.gz"
    if not source.is_file():
        raise NotGiven(f"there is no {source}")
    plays: dict[str, list[str]] = defaultdict(lambda: ["ACT I\n"])
    for one in json.loads(gzip.decompress(source.read_bytes())):
        for speech in one["speeches"]:
            said = speech.replace("\n", "\n\t")
            plays[one["play"]].append(f"{one['role']}\t{said}\n")
    folder.mkdir(parents=True)
    for play, parts in plays.items():
        (folder / f"{play}.txt").write_text("\n".join(parts), encoding="utf-8")
