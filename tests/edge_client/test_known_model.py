"""A device remembers how the models are built that it trains, also after a start."""

from pathlib import Path

import pytest

from edge_client.known_model import NOT_KNOWN_ANY_MORE, KnownModels


def test_the_first_model_of_each_federation_and_task_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "known-models"
    known = KnownModels(path)
    assert known.of("demo", "digits") == ""
    known.keep("demo", "digits", "f")
    known.keep("demo", "words", "g")
    for life in (known, KnownModels(path)):
        assert (life.of("demo", "digits"), life.of("demo", "words")) == ("f", "g")
        assert life.of("other", "digits") == ""
    known.keep("demo", "digits", "h")
    assert KnownModels(path).of("demo", "digits") == "h"


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40])
def test_a_damaged_file_lets_no_model_in_until_its_owner_has_said_which(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "known-models"
    path.write_bytes(damage)
    known = KnownModels(path)
    assert known.of("demo", "digits") == NOT_KNOWN_ANY_MORE
    assert str(path) in caplog.text
    known.keep("demo", "digits", "f")
    assert KnownModels(path).of("demo", "digits") == "f"
