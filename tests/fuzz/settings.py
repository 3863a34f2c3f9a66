"""What people write: settings, credentials, kits, a broker's address."""

import functools
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker_config.kit import Kit, KitError, Plan, create
from coordinator.config import FederationConfig
from edge_client.config import ClientConfig
from fedmqtt import credentials, settings
from fedmqtt.credentials import Credentials, CredentialsError
from fedmqtt.mqtt_link import BrokerUrlError, parse_broker_url
from fedmqtt.settings import SettingsError
from fleet_sim import fleet
from tests.fuzz.decoder import Decoder
from tests.fuzz.files import folder, place

_FEDERATION = b"""\
name = "ward-7"
task = "digits"
broker = { url = "mqtt://localhost:1883" }
codec = "part(share=0.25)+eden"
[rounds]
count = 10
cohort = 4
quorum = 2
deadline_s = 1_000.5
[training]
learning_rate = 1e-2
"""
_CLIENT = b"""\
broker = "mqtt://localhost:1883"
federation = "ward-7"
id = "pi-3"
task = "digits"
[conditions]
charging = true
"""
_FLEET = b"""\
clients = 3
seed = 7
[connectivity]
kind = "diurnal"
[device]
ms_per_sample = 2.5
[federation]
name = "lab"
task = "linear"
rounds = { cohort = 3, quorum = 2 }
"""


def _settings(name: str, kind: type[msgspec.Struct]) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        found = settings.read(place(name, data), [], kind)
        # By bytes, as "not a number" is not equal to itself.
        again = settings.read(place(name, settings.render(found).encode()), [], kind)
        assert msgspec.json.encode(again) == msgspec.json.encode(found)

    return read


def _override(data: bytes) -> None:
    """What stands behind --set."""
    settings.read(None, ["name=n", "task=t", data.decode(errors="replace")], FederationConfig)


def _fleet(data: bytes) -> None:
    fleet.read(place("fleet/fleet.toml", data))


def _credentials(data: bytes) -> None:
    path = place("credentials.toml", data)
    path.chmod(0o600)
    found = credentials.read(path)
    path.write_text(credentials.render(found), encoding="utf-8")
    assert credentials.read(path) == found


_ACCOUNT = Credentials(
    federation="demo", id="pi-3", broker="mqtts://broker.example:8883", password="p w\"'\\é\x7f"
)
_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def _accounts() -> list[bytes]:
    paired = msgspec.structs.replace(_ACCOUNT, password="", certificate=_PEM, key=_PEM, ca=_PEM)
    knowing = msgspec.structs.replace(_ACCOUNT, keyholders=(f"kh-a {'A' * 43}=", f"b {'b' * 43}="))
    return [credentials.render(one).encode() for one in (_ACCOUNT, paired, knowing)]


def _url(data: bytes) -> None:
    text = data.decode(errors="replace")
    found = parse_broker_url(text)
    for node in found.nodes:
        assert node.host and 0 < node.port < 65536


def _urls() -> list[bytes]:
    return [
        b"mqtt://localhost",
        b"mqtts://user:p%40ss@broker.example:8883",
        b"mqtt://[::1]:1884/",
        b"mqtt://u:p@a,b:1,[::1]",
    ]


def _kit_folder() -> Path:
    path = folder("kit")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        create(path, PLAN)
    return path


_KEY = b"THE-KIT-S-PUBLIC-KEY"

PLAN = Plan(
    federation="demo",
    hosts=("localhost",),
    login="password",
    port=8883,
    servers_port=8884,
    websockets_port=8885,
    devices=10,
    place="/etc/mosquitto",
    data="/var/lib/mosquitto",
    days=30,
)


@functools.cache
def _plan() -> bytes:
    """As it was when the kit was made."""
    return (_kit_folder() / "kit.toml").read_bytes()


def _public_key() -> bytes:
    key: str = tomllib.loads(_plan().decode())["federation_key"]
    return key.encode()


def _kit(data: bytes) -> None:
    path = _kit_folder()
    # Each kit has a key of its own; in what is committed stands a word in its place.
    (path / "kit.toml").write_bytes(data.replace(_KEY, _public_key()))
    Kit(path)


def _plans() -> list[bytes]:
    return [_plan().replace(_public_key(), _KEY)]


DECODERS = [
    Decoder(
        "federation_toml",
        _settings("federation.toml", FederationConfig),
        lambda: [_FEDERATION],
        (SettingsError,),
        is_slow=True,
    ),
    Decoder(
        "client_toml",
        _settings("client.toml", ClientConfig),
        lambda: [_CLIENT],
        (SettingsError,),
        is_slow=True,
    ),
    Decoder(
        "override",
        _override,
        lambda: [b"rounds.count=5", b"name=ward-7", b'selection="random"', b"training.epochs=2"],
        (SettingsError,),
        beside_bytes=4 * 1024 * 1024,
        is_slow=True,
    ),
    Decoder(
        "fleet_toml",
        _fleet,
        lambda: [_FLEET],
        (SettingsError,),
        beside_bytes=4 * 1024 * 1024,
        is_slow=True,
    ),
    Decoder("credentials", _credentials, _accounts, (CredentialsError,)),
    Decoder("broker_url", _url, _urls, (BrokerUrlError,)),
    Decoder("kit_toml", _kit, _plans, (KitError,), beside_bytes=1024 * 1024, is_slow=True),
]
