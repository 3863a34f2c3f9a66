"""Names of clients and federations that look like others, reach further, or steer a terminal."""

import os
from pathlib import Path

import pytest

from broker_config.kit import Kit, KitError, create
from edge_client.config import ClientConfig
from fedmqtt import credentials, messages, settings
from fedmqtt.credentials import CredentialsError
from fedmqtt.settings import SettingsError
from fedmqtt.topics import Topics, is_name
from tests.fedmqtt.test_messages import EXAMPLES
from tests.fedmqtt.test_topics import HOME
from tests.fuzz.settings import PLAN

TRICKS = {
    "a wildcard for all": "#",
    "a wildcard for one": "+",
    "a wildcard behind a name": "ann+",
    "a slash": "ann/bob",
    "a slash of full width": "ann\uff0fbob",
    "a way up": "..",
    "a folder's": "../ann",
    "a hidden file's": ".ann",
    "an option's": "-ann",
    "of the broker's own": "$SYS",
    "nothing": "",
    "a space": " ",
    "a space behind": "ann ",
    "a line break behind": "ann\n",
    "a null character": "ann\0",
    "a null character before": "\0ann",
    "an escape": "\x1b[31mann",
    "right to left": "\u202eann",
    "isolated": "\u2066ann\u2069",
    "a byte order mark": "\ufeffann",
    "a space without width": "an\u200bn",
    "a joiner": "an\u200dn",
    "a combining accent": "a\u0301nn",
    "composed": "\u00e1nn",
    "a Cyrillic letter": "\u0430nn",
    "a Greek letter": "\u03b1nn",
    "of full width": "\uff41nn",
    "digits of another script": "pi-\u0663",
    "a surrogate": "ann\ud800",
    "an emoji": "ann\U0001f600",
    "a backslash": "ann\\bob",
    "a percent sign": "ann%2Fbob",
    "a quotation mark": 'ann"',
    "too long": "a" * 65,
    "far too long": "a" * 100_000,
}


@pytest.fixture(scope="module")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "kit"
    create(folder, PLAN)
    return folder


by_trick = pytest.mark.parametrize("name", TRICKS.values(), ids=TRICKS.keys())


@by_trick
def test_no_topic_is_of_such_a_name(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(ValueError, match="federation name"):
        Topics(name)
    for topic in ("presence/{}", "inbox/{}", "update/0/{}/1/0"):
        assert HOME.parse("fed/v1/home/" + topic.format(name)) is None


@by_trick
def test_no_credentials_are_of_such_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "account.toml"
    path.touch(0o600)
    for field in ("id", "federation"):
        named = {"id": "pi-3", "federation": "demo"} | {field: name}
        lines = [settings.override(key, value) for key, value in named.items()]
        lines.append('broker = "mqtts://broker.example"')
        path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
        with pytest.raises(CredentialsError):
            credentials.read(path)


@by_trick
def test_no_account_is_made_under_such_a_name(kit_folder: Path, name: str) -> None:
    before = sorted(os.walk(kit_folder))
    with pytest.raises(KitError, match="names no device"):
        Kit(kit_folder).enroll(name)
    assert sorted(os.walk(kit_folder)) == before


@by_trick
def test_no_client_starts_under_such_a_name(name: str) -> None:
    overrides = ["broker=b", "federation=f", "task=t", settings.override("id", name)]
    with pytest.raises(SettingsError):
        settings.read(None, overrides, ClientConfig)


@by_trick
def test_no_run_is_of_such_a_name(name: str) -> None:
    if len(name) <= 128 and name == "a" * len(name) and name:
        # A run's may be longer.
        return
    plain = messages.encode(EXAMPLES["decline"])
    data = plain.replace(b"\xa2r1", bytes([0xDB]) + _text(name))
    assert data != plain
    with pytest.raises(messages.WireError):
        messages.read_from_client(data)


def _text(name: str) -> bytes:
    encoded = name.encode(errors="surrogatepass")
    return len(encoded).to_bytes(4) + encoded
