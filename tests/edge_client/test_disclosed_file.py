"""What was told is known after a start, and a file that is spoilt lets nothing weaker in."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_client import disclosed
from edge_client.disclosed import NOTHING, Disclosed
from edge_client.disclosed_file import DisclosedFile
from fedmqtt import checked_file
from fedmqtt.topics import RoundId
from tests.edge_client.masks import masking
from tests.offers import RUN, offer

_BEGUN = disclosed.begin(NOTHING, offer(masking=masking(noise=3.0, norm_max=1.0)), "train")
_COUNTED = disclosed.finish(_BEGUN, RUN, RoundId(1))


@pytest.mark.parametrize("told", [NOTHING, _BEGUN, _COUNTED, Disclosed(lost=True)])
def test_what_was_told_is_known_in_another_life(tmp_path: Path, told: Disclosed) -> None:
    file = DisclosedFile(tmp_path, "demo")
    assert file.read() == NOTHING
    file.keep(told)
    assert DisclosedFile(tmp_path, "demo").read() == told
    # Each federation by itself.
    assert DisclosedFile(tmp_path, "other").read() == NOTHING


def test_where_nothing_has_changed_nothing_is_written(tmp_path: Path) -> None:
    file = DisclosedFile(tmp_path, "demo")
    file.keep(NOTHING)
    assert not file.path.exists()
    file.keep(_COUNTED)
    written = file.path.stat()
    file.keep(_COUNTED)
    assert file.path.stat() == written


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _without_its_sum(path: Path) -> None:
    path.write_bytes(path.read_bytes()[checked_file.HASH_BYTES :])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _of_another_program(path: Path) -> None:
    checked_file.write(path, [msgspec.json.encode({"demo/digits": "f"})])


def _of_another_federation(path: Path) -> None:
    other = DisclosedFile(path.parent, "other")
    other.keep(_COUNTED)
    other.path.replace(path)


def _that_owes_us(path: Path) -> None:
    kept = {"federation": "demo", "disclosed": {"spent": -1.0}}
    checked_file.write(path, [msgspec.json.encode(kept)])


@pytest.mark.parametrize(
    "spoil",
    [_torn, _without_its_sum, _empty, _of_another_program, _of_another_federation, _that_owes_us],
)
def test_a_file_that_is_spoilt_is_not_taken_for_none(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    file = DisclosedFile(tmp_path, "demo")
    file.keep(_COUNTED)
    spoil(file.path)
    found = DisclosedFile(tmp_path, "demo")
    assert found.read() == Disclosed(lost=True)
    assert str(file.path) in caplog.text
    # That it was lost outlives what is told from then on.
    found.keep(disclosed.finish(disclosed.begin(found.read(), offer(), "train"), RUN, RoundId(1)))
    assert DisclosedFile(tmp_path, "demo").read().lost
