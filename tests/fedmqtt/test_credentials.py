"""Credentials that are damaged: one sentence of which file, what in it, and what to do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from broker_config import kit
from broker_config.kit import Kit
from fedmqtt import credentials
from fedmqtt.credentials import CredentialsError
from tests.broker_config.kit_broker import plan

_COPY = "; copy the file that `fedmqtt enroll` wrote, as it is"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("kit") / "demo"
    found = kit.create(folder, plan(folder, "certificate"))
    for name in ("pi-3", "pi-4"):
        found.enroll(name)
    return found


@pytest.fixture
def file(made: Kit, tmp_path: Path) -> Path:
    """Of a device with a certificate, to be damaged."""
    path = tmp_path / "pi-3.toml"
    path.write_text(_text(made, "pi-3"))
    path.chmod(0o600)
    return path


def _text(made: Kit, name: str) -> str:
    return (Path(made.plan.place).parent / "accounts" / f"{name}.toml").read_text()


def _of(name: str, change: Callable[[str], str]) -> Callable[[str], str]:
    """The file with this value changed; with none, where it becomes empty."""

    def damaged(text: str) -> str:
        found = re.search(rf'^{name} = ("""\n[^"]*"""|"[^"]*")\n', text, re.MULTILINE)
        assert found is not None
        quotes = '"""' if found[1].startswith('"""') else '"'
        value = change(found[1].strip('"'))
        put = f"{name} = {quotes}{value}{quotes}\n" if value else ""
        return text[: found.start()] + put + text[found.end() :]

    return damaged


def _half(text: str) -> str:
    return text[: len(text) // 2]


def _gone(_text: str) -> str:
    return ""


def _said(path: Path) -> str:
    with pytest.raises(CredentialsError) as told:
        credentials.broker_of(path, ("device",))
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        (_gone, "nothing is in it"),
        (_half, "no file of credentials"),
        (lambda text: text.partition("\nid = ")[0], "id and broker are missing"),
        (lambda text: text.replace("pi-3", "pi-\udcff"), "no file of credentials"),
        (lambda text: text + "secret = 'x'\n", "unknown key secret; choose from: federation, "),
        (_of("federation", lambda _: "other"), "federation, id and keys do not fit together"),
        (_of("federation", lambda _: "a b"), "federation: not allowed (1 to 64 letters"),
        (_of("id", lambda _: "pi-4"), "federation, id and keys do not fit together"),
        (_of("id", _gone), "id is missing"),
        (_of("role", lambda _: "boss"), "role cannot be 'boss'; choose from: coordinator, device"),
        (_of("broker", _gone), "broker is missing"),
        (_of("broker", lambda _: "localhost"), "broker 'localhost': expected mqtt"),
        (_of("ca", _half), "ca is no certificate in PEM, or cut short"),
        (_of("ca", lambda _: "ü"), "ca is no certificate in PEM"),
        (_of("certificate", _half), "certificate is no certificate in PEM, or cut short"),
        (_of("certificate", _gone), "certificate is missing"),
        (_of("key", _half), "key is no private key in PEM, or cut short"),
        (_of("key", _gone), "key is missing"),
        (lambda text: _of("key", _gone)(_of("certificate", _gone)(text)), "password is missing"),
        *(
            (_of(name, change), f"{name} {what}")
            for name in ("federation_key", "signing_key", "ticket")
            for change, what in (
                (_gone, "is missing"),
                (lambda value: value[:-5], "is no base64, or cut short"),
                (lambda value: value[:-4], "has "),
                (lambda value: f"!{value[1:]}", "is no base64"),
            )
        ),
        (_of("ticket", lambda value: value * 9), "ticket: expected text of length <= 100"),
    ],
)
def test_what_is_damaged_is_named(file: Path, damaged: Callable[[str], str], what: str) -> None:
    text = file.read_text()
    file.write_bytes(damaged(text).encode(errors="surrogateescape"))
    said = _said(file)
    assert said.startswith(f"credentials {file}: {what}")
    assert said.endswith(_COPY)
    for secret in re.findall(r'^(?:signing_key|ticket) = "(.*)"', text, re.MULTILINE):
        assert secret[:10] not in said


def test_a_key_of_another_certificate_is_named(made: Kit, file: Path) -> None:
    other = credentials.read(file.parent / _copy_of(made, "pi-4", file.parent)).key
    file.write_text(_of("key", lambda _: f"\n{other}")(file.read_text()))
    assert _said(file) == f"credentials {file}: key is not that of the certificate{_COPY}"


def _copy_of(made: Kit, name: str, folder: Path) -> str:
    path = folder / f"{name}.toml"
    path.write_text(_text(made, name))
    path.chmod(0o600)
    return path.name


def test_a_key_that_wants_a_password_is_no_question_to_the_terminal(file: Path) -> None:
    key = serialization.load_pem_private_key(credentials.read(file).key.encode(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"abc"),
    )
    file.write_text(_of("key", lambda _: f"\n{locked.decode()}")(file.read_text()))
    assert _said(file) == (f"credentials {file}: key is no private key in PEM, or cut short{_COPY}")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    give = "give the file that `fedmqtt enroll` wrote, where this user may read it"
    missing = tmp_path / "none.toml"
    assert _said(missing) == f"credentials {missing}: No such file or directory; {give}"
    assert _said(tmp_path) == f"credentials {tmp_path}: Is a directory; {give}"


def test_a_file_for_another_program_is_named(made: Kit, file: Path) -> None:
    path = file.parent / _copy_of(made, "monitor", file.parent)
    said = _said(path)
    assert said.startswith(f"credentials {path} are a monitor's, and this program needs a device's")
    assert said.endswith("`fedmqtt enroll KIT NAME --role device`")


def test_a_port_that_is_not_encrypted_is_not_gone_to(file: Path) -> None:
    with pytest.raises(CredentialsError, match=r"are for mqtts://, not for mqtt://pi:1883: name"):
        credentials.broker_of(file, ("device",), "mqtt://pi")


def test_an_account_is_the_same_at_each_node_of_a_cluster(file: Path) -> None:
    file.write_text(_of("broker", lambda _: "mqtts://a:8883,b:8884")(file.read_text()))
    _, broker = credentials.broker_of(file, ("device",))
    assert [(node.host, node.port) for node in broker.nodes] == [("a", 8883), ("b", 8884)]
    assert broker.context is not None and broker.seal is not None
    for node in broker.nodes:
        assert node.context is broker.context and node.seal is broker.seal
