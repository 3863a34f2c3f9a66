"""`fedmqtt codecs` tells of each file in the folder."""

import subprocess
import sys

from fedmqtt import codecs, parts


def _said() -> list[str]:
    command = [sys.executable, "-m", "fedmqtt", "codecs"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()


def test_each_stage_has_one_line_and_stands_where_it_may() -> None:
    lines = _said()
    first_words = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(first_words) == parts.names(codecs)
    kinds = [line for line in lines if line and line[0] != " "]
    at = {name: first_words.index(name) for name in first_words}
    assert [kind.split(":")[0] for kind in kinds] == [
        "In front, if wanted",
        "Or in front, with a memory on the device",
        "Or in front, with such a memory too",
        "One of these",
        "Behind, if wanted",
        "Example",
    ]
    assert (
        at["part"] == 0
        and at["topk"] == 1
        and at["lowrank"] == 2
        and at["zstd"] == len(first_words) - 1
    )


def test_settings_are_told_with_what_they_are_otherwise() -> None:
    lines = [line.strip() for line in _said()]
    assert "share = ...  Of the numbers that are sent." in lines
    assert "level = 3  How hard to try: larger is slower and smaller." in lines
