"""`fedmqtt keyholder` and `fedmqtt aggregator`: one clear sentence where they cannot begin."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from broker_config import kit
from fedmqtt import command_line, credentials
from fedmqtt.folder_lock import FolderLock
from keyholder.book import Book
from tests.broker_config.kit_broker import plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit's folder, with a keyholder."""
    folder = tmp_path_factory.mktemp("kit") / "demo"
    kit.create(folder, plan(folder)).enroll("kh-a", keyholder=True)
    return folder


def _account(made: Path, name: str) -> Path:
    return made / "accounts" / f"{name}.toml"


def _refusal(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    assert command_line.run(words) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"fedmqtt {words[0]}: ")
    return said


def _words(made: Path, state: Path, name: str = "kh-a") -> list[str]:
    return ["keyholder", "--credentials", str(_account(made, name)), "--state", str(state)]


@pytest.mark.parametrize("command", ["keyholder", "aggregator"])
def test_another_accounts_credentials_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = [command, *_words(made, tmp_path, "coordinator")[1:]]
    assert "are a coordinator's, and this program needs a device's" in _refusal(capsys, words)


def test_an_account_without_keys_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = credentials.read(_account(made, "kh-a"))
    without = msgspec.structs.replace(whole, federation_key="", signing_key="", ticket="")
    path = tmp_path / "kh-a.toml"
    path.touch(mode=0o600)
    path.write_text(credentials.render(without))
    words = ["keyholder", "--credentials", str(path), "--state", str(tmp_path / "state")]
    assert "hold no keys, and devices know a keyholder by its key" in _refusal(capsys, words)
    assert not (tmp_path / "state").exists()


def test_a_folder_that_another_program_works_in_is_left_alone(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = FolderLock(tmp_path)
    said = _refusal(capsys, _words(made, tmp_path))
    assert "is in use by process" in said and "--state" in said
    lock.release()
    assert not (tmp_path / "book").exists()


def test_the_folder_of_another_keyholder_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Book(tmp_path, "demo", "kh-b", lambda: 1e9).make_ahead(0, 1, 60.0)
    assert "is of kh-b in federation demo" in _refusal(capsys, _words(made, tmp_path))


def test_a_folder_that_cannot_be_made_is_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = _words(made, tmp_path / "file" / "state")
    assert "choose another folder with --state" in _refusal(capsys, words)


def test_a_list_of_revoked_devices_that_is_not_there_is_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*_words(made, tmp_path), "--revoked", str(tmp_path / "none")]
    assert "No such file" in _refusal(capsys, words)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--floor", "1"), ("--floor", "x"), ("--keep-days", "0"), ("--serve", "plain")],
)
def test_settings_that_are_none_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.run([*_words(made, tmp_path), option, value])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err
